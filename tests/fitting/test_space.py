"""Columns, bounds and faces of a fit's normalised vectors."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import TRAINED_POSE, VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.fitting.space import ParameterSpace


def test_columns_are_those_of_the_normalised_vector() -> None:
    space = ParameterSpace(2, 1)
    faces = FaceParameters.neutral(1, n_shape=2, n_expression=1, dtype=torch.float64)
    before = faces.normalised()
    for name in ("shape", "expression", "translation", "rotation", "rendering"):
        moved = faces.replace(**{name: getattr(faces, name) + 1e-3})
        changed = (moved.normalised() - before)[0].nonzero()[:, 0]
        assert changed.tolist() == space.columns([name]).tolist()
    assert space.columns(["material"]).tolist() == [10]
    assert space.columns(["rendering", "expression"]).tolist() == [2, 9, 10, 11]
    # Leading coefficients alone; more than there are is all of them.
    assert space.columns(["shape", "expression", "material"], (1, 5)).tolist() == [0, 2, 10]
    assert space.columns(["shape"], (9, 0)).tolist() == space.columns(["shape"]).tolist()
    # A part that is named twice counts once.
    assert space.columns(["rendering", "material"]).tolist() == [9, 10, 11]


@pytest.mark.parametrize("counts", [(2, 1), (3, 0), (0, 0)])
def test_vectors_become_the_faces_they_came_from(counts: tuple[int, int]) -> None:
    space = ParameterSpace(*counts)
    vectors = torch.linspace(-0.9, 0.9, 2 * space.width, dtype=torch.float64).reshape(2, -1)
    faces = space.unpack(vectors)
    assert ParameterSpace.of(faces) == space
    assert torch.allclose(faces.normalised(), vectors, atol=1e-12)


def test_bounds_are_those_of_clamped_faces() -> None:
    space = ParameterSpace(2, 1)
    far = space.unpack(torch.full((1, space.width), 50.0, dtype=torch.float64)).clamped()
    assert torch.allclose(far.normalised()[0], space.bounds())


def test_a_wider_range_of_poses_changes_the_bounds_of_poses_alone() -> None:
    narrow, wide = ParameterSpace(2, 1), ParameterSpace(2, 1, VISIBLE_POSE)
    vectors = torch.full((1, wide.width), 50.0, dtype=torch.float64)
    far = wide.faces_inside(vectors)
    assert torch.allclose(far.normalised()[0], wide.bounds())
    assert far.rotation.rad2deg()[0].tolist() == pytest.approx([40.0] * 3)
    assert far.translation[0].tolist() == pytest.approx([0.1] * 3)
    pose = wide.columns(["translation", "rotation"])
    others = torch.ones(wide.width, dtype=torch.bool)
    others[pose] = False
    assert torch.equal(narrow.bounds()[others], wide.bounds()[others])
    # The same vector is the same face.
    inside = 0.7 * narrow.bounds()[None]
    assert torch.equal(narrow.unpack(inside).normalised(), wide.unpack(inside).normalised())


def test_the_trained_range_is_that_of_sampled_faces() -> None:
    assert torch.allclose(TRAINED_POSE.normalised(), torch.ones(6, dtype=torch.float64))
    for bad in (
        ((0.1, 0.1, 0.0), (0.1,) * 3),
        ((0.1,) * 3, (0.1, 2.0, 0.1)),
        ((0.1,) * 2, (0.1,) * 3),
    ):
        with pytest.raises(InputError, match="pose range: "):
            PoseRange(*bad)  # type: ignore[arg-type]


def test_a_value_of_each_field_in_its_columns() -> None:
    vector = ParameterSpace(2, 1).vector(1, 2, (3, 4, 5), (6, 7, 8), (9, 10, 11))
    assert vector.tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_unknown_names_and_none_are_refused() -> None:
    with pytest.raises(InputError, match=r"expected some of shape, .*, found 'nose'"):
        ParameterSpace(2, 1).columns(["nose"])
    with pytest.raises(InputError, match="expected at least one"):
        ParameterSpace(2, 0).columns(["expression"])
