"""Fewer antennas and frequencies of a recording, with and without the range gate."""

from __future__ import annotations

import torch

from radarbook.fitting.decimation import decimate
from radarbook.radar.array import qar50
from radarbook.radar.simulate import simulate_points
from radarbook.radar.waveform import qar50_waveform

CENTRES = torch.tensor([[0.0, 0.0, 0.33], [0.02, 0.0, 0.36]], dtype=torch.float64)


def point(z: float) -> torch.Tensor:
    place = torch.tensor([[0.01, 0.02, z]], dtype=torch.float64)
    return simulate_points(place, torch.ones(1), qar50(), qar50_waveform(128))


def test_the_gate_keeps_a_face_and_removes_a_wall() -> None:
    """Without a gate the wall falls onto the face with all its power (stride 15 of 128 steps). The
    gate changes points of the face's depths by 1 % of their amplitude at most, twice its design's
    mean, and leaves 0.1 % of the power of a point 1 m away."""
    array, waveform = qar50(), qar50_waveform(128)
    reduced = decimate(array, waveform)
    face = torch.stack([point(0.32), point(0.40)])
    plain, gated = reduced(face), reduced.gated(face, array, waveform, CENTRES)
    assert float((gated - plain).norm() / plain.norm()) < 1e-2
    wall = point(1.0)[None].expand(2, -1, -1, -1)
    plain, gated = reduced(wall), reduced.gated(wall, array, waveform, CENTRES)
    assert float(plain.norm() / (wall.norm() * (plain.numel() / wall.numel()) ** 0.5)) > 0.99
    assert float((gated.norm() / plain.norm()) ** 2) < 1e-3


def test_one_recording_is_a_batch_of_one() -> None:
    array, waveform = qar50(), qar50_waveform(32)
    reduced = decimate(array, waveform)
    signal = simulate_points(CENTRES[:1], torch.ones(1), array, waveform)
    gated = reduced.gated(signal, array, waveform, CENTRES[:1])
    assert gated.shape == (1, 48, 48, len(reduced.steps))
