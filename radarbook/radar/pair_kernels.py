"""Loops of :mod:`radarbook.radar.pair_sum` and of :mod:`radarbook.radar.clusters` for a processor.

Compiled by Numba at first use. The innermost loops run over a block of points or of pairs, without
a branch, so that the compiler makes vector instructions of them.
"""

from __future__ import annotations

import math

import numpy as np

from radarbook.radar.kernels.cpu import compiled, phasor, within_a_turn

#: Points or pairs of a block: its accumulators stay in the nearest cache.
_BLOCK = 64
_ZERO = np.float32(0)


@compiled(nogil=True)
def at_points(points, tx, rx, turns, even, samples, carrier, out):  # type: ignore[no-untyped-def]
    """Adds to ``out`` (2, V) the sum over pairs and frequencies at ``points`` (V, 3).

    ``tx``, ``rx`` (P, 3); ``turns`` (F,) a metre, in equal steps if ``even``; ``samples``
    (P, F, 2) float32; ``carrier`` (V,) turns to take out.
    """
    count, steps = len(points), len(turns)
    step = (turns[steps - 1] - turns[0]) / max(steps - 1, 1)
    x, y, z, shift = np.empty((4, _BLOCK), dtype=np.float64)
    to_tx, path = np.empty((2, _BLOCK), dtype=np.float64)
    real, imag, c, s, cs, sn = np.empty((6, _BLOCK), dtype=np.float32)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        for i in range(_BLOCK):  # the last block repeats its last point
            v = min(start + i, count - 1)
            x[i], y[i], z[i], shift[i] = points[v, 0], points[v, 1], points[v, 2], carrier[v]
            real[i], imag[i] = _ZERO, _ZERO
        for p in range(len(tx)):
            ax, ay, az = tx[p, 0], tx[p, 1], tx[p, 2]
            bx, by, bz = rx[p, 0], rx[p, 1], rx[p, 2]
            known = p > 0 and tx[p - 1, 0] == ax and tx[p - 1, 1] == ay and tx[p - 1, 2] == az
            if not known:
                for i in range(_BLOCK):
                    dx, dy, dz = x[i] - ax, y[i] - ay, z[i] - az
                    to_tx[i] = math.sqrt(dx * dx + dy * dy + dz * dz)
            if ax == bx and ay == by and az == bz:
                for i in range(_BLOCK):
                    path[i] = to_tx[i] + to_tx[i]
            else:
                for i in range(_BLOCK):
                    dx, dy, dz = x[i] - bx, y[i] - by, z[i] - bz
                    path[i] = to_tx[i] + math.sqrt(dx * dx + dy * dy + dz * dz)
            for i in range(_BLOCK):
                c[i], s[i] = phasor(within_a_turn(turns[0] * path[i] - shift[i]))
            if even:
                for i in range(_BLOCK):
                    cs[i], sn[i] = phasor(within_a_turn(step * path[i]))
            for f in range(steps):
                re, im = samples[p, f, 0], samples[p, f, 1]
                if not even and f > 0:
                    for i in range(_BLOCK):
                        c[i], s[i] = phasor(within_a_turn(turns[f] * path[i] - shift[i]))
                for i in range(_BLOCK):
                    real[i] += re * c[i] - im * s[i]
                    imag[i] += re * s[i] + im * c[i]
                if even:
                    for i in range(_BLOCK):
                        c[i], s[i] = c[i] * cs[i] - s[i] * sn[i], c[i] * sn[i] + s[i] * cs[i]
        for i in range(size):
            out[0, start + i] += real[i]
            out[1, start + i] += imag[i]


