"""What a recording holds, and what an image of it can show: ``radarbook recording info``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from radarbook.datasets.recordings.checks import (
    conjugate_gain,
    coupling_reach,
    range_profile,
)
from radarbook.datasets.recordings.recording import Recording
from radarbook.datasets.recordings.swaps import swapped_antennas
from radarbook.radar.array import Array
from radarbook.radar.autofocus import sharpness
from radarbook.radar.pair_sum import Pairs
from radarbook.radar.skeleton import unit
from radarbook.radar.waveform import C0, Waveform

#: Peaks of the range profile that are listed, and their least level, dB.
_PEAKS, _LEAST = 6, -40.0
#: A lobe of the array this strong, dB, and as many widths of the main lobe away, is a grating lobe:
#: there side lobes of a uniform aperture are below -20 dB, and a wide aperture at a short distance,
#: whose first side lobe is at -6 dB, is below -13 dB.
_GRATING, _AWAY = -10.0, 3.0
#: dB below which evidence for a sign or an order is none.
_UNCERTAIN = 3.0
#: dB that decide between two images by their sharpness: a factor of 1.5. A flat specular panel is
#: sharper by 1.4 with the wrong sign, which draws all of it together in one spot.
_SHARPER = 1.8
#: Pixels a side of the images whose sharpness is compared.
_PIXELS = 64


@dataclass(frozen=True)
class Lobes:
    """The array's response at mid-band along a line through (0, 0, stand-off).

    Attributes
    ----------
    width : float
        Of the main lobe at half amplitude (-6 dB), m; infinite where the array has no aperture.
    highest : float
        Level of the highest lobe beside it within the image, dB.
    place : float
        Where that is, m from the middle.
    """

    width: float
    highest: float
    place: float


@dataclass(frozen=True)
class SignTest:
    """A test of the sign of the phase: the signal compared with its conjugate.

    Attributes
    ----------
    what : str
        What is compared, in words that the gain is put in.
    gain : float
        dB that the conjugated signal has more; negative for a sound sign.
    decides : float
        dB from which on the test decides.
    """

    what: str
    gain: float
    decides: float

    @property
    def decided(self) -> bool:
        return abs(self.gain) >= self.decides

    def __str__(self) -> str:
        return self.what.format(f"{self.gain:+.1f} dB")


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found; ``str`` is the text.

    Attributes
    ----------
    recording : Recording
    stand_off, extent : float
        Distance and side, m, for which resolution and lobes are stated.
    peaks : tuple of (float, float)
        Half path, m, and level, dB, of the peaks of the range profile, strongest first.
    coupling : float
        m, half path up to which an echo may be the antennas' coupling.
    unambiguous_range, range_resolution : float
        m; infinite for a single frequency.
    x, y : Lobes
        Of the array across.
    sign : tuple of SignTest
        Tests of the sign of the phase, in the order in which they are believed: peak power of
        images around the strongest echo; power of the range profile at the distance that the
        description states; sharpness of the image there. The last one made decides, or none does.
    swap_gain : float or None
        dB by which the coupling is aligned better with transmitters and receivers swapped; None
        where they cannot be swapped.
    """

    recording: Recording
    stand_off: float
    extent: float
    peaks: tuple[tuple[float, float], ...]
    coupling: float
    unambiguous_range: float
    range_resolution: float
    x: Lobes
    y: Lobes
    sign: tuple[SignTest, ...]
    swap_gain: float | None
    swapped: tuple[tuple[str, int, int], ...]

    def __str__(self) -> str:
        recording, waveform = self.recording, self.recording.waveform
        axes = ", ".join(recording.array.axes)
        lines = [
            ("title", str(recording.meta.get("title", ""))),
            ("signal", f"{tuple(recording.signal.shape)} = ({axes})"),
            ("frequencies", _frequency_text(waveform)),
            ("antennas", _antenna_text(recording.array)),
            *(("done", line) for line in recording.provenance),
            ("unambiguous range", f"{self.unambiguous_range:.3g} m of half path"),
            ("range resolution", f"{1e3 * self.range_resolution:.3g} mm, c/2B"),
            *(
                (f"resolution in {name}", self._lobe_text(lobes))
                for name, lobes in (("x", self.x), ("y", self.y))
            ),
            ("range profile", self._peak_text()),
            ("sign of the phase", self._sign_text()),
            ("tx and rx", self._swap_text()),
            *(
                ("swapped channels", f"{side} {i} and {j} (counted from 0) likely, by the image")
                for side, i, j in self.swapped
            ),
            *(("note", note) for note in recording.notes),
        ]
        return "\n".join(f"{name:<19} {text}" for name, text in lines if text)

    def _lobe_text(self, lobes: Lobes) -> str:
        if not math.isfinite(lobes.width):
            return f"none at {self.stand_off:g} m: the main lobe is wider than the image"
        text = f"{1e3 * lobes.width:.3g} mm at {self.stand_off:g} m (main lobe at half amplitude); "
        away = abs(lobes.place) > _AWAY * lobes.width
        kind = "grating lobe" if away and lobes.highest > _GRATING else "highest side lobe"
        return (
            f"{text}{kind} of one frequency within ±{1e3 * self.extent / 2:.0f} mm: "
            f"{lobes.highest:.1f} dB at {1e3 * lobes.place:+.0f} mm"
        )

    def _peak_text(self) -> str:
        def place(r: float) -> str:
            """Of a negative half path also the positive one that has the same profile."""
            far = r + self.unambiguous_range
            return f"{r:.3f} m" if r >= 0 else f"{r:.3f} m (or {far:.3f} m)"

        shown = [
            f"{place(r)} {level:.1f} dB" + (" (coupling?)" if 0 <= r < self.coupling else "")
            for r, level in self.peaks
        ]
        return "; ".join(shown)

    def _sign_text(self) -> str:
        if not self.sign:
            return "undetermined: fewer than 2 frequency steps"
        last = self.sign[-1]
        if last.decided:
            return f"{last}: " + ("right" if last.gain < 0 else "likely wrong, --conjugate")
        tried = "; ".join(f"{test}, {test.decides:g} dB decide" for test in self.sign)
        return f"undetermined: {tried}"

    def _swap_text(self) -> str:
        if self.swap_gain is None:
            return ""
        found = f"with tx and rx swapped the coupling is aligned by {self.swap_gain:+.2f} dB: "
        if abs(self.swap_gain) < _UNCERTAIN / 10:
            return f"{found}undetermined"
        return found + ("as described" if self.swap_gain < 0 else "likely swapped")


