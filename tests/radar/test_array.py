"""The instrument as published: positions, order, frequencies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar.array import Array, qar50
from radarbook.radar.waveform import C0, Waveform, qar50_waveform


def test_positions_and_order():
    array = qar50()
    assert array.tx.shape == array.rx.shape == (94, 3)
    assert array.tx.dtype == torch.float64
    tx, rx = array.tx.numpy() * 1e3, array.rx.numpy() * 1e3
    ends = [[-72, -69, 0], [-70.5, -66, 0], [-70.5, 66, 0], [-72, 69, 0]]
    np.testing.assert_allclose(tx[[0, 1, 45, 46]], ends)
    np.testing.assert_allclose(tx[47:], tx[:47] * [-1, 1, 1])
    np.testing.assert_allclose(rx[[0, 46, 47]], [[-69, -70.5, 0], [69, -70.5, 0], [-69, 70.5, 0]])
    np.testing.assert_allclose(np.diff(rx[:47, 0]), 3)
    np.testing.assert_allclose(np.diff(tx[1:46, 1]), 3)


def test_frequencies():
    waveform = qar50_waveform()
    assert len(waveform) == 128
    assert waveform.frequencies[[0, -1]].tolist() == [72e9, 82e9]
    assert waveform.bandwidth == 10e9
    assert waveform.centre == 77e9
    np.testing.assert_allclose(waveform.wavenumbers[0], 2 * math.pi * 72e9 / C0)
    # 24 steps see 0.345 m of depth before a range profile repeats: more than a face.
    assert qar50_waveform(24).unambiguous_range == pytest.approx(0.3447, abs=1e-4)


@pytest.mark.parametrize(
    "bad", [torch.zeros(0, 3), torch.zeros(4, 2), torch.full((2, 3), math.nan)]
)
def test_array_refuses(bad):
    with pytest.raises(InputError, match="array tx"):
        Array(bad, torch.zeros(1, 3))


@pytest.mark.parametrize("bad", [[], [2e9, 1e9], [0.0, 1e9], [math.nan]])
def test_waveform_refuses(bad):
    with pytest.raises(InputError, match="waveform"):
        Waveform(torch.tensor(bad))
