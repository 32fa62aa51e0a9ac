"""The kernel of a GPU, for Triton (:mod:`radarbook.radar.kernels.launch`)."""

from __future__ import annotations

import triton
import triton.language as tl

from radarbook.radar.legs import GRAZING

_PI = tl.constexpr(3.141592653589793)
_TURN = tl.constexpr(6.283185307179586)
_GRAZING = tl.constexpr(GRAZING)


@triton.jit
def _sinc(x):  # type: ignore[no-untyped-def]
    """sin(πx) / πx, for |x| of a few."""
    t = _PI * x
    small = tl.abs(t) < 1e-4
    return tl.where(small, 1.0, tl.sin(t) / tl.where(small, 1.0, t))


@triton.jit
def _turned(angle):  # type: ignore[no-untyped-def]
    """Cosine and sine of an angle of up to some hundred turns, brought to half a turn first."""
    angle = angle - _TURN * tl.floor(angle / _TURN + 0.5)
    return tl.cos(angle), tl.sin(angle)


@triton.jit
def leg(dx, dy, dz, nx, ny, nz, size):  # type: ignore[no-untyped-def]
    """Gain 1/m, length m and cosine with z of legs: Eq. (P3.2), as
    :func:`radarbook.radar.legs.amplitude`. From antenna to facet (dx, dy, dz); the facets' normals
    (nx, ny, nz); the antennas' sizes in wavelengths."""
    length = tl.sqrt(dx * dx + dy * dy + dz * dz)
    inverse = 1.0 / length
    cosine = -(nx * dx + ny * dy + nz * dz) * inverse
    gain = tl.where(cosine > _GRAZING, tl.sqrt(tl.maximum(cosine, _GRAZING)), 0.0) * inverse
    gain = gain * _sinc(dx * inverse * size) * _sinc(dy * inverse * size)
    return gain, length, dz * inverse


@triton.jit
def waves_kernel(  # type: ignore[no-untyped-def]
    centre,
    normal,
    antennas,
    size,
    seen,
    weight,
    powers,
    out,
    count,
    width,
    pieces,
    first,
    step,
    slope,
    offset,
    STEPS: tl.constexpr,
    HAS_SEEN: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    HAS_CROSSING: tl.constexpr,
    TERMS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """ROWS facets and all antennas; the waves of frequency after frequency are written, real and
    imaginary parts side by side."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < count
    column = tl.arange(0, COLUMNS)
    inside = column < width
    ax, ay, az = (
        tl.load(antennas + 3 * column, mask=inside, other=0.0)[None, :],
        tl.load(antennas + 3 * column + 1, mask=inside, other=0.0)[None, :],
        tl.load(antennas + 3 * column + 2, mask=inside, other=0.0)[None, :],
    )
    dx = tl.load(centre + 3 * row, mask=there, other=1.0)[:, None] - ax
    dy = tl.load(centre + 3 * row + 1, mask=there, other=1.0)[:, None] - ay
    dz = tl.load(centre + 3 * row + 2, mask=there, other=1.0)[:, None] - az
    nx = tl.load(normal + 3 * row, mask=there, other=0.0)[:, None]
    ny = tl.load(normal + 3 * row + 1, mask=there, other=0.0)[:, None]
    nz = tl.load(normal + 3 * row + 2, mask=there, other=0.0)[:, None]
    antenna_size = tl.load(size + row, mask=there, other=0.0)[:, None]
    gain, length, cos_z = leg(dx, dy, dz, nx, ny, nz, antenna_size)
    crossing = slope * cos_z + offset
    both = there[:, None] & inside[None, :]
    if HAS_SEEN:
        place = (row % pieces)[:, None] * width + column[None, :]
        gain = gain * tl.load(seen + place, mask=both, other=0.0)
    cosine, sine = _turned(first * length)
    real, imag = gain * cosine, -gain * sine
    cos_step, sin_step = _turned(step * length)
    # Addresses of a large batch do not fit 32 bits.
    start = 2 * (row.to(tl.int64)[:, None] * width + column[None, :])
    for f in range(STEPS):
        re, im = real, imag
        if HAS_WEIGHT:
            at = 2 * (f * count + row)
            wr = tl.load(weight + at, mask=there, other=0.0)[:, None]
            wi = tl.load(weight + at + 1, mask=there, other=0.0)[:, None]
            re, im = real * wr - imag * wi, real * wi + imag * wr
        if HAS_CROSSING:
            # The layer's polynomial by Horner's rule.
            last = powers + 2 * (f * TERMS + TERMS - 1)
            layer_real, layer_imag = (
                tl.zeros_like(re) + tl.load(last),
                tl.zeros_like(re) + tl.load(last + 1),
            )
            for d in range(1, TERMS):
                layer_real = layer_real * crossing + tl.load(last - 2 * d)
                layer_imag = layer_imag * crossing + tl.load(last - 2 * d + 1)
            re, im = re * layer_real - im * layer_imag, re * layer_imag + im * layer_real
        tl.store(out + start, re, mask=both)
        tl.store(out + start + 1, im, mask=both)
        # e^{-j step d} further.
        real, imag = real * cos_step + imag * sin_step, imag * cos_step - real * sin_step
        start += 2 * count * width
