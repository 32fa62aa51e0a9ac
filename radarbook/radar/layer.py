"""A dielectric layer between array and scene, a blanket: book, :ref:`physics`, section 2.

A plane, infinite slab parallel to the array. Each leg of a path, antenna to facet and back, is
multiplied by the slab's exact transmission coefficient at the leg's angle, all internal
reflections included, against the same thickness of air: attenuation, delay and ripple come out of
one formula. The slab's own mirror echo can be added.

What is left out: waves that go to and fro between layer and scene, the widening of the beam by
the refraction in the slab (the leg keeps the spreading of its straight length; of the order of
thickness · (1 - 1/n) / length, 0.2 % of the amplitude for 3 mm of cotton at 0.3 m), and the
cross-polar part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.scattering import element_pattern
from radarbook.radar.waveform import Waveform

#: Degree of the polynomial in the cosine that stands for a leg's factor in ``LegTable``: 1e-4 for
#: centimetres of fabric and for flatter legs than a face and the QAR50 have (tests hold it).
_DEGREE = 12
#: Internal reflections weaker than this, amplitude, need not be followed by a skeleton.
_FAINT = 4e-4


@dataclass(frozen=True)
class Layer:
    """A slab of ``thickness`` metres whose front side is the plane z = ``distance``.

    Attributes
    ----------
    distance, thickness : float or Tensor () or (B,)
        Metres, > 0 and ≥ 0. The layer must lie between the antennas and all of the scene.
    permittivity : complex or Tensor () or (B,), complex
        Relative; time factor e^{+jωt}, so losses are a negative imaginary part. Real part ≥ 1.
    echo : bool
        Whether the layer's own reflection of the transmitters is part of the signal.

    Tensors may require gradients. (B,) values belong to the B meshes of a batch.
    Raises :class:`~radarbook.errors.InputError` for values outside these ranges.

    Examples
    --------
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> blanket = Layer(distance=0.20, thickness=3e-3, permittivity=1.6 - 0.02j)
    >>> round(1e3 * blanket.delay(qar50_waveform(128)), 1)  # mm farther
    0.9
    """

    distance: Tensor | float
    thickness: Tensor | float
    permittivity: Tensor | complex
    echo: bool = False

    def __post_init__(self) -> None:
        for name in ("distance", "thickness", "permittivity"):
            given = getattr(self, name)
            dtype = torch.complex128 if name == "permittivity" else torch.float64
            if dtype == torch.float64 and torch.as_tensor(given).is_complex():
                raise InputError(f"layer {name}: expected metres, found a complex number")
            value = torch.as_tensor(given, dtype=dtype)
            if value.ndim > 1:
                raise InputError(
                    f"layer {name}: expected a number or (B,), found {tuple(value.shape)}"
                )
            if not bool(torch.isfinite(torch.view_as_real(value.to(torch.complex128))).all()):
                raise InputError(f"layer {name}: expected finite values, found NaN or infinity")
            object.__setattr__(self, name, value)
        if bool((self._distance <= 0).any()):
            raise InputError(f"layer distance: expected metres > 0, found {self.distance}")
        if bool((self._thickness < 0).any()):
            raise InputError(f"layer thickness: expected metres ≥ 0, found {self.thickness}")
        if bool((self._permittivity.real < 1).any() or (self._permittivity.imag > 0).any()):
            raise InputError(
                "layer permittivity: expected a real part of 1 or more and an imaginary part of 0 "
                f"or less (e^{{+jωt}}), found {self.permittivity}"
            )

    # As tensors, which __post_init__ has made them.
    @property
    def _distance(self) -> Tensor:
        return torch.as_tensor(self.distance)

    @property
    def _thickness(self) -> Tensor:
        return torch.as_tensor(self.thickness)

    @property
    def _permittivity(self) -> Tensor:
        return torch.as_tensor(self.permittivity)

    def __getitem__(self, index: int | slice | Tensor) -> Layer:
        """The layer of one mesh of a batch (or of several); unbatched values are everyone's."""
        values = (self._distance, self._thickness, self._permittivity)
        distance, thickness, permittivity = (v[index] if v.ndim else v for v in values)
        return Layer(distance, thickness, permittivity, self.echo)

    def to(self, device: torch.device | str) -> Layer:
        """The same layer on another device (values stay float64 and complex128)."""
        return Layer(
            self._distance.to(device),
            self._thickness.to(device),
            self._permittivity.to(device),
            self.echo,
        )

    def leg_factor(self, wavenumbers: Tensor, cosine: Tensor) -> Tensor:
        """What one crossing multiplies a leg by: L of Eq. (P2.10), (K, ...) complex.

        ``wavenumbers`` (K,) rad/m of vacuum; ``cosine`` (...) of the leg's straight line with the
        normal, 0 … 1. A (B,) layer takes cosines (B, ...). 1 for a layer of no thickness or of
        air. The mean of both polarisations, as for skin (Eq. P2.5): the co-polar part of a linearly
        polarised wave, averaged over the plane of incidence's angle to its polarisation.

        The slab is crossed along Snell's angle. That the leg as a whole is taken at its straight
        line's angle is right to first order, since the path is stationary: the error is
        k δ²/2d for a ray moved sideways by δ, 1e-4 rad for 3 mm of cotton at 0.3 m.

        Real parts of the cosine's precision. Differentiable with respect to cosine, thickness and
        permittivity.
        """
        transmitted, _ = self._slab(wavenumbers, cosine)
        return (transmitted[0] + transmitted[1]) / 2

    def transmission(self, wavenumbers: Tensor, cosine: Tensor) -> Tensor:
        """(2, K, ...) complex: L of Eq. (P2.10) by TE and by TM, arguments as ``leg_factor``'s."""
        return torch.stack(self._slab(wavenumbers, cosine)[0])

    def reflection(self, wavenumbers: Tensor, cosine: Tensor) -> Tensor:
        """(2, K, ...) complex: the slab's reflection at its front side, TE and TM, Eq. (P2.9).

        Both are signed to agree at normal incidence. Arguments as ``leg_factor``'s.
        """
        return torch.stack(self._slab(wavenumbers, cosine)[1])

    def _slab(
        self, wavenumbers: Tensor, cosine: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Transmission (against air) and reflection, TE and TM each, (K, ...)."""
        k = wavenumbers.to(cosine).reshape(-1, *(1,) * cosine.ndim)
        thickness, eps = self._thickness.to(cosine.device), self._permittivity.to(cosine.device)
        if thickness.ndim:
            thickness = thickness.reshape(-1, *(1,) * (cosine.ndim - 1))
        if eps.ndim:
            eps = eps.reshape(-1, *(1,) * (cosine.ndim - 1))
        thickness, eps = thickness.to(cosine.dtype), eps.to(cosine.dtype.to_complex())
        # The root with a negative imaginary part: waves decay into the slab.
        q = torch.sqrt(eps - (1 - cosine.square()))
        once = torch.exp(-1j * k * thickness * q)
        air = torch.exp(1j * k * thickness * cosine)
        transmitted, reflected = [], []
        for r in ((cosine - q) / (cosine + q), (q - eps * cosine) / (q + eps * cosine)):
            square = r * r
            inside = 1 / (1 - square * (once * once))
            transmitted.append((1 - square) * once * inside * air)
            reflected.append(r * (1 - once * once) * inside)
        return (transmitted[0], transmitted[1]), (reflected[0], reflected[1])

    def echo_signal(
        self, array: Array, waveform: Waveform, antenna_size: Tensor | float = 0.0
    ) -> Tensor:
        """(rx, tx, f) complex128: the layer's mirror echo, Eq. (P2.11): its reflection times
        g_t g_r e^{-jkd} / d.

        d is the distance of a receiver from the transmitter's image behind the layer's front
        side, g the element pattern of antennas of side ``antenna_size`` metres. In the units of
        :func:`~radarbook.radar.simulate.simulate`. For one layer, not a batch; differentiable
        with respect to its distance, thickness and permittivity, and the antennas' positions.
        """
        device = array.tx.device
        image = array.tx * array.tx.new_tensor([1, 1, -1])
        image = image + 2 * self._distance.to(device) * array.tx.new_tensor([0, 0, 1])
        path = array.rx[:, None] - image
        length = path.square().sum(-1).sqrt()
        direction = path / length[..., None]
        # Seen from the receiver and, mirrored, from the transmitter: the same two squared sines.
        pattern = element_pattern(direction, antenna_size, waveform.wavelength).square()
        cosine = -direction[..., 2]
        k = waveform.wavenumbers.to(device)
        bounce = self.reflection(k, cosine).mean(0)
        phase = (-k[:, None, None] * length) % (2 * math.pi)
        wave = torch.complex(phase.cos(), phase.sin()) * (pattern / length)
        return (bounce * wave).permute(1, 2, 0)

    def delay(self, waveform: Waveform) -> float:
        """Metres by which the layer makes what is behind it appear farther: the group delay of one
        crossing along z over the band, about thickness · (n - 1). For one layer, not a batch."""
        k = waveform.wavenumbers[[0, -1]]
        along_z = torch.ones(1, dtype=torch.float64)
        # The phase over the band in steps of less than half a turn.
        fine = torch.linspace(float(k[0]), float(k[1]), 33, dtype=torch.float64)
        factor = self.leg_factor(fine, along_z)[:, 0].detach()
        turned = torch.angle(factor[1:] * factor[:-1].conj()).sum()
        return -float(turned / (fine[-1] - fine[0]))

    def spread(self) -> Tensor:
        """() or (B,) metres by which a leg's path is longer behind the layer than in air, at most:
        the delay of its crossing and of the internal reflections that are not faint."""
        index = self._permittivity.detach().sqrt()
        n = index.real
        bounce = ((index - 1) / (index + 1)).abs().square().clamp(min=1e-12, max=0.99)
        trips = (math.log(_FAINT) / bounce.log()).floor()
        return self._thickness.detach() * (n - 1 + 2 * n * trips)

    def check(self, array: Array, vertices: Tensor) -> None:
        """Raise :class:`~radarbook.errors.InputError` unless the layer lies between the antennas
        and every vertex of (N, 3) or (B, N, 3)."""
        nearest = vertices.detach()[..., 2].amin(-1).to(torch.float64)
        antennas = max(float(p.detach()[:, 2].max()) for p in (array.tx, array.rx))
        front = self._distance.detach().to(nearest.device)
        back = front + self._thickness.detach().to(nearest.device)
        if bool((front <= antennas).any()) or bool((back > nearest).any()):
            raise InputError(
                f"layer: expected it between the antennas (z ≤ {antennas:.4g} m) and the scene "
                f"(z ≥ {float(nearest.min()):.4g} m), found it from {float(front.min()):.4g} to "
                f"{float(back.max()):.4g} m"
            )
        for value in (self._distance, self._thickness, self._permittivity):
            if value.ndim and (vertices.ndim != 3 or len(value) != len(vertices)):
                raise InputError(
                    f"layer: expected one value or one a mesh, found {len(value)} for vertices "
                    f"{tuple(vertices.shape)}"
                )

    def settings(self) -> dict[str, Any]:
        """Everything that decides it, JSON-able, for fingerprints."""
        eps = self._permittivity.detach()
        return {
            "distance": self._distance.detach().tolist(),
            "thickness": self._thickness.detach().tolist(),
            "permittivity": [eps.real.tolist(), eps.imag.tolist()],
            "echo": self.echo,
        }


@dataclass(frozen=True)
class LegTable:
    """``Layer.leg_factor`` as a polynomial in the cosine, for many legs at few wavenumbers.

    The exact factor at Chebyshev's nodes between two cosines, and the polynomial through them: a
    product with a real matrix where the formula takes roots and exponentials for each leg.
    ``values`` (K, nodes) or (K, B, nodes) complex are differentiable with respect to the layer.
    """

    low: float
    values: Tensor

    @classmethod
    def of(cls, layer: Layer, wavenumbers: Tensor, low: float, dtype: torch.dtype) -> LegTable:
        """For cosines from ``low`` to 1; ``dtype`` real."""
        nodes = low + (1 - low) * (1 + _chebyshev_nodes().to(wavenumbers.device)) / 2
        batch = max(v.numel() for v in (layer._thickness, layer._permittivity))
        if layer._thickness.ndim or layer._permittivity.ndim:
            nodes = nodes.expand(batch, -1)
        values = layer.leg_factor(wavenumbers.to(torch.float64), nodes)
        return cls(low, values.to(dtype.to_complex()))

    def __getitem__(self, index: Tensor) -> LegTable:
        """The tables of the meshes ``index``, where they have tables of their own."""
        return self if self.values.ndim == 2 else LegTable(self.low, self.values[:, index])

    def powers(self, faint: float = 1e-6) -> tuple[Tensor, float, float]:
        """The same polynomial for kernels: coefficients (K, degree + 1) complex128 of rising powers
        of x = slope · cosine + offset, which is -1 … 1; with slope and offset.

        Of one layer, not a batch. What Chebyshev's terms of the highest degrees add is left out
        where it is below ``faint`` of the largest: a few millimetres of fabric want half of them.
        """
        terms = _chebyshev_transform().to(torch.complex128) @ self.values.detach().cpu().T.to(
            torch.complex128
        )
        most = terms.abs().amax(1)
        kept = int((most > faint * most.max()).nonzero().max()) + 1
        rising = np.zeros((kept, kept))
        for n in range(kept):
            rising[: n + 1, n] = np.polynomial.chebyshev.cheb2poly(np.eye(kept)[n, : n + 1])
        powers = torch.from_numpy(rising).to(torch.complex128) @ terms[:kept]
        slope = 2 / (1 - self.low)
        return powers.T.contiguous(), slope, 1 - slope

    def __call__(self, cosine: Tensor) -> Tensor:
        """(K, ...) factors of legs (...), or of (B, ...) where the layer is batched."""
        x = (2 * cosine - (1 + self.low)) / (1 - self.low)
        terms = [torch.ones_like(x), x]
        for _ in range(_DEGREE - 1):
            terms.append(2 * x * terms[-1] - terms[-2])
        basis = torch.stack(terms, -1)
        real = torch.view_as_real(self.values)  # (K, [B,] nodes, 2)
        transform = _chebyshev_transform().to(basis)
        coefficients = torch.einsum("dn,k...nc->...dkc", transform, real).flatten(-2)
        if coefficients.ndim == 2:
            flat = basis.flatten(0, -2) @ coefficients
        else:
            flat = (basis.flatten(1, -2) @ coefficients).flatten(0, 1)
        return torch.view_as_complex(flat.unflatten(-1, (-1, 2))).T.unflatten(1, cosine.shape)


def _chebyshev_nodes() -> Tensor:
    """(_DEGREE + 1,) float64 in -1 … 1."""
    angle = (torch.arange(_DEGREE + 1, dtype=torch.float64) + 0.5) * (math.pi / (_DEGREE + 1))
    return angle.cos()


def _chebyshev_transform() -> Tensor:
    """(degree + 1, nodes) float64: coefficients of the polynomial through values at the nodes."""
    count = _DEGREE + 1
    order = torch.arange(count, dtype=torch.float64)
    angle = (order + 0.5) * (math.pi / count)
    transform = (2 / count) * (order[:, None] * angle).cos()
    transform[0] /= 2
    return transform
