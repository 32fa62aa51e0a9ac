"""The signal of many samples: facets summed in cells, through skeletons (book, section 3).

A cell's facets are summed into the few antenna pairs and wavenumbers of its skeleton
(:mod:`radarbook.radar.skeleton`), which is expanded to the whole array once per cell. Interpolation
is within 4e-4; the cost per facet depends on the accuracy, not on the number of samples. Facets
that a part of the array sees edge-on are not smooth from antenna to antenna; those that would leave
an error that counts (:mod:`radarbook.radar.grazing`) are summed with all antennas instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.radar.array import Array
from radarbook.radar.facet_sum import FacetSum, ForwardProblem, responses
from radarbook.radar.grazing import exact_pieces
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.legs import amplitude, steepest_cosine
from radarbook.radar.skeleton import (
    CACHE,
    Skeleton,
    all_antennas,
    build_skeleton,
    round_box,
)

#: Cell of facets that share a skeleton, m.
_CELL = (0.030, 0.030, 0.030)
#: Facets in one matrix product: at most, and where cells hold few of them.
_BLOCK, _SMALL_BLOCK = 256, 32


def signal(problem: ForwardProblem, memory: int) -> Tensor:
    """(B, f, rx, tx) complex of the vertices' precision; differentiable once with respect to the
    problem's inputs.

    All meshes are one problem: cells are distinguished by mesh and place. Only meshes in different
    boxes of space have skeletons of their own, so that none depends on its batch.
    """
    vertices, pieces, count = problem.vertices, problem.pieces, len(problem)
    if len(pieces) == 0:
        shape = count, len(problem.waveform), len(problem.array.rx), len(problem.array.tx)
        return torch.zeros(shape, dtype=vertices.dtype.to_complex(), device=vertices.device)
    pieces = pieces.each(count)
    problem = replace(problem, pieces=pieces)
    assert pieces.mesh is not None
    side = vertices.new_tensor(_CELL, dtype=torch.float64)
    places = (pieces.centres(vertices.double()) / side).floor()
    total = None
    for skeleton, steepest, some in _skeletons(problem, (places + 0.5) * side):
        mine = slice(None) if some is None else some[pieces.mesh].nonzero()[:, 0]
        part = replace(problem, pieces=pieces.only(mine))
        signals = _signal(part, places[mine], side, skeleton, steepest, memory)
        total = signals if total is None else total + signals
    assert total is not None
    return total


def _signal(
    problem: ForwardProblem,
    places: Tensor,
    side: Tensor,
    skeleton: Skeleton,
    steepest: float,
    memory: int,
) -> Tensor:
    """(B, f, rx, tx) of meshes that share a skeleton; ``places`` (P, 3) are the pieces' cells."""
    assert problem.pieces.mesh is not None
    boxes, owner, cell = _cells(places, problem.pieces.mesh)
    centres = (boxes + 0.5) * side
    core = _core(problem, skeleton, centres, owner, cell, steepest, memory)
    power = skeleton.power(core.detach(), centres, owner, len(problem), memory)
    some = exact_pieces(problem, skeleton, power)
    if len(some) == 0:
        return skeleton.expand_each(core, centres, owner, len(problem), memory)
    part = replace(problem, pieces=problem.pieces.only(some))
    core = core - _core(part, skeleton, centres, owner, cell[some], steepest, memory)
    total = skeleton.expand_each(core, centres, owner, len(problem), memory)
    return total + _exact(part, steepest, memory)


def _exact(problem: ForwardProblem, steepest: float, memory: int) -> Tensor:
    """(B, f, rx, tx) of meshes: one cell each, all antennas, few frequencies."""
    pieces, count = problem.pieces, len(problem)
    mesh = pieces.mesh
    assert mesh is not None
    places = pieces.centres(problem.vertices.double())
    into = mesh[:, None].expand(-1, 3)
    low, high = (
        places.new_zeros(count, 3).scatter_reduce(0, into, places, how, include_self=False)
        for how in ("amin", "amax")
    )
    reach = float((high - low).square().sum(1).sqrt().max())  # two-way, of half of the diagonal
    every = all_antennas(problem.array, problem.waveform, reach)
    centres, owner = (low + high) / 2, torch.arange(count, device=places.device)
    core = _core(problem, every, centres, owner, mesh, steepest, memory)
    return every.expand_each(core, centres, owner, count, memory)


