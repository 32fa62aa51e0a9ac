"""Faults of a recording: found where they are, and never in a sound one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from benchmarks.swaps import swapped
from radarbook.datasets.recordings import Recording, check_recording, inspect, outside_depths
from radarbook.datasets.recordings.swaps import swapped_antennas
from radarbook.radar.array import qar50
from radarbook.radar.meshes import plate
from radarbook.radar.simulate import simulate
from radarbook.radar.waveform import C0, Waveform, qar50_waveform


def scatterers(places: Tensor, waveform: Waveform) -> Recording:
    """Points of random strengths at (N, 3) m in front of the QAR50."""
    array = qar50()
    to_tx = torch.cdist(array.tx, places)
    to_rx = torch.cdist(array.rx, places)
    strengths = 0.5 + torch.rand(len(places), generator=torch.Generator().manual_seed(1)).double()
    steps = []
    for k in waveform.wavenumbers:
        out = torch.polar(strengths.expand_as(to_rx), -k * to_rx)
        back = torch.polar(torch.ones_like(to_tx), -k * to_tx)
        steps.append(out @ back.T)
    return Recording(torch.stack(steps, -1).to(torch.complex64), array, waveform)


@cache
def head(distance: float, steps: int = 128, seed: int = 0) -> Recording:
    """Forty points in a head's volume whose front is at ``distance``."""
    random = torch.Generator().manual_seed(seed)
    places = torch.rand(40, 3, generator=random, dtype=torch.float64) - 0.5
    places = places * places.new_tensor([0.15, 0.2, 0.1])
    places[:, 2] += distance + 0.05
    return scatterers(places, qar50_waveform(steps))


def with_noise(recording: Recording, decibels: float) -> Recording:
    """Noise so far below the mean power of the signal."""
    random = torch.Generator().manual_seed(5)
    power = recording.signal.abs().square().mean()
    noise = torch.randn(*recording.signal.shape, dtype=torch.complex64, generator=random)
    return replace(
        recording, signal=recording.signal + noise * (power * 10 ** (-decibels / 10)).sqrt()
    )


def conjugated(recording: Recording) -> Recording:
    return replace(recording, signal=recording.signal.conj().resolve_conj())


@pytest.mark.parametrize("steps", [2, 24, 32, 128])
def test_a_sound_recording_has_no_notes(steps: int) -> None:
    """At any distance, beyond the unambiguous range of few steps too, and under noise."""
    for distance in (0.25, 1.2):
        assert check_recording(head(distance, steps, seed=steps)) == []
    assert check_recording(with_noise(head(0.3, steps), -3)) == []


def test_noise_alone_has_no_notes() -> None:
    random = torch.Generator().manual_seed(0)
    signal = torch.randn(94, 94, 128, dtype=torch.complex64, generator=random)
    recording = Recording(signal, qar50(), qar50_waveform())
    assert check_recording(recording) == []
    assert outside_depths(recording, 0.23, 0.47) == []


@pytest.mark.parametrize(("distance", "steps"), [(0.25, 128), (0.6, 128), (0.25, 24), (0.3, 12)])
def test_a_conjugated_signal_is_noticed(distance: float, steps: int) -> None:
    """Also where the range is ambiguous: 24 steps repeat after 0.345 m, 12 after 0.165 m."""
    for recording in (head(distance, steps), with_noise(head(distance, steps), 0)):
        [note] = check_recording(conjugated(recording))
        assert "I and Q are likely swapped" in note
        assert "--conjugate" in note
        if steps == 128:  # the front of the head, seen in the mirror of range
            found = float(note.split("strongest echo is at ")[1].split(" m")[0])
            assert -distance - 0.16 < found < -distance


def test_dead_channels_and_missing_pairs_are_counted() -> None:
    recording = head(0.3)
    signal = recording.signal.clone()
    signal[3] = 0
    signal[[40, 41]] *= 1e-4  # what a dead amplifier lets through
    signal[:, 17] = 0
    signal[..., 5] = 0
    signal[10, 20] = signal[11, 21] = 0
    notes = check_recording(replace(recording, signal=signal))
    assert notes == [
        "3 of 94 receivers are dead (at least 60 dB below the median): number 3, 40, 41, counted "
        "from 0",
        "1 of 94 transmitters is dead (at least 60 dB below the median): number 17, counted from 0",
        "1 of 128 frequency steps is dead (at least 60 dB below the median): number 5, counted "
        "from 0",
        "2 of 8836 pairs of antennas have no signal (zeros), the first is receiver 10, "
        "transmitter 20, counted from 0",
    ]
    most = recording.signal.clone()
    most[:60] = 0
    [note] = check_recording(replace(recording, signal=most))
    assert note.startswith("60 of 94 receivers are dead")
    assert "number 0, 1, 2, 3, 4, 5, ...," in note