def inspect(
    recording: Recording, *, stand_off: float | None = None, extent: float | None = None
) -> Inspection:
    """What a recording holds, and what an image of it can show.

    Parameters
    ----------
    recording : Recording
    stand_off : float, optional
        Distance, m, for the lateral resolution; None: the view's plane or the middle of its depths.
    extent : float, optional
        Side of the image, m, within which grating lobes are searched for; None: the view's, or 0.3.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(64)
    >>> points = torch.tensor([[0.0, 0.0, 0.30], [0.02, 0.0, 0.36]])
    >>> signal = simulate_points(points, torch.ones(2), array, waveform)
    >>> found = inspect(Recording(signal, array, waveform), stand_off=0.3)
    >>> [round(r, 2) for r, _ in found.peaks[:2]]
    [0.31, 0.37]
    >>> f"{1e3 * found.x.width:.1f} mm"
    '5.2 mm'
    """
    near, far = recording.depths()
    distance = stand_off if stand_off is not None else (near + far) / 2
    side = recording.extent(extent)
    waveform, array = recording.waveform, recording.array
    several = len(waveform) > 1
    return Inspection(
        recording=recording,
        stand_off=distance,
        extent=side,
        peaks=_peaks(recording) if several else (),
        coupling=coupling_reach(recording),
        unambiguous_range=waveform.unambiguous_range,
        range_resolution=C0 / (2 * waveform.bandwidth) if several else math.inf,
        x=lobes(array, waveform, distance, side, axis=0),
        y=lobes(array, waveform, distance, side, axis=1),
        sign=tuple(_sign_tests(recording)) if several else (),
        swap_gain=_swap_gain(recording) if several else None,
        swapped=tuple(swapped_antennas(recording)),
    )


