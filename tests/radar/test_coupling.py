"""Removal of an interval of range: what is in it goes, what is beside it stays."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar.coupling import without_ranges
from radarbook.radar.waveform import C0, Waveform, qar50_waveform, stepped


@pytest.mark.parametrize("waveform", [qar50_waveform(128), stepped(62e9, 69e9, 75)])
def test_echoes_inside_go_and_those_outside_stay(waveform: Waveform) -> None:
    cell = C0 / (2 * waveform.bandwidth)

    def echo(*ranges: float) -> torch.Tensor:
        return torch.exp(-2j * waveform.wavenumbers * torch.tensor(ranges).double()[:, None])

    inside = echo(*torch.linspace(0.0, 0.12, 25).tolist())
    assert float(without_ranges(inside, waveform, 0.0, 0.12).abs().square().mean(1).max()) < 1e-3
    for cells, change in ((2, 0.17), (4, 0.06), (10, 0.016)):
        outside = echo(0.12 + cells * cell, -cells * cell)
        left = without_ranges(outside, waveform, 0.0, 0.12)
        assert float((left - outside).abs().square().mean(1).max()) < change


def test_an_interval_too_long_is_refused() -> None:
    signal = torch.ones(16, dtype=torch.complex64)
    with pytest.raises(InputError, match="below half the unambiguous range"):
        without_ranges(signal, qar50_waveform(16), 0.0, 0.2)
    with pytest.raises(InputError, match="expected near < far"):
        without_ranges(signal, qar50_waveform(16), 0.1, 0.0)
