"""A common delay: its sign, its size, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar.array import qar50
from radarbook.radar.delay import range_of_delay, without_delay
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate_points
from radarbook.radar.waveform import C0, qar50_waveform


def test_a_delay_is_removed_by_its_conjugate_phase() -> None:
    waveform = qar50_waveform(16)
    signal = torch.randn(3, 4, 16, dtype=torch.complex64)
    phase = 2 * math.pi * waveform.frequencies * 2.3e-10
    late = signal * torch.exp(-1j * phase).to(signal.dtype)
    assert torch.allclose(without_delay(late, waveform, 2.3e-10), signal, atol=1e-5)
    assert torch.equal(without_delay(signal, waveform, 0.0), signal)
    assert without_delay(signal, waveform, 1e-10).dtype == torch.complex64


def test_a_positive_delay_brings_what_is_seen_nearer() -> None:
    """A point at 0.30 m, recorded with cables 30 mm longer in all, is seen at 0.315 m."""
    array, waveform = qar50(), qar50_waveform(32)
    seconds = 0.030 / C0
    assert range_of_delay(seconds) == pytest.approx(0.015)
    point = torch.tensor([[0.0, 0.0, 0.3]], dtype=torch.float64)
    signal = simulate_points(point, torch.ones(1, dtype=torch.complex128), array, waveform)
    late = signal * torch.exp(-2j * math.pi * waveform.frequencies * seconds)
    zero, depths = torch.zeros(1).double(), 0.3 + torch.linspace(-0.03, 0.03, 13).double()
    grid = Grid(zero, zero, depths)

    def depth(s: torch.Tensor) -> float:
        return float(depths[back_project(s, array, waveform, grid).abs().flatten().argmax()])

    assert depth(late) == pytest.approx(0.315)
    assert depth(without_delay(late, waveform, seconds)) == pytest.approx(0.3)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 15.0, -2e-7])
def test_a_delay_that_cannot_be_is_refused(seconds: float) -> None:
    signal = torch.ones(1, 1, 4, dtype=torch.complex64)
    with pytest.raises(InputError, match="delay: expected seconds between"):
        without_delay(signal, qar50_waveform(4), seconds)
