"""Errors of the instrument: each does what it states, and nothing at zero."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.referee import Body, Referee
from benchmarks.referee.instrument import Instrument, breathing, displacement, leakage
from benchmarks.referee.scattering import LIGHT
from benchmarks.referee.scenery import wall
from benchmarks.referee.surface import ellipsoid

SWEEP = np.linspace(72e9, 82e9, 8)
TX = np.array([[-0.07, -0.05, 0.0], [-0.07, 0.05, 0.0], [0.07, 0.0, 0.0]])
RX = TX[:, [1, 0, 2]]


def clean(seed=0):
    draws = np.random.default_rng(seed).standard_normal((3, 3, 8, 2))
    return draws @ np.array([1, 1j])


def test_nothing_by_default():
    signal = clean()
    np.testing.assert_array_equal(Instrument().applied(signal, TX, RX, SWEEP), signal)
    np.testing.assert_array_equal(Instrument().positions(TX, RX), (TX, RX))


def test_delay():
    found = Instrument(delay=1e-10).applied(clean(), TX, RX, SWEEP)
    np.testing.assert_allclose(found, clean() * np.exp(-2j * np.pi * 1e-10 * SWEEP))


def test_channel_errors_are_products():
    ratio = Instrument(gain_db=1.0, phase=0.2).applied(clean(), TX, RX, SWEEP) / clean()
    np.testing.assert_allclose(ratio, ratio[..., :1] * np.ones(8))  # constant over the band
    cross = ratio[0, 0, 0] * ratio[1, 1, 0] / (ratio[0, 1, 0] * ratio[1, 0, 0])
    assert cross == pytest.approx(1)
    assert np.ptp(abs(ratio[..., 0])) > 0


def test_levels_of_noise_and_leakage():
    """Powers are as stated: exactly for leakage, to √(2/N) for noise."""
    signal = np.ones((40, 40, 50), dtype=complex)
    tx = np.random.default_rng(1).uniform(-0.07, 0.07, (40, 3))
    rx, sweep = tx + 0.1, np.linspace(72e9, 82e9, 50)
    noise = Instrument(snr_db=10.0).applied(signal, tx, rx, sweep) - signal
    assert (abs(noise) ** 2).mean() == pytest.approx(0.1, rel=0.02)
    direct = Instrument(leakage_db=20.0).applied(signal, tx, rx, sweep) - signal
    assert (abs(direct) ** 2).mean() == pytest.approx(100)
    phase = leakage(tx[:1], rx[:1], sweep).ravel()
    distance = np.linalg.norm(tx[0] - rx[0])
    assert np.unwrap(np.angle(phase))[-1] - np.angle(phase[0]) == pytest.approx(
        -2 * np.pi / LIGHT * distance * 10e9
    )


def test_positions():
    draws = np.concatenate(
        Instrument(position=1e-4).positions(np.zeros((900, 3)), np.zeros((9, 3)))
    )
    assert draws.std() == pytest.approx(1e-4, rel=0.06)


@pytest.mark.parametrize("order", ["transmitter", "frequency"])
def test_breathing_is_the_scene_where_it_is(order):
    """Every sample against the scene moved to its own place. Three nodes for 0.4 mm leave 1e-5."""
    options = {"period": 4.0, "sweep": 1.0, "start": 0.3}
    referee = Referee(antenna_size=0.0, spacing=1e-3, shadows=False)

    def moved(shift):
        body = Body(ellipsoid([0.02, 0.0, 0.3 + shift], [0.01] * 3), 0.0)
        return referee.signal([body], TX, RX, SWEEP)

    found = breathing(moved, 4e-4, SWEEP, order=order, **options)
    where = displacement(3, 8, 4e-4, *options.values(), order)
    assert np.ptp(where) > 1e-4
    wanted = np.empty_like(found)
    for t in range(3):
        for f in range(8):
            wanted[:, t, f] = moved(where[t, f])[:, t, f]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * abs(wanted).max())


def test_order_of_the_sweep():
    """The outer loop is what is named: neighbours in the inner one are closer in time."""
    by_tx, by_f = (
        displacement(3, 8, 1.0, 400.0, 1.0, 0.0, o) for o in ("transmitter", "frequency")
    )
    assert abs(np.diff(by_tx, axis=1)).max() < abs(np.diff(by_tx, axis=0)).min()
    assert abs(np.diff(by_f, axis=0)).max() < abs(np.diff(by_f, axis=1)).min()
    with pytest.raises(ValueError, match="order"):
        displacement(3, 8, 1.0, 4.0, 1.0, 0.0, "receiver")


def test_a_wall_is_a_mirror_behind():
    """A wall of 1 m, 1 m away: its image's amplitude |Γ|/2 m, ±20 % for its edges."""
    referee = Referee(antenna_size=0.0)
    middle = np.zeros((1, 3))
    found = referee.signal([wall(1.0, side=1.0)], middle, middle, np.array([77e9])).item()
    index = np.sqrt(2.8 - 0.05j)
    assert abs(found) * 2 == pytest.approx(abs((1 - index) / (1 + index)), rel=0.2)
