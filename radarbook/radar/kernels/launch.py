"""The signal of few samples: facets, and the waves between them and antennas, in one kernel each.

Tensor operations one by one write and read some thirty arrays of (facets, antennas) to get from
positions to waves, and a GPU waits for its memory all the while, a processor for its caches. One
kernel keeps what is on the way in registers and writes the waves alone. Numba compiles it for a
CPU, Triton for a GPU. Gradients, and a GPU without Triton, take the operations one by one
(:mod:`radarbook.radar.facet_sum`) to the same result. Everything is in single precision: lengths of
0.3 m have an error of 2e-8 m, phases one of 3e-5 rad.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from radarbook.radar.facet_sum import FacetSum, ForwardProblem, stored_sum
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.legs import cosine_with_z, gain_and_length, steepest_cosine
from radarbook.radar.pieces import Pieces, middle
from radarbook.radar.scattering import Facets, facet_response
from radarbook.radar.waveform import Waveform
from radarbook.threads import divide

#: Facets at a time on a CPU: waves of some hundred antennas at ten frequencies take two megabytes.
BLOCK = 256
#: Facets at a time on a CPU where operations go one by one.
CHUNK = 512
#: Facets that one thread sums, where there is one mesh for all threads. The sum of sums is then the
#: same for any number of them.
PART = 2048
#: Error of a polynomial in frequency in place of a steep facet's response that decides its degree:
#: 3 wavenumbers for pieces of up to 6 mm over 10 GHz. A signal's error is a hundredth of it, as
#: facets that reflect much are not steep.
_STEEP_ERROR = 0.03


def batched(device: torch.device) -> bool:
    """Whether meshes are one batch of large operations; on a CPU each stays in a cache."""
    return device.type != "cpu"


def available(device: torch.device) -> bool:
    """Whether there is something to compile for it."""
    return device.type == "cpu" or (device.type == "cuda" and find_spec("triton") is not None)


@dataclass(frozen=True)
class Samples:
    """Antennas and wavenumbers as the kernels take them.

    Attributes
    ----------
    tx, rx : Tensor (T, 3) and (R, 3) float32, metres
    wavelength : float
        At mid-band, m.
    wavenumbers : Tensor (f,) float64, rad/m
        In equal steps.
    response : Response
    """

    tx: Tensor
    rx: Tensor
    wavelength: float
    wavenumbers: Tensor
    response: Response

    @classmethod
    def of(cls, problem: ForwardProblem) -> Samples:
        """Those of a problem; its wavenumbers and responses are on the vertices' device."""
        device = problem.vertices.device
        tx, rx = (a.detach().to(device).float() for a in (problem.array.tx, problem.array.rx))
        k = problem.waveform.wavenumbers
        nodes, weights = _interpolation(k, problem.pieces.edge)
        response = Response(
            middle(problem.array).detach().to(device).float(),
            nodes.float().to(device),
            weights.float().to(device),
            problem.permittivity,
        )
        return cls(tx, rx, problem.waveform.wavelength, k, response)

    @property
    def places(self) -> Wavenumbers:
        """First wavenumber, step and number."""
        k = self.wavenumbers.tolist()
        return k[0], 0.0 if len(k) == 1 else k[1] - k[0], len(k)

    def lengths(self, f: Facets, pieces: Pieces, material: Tensor) -> Tensor:
        """(f, B, P) scattering lengths of B meshes' facets (B · P), with their diffuse part;
        ``material`` (B,). Differentiable."""
        count, meshes = len(pieces), len(material)
        phase = pieces.phase
        found = facet_response(
            f.about_centre(f.centre.dtype),
            torch.nn.functional.normalize(self.response.middle - f.centre, dim=1),
            self.response.wavenumbers,
            material.repeat_interleave(count),
            self.response.permittivity,
            None if phase is None else phase.repeat(meshes),
        )
        weights = self.response.weights.to(found.dtype)
        found = torch.tensordot(weights, found, dims=1).unflatten(1, (meshes, count))
        return found if pieces.weight is None else found * pieces.weight

    def leg_table(self, layer: Layer, places: Tensor) -> LegTable:
        """What a layer does to legs from (N, 3) to the antennas, at every frequency."""
        antennas = torch.cat([self.tx, self.rx])
        points = places.detach().reshape(-1, 3)
        steepest = steepest_cosine(points.amin(0), points.amax(0), antennas)
        return LegTable.of(layer, self.wavenumbers.to(places.device), steepest, torch.float32)

    def crossing(self, layer: Layer | None, places: Tensor) -> Crossing | None:
        """The same as kernels take it; None without a layer."""
        if layer is None:
            return None
        powers, slope, offset = self.leg_table(layer, places).powers()
        return Crossing(powers.to(places.device, torch.complex64), slope, offset)


