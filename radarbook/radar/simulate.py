"""From a mesh to the raw signal of an array: physical optics, factorised (book, section 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.imaging import MEMORY_BUDGET, Method
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.legs import amplitude, leg_gain
from radarbook.radar.scattering import (
    SKIN_PERMITTIVITY,
    Facets,
    facet_response,
    facets,
    middles,
    wave,
)
from radarbook.radar.skeleton import (
    CACHE,
    Skeleton,
    antenna_groups,
    build_skeleton,
    round_box,
    unit,
)
from radarbook.radar.waveform import Waveform
from radarbook.seeds import torch_stream
from radarbook.threads import alone, divide

#: Edges longer than this are divided before a facet radiates, m: with their own phase integrals
#: such facets give a -30 dB image that correlates 0.999 with the converged one (book, section 3).
FACET_SIZE = 3e-3
#: Cell of facets that share a skeleton, m.
_CELL = (0.030, 0.030, 0.030)
#: Facets in one matrix product.
_BLOCK = 256
#: Bytes that a triangle of a scene takes while its signal is computed, its pieces and cores.
_TRIANGLE = 1536


@alone()
def simulate(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    visibility: Tensor | None = None,
    layer: Layer | None = None,
    facet_size: float = FACET_SIZE,
    seed: int = 0,
    method: Method = "fast",
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """Signal of a mesh: S[rx, tx, f] = Σ_facets a · e^{-jk(d_tx + d_rx)} / (d_tx d_rx), Eq. (3.1).

    Parameters
    ----------
    vertices : Tensor (N, 3) or (B, N, 3)
        Metres, radar frame. float32 gives complex64, float64 complex128; phases keep their
        accuracy either way.
    triangles : Tensor (F, 3)
        Counter-clockwise seen from outside; a facet seen from behind does not radiate.
    array, waveform
        Antennas and frequency steps.
    material : Tensor (B,) or float
        0 smooth … 1 rough: the part of the reflected amplitude that is diffuse. Power is kept:
        1 - m² stays coherent, m² leaves by Lambert's law with a phase drawn per facet.
    antenna_size : Tensor (B,) or float
        Side of each antenna's square aperture, metres; 0 is isotropic.
    permittivity : complex or None
        Relative permittivity (e^{+jωt}: negative imaginary part); None is a perfect conductor.
    visibility : Tensor (F, G) or (B, F, G), optional
        Weight 0 … 1 with which each facet sees each group of antennas, transmitter groups first
        (:func:`~radarbook.radar.visibility.visibility`); None: nothing is hidden.
    layer : Layer, optional
        A dielectric slab that every leg crosses (:mod:`radarbook.radar.layer`), its parameters
        one for all meshes or one a mesh; with its own echo where ``layer.echo``.
    facet_size : float
        Facets with longer edges are divided into 4, 16, … before they radiate, m.
    seed : int
        Of the diffuse part's phases, which belong to the facets and do not move with them.
    method
        ``"direct"`` sums every facet into every pair and frequency; ``"fast"`` through the
        skeletons of cells of facets (:mod:`radarbook.radar.skeleton`), within 1e-3 of it.
    memory : int
        Bytes of working memory to stay within, gradients included (``"fast"`` only).

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f), complex
        In 1/m: |S|² d_tx² d_rx² 4π is the radar cross-section where antennas are isotropic.

    Differentiable (once) with respect to vertices, material, antenna_size and the layer's
    parameters, and by ``"direct"`` with respect to the array's positions. Which facets radiate,
    and how they are divided, is decided by the geometry and not differentiated.
    Raises :class:`~radarbook.errors.InputError` for ill-shaped input, and for a layer that does
    not lie between the antennas and every vertex.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import sphere
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> vertices, triangles = sphere((0.0, 0.0, 0.35), radius=0.03, facet=5e-3)
    >>> signal = simulate(vertices.float(), triangles, qar50(), qar50_waveform(4))
    >>> signal.dtype, tuple(signal.shape)
    (torch.complex64, (94, 94, 4))
    """
    if vertices.ndim not in (2, 3) or vertices.shape[-1] != 3:
        raise InputError(f"vertices: expected (N, 3) or (B, N, 3), found {tuple(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"triangles: expected (F, 3), found {tuple(triangles.shape)}")
    if method not in ("fast", "direct"):
        raise InputError(f"parameter 'method': expected fast or direct, found {method!r}")
    if method == "fast" and (array.tx.requires_grad or array.rx.requires_grad):
        raise InputError("array: gradients with respect to positions need method='direct'")
    batch = vertices if vertices.ndim == 3 else vertices[None]
    size, rough = (
        torch.as_tensor(value, device=batch.device).to(batch.dtype).expand(len(batch))
        for value in (antenna_size, material)
    )
    if layer is not None:
        layer.check(array, vertices)
        layer = layer.to(batch.device)
    # As many meshes at a time as fit the budget.
    together = 1 if method == "direct" else max(1, memory // (_TRIANGLE * max(1, len(triangles))))
    signals = []
    for some in torch.arange(len(batch)).split(together):
        of = slice(int(some[0]), int(some[-1]) + 1)
        seen = visibility if visibility is None or visibility.ndim == 2 else visibility[of]
        scene = Scene.of(
            batch[of], triangles, array, waveform, permittivity, seen, facet_size, seed, memory
        )
        mine = None if layer is None else layer[of]
        if method == "fast":
            signals.append(_fast(scene, batch[of], rough[of], size[of], mine, memory))
        else:
            mine = None if mine is None else mine[0]
            signals.append(_direct(scene, batch[of][0], rough[of][0], size[of][0], mine)[None])
    signal = torch.cat(signals).permute(0, 2, 3, 1)
    if layer is not None and layer.echo:
        signal = signal + _echoes(layer, array.to(batch.device), waveform, size).to(signal.dtype)
    return signal if vertices.ndim == 3 else signal[0]


def _echoes(layer: Layer, array: Array, waveform: Waveform, size: Tensor) -> Tensor:
    """(B, rx, tx, f) complex128: the layer's own echo for each antenna size."""
    return torch.stack(
        [layer[b].echo_signal(array, waveform, size[b].double()) for b in range(len(size))]
    )