def _sign_tests(recording: Recording) -> Iterator[SignTest]:
    """Tests up to the first that decides; those that need a stated distance only where it is."""
    said = "the image of the conjugated signal has {} peak power"
    yield (test := SignTest(said, conjugate_gain(recording), _UNCERTAIN))
    stated = recording.view.depth is not None or recording.view.stand_off is not None
    if test.decided or not stated:
        return
    near, far = recording.depths()
    gain = _mirror_gain(recording, near, far)
    if gain is not None:
        where = f"{near:g} m" if near == far else f"{near:g} to {far:g} m"
        said = f"at the stated {where} the range profile of the conjugated signal has {{}}"
        yield (test := SignTest(said, gain, _UNCERTAIN))
        if test.decided:
            return
    place = (near + far) / 2
    sharp = [sharpness(_plane(one, place)) for one in (recording, recording.conjugated())]
    said = f"the sharpness of its image in the plane at {place:g} m has {{}}"
    yield SignTest(said, 10 * math.log10(sharp[1] / sharp[0]), _SHARPER)


def _mirror_gain(recording: Recording, near: float, far: float) -> float | None:
    """dB that the range profile has at -``far`` to -``near``, where the conjugated signal's stated
    distance is, over that at the distance itself, half a cell of range added; None where the two
    overlap in the unambiguous range."""
    span, cell = recording.waveform.unambiguous_range, C0 / (2 * recording.waveform.bandwidth)
    low, high = near - cell / 2, far + cell / 2
    if 2 * (high - low) > span or not low % span < high % span <= span / 2:
        return None
    ranges, power = range_profile(recording.signal, recording.waveform, finer=4)
    here, there = (
        float(power[(side >= low % span) & (side <= high % span)].mean())
        for side in (ranges % span, -ranges % span)
    )
    return 10 * math.log10(there / here)


def _plane(recording: Recording, place: float) -> Tensor:
    """The image of the whole extent in one plane, coarsely."""
    return recording.volume(_PIXELS, None, None, plane=place)[0]


def _peaks(recording: Recording) -> tuple[tuple[float, float], ...]:
    """Local maxima of the range profile, which is periodic."""
    ranges, power = range_profile(recording.signal, recording.waveform, finer=4)
    level = 10 * torch.log10(power / power.max())
    top = (level >= level.roll(1)) & (level > level.roll(-1)) & (level > _LEAST)
    found = sorted(zip(level[top].tolist(), ranges[top].tolist(), strict=True), reverse=True)
    return tuple((place, height) for height, place in found[:_PEAKS])


def lobes(array: Array, waveform: Waveform, stand_off: float, extent: float, axis: int) -> Lobes:
    """Response of an array focused on (0, 0, ``stand_off``) along x (axis 0) or y (axis 1)."""
    k = 2 * math.pi * waveform.centre / C0
    middle = torch.tensor([[0.0, 0.0, stand_off]], dtype=torch.float64)
    tx, rx = (p.detach().cpu() for p in (array.tx, array.rx))
    pairs = array.every_pair().cpu()
    # Sines of the angles of both legs together: their spread decides the main lobe's width.
    legs = [(p - middle)[:, axis] / (p - middle).norm(dim=1) for p in (tx, rx)]
    sines = legs[0][pairs[:, 0]] + legs[1][pairs[:, 1]]
    spread = float(sines.max() - sines.min())
    if spread * k * extent < 2 * math.pi:
        return Lobes(math.inf, -math.inf, 0.0)
    step = 2 * math.pi / (k * spread) / 8
    count = min(20_000, max(64, math.ceil(extent / 2 / step)))
    offsets = torch.arange(-count, count + 1, dtype=torch.float64) * (extent / 2 / count)
    line = middle.repeat(len(offsets), 1)
    line[:, axis] = offsets
    if array.pairs is None:
        # Path differences to the middle, per antenna: far less than the pairs.
        d_tx, d_rx = (torch.cdist(line, p) - torch.cdist(middle, p) for p in (tx, rx))
        total = _sum(k, d_tx) * _sum(k, d_rx)
    else:
        one = Waveform(torch.tensor([waveform.centre], dtype=torch.float64))
        several = Pairs.of(array, one, line.device)
        phase = torch.remainder(-k * several.lengths(middle), 2 * math.pi)
        focused = unit(phase.float()).reshape(-1, 1)
        real, imag = several.at_points(focused, line)
        total = torch.complex(real.double(), imag.double())
    amplitude = (total.abs() / total[count].abs()).numpy()
    return _measured(amplitude, offsets.numpy(), count)


