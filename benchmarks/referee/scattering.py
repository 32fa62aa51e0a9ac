"""First reflection by physical optics.

**Coherent part.** The reflected field on the surface is that of the tangent plane, Γ times the
incident one, and travels along the mirrored ray. Green's second identity carries it to the
receiver: with u = Γ e^{-jkd_t}/d_t and ∂u/∂n = -jk cosθ_t u on the surface, G = e^{-jkd_r}/d_r
and ∂G/∂n = +jk cosθ_r G,

    S[r, t] = 1/4π ∫ (u ∂G/∂n - G ∂u/∂n) dA
            = jk/2π ∫ Γ ½(cosθ_t + cosθ_r) g_t g_r e^{-jk(d_t + d_r)} / (d_t d_r) dA.        (R1)

4π|S|² d_t² d_r² is the radar cross-section. Γ is the mean of both polarisations of a half-space;
for a pair of antennas it is the geometric mean of both legs' values, which is exact where the
angles agree, as they do at the highlights. There the angle of incidence of an array like the
QAR50 is below 14° and TE and TM differ by less than 0.03 of |Γ|, so (R1) holds for either
co-polarised antenna.

**Diffuse part.** Of a material factor m, 1 - m² of the reflected power stays coherent and m²
leaves by Lambert's law. Its field is white on the surface: a point of area dA has the amplitude
m √(|Γ_t Γ_r| cosθ_t cosθ_r dA / π) z, z complex Gaussian of unit variance. So its law depends on
area alone, not on how the surface is divided, as long as points are closer than λ/4.

**Sum.** ½(cosθ_t + cosθ_r) has two terms, each a product of legs. Per wavenumber the signal is
one matrix product, (points × rx)ᵀ (points × tx), with exact distances for every antenna. Phases
are computed in float64 and reduced to one turn. With ``single`` the products are summed in float32
within blocks of a few thousand points, which changes the signal by less than 1e-5 of its largest
sample (tested).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.referee.surface import Real, Surface

Complex = NDArray[np.complex128]

#: m/s.
LIGHT = 299_792_458.0
#: Relative permittivity of skin near 77 GHz (Gabriel 1996), time factor e^{+jωt}.
SKIN = 6.6 - 8.9j
#: Points summed in one matrix product.
_CHUNK = 4096


def fresnel(cosine: Real, permittivity: complex | None) -> tuple[Complex, Complex]:
    """Reflection coefficients TE and TM of a half-space; None is a perfect conductor.

    Signed so that both are E_reflected / E_incident, equal at normal incidence.
    """
    if permittivity is None:
        conductor = np.full(np.shape(cosine), -1 + 0j)
        return conductor, conductor
    inside = np.sqrt(permittivity - 1 + cosine**2 + 0j)
    te = (cosine - inside) / (cosine + inside)
    tm = (inside - permittivity * cosine) / (inside + permittivity * cosine)
    return np.asarray(te), np.asarray(tm)


@dataclass(frozen=True)
class Legs:
    """Points against antennas: lengths (P, A) m, cosines of incidence (P, A), antenna pattern over
    length (P, A) 1/m, which is 0 where a point is not seen."""

    length: Real
    cosine: Real
    gain: Real

    @classmethod
    def between(
        cls,
        surface: Surface,
        antennas: Real,
        seen: NDArray[np.bool_],
        size: float,
        wavelength: float,
    ) -> Legs:
        """``size`` m is the side of the antennas' square apertures, which look along +z: pattern
        sinc(s u_x / λ) sinc(s u_y / λ) at the band's middle."""
        path = surface.points[:, None] - antennas
        length = np.sqrt((path**2).sum(axis=2))
        cosine = -np.einsum("pac,pc->pa", path, surface.normals) / length
        across = path[..., :2] * (size / wavelength) / length[..., None]
        pattern = np.sinc(across).prod(axis=2)
        return cls(length, cosine, np.where(seen & (cosine > 0), pattern / length, 0.0))

    def factors(self, permittivity: complex | None) -> tuple[Complex, Real]:
        """Per leg: √-Γ (no branch cut is near) times the gain, and √(|Γ| cosθ) times the gain."""
        te, tm = fresnel(np.maximum(self.cosine, 0.0), permittivity)
        mean: Complex = np.asarray(-(te + tm) / 2)
        lambert: Real = np.sqrt(np.abs(mean) * np.maximum(self.cosine, 0.0))
        return np.asarray(np.sqrt(mean) * self.gain), lambert * self.gain


