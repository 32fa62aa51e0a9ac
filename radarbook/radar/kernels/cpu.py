"""The kernels of a CPU, compiled by Numba at first use (:mod:`radarbook.radar.kernels.launch`).

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

from radarbook.radar.legs import GRAZING

_ZERO, _HALF, _ONE, _TWO = (np.float32(value) for value in (0, 0.5, 1, 2))
_PI, _TURNS = np.float32(math.pi), np.float32(0.5 / math.pi)
_THREE, _TINY = np.float32(3), np.finfo(np.float32).tiny
_FOUR = np.float32(4)
#: Corners (0, 1, 2) and middles of the edges 01, 12, 20 (3, 4, 5) of the flat parts of a bent
#: facet.
_PARTS = np.array([[0, 3, 5], [3, 1, 4], [5, 4, 2], [4, 5, 3]])
#: 2 / n!, of the phase integral's series.
_F4, _F5, _F6, _F7, _F8, _F9, _F10, _F11 = (np.float32(2 / math.factorial(n)) for n in range(4, 12))
#: Facets of a block of pairs' sums: its accumulators stay in the nearest cache.
_BLOCK = 64
#: Below, a sinc is 1.
_SMALL = np.float32(1e-4)
_GRAZING = np.float32(GRAZING)


def _series(first: int) -> list[np.float32]:
    """Of the cosine (0) or the sine (1) of a whole turn times its argument, every second one."""
    turn = 2 * math.pi
    return [np.float32((-1) ** (n // 2) * turn**n / math.factorial(n)) for n in range(first, 15, 2)]


#: Up to a quarter turn the terms left out, π/2 to the 15th and 16th, are below 1e-9.
_C0, _C1, _C2, _C3, _C4, _C5, _C6, _C7 = _series(0)
_S0, _S1, _S2, _S3, _S4, _S5, _S6 = _series(1)


def compiled(**more: Any) -> Callable[[Callable[..., Any]], Any]:
    """Machine code; sums may be fused with products, and values are finite."""
    options = {"fastmath": {"contract", "nnan", "ninf", "nsz"}, "error_model": "numpy"} | more

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no place that may be written to: compiled in every process
            return numba.njit(**options)(function)

    return decorate


@compiled(inline="always")
def phasor(turns):  # type: ignore[no-untyped-def]
    """Cosine and sine of so many turns, brought to a quarter of one first."""
    half = np.floor(_TWO * turns + _HALF)
    rest = turns - _HALF * half
    sign = _ONE - _TWO * (half - _TWO * np.floor(_HALF * half))
    x = rest * rest
    cosine = _C0 + x * (_C1 + x * (_C2 + x * (_C3 + x * (_C4 + x * (_C5 + x * (_C6 + x * _C7))))))
    sine = _S0 + x * (_S1 + x * (_S2 + x * (_S3 + x * (_S4 + x * (_S5 + x * _S6)))))
    return sign * cosine, sign * rest * sine


@compiled(inline="always")
def _sinc(x):  # type: ignore[no-untyped-def]
    """sin(πx) / πx, for |x| of a few."""
    _, sine = phasor(_HALF * x)
    return _ONE if abs(x) < _SMALL else sine / (_PI * x)


@compiled(inline="always")
def gain(dx, dy, dz, nx, ny, nz, inverse, size):  # type: ignore[no-untyped-def]
    """Gain 1/m of a leg: Eq. (P3.2), as :func:`radarbook.radar.legs.amplitude`. From antenna to
    facet (dx, dy, dz), of length 1 / ``inverse``; the facet's normal (nx, ny, nz); the antenna's
    size in wavelengths."""
    cosine = -(nx * dx + ny * dy + nz * dz) * inverse
    value = math.sqrt(max(cosine, _GRAZING)) if cosine > _GRAZING else _ZERO
    return value * inverse * _sinc(dx * inverse * size) * _sinc(dy * inverse * size)


@compiled(inline="always")
def leg(dx, dy, dz, nx, ny, nz, size):  # type: ignore[no-untyped-def]
    """Gain 1/m (:func:`gain`), length m and cosine with z of a leg."""
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    inverse = _ONE / length
    return gain(dx, dy, dz, nx, ny, nz, inverse, size), length, dz * inverse


@compiled(inline="always")
def _polynomial(powers, x, real, imaginary):  # type: ignore[no-untyped-def]
    """Horner's rule for all ``x`` (A,) at once: complex coefficients (D + 1, 2) of rising powers,
    the value's ``real`` and ``imaginary`` parts (A,)."""
    most = len(powers) - 1
    c, s = powers[most, 0], powers[most, 1]
    for a in range(len(x)):
        real[a], imaginary[a] = c, s
    for d in range(most - 1, -1, -1):
        c, s = powers[d, 0], powers[d, 1]
        for a in range(len(x)):
            real[a] = real[a] * x[a] + c
            imaginary[a] = imaginary[a] * x[a] + s


