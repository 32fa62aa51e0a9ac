"""A referee for two reflections: vector physical optics point by point, float64, in numpy.

It shares nothing with :mod:`radarbook.radar`. Points lie on the smooth surface, a quarter of a
wavelength apart or closer. The first surface's currents follow from Fresnel's coefficients at the
true angle of incidence, the field on the second from Stratton and Chu's integral of both currents,
and the receivers' from the same integral over the second surface's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]
Complexes = NDArray[np.complex128]


@dataclass(frozen=True)
class Surface:
    """N points: place (N, 3) m, unit normal (N, 3), area (N,) m²."""

    place: Reals
    normal: Reals
    area: Reals


def ball(centre: tuple[float, float, float], radius: float, step: float) -> Surface:
    """A Fibonacci lattice of points, ``step`` apart."""
    count = round(4 * np.pi * radius**2 / step**2)
    n = np.arange(count) + 0.5
    z, turn = 1 - 2 * n / count, np.pi * (1 + 5**0.5) * n
    flat = np.sqrt(1 - z**2)
    normal = np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)
    area = np.full(count, 4 * np.pi * radius**2 / count)
    return Surface(np.asarray(centre) + radius * normal, normal, area)


def plane(centre: tuple[float, float, float], across: Reals, along: Reals, step: float) -> Surface:
    """A parallelogram of sides ``across`` and ``along`` (3,); its normal is their product's."""
    counts = [max(1, round(float(np.linalg.norm(side)) / step)) for side in (across, along)]
    u, v = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in counts), indexing="ij")
    place = np.asarray(centre) + u.reshape(-1, 1) * across + v.reshape(-1, 1) * along
    product = np.cross(across, along)
    size = float(np.linalg.norm(product))
    normal = np.broadcast_to(product / size, place.shape)
    return Surface(place, normal, np.full(len(place), size / len(place)))


def join(*surfaces: Surface) -> Surface:
    return Surface(
        *(np.concatenate([getattr(s, n) for s in surfaces]) for n in ("place", "normal", "area"))
    )


def _unit(v: Reals) -> Reals:
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _currents(
    field: Complexes, heading: Reals, normal: Reals, permittivity: complex | None
) -> tuple[Complexes, Complexes]:
    """η n × H and E × n of a wave (N, 3) and of its reflection by the tangent plane; 0 where it
    comes from behind. In units of the field."""
    cosine = -(heading * normal).sum(-1, keepdims=True)
    lit = cosine > 1e-9
    c = np.where(lit, cosine, 1.0)
    if permittivity is None:
        te = tm = np.full(c.shape, -1.0 + 0j)
    else:
        q = np.sqrt(permittivity - (1 - c**2) + 0j)
        te, tm = (c - q) / (c + q), (q - permittivity * c) / (q + permittivity * c)
    side = np.cross(heading, normal)
    size = np.linalg.norm(side, axis=-1, keepdims=True)
    other = np.cross(normal, [1.0, 0.0, 0.0]) + 1e-9 * np.cross(normal, [0.0, 1.0, 0.0])
    side = np.where(size > 1e-9, side / np.maximum(size, 1e-30), _unit(other))
    leaving = heading + 2 * cosine * normal
    before, after = np.cross(heading, side), np.cross(leaving, side)
    one, two = ((field * e).sum(-1, keepdims=True) for e in (side, before))
    reflected = te * one * side - tm * two * after
    magnetic = np.cross(heading, field) + np.cross(leaving, reflected)
    electric = np.cross(normal, magnetic)
    return np.where(lit, electric, 0), np.where(lit, np.cross(field + reflected, normal), 0)


def second_reflection(
    surface: Surface,
    tx: Reals,
    rx: Reals,
    wavenumbers: Reals,
    *,
    polarisation: tuple[tuple[float, float, float], tuple[float, float, float]],
    permittivity: complex | None,
    sees: NDArray[np.bool_] | None = None,
    chunk: int = 256,
) -> Complexes:
    """(rx, tx, f) of all paths antenna - point - other point - antenna between isotropic antennas.

    ``sees`` (N, N): whether a point sees another that it faces; None: always.
    """
    out = np.zeros((len(rx), len(tx), len(wavenumbers)), dtype=complex)
    place, normal, area = surface.place, surface.normal, surface.area
    for step, k in enumerate(wavenumbers):
        electric, magnetic = [], []
        for t in tx:
            path = place - t
            length = np.linalg.norm(path, axis=1, keepdims=True)
            heading = path / length
            p = np.asarray(polarisation[0])
            field = _unit(p - (heading @ p)[:, None] * heading) * np.exp(-1j * k * length) / length
            e, m = _currents(field, heading, normal, permittivity)
            electric.append(e * area[:, None])
            magnetic.append(m * area[:, None])
        e, m = np.stack(electric, 1), np.stack(magnetic, 1)  # (N, T, 3)
        for start in range(0, len(place), chunk):
            part = slice(start, start + chunk)
            for t in range(len(tx)):
                second = _second(surface, part, e[:, t], m[:, t], k, permittivity, sees)
                for r, receiver in enumerate(rx):
                    back = receiver - place[part]
                    far = np.linalg.norm(back, axis=1, keepdims=True)
                    s = back / far
                    wave = np.exp(-1j * k * far) / far * area[part][:, None]
                    seen = (s * normal[part]).sum(1) > 0
                    radiated = _radiate(second[0], second[1], s, k) * wave
                    q = np.asarray(polarisation[1])
                    taken = _unit(q + (s @ q)[:, None] * -s)
                    out[r, t, step] += (radiated * taken).sum(1)[seen].sum()
    return out


def _radiate(electric: Complexes, magnetic: Complexes, s: Reals, k: float) -> Complexes:
    """Field towards s of currents ηJ and M, without e^{-jkr}/r."""
    along = (electric * s).sum(-1, keepdims=True) * s
    return -1j * k / (4 * np.pi) * (electric - along - np.cross(s, magnetic))


def _second(
    surface: Surface,
    part: slice,
    electric: Complexes,
    magnetic: Complexes,
    k: float,
    permittivity: complex | None,
    sees: NDArray[np.bool_] | None,
) -> tuple[Complexes, Complexes]:
    """Currents of the points ``part`` that the whole surface's currents cause."""
    place, normal = surface.place, surface.normal
    lit = np.abs(electric).sum(1) + np.abs(magnetic).sum(1) > 0
    step = place[part][:, None] - place[None]
    faces = (step * normal).sum(-1) > 1e-9
    faces &= -(step * normal[part][:, None]).sum(-1) > 1e-9
    faces &= lit
    if sees is not None:
        faces &= sees[part]
    target, source = np.nonzero(faces)
    path = step[target, source]
    length = np.linalg.norm(path, axis=1, keepdims=True)
    s = path / length
    field = _radiate(electric[source], magnetic[source], s, k) * np.exp(-1j * k * length) / length
    # The wave of each pair has a direction of its own, and so a reflection.
    e, m = _currents(field, s, normal[part][target], permittivity)
    sums = []
    for value in (e, m):
        total = np.zeros((len(place[part]), 3), dtype=complex)
        if len(target):
            # Targets come in order.
            reached, first = np.unique(target, return_index=True)
            total[reached] = np.add.reduceat(value, first)
        sums.append(total)
    return sums[0], sums[1]
