"""The learned renderer keeps the renderers' protocol and what is known of an image."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import NAMES, FaceParameters
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import FLOOR_DB, LearnedRenderer
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Renderer
from tests.training.toys import toy_image, toy_parameters

SIZES = ["small", "resnet18", "paper"]


@pytest.fixture(scope="module", params=SIZES)
def renderer(request):
    torch.manual_seed(0)
    return LearnedRenderer(request.param, 3, 2, pixels=48).eval()


def test_renders_as_the_protocol_says(renderer):
    parameters = toy_parameters(5, seed=1)
    assert isinstance(renderer, Renderer)
    image = renderer.render(parameters)
    assert isinstance(image, RadarImage)
    assert image.amplitude_db.shape == image.depth.shape == image.mask.shape == (5, 48, 48)
    level = parameters.dynamic_range_db[:, None, None]
    assert torch.equal(image.dynamic_range_db, parameters.dynamic_range_db)
    assert (image.amplitude_db >= level).all()
    assert (image.amplitude_db <= 0).all()
    assert torch.equal(image.mask, image.amplitude_db > level)
    assert image.depth.isfinite().all()


def test_grid_is_pixel_centres_of_the_extent(renderer):
    image = renderer.render(toy_parameters(1, seed=1))
    assert len(image.x) == len(image.y) == 48
    assert float(image.x[1] - image.x[0]) == pytest.approx(0.30 / 48, rel=1e-5)
    assert float(image.x[0] + image.x[-1]) == pytest.approx(0, abs=1e-8)
    assert float(image.x[0]) == pytest.approx(-0.15 + 0.15 / 48, rel=1e-5)


def test_batch_is_the_loop(renderer):
    parameters = toy_parameters(3, seed=2)
    whole = renderer.render(parameters)
    for i in range(3):
        one = renderer.render(parameters[i])
        # convolution kernels differ with the batch size: float32 rounding of values near 20 dB
        assert torch.allclose(one.amplitude_db[0], whole.amplitude_db[i], atol=1e-3)
        assert torch.allclose(one.depth[0], whole.depth[i], atol=1e-5)


def test_gradients_reach_every_field(renderer):
    parameters = toy_parameters(3, seed=3)
    leaves = {name: value.clone().requires_grad_() for name, value in parameters.as_dict().items()}
    image = renderer.render(FaceParameters(**leaves))
    (image.amplitude_db.square().mean() + image.depth.sum()).backward()
    for name in NAMES:
        assert leaves[name].grad is not None, name
        assert leaves[name].grad.isfinite().all(), name
        assert (leaves[name].grad.abs().sum(dim=0) > 0).all(), name


def test_gradients_are_those_of_finite_differences():
    """Float64, along one random direction; everything but the clip is smooth or piecewise so, and
    the step is small against a pixel."""
    torch.manual_seed(0)
    renderer = LearnedRenderer("small", 3, 2, pixels=32).double().eval()
    parameters = toy_parameters(2, seed=4).to(dtype=torch.float64)
    vector = parameters.normalised().requires_grad_()
    direction = torch.randn(vector.shape, generator=torch.Generator().manual_seed(5)).double()

    def scalar(v):
        amplitude, depth = renderer(v)
        return (amplitude.square().mean() + 100 * depth.square().mean()).sum()

    (gradient,) = torch.autograd.grad(scalar(vector), vector)
    step = 1e-6
    with torch.no_grad():
        difference = (scalar(vector + step * direction) - scalar(vector - step * direction)) / 2
    # central differences: error of order step², and rounding of 1e-16/1e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(difference / step), rel=1e-5)


def test_the_image_moves_with_the_face():
    """Small sizes draw in the face's own frame: one pixel in x and two in y move the drawing by
    that, and one centimetre in z adds a centimetre of depth. The rest of the drawing also follows
    the translation, so the network's own dependence on it is switched off."""
    torch.manual_seed(0)
    renderer = LearnedRenderer("small", 3, 2, pixels=48).eval()
    with torch.no_grad():
        renderer.network.coarse[0].weight[:, 5:8] = 0
    parameters = toy_parameters(1, seed=7).replace(translation=torch.zeros(1, 3))
    step = 0.30 / 48
    moved = parameters.replace(translation=torch.tensor([[step, 2 * step, 0.01]]))
    with torch.no_grad():
        a, a_depth = renderer(parameters.normalised())
        b, b_depth = renderer(moved.normalised())
    # grid_sample's coordinates are rounded to float32: 1e-6 pixels of slopes of some dB
    assert torch.allclose(b[:, 2:, 1:], a[:, :-2, :-1], atol=1e-3)
    assert torch.allclose(b_depth[:, 2:, 1:], a_depth[:, :-2, :-1] + 0.01, atol=1e-5)


def test_amplitudes_end_at_the_floor(renderer):
    amplitude, _ = renderer(10 * torch.randn(4, 14))
    assert (amplitude <= 0).all()
    assert (amplitude >= FLOOR_DB).all()


def test_wrong_number_of_parameters_is_refused(renderer):
    with pytest.raises(InputError, match=r"expects \(batch, 14\), found \(2, 26\)"):
        renderer.render(FaceParameters.neutral(2))


# -- autoencoder --------------------------------------------------------------------------------


def test_the_autoencoders_renderer_is_frozen():
    autoencoder = Autoencoder(
        Encoder("both", "small", 3, 2, 32), LearnedRenderer("small", 3, 2, 32)
    )
    autoencoder.train()
    image = autoencoder.renderer.render(toy_parameters(4, seed=8))
    before = {k: v.clone() for k, v in autoencoder.renderer.state_dict().items()}
    vector, amplitude, depth = autoencoder(image)
    (amplitude.mean() + depth.mean()).backward()
    assert vector.shape == (4, 14)
    assert all(p.grad is None for p in autoencoder.renderer.parameters())
    # the image loss alone still reaches the encoder, through the renderer
    assert autoencoder.encoder.network.head.weight.grad.abs().max() > 0
    # nor do its batch statistics move
    for name, value in autoencoder.renderer.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_image_is_drawn_again_at_its_own_dynamic_range():
    autoencoder = Autoencoder(
        Encoder("both", "small", 3, 2, 32), LearnedRenderer("small", 3, 2, 32)
    )
    image = toy_image(toy_parameters(3, seed=9), 32).with_dynamic_range(-18.0)
    again = autoencoder.reconstruct(image)
    assert (again.dynamic_range_db == -18).all()
    assert again.amplitude_db.shape == image.amplitude_db.shape


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"autoencoder: pixels is 32 in the encoder, 48 in the"):
        Autoencoder(Encoder("both", "small", 3, 2, 32), LearnedRenderer("small", 3, 2, 48))