def _interpolation(k: Tensor, edge: float | None) -> tuple[Tensor, Tensor]:
    """Wavenumbers (n,) over those of (f,) at which responses of facets with edges of ``edge`` m are
    computed, and the weights (f, n) of the polynomial through them (Lagrange); 3 where the length
    is not known.

    A corner lies at most 2/3 of an edge from the centre, a two-way path of 4/3.
    """
    if len(k) == 1:
        return k, torch.ones(1, 1, dtype=k.dtype)
    phase = float(k[-1] - k[0]) * 4 / 3 * (edge or 0.0)
    count = 3
    while count < len(k) and 2 * (phase / 4) ** count / math.factorial(count) > _STEEP_ERROR:
        count += 1
    nodes = torch.linspace(0, 1, count, dtype=k.dtype)
    t = (k - k[0]) / (k[-1] - k[0])
    weights = torch.ones(len(k), count, dtype=k.dtype)
    for i in range(count):
        for j in range(count):
            if i != j:
                weights[:, i] *= (t - nodes[j]) / (nodes[i] - nodes[j])
    return k[0] + nodes * (k[-1] - k[0]), weights


def missing(dtype: torch.dtype, waveform: Waveform) -> str | None:
    """What the kernels need and vertices of ``dtype`` and a waveform lack, in words; or None."""
    if dtype != torch.float32:
        return f"float32 vertices, found {str(dtype).removeprefix('torch.')}"
    steps = waveform.frequencies.diff()
    if len(steps) and not torch.allclose(steps, steps.mean(), rtol=1e-6, atol=0.0):
        return "equal frequency steps"
    return None


def signal(problem: ForwardProblem, memory: int) -> Tensor:
    """(B, f, rx, tx) complex64; differentiable once with respect to the problem's inputs."""
    if problem.pieces.mesh is not None:
        return torch.cat([signal(problem[b], memory) for b in range(len(problem))])
    problem = replace(problem, pieces=problem.pieces.to(torch.float32))
    device = problem.vertices.device
    if problem.differentiated or not available(device):
        return _AllFacets(problem, memory)(*problem.inputs)
    with torch.no_grad():
        samples = Samples.of(problem)
        own_layer = problem.layer is not None and any(
            torch.as_tensor(v).ndim for v in (problem.layer.thickness, problem.layer.permittivity)
        )
        if batched(device) and not own_layer:
            return _batch(problem, samples, memory)
        return torch.stack(list(divide(lambda b: _mesh(problem[b], samples), len(problem))))


