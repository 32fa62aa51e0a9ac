"""The sum over facets of both legs' waves, Eq. (2.3), and its gradient, written by hand.

Every method of :func:`~radarbook.radar.simulate.simulate` that is differentiated at full speed sums
here: of cells (:mod:`radarbook.radar.cells`) and of all facets (:mod:`radarbook.radar.kernels`).
Facets come in chunks whose geometry is computed again in the backward pass, so that nothing but the
inputs is stored. ``method="direct"`` takes torch's own gradients, and tests compare with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    """(k, N) scattering lengths of facets towards the middle of an array, Eq. (2.3), in a real
    precision: seen from its own centre, a facet needs single precision only. Other parameters as in
    :func:`~radarbook.radar.scattering.facet_response`."""
    toward = torch.nn.functional.normalize(middle(array).to(f.centre) - f.centre, dim=1).to(dtype)
    local = Facets(
        (f.corners - f.centre[:, None]).to(dtype),
        torch.zeros_like(f.centre, dtype=dtype),
        f.normal.to(dtype),
        f.area.to(dtype),
    )
    drawn = None if phase is None else phase.to(dtype)
    return facet_response(local, toward, wavenumbers.to(local.area), material, permittivity, drawn)


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
        signal: Tensor = _Sum.apply(self, *inputs)
        return signal

    def waves(self, parts: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Responses (g, b, K) and waves (g, b, K, T) and (g, b, K, R) of the geometry."""
        response, gain_tx, path_tx, gain_rx, path_rx, *factors = parts
        near = stepped_waves(path_tx, self.wavenumbers, -1).mul_(gain_tx)
        far = stepped_waves(path_rx, self.wavenumbers, -1).mul_(gain_rx)
        if factors:
            near.mul_(factors[0])
            far.mul_(factors[1])
        return response, near, far

    def forward(self, *inputs: Tensor) -> Tensor:
        """(cells, g, R, T)."""
        out = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        count, most = self.chunks()

        def part(n: int) -> Tensor:
            response, near, far = self.waves(self.geometry(n, *inputs))
            return far.mul_(response[..., None]).transpose(-1, -2) @ near

        for n, sums in enumerate(divide(part, count, most)):
            out.index_add_(0, self.cells(n), sums.transpose(0, 1))
        return out

    def backward(self, gradient: Tensor, given: list[Tensor], wanted: list[bool]) -> list[Any]:
        """Gradients with respect to the ``wanted`` of the inputs; each chunk is computed again."""
        total = [
            torch.zeros_like(v) if need else None for v, need in zip(given, wanted, strict=True)
        ]
        k = self.wavenumbers.to(gradient.real)[:, None, None, None]
        count, most = self.chunks()

        def part(n: int) -> tuple[Tensor | None, ...]:
            inputs = [v.detach().requires_grad_(w) for v, w in zip(given, wanted, strict=True)]
            with torch.enable_grad():
                parts = self.geometry(n, *inputs)
            response, near, far = self.waves([p.detach() for p in parts])
            back = gradient[self.cells(n)].transpose(0, 1).conj()  # (g, b, R, T)
            to_far, to_near = near @ back.transpose(-1, -2), far @ back
            grads = [(far * to_far).sum(-1).conj()]
            factors = []
            for i, here, there in ((0, near, to_near), (1, far, to_far)):
                # d sum = response · here · (d gain / gain - jk d length + d factor / factor)
                flow = response[..., None] * here * there
                gain = parts[1 + 2 * i]
                safe = torch.where(gain == 0, 1, gain)
                grads += [flow.real.sum(0) / safe, (k * flow.imag).sum(0)]
                if len(parts) > 5:
                    factor = parts[5 + i]
                    factors.append((flow / torch.where(factor == 0, 1, factor)).conj())
            pairs = [(p, g) for p, g in zip(parts, grads + factors, strict=True) if p.requires_grad]
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


class _Sum(torch.autograd.Function):
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
