"""Facets, and the waves between them and antennas, in one kernel each.

Tensor operations one by one write and read some thirty arrays of (facets, antennas) to get from
positions to waves, and a GPU waits for its memory all the while, a processor for its caches. One
kernel keeps what is on the way in registers and writes the waves alone. Numba compiles it for a
processor, Triton for a GPU; where Triton is not to be had, :mod:`radarbook.radar.facet_sum` goes
step by step there, to the same result.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from radarbook.radar.pieces import Pieces

#: Facets at a time on a CPU: waves of some hundred antennas at ten frequencies take two megabytes.
BLOCK = 256


def available(device: torch.device) -> bool:
    """Whether there is something to compile for it."""
    return device.type == "cpu" or (device.type == "cuda" and find_spec("triton") is not None)


@dataclass(frozen=True)
class Crossing:
    """What a layer multiplies legs by: a polynomial in their cosine with its normal, z.

    Attributes
    ----------
    powers : Tensor (f, D + 1) complex64
        Coefficients of rising powers of x = ``slope`` · cosine + ``offset``, as
        :meth:`radarbook.radar.layer.LegTable.powers` has them.
    slope, offset : float
    """

    powers: Tensor
    slope: float
    offset: float


@dataclass(frozen=True)
class Leg:
    """All paths between facets and the antennas of one side.

    Attributes
    ----------
    centre, normal : Tensor (N, 3) float32
        Of facets: m, and unit vectors.
    antennas : Tensor (A, 3) float32, metres
    size : Tensor (N,) float32
        Antenna size in wavelengths, of the face that each facet belongs to.
    seen : Tensor (P, A) float32, optional
        What antennas see of the facets; repeated for every P of the N facets.
    weight : Tensor (f, N) complex64, optional
        Factors of the facets.
    crossing : Crossing, optional
        Of a layer between antennas and facets.
    """

    centre: Tensor
    normal: Tensor
    antennas: Tensor
    size: Tensor
    seen: Tensor | None = None
    weight: Tensor | None = None
    crossing: Crossing | None = None


#: First wavenumber and step, rad/m, and number.
Wavenumbers = tuple[float, float, int]


def waves(leg: Leg, wavenumbers: Wavenumbers) -> Tensor:
    """(f, N, A) complex64: gain · e^{-jk d} of each path, Eq. (2.3), at equal steps of wavenumber,
    times what a layer does to it, Eq. (2.10).

    Single precision, as :func:`radarbook.radar.facet_sum.gain_and_length`; not differentiable.
    """
    if leg.centre.device.type != "cpu":
        return _on_gpu(leg, wavenumbers)
    count = len(leg.centre)
    real, imaginary, _ = _Planes(leg, wavenumbers, count).of(0, count)[..., : len(leg.antennas)]
    return torch.complex(real, imaginary)


def signal_on_cpu(near: Leg, far: Leg, wavenumbers: Wavenumbers) -> Tensor:
    """(f, R, T) complex64: the sum over facets of both legs' waves, Eq. (2.3).

    ``near`` are the legs to transmitters, ``far`` to receivers, of the same facets. So few facets
    at a time that their waves are still in a processor's cache when they are multiplied, and three
    real products for a complex one: of real parts, of imaginary parts, of their sums (Gauss).
    """
    there, back = (_Planes(leg, wavenumbers, BLOCK) for leg in (near, far))
    steps = wavenumbers[2]
    products = torch.zeros(3 * steps, back.width, there.width)
    for start in range(0, len(near.centre), BLOCK):
        stop = min(start + BLOCK, len(near.centre))
        products.baddbmm_(
            back.of(start, stop).flatten(0, 1).transpose(1, 2), there.of(start, stop).flatten(0, 1)
        )
    real, imaginary, both = products.unflatten(0, (3, steps))
    signal = torch.complex(real - imaginary, both - real - imaginary)
    return signal[:, : len(far.antennas), : len(near.antennas)]


@dataclass(frozen=True)
class Response:
    """How facets answer an array.

    Attributes
    ----------
    middle : Tensor (3,) float32, metres
        Of the array: responses are those toward it.
    wavenumbers : Tensor (3,) float32, rad/m
        At which responses are found.
    parabola : Tensor (f, 3) float32
        Their weights at each frequency.
    permittivity : complex, optional
        Of the half-space that facets are; None: a perfect conductor.
    """

    middle: Tensor
    wavenumbers: Tensor
    parabola: Tensor
    permittivity: complex | None


def radiators_on_cpu(
    vertices: Tensor, pieces: Pieces, response: Response, material: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (P, 3) m, normals (P, 3) and weighted scattering lengths (f, P) m, of pieces.

    What :func:`radarbook.radar.scattering.facets` and
    :func:`~radarbook.radar.scattering.facet_response` give, Eqs. (2.3) to (2.5), the coherent part
    alone, in single precision, for vertices (N, 3) float32; not differentiable.
    """
    from radarbook.radar.kernels.cpu import (
        radiators_kernel,  # compiles, which takes seconds at first
    )

    count, steps = len(pieces.parent), len(response.parabola)
    centre, normal = torch.empty(count, 3), torch.empty(count, 3)
    lengths = torch.empty(steps, count, 2)
    none = lengths[:0, 0]  # where an argument is not looked at
    corners = none[..., None] if pieces.corners is None else pieces.corners
    share, weight = (none[:, 0] if v is None else v for v in (pieces.share, pieces.weight))
    given = (vertices, pieces.triangles, pieces.parent, corners, share, weight)
    radiators_kernel(
        *(value.detach().contiguous().numpy() for value in given),
        pieces.corners is not None,
        pieces.weight is not None,
        response.middle.numpy(),
        response.wavenumbers.numpy(),
        response.parabola.numpy(),
        np.complex64(1.0 if response.permittivity is None else response.permittivity),
        response.permittivity is None,
        # As in facet_response.
        np.float32(math.sqrt(max(1 - material * material, 1e-12))),
        centre.numpy(),
        normal.numpy(),
        lengths.numpy(),
    )
    return centre, normal, torch.view_as_complex(lengths)