def _mesh(problem: ForwardProblem, samples: Samples) -> Tensor:
    """(f, R, T) of one mesh, part by part; on a CPU of facets and waves that kernels make."""
    if batched(problem.vertices.device):
        return _batch(problem, samples, 2**62)[0]
    vertices, whole = problem.vertices[0], problem.pieces
    material = float(problem.material[0])
    size = (problem.size / samples.wavelength).float()
    crossing = samples.crossing(problem.layer, vertices)
    seen_by = whole.seen_by

    def part(n: int) -> Tensor:
        some = slice(n * PART, (n + 1) * PART)
        pieces = whole.only(some)
        if pieces.phase is None or material == 0:
            centre, normal, lengths = radiators_on_cpu(vertices, pieces, samples.response, material)
        else:
            f = pieces.facets(vertices)
            centre, normal = f.centre, f.normal
            lengths = samples.lengths(f, pieces, problem.material.float())[:, 0]
        sizes = size.expand(len(centre))
        by_tx, by_rx = (None if seen is None else seen[some] for seen in seen_by)
        return signal_on_cpu(
            Leg(centre, normal, samples.tx, sizes, by_tx, None, crossing),
            Leg(centre, normal, samples.rx, sizes, by_rx, lengths, crossing),
            samples.places,
        )

    parts = max(1, -(-len(whole) // PART))
    return torch.stack(list(divide(part, parts))).sum(0)


def _batch(problem: ForwardProblem, samples: Samples, memory: int) -> Tensor:
    """(B, f, R, T) of meshes of the same pieces, in large products: for a device that small ones
    leave idle."""
    pieces, count = problem.pieces, len(problem.pieces)
    antennas = len(samples.tx) + len(samples.rx)
    each = 8 * len(samples.wavenumbers) * count * antennas
    signals = []
    faces = torch.arange(len(problem), device=problem.vertices.device)
    for some in faces.split(max(1, memory // max(1, each))):
        mine = pieces
        if pieces.weight is not None and pieces.weight.ndim == 2:
            mine = replace(pieces, weight=pieces.weight[some])
        f = mine.facets(problem.vertices[some])
        lengths = samples.lengths(f, mine, problem.material[some].float()).flatten(1)
        sizes = (problem.size[some] / samples.wavelength).float().repeat_interleave(count)
        crossing = samples.crossing(problem.layer, f.centre)
        sent, received = (
            waves(Leg(f.centre, f.normal, where, sizes, seen, weight, crossing), samples.places)
            for where, seen, weight in zip(
                (samples.tx, samples.rx), mine.seen_by, (None, lengths), strict=True
            )
        )
        sent, received = (legs.unflatten(1, (len(some), count)) for legs in (sent, received))
        signals.append((received.transpose(-1, -2) @ sent).transpose(0, 1))
    return torch.cat(signals)


def legs(problem: ForwardProblem) -> tuple[Tensor, Tensor, Facets]:
    """Waves (f, P, T) and (f, P, R) of the legs of one mesh's facets, without their responses, and
    the facets (P); on a GPU without Triton this raises ImportError."""
    samples, pieces = Samples.of(problem), problem.pieces.to(torch.float32)
    f = pieces.facets(problem.vertices[0])
    sizes = (problem.size / samples.wavelength).float().expand(len(pieces))
    crossing = samples.crossing(problem.layer, f.centre)
    sent, received = (
        waves(Leg(f.centre, f.normal, where, sizes, seen, None, crossing), samples.places)
        for where, seen in zip((samples.tx, samples.rx), pieces.seen_by, strict=True)
    )
    return sent, received, f


class _AllFacets(FacetSum):
    """All facets of each mesh into one cell, at all antennas and frequencies, operation by
    operation. Chunks are facets of one mesh on a CPU, meshes on another device."""

    def __init__(self, problem: ForwardProblem, memory: int) -> None:
        self.problem, self.samples = problem, Samples.of(problem)
        self.device, self.dtype = problem.vertices.device, torch.complex64
        self.wavenumbers = self.samples.wavenumbers
        meshes, count, steps = len(problem), len(problem.pieces), len(self.wavenumbers)
        self.shape = meshes, steps, len(self.samples.rx), len(self.samples.tx)
        antennas = self.shape[2] + self.shape[3]
        self.facets = max(1, count)
        together, run = 1, CHUNK
        # Gains, lengths and what they are made of; with a layer its factors, and a polynomial's
        # terms for each.
        each = 4 * (16 if problem.layer is None else 80 + 6 * steps) * count * antennas
        #: Whether the geometry of all meshes is stored for the backward pass.
        self.stored = problem.differentiated and each * meshes <= memory
        if batched(self.device) or self.stored:
            run = self.facets
        if batched(self.device):
            together = max(1, memory // max(1, each + 32 * steps * count * antennas))
        self._parts = [
            (slice(first, min(first + together, meshes)), slice(start, start + run))
            for first in range(0, meshes, together)
            for start in range(0, self.facets, run)
        ]

    def __call__(self, *inputs: Tensor) -> Tensor:
        if not self.stored:
            return super().__call__(*inputs)
        run = self.facets if batched(self.device) else CHUNK
        sums = [
            stored_sum(self.geometry(n, *inputs), self.wavenumbers, run)
            for n in range(len(self._parts))
        ]
        return torch.cat(sums, dim=1).transpose(0, 1)

    def chunks(self) -> tuple[int, int]:
        return len(self._parts), len(self._parts)

    def cells(self, chunk: int) -> Tensor:
        faces = self._parts[chunk][0]
        return torch.arange(faces.start, faces.stop, device=self.device)

    def geometry(self, chunk: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        vertices, material, size, *slab = inputs
        faces, some = self._parts[chunk]
        samples, layer = self.samples, self.problem.layer
        pieces = self.problem.pieces.only(some)
        if pieces.weight is not None and pieces.weight.ndim == 2:
            pieces = replace(pieces, weight=pieces.weight[faces])
        f = pieces.facets(vertices[faces])
        shape = faces.stop - faces.start, len(pieces)
        out = [samples.lengths(f, pieces, material[faces].float())]
        sizes = (size[faces] / samples.wavelength).float().repeat_interleave(len(pieces))[:, None]
        factors: list[Tensor] = []
        table = None
        if layer is not None:
            thickness, permittivity = (v[faces] if v.ndim else v for v in slab)
            of = Layer(layer.distance, thickness, permittivity)
            table = samples.leg_table(of, self.problem.vertices)
        for where, seen in zip((samples.tx, samples.rx), pieces.seen_by, strict=True):
            gain, length = gain_and_length(f.centre, f.normal, where, sizes)
            if table is not None:
                cosine = cosine_with_z(f.centre, where, length)
                factors.append(table(cosine.unflatten(0, shape)))
            gain, length = gain.unflatten(0, shape), length.unflatten(0, shape)
            out += [gain if seen is None else gain * seen, length]
        return tuple(out + factors)


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
    """(f, N, A) complex64: gain · e^{-jk d} of each path, Eq. (P2.3), at equal steps of wavenumber,
    times what a layer does to it, Eq. (P2.10).

    Single precision, as :func:`radarbook.radar.legs.gain_and_length`; not differentiable.
    """
    if leg.centre.device.type != "cpu":
        return _on_gpu(leg, wavenumbers)
    count = len(leg.centre)
    real, imaginary, _ = _Planes(leg, wavenumbers, count).of(0, count)[..., : len(leg.antennas)]
    return torch.complex(real, imaginary)


def signal_on_cpu(to_tx: Leg, to_rx: Leg, wavenumbers: Wavenumbers) -> Tensor:
    """(f, R, T) complex64: the sum over facets of both legs' waves, Eq. (P2.3).

    ``to_tx`` and ``to_rx`` are the legs to transmitters and receivers, of the same facets: so few
    at a time that their waves are still in a processor's cache when they are multiplied, and three
    real products for a complex one: of real parts, of imaginary parts, of their sums (Gauss).
    """
    sent, received = (_Planes(leg, wavenumbers, BLOCK) for leg in (to_tx, to_rx))
    steps = wavenumbers[2]
    products = torch.zeros(3 * steps, received.width, sent.width)
    for start in range(0, len(to_tx.centre), BLOCK):
        stop = min(start + BLOCK, len(to_tx.centre))
        products.baddbmm_(
            received.of(start, stop).flatten(0, 1).transpose(1, 2),
            sent.of(start, stop).flatten(0, 1),
        )
    real, imaginary, both = products.unflatten(0, (3, steps))
    signal = torch.complex(real - imaginary, both - real - imaginary)
    return signal[:, : len(to_rx.antennas), : len(to_tx.antennas)]


@dataclass(frozen=True)
class Response:
    """How facets answer an array: at a few wavenumbers, and by a polynomial at all others.

    Attributes
    ----------
    middle : Tensor (3,) float32, metres
        Of the array: responses are those toward it.
    wavenumbers : Tensor (n,) float32, rad/m
        At which responses are computed.
    weights : Tensor (f, n) float32
        Of those at each frequency.
    permittivity : complex, optional
        Of the half-space that facets are; None: a perfect conductor.
    """

    middle: Tensor
    wavenumbers: Tensor
    weights: Tensor
    permittivity: complex | None


def radiators_on_cpu(
    vertices: Tensor, pieces: Pieces, response: Response, material: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Centres (P, 3) m, normals (P, 3) and weighted scattering lengths (f, P) m, of pieces.

    What :func:`radarbook.radar.scattering.facets` and
    :func:`~radarbook.radar.scattering.facet_response` give, Eqs. (P2.3) to (P2.5), the coherent
    part alone, in single precision, for vertices (N, 3) float32 as :meth:`Pieces.points` gives
    them; not differentiable.
    """
    from radarbook.radar.kernels.cpu import radiators_kernel  # compiles: seconds at first

    count, steps = len(pieces), len(response.weights)
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
        pieces.surface is not None,
        response.middle.numpy(),
        response.wavenumbers.numpy(),
        response.weights.numpy(),
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