def _core(
    problem: ForwardProblem,
    skeleton: Skeleton,
    centres: Tensor,
    owner: Tensor,
    cell: Tensor,
    steepest: float,
    memory: int,
) -> Tensor:
    """(cells, g, n, m) of cells with ``centres`` (cells, 3) of the meshes ``owner`` (cells,);
    ``cell`` (P,) is the one of each piece."""
    blocks = _blocks(cell, len(centres))
    cores = _Cores(problem, skeleton, centres, owner, *blocks, steepest, memory)
    vertices, *others = problem.inputs
    return cores(vertices.double(), *others)


def _skeletons(
    problem: ForwardProblem, centres: Tensor
) -> Iterator[tuple[Skeleton, float, Tensor | None]]:
    """The skeletons that the meshes' cells need, of the ``centres`` (P, 3) of all pieces' cells:
    each with the smallest cosine of a leg with the array's normal, and which meshes (B,) it serves,
    None for all."""
    count, layer, mesh = len(problem), problem.layer, problem.pieces.mesh
    assert mesh is not None
    into = mesh[:, None].expand(-1, 3)
    low, high = (
        centres.new_full((count, 3), start).scatter_reduce(0, into, centres, how)
        for start, how in ((math.inf, "amin"), (-math.inf, "amax"))
    )
    extra = centres.new_zeros(count)
    if layer is not None:
        # A leg's factor is a delay: what lies behind it spans more depth than its cell. To 2 mm,
        # so that layers of one kind share a skeleton.
        extra = extra + 2e-3 * (layer.spread().to(centres) / 2e-3).ceil()
    # The one transfer from the device, for the key of a table.
    table = torch.cat([low, high, extra[:, None]], dim=1).cpu().numpy()
    there = np.isfinite(table[:, 0]).nonzero()[0]
    corners = np.concatenate(round_box(table[there, :3], table[there, 3:6]), axis=1)
    keys = np.concatenate([corners, table[there, 6:]], axis=1)
    _, first, which = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    for i, example in enumerate(first):
        box = table[there[example]]
        half = np.array(_CELL) / 2
        half[2] += box[6]
        skeleton = build_skeleton(problem.array, problem.waveform, box[:3], box[3:6], half)
        some = None
        if len(first) > 1:
            some = torch.zeros(count, dtype=torch.bool)
            some[torch.from_numpy(there[which.reshape(-1) == i])] = True
            some = some.to(centres.device)
        yield skeleton, _steepest(problem.array, corners[example]), some


def _steepest(array: Array, box: NDArray[np.float64]) -> float:
    """The smallest cosine with the array's normal of a leg to a cell whose centre lies in a box
    (its low and high corner, (6,))."""
    half = np.array(_CELL) / 2
    low, high = box[:3] - half, box[3:] + half
    antennas = torch.cat([array.tx, array.rx]).detach().cpu()
    return steepest_cosine(torch.from_numpy(low), torch.from_numpy(high), antennas)