@compiled(nogil=True)
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
    powers,
    slope,
    offset,
    has_crossing,
    first,
    step,
    out,
):
    """Facets ``start`` to ``stop``, one by one, frequency by frequency.

    ``antennas`` (3, A), ``out`` (3, f, stop - start, A): real parts, imaginary parts, and the sums
    of both; the other arguments as in :class:`radarbook.radar.kernels.launch.Leg` and
    :class:`~radarbook.radar.kernels.launch.Crossing`, ``weight`` (f, N, 2), ``powers``
    (f, D + 1, 2), and what is not looked at of any size.
    """
    width = antennas.shape[1]
    real, imag = np.empty(width, np.float32), np.empty(width, np.float32)
    cos_step, sin_step = np.empty(width, np.float32), np.empty(width, np.float32)
    crossing = np.empty(width, np.float32)
    layer_real, layer_imag = np.empty(width, np.float32), np.empty(width, np.float32)
    first, step = first * _TURNS, step * _TURNS
    for n in range(start, stop):
        x, y, z = centre[n, 0], centre[n, 1], centre[n, 2]
        nx, ny, nz = normal[n, 0], normal[n, 1], normal[n, 2]
        antenna_size = size[n]
        for a in range(width):
            dx, dy, dz = x - antennas[0, a], y - antennas[1, a], z - antennas[2, a]
            gain, length, cos_z = leg(dx, dy, dz, nx, ny, nz, antenna_size)
            cosine, sine = phasor(first * length)
            real[a], imag[a] = gain * cosine, -gain * sine
            cos_step[a], sin_step[a] = phasor(step * length)
            crossing[a] = slope * cos_z + offset
        if has_seen:
            piece = n % len(seen)
            for a in range(seen.shape[1]):
                real[a] *= seen[piece, a]
                imag[a] *= seen[piece, a]
        for f in range(out.shape[1]):
            wr, wi = (weight[f, n, 0], weight[f, n, 1]) if has_weight else (_ONE, _ZERO)
            if has_crossing:
                _polynomial(powers[f], crossing, layer_real, layer_imag)
            for a in range(width):
                re, im = real[a] * wr - imag[a] * wi, real[a] * wi + imag[a] * wr
                if has_crossing:
                    re, im = (
                        re * layer_real[a] - im * layer_imag[a],
                        re * layer_imag[a] + im * layer_real[a],
                    )
                out[0, f, n - start, a] = re
                out[1, f, n - start, a] = im
                out[2, f, n - start, a] = re + im
            # e^{-j step d} further.
            for a in range(width):
                ahead = real[a] * cos_step[a] + imag[a] * sin_step[a]
                imag[a] = imag[a] * cos_step[a] - real[a] * sin_step[a]
                real[a] = ahead


@compiled(inline="always")
def _edge_mean(a, b):  # type: ignore[no-untyped-def]
    """Mean of e^{-jφ} along an edge whose end phases are a and b: real and imaginary part."""
    cosine, sine = phasor(-_HALF * (a + b) * _TURNS)
    length = _sinc((a - b) * _TURNS)
    return length * cosine, length * sine


