"""What the networks see of an image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from radarbook.errors import InputError
from radarbook.networks.channels import channel_names, image_channels
from radarbook.radar.image import RadarImage
from tests.training.toys import toy_samples


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
        len(channel_names(inputs, paper=paper)),
        8,
        8,
    )


def test_the_paper_sees_one_or_two_images():
    seen = [channel_names(i, paper=True) for i in ("amplitude", "depth", "both")]
    assert seen == [("amplitude",), ("depth",), ("amplitude", "depth")]
    # as they are: nothing is moved
    assert torch.equal(image_channels(image(), "amplitude", paper=True)[:, 0].bool(), image().mask)


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
    assert torch.allclose((b - a)[:, 0], 0.5 * a[:, 2], atol=1e-5)


@pytest.mark.parametrize("inputs", ["amplitude", "depth", "both"])
def test_a_face_looks_alike_wherever_it_is_and_its_place_is_told(inputs):
    """An image moved by three pixels in x and minus two in y gives the same channels, with the
    centre three and two pixels on."""
    samples = toy_samples(4, 48).image
    small = samples.with_dynamic_range(-3.0)  # blobs that stay inside when they are moved
    moved = replace(
        small,
        **{
            name: torch.roll(getattr(small, name), (-2, 3), (1, 2))
            for name in ("amplitude_db", "depth", "mask")
        },
    )
    assert small.mask[:, 4:-4, 4:-4].sum() == small.mask.sum()
    a, b = image_channels(small, inputs), image_channels(moved, inputs)
    # depths are averaged in another order: float32 rounding in units of 6 cm
    assert torch.allclose(a[:, :-2], b[:, :-2], atol=1e-5)
    step = 2 / 48
    assert torch.allclose((b - a)[:, -2:, 0, 0], torch.tensor([3 * step, -2 * step]).expand(4, 2))
    # the centre lies where the blob was drawn, to the pixel it is rounded to
    place = toy_samples(4, 48).parameters.translation[:, :2] / 0.15
    assert (a[:, -2:, 0, 0] - place).abs().max() <= step


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
