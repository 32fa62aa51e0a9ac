"""Removal of the antennas' coupling, or of anything else in an interval of range."""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.gate import RangeGate
from radarbook.radar.waveform import Waveform

#: Power per sample of what is outside the interval, relative to what is inside. A tenth of it would
#: change echoes two cells of resolution beyond the interval by 23 % of their power instead of 16 %.
_FLOOR = 1e-2


def without_ranges(signal: Tensor, waveform: Waveform, near: float, far: float) -> Tensor:
    """``signal`` without what lies at half paths of ``near`` to ``far``.

    What :class:`~radarbook.radar.gate.RangeGate` estimates to be in the interval, seen through
    each channel alone, is subtracted.

    Parameters
    ----------
    signal : Tensor (..., f), complex
    near, far : float
        Half paths of the whole recording, delays of cables included, m.

    Returns
    -------
    Tensor, as ``signal``; linear in it and differentiable.
        An echo inside is lower by 31 dB or more. One beyond the interval changes, mostly at the
        ends of the band: by 16 % of its power at two cells of resolution c/2B beyond it, 6 % at
        four, 1.5 % at ten (128 steps of 10 GHz, interval of 0.12 m).

    Raises :class:`~radarbook.errors.InputError` unless near < far and the interval is less than
    half of the unambiguous range.

    Examples
    --------
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> waveform = qar50_waveform(128)
    >>> echo = torch.exp(-2j * waveform.wavenumbers * torch.tensor([[0.03], [0.30]]))
    >>> left = without_ranges(echo, waveform, 0.0, 0.08).abs().square().mean(1)
    >>> bool(left[0] < 1e-3), bool(left[1] > 0.97)
    (True, True)
    """
    if not near < far:
        raise InputError(f"ranges: expected near < far, found {near:g} {far:g}")
    if not far - near < waveform.unambiguous_range / 2:
        raise InputError(
            f"ranges: expected an interval below half the unambiguous range, "
            f"{waveform.unambiguous_range / 2:.3g} m, found {far - near:.3g} m"
        )
    k = waveform.wavenumbers.cpu()
    inside = RangeGate(reach=(far - near) / 2, floor=_FLOOR).weights(waveform, torch.arange(len(k)))
    apart = k[:, None] - k
    middle = torch.polar(torch.ones_like(apart), -apart * (near + far))
    keep = torch.eye(len(k), dtype=torch.float64) - middle * inside
    return signal @ keep.T.to(signal)