#: Where none is looked at.
_NO_CROSSING = Crossing(torch.zeros(0, 0, dtype=torch.complex64), 0.0, 0.0)


class _Planes:
    """The waves of a leg on a CPU, at most ``most`` facets at a time, always in the same memory."""

    def __init__(self, leg: Leg, wavenumbers: Wavenumbers, most: int) -> None:
        first, step, self._steps = wavenumbers
        # Vector instructions take eight antennas at a time; what is left over would go one by one.
        # Antennas that fill up are one that is there.
        #: Antennas, with those.
        self.width = -(-len(leg.antennas) // 8) * 8
        filler = self.width - len(leg.antennas)
        filled = torch.cat([leg.antennas, leg.antennas[:1].expand(filler, 3)])
        self._room = torch.empty(3 * self._steps * most * self.width)
        # The same memory, as it is returned and as it is written to; kept for calls alike.
        self._made = self._room[:0].view(3, self._steps, 0, self.width)
        self._written = self._made.numpy()
        # Where an argument is not looked at.
        seen = filled[:0] if leg.seen is None else leg.seen
        weight = torch.zeros(0, 1, dtype=torch.complex64)
        if leg.weight is not None:
            weight = leg.weight.detach().resolve_conj().contiguous()
        crossing = leg.crossing or _NO_CROSSING
        self._given = (
            *(
                value.detach().contiguous().numpy()
                for value in (leg.centre, leg.normal, filled.T, leg.size, seen)
            ),
            leg.seen is not None,
            torch.view_as_real(weight).numpy(),
            leg.weight is not None,
            torch.view_as_real(crossing.powers).numpy(),
            np.float32(crossing.slope),
            np.float32(crossing.offset),
            leg.crossing is not None,
            np.float32(first),
            np.float32(step),
        )

    def of(self, start: int, stop: int) -> Tensor:
        """(3, f, stop - start, A) of some facets: real and imaginary parts and their sums, of
        antennas and those that fill up; until the next call."""
        from radarbook.radar.kernels.cpu import (
            waves_kernel,  # compiles, which takes seconds at first
        )

        if self._made.shape[2] != stop - start:
            shape = 3, self._steps, stop - start, self.width
            self._made = self._room[: math.prod(shape)].view(shape)
            self._written = self._made.numpy()
        waves_kernel(start, stop, *self._given, self._written)
        return self._made


def _on_gpu(leg: Leg, wavenumbers: Wavenumbers) -> Tensor:
    from radarbook.radar.kernels.gpu import waves_kernel  # compiled on a GPU's machine alone

    first, step, steps = wavenumbers
    count, width = len(leg.centre), len(leg.antennas)
    out = torch.empty(steps, count, width, 2, dtype=torch.float32, device=leg.centre.device)
    if count == 0:
        return torch.view_as_complex(out)
    rows = 16
    columns = 1 << (width - 1).bit_length()
    none = out.view(-1)  # where an argument is not looked at
    crossing = leg.crossing or _NO_CROSSING
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        waves_kernel[((count + rows - 1) // rows,)](
            leg.centre.contiguous(),
            leg.normal.contiguous(),
            leg.antennas.contiguous(),
            leg.size.contiguous(),
            none if leg.seen is None else leg.seen.contiguous(),
            none if leg.weight is None else torch.view_as_real(leg.weight.contiguous()),
            none if leg.crossing is None else torch.view_as_real(crossing.powers.contiguous()),
            out,
            count,
            width,
            1 if leg.seen is None else len(leg.seen),
            first,
            step,
            crossing.slope,
            crossing.offset,
            STEPS=steps,
            HAS_SEEN=leg.seen is not None,
            HAS_WEIGHT=leg.weight is not None,
            HAS_CROSSING=leg.crossing is not None,
            TERMS=crossing.powers.shape[1],
            ROWS=rows,
            COLUMNS=columns,
        )
    return torch.view_as_complex(out)