def _sum(k: float, paths: Tensor) -> Tensor:
    """Σ e^{jkd}: single precision holds the phase of a path difference of 1 m to 1e-4."""
    phase = (k * paths).float()
    return torch.complex(phase.cos().sum(1), phase.sin().sum(1)).to(torch.complex128)


def _measured(amplitude: np.ndarray, offsets: np.ndarray, middle: int) -> Lobes:
    """Width of the main lobe at half amplitude, and the highest lobe beside it."""
    ends = []
    beside = amplitude.copy()
    for direction in (-1, 1):
        i = middle
        while 0 < i < len(amplitude) - 1 and amplitude[i] > 0.5:
            i += direction
        if amplitude[i] > 0.5:
            return Lobes(math.inf, -math.inf, 0.0)
        before = i - direction
        share = (amplitude[before] - 0.5) / (amplitude[before] - amplitude[i])
        ends.append(offsets[before] + share * (offsets[i] - offsets[before]))
        while 0 < i < len(amplitude) - 1 and amplitude[i + direction] < amplitude[i]:
            i += direction
        beside[middle:i:direction] = 0
    best = int(beside.argmax())
    highest = 20 * math.log10(max(float(beside[best]), 1e-10))
    return Lobes(float(ends[1] - ends[0]), highest, float(offsets[best]))


def _swap_gain(recording: Recording) -> float | None:
    """dB by which the coupling is aligned better if transmitters and receivers are swapped."""
    array = recording.array
    tx, rx = array.channels[::-1] if array.pairs is None else (0, 1)
    if tx != rx or torch.equal(array.tx, array.rx):
        return None
    distance = torch.cdist(array.rx.detach().cpu(), array.tx.detach().cpu())
    here, there = (_alignment(recording, d) for d in (distance, distance.T))
    return 10 * math.log10(there / here)


def _alignment(recording: Recording, distance: Tensor) -> float:
    """Peak power of the coupling when each pair's path is taken out: the same cable for all."""
    k = recording.waveform.wavenumbers.cpu()
    window = torch.hann_window(len(k) + 2, periodic=False, dtype=torch.float64)[1:-1]
    cables = torch.linspace(-0.2, 0.2, 81, dtype=torch.float64)
    turned = recording.signal.to(torch.complex128) * torch.exp(1j * k * distance[..., None])
    kernel = torch.exp(1j * k[:, None] * cables) * window[:, None]
    return float((turned.reshape(-1, len(k)) @ kernel).abs().square().mean(0).max())


# -- text ---------------------------------------------------------------------------------------


def _frequency_text(waveform: Waveform) -> str:
    f = waveform.frequencies / 1e9
    text = f"{float(f[0]):g} to {float(f[-1]):g} GHz, {len(f)} steps"
    if len(f) > 1:
        steps = 1e3 * f.diff()
        equal = float(steps.max() - steps.min()) < 1e-3 * float(steps.mean())
        text += f" of {float(steps.mean()):.4g} MHz" + ("" if equal else " on average, not equal")
    return f"{text}; wavelength {1e3 * waveform.wavelength:.3g} mm"


def _antenna_text(array: Array) -> str:
    antennas = torch.cat([array.tx, array.rx]).detach()
    low, high = antennas.amin(0), antennas.amax(0)
    size = " x ".join(f"{1e3 * float(v):.0f}" for v in high - low)
    same = array.pairs is not None and torch.equal(array.tx, array.rx)
    if same and bool((array.every_pair()[:, 0] == array.every_pair()[:, 1]).all()):
        kind = f"{len(array.tx)} positions of one antenna"
    else:
        kind = f"{len(array.tx)} tx, {len(array.rx)} rx, {math.prod(array.channels)} pairs"
    places = ", ".join(
        f"{axis} {1e3 * float(a):.0f} to {1e3 * float(b):.0f}"
        for axis, a, b in zip("xyz", low, high, strict=True)
    )
    return f"{kind}, {size} mm: {places} mm"
