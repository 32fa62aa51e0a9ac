"""The sum over facets of both legs' waves, Eq. (P2.3), and its gradient, written by hand.

Every method of :func:`~radarbook.radar.simulate.simulate` that is differentiated at full speed sums
here: of cells (:mod:`radarbook.radar.cells`) and of all facets (:mod:`radarbook.radar.kernels`).
Facets come in chunks whose geometry is computed again in the backward pass, so that nothing but the
inputs is stored. ``method="direct"`` takes torch's own gradients, and tests compare with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from radarbook.radar.array import Array
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import Pieces, middle
from radarbook.radar.scattering import Facets, facet_response
from radarbook.radar.skeleton import stepped_waves
from radarbook.radar.waveform import Waveform
from radarbook.threads import divide


@dataclass(frozen=True)
class ForwardProblem:
    """What a method of :func:`~radarbook.radar.simulate.simulate` sums: the facets of B meshes, an
    array that lights them, and what is between.

    Attributes
    ----------
    pieces : Pieces
        Of each mesh, or of one that all share.
    vertices : Tensor (B, N, 3), metres
        What :meth:`~radarbook.radar.pieces.Pieces.points` gives of the meshes' vertices.
    array, waveform
        As they were given, on any device.
    permittivity : complex, optional
    material, size : Tensor (B,)
        Diffuse fraction of the amplitude; side of the antennas, m.
    layer : Layer, optional
        On the vertices' device; one, or of B meshes. Its echo is not part of the sum.
    """

    pieces: Pieces
    vertices: Tensor
    array: Array
    waveform: Waveform
    permittivity: complex | None
    material: Tensor
    size: Tensor
    layer: Layer | None = None

    def __len__(self) -> int:
        return len(self.vertices)

    def __getitem__(self, index: int) -> ForwardProblem:
        """Of one mesh."""
        pieces, some = self.pieces, slice(index, index + 1)
        if pieces.mesh is not None:
            pieces = replace(pieces.only(pieces.mesh == index), mesh=None)
        if pieces.weight is not None and pieces.weight.ndim == 2:
            pieces = replace(pieces, weight=pieces.weight[index])
        return replace(
            self,
            pieces=pieces,
            vertices=self.vertices[some],
            material=self.material[some],
            size=self.size[some],
            layer=None if self.layer is None else self.layer[index],
        )

    @property
    def inputs(self) -> list[Tensor]:
        """What may be differentiated: vertices, material and size, and a layer's thickness and
        permittivity."""
        inputs = [self.vertices, self.material, self.size]
        if self.layer is not None:
            inputs += [
                torch.as_tensor(v).to(self.vertices.device)
                for v in (self.layer.thickness, self.layer.permittivity)
            ]
        return inputs

    @property
    def differentiated(self) -> bool:
        """Whether gradients of any input are wanted."""
        return torch.is_grad_enabled() and any(value.requires_grad for value in self.inputs)


def responses(
    f: Facets,
    array: Array,
    wavenumbers: Tensor,
    material: Tensor,
    permittivity: complex | None,
    phase: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """(k, N) scattering lengths of facets towards the middle of an array, Eq. (P2.3), in a real
    precision: seen from its own centre, a facet needs single precision only. Other parameters as in
    :func:`~radarbook.radar.scattering.facet_response`."""
    toward = torch.nn.functional.normalize(middle(array).to(f.centre) - f.centre, dim=1).to(dtype)
    local = f.about_centre(dtype)
    diffuse = None if phase is None else phase.to(dtype)
    k = wavenumbers.to(local.area)
    return facet_response(local, toward, k, material, permittivity, diffuse)


class FacetSum(ABC):
    """A sum over facets, chunk by chunk, into cells; its subclasses lay out chunks and cells.

    ``wavenumbers`` (g,) float64; ``shape`` (cells, g, R, T) and complex ``dtype`` of the sum.
    """

    wavenumbers: Tensor
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    device: torch.device

    @abstractmethod
    def chunks(self) -> tuple[int, int]:
        """How many chunks there are, and how many fit the memory together."""

    @abstractmethod
    def cells(self, chunk: int) -> Tensor:
        """(b,) int64: the cells that a chunk's b blocks of facets add to."""

    @abstractmethod
    def geometry(self, chunk: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Of a chunk's b blocks of K facets: responses (g, b, K); gains and path lengths (b, K, T),
        (b, K, T), (b, K, R), (b, K, R) of both legs; and the factors (g, b, K, T) and (g, b, K, R)
        of a layer, if there is one. Differentiable."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """(cells, g, R, T), differentiable once with respect to the inputs."""
        signal: Tensor = _Recomputed.apply(self, *inputs)
        return signal

    def forward(self, *inputs: Tensor) -> Tensor:
        """(cells, g, R, T)."""
        out = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        count, most = self.chunks()

        def part(n: int) -> Tensor:
            return _sum(self.geometry(n, *inputs), self.wavenumbers)

        for n, sums in enumerate(divide(part, count, most)):
            out.index_add_(0, self.cells(n), sums.transpose(0, 1))
        return out

    def backward(self, gradient: Tensor, given: list[Tensor], wanted: list[bool]) -> list[Any]:
        """Gradients with respect to the ``wanted`` of the inputs; each chunk is computed again."""
        total = [
            torch.zeros_like(v) if need else None for v, need in zip(given, wanted, strict=True)
        ]
        count, most = self.chunks()

        def part(n: int) -> tuple[Tensor | None, ...]:
            inputs = [v.detach().requires_grad_(w) for v, w in zip(given, wanted, strict=True)]
            with torch.enable_grad():
                parts = self.geometry(n, *inputs)
            back = gradient[self.cells(n)].transpose(0, 1)  # (g, b, R, T)
            grads = _gradient([p.detach() for p in parts], self.wavenumbers, back)
            pairs = [(p, g) for p, g in zip(parts, grads, strict=True) if p.requires_grad]
            leaves = [v for v in inputs if v.requires_grad]
            found = iter(
                torch.autograd.grad(
                    [p for p, _ in pairs], leaves, [g for _, g in pairs], allow_unused=True
                )
            )
            return tuple(next(found) if w else None for w in wanted)

        for grads in divide(part, count, most):
            for t, g in zip(total, grads, strict=True):
                if t is not None and g is not None:
                    t += g
        return total


def stored_sum(parts: tuple[Tensor, ...], wavenumbers: Tensor, run: int) -> Tensor:
    """(g, b, R, T) of the parts that :meth:`FacetSum.geometry` gives, differentiable once with
    respect to them; ``run`` facets at a time. The parts are stored: faster where memory allows."""
    signal: Tensor = _Stored.apply(wavenumbers, run, *parts)
    return signal


def _waves(parts: Sequence[Tensor], wavenumbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Responses (g, b, K) and waves (g, b, K, T) and (g, b, K, R) of the geometry."""
    response, gain_tx, path_tx, gain_rx, path_rx, *factors = parts
    sent = stepped_waves(path_tx, wavenumbers, -1, gain_tx)
    received = stepped_waves(path_rx, wavenumbers, -1, gain_rx)
    if factors:
        sent.mul_(factors[0])
        received.mul_(factors[1])
    return response, sent, received


def _sum(parts: Sequence[Tensor], wavenumbers: Tensor) -> Tensor:
    """(g, b, R, T): Σ response · received ⊗ sent."""
    response, sent, received = _waves(parts, wavenumbers)
    return received.mul_(response[..., None]).transpose(-1, -2) @ sent


def _gradient(parts: Sequence[Tensor], wavenumbers: Tensor, gradient: Tensor) -> list[Tensor]:
    """Gradients of :func:`_sum` with respect to the parts, of one with respect to the sum.

    d sum = response · sent · received · (d gain / gain - jk d length + d factor / factor).
    """
    response, sent, received = _waves(parts, wavenumbers)
    k = wavenumbers.to(gradient.real)[:, None, None, None]
    back = gradient.conj()
    sent_flow = (received @ back).mul_(sent)
    received_flow = (sent @ back.transpose(-1, -2)).mul_(received)
    grads = [received_flow.sum(-1).conj()]
    factors = []
    for i, flow in enumerate((sent_flow, received_flow)):
        flow.mul_(response[..., None])
        gain = parts[1 + 2 * i]
        safe = torch.where(gain == 0, 1, gain)
        grads += [flow.real.sum(0) / safe, (k * flow.imag).sum(0)]
        if len(parts) > 5:
            factor = parts[5 + i]
            factors.append((flow / torch.where(factor == 0, 1, factor)).conj())
    return grads + factors


class _Recomputed(torch.autograd.Function):
    """:class:`FacetSum` for autograd: stores its small inputs alone and recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, work: FacetSum, *inputs: Tensor) -> Tensor:
        ctx.work = work
        ctx.save_for_backward(*inputs)
        return work.forward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[1:])
        return (None, *ctx.work.backward(gradient, list(ctx.saved_tensors), wanted))


class _Stored(torch.autograd.Function):
    """:func:`stored_sum` for autograd."""

    @staticmethod
    def forward(ctx: Any, wavenumbers: Tensor, run: int, *parts: Tensor) -> Tensor:
        ctx.wavenumbers, ctx.run = wavenumbers, run
        ctx.save_for_backward(*parts)
        pieces = (_sum(some, wavenumbers) for some in _runs(parts, run))
        total = next(pieces)
        for piece in pieces:
            total += piece
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parts = ctx.saved_tensors
        grads = [torch.empty_like(part) for part in parts]
        for some, into in zip(_runs(parts, ctx.run), _runs(grads, ctx.run), strict=True):
            for value, found in zip(into, _gradient(some, ctx.wavenumbers, gradient), strict=True):
                value.copy_(found)
        return (None, None, *grads)


def _runs(parts: Sequence[Tensor], run: int) -> Iterator[list[Tensor]]:
    """Parts of some facets at a time, at least once."""
    response, *others = parts
    for first in range(0, max(1, response.shape[-1]), run):
        some = slice(first, first + run)
        yield [response[..., some], *(part[..., some, :] for part in others)]
