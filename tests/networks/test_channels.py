"""What the networks see of an image."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.networks.channels import channel_count, image_channels
from radarbook.radar.image import RadarImage


def image(pixels: int = 8) -> RadarImage:
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor([-20.0, -30.0])
    amplitude = torch.maximum(
        -40 * torch.rand(2, pixels, pixels, generator=generator), level[:, None, None]
    )
    amplitude[:, 0, 0] = 0
    depth = 0.3 + 0.1 * torch.rand(2, pixels, pixels, generator=generator)
    x = torch.linspace(-0.1, 0.1, pixels)
    return RadarImage(amplitude, depth, amplitude > level[:, None, None], x, x, level)


@pytest.mark.parametrize("inputs", ["amplitude", "depth", "both"])
@pytest.mark.parametrize("paper", [False, True])
def test_number_of_channels(inputs, paper):
    assert image_channels(image(), inputs, paper=paper).shape == (
        2,
        channel_count(inputs, paper=paper),
        8,
        8,
    )


def test_the_paper_sees_one_or_two_images():
    assert [channel_count(i, paper=True) for i in ("amplitude", "depth", "both")] == [1, 1, 2]


def test_amplitude_runs_from_the_dynamic_range_to_the_maximum():
    amplitude = image_channels(image(), "amplitude")[:, 0]
    assert amplitude.amin() == 0
    assert (amplitude.amax(dim=(1, 2)) == 1).all()


def test_relief_does_not_know_how_far_the_face_is():
    """The third channel is depth about its own mean: a face moved back by 3 cm looks the same."""
    near = image()
    far = RadarImage(
        near.amplitude_db, near.depth + 0.03, near.mask, near.x, near.y, near.dynamic_range_db
    )
    a, b = image_channels(near, "depth"), image_channels(far, "depth")
    # float32 rounding of depths in units of 6 cm
    assert torch.allclose(a[:, 1], b[:, 1], atol=1e-5)
    assert torch.allclose((b - a)[:, 0], 0.5 * near.mask.float(), atol=1e-5)


def test_nothing_of_the_depth_outside_the_mask():
    """Depth is meaningless there; whatever stands there must not reach a network."""
    first = image()
    noise = torch.where(first.mask, first.depth, first.depth + 1)
    second = RadarImage(
        first.amplitude_db, noise, first.mask, first.x, first.y, first.dynamic_range_db
    )
    assert torch.equal(image_channels(first, "both"), image_channels(second, "both"))


def test_an_empty_image_stays_finite():
    empty = image()
    empty = RadarImage(
        empty.amplitude_db.clamp(max=-30),
        empty.depth,
        torch.zeros_like(empty.mask),
        empty.x,
        empty.y,
        empty.dynamic_range_db,
    )
    assert image_channels(empty, "both").isfinite().all()


def test_unknown_inputs_are_refused():
    with pytest.raises(InputError, match=r"inputs: expected amplitude, depth or both, found 'x'"):
        image_channels(image(), "x")
