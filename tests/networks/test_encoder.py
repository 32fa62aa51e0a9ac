"""The encoder: layouts, bounds, what it refuses."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import RANGES
from radarbook.networks.encoder import POSE_BOUND, AlexNet, Encoder, resnet
from tests.training.toys import toy_samples

SAMPLES = toy_samples(4, pixels=48)


@pytest.fixture(scope="module")
def paper_encoder():
    return Encoder("both", "paper", 10, 7, pixels=48)


@pytest.mark.parametrize("inputs", ["amplitude", "depth", "both"])
@pytest.mark.parametrize("size", ["small", "resnet18"])
def test_parameters_of_an_image(inputs, size):
    encoder = Encoder(inputs, size, 3, 2, pixels=48)
    vector = encoder(SAMPLES.image)
    assert vector.shape == (4, 14)
    assert torch.equal(vector, encoder(encoder.channels(SAMPLES.image)))


def test_outputs_stay_inside_their_bounds_however_large_the_activations():
    encoder = Encoder("both", "small", 3, 2, pixels=48).eval()
    torch.nn.init.normal_(encoder.network.head.weight, std=100.0)
    vector = encoder(SAMPLES.image).abs()
    # ≤, because float32's tanh reaches 1
    assert vector[:, :5].max() <= 3
    assert vector[:, :5].max() > 2.9
    assert vector[:, 5:].max() <= POSE_BOUND


def test_predictions_lie_in_the_physical_ranges_and_carry_no_gradient():
    encoder = Encoder("both", "small", 3, 2, pixels=48).train()
    torch.nn.init.normal_(encoder.network.head.weight, std=100.0)
    found = encoder.predict(SAMPLES.image)
    assert encoder.training
    assert not found.shape.requires_grad
    for name in ("translation", "rotation", "rendering"):
        low, high = torch.tensor(RANGES[name]).unbind(1)
        value = getattr(found, name)
        slack = 1e-6 * (high - low)  # float32 rounding of the way back from [-1, 1]
        assert (value >= low - slack).all()
        assert (value <= high + slack).all()


def test_the_papers_networks(paper_encoder):
    """Two ResNet-50 and an AlexNet. Numbers of weights are those of the published architectures
    (25 557 032 and 61 100 840 for 3 channels and 1000 classes), less and more what other inputs
    and outputs take."""

    def weights(network):
        return sum(p.numel() for p in network.parameters())

    def resnet50(outputs):
        stem, classes = 49 * 64 * (2 - 3), 2049 * (outputs - 1000)
        return 25_557_032 + stem + classes

    assert weights(paper_encoder.shape_network) == resnet50(10)
    assert weights(paper_encoder.expression_network) == resnet50(7)
    alexnet = 61_100_840 + 121 * 64 * (2 - 3) + 4097 * (9 - 1000)
    assert weights(paper_encoder.pose_network) == alexnet
    assert paper_encoder.eval()(SAMPLES.image).shape == (4, 26)


@pytest.mark.parametrize("pixels", [48, 63, 64, 128])
def test_alexnet_at_every_size_of_the_profiles(pixels):
    assert AlexNet(1, 9).eval()(torch.zeros(1, 1, pixels, pixels)).shape == (1, 9)


def test_resnets_stem_halves_twice():
    """MONAI's default stem has stride 1; the original's, 2, then a pooling."""
    network = resnet(18, 1, 5)
    sizes = []
    network.layer1.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[-1]))
    network.eval()(torch.zeros(1, 1, 64, 64))
    assert sizes == [16]


def test_gradients_reach_every_weight(paper_encoder):
    for encoder in (Encoder("both", "small", 3, 2, 48), Encoder("depth", "resnet18", 3, 2, 48)):
        encoder.train()
        encoder(SAMPLES.image).square().sum().backward()
        for name, parameter in encoder.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("size", ["small", "resnet18", "paper"])
def test_the_layout_in_memory_does_not_matter(size, paper_encoder):
    """Training runs channels-last, evaluation not."""
    encoder = paper_encoder if size == "paper" else Encoder("both", size, 3, 2, 48)
    encoder.eval()
    with torch.no_grad():
        plain = encoder(SAMPLES.image)
        encoder.to(memory_format=torch.channels_last)
        last = encoder(SAMPLES.image)
    # other convolution kernels: float32 rounding through up to 50 layers, outputs of order 1
    assert torch.allclose(plain, last, atol=1e-3)


def test_another_image_size_is_refused():
    encoder = Encoder("both", "small", 3, 2, pixels=32)
    with pytest.raises(InputError, match=r"expects 32 x 32 pixels, found 48 x 48"):
        encoder(SAMPLES.image)


def test_unknown_size_is_refused():
    with pytest.raises(InputError, match=r"network size: expected .* found 'huge'"):
        Encoder("both", "huge")