@compiled(inline="always")
def _phase_integral(a, b, c):  # type: ignore[no-untyped-def]
    """Mean of e^{-jφ} over a triangle of corner phases a, b, c that add up to nothing.

    As :func:`radarbook.radar.scattering.phase_integral`: closed form where they differ by more than
    2, else the series, of which so many terms leave 3e-8.
    """
    low, high = min(a, b, c), max(a, b, c)
    if high - low < _TWO:
        # Complete symmetric polynomials h_n; h_2 and h_3 are these.
        e2, e3 = -(a * b + b * c + c * a), a * b * c
        h4, h5 = e2 * e2, _TWO * e2 * e3
        h6, h7 = e2 * h4 + e3 * e3, e2 * h5 + e3 * h4
        h8, h9 = e2 * h6 + e3 * h5, e2 * h7 + e3 * h6
        real = _ONE - _F4 * e2 + _F6 * h4 - _F8 * h6 + _F10 * h8
        return real, _F5 * e3 - _F7 * h5 + _F9 * h7 - _F11 * h9
    middle = -(low + high)
    first_real, first_imaginary = _edge_mean(low, middle)
    second_real, second_imaginary = _edge_mean(middle, high)
    share = _TWO / (high - low)
    return share * (first_imaginary - second_imaginary), -share * (first_real - second_real)


@compiled(inline="always")
def _cross(at, i, j, k):  # type: ignore[no-untyped-def]
    """Twice the area of the triangle of the rows i, j, k of ``at``, along its normal."""
    ux, uy, uz = at[j, 0] - at[i, 0], at[j, 1] - at[i, 1], at[j, 2] - at[i, 2]
    vx, vy, vz = at[k, 0] - at[i, 0], at[k, 1] - at[i, 1], at[k, 2] - at[i, 2]
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx


