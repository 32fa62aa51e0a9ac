"""The physical renderer: protocol, settings, batches, gradients of every parameter."""

from __future__ import annotations

import json

import pytest
import torch

from radarbook.faces.load import load_model
from radarbook.faces.parameters import NAMES, FaceParameters
from radarbook.files import digest
from radarbook.profiles import get_profile
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import PhysicalRenderer, Renderer
from radarbook.radar.waveform import qar50_waveform


@pytest.fixture(scope="module")
def model():
    return load_model("procedural")


@pytest.fixture(scope="module")
def renderer(model):
    return PhysicalRenderer.for_profile(model, get_profile("smoke"))


def test_renders_a_face(renderer):
    image = renderer.render(FaceParameters.neutral())
    assert isinstance(renderer, Renderer)
    assert image.amplitude_db.shape == (1, 48, 48)
    assert float(image.amplitude_db.max()) == 0
    assert image.dynamic_range_db.tolist() == [-20]
    # The brightest spots of a frontal face lie on it: 0.29 … 0.42 m for a nose tip at 0.3 m.
    depth = image.depth[image.mask]
    assert float(depth.min()) > 0.29
    assert float(depth.max()) < 0.42
    assert 0.005 < float(image.mask.float().mean()) < 0.3


def test_translation_moves_the_image(renderer):
    """6.25 mm, one pixel of the smoke grid, to the right and 2 cm away. The face meets the array
    at other angles there, so highlights wander; their power's middle moves with the face."""
    moved = FaceParameters.neutral().replace(translation=torch.tensor([[0.00625, 0, 0.02]]))
    still, away = (renderer.render(p) for p in (FaceParameters.neutral(), moved))

    def middle(image):
        power = 10 ** (image.amplitude_db[0] / 10) * image.mask[0]
        return [
            float((power * v).sum() / power.sum()) for v in (image.x.expand(48, 48), image.depth[0])
        ]

    (x0, z0), (x1, z1) = middle(still), middle(away)
    assert x1 - x0 == pytest.approx(0.00625, abs=0.005)
    assert z1 - z0 == pytest.approx(0.02, abs=0.006)


def test_batch_equals_loop(renderer):
    faces = FaceParameters.cat(
        [FaceParameters.neutral(), FaceParameters.neutral(rendering=(-15.0, 0.4, 3e-3))]
    )
    together = renderer.volume(faces)
    for b in range(2):
        alone = renderer.volume(faces[b])
        # The same sums in another order, single precision.
        assert (together[b] - alone[0]).norm() < 1e-5 * alone.norm()


def test_every_parameter_has_a_gradient(renderer):
    leaves = {n: v.clone().requires_grad_() for n, v in FaceParameters.neutral().as_dict().items()}
    image = renderer.render(FaceParameters(**leaves))
    (image.amplitude_db.square().sum() + image.depth[image.mask].sum()).backward()
    for name in NAMES:
        gradient = leaves[name].grad
        assert torch.isfinite(gradient).all(), name
        assert (gradient != 0).any(), name


def test_volume_gradient_equals_finite_differences(model):
    """The whole chain in float64, shape to volume, along a random line in all parameters."""
    renderer = PhysicalRenderer(
        model.to("cpu", torch.float64),
        waveform=qar50_waveform(6),
        grid=Grid.regular(0.06, 8, 0.29, 0.34, 6),
        facet_size=1.0,
    )
    neutral = FaceParameters.neutral(dtype=torch.float64).normalised()
    generator = torch.Generator().manual_seed(0)
    line, aside = (
        torch.randn(neutral.shape, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    # Beside the neutral face: it is symmetric, and rays that just miss a facet's edge on one side
    # just hit it on the other.
    start = neutral + 0.05 * aside

    def power(step):
        faces = FaceParameters.from_normalised(start + step * line)
        return renderer.volume(faces).abs().square().mean()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(power(step), step)
    with torch.no_grad():
        difference = float(power(1e-6) - power(-1e-6)) / 2e-6
    # Facets that appear or vanish between the two ends are not in the gradient: 1 %.
    assert float(slope) == pytest.approx(difference, rel=1e-2)


def test_settings_decide_the_image(model, renderer):
    settings = renderer.settings()
    assert json.loads(json.dumps(settings)) == settings
    same = PhysicalRenderer.for_profile(model, get_profile("smoke")).settings()
    other = PhysicalRenderer.for_profile(model, get_profile("smoke"), occlusion=False).settings()
    assert digest(settings) == digest(same)
    assert digest(settings) != digest(other)


def test_options_change_the_signal(model, renderer):
    face = FaceParameters.neutral()
    plain = renderer.signal(face)
    for options in ({"occlusion": False}, {"bounces": 2}, {"permittivity": None}):
        other = PhysicalRenderer.for_profile(model, get_profile("smoke"), **options).signal(face)
        assert (other - plain).norm() > 1e-3 * plain.norm(), options
