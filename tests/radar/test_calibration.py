"""Calibration: what is put into a recording is found, as well as noise allows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array, qar50
from radarbook.radar.calibration import Calibration, Corner, Plate, calibrate, load_calibration
from radarbook.radar.waveform import C0, Waveform, qar50_waveform

WAVEFORM = qar50_waveform(64)
ARRAY = qar50().subset(tx=torch.arange(0, 94, 4), rx=torch.arange(0, 94, 5))
PLACE = (0.03, -0.02, 0.42)
DELAY = 3.3e-10


def echo(array: Array, path: Tensor, waveform: Waveform = WAVEFORM) -> Tensor:
    return torch.exp(
        -2j * math.pi * waveform.frequencies * path.reshape(array.channels)[..., None] / C0
    )


def corner_path(array: Array) -> Tensor:
    """Written out with NumPy."""
    tx, rx = (array.every_pair()[:, i].numpy() for i in (0, 1))
    place = np.array(PLACE)
    legs = [
        np.sqrt(((side.numpy()[index] - place) ** 2).sum(1))
        for side, index in ((array.tx, tx), (array.rx, rx))
    ]
    return torch.from_numpy(legs[0] + legs[1])


def factors(array: Array, seed: int = 0) -> Tensor:
    """Unit factors of receivers and transmitters, or of pairs, with any phases."""
    random = torch.Generator().manual_seed(seed)
    sides = array.channels if array.pairs is not None else (array.channels[0], 1)
    total = torch.polar(
        torch.ones(sides, dtype=torch.float64),
        2 * math.pi * torch.rand(sides, generator=random, dtype=torch.float64),
    )
    if array.pairs is None:
        turn = 2 * math.pi * torch.rand(1, array.channels[1], generator=random, dtype=torch.float64)
        total = total * torch.polar(torch.ones_like(turn), turn)
    return total


def faulty(signal: Tensor, channels: Tensor, snr_db: float | None, seed: int = 1) -> Tensor:
    """The signal with delay, channel factors and noise."""
    out = signal * channels[..., None] * torch.exp(-2j * math.pi * WAVEFORM.frequencies * DELAY)
    if snr_db is not None:
        random = torch.Generator().manual_seed(seed)
        noise = torch.randn(out.shape, dtype=torch.complex128, generator=random)
        out = out + noise * 10 ** (-snr_db / 20)
    return out


def phase_error(found: Calibration, channels: Tensor) -> float:
    """rad rms of the channels' phases, up to the phase that all share."""
    ratio = found.channels / found.channels.abs() / channels
    ratio = ratio / ratio.mean() * ratio.mean().abs()
    return float(ratio.angle().square().mean().sqrt())


@pytest.mark.parametrize("kind", ["product", "pairs", "monostatic"])
@pytest.mark.parametrize("target", ["corner", "plate"])
def test_delay_and_phases_are_found_exactly_without_noise(kind: str, target: str) -> None:
    array = ARRAY
    if kind == "pairs":
        array = ARRAY.subset(channels=torch.rand(ARRAY.channels) < 0.5)
    elif kind == "monostatic":
        array = Array.monostatic(ARRAY.virtual[::7])
    if target == "corner":
        path, known = corner_path(array), Corner(PLACE)
    else:  # by the law of reflection: as much across, twice the distance along
        pairs = array.every_pair()
        across = (array.tx[pairs[:, 0]] - array.rx[pairs[:, 1]])[:, :2].norm(dim=1)
        path, known = torch.hypot(across, torch.tensor(0.84)), Plate(0.42)
    channels = factors(array)
    signal = faulty(echo(array, path), channels, None)
    found = calibrate(signal, array, WAVEFORM, known)
    # A peak is known to the root of the rounding of its height: 1e-8 of its width of 1e-10 s.
    assert abs(found.delay - DELAY) < 3e-16
    assert phase_error(found, channels) < 1e-6
    assert found.residual < 1e-10
    # Applied, it leaves the ideal signal, up to one common phase.
    plain = found.apply(signal, WAVEFORM)
    ratio = plain / echo(array, path)
    assert float((ratio - ratio.mean()).abs().max()) < 1e-5


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -10.0])
def test_errors_under_noise_are_those_that_it_states(snr_db: float) -> None:
    """Ten draws: their rms is a chi with 10 (delay) degrees of freedom, within a factor of 1.6 in
    98 of 100 cases; phases have many more."""
    channels = factors(ARRAY)
    clean = echo(ARRAY, corner_path(ARRAY))
    delays, phases = [], []
    for seed in range(10):
        found = calibrate(faulty(clean, channels, snr_db, seed), ARRAY, WAVEFORM, Corner(PLACE))
        delays.append((found.delay - DELAY) / found.delay_deviation)
        phases.append(phase_error(found, channels) / found.phase_deviation)
    assert 1 / 1.7 < math.sqrt(np.mean(np.square(delays))) < 1.7
    assert 0.9 < math.sqrt(np.mean(np.square(phases))) < 1.1
    # In numbers: 25 fs and 0.2 degrees at 20 dB per sample, 0.8 ps and 7 degrees at -10 dB.
    assert found.delay_deviation == pytest.approx(25e-15 * 10 ** ((20 - snr_db) / 20), rel=0.2)


