"""Pose: signs of the angles, where a face stands, and the way back."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import pivot_and_origin, rotation_matrix, to_radar

NOSE, CHIN, RIGHT_EAR, LEFT_EAR, BROW = (f"multipie68.{k:02d}" for k in (30, 8, 0, 16, 27))


@pytest.fixture(scope="module")
def model():
    return load_model("procedural").to(dtype=torch.float64)


def posed(model, distance=0.3, **fields):
    values = {name: torch.tensor([value], dtype=torch.float64) for name, value in fields.items()}
    parameters = FaceParameters.neutral(1, dtype=torch.float64).replace(**values)
    return to_radar(model, parameters, distance)[0]


def test_mean_face_stands_at_the_distance_and_looks_at_the_array(model):
    face = posed(model)
    low, high = face.amin(0), face.amax(0)
    assert low[2] == pytest.approx(0.3, abs=1e-12)  # foremost point
    # float32 vertices of the model, so the box is centred to a micrometre
    assert (low + high)[:2].abs().max() < 1e-6
    assert face[model.landmarks[NOSE], 2] < 0.302
    assert face[model.landmarks[LEFT_EAR], 0] < -0.06  # the subject's left is at -x
    assert face[model.landmarks[CHIN], 1] < face[model.landmarks[NOSE], 1]
    a, b, c = (face[model.triangles[:, k]] for k in range(3))
    normal = torch.linalg.cross(b - a, c - a).sum(0)
    assert normal[2] < 0  # outwards is towards the array


def test_worked_example_of_the_frames(model):
    """A point x mm to the subject's left of, y above and z in front of the origin lies at
    (-x, y, 0.3 m - z)."""
    _, origin = pivot_and_origin(model)
    neutral = FaceParameters.neutral(1, dtype=torch.float64)
    there = to_radar(model, neutral, 0.3)[0]
    offset = 1e-3 * (model.mean - origin) * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)
    wanted = offset + torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    torch.testing.assert_close(there, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("angles", "landmark", "axis", "sign"),
    [
        # positive yaw turns the nose to the subject's left, -x of the radar
        ((0.1, 0.0, 0.0), NOSE, 0, -1),
        # positive pitch turns it down
        ((0.0, 0.1, 0.0), NOSE, 1, -1),
        # positive roll lifts the subject's left side
        ((0.0, 0.0, 0.1), LEFT_EAR, 1, 1),
        ((0.0, 0.0, 0.1), RIGHT_EAR, 1, -1),
    ],
)
def test_signs_of_the_angles(model, angles, landmark, axis, sign):
    index = model.landmarks[landmark]
    moved = posed(model, rotation=angles)[index] - posed(model)[index]
    assert sign * moved[axis] > 0.003


def test_rotation_is_that_of_scipy():
    angles = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = Rotation.from_euler("YXZ", angles.numpy()).as_matrix()  # intrinsic: R_y R_x R_z
    torch.testing.assert_close(rotation_matrix(angles), torch.from_numpy(wanted))


def test_turning_leaves_the_pivot_where_it_is(model):
    pivot, _ = pivot_and_origin(model)
    turned = posed(model, rotation=(0.05, -0.1, 0.15))
    # the centroid of the neutral vertices is the pivot
    torch.testing.assert_close(turned.mean(0), posed(model).mean(0))
    assert pivot.shape == (3,)


def test_translation_is_in_the_radar_frame(model):
    moved = posed(model, translation=(0.01, -0.02, 0.03), rotation=(0.1, 0.1, 0.1))
    shift = moved - posed(model, rotation=(0.1, 0.1, 0.1))
    wanted = torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64)
    torch.testing.assert_close(shift, wanted.expand_as(shift))


def test_size_is_kept(model):
    face = posed(model, rotation=(0.3, -0.2, 0.1), translation=(0.1, 0.1, 0.1))
    a, b = model.landmarks[CHIN], model.landmarks[BROW]
    wanted = (model.mean[a] - model.mean[b]).norm() * 1e-3
    assert (face[a] - face[b]).norm() == pytest.approx(float(wanted), rel=1e-12)


def test_a_pose_turns_about_the_pivot_and_moves(model):
    stream = torch.Generator().manual_seed(1)

    def draw(count):
        return torch.randn(4, count, dtype=torch.float64, generator=stream)

    parameters = FaceParameters(
        draw(10), draw(7), 0.05 * draw(3), math.radians(10) * draw(3), draw(3)
    )
    faces = model.vertices(parameters.shape, parameters.expression)
    pivot, origin = pivot_and_origin(model)
    turned = (faces - pivot) @ rotation_matrix(parameters.rotation).transpose(1, 2) + pivot
    wanted = 1e-3 * (turned - origin) * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)
    wanted = wanted + parameters.translation[:, None] + wanted.new_tensor([0.0, 0.0, 0.4])
    torch.testing.assert_close(to_radar(model, parameters, 0.4), wanted, rtol=0, atol=1e-12)


def test_gradients_against_finite_differences(model):
    small = model.truncated(2, 2)
    few = torch.arange(0, model.n_vertices, 4000)

    def place(shape, expression, translation, rotation):
        rendering = torch.zeros(1, 3, dtype=torch.float64)
        parameters = FaceParameters(shape, expression, translation, rotation, rendering)
        return to_radar(small, parameters, 0.3)[:, few]

    values = [
        torch.full((1, width), 0.1, dtype=torch.float64).requires_grad_() for width in (2, 2, 3, 3)
    ]
    assert torch.autograd.gradcheck(place, values)