def test_half_of_a_signal_is_noticed() -> None:
    recording = head(0.3)
    half = replace(recording, signal=torch.complex(recording.signal.real, torch.tensor(0.0)))
    assert check_recording(half) == [
        "the imaginary part is 0 everywhere: one of I and Q was not recorded"
    ]


def test_a_target_outside_the_depths_is_noticed() -> None:
    far = head(0.8)
    [note] = outside_depths(far, 0.23, 0.47)
    strongest = float(note.split("strongest echo is at ")[1].split(" m")[0])
    assert 0.8 < strongest < 0.95
    assert "outside the depths 0.23 to 0.47 m" in note
    assert outside_depths(far, 0.7, 1.0) == []
    assert outside_depths(with_noise(far, 0), 0.7, 1.0) == []
    assert outside_depths(head(0.3), 0.23, 0.47) == []
    # Of 24 steps the depths span all the unambiguous range: the echo is within it, wherever it is.
    assert outside_depths(head(0.8, 24), 0.23, 0.47) == []


def test_depths_beyond_the_unambiguous_range_are_noticed() -> None:
    waveform = qar50_waveform(16)
    assert waveform.unambiguous_range == pytest.approx(C0 / 2 / (10e9 / 15))
    [note] = outside_depths(head(0.3, 16), 0.2, 0.5)
    assert "the depths span 0.3 m, more than the unambiguous range 0.225 m of 16" in note


def test_antennas_that_cannot_be_right_are_noticed() -> None:
    sound = head(0.3)
    flat = replace(sound, array=sound.array.replace(rx=torch.zeros(94, 3)))
    assert check_recording(flat)[0] == "94 receivers are at 1 different positions: are they right?"
    behind = replace(sound, array=sound.array.moved(translation=torch.tensor([0.0, 0.0, 0.5])))
    [note] = outside_depths(behind, 0.23, 0.47)
    assert "antennas are at up to z = 0.5 m, beyond the depth 0.23 m that is imaged" in note


def test_swapped_antennas_are_named() -> None:
    """Two of each side before forty points, with as much noise as signal; none where none is, and
    none for noise alone, a plate, or an array with pairs, of which nothing can be said."""
    random = torch.Generator().manual_seed(2)
    clean = head(0.28, 24).signal
    array, waveform = qar50(), qar50_waveform(24)
    noise = torch.randn(clean.shape, dtype=torch.complex64, generator=random)
    signal = clean + noise * clean.abs().square().mean().sqrt()
    rx, tx = torch.arange(94), torch.arange(94)
    rx[5], rx[50], tx[7], tx[33] = 50, 5, 33, 7
    swapped = Recording(signal[rx][:, tx], array, waveform)
    assert swapped_antennas(swapped) == [("rx", 5, 50), ("tx", 7, 33)]
    assert "swapped channels    rx 5 and 50 (counted from 0) likely" in str(inspect(swapped))
    vertices, triangles = plate((0, 0, 0.32), 0.15, 0.15, facet=5e-3)
    flat = simulate(vertices.float(), triangles, array, waveform)
    pairs = array.subset(channels=torch.arange(94 * 94).reshape(94, 94) % 7 == 0)
    some = signal.reshape(-1, 24)[::7]
    for sound in (
        Recording(signal, array, waveform),
        Recording(noise, array, waveform),
        Recording(flat, array, waveform),
        Recording(some, pairs, waveform),
    ):
        assert swapped_antennas(sound) == []


def test_the_benchmark_swaps_two_antennas() -> None:
    order, (i, j) = swapped(94, torch.Generator().manual_seed(0))
    assert (order != torch.arange(94)).nonzero()[:, 0].tolist() == [i, j]
    assert (int(order[i]), int(order[j])) == (j, i)
