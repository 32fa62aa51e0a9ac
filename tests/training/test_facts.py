"""What is taken from the face model, against the model's own vertices and the physical renderer."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.spatial import cKDTree

from radarbook.faces.load import load_model
from radarbook.faces.pose import to_radar
from radarbook.profiles import get_profile
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.training.augmentation import mirrored, mirrored_parameters, moved, turned
from radarbook.training.facts import ModelFacts, mirror_matrix
from tests.training.toys import toy_parameters

MODEL = load_model("procedural")
FACTS = ModelFacts.of(MODEL)
FLIP = torch.tensor([-1.0, 1.0, 1.0])


def faces(count=3):
    return toy_parameters(count, seed=1, n_shape=10, n_expression=7)


def lopsided(model, size):
    """The model with its first shape mode pulling one side alone."""
    modes = model.shape_modes.clone()
    modes[0] += size * modes[0].norm(dim=1).mean() * (model.mean[:, :1] > 0)
    return replace(model, shape_modes=modes)


def test_vertex_loss_is_the_mean_squared_vertex_distance():
    a, b = faces(), toy_parameters(3, seed=2, n_shape=10, n_expression=7)
    distances = MODEL.vertices(a.shape, a.expression) - MODEL.vertices(b.shape, b.expression)
    brute = distances.double().square().sum(dim=2).mean()
    modes = torch.cat([MODEL.shape_modes, MODEL.expression_modes]).double()
    unit = modes.square().sum(dim=(0, 2)).mean()  # a random face's, squared, from the mean face
    ours = FACTS.vertex_loss(
        torch.cat([a.shape, a.expression], 1), torch.cat([b.shape, b.expression], 1)
    )
    assert float(ours) == pytest.approx(float(brute / unit), rel=1e-4)  # float32


def test_the_mean_face_scores_one():
    """Over 4000 standard normal faces: the deviation of the mean is about 1 %; five times that."""
    many = torch.randn(4000, 17, generator=torch.Generator().manual_seed(0))
    assert float(FACTS.vertex_loss(torch.zeros_like(many), many)) == pytest.approx(1, rel=0.05)


def test_the_procedural_face_is_symmetric():
    """Every mode is: the mirrored face is the face, to what the mesh's own asymmetry leaves."""
    assert torch.allclose(FACTS.mirror, torch.eye(17), atol=1e-3)


def test_a_mode_of_the_other_sign_is_found():
    """Shape mode 0 turned into its antisymmetric twin: x the same on both sides, y, z opposed."""
    modes = MODEL.shape_modes.clone()
    modes[0] *= MODEL.mean[:, :1] / 50
    matrix = mirror_matrix(replace(MODEL, shape_modes=modes))
    expected = torch.eye(17)
    expected[0, 0] = -1
    assert torch.allclose(matrix, expected, atol=5e-3)


def test_an_asymmetric_model_has_no_mirror():
    assert mirror_matrix(lopsided(MODEL, 0.01)) is not None
    assert mirror_matrix(lopsided(MODEL, 1.0)) is None
    crooked = MODEL.shape_mean + 3.0 * (MODEL.mean[:, :1] > 0)
    assert mirror_matrix(replace(MODEL, shape_mean=crooked)) is None


def test_mirrored_parameters_place_the_mirrored_face():
    """Vertex by vertex in front of the array, for the vertices that have a partner within a
    hundredth of a millimetre on the mean face (a few flips of triangles are not symmetric)."""
    apart, partner = cKDTree(MODEL.mean.numpy()).query((MODEL.mean * FLIP).numpy())
    good = torch.as_tensor(apart) < 1e-2
    truth = faces()
    ours = to_radar(MODEL, mirrored_parameters(truth, FACTS.mirror), 0.3)
    theirs = (to_radar(MODEL, truth, 0.3) * FLIP)[:, torch.as_tensor(partner)]
    assert good.float().mean() > 0.95
    assert (ours - theirs)[:, good].norm(dim=2).max() < 5e-5


def test_turned_parameters_place_the_turned_face():
    """Exactly: every vertex turned about the array's axis. Float64."""
    model, truth = MODEL.to(dtype=torch.float64), faces().to(dtype=torch.float64)
    turn = torch.tensor([0.1, -0.05, 0.0], dtype=torch.float64)
    facts = ModelFacts.of(model)
    ours = to_radar(model, turned(truth, turn, facts.pivot), 0.3)
    x, y, z = to_radar(model, truth, 0.3).unbind(2)
    cos, sin = turn.cos()[:, None], turn.sin()[:, None]
    theirs = torch.stack([cos * x + sin * y, cos * y - sin * x, z], dim=2)
    # the facts are kept in float32: 1e-7 of a centimetre
    assert (ours - theirs).norm(dim=2).max() < 1e-8


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def test_the_physics_agrees():
    """Physical images of smooth skin. The mirrored face's is the mirrored image, to how finely the
    mesh is cut; the turned face's nearly the turned image. 6° turn highlights about as much as
    the shift of a centimetre that training has always allowed itself, which stands beside it."""
    renderer = PhysicalRenderer.for_profile(MODEL, get_profile("smoke"))
    truth = faces(1)
    truth = truth.replace(
        rotation=truth.rotation * torch.tensor([1.0, 1.0, 0.0]),
        rendering=torch.tensor([[-25.0, 0.0, 2e-3]]),
    )
    image = render(renderer, truth)
    other, flipped = mirrored(truth, image, FACTS.mirror)
    physical = render(renderer, other)
    assert correlation(flipped.amplitude_db, physical.amplitude_db) > 0.9999
    assert correlation(image.amplitude_db, physical.amplitude_db) < 0.5
    both = flipped.mask & physical.mask
    assert float((flipped.depth - physical.depth)[both].abs().median()) < 2e-5  # 20 µm

    turn, still = torch.tensor([0.105]), torch.zeros(1, 2)
    physical = render(renderer, turned(truth, turn, FACTS.pivot)).amplitude_db
    right, none, wrong = (
        correlation(moved(image, still, angle).amplitude_db, physical)
        for angle in (turn, 0 * turn, -turn)
    )
    by = torch.tensor([[-0.01, 0.005]])
    along = torch.cat([by, torch.zeros(1, 1)], dim=1)
    physical = render(renderer, truth.replace(translation=truth.translation + along)).amplitude_db
    shifted = correlation(moved(image, by).amplitude_db, physical)
    assert right > shifted - 0.02 > 0.9
    assert right - none > 0.1
    assert none - wrong > 0.1


def render(renderer, parameters):
    with torch.no_grad():
        return renderer.render(parameters).with_dynamic_range(-25.0)
