"""Faults of a recording that can be read but gives a wrong image.

All checks return text for the user, one line for each finding, and nothing if a finding is
uncertain.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from radarbook.datasets.recordings.recording import Recording
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid, back_project, imaging_method
from radarbook.radar.waveform import C0, Waveform

#: Power of a channel, relative to the median of all, below which it is dead: -60 dB. The channels
#: of simulated faces, plates and spheres differ by 30 dB at most.
_DEAD = 1e-6
#: Fewer steps make no range profile.
_FEWEST_STEPS = 8
#: m, unambiguous range below which a positive range may be that of a conjugated signal, too.
_SHORTEST_RANGE = 0.4
#: m, farthest distance at which an image is tried where a peak of the range profile stands for
#: several.
_FARTHEST_FOCUS = 0.75
#: How much more peak power the image of the conjugated signal must have: 6 dB. Of 40 points in a
#: head's volume, 8 to 128 steps of the QAR50, with as much noise as signal, it has 10 to 13 dB more
#: at 0.25 m and 1 to 12 dB at 1.2 m if the signal is conjugated, and as much less if it is sound. A
#: plate is sharp in neither image, and gives no note.
_SHARPER = 6.0
#: Peak of the range profile outside the image's depths over that inside, from which on the image
#: shows side lobes and noise: 10 dB.
_OUTSIDE = 10.0
#: Antennas and steps that are enough to compare two images.
_ANTENNAS = 32
_CHANNELS = 256
_STEPS = 32


def check_recording(recording: Recording) -> list[str]:
    """Faults of the recording itself: dead channels, missing pairs, a conjugated signal.

    One line for each finding, none for a sound recording.
    """
    half = _missing_part(recording.signal)
    # Half of a signal has each echo at positive and negative ranges alike.
    return [
        *_coinciding(recording.array),
        *_silent_parts(recording.signal),
        *(half or _phase_sign(recording)),
    ]


def _coinciding(array: Array) -> list[str]:
    """Antennas of an array without pairs that share a position."""
    if array.pairs is not None:
        return []
    notes = []
    for name, positions in (("receivers", array.rx), ("transmitters", array.tx)):
        places = len(torch.unique(positions.detach(), dim=0))
        if places < len(positions):
            notes.append(
                f"{len(positions)} {name} are at {places} different positions: are they right?"
            )
    return notes


def _silent_parts(signal: Tensor) -> list[str]:
    """Receivers, transmitters, frequency steps and single pairs without a signal."""
    power = signal.real.square() + signal.imag.square()
    pairs = power.sum(-1)  # (rx, tx) or (pair,)
    notes = []
    dead = []
    kinds = [("frequency step", power.sum(tuple(range(power.ndim - 1))))]
    if pairs.ndim == 2:
        kinds = [("receiver", pairs.sum(1)), ("transmitter", pairs.sum(0)), *kinds]
    else:
        kinds = [("channel", pairs), *kinds]
    for name, sums in kinds:
        # The median of the other channels: with half of them dead, 0 would be the median of all.
        living = sums[sums > 0]
        silent = sums <= _DEAD * living.median()
        dead.append(silent)
        if bool(silent.any()):
            notes.append(_dead_line(name, silent))
    if pairs.ndim == 1:
        return notes
    missing = (pairs == 0) & ~dead[0][:, None] & ~dead[1][None]
    count = int(missing.sum())
    if count:
        rx, tx = missing.nonzero()[0].tolist()
        notes.append(
            f"{count} of {missing.numel()} pairs of antennas have no signal (zeros), "
            f"the first is receiver {rx}, transmitter {tx}, counted from 0"
        )
    return notes


def _missing_part(signal: Tensor) -> list[str]:
    """A signal of real or of imaginary numbers only."""
    for name, part in (("real", signal.real), ("imaginary", signal.imag)):
        if not bool(part.any()):
            return [f"the {name} part is 0 everywhere: one of I and Q was not recorded"]
    return []


def _dead_line(name: str, silent: Tensor) -> str:
    numbers = silent.nonzero()[:, 0].tolist()
    shown = ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")
    return (
        f"{len(numbers)} of {len(silent)} {name}s {'is' if len(numbers) == 1 else 'are'} dead "
        f"(at least 60 dB below the median): number {shown}, counted from 0"
    )


# -- range profiles -----------------------------------------------------------------------------


def coupling_reach(recording: Recording) -> float:
    """m, half path up to which an echo may be the antennas' coupling.

    Half the longest way from a transmitter to a receiver, and two cells of resolution for the width
    of the profile and for cables.
    """
    array, waveform = recording.array, recording.waveform
    antennas = torch.cat([array.tx, array.rx]).detach()
    if array.pairs is None:
        longest = float((antennas.amax(0) - antennas.amin(0)).norm())
    else:
        tx, rx = array.pairs.unbind(1)
        longest = float((array.tx[tx] - array.rx[rx]).norm(dim=1).max())
    return longest / 2 + C0 / max(waveform.bandwidth, 1.0)


def range_profile(signal: Tensor, waveform: Waveform, finer: int = 1) -> tuple[Tensor, Tensor]:
    """Mean power of all pairs at half the path, over one unambiguous range.

    Parameters
    ----------
    signal : Tensor (..., f)
    finer : int
        Samples in half a cell of range.

    Returns
    -------
    ranges : Tensor (N,), float64
        Half paths, m, from minus to plus half the unambiguous range.
    power : Tensor (N,), float64

    Examples
    --------
    >>> import radarbook as rb
    >>> point = torch.tensor([[0.0, 0.0, 0.4]])
    >>> signal = rb.simulate_points(point, torch.ones(1), rb.qar50(), rb.qar50_waveform(32))
    >>> ranges, power = range_profile(signal, rb.qar50_waveform(32), finer=4)
    >>> round(float(ranges[power.argmax()]) % (2 * float(-ranges[0])), 1)
    0.4
    """
    span = waveform.unambiguous_range
    count = 2 * finer * len(waveform)
    ranges = (torch.arange(count, dtype=torch.float64) / count - 0.5) * span
    window = torch.hann_window(len(waveform) + 2, periodic=False, dtype=torch.float64)[1:-1]
    phase = 2 * waveform.wavenumbers[:, None] * ranges
    kernel = torch.polar(window[:, None].expand_as(phase), phase)
    pairs = signal.reshape(-1, signal.shape[-1])
    profile = pairs @ kernel.to(signal.dtype)
    return ranges, (profile.real.double().square() + profile.imag.double().square()).mean(0)


def _phase_sign(recording: Recording) -> list[str]:
    """A signal that focuses only when it is conjugated.

    Its echoes come from negative ranges, but so do those of a target beyond half the unambiguous
    range. Wave fronts of a conjugated signal are curved the wrong way: no image of it is sharp, at
    any of the distances that the range profile allows.
    """
    waveform = recording.waveform
    if len(waveform) < _FEWEST_STEPS:
        return []
    peak = strongest_range(recording)
    if peak >= 0 and waveform.unambiguous_range >= _SHORTEST_RANGE:
        return []
    gain = conjugate_gain(recording)
    if gain < _SHARPER:
        return []
    return [
        f"the strongest echo is at {peak:.2f} m and the image of the conjugated signal has "
        f"{gain:.0f} dB more peak power: I and Q are likely swapped; --conjugate turns them"
    ]


def strongest_range(recording: Recording) -> float:
    """m, half path of the strongest echo, within plus and minus half the unambiguous range."""
    ranges, power = range_profile(recording.signal, recording.waveform)
    return float(ranges[power.argmax()])


def conjugate_gain(recording: Recording) -> float:
    """dB of peak power that the image of the conjugated signal has over that of the signal.

    Both are imaged around the strongest echo, at each distance up to 0.75 m that it may have.
    Negative for a sound signal; near 0 where the scene or a small array has no focus.
    """
    coarse, peak = recording.thinned(_ANTENNAS, _CHANNELS, _STEPS), strongest_range(recording)
    coarse = replace(coarse, array=coarse.array.own())
    turned = coarse.conjugated()
    as_it_is = max(_focus(coarse, d) for d in _distances(peak, recording.waveform))
    conjugated = max(_focus(turned, d) for d in _distances(-peak, recording.waveform))
    return 10 * math.log10(max(conjugated, 1e-300) / max(as_it_is, 1e-300))


def _distances(peak: float, waveform: Waveform) -> list[float]:
    """Distances, m, that a peak of the range profile may stand for."""
    span = waveform.unambiguous_range
    turns = range(1 + int(_FARTHEST_FOCUS / span))
    found = [peak % span + n * span for n in turns]
    return [d for d in found if d <= _FARTHEST_FOCUS] or found[:1]


def _focus(recording: Recording, distance: float) -> float:
    """Peak power of a coarse image around ``distance`` (m)."""
    width = max(0.2, 0.6 * distance)
    grid = Grid.regular(width, 48, max(0.02, distance - 0.06), distance + 0.08, 12)
    with torch.no_grad():
        volume = back_project(
            recording.signal,
            recording.array,
            recording.waveform,
            grid,
            method=imaging_method(recording.array, recording.waveform, grid),
        )
    return float((volume.real.square() + volume.imag.square()).max())


# -- against an image's depths ------------------------------------------------------------------


def outside_depths(
    recording: Recording, near: float, far: float, *, extent: float = 0.3
) -> list[str]:
    """Notes if an image of depths ``near`` to ``far`` (m) shows no target, or repeats it.

    ``extent`` is the image's side, m. One line for each finding; none for an array that is turned
    away from the z axis of the radar frame, along which depths are.
    """
    looks = recording.array.rotation[:, 2].cpu()
    if not torch.allclose(looks, torch.eye(3, dtype=looks.dtype)[2]):
        return []
    span = recording.waveform.unambiguous_range
    front = max(float(p[:, 2].max()) for p in (recording.array.tx, recording.array.rx))
    if front >= near:
        return [
            f"antennas are at up to z = {front:.3g} m, beyond the depth {near:g} m that is imaged: "
            "the array looks along +z"
        ]
    if far - near > span:
        return [
            f"the depths span {far - near:.3g} m, more than the unambiguous range {span:.3g} m of "
            f"{len(recording.waveform)} frequency steps: each echo appears more than once"
        ]
    if len(recording.waveform) < _FEWEST_STEPS:
        return []
    # The longest half path to a corner of the image at its far end.
    reach = max(float(p[:, :2].norm(dim=1).max()) for p in (recording.array.tx, recording.array.rx))
    farthest = math.hypot(far, reach + extent / math.sqrt(2))
    # A cell of range on either side: twice the resolution of the windowed profile.
    cell = C0 / (2 * recording.waveform.bandwidth)
    if farthest - near + 4 * cell >= span:
        return []
    ranges, power = range_profile(recording.signal, recording.waveform)
    inside = (ranges - (near - 2 * cell)) % span <= farthest - near + 4 * cell
    if float(power[~inside].max()) < _OUTSIDE * float(power[inside].max()):
        return []
    strongest = float(ranges[power.argmax()])
    coupling = "; it may be the antennas' coupling" * (0 <= strongest < coupling_reach(recording))
    lower = 10 * math.log10(float(power.max()) / max(float(power[inside].max()), 1e-300))
    return [
        f"the strongest echo is at {strongest:.2f} m (or {strongest + span:.2f} m), outside the "
        f"depths {near:g} to {far:g} m, within which the range profile is {lower:.0f} dB lower"
        f"{coupling}"
    ]