def test_coupling_and_a_wall_do_not_move_it() -> None:
    """Echoes 20 dB above and 0.3 m before the target, 10 dB above and 0.4 m behind it."""
    array = ARRAY
    clean = echo(array, corner_path(array))
    leak = 10 * echo(array, corner_path(array) - 0.6) + 3 * echo(array, corner_path(array) + 0.8)
    channels = factors(array)
    found = calibrate(
        faulty(clean + leak, channels, None), array, WAVEFORM, Corner(PLACE), reach=0.1
    )
    # Side lobes of the Hann window fall to -70 dB there; the leak passes with less than 1 %.
    assert abs(found.delay - DELAY) < 0.3e-12
    assert phase_error(found, channels) < 0.02


def test_a_wrong_place_is_a_wrong_delay_and_wrong_phases_say_so() -> None:
    signal = echo(ARRAY, corner_path(ARRAY))
    nearer = calibrate(signal, ARRAY, WAVEFORM, Corner((*PLACE[:2], PLACE[2] - 0.01)))
    # As seen under angles of up to 0.25 rad from the antennas.
    assert nearer.delay == pytest.approx(2 * 0.01 / C0, rel=0.03)
    # 10 mm nearer is another curvature, which separable factors hide in part.
    assert phase_error(nearer, torch.ones(ARRAY.channels, dtype=torch.complex128)) > 0.02


def test_silent_channels_are_left_alone(tmp_path: Path) -> None:
    channels = factors(ARRAY)
    channels[3] = 0
    signal = faulty(echo(ARRAY, corner_path(ARRAY)), channels, None)
    found = calibrate(signal, ARRAY, WAVEFORM, Corner(PLACE))
    assert bool((found.channels[3] == 0).all())
    assert bool((found.channels[4:] != 0).all())
    assert f"silent channels  {ARRAY.channels[1]} of {channels.numel()}" in str(found)
    assert torch.isfinite(found.apply(signal, WAVEFORM).abs()).all()
    found.save(tmp_path / "c.h5")
    again = load_calibration(tmp_path / "c.h5")
    assert torch.equal(again.channels, found.channels)
    assert str(again) == str(found)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(*ARRAY.channels, 64, dtype=torch.complex64, generator=random)
    with pytest.raises(InputError, match=r"expected an echo of the plate at z = 0.3 m that stands"):
        calibrate(noise, ARRAY, WAVEFORM, Plate(0.3))
    found = calibrate(echo(ARRAY, corner_path(ARRAY)), ARRAY, WAVEFORM, Corner(PLACE))
    with pytest.raises(InputError, match="made with another array"):
        found.apply(noise[1:], WAVEFORM)
    (tmp_path / "c.h5").write_bytes(b"no")
    with pytest.raises(InputError, match=r"c.h5: expected a calibration, found: not an HDF5 file"):
        load_calibration(tmp_path / "c.h5")