@compiled(nogil=True)
def radiators_kernel(  # type: ignore[no-untyped-def]
    vertices,
    triangles,
    parent,
    corners,
    share,
    weight,
    has_pieces,
    has_weight,
    is_smooth,
    middle,
    wavenumbers,
    weights,
    permittivity,
    conducts,
    smooth,
    centre,
    normal,
    out,
):
    """Pieces one by one: their ``centre`` and ``normal`` (P, 3), and their scattering length times
    ``weight`` at every frequency, ``out`` (f, P, 2).

    Of a smooth surface the bulges follow the ``vertices``, three a triangle. Arguments as in
    :func:`radarbook.radar.kernels.launch.radiators_on_cpu`, ``smooth`` the
    root of the coherent share of power; what is not looked at of any size.
    """
    at = np.empty((3, 3), np.float32)
    piece, bary, path = (
        np.empty((6, 3), np.float32),
        np.empty((6, 2), np.float32),
        np.empty(6, np.float32),
    )
    nodes = len(wavenumbers)
    toward, length = np.empty(3, np.float32), np.empty((nodes, 2), np.float32)
    bulges = len(vertices) - 3 * len(triangles)
    points = 6 if is_smooth else 3
    share_of = np.empty(4, np.float32)
    for n in range(len(parent)):
        t = parent[n]
        for i in range(3):
            for x in range(3):
                at[i, x] = vertices[triangles[t, i], x]
        ux, uy, uz = at[1, 0] - at[0, 0], at[1, 1] - at[0, 1], at[1, 2] - at[0, 2]
        vx, vy, vz = at[2, 0] - at[0, 0], at[2, 1] - at[0, 1], at[2, 2] - at[0, 2]
        # Corners from the triangle's first: small numbers, which round less than places do.
        for i in range(3):
            if has_pieces:
                p, q = corners[n, i, 1], corners[n, i, 2]
            else:
                p, q = _ONE if i == 1 else _ZERO, _ONE if i == 2 else _ZERO
            bary[i, 0], bary[i, 1] = p, q
        if is_smooth:
            # Middles of the edges 01, 12 and 20 as well, and all six on the patch.
            for i in range(3):
                j = (i + 1) % 3
                for x in range(2):
                    bary[3 + i, x] = _HALF * (bary[i, x] + bary[j, x])
        for i in range(points):
            p, q = bary[i, 0], bary[i, 1]
            piece[i, 0], piece[i, 1], piece[i, 2] = (
                p * ux + q * vx,
                p * uy + q * vy,
                p * uz + q * vz,
            )
            if is_smooth:
                r = _ONE - p - q
                first, second, third = _FOUR * r * p, _FOUR * p * q, _FOUR * q * r
                row = bulges + 3 * t
                for x in range(3):
                    piece[i, x] += (
                        first * vertices[row, x]
                        + second * vertices[row + 1, x]
                        + third * vertices[row + 2, x]
                    )
        if is_smooth:
            nx, ny, nz, area = _ZERO, _ZERO, _ZERO, _ZERO
            for s in range(4):
                cx, cy, cz = _cross(piece, _PARTS[s, 0], _PARTS[s, 1], _PARTS[s, 2])
                share_of[s] = math.sqrt(max(cx * cx + cy * cy + cz * cz, _TINY))
                nx, ny, nz, area = nx + cx, ny + cy, nz + cz, area + share_of[s]
            for s in range(4):
                share_of[s] /= area
            twice = math.sqrt(max(nx * nx + ny * ny + nz * nz, _TINY))
            area *= _HALF
        else:
            nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            twice = math.sqrt(max(nx * nx + ny * ny + nz * nz, _TINY))
            area = _HALF * twice
            if has_pieces:
                area *= share[n]
        nx, ny, nz = nx / twice, ny / twice, nz / twice
        normal[n, 0], normal[n, 1], normal[n, 2] = nx, ny, nz
        square = _ZERO
        for x in range(3):
            mean = (piece[0, x] + piece[1, x] + piece[2, x]) / _THREE
            whole = mean
            if is_smooth:
                # The patch's own; its parts are about that of the parts.
                whole = (piece[3, x] + piece[4, x] + piece[5, x]) / _THREE
                mean = (mean + _THREE * whole) / _FOUR
            centre[n, x] = at[0, x] + whole
            toward[x] = middle[x] - centre[n, x]
            square += toward[x] * toward[x]
            for i in range(points):
                piece[i, x] -= mean
        inverse_length = _ONE / math.sqrt(square)
        cosine = (toward[0] * nx + toward[1] * ny + toward[2] * nz) * inverse_length
        # Two-way paths beyond the centre's.
        slope = -_TWO * inverse_length
        for i in range(points):
            path[i] = slope * (
                piece[i, 0] * toward[0] + piece[i, 1] * toward[1] + piece[i, 2] * toward[2]
            )
        # The half-space's reflection, Eq. (P2.5).
        if conducts:
            gamma = np.complex64(-1)
        else:
            refracted = np.sqrt(permittivity - (_ONE - cosine * cosine))
            te = (cosine - refracted) / (cosine + refracted)
            tm = (refracted - permittivity * cosine) / (refracted + permittivity * cosine)
            gamma = _HALF * (te + tm)
        strength = smooth * area * _TURNS
        if has_weight:
            strength *= weight[n]
        # (jk / 2π) Γ A times the phase integral, Eqs. (P2.3) and (P2.4).
        for j in range(nodes):
            k = wavenumbers[j]
            if is_smooth:
                real, imaginary = _ZERO, _ZERO
                for s in range(4):
                    a, b, c = path[_PARTS[s, 0]], path[_PARTS[s, 1]], path[_PARTS[s, 2]]
                    mean = (a + b + c) / _THREE
                    a, b = a - mean, b - mean
                    re, im = _phase_integral(k * a, k * b, -k * (a + b))
                    cosine, sine = phasor(-k * mean * _TURNS)
                    real += share_of[s] * (re * cosine - im * sine)
                    imaginary += share_of[s] * (re * sine + im * cosine)
            else:
                # The third corner's makes their sum 0.
                a, b = path[0], path[1]
                real, imaginary = _phase_integral(k * a, k * b, -k * (a + b))
            length[j, 0] = -k * strength * (gamma.real * imaginary + gamma.imag * real)
            length[j, 1] = k * strength * (gamma.real * real - gamma.imag * imaginary)
        for f in range(len(out)):
            for i in range(2):
                total = _ZERO
                for j in range(nodes):
                    total += weights[f, j] * length[j, i]
                out[f, n, i] = total


