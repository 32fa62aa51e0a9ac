"""Augmentation keeps image and label together."""

from __future__ import annotations

import pytest
import torch

from radarbook.faces.parameters import RANGES
from radarbook.training.augmentation import (
    moved,
    random_depth_shift,
    random_dynamic_range,
    random_lateral_shift,
    with_dynamic_range,
)
from tests.training.toys import toy_image, toy_parameters

PIXELS = 48
STEP = 0.30 / PIXELS


@pytest.fixture
def pair():
    parameters = toy_parameters(6, seed=0)
    small = parameters.replace(translation=0.3 * parameters.translation)
    return small, toy_image(small, PIXELS)


def stream():
    return torch.Generator().manual_seed(1)


def test_a_shift_by_whole_pixels_is_exact(pair):
    _, image = pair
    seen = moved(image, torch.tensor([[2 * STEP, -3 * STEP]]).expand(6, 2))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    reference = torch.roll(image.amplitude_db, (-3, 2), (1, 2))
    # positions are float32: a millionth of a pixel, times slopes of some dB a pixel
    assert torch.allclose(seen.amplitude_db[inner], reference[inner], atol=1e-3)
    reference = torch.roll(image.depth, (-3, 2), (1, 2))
    assert torch.allclose(seen.depth[inner], reference[inner], atol=1e-5)


def test_a_sub_pixel_shift_is_the_image_of_the_shifted_face(pair):
    """Against the closed form drawn at the new translation. A parabola in dB, linearly
    interpolated on pixels of h, is off by at most h²/8 times its second derivative in each
    direction: 8.69/width² dB/m² with the narrowest width here."""
    parameters, image = pair
    new_parameters, moved = random_lateral_shift(parameters, image, stream(), 0.01)
    expected = toy_image(new_parameters, PIXELS)
    strong = expected.amplitude_db > -30
    width = 0.04 * float(torch.exp(0.15 * parameters.shape[:, 0]).min())
    bound = 2 * STEP**2 / 8 * 8.69 / width**2
    # the closed form's maximum is on the pixel grid: both are known to that bound
    error = (moved.amplitude_db - expected.amplitude_db)[strong].abs().max()
    assert error <= 2 * bound
    # depth is linear in x here, which interpolation keeps up to the unequal powers it averages
    assert (moved.depth - expected.depth)[strong].abs().max() < 1e-3
    # and the predicted wrong answer: without moving the label, the image does not fit it
    assert (moved.amplitude_db - image.amplitude_db)[strong].abs().max() > 10 * bound


def test_what_enters_from_outside_is_empty(pair):
    _, image = pair
    seen = moved(image, torch.tensor([[0.2, 0.0]]).expand(6, 2))
    assert not seen.mask[:, :, : PIXELS // 2].any()
    assert (seen.amplitude_db >= image.dynamic_range_db[:, None, None] - 1e-4).all()
    assert seen.depth.isfinite().all()


def test_depth_shift_moves_image_and_label_alike(pair):
    parameters, image = pair
    new_parameters, moved = random_depth_shift(parameters, image, stream(), 0.01)
    by = new_parameters.translation[:, 2] - parameters.translation[:, 2]
    assert by.abs().max() <= 0.01
    assert by.std() > 0.001
    assert torch.allclose(
        moved.depth - image.depth, by[:, None, None].expand_as(image.depth), atol=1e-6
    )
    assert torch.equal(parameters.translation, pair[0].translation)  # the given ones stay


def test_dynamic_range_is_drawn_in_its_range_and_told_to_the_label(pair):
    parameters, image = random_dynamic_range(*pair, stream())
    low, high = RANGES["rendering"][0]
    level = image.dynamic_range_db
    assert ((level >= low) & (level <= high)).all()
    assert level.unique().numel() == 6
    assert torch.equal(parameters.dynamic_range_db, level)
    assert torch.equal(image.amplitude_db.amin(dim=(1, 2)), level)
    assert torch.equal(parameters.material, pair[0].material)


def test_fixed_dynamic_range(pair):
    parameters, image = with_dynamic_range(*pair, -20.0)
    assert (parameters.dynamic_range_db == -20).all()
    assert (image.amplitude_db >= -20).all()


def test_same_stream_same_draws(pair):
    a, b = (random_lateral_shift(*pair, stream(), 0.01)[1] for _ in range(2))
    assert torch.equal(a.amplitude_db, b.amplitude_db)
