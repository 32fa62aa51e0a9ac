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


def _line(count=5):
    x = torch.linspace(-0.1, 0.1, count, dtype=torch.float64)
    return torch.stack([x, 0 * x, 0 * x], dim=1)


def _turn(degrees):
    a = math.radians(degrees)
    return torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )


def test_monostatic_and_pairs():
    """A path of a monostatic array is 2R; an antenna that stays is stored once."""
    line, point = _line(), torch.tensor([0.02, 0.01, 0.3], dtype=torch.float64)
    array = Array.monostatic(line)
    tx, rx = array.pairs.unbind(1)
    path = (array.tx[tx] - point).norm(dim=1) + (array.rx[rx] - point).norm(dim=1)
    torch.testing.assert_close(path, 2 * (line - point).norm(dim=1))
    fixed = Array.of_pairs(torch.tensor([[0.0, 0.0, -1.0]]), line)
    assert fixed.tx.shape == (1, 3)
    assert fixed.pairs.tolist() == [[0, i] for i in range(5)]
    assert fixed.signal_shape(7) == (5, 7)
    assert fixed.axes == ("pair", "frequency")
    torch.testing.assert_close(fixed.virtual[2], torch.tensor([0.0, 0, -0.5]).double())


def test_every_pair_is_the_order_of_a_signal():
    array = Array(_line(3), _line(4))
    tx, rx = array.every_pair().unbind(1)
    values = torch.arange(12).reshape(4, 3)  # (rx, tx)
    assert torch.equal(values[rx, tx], values.flatten())
    assert torch.equal(array.virtual[5], (array.rx[1] + array.tx[2]) / 2)


def test_subsets_select_what_the_signal_selects():
    array = Array(_line(3), _line(4))
    working = torch.rand(4, 3, generator=torch.Generator().manual_seed(0)) > 0.4
    path = torch.cdist(array.rx, array.tx)

    def paths(some):
        tx, rx = some.every_pair().unbind(1)
        return (some.tx[tx] - some.rx[rx]).norm(dim=1)

    missing = array.subset(channels=working)
    torch.testing.assert_close(paths(missing), path[working])
    few = array.subset(tx=torch.tensor([2, 0]), rx=torch.tensor([True, False, True, False]))
    torch.testing.assert_close(paths(few).reshape(2, 2), path[::2][:, [2, 0]])
    # Of pairs, those whose antennas remain.
    kept = missing.subset(tx=torch.tensor([1, 2]))
    torch.testing.assert_close(paths(kept), path[:, 1:][working[:, 1:]])


def test_pose():
    """Moved twice is moved once by both; the array's own frame is where it was before."""
    array = qar50().subset(tx=torch.arange(5), rx=torch.arange(4))
    shift = torch.tensor([0.3, -0.2, 5.0], dtype=torch.float64)
    moved = array.moved(_turn(20)).moved(_turn(15), shift)
    torch.testing.assert_close(moved.tx, array.tx @ _turn(35).T + shift)
    torch.testing.assert_close(moved.rotation, _turn(35))
    torch.testing.assert_close(moved.own().rx, array.rx, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved.to_own(moved.tx), array.tx, rtol=0, atol=1e-12)
    assert [a.is_moved for a in (moved, array, moved.own())] == [True, False, False]


def test_unit_is_found_or_stated():
    """QAR50 in mm is refused; a transmitter 1 km away needs its unit stated."""
    mm = qar50().tx * 1e3
    with pytest.raises(InputError, match=r"within 2 m.*likely in mm"):
        Array(mm, mm)
    assert torch.equal(Array(mm, mm, unit="mm").tx, mm * 1e-3)
    far = torch.tensor([[0.0, 0.0, -1000.0]])
    with pytest.raises(InputError, match="within 2 m"):
        Array.of_pairs(far, _line())
    array = Array.of_pairs(far, _line(), unit="m")
    assert float(array.subset(rx=torch.arange(2)).to("cpu").tx[0, 2]) == -1000
    with pytest.raises(InputError, match="array unit: expected one of m, cm, mm, found 'km'"):
        Array(mm, mm, unit="km")


@pytest.mark.parametrize(
    ("pairs", "match"),
    [
        ([[0, 5]], "rx numbers of 0 to 4, found 5"),
        ([[-1, 0]], "tx numbers of 0 to 4, found -1"),
        ([0, 1], r"expected \(pairs, 2\)"),
        ([[0.0, 1.0]], "whole numbers"),
    ],
)
def test_pairs_refused(pairs, match):
    with pytest.raises(InputError, match=f"array pairs: .*{match}|array pairs: {match}"):
        Array(_line(), _line(), torch.tensor(pairs))


def test_poses_and_subsets_refused():
    with pytest.raises(InputError, match="array rotation"):
        qar50().moved(-torch.eye(3))
    with pytest.raises(InputError, match="array: expected rotation"):
        qar50().moved(torch.eye(2))
    with pytest.raises(InputError, match="channels, bool"):
        qar50().subset(channels=torch.ones(94, dtype=torch.bool))
    with pytest.raises(InputError, match="tx numbers of 0 to 93"):
        qar50().subset(tx=torch.tensor([94]))
    with pytest.raises(InputError, match="1 position or as many"):
        Array.of_pairs(_line(3), _line(4))
    with pytest.raises(InputError, match=r"complex \(pair, frequency\) = \(5, 8\)"):
        Array.monostatic(_line()).require_signal(torch.zeros(5, 7, dtype=torch.complex64), 8)
