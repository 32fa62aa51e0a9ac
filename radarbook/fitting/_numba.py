"""The kernel of :mod:`radarbook.fitting.fused` for a processor, compiled by Numba at first use.

Plain loops over antennas, which the compiler turns into vector instructions: hence polynomials for
sine and cosine, and no branch that is not a choice between two values. All constants are float32: a
Python number would make everything double.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 0.5, 1, 2))
_PI, _TURNS = np.float32(math.pi), np.float32(0.5 / math.pi)
#: Below, a sinc is 1, and a facet is seen too flat to count.
_SMALL = np.float32(1e-4)


def _series(first: int) -> list[np.float32]:
    """Of the cosine (0) or the sine (1) of a whole turn times its argument, every second one."""
    turn = 2 * math.pi
    return [np.float32((-1) ** (n // 2) * turn**n / math.factorial(n)) for n in range(first, 15, 2)]


#: Up to a quarter turn the terms left out, π/2 to the 15th and 16th, are below 1e-9.
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7 = _series(0)
_S0, _S1, _S2, _S3, _S4, _S5, _S6 = _series(1)


def _compiled(**more: Any) -> Callable[[Callable[..., Any]], Any]:
    """Machine code; sums may be fused with products, and values are finite."""
    options = {"fastmath": {"contract", "nnan", "ninf", "nsz"}, "error_model": "numpy"} | more

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place that may be written to: compiled in every process
            return numba.njit(**options)(function)

    return compiled


@_compiled(inline="always")
def _turned(turns):  # type: ignore[no-untyped-def]
    """Cosine and sine of so many turns, brought to a quarter of one first."""
    half = np.floor(_TWO * turns + _HALF)
    rest = turns - _HALF * half
    sign = _ONE - _TWO * (half - _TWO * np.floor(_HALF * half))
    x = rest * rest
    cosine = _C0 + x * (_C1 + x * (_C2 + x * (_C3 + x * (_C4 + x * (_C5 + x * (_C6 + x * _C7))))))
    sine = _S0 + x * (_S1 + x * (_S2 + x * (_S3 + x * (_S4 + x * (_S5 + x * _S6)))))
    return sign * cosine, sign * rest * sine


@_compiled(inline="always")
def _sinc(x):  # type: ignore[no-untyped-def]
    """sin(πx) / πx, for |x| of a few."""
    _, sine = _turned(_HALF * x)
    return _ONE if abs(x) < _SMALL else sine / (_PI * x)


@_compiled(nogil=True)
def waves_kernel(  # type: ignore[no-untyped-def]
    start,
    stop,
    centre,
    normal,
    antennas,
    size,
    seen,
    has_seen,
    weight,
    has_weight,
    first,
    step,
    out,
):
    """Facets ``start`` to ``stop``, one by one, frequency by frequency.

    ``antennas`` (3, A), ``out`` (f, stop - start, 2 A) with real and imaginary parts side by side;
    the other arguments as in :func:`radarbook.fitting.fused.waves`, ``weight`` (f, N, 2), and what
    is not looked at of any size.
    """
    width = antennas.shape[1]
    real, imaginary = np.empty(width, np.float32), np.empty(width, np.float32)
    turn, back = np.empty(width, np.float32), np.empty(width, np.float32)
    first, step = first * _TURNS, step * _TURNS
    for n in range(start, stop):
        x, y, z = centre[n, 0], centre[n, 1], centre[n, 2]
        nx, ny, nz = normal[n, 0], normal[n, 1], normal[n, 2]
        wide = size[n]
        for a in range(width):
            dx, dy, dz = x - antennas[0, a], y - antennas[1, a], z - antennas[2, a]
            length = math.sqrt(dx * dx + dy * dy + dz * dz)
            away = _ONE / length
            cosine = -(nx * dx + ny * dy + nz * dz) * away
            gain = math.sqrt(max(cosine, _SMALL)) if cosine > _SMALL else _ZERO
            gain = gain * away * _sinc(dx * away * wide) * _sinc(dy * away * wide)
            cosine, sine = _turned(first * length)
            real[a], imaginary[a] = gain * cosine, -gain * sine
            turn[a], back[a] = _turned(step * length)
        if has_seen:
            piece = n % len(seen)
            for a in range(seen.shape[1]):
                real[a] *= seen[piece, a]
                imaginary[a] *= seen[piece, a]
        for f in range(len(out)):
            if has_weight:
                wr, wi = weight[f, n, 0], weight[f, n, 1]
                for a in range(width):
                    out[f, n - start, 2 * a] = real[a] * wr - imaginary[a] * wi
                    out[f, n - start, 2 * a + 1] = real[a] * wi + imaginary[a] * wr
            else:
                for a in range(width):
                    out[f, n - start, 2 * a] = real[a]
                    out[f, n - start, 2 * a + 1] = imaginary[a]
            # e^{-j step d} further.
            for a in range(width):
                ahead = real[a] * turn[a] + imaginary[a] * back[a]
                imaginary[a] = imaginary[a] * turn[a] - real[a] * back[a]
                real[a] = ahead