@compiled(inline="always")
def within_a_turn(turns):  # type: ignore[no-untyped-def]
    """A float64 number of turns less the whole ones, float32."""
    return np.float32(turns - np.floor(turns))


@compiled(nogil=True)
def pairs_kernel(  # type: ignore[no-untyped-def]
    centre, normal, tx, rx, size, seen, columns, has_seen, lengths, first, step, out
):
    """Adds to ``out`` (P, f, 2) the signal of facets, pair by pair.

    ``centre``, ``normal`` (3, N) float32; ``tx``, ``rx`` (P, 3) float64, of each pair; ``size`` of
    the antennas in wavelengths; ``seen`` (G, N), of which ``columns`` (P, 2) are those of a pair,
    if ``has_seen``; ``lengths`` (f, 2, N) scattering lengths, real and imaginary part; ``first``
    and ``step`` turns a metre. Blocks of facets fill vector registers; sums of a block are added
    at a pair's end.
    """
    count, steps = centre.shape[1], len(lengths)
    blocks = -(-count // _BLOCK)
    room = blocks * _BLOCK
    gains = np.empty((2, room), np.float32)
    paths = np.empty((2, room), np.float64)
    c, s, cs, sn = np.empty((4, _BLOCK), np.float32)
    real, imag = np.empty((2, steps, _BLOCK), np.float32)
    for p in range(len(tx)):
        alike = tx[p, 0] == rx[p, 0] and tx[p, 1] == rx[p, 1] and tx[p, 2] == rx[p, 2]
        known = (
            p > 0
            and tx[p - 1, 0] == tx[p, 0]
            and tx[p - 1, 1] == tx[p, 1]
            and tx[p - 1, 2] == tx[p, 2]
        )
        for side in range(2):
            if side == 0 and known:
                continue
            if side == 1 and alike:
                for n in range(count):
                    gains[1, n], paths[1, n] = gains[0, n], paths[0, n]
                continue
            antenna = tx[p] if side == 0 else rx[p]
            ax, ay, az = antenna[0], antenna[1], antenna[2]
            gain_of, path_of = gains[side], paths[side]
            for n in range(count):
                x, y, z = centre[0, n] - ax, centre[1, n] - ay, centre[2, n] - az
                path = math.sqrt(x * x + y * y + z * z)
                path_of[n] = path
                inverse = _ONE / np.float32(path)
                dx, dy, dz = np.float32(x), np.float32(y), np.float32(z)
                gain_of[n] = gain(
                    dx, dy, dz, normal[0, n], normal[1, n], normal[2, n], inverse, size
                )
        real[:] = _ZERO
        imag[:] = _ZERO
        for start in range(0, count, _BLOCK):
            width = min(_BLOCK, count - start)
            sent, received = gains[0, start:], gains[1, start:]
            there, back = paths[0, start:], paths[1, start:]
            for i in range(width):
                amplitude = sent[i] * received[i]
                path = there[i] + back[i]
                cosine, sine = phasor(within_a_turn(first * path))
                c[i], s[i] = amplitude * cosine, amplitude * sine
                cs[i], sn[i] = phasor(within_a_turn(step * path))
            if has_seen:
                by_tx, by_rx = seen[columns[p, 0], start:], seen[columns[p, 1], start:]
                for i in range(width):
                    visible = by_tx[i] * by_rx[i]
                    c[i] *= visible
                    s[i] *= visible
            for f in range(steps):
                sum_re, sum_im = real[f], imag[f]
                re, im = lengths[f, 0, start:], lengths[f, 1, start:]
                for i in range(width):  # times e^{-j…}
                    sum_re[i] += re[i] * c[i] + im[i] * s[i]
                    sum_im[i] += im[i] * c[i] - re[i] * s[i]
                for i in range(width):
                    c[i], s[i] = c[i] * cs[i] - s[i] * sn[i], c[i] * sn[i] + s[i] * cs[i]
        for f in range(steps):
            for i in range(_BLOCK):
                out[p, f, 0] += real[f, i]
                out[p, f, 1] += imag[f, i]
