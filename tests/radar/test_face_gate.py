"""The gate around the face: what it keeps, what it removes, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.face_gate import FaceGate
from radarbook.radar.image import RadarImage

AXIS = (torch.arange(64) - 31.5) * 0.30 / 64


def picture(*spots: tuple[float, float, float, float, float]) -> RadarImage:
    """Round spots (x, y, depth, radius, level dB), the strongest in each pixel, down to -45 dB."""
    amplitude, depth = torch.full((64, 64), -45.0), torch.full((64, 64), 0.40)
    for x, y, z, radius, level in spots:
        apart = (AXIS - x).square() + (AXIS[:, None] - y).square()
        own: Tensor = level - 10 * apart / radius**2
        stronger = own > amplitude
        amplitude = torch.where(stronger, own, amplitude)
        depth = torch.where(stronger, torch.full_like(depth, z), depth)
    top = amplitude - amplitude.max()
    floor = torch.full((1,), -45.0)
    shown = top.clamp(min=-45)[None]
    return RadarImage(shown, depth[None], shown > -45, AXIS, AXIS, floor)


FACE = (0.0, 0.02, 0.31, 0.05, 0.0)
SHOULDERS = (0.01, -0.13, 0.40, 0.05, 6.0)


def test_what_lies_behind_the_face_is_removed_although_it_is_brighter() -> None:
    alone, both = picture(FACE), picture(FACE, SHOULDERS)
    gated = FaceGate()(both)
    assert float(gated.depth[gated.mask].max()) < 0.35
    assert float(gated.amplitude_db.max()) == pytest.approx(0.0, abs=0.2)
    seen, wanted = gated.with_dynamic_range(-20.0), alone.with_dynamic_range(-20.0)
    assert float((seen.amplitude_db - wanted.amplitude_db).abs().max()) < 0.2
    assert torch.equal(seen.mask, wanted.mask)


def test_the_dynamic_range_shrinks_by_what_was_brighter() -> None:
    gated = FaceGate()(picture(FACE, SHOULDERS))
    assert float(gated.dynamic_range_db[0]) == pytest.approx(-39.0, abs=0.1)
    assert float(gated.amplitude_db.min()) == float(gated.dynamic_range_db[0])


def test_what_is_far_aside_is_removed() -> None:
    gated = FaceGate()(picture(FACE, (0.13, 0.02, 0.31, 0.01, -8.0)))
    assert not bool(gated.mask[0, :, 60:].any())


def test_each_image_of_a_batch_has_its_own_gate() -> None:
    near, far = picture(FACE, SHOULDERS), picture((0.02, 0.0, 0.35, 0.05, 0.0))
    both = RadarImage(
        torch.cat([near.amplitude_db, far.amplitude_db]),
        torch.cat([near.depth, far.depth]),
        torch.cat([near.mask, far.mask]),
        AXIS,
        AXIS,
        torch.full((2,), -45.0),
    )
    gated = FaceGate()(both)
    for n, one in enumerate((near, far)):
        assert torch.equal(gated.amplitude_db[n], FaceGate()(one).amplitude_db[0])


def test_an_image_without_anything_stays() -> None:
    flat = torch.full((1, 64, 64), -45.0)
    empty = RadarImage(flat, flat, flat > 0, AXIS, AXIS, torch.full((1,), -45.0))
    assert torch.equal(FaceGate()(empty).amplitude_db, flat)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"share": 1.5}, "share from 0 to 1"),
        ({"behind": 0.0}, "lengths above 0"),
        ({"half": (0.1, -0.1)}, "lengths above 0"),
        ({"level_db": 3.0}, "level_db below 0"),
    ],
)
def test_wrong_values_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        FaceGate(**wrong)  # type: ignore[arg-type]
