"""The inverse ResNet-50 is the mirror of the real one, layer by layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from radarbook.networks.encoder import resnet
from radarbook.networks.inverse import InverseResNet50, mirror_table


@pytest.mark.parametrize("pixels", [48, 61, 64, 128])
def test_every_layer_gives_back_what_its_twin_received(pixels):
    rows = mirror_table(pixels)
    # 53 convolutions (49 in the main path, 4 shortcuts), the pooling, and pooling + classifier
    assert len(rows) == 55
    for row in rows:
        assert row.mirror_shape == row.shape, row


def test_weights_are_those_of_the_twin_transposed():
    """Convolutions in reverse order have the kernels of ResNet-50's with inputs and outputs
    exchanged: the same number of weights in the same shapes."""
    direct = [m for m in resnet(50, 2, 26).modules() if isinstance(m, nn.Conv2d)]
    mirror = [
        m
        for m in InverseResNet50(26, 2, 64).modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]

    def shapes(layers, swap):
        return sorted(
            (
                (m.out_channels, m.in_channels) if swap else (m.in_channels, m.out_channels),
                m.kernel_size,
                m.stride,
            )
            for m in layers
        )

    assert shapes(direct, swap=False) == shapes(mirror, swap=True)


def test_image_of_a_vector():
    assert InverseResNet50(14, 2, 48).eval()(torch.zeros(2, 14)).shape == (2, 2, 48, 48)