def _cells(places: Tensor, face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct rows of whole numbers (P, 3) of each mesh ``face`` (P,), which mesh they are of, and
    which of them each row is. Meshes stay in order.

    By one number a row: sorting rows as such takes a hundred times as long.
    """
    low = places.amin(0)
    counts = (places.amax(0) - low + 1).long()
    x, y, z = (places - low).long().unbind(1)
    numbers = ((face * counts[0] + x) * counts[1] + y) * counts[2] + z
    keys, cell = numbers.unique(return_inverse=True)
    rows = []
    for count in (counts[2], counts[1], counts[0]):
        rows.append(keys % count)
        keys = keys.div(count, rounding_mode="floor")
    return torch.stack(rows[::-1], 1).to(places) + low, keys, cell


def _blocks(cell: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Pieces sorted by cell into blocks: (blocks, size) numbers, -1 where empty; cell of each.

    There are ``cells`` cells. Blocks that would be empty for the most part are small.
    """
    size = _BLOCK if len(cell) >= _SMALL_BLOCK * cells else _SMALL_BLOCK
    order = cell.argsort(stable=True)
    count = cell.bincount()
    blocks = (count + size - 1) // size
    owner = torch.repeat_interleave(torch.arange(len(count), device=cell.device), blocks)
    start = (count.cumsum(0) - count)[owner]
    within = torch.arange(len(owner), device=cell.device) - (blocks.cumsum(0) - blocks)[owner]
    slot = within[:, None] * size + torch.arange(size, device=cell.device)
    filled = slot < count[owner][:, None]
    return torch.where(filled, order[torch.where(filled, start[:, None] + slot, 0)], -1), owner


class _Cores(FacetSum):
    """Blocks of facets to the cores of their cells: paths are differences from the cells' centres,
    antennas and wavenumbers the skeleton's."""

    def __init__(
        self,
        problem: ForwardProblem,
        skeleton: Skeleton,
        centres: Tensor,
        owner: Tensor,
        index: Tensor,
        cell: Tensor,
        steepest: float,
        memory: int,
    ) -> None:
        self.problem, self.skeleton, self.steepest = problem, skeleton, steepest
        self.centres, self.owner, self.index, self.cell = centres, owner, index, cell
        self.seen = problem.pieces.seen_from(skeleton.tx, skeleton.rx)
        self.real = problem.vertices.dtype
        self.dtype, self.device = self.real.to_complex(), problem.vertices.device
        self.wavenumbers = skeleton.wavenumbers
        self.shape = len(centres), len(self.wavenumbers), len(skeleton.rx), len(skeleton.tx)
        arrays = 4 * len(self.wavenumbers) + 40
        if problem.layer is not None:
            arrays *= 2
        antennas = len(skeleton.tx) + len(skeleton.rx)
        per_block = index.shape[1] * antennas * self.dtype.itemsize * arrays
        chunk = min(memory, CACHE) if self.device.type == "cpu" else memory
        size = max(1, chunk // per_block)
        self._parts = torch.arange(len(index), device=self.device).split(size)
        self._most = memory // (size * per_block)

    def chunks(self) -> tuple[int, int]:
        return len(self._parts), self._most

    def cells(self, chunk: int) -> Tensor:
        return self.cell[self._parts[chunk]]

    def geometry(self, chunk: int, *inputs: Tensor) -> tuple[Tensor, ...]:
        vertices, material, size, *layer = inputs
        problem, pieces, dtype = self.problem, self.problem.pieces, self.real
        index, cell = self.index[self._parts[chunk]], self.cells(chunk)
        face = self.owner[cell]
        empty = index < 0
        index = index.clamp(min=0)
        flat = index.flatten()
        f = pieces.facets(vertices, flat)
        offset = (f.centre.unflatten(0, index.shape) - self.centres[cell][:, None]).to(dtype)
        normal = f.normal.to(dtype).unflatten(0, index.shape)
        response = responses(
            f,
            problem.array,
            self.wavenumbers,
            material[face].repeat_interleave(index.shape[1]),
            problem.permittivity,
            None if pieces.phase is None else pieces.phase[flat],
            dtype,
        )
        if pieces.weight is not None:
            response = response * pieces.weight[flat].to(dtype)
        out = [torch.where(empty, 0, response.unflatten(1, index.shape))]
        factors: list[Tensor] = []
        table = None
        if problem.layer is not None:
            slab = Layer(problem.layer.distance, layer[0], layer[1])
            table = LegTable.of(slab, self.wavenumbers.to(layer[0]), self.steepest, dtype)[face]
        apertures = (size / problem.waveform.wavelength)[face][:, None, None]
        legs = self.skeleton.legs(self.centres[cell], dtype)
        for leg, seen in zip(legs, self.seen, strict=True):
            length, difference = leg.lengths(offset)
            inverse = 1 / length
            fall = torch.baddbmm(
                (normal * offset).sum(-1, keepdim=True), normal, leg.base.transpose(1, 2)
            )
            x, y = ((offset[..., None, i] + leg.base[:, None, :, i]) * inverse for i in range(2))
            gain = amplitude(-fall * inverse, x, y, inverse, apertures)
            if seen is not None:
                gain = gain * seen[index].to(dtype)
            out += [gain, difference]
            if table is not None:
                factors.append(table((offset[..., None, 2] + leg.base[:, None, :, 2]) * inverse))
        return tuple(out + factors)