@dataclass(frozen=True)
class Scene:
    """What is decided before anything is differentiated: the pieces that radiate, of one mesh or
    of a batch.

    ``face`` (P,) is the mesh each piece belongs to, in their order; ``parent`` (P,) the triangle it
    is cut from, ``weights`` (P, 3, 3) its corners in terms of that triangle's; ``share`` (P,) its
    part of the area; ``centre`` (P, 3) where it is; ``seen`` (P, G) its visibility; ``phase`` (P,)
    its diffuse phase. ``columns`` are :func:`group_columns`'. ``given`` is the array as it came.
    """

    triangles: Tensor
    array: Array
    given: Array
    columns: list[Tensor]
    waveform: Waveform
    permittivity: complex | None
    face: Tensor
    parent: Tensor
    weights: Tensor
    share: Tensor
    centre: Tensor
    phase: Tensor
    seen: Tensor | None

    @classmethod
    def of(
        cls,
        vertices: Tensor,
        triangles: Tensor,
        array: Array,
        waveform: Waveform,
        permittivity: complex | None,
        seen: Tensor | None,
        facet_size: float,
        seed: int,
        memory: int = MEMORY_BUDGET,
    ) -> Scene:
        """Of vertices (N, 3) or (B, N, 3), with visibility (F, G) or (B, F, G) or None."""
        points, device = vertices.detach().double(), vertices.device
        given, columns = array, group_columns(array)
        triangles, array = triangles.to(device), array.to(device)
        meshes = points.shape[:-2].numel()
        every = facets(points.reshape(-1, 3), all_triangles(points, triangles))
        antennas = torch.cat([array.tx, array.rx]).detach()
        item = torch.arange(len(every), device=device)  # triangles of all meshes in a row
        if seen is not None:
            seen = seen.to(points).expand(meshes, *seen.shape[-2:]).flatten(0, 1)
            item = (seen > 0).any(1).nonzero()[:, 0]
        # Lit by any antenna: n · (a - c) > 0 for the antenna a farthest along n.
        lit = [
            (every.normal[some] @ antennas.T).amax(1)
            > (every.normal[some] * every.centre[some]).sum(1)
            for some in item.split(max(1, memory // (16 * len(antennas))))
        ]
        item = item[torch.cat(lit)] if lit else item
        edges = every.corners[item] - every.corners[item].roll(1, dims=1)
        longest = edges.square().sum(-1).amax(1).sqrt()
        level = torch.log2(longest / facet_size).ceil().clamp(0, _MAX_LEVEL).long()
        tables = _division(int(level.max()) if len(level) else 0).to(points)
        first = torch.tensor([(4**i - 1) // 3 for i in range(_MAX_LEVEL + 1)], device=device)
        pieces = 4**level
        owner = torch.repeat_interleave(torch.arange(len(item), device=device), pieces)
        rank = torch.arange(len(owner), device=device) - (pieces.cumsum(0) - pieces)[owner]
        child = first[level[owner]] + rank
        item = item[owner]
        face = item.div(len(triangles), rounding_mode="floor")
        parent = item - face * len(triangles)
        weights = tables[child]
        centre = torch.einsum("pc,pcx->px", weights.mean(1), every.corners[item])
        # Two numbers a triangle and one a piece give every piece a phase of its own.
        dice = torch.rand(
            2 * len(triangles), generator=torch_stream(seed, "radar/diffuse"), dtype=torch.float64
        ).to(device)
        turns = dice[parent] + 1e3 * dice[len(triangles) + parent] * (1 + rank).sqrt()
        return cls(
            triangles,
            array,
            given,
            columns,
            waveform,
            permittivity,
            face,
            parent,
            weights,
            0.25 ** level[owner].double(),
            centre,
            2 * math.pi * (turns % 1),
            None if seen is None else seen[item],
        )

    @property
    def middle(self) -> Tensor:
        """(3,) of the array."""
        return (self.array.tx.mean(0) + self.array.rx.mean(0)) / 2

    def pieces(self, vertices: Tensor, index: Tensor) -> Facets:
        """The pieces numbered ``index``; float64, differentiable. Of a scene of one mesh
        ``vertices`` are (N, 3), of a batch (B, N, 3)."""
        corners = self.triangles[self.parent[index]]
        if vertices.ndim == 3:
            corners = corners + (self.face[index] * vertices.shape[1])[:, None]
        whole = facets(vertices.double().reshape(-1, 3), corners)
        corners = self.weights[index] @ whole.corners
        return Facets(corners, middles(corners), whole.normal, whole.area * self.share[index])


def all_triangles(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(B · F, 3): triangles (F, 3) of each mesh of (B, N, 3) or of the one (N, 3), for its vertices
    in a row."""
    if vertices.ndim == 2:
        return triangles
    first = torch.arange(len(vertices), device=triangles.device) * vertices.shape[1]
    return (triangles + first[:, None, None]).flatten(0, 1)


_MAX_LEVEL = 8


def _division(deepest: int) -> Tensor:
    """(pieces, 3, 3) corners of the 1 + 4 + 16 + … pieces of a triangle divided 0, 1, 2, … times,
    as weights of its own corners. Orientation is kept."""
    levels = [torch.eye(3, dtype=torch.float64)[None]]
    for _ in range(deepest):
        a, b, c = levels[-1].unbind(1)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (bc, ca, ab)]
        levels.append(torch.cat([torch.stack(part, 1) for part in parts]))
    return torch.cat(levels)


# -- direct ----------------------------------------------------------------------------------------


def _direct(
    scene: Scene,
    vertices: Tensor,
    material: Tensor,
    size: Tensor,
    layer: Layer | None,
) -> Tensor:
    """(f, rx, tx) of one mesh. Every piece, antenna and frequency, float64 up to the product."""
    dtype = _complex(vertices.dtype)
    f = scene.pieces(vertices, torch.arange(len(scene.parent), device=vertices.device))
    k = scene.waveform.wavenumbers.to(vertices.device)
    toward = torch.nn.functional.normalize(scene.middle - f.centre, dim=1)
    response = facet_response(f, toward, k, material.double(), scene.permittivity, scene.phase)
    gains, lengths, cosines = [], [], []
    for antennas, seen in zip((scene.array.tx, scene.array.rx), _seen_by(scene, None), strict=True):
        path = f.centre[:, None] - antennas
        length = path.square().sum(-1).sqrt()
        direction = path / length[..., None]
        cosine = -(direction * f.normal[:, None]).sum(-1)
        gain = leg_gain(cosine, direction, length, size.double(), scene.waveform.wavelength)
        gains.append(gain if seen is None else gain * seen)
        lengths.append(length)
        cosines.append(direction[..., 2])

    def signal(f: int) -> Tensor:
        near, far = (
            wave(gain, (-k[f] * length) % (2 * math.pi)).to(dtype)
            for gain, length in zip(gains, lengths, strict=True)
        )
        if layer is not None:
            crossed = [layer.leg_factor(k[f, None], cosine)[0].to(dtype) for cosine in cosines]
            near, far = near * crossed[0], far * crossed[1]
        return (response[f].to(dtype)[:, None] * far).T @ near

    return torch.stack(list(divide(signal, len(k))))


def group_columns(array: Array) -> list[Tensor]:
    """(T,) and (R,) int64: the column of a visibility (F, G) that is each antenna's group."""
    tx, rx = antenna_groups(array.tx), antenna_groups(array.rx)
    return [tx, rx + int(tx.max()) + 1]


def _seen_by(scene: Scene, skeleton: Skeleton | None) -> list[Tensor | None]:
    """Visibility of pieces from each transmitter (P, T) and receiver (P, R), or of a skeleton's."""
    if scene.seen is None:
        return [None, None]
    labels = scene.columns
    if skeleton is not None:
        labels = [labels[0][skeleton.tx], labels[1][skeleton.rx]]
    return [scene.seen[:, label.to(scene.seen.device)] for label in labels]


# -- fast ------------------------------------------------------------------------------------------


def _fast(
    scene: Scene,
    vertices: Tensor,
    material: Tensor,
    size: Tensor,
    layer: Layer | None,
    memory: int,
) -> Tensor:
    """(B, f, rx, tx) of a batch, through the skeletons of cells of pieces.

    All meshes are one problem: cells are told apart by mesh and place. Only meshes in different
    boxes of space have skeletons of their own, so that none depends on its batch.
    """
    dtype, device, count = _complex(vertices.dtype), vertices.device, len(vertices)
    shape = count, len(scene.waveform), len(scene.array.rx), len(scene.array.tx)
    if len(scene.parent) == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    side = scene.centre.new_tensor(_CELL)
    places, owner, cell = _cells((scene.centre / side).floor(), scene.face)
    centres = (places + 0.5) * side
    index, block_cell = _blocks(cell)
    points, parameters = vertices.double(), [material, size]
    if layer is not None:
        parameters += [torch.as_tensor(layer.thickness), torch.as_tensor(layer.permittivity)]
    signal = None
    for skeleton, steepest, some in _skeletons(scene, centres, owner, count, layer):
        # The cells of these meshes, and their blocks, numbered anew.
        mine = slice(None) if some is None else some[owner].nonzero()[:, 0]
        blocks, block = index, block_cell
        if some is not None:
            kept = some[owner][block_cell]
            number = some[owner].cumsum(0) - 1
            blocks, block = index[kept], number[block_cell[kept]]
        work = _Cores(
            scene, skeleton, centres[mine], owner[mine], blocks, block,
            layer, steepest, vertices.dtype, memory,
        )  # fmt: skip
        core = _CoreFunction.apply(work, points, *parameters)
        part = skeleton.expand_each(core, centres[mine], owner[mine], count, memory)
        signal = part if signal is None else signal + part
    assert signal is not None
    return signal


def _skeletons(
    scene: Scene, centres: Tensor, owner: Tensor, count: int, layer: Layer | None
) -> Iterator[tuple[Skeleton, float, Tensor | None]]:
    """The skeletons that ``count`` meshes' cells need: each with the smallest cosine of a leg with
    the array's normal, and which meshes (B,) it serves, None for all."""
    into = owner[:, None].expand(-1, 3)
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
        skeleton = build_skeleton(scene.given, scene.waveform, box[:3], box[3:6], half)
        some = None
        if len(first) > 1:
            some = torch.zeros(count, dtype=torch.bool)
            some[torch.from_numpy(there[which.reshape(-1) == i])] = True
            some = some.to(centres.device)
        yield skeleton, _steepest(scene.given, corners[example]), some


def _steepest(array: Array, box: NDArray[np.float64]) -> float:
    """The smallest cosine with the array's normal of a leg to a cell whose centre lies in a box
    (its low and high corner, (6,))."""
    half = np.array(_CELL) / 2
    low, high = box[:3] - half, box[3:] + half
    antennas = torch.cat([array.tx, array.rx]).detach().cpu().numpy()
    near, far = antennas.min(0), antennas.max(0)
    across = float(np.hypot(*np.maximum(high - near, far - low)[:2]))
    along = max(float(low[2] - far[2]), 1e-3)
    return along / math.hypot(along, across)


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


def _blocks(cell: Tensor) -> tuple[Tensor, Tensor]:
    """Pieces sorted by cell into blocks: (blocks, _BLOCK) numbers, -1 where empty; cell of each."""
    order = cell.argsort(stable=True)
    count = cell.bincount()
    blocks = (count + _BLOCK - 1) // _BLOCK
    owner = torch.repeat_interleave(torch.arange(len(count), device=cell.device), blocks)
    start = (count.cumsum(0) - count)[owner]
    within = torch.arange(len(owner), device=cell.device) - (blocks.cumsum(0) - blocks)[owner]
    slot = within[:, None] * _BLOCK + torch.arange(_BLOCK, device=cell.device)
    filled = slot < count[owner][:, None]
    return torch.where(filled, order[torch.where(filled, start[:, None] + slot, 0)], -1), owner


class _Cores:
    """Blocks of pieces to the cores of their cells, and the gradient back, chunk by chunk."""

    def __init__(
        self,
        scene: Scene,
        skeleton: Skeleton,
        centres: Tensor,
        owner: Tensor,
        index: Tensor,
        cell: Tensor,
        layer: Layer | None,
        steepest: float,
        dtype: torch.dtype,
        memory: int,
    ) -> None:
        self.scene, self.skeleton, self.centres = scene, skeleton, centres
        self.owner, self.index, self.cell, self.memory = owner, index, cell, memory
        self.layer, self.steepest, self.dtype = layer, steepest, dtype
        self.seen = _seen_by(scene, skeleton)

    def chunks(self, dtype: torch.dtype) -> tuple[list[Tensor], int]:
        """Numbers of the blocks of each chunk, and how many chunks fit the budget together."""
        skeleton = self.skeleton
        antennas = len(skeleton.tx) + len(skeleton.rx)
        arrays = 4 * len(skeleton.wavenumbers) + 40
        if self.layer is not None:
            arrays *= 2
        per_block = _BLOCK * antennas * dtype.itemsize * arrays
        memory = self.memory
        if self.index.device.type == "cpu":
            memory = min(memory, CACHE)
        blocks = torch.arange(len(self.index), device=self.index.device)
        size = max(1, memory // per_block)
        return list(blocks.split(size)), self.memory // (size * per_block)

    def geometry(
        self, blocks: Tensor, vertices: Tensor, material: Tensor, size: Tensor, *layer: Tensor
    ) -> tuple[Tensor, ...]:
        """Of some blocks: response (g, blocks, K); gain and path difference (blocks, K, A) of the
        transmit and the receive leg; and with a layer, given by its thickness and permittivity,
        its factors (g, blocks, K, A) of both legs. Differentiable."""
        dtype = self.dtype
        index, cell = self.index[blocks], self.cell[blocks]
        face = self.owner[cell]
        empty = index < 0
        index = index.clamp(min=0)
        f = self.scene.pieces(vertices, index.flatten())
        offset = (f.centre.unflatten(0, index.shape) - self.centres[cell][:, None]).to(dtype)
        normal = f.normal.to(dtype).unflatten(0, index.shape)
        # Seen from its own centre, a piece needs single precision only.
        local = Facets(
            (f.corners - f.centre[:, None]).to(dtype),
            torch.zeros_like(f.centre, dtype=dtype),
            f.normal.to(dtype),
            f.area.to(dtype),
        )
        toward = torch.nn.functional.normalize(self.scene.middle - f.centre, dim=1).to(dtype)
        response = facet_response(
            local,
            toward,
            self.skeleton.wavenumbers.to(local.area),
            material[face].repeat_interleave(_BLOCK),
            self.scene.permittivity,
            self.scene.phase[index.flatten()].to(dtype),
        ).unflatten(1, index.shape)
        out = [torch.where(empty, 0, response)]
        crossed: list[Tensor] = []
        table = None
        if self.layer is not None:
            thickness, slab_permittivity = layer
            slab = Layer(self.layer.distance, thickness, slab_permittivity)
            table = LegTable.of(slab, self.skeleton.wavenumbers.to(layer[0]), self.steepest, dtype)
            table = table[face]
        apertures = size / self.scene.waveform.wavelength
        legs = self.skeleton.legs(self.centres[cell], dtype)
        for leg, seen in zip(legs, self.seen, strict=True):
            length, difference = leg.lengths(offset)
            fall = torch.baddbmm(
                (normal * offset).sum(-1, keepdim=True), normal, leg.base.transpose(1, 2)
            )
            inverse = 1 / length
            x, y = ((offset[..., None, i] + leg.base[:, None, :, i]) * inverse for i in range(2))
            gain = amplitude(-fall * inverse, x, y, inverse, apertures[face][:, None, None])
            if seen is not None:
                gain = gain * seen[index].to(dtype)
            out += [gain, difference]
            if table is not None:
                crossed.append(table((offset[..., None, 2] + leg.base[:, None, :, 2]) / length))
        return tuple(out + crossed)

    def forward(self, vertices: Tensor, material: Tensor, size: Tensor, *layer: Tensor) -> Tensor:
        """(cells, g, n, m)."""
        skeleton = self.skeleton
        core = torch.zeros(
            len(self.centres),
            len(skeleton.wavenumbers),
            len(skeleton.rx),
            len(skeleton.tx),
            dtype=_complex(self.dtype),
            device=vertices.device,
        )
        chunks, most = self.chunks(core.dtype)

        def part(n: int) -> Tensor:
            parts = self.geometry(chunks[n], vertices, material, size, *layer)
            response, near, far = self._waves(parts)
            return (response[..., None] * far).transpose(-1, -2) @ near

        for blocks, sums in zip(chunks, divide(part, len(chunks), most), strict=True):
            core.index_add_(0, self.cell[blocks], sums.transpose(0, 1))
        return core

    def backward(self, gradient: Tensor, *given: Tensor) -> list[Tensor]:
        """Gradients with respect to :meth:`forward`'s inputs; each chunk is computed anew."""
        total = [torch.zeros_like(v) for v in given]
        k = self.skeleton.wavenumbers.to(gradient.real)[:, None, None, None]
        chunks, most = self.chunks(gradient.dtype)

        def part(n: int) -> tuple[Tensor, ...]:
            blocks = chunks[n]
            inputs = [v.detach().requires_grad_() for v in given]
            with torch.enable_grad():
                parts = self.geometry(blocks, *inputs)
            response, near, far = self._waves([p.detach() for p in parts])
            back = gradient[self.cell[blocks]].transpose(0, 1).conj()  # (g, blocks, n, m)
            to_far, to_near = near @ back.transpose(-1, -2), far @ back
            grads = [(far * to_far).sum(-1).conj()]
            crossed = []
            for i, here, there in ((0, near, to_near), (1, far, to_far)):
                # d core = response · here · (d gain / gain - jk d difference + d layer / layer)
                flow = response[..., None] * here * there
                gain = parts[1 + 2 * i]
                safe = torch.where(gain == 0, 1, gain)
                grads += [flow.real.sum(0) / safe, (k * flow.imag).sum(0)]
                if self.layer is not None:
                    factor = parts[5 + i]
                    crossed.append((flow / torch.where(factor == 0, 1, factor)).conj())
            return torch.autograd.grad(parts, inputs, grads + crossed)

        for grads in divide(part, len(chunks), most):
            for t, g in zip(total, grads, strict=True):
                t += g
        return total

    def _waves(self, parts: Any) -> tuple[Tensor, Tensor, Tensor]:
        response, gain_tx, path_tx, gain_rx, path_rx, *crossed = parts
        near = self.skeleton.waves(path_tx, -1).mul_(gain_tx)
        far = self.skeleton.waves(path_rx, -1).mul_(gain_rx)
        if crossed:
            near.mul_(crossed[0])
            far.mul_(crossed[1])
        return response, near, far


class _CoreFunction(torch.autograd.Function):
    """:class:`_Cores` for autograd: stores its small inputs alone and recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, work: _Cores, *inputs: Tensor) -> Tensor:
        ctx.work = work
        ctx.save_for_backward(*inputs)
        vertices, material, size, *layer = inputs
        return work.forward(vertices, material, size, *layer)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.work.backward(gradient, *ctx.saved_tensors))


def simulate_points(
    positions: Tensor,
    amplitudes: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    spreading: bool = False,
) -> Tensor:
    """Signal of isotropic points: S[rx, tx, f] = Σ_p a_p e^{-jk(d_tx + d_rx)}, Eq. (1.1).

    Parameters
    ----------
    positions : Tensor (P, 3) or (B, P, 3)
        Metres, radar frame.
    amplitudes : Tensor (P,) or (B, P)
        Real or complex. With ``spreading`` each leg also divides by its length.

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f)
        complex64 for float32 positions, complex128 for float64, on the amplitudes' device.
        Differentiable with respect to positions, amplitudes and the array's positions.
    """
    if positions.ndim not in (2, 3) or positions.shape[-1] != 3:
        raise InputError(f"positions: expected (P, 3) or (B, P, 3), found {tuple(positions.shape)}")
    if amplitudes.shape != positions.shape[:-1]:
        raise InputError(
            f"amplitudes: expected {tuple(positions.shape[:-1])}, found {tuple(amplitudes.shape)}"
        )
    dtype = _complex(positions.dtype)
    positions = positions.to(amplitudes.device)
    if array.pairs is not None:
        return _points_of_pairs(positions, amplitudes.to(dtype), array, waveform, spreading)
    lengths = []
    for antennas in (array.tx, array.rx):
        path = positions.double()[..., None, :] - antennas.to(positions.device)
        lengths.append(path.square().sum(-1).sqrt())
    out = []
    for k in waveform.wavenumbers.to(positions.device):
        near, far = (
            (unit((-k * d) % (2 * math.pi)) / (d if spreading else 1.0)).to(dtype) for d in lengths
        )
        weighted = amplitudes.to(dtype)[..., None] * far
        out.append(weighted.transpose(-1, -2) @ near)
    return torch.stack(out, dim=-1)


def _points_of_pairs(
    positions: Tensor, amplitudes: Tensor, array: Array, waveform: Waveform, spreading: bool
) -> Tensor:
    """(P, f) or (B, P, f) of an array with pairs."""
    assert array.pairs is not None
    near, far = (
        (positions.double()[..., None, :] - antennas[numbers].to(positions.device))
        .square()
        .sum(-1)
        .sqrt()
        for antennas, numbers in zip((array.tx, array.rx), array.pairs.unbind(1), strict=True)
    )
    weights = amplitudes[..., None, :]
    loss = near * far if spreading else torch.ones_like(near)
    out = []
    for k in waveform.wavenumbers.to(positions.device):
        wave = (unit((-k * (near + far)) % (2 * math.pi)) / loss).to(amplitudes.dtype)
        out.append((weights @ wave)[..., 0, :])
    return torch.stack(out, dim=-1)


def _complex(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected float32 or float64 positions, found {dtype}")
    return torch.complex64 if dtype == torch.float32 else torch.complex128
