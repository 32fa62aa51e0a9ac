"""A delay that all channels of a recording share, such as that of cables."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.waveform import C0, Waveform

#: Largest delay that can be asked for, s: 15 m of range.
MOST = 1e-7


def without_delay(signal: Tensor, waveform: Waveform, seconds: float) -> Tensor:
    """``signal`` (..., rx, tx, f) with a common delay of so many seconds removed.

    With the time factor e^{+jωt} a delay τ multiplies a signal by e^{-j2πfτ}; this multiplies by
    e^{+j2πfτ}. So what a recording shows at range r moves to r - cτ/2: a positive delay brings it
    nearer, by 15 mm for 0.1 ns. Raises :class:`~radarbook.errors.InputError` for a delay that is
    not finite or beyond 100 ns.

    Examples
    --------
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> waveform = qar50_waveform(8)
    >>> delayed = torch.exp(-2j * math.pi * 1e-10 * waveform.frequencies)
    >>> torch.allclose(without_delay(delayed, waveform, 1e-10), torch.ones(8).to(delayed))
    True
    """
    if not abs(seconds) <= MOST:
        raise InputError(
            f"delay: expected seconds between {-MOST:g} and {MOST:g}, found {seconds:g}"
        )
    phase = (2 * math.pi * seconds) * waveform.frequencies
    # Reduced before rounding: a phase may be thousands of turns.
    wave = torch.polar(torch.ones_like(phase), torch.remainder(phase, 2 * math.pi))
    return signal * wave.to(signal)


def range_of_delay(seconds: float) -> float:
    """Metres by which a delay of so many seconds moves what is seen away from the array.

    Examples
    --------
    >>> round(1e3 * range_of_delay(1e-10), 1)  # mm
    15.0
    """
    return C0 * seconds / 2
