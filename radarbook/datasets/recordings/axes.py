"""Numbers of a recording's file in the library's units, order and precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.waveform import FREQUENCY_UNITS, Waveform, likely_frequency_unit

#: Largest amplitude of a signal: beyond, powers of an image leave single precision, up by the
#: 60 dB of amplitude that an image gains, down by the dynamic range.
_AMPLITUDES = 1e-15, 1e12


def numbers(values: Any, source: str) -> NDArray[np.float64]:
    """Real numbers of a file as float64, whatever their byte order and size."""
    found = np.asarray(values)
    if found.dtype.kind not in "fiu":
        kind = "text" if found.dtype.kind in "OSUT" else f"dtype {found.dtype}"
        raise InputError(f"{source}: expected numbers, found {kind}")
    return found.astype(np.float64)


def waveform_of(values: NDArray[np.float64], unit: str, source: str) -> Waveform:
    """The ascending frequencies of a file; the caller orders the signal's steps."""
    ordered = np.sort(values)
    if not np.isfinite(ordered).all():
        raise InputError(f"{source}: expected finite frequencies, found NaN or infinity")
    twice = ordered[1:][np.diff(ordered) == 0]
    if len(twice):
        raise InputError(f"{source}: expected each frequency once, found {twice[0]:g} {unit} twice")
    try:
        return Waveform(torch.from_numpy(_equal_steps(ordered) * FREQUENCY_UNITS[unit]))
    except InputError as error:
        likely = likely_frequency_unit(ordered[0], ordered[-1]) if ordered.size else None
        advice = f" (--frequency-unit {likely})" if likely not in (None, unit) else ""
        raise InputError(f"{source}: {error}{advice}") from None


def _equal_steps(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers of single precision whose steps are equal but for its rounding, with equal steps.

    Some methods need equal steps, and a file of float32 can only come near them.
    """
    if ordered.size == 0 or not np.array_equal(ordered, ordered.astype(np.float32)):
        return ordered
    equal = np.linspace(ordered[0], ordered[-1], len(ordered))
    rounding = np.finfo(np.float32).eps * np.abs(ordered)
    return equal if bool((np.abs(equal - ordered) <= rounding).all()) else ordered


def require_apart(array: Array, waveform: Waveform, source: str, advice: str) -> None:
    """Refuse antennas so close together that their unit must be another."""
    antennas = torch.cat([array.tx, array.rx])
    width = float((antennas.amax(0) - antennas.amin(0)).max())
    # One antenna, or one that both transmits and receives, has no width.
    if 0 < width < waveform.wavelength / 10:
        raise InputError(
            f"{source}: expected antennas farther apart, found all antennas within {width:.3g} m, "
            f"less than a tenth of the wavelength {waveform.wavelength:.3g} m; {advice}"
        )


def in_order(
    signal: NDArray[Any], values: NDArray[np.float64], source: str
) -> tuple[NDArray[Any], list[str]]:
    """The signal (rx, tx, f) in the order of ascending frequencies, and a note if that is new."""
    steps = np.diff(values)
    if (steps > 0).all():
        return signal, []
    if (steps < 0).all():
        found = "descending frequencies, reversed together with the signal"
    else:
        found = "unordered frequencies, sorted together with the signal"
    return signal[..., np.argsort(values)], [f"{source}: {found}"]


def complex64(signal: NDArray[Any], source: str) -> Tensor:
    """The signal in single precision, which must hold its powers, too."""
    low, high = _AMPLITUDES
    wrong = int(np.count_nonzero(~np.isfinite(signal)))
    if wrong:
        raise InputError(
            f"{source}: expected finite samples, found NaN or infinity in {wrong} of {signal.size}"
        )
    # Of the parts: the absolute value of huge ones would overflow.
    largest = max(float(np.abs(part).max()) for part in (signal.real, signal.imag))
    if not low <= largest <= high:
        raise InputError(
            f"{source}: expected amplitudes up to between {low:g} and {high:g}, whose powers "
            f"single precision holds, found up to {largest:.3g}; scale the signal"
        )
    return torch.from_numpy(np.ascontiguousarray(signal, dtype=np.complex64))