def first_reflection(
    surface: Surface,
    tx: Real,
    rx: Real,
    wavenumbers: Real,
    seen: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    *,
    permittivity: complex | None,
    antenna_size: float,
    wavelength: float,
    speckle: Complex | None,
    origin: Real | None = None,
    single: bool = False,
) -> tuple[Complex, Complex]:
    """Coherent signal for m = 0 by (R1), and diffuse signal for m = 1: each (rx, tx, K).

    ``seen`` holds the points (P, T) and (P, R) that transmitters and receivers see; ``speckle``
    (P,) is z above, None: no diffuse part. Paths are counted from those over the point ``origin``
    (3,), if there is one.
    """
    coherent = np.zeros((len(wavenumbers), len(rx), len(tx)), dtype=np.complex128)
    diffuse = np.zeros_like(coherent)
    number = np.float32 if single else np.float64
    lit = np.flatnonzero(seen[0].any(axis=1) & seen[1].any(axis=1))
    for first in range(0, len(lit), _CHUNK):
        some = lit[first : first + _CHUNK]
        points = surface[some]
        sides = [
            Legs.between(points, antennas, view[some], antenna_size, wavelength)
            for antennas, view in ((tx, seen[0]), (rx, seen[1]))
        ]
        (near, rough_near), (far, rough_far) = (side.factors(permittivity) for side in sides)
        weight = (-1j / (4 * np.pi)) * points.areas[:, None]  # -: of the two √-Γ
        transmit = np.stack([sides[0].cosine * near, near])
        receive = np.stack([far, sides[1].cosine * far]) * weight
        if speckle is not None:
            spots = (np.sqrt(points.areas / np.pi) * speckle[some])[:, None]
            transmit = np.concatenate([transmit, rough_near[None]])
            receive = np.concatenate([receive, rough_far[None] * spots])
        lengths = [side.length for side in sides]
        if origin is not None:
            lengths = [
                length - np.linalg.norm(antennas - origin, axis=1)
                for length, antennas in zip(lengths, (tx, rx), strict=True)
            ]
        for n, k in enumerate(wavenumbers):
            out = phased(transmit, lengths[0], k, number)
            back = phased(receive, lengths[1], k, number)
            both = 2 * len(some)
            coherent[n] += k * _product(back[:, :both], out[:, :both])
            if speckle is not None:
                diffuse[n] += _product(back[:, both:], out[:, both:])
    return coherent.transpose(1, 2, 0), diffuse.transpose(1, 2, 0)


def phased(gains: Complex, length: Real, k: float, number: type = np.float64) -> NDArray[Any]:
    """(2, C · P, A) of type ``number``: real and imaginary parts of gains (C, P, A) times
    e^{-jk·length}, length (P, A)."""
    kinds, points, antennas = gains.shape
    out: NDArray[Any] = np.empty((2, kinds, points, antennas), dtype=number)
    real, imag, path = (np.ascontiguousarray(x) for x in (gains.real, gains.imag, length))
    _phase(real, imag, path, float(k), out)
    return out.reshape(2, kinds * points, antennas)


def _product(back: NDArray[Any], out: NDArray[Any]) -> Complex:
    """(R, T): sum over points of back (2, P, R) times out (2, P, T), not conjugated."""
    real = back[0].T @ out[0] - back[1].T @ out[1]
    imag = back[0].T @ out[1] + back[1].T @ out[0]
    return real + 1j * imag.astype(np.float64)


@numba.njit(cache=True)
def _phase(real: Real, imag: Real, length: Real, k: float, out: NDArray[Any]) -> None:
    """Fills out (2, C, P, A). e^{-jx} by half the angle, whose series ends below 1e-9."""
    kinds, points, antennas = real.shape
    turn = k / (2 * np.pi)
    cosine, sine = np.empty(antennas), np.empty(antennas)
    for p in range(points):
        for a in range(antennas):
            x = turn * length[p, a]
            # Adding and taking away this number rounds to a whole one.
            x = np.pi * (x - ((x + 6755399441055744.0) - 6755399441055744.0))
            y = x * x
            s = x * (
                1
                - y / 6 * (1 - y / 20 * (1 - y / 42 * (1 - y / 72 * (1 - y / 110 * (1 - y / 156)))))
            )
            c = 1 - y / 2 * (
                1
                - y
                / 12
                * (1 - y / 30 * (1 - y / 56 * (1 - y / 90 * (1 - y / 132 * (1 - y / 182)))))
            )
            cosine[a], sine[a] = 1 - 2 * s * s, -2 * s * c
        for n in range(kinds):
            for a in range(antennas):
                out[0, n, p, a] = real[n, p, a] * cosine[a] - imag[n, p, a] * sine[a]
                out[1, n, p, a] = real[n, p, a] * sine[a] + imag[n, p, a] * cosine[a]
