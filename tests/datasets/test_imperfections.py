"""Each imperfection does what its number says, is off by default and depends on (seed, index)."""

from __future__ import annotations

import math

import pytest
import torch

from radarbook.datasets.imperfections import Imperfections
from radarbook.errors import InputError
from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate_points
from radarbook.radar.waveform import qar50_waveform

ARRAY, WAVEFORM = qar50(), qar50_waveform(12)


@pytest.fixture(scope="module")
def signal():
    place = torch.tensor([[0.01, 0.02, 0.35]], dtype=torch.float64)
    return simulate_points(place, torch.ones(1), ARRAY, WAVEFORM)


def _added(signal, **settings):
    return Imperfections(**settings).apply(signal, ARRAY, WAVEFORM, seed=1) - signal


def _power(x):
    return float(x.abs().square().mean())


def test_off_by_default(signal):
    perfect = Imperfections()
    assert torch.equal(perfect.apply(signal, ARRAY, WAVEFORM, seed=1), signal)
    assert perfect.array(ARRAY, seed=1) is ARRAY


def test_noise_power(signal):
    # 106 032 samples: the power of noise is known to 0.3 %.
    assert _power(_added(signal, snr_db=10)) == pytest.approx(0.1 * _power(signal), rel=0.02)


@pytest.mark.parametrize("name", ["leakage_db", "background_db"])
def test_added_power(signal, name):
    added = _added(signal, **{name: -20.0})
    assert _power(added) == pytest.approx(0.01 * _power(signal), rel=1e-6)


def test_leakage_has_the_path_of_the_antennas(signal):
    added = _added(signal, leakage_db=0.0)
    d = torch.cdist(ARRAY.rx, ARRAY.tx)
    slope = torch.angle(added[..., 1] / added[..., 0])
    step = float(WAVEFORM.wavenumbers[1] - WAVEFORM.wavenumbers[0])
    assert torch.allclose(torch.exp(1j * slope), torch.exp(-1j * step * d), atol=1e-9)


def test_channel_errors(signal):
    measured = Imperfections(gain_db=1.0, phase=0.1).apply(signal, ARRAY, WAVEFORM, seed=1)
    ratio = measured / signal
    # One factor a receiver and one a transmitter, the same at every frequency.
    assert torch.allclose(ratio, ratio[..., :1], atol=1e-9)
    assert torch.linalg.matrix_rank(ratio[..., 0], rtol=1e-6) == 1
    gains = 20 * ratio[..., 0].abs().log10()
    # Two independent draws of 94 each: spread √2 dB, known to some 10 %.
    assert float(gains.std()) == pytest.approx(math.sqrt(2), rel=0.25)


def test_movement_shifts_the_point_in_depth_as_predicted(signal):
    """Towards the radar by v: range-Doppler coupling moves the image by -v·T·f_c/B against the
    sweep's direction (stepped upwards)."""
    speed, sweep = 0.02, 0.05
    moving = Imperfections(velocity=(0, 0, speed), sweep=sweep)
    measured = moving.apply(signal, ARRAY, WAVEFORM, seed=1, centre=(0.01, 0.02, 0.35))
    z = torch.linspace(0.33, 0.37, 401)
    line = Grid(torch.tensor([0.01]), torch.tensor([0.02]), z)
    peaks = [
        float(z[back_project(s, ARRAY, WAVEFORM, line, method="direct").abs().argmax()])
        for s in (signal, measured)
    ]
    steps = len(WAVEFORM)
    rate = WAVEFORM.bandwidth / (sweep * (steps - 1) / steps)
    assert peaks[1] - peaks[0] == pytest.approx(speed * WAVEFORM.centre / rate, rel=0.05)


@pytest.mark.parametrize("order", ["frequency", "transmitter"])
def test_order_decides_when_samples_are_taken(order):
    """Against a point that is simulated where it is at each sample's own time; to rounding."""
    array = ARRAY.subset(tx=torch.tensor([0, 40, 80]), rx=torch.tensor([3, 70]))
    waveform, place = qar50_waveform(4), torch.tensor([[0.01, 0.02, 0.35]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    velocity, sweep = torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64), 0.1
    still = simulate_points(place, one, array, waveform)
    moving = Imperfections(velocity=tuple(velocity.tolist()), sweep=sweep, order=order)
    found = moving.apply(still, array, waveform, 0, centre=(0.01, 0.02, 0.35))
    # Twelve samples one after the other, or four instants of all transmitters.
    count = 12 if order == "transmitter" else 4
    for t in range(3):
        for f in range(4):
            number = 4 * t + f if order == "transmitter" else f
            time = (number - (count - 1) / 2) * sweep / count
            moved = simulate_points(place + time * velocity, one, array, waveform)
            assert torch.allclose(found[:, t, f], moved[:, t, f], rtol=0, atol=1e-7)
    with pytest.raises(InputError, match="expected order frequency or transmitter, found both"):
        Imperfections(order="both")


def test_positions():
    built = Imperfections(position=1e-4).array(ARRAY, seed=3, index=5)
    error = torch.cat([built.tx - ARRAY.tx, built.rx - ARRAY.rx])
    # 564 draws: the spread is known to 3 %; five times that.
    assert float(error.std()) == pytest.approx(1e-4, rel=0.15)
    assert torch.equal(built.tx, Imperfections(position=1e-4).array(ARRAY, 3, 5).tx)
    assert not torch.equal(built.tx, Imperfections(position=1e-4).array(ARRAY, 3, 6).tx)


def test_depends_on_seed_and_index_alone(signal):
    real = Imperfections(snr_db=20, gain_db=0.5, phase=0.1, background_db=-20)
    batch = torch.stack([signal, 2 * signal])
    both = real.apply(batch, ARRAY, WAVEFORM, 1, [7, 4])
    assert torch.equal(both[1], real.apply(2 * signal, ARRAY, WAVEFORM, 1, 4))
    assert not torch.equal(both[0], real.apply(signal, ARRAY, WAVEFORM, 1, 8))
    assert not torch.equal(both[0], real.apply(signal, ARRAY, WAVEFORM, 2, 7))


def test_dtype_and_gradient(signal):
    single = signal.to(torch.complex64).requires_grad_()
    out = Imperfections(snr_db=20, gain_db=0.5).apply(single, ARRAY, WAVEFORM, 1)
    assert out.dtype == torch.complex64
    out.abs().sum().backward()
    assert torch.isfinite(single.grad.abs()).all()


def test_refused(signal):
    with pytest.raises(InputError, match="gain_db"):
        Imperfections(gain_db=-1)
    with pytest.raises(InputError, match="rx, tx, frequency"):
        Imperfections().apply(signal[:3], ARRAY, WAVEFORM, 1)
    with pytest.raises(InputError, match="indices"):
        Imperfections().apply(signal[None], ARRAY, WAVEFORM, 1, [1, 2])