@compiled(nogil=True)
def from_points(points, tx, rx, turns, even, values, carrier, out):  # type: ignore[no-untyped-def]
    """The adjoint of :func:`at_points`: adds to ``out`` (P, F, 2) the samples of ``values``
    (2, V); ``points`` (3, V)."""
    count, steps = points.shape[1], len(turns)
    step = (turns[steps - 1] - turns[0]) / max(steps - 1, 1)
    path = np.empty(_BLOCK, dtype=np.float64)
    re, im, c, s, cs, sn = np.empty((6, _BLOCK), dtype=np.float32)
    real, imag = np.empty((2, steps, _BLOCK), dtype=np.float32)
    for p in range(len(tx)):
        ax, ay, az = tx[p, 0], tx[p, 1], tx[p, 2]
        bx, by, bz = rx[p, 0], rx[p, 1], rx[p, 2]
        alike = ax == bx and ay == by and az == bz
        real[:] = _ZERO
        imag[:] = _ZERO
        for start in range(0, count, _BLOCK):
            size = min(_BLOCK, count - start)
            x, y, z = points[0, start:], points[1, start:], points[2, start:]
            shift, vr, vi = carrier[start:], values[0, start:], values[1, start:]
            if size < _BLOCK:
                re[:] = _ZERO
                im[:] = _ZERO
            for i in range(size):
                re[i], im[i] = vr[i], vi[i]
                dx, dy, dz = x[i] - ax, y[i] - ay, z[i] - az
                path[i] = math.sqrt(dx * dx + dy * dy + dz * dz)
            if alike:
                for i in range(size):
                    path[i] = path[i] + path[i]
            else:
                for i in range(size):
                    dx, dy, dz = x[i] - bx, y[i] - by, z[i] - bz
                    path[i] = path[i] + math.sqrt(dx * dx + dy * dy + dz * dz)
            for i in range(size):
                c[i], s[i] = phasor(within_a_turn(turns[0] * path[i] - shift[i]))
            if even:
                for i in range(size):
                    cs[i], sn[i] = phasor(within_a_turn(step * path[i]))
            for f in range(steps):
                if not even and f > 0:
                    for i in range(size):
                        c[i], s[i] = phasor(within_a_turn(turns[f] * path[i] - shift[i]))
                sum_re, sum_im = real[f], imag[f]
                for i in range(size):  # times e^{-j…}
                    sum_re[i] += re[i] * c[i] + im[i] * s[i]
                    sum_im[i] += im[i] * c[i] - re[i] * s[i]
                if even:
                    for i in range(size):
                        c[i], s[i] = c[i] * cs[i] - s[i] * sn[i], c[i] * sn[i] + s[i] * cs[i]
        for f in range(steps):
            for i in range(_BLOCK):
                out[p, f, 0] += real[f, i]
                out[p, f, 1] += imag[f, i]


@compiled(nogil=True)
def carrier_turns(x, y, z, sources, rates, slope, out):  # type: ignore[no-untyped-def]
    """``out`` (Z, Y, X) float64: turns Σ_i rates_i |v - source_i| + slope · v on a grid."""
    for iz in range(len(z)):
        for iy in range(len(y)):
            _row_of_turns(x, y[iy], z[iz], sources, rates, slope, out[iz, iy])


@compiled(nogil=True)
def turned(value, x, y, z, sources, rates, slope, sign, out):  # type: ignore[no-untyped-def]
    """``out`` (2, Z, Y, X): ``value`` times e^{±j2π turns}, with the turns of
    :func:`carrier_turns`."""
    row = np.empty(len(x))
    for iz in range(len(z)):
        for iy in range(len(y)):
            _row_of_turns(x, y[iy], z[iz], sources, rates, slope, row)
            re, im = value[0, iz, iy], value[1, iz, iy]
            out_re, out_im = out[0, iz, iy], out[1, iz, iy]
            for i in range(len(x)):
                c, s = phasor(within_a_turn(row[i]))
                s = sign * s
                out_re[i] = re[i] * c - im[i] * s
                out_im[i] = re[i] * s + im[i] * c


@compiled(nogil=True)
def _row_of_turns(x, y, z, sources, rates, slope, out):  # type: ignore[no-untyped-def]
    flat = slope[1] * y + slope[2] * z
    for i in range(len(x)):
        out[i] = slope[0] * x[i] + flat
    for n in range(len(sources)):
        rate, middle = rates[n], sources[n, 0]
        across = (y - sources[n, 1]) ** 2 + (z - sources[n, 2]) ** 2
        for i in range(len(x)):
            dx = x[i] - middle
            out[i] += rate * math.sqrt(dx * dx + across)


@compiled(nogil=True)
def slopes(points, tx, rx, low, high):  # type: ignore[no-untyped-def]
    """``low``, ``high`` (V, 3): least and largest gradient of the pairs' path lengths at points."""
    low[:] = np.inf
    high[:] = -np.inf
    for p in range(len(tx)):
        for v in range(len(points)):
            a0, a1, a2 = points[v, 0] - tx[p, 0], points[v, 1] - tx[p, 1], points[v, 2] - tx[p, 2]
            b0, b1, b2 = points[v, 0] - rx[p, 0], points[v, 1] - rx[p, 1], points[v, 2] - rx[p, 2]
            a = 1 / max(math.sqrt(a0 * a0 + a1 * a1 + a2 * a2), 1e-9)
            b = 1 / max(math.sqrt(b0 * b0 + b1 * b1 + b2 * b2), 1e-9)
            g0, g1, g2 = a0 * a + b0 * b, a1 * a + b1 * b, a2 * a + b2 * b
            low[v, 0], high[v, 0] = min(low[v, 0], g0), max(high[v, 0], g0)
            low[v, 1], high[v, 1] = min(low[v, 1], g1), max(high[v, 1], g1)
            low[v, 2], high[v, 2] = min(low[v, 2], g2), max(high[v, 2], g2)
