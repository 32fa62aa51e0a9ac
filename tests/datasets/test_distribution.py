import math

import pytest
import torch
from pydantic import ValidationError

from radarbook.datasets.distribution import (
    ParameterDistribution,
    Splits,
    random_parameters,
    split_of,
)
from radarbook.errors import InputError
from radarbook.faces.parameters import NAMES, RANGES


def test_a_sample_depends_on_seed_and_number_alone():
    whole = random_parameters(range(40), 7)
    some = random_parameters([31, 4, 4], 7)
    for name in NAMES:
        assert torch.equal(getattr(some, name), getattr(whole, name)[[31, 4, 4]])
    assert not torch.equal(random_parameters([4], 8).shape, whole[4].shape)


def test_known_values_do_not_change():
    # Written down once: a dataset of last year must be the dataset of next year.
    drawn = random_parameters([12], 3)
    torch.testing.assert_close(
        torch.cat([drawn.shape[0, :2], drawn.translation[0, :1], drawn.rendering[0]]),
        torch.tensor([-0.5969894, -0.7585527, -0.01988757, -20.63576, 0.4004594, 0.001409174]),
        rtol=1e-6,
        atol=0,
    )


def test_draws_have_the_papers_distributions():
    n = 4000
    drawn = random_parameters(range(n), 0)
    for coefficients in (drawn.shape, drawn.expression):
        # The mean of n·k standard normals is within 5/√(n·k) of 0, but for 1 in a million seeds;
        # the variance within 5·√(2/(n·k)) of 1.
        k = coefficients.numel()
        assert abs(float(coefficients.mean())) < 5 / math.sqrt(k)
        assert abs(float(coefficients.var()) - 1) < 5 * math.sqrt(2 / k)
        correlation = torch.corrcoef(coefficients.T) - torch.eye(coefficients.shape[1])
        assert float(correlation.abs().max()) < 5 / math.sqrt(n)
    for name in ("translation", "rotation", "rendering"):
        value, limits = getattr(drawn, name), torch.tensor(RANGES[name])
        low, high = limits.unbind(1)
        # float32 may round a draw onto the limit, not beyond it by more than its spacing.
        assert bool((value >= low - 1e-6 * low.abs()).all())
        assert bool((value <= high + 1e-6 * high.abs()).all())
        # Standard deviation of a uniform draw: width/√12, to 5 standard errors (√(1/(5n)) of it).
        spread = value.std(0) / ((high - low) / math.sqrt(12))
        assert float((spread - 1).abs().max()) < 5 * math.sqrt(1 / (5 * n))


def test_more_modes_keep_the_leading_ones_and_the_pose():
    few, many = random_parameters(range(9), 1), random_parameters(range(9), 1, 25, 12)
    assert torch.equal(many.shape[:, :10], few.shape)
    assert torch.equal(many.expression[:, :7], few.expression)
    assert torch.equal(many.rotation, few.rotation)


def test_configurations():
    plain = random_parameters(range(20), 5)
    wide = random_parameters(range(20), 5, config=ParameterDistribution(pose_scale=2))
    torch.testing.assert_close(wide.rotation, 2 * plain.rotation)
    assert torch.equal(wide.shape, plain.shape)
    with pytest.raises(ValidationError):
        ParameterDistribution(pose_scal=2)


def test_images_of_one_face_share_its_shape_only():
    drawn = random_parameters(range(12), 5, config=ParameterDistribution(images_per_face=3))
    shapes = drawn.shape.reshape(4, 3, -1)
    assert torch.equal(shapes[:, 0], shapes[:, 2])
    assert len(shapes[:, 0].unique(dim=0)) == 4
    assert len(drawn.expression.unique(dim=0)) == 12


def test_every_sample_is_in_one_split_and_held_out_faces_stay():
    small = Splits(test=4, validation=2, train=10)
    large = Splits(test=4, validation=2, train=90)
    assert split_of(range(16), small) == ["test"] * 4 + ["validation"] * 2 + ["train"] * 10
    assert split_of(range(6), large) == split_of(range(6), small)
    assert list(small.block("train")) == list(range(6, 16))
    assert Splits.from_fractions(200) == Splits(test=20, validation=20, train=160)
    with pytest.raises(InputError, match="expected a number below 16"):
        split_of([16], small)


def test_a_face_is_never_cut_in_two():
    assert Splits.from_fractions(30, images_per_face=3) == Splits(test=3, validation=3, train=24)
    with pytest.raises(InputError, match="multiple of images_per_face = 3"):
        Splits(test=4, validation=3, train=23).check(3)


def test_negative_numbers_are_refused():
    with pytest.raises(InputError, match="found -1"):
        random_parameters([3, -1], 0)
