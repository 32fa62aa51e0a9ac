"""Few antennas and few frequencies for a small cell of space (book, :ref:`physics`, section 3).

Seen from a cell a few centimetres wide, an array is redundant: with the phase to the cell's
centre taken out, a path's phase varies slowly from antenna to antenna and from frequency to
frequency. A :class:`Skeleton` picks the antennas and the frequencies that determine all others
for every point of such a cell, and the real matrices that interpolate:

    e^{-jk_f (d_a(p) - d_a(c))} ≈ Σ_i Σ_g Π[f, g] Π[a, i] e^{-jk_g (d_i(p) - d_i(c))},   Eq. (P3.3)

for a point p of the cell with centre c (the book writes i' and f' for i and g). Simulation and
imaging then work with some 20 × 20 antenna pairs and 8 frequencies for a point where the array
has 94 × 94 and 128, and pay for the whole array once per cell. The two directions,
:meth:`Skeleton.expand` and :meth:`Skeleton.focus`, are exact adjoints of each other. The tolerance
is a bound on the interpolation's relative error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.cluster.hierarchy
import scipy.linalg
import scipy.sparse.csgraph
import scipy.spatial
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.radar.array import Array
from radarbook.radar.scattering import wave
from radarbook.radar.waveform import C0, Waveform
from radarbook.threads import alone, divide

#: Default bound on the relative error of the interpolation of Eq. (P3.3).
TOLERANCE = 4e-4
#: Bytes of a chunk on a CPU: what its caches hold counts for more than the length of a loop.
CACHE = 32 * 2**20
#: Antennas up to which groups are found from all their distances.
_MANY = 2000
#: Cells that one thread expands or focuses at a time, some milliseconds each.
_RUN = 8


#: Extent of a sub-array that has one shadow, m, such as the QAR50's columns and rows; and of the
#: parts of a wider one.
WIDEST, PART = 0.15, 0.1


def antenna_groups(positions: Tensor) -> Tensor:
    """(A,) integer label of the sub-array that each antenna belongs to.

    Antennas closer than three times the usual neighbour distance belong together: the QAR50's
    94 transmitters are two columns, its receivers two rows.
    """
    points = positions.detach().cpu().numpy().astype(np.float64)
    return torch.from_numpy(_groups(points.tobytes()).copy())


def shadow_groups(positions: Tensor) -> Tensor:
    """(A,) integer label of the antennas that share a shadow: sub-arrays, and of one that is wider
    than :data:`WIDEST` parts of at most :data:`PART`, halved along their longest side.

    Examples
    --------
    >>> line = torch.zeros(9, 3)
    >>> line[:, 0] = torch.linspace(-0.2, 0.2, 9)
    >>> shadow_groups(line).tolist()
    [0, 0, 1, 1, 2, 2, 3, 4, 4]
    """
    labels = antenna_groups(positions)
    points, out, count = positions.detach().cpu().double(), torch.empty_like(labels), 0
    for label in range(int(labels.max()) + 1):
        waiting, most = [(labels == label).nonzero()[:, 0]], WIDEST
        while waiting:
            part = waiting.pop()
            some = points[part]
            extent = some.amax(0) - some.amin(0)
            if float(extent.norm()) > most:
                most = PART
                order = part[some[:, int(extent.argmax())].argsort(stable=True)]
                waiting += [order[len(order) // 2 :], order[: len(order) // 2]]
                continue
            out[part], count = count, count + 1
    return out


@lru_cache(maxsize=64)
def _groups(positions: bytes) -> NDArray[np.int64]:
    points = np.frombuffer(positions).reshape(-1, 3)
    if len(points) < 3:
        return np.zeros(len(points), dtype=np.int64)
    if len(points) > _MANY:
        # The same by each antenna's nearest neighbour: a matrix of all distances would not fit.
        tree = scipy.spatial.cKDTree(points)
        nearest = np.asarray(tree.query(points, k=2)[0])[:, 1]
        close = tree.sparse_distance_matrix(tree, 3 * float(np.median(nearest)) + 1e-12)
        found = scipy.sparse.csgraph.connected_components(close, directed=False)[1]
        return np.asarray(found, dtype=np.int64)
    links = scipy.cluster.hierarchy.linkage(points, "single")
    reach = 3 * float(np.median(links[:, 2])) + 1e-12
    labels = scipy.cluster.hierarchy.fcluster(links, reach, "distance") - 1
    return np.asarray(labels, dtype=np.int64)


@dataclass(frozen=True)
class Skeleton:
    """Skeleton antennas (indices into the array's), virtual wavenumbers, and interpolations.

    ``tx`` (m,), ``rx`` (n,) int64; ``tx_basis`` (T, m), ``rx_basis`` (R, n) real;
    ``wavenumbers`` (g,) rad/m; ``frequency_basis`` (f, g) real; all float64.
    """

    array: Array
    waveform: Waveform
    tx: Tensor
    rx: Tensor
    tx_basis: Tensor
    rx_basis: Tensor
    wavenumbers: Tensor
    frequency_basis: Tensor

    def expand(self, core: Tensor, centres: Tensor, memory: int) -> Tensor:
        """Signal (B, f, rx, tx) of the cells' cores (B, cells, g, n, m). Linear, Eq. (P3.4)."""
        return linear(
            core,
            lambda x: self._expand(x, centres, memory),
            lambda x: self._focus(x, centres, memory),
        )

    def expand_each(
        self, core: Tensor, centres: Tensor, owner: Tensor, count: int, memory: int
    ) -> Tensor:
        """Signals (count, f, rx, tx) of many scenes at once: each cell's core (cells, g, n, m) goes
        to the scene ``owner`` (cells,) int64. Linear, Eq. (P3.4)."""
        return linear(
            core,
            lambda x: self._expand(x[None], centres, memory, owner, count),
            lambda x: self._focus(x, centres, memory, owner)[0],
        )

    @torch.no_grad()
    def power(
        self, core: Tensor, centres: Tensor, owner: Tensor, count: int, memory: int
    ) -> Tensor:
        """(count,) Σ |S|² of the signals of :meth:`expand_each`, estimated from some of the
        antennas and frequencies."""
        rows = [_spread(len(b), n) for b, n in zip(self._bases(), (5, 12, 12), strict=True)]
        steps, tx, rx = rows
        sampled = replace(
            self,
            array=self.array.subset(tx=tx, rx=rx),
            waveform=Waveform(self.waveform.frequencies[steps]),
            tx_basis=self.tx_basis[tx],
            rx_basis=self.rx_basis[rx],
            frequency_basis=self.frequency_basis[steps],
        )
        signal = sampled._expand(core[None], centres, memory, owner, count)
        taken, all_of_them = signal[0].numel(), math.prod(len(b) for b in self._bases())
        return torch.view_as_real(signal).square().flatten(1).sum(1) * (all_of_them / taken)

    def focus(
        self, signal: Tensor, centres: Tensor, memory: int, advance: Advance | None = None
    ) -> Tensor:
        """Cores (B, cells, g, n, m) of a signal (B, f, rx, tx): the adjoint of :meth:`expand`.

        ``advance`` is called with the number of further cells that are done.
        """
        return linear(
            signal,
            lambda x: self._focus(x, centres, memory, advance=advance),
            lambda x: self._expand(x, centres, memory),
        )

    def legs(self, centres: Tensor, dtype: torch.dtype) -> tuple[CellLegs, CellLegs]:
        """The skeleton's transmitters and receivers as seen from cell centres (cells, 3)."""
        tx, rx = (
            CellLegs.towards(antennas.detach()[index.to(antennas.device)], centres, dtype)
            for antennas, index in ((self.array.tx, self.tx), (self.array.rx, self.rx))
        )
        return tx, rx

    def waves(self, difference: Tensor, sign: int) -> Tensor:
        """(g, ...) complex e^{±jk_g δ} of path differences δ (...): one product a step of k."""
        return stepped_waves(difference, self.wavenumbers, sign)

    def _expand(
        self,
        core: Tensor,
        centres: Tensor,
        memory: int,
        owner: Tensor | None = None,
        count: int = 1,
    ) -> Tensor:
        batch, (n_tx, n_rx), steps = len(core), self._sizes(), len(self.frequency_basis)
        w, p_tx, p_rx = (b.to(core.device, core.dtype.to_real()) for b in self._bases())
        total = core.new_zeros(batch if owner is None else count, steps, n_rx, n_tx)
        several = owner is not None and count > 1
        # Cells are in the order of their owners: a run of cells adds to few of the signals.
        runs = _runs(centres)

        def run(number: int) -> tuple[int, Tensor]:
            low, high = runs[number]
            first, signals = 0, len(total)
            if owner is not None and several and (low, high) != (0, len(centres)):
                first = int(owner[low])
                signals = int(owner[high - 1]) - first + 1
            mine = core.new_zeros(signals, *total.shape[1:])
            for start, stop, to_tx, to_rx in self._frames(
                centres[low:high], core.dtype, batch, memory
            ):
                here = slice(low + start, low + stop)
                part = _apply(p_tx, core[:, here].transpose(-1, -2)).transpose(-1, -2)
                part = _apply(p_rx, part)
                part = _apply(w, part.flatten(-2)).unflatten(-1, (n_rx, n_tx))
                part.mul_(to_rx.conj()[..., None]).mul_(to_tx.conj()[..., None, :])
                if owner is not None and several:
                    mine.index_add_(0, owner[here] - first, part[0])
                else:
                    mine += part.sum(1) if part.shape[1] > 1 else part[:, 0]
            return first, mine

        each = total.numel() * total.itemsize
        for first, mine in divide(run, len(runs), most=memory // max(1, each)):
            total[first : first + len(mine)] += mine
        return total

    def _focus(
        self,
        signal: Tensor,
        centres: Tensor,
        memory: int,
        owner: Tensor | None = None,
        advance: Advance | None = None,
    ) -> Tensor:
        count, _, n_rx, n_tx = signal.shape
        # What has owners is one batch of cells, each of which looks at its owner's signal.
        batch = count if owner is None else 1
        real = signal.dtype.to_real()
        w, p_tx, p_rx = (b.to(signal.device, real).T.contiguous() for b in self._bases())
        runs = _runs(centres)

        def run(number: int) -> Tensor:
            parts = []
            buffer = signal.new_empty(0)
            low, high = runs[number]
            for start, stop, to_tx, to_rx in self._frames(
                centres[low:high], signal.dtype, batch, memory
            ):
                if buffer.shape[1:2] != (stop - start,):
                    buffer = signal.new_empty(batch, stop - start, *signal.shape[1:])
                if owner is None or count == 1:
                    source = signal[:, None]
                else:
                    source = signal[owner[low + start : low + stop]][None]
                part = torch.mul(source, to_rx[..., None], out=buffer)
                part.mul_(to_tx[..., None, :])
                reduced = _apply(w, part.flatten(-2)).unflatten(-1, (n_rx, n_tx))
                reduced = _apply(p_rx, reduced)
                parts.append(_apply(p_tx, reduced.transpose(-1, -2)).transpose(-1, -2).contiguous())
            return torch.cat(parts, dim=1)

        each = 2 * batch * signal[0].numel() * signal.itemsize
        cores = []
        for (low, high), part in zip(
            runs, divide(run, len(runs), most=memory // each), strict=True
        ):
            cores.append(part)
            if advance is not None:
                advance(high - low)
        return torch.cat(cores, dim=1)

    def _bases(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.frequency_basis, self.tx_basis, self.rx_basis

    def _sizes(self) -> tuple[int, int]:
        return len(self.tx_basis), len(self.rx_basis)

    def _frames(
        self, centres: Tensor, dtype: torch.dtype, batch: int, memory: int
    ) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Chunks of cells: first, last + 1, and e^{+jkd(c)} for tx (cells, f, T) and rx."""
        k = self.waveform.wavenumbers.to(centres.device)
        per_cell = 4 * batch * len(k) * math.prod(self._sizes()) * dtype.itemsize
        if centres.device.type == "cpu":
            memory = min(memory, CACHE // 16)
        size = max(1, memory // per_cell)
        for start in range(0, len(centres), size):
            chunk = centres[start : start + size]
            pair = []
            for antennas in (self.array.tx, self.array.rx):
                path = chunk[:, None] - antennas.detach().to(chunk.device)
                phase = k[:, None] * path.square().sum(-1).sqrt()[:, None]
                pair.append(unit((phase % (2 * math.pi)).to(dtype.to_real())))
            yield start, start + len(chunk), pair[0], pair[1]


def _runs(centres: Tensor) -> list[tuple[int, int]]:
    """First and last + 1 of the cells that one thread takes at a time; all of them on a GPU."""
    size = _RUN if centres.device.type == "cpu" else max(1, len(centres))
    return [(low, min(low + size, len(centres))) for low in range(0, len(centres), size)]


@dataclass(frozen=True)
class CellLegs:
    """Paths from A antennas to the points of cells: ``base`` (cells, A, 3) from each antenna to
    each cell's centre and its length ``reach`` (cells, A)."""

    base: Tensor
    reach: Tensor

    @classmethod
    def towards(cls, antennas: Tensor, centres: Tensor, dtype: torch.dtype) -> CellLegs:
        """From antennas (A, 3) to cell centres (cells, 3)."""
        base = centres[:, None] - antennas.to(centres.device)
        return cls(base.to(dtype), base.square().sum(-1).sqrt().to(dtype))

    def __getitem__(self, index: Tensor) -> CellLegs:
        return CellLegs(self.base[index], self.reach[index])

    def lengths(self, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Path length d and its difference from the centre's, (cells, V, A), of points at
        ``offset`` (cells, V, 3) from their cell's centre.

        d² - d_c² over d + d_c: no cancellation, so single precision keeps the phase.
        """
        excess = offset.square().sum(-1, keepdim=True)
        excess = torch.baddbmm(excess, offset, self.base.transpose(1, 2), alpha=2)
        reach = self.reach[:, None]
        length = (reach.square() + excess).sqrt()
        return length, excess / (length + reach)


def unit(phase: Tensor) -> Tensor:
    """e^{jφ}. (``torch.polar`` takes three times as long on a CPU.)"""
    return torch.complex(phase.cos(), phase.sin())


def stepped_waves(
    length: Tensor, wavenumbers: Tensor, sign: int, gain: Tensor | None = None
) -> Tensor:
    """(g, ...) complex a e^{±jk_g d} of path lengths d (...) at wavenumbers (g,): one product per
    step where the steps are equal, and real gains a (...), 1 by default, that the first wave
    hands on."""
    k = wavenumbers.tolist()

    def at(wavenumber: float) -> Tensor:
        phase = length * (sign * wavenumber)
        return unit(phase) if gain is None else wave(gain, phase)

    first = at(k[0])
    whole = torch.empty(len(k), *length.shape, dtype=first.dtype, device=length.device)
    whole[0] = first
    if len(k) == 1:
        return whole
    step = (k[-1] - k[0]) / (len(k) - 1)
    if any(abs(b - a - step) > 1e-6 * step for a, b in pairwise(k)):
        for g in range(1, len(k)):
            whole[g] = at(k[g])
        return whole
    step_wave = unit(length * (sign * step))
    for g in range(1, len(k)):
        torch.mul(whole[g - 1], step_wave, out=whole[g])
    return whole


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """Real (a, b) times complex (..., b, c): through the interleaved real view, which takes half
    the arithmetic of a complex product."""
    flat = torch.view_as_real(x.contiguous()).flatten(-2)
    product = torch.bmm(matrix.expand(flat[..., 0, 0].numel(), -1, -1), flat.flatten(0, -3))
    return torch.view_as_complex(product.unflatten(-1, (-1, 2))).unflatten(0, x.shape[:-2])


Operator = Callable[[Tensor], Tensor]
#: Called with the number of further cells or planes that are done.
Advance = Callable[[int], None]


def linear(x: Tensor, operator: Operator, adjoint: Operator) -> Tensor:
    """``operator(x)`` of a linear operator whose gradient is its adjoint: nothing is stored."""
    return _Linear.apply(x, operator, adjoint)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Operator, adjoint: Operator) -> Tensor:
        ctx.operator, ctx.adjoint = operator, adjoint
        return operator(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Linear.apply(gradient, ctx.adjoint, ctx.operator), None, None


def all_antennas(array: Array, waveform: Waveform, reach: float) -> Skeleton:
    """All antennas, and the frequencies that determine all others for points whose two-way path
    differs from the cell centre's by ``reach`` (m) at most."""
    step = 0.05  # few different tables
    nodes, weights = _frequencies(
        waveform.frequencies.cpu().numpy().astype(np.float64).tobytes(),
        max(1, math.ceil(reach / step)) * step,
    )
    tx, rx = len(array.tx), len(array.rx)
    of_tx, of_rx = (torch.eye(n, dtype=torch.float64) for n in (tx, rx))
    chosen = torch.arange(tx), torch.arange(rx)
    return Skeleton(array, waveform, *chosen, of_tx, of_rx, nodes, weights)


@lru_cache(maxsize=256)
@alone()
def _frequencies(frequencies: bytes, reach: float) -> tuple[Tensor, Tensor]:
    k = np.frombuffer(frequencies) * (2 * math.pi / C0)
    nodes, weights = _frequency_nodes(k, reach, TOLERANCE)
    return torch.from_numpy(nodes), torch.from_numpy(np.ascontiguousarray(weights))


def _spread(count: int, most: int) -> Tensor:
    """At most ``most`` of ``count`` numbers, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def round_box(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The box (..., 3) that a skeleton is built for, around one that cell centres lie in.

    Few different boxes: a table takes longer than an image, and scenes move about.
    """
    side = np.ceil(np.maximum(np.abs(low), np.abs(high)) / 0.1) * 0.1
    nearest = np.floor(low[..., 2:] / 0.04) * 0.04
    farthest = np.ceil(high[..., 2:] / 0.1) * 0.1
    return (
        np.concatenate([-side[..., :2], nearest], axis=-1),
        np.concatenate([side[..., :2], farthest], axis=-1),
    )


def build_skeleton(
    array: Array,
    waveform: Waveform,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    half: NDArray[np.float64],
    tolerance: float = TOLERANCE,
) -> Skeleton:
    """The skeleton for all cells of half-sizes ``half`` whose centres lie in a box.

    ``low``, ``high``, ``half`` are (3,) metres. The result is cached, and the box is widened
    to round figures so that scenes of one kind share it.
    """
    low, high = round_box(low, high)
    key = tuple(
        np.ascontiguousarray(value, dtype=np.float64).tobytes()
        for value in (
            array.tx.detach().cpu().numpy(),
            array.rx.detach().cpu().numpy(),
            waveform.frequencies.cpu().numpy(),
            low,
            high,
            half,
        )
    )
    tx, rx, p_tx, p_rx, k, w = _build(*key, tolerance)
    return Skeleton(array, waveform, tx, rx, p_tx, p_rx, k, w)


# Numpy's linear algebra has threads of its own, which spin on a busy machine: torch's is used.
@lru_cache(maxsize=256)
@alone()
def _build(
    tx: bytes, rx: bytes, frequencies: bytes, low: bytes, high: bytes, half: bytes, tolerance: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    antennas = [np.frombuffer(b).reshape(-1, 3) for b in (tx, rx)]
    k = np.frombuffer(frequencies) * (2 * math.pi / C0)
    box = [np.frombuffer(b) for b in (low, high, half)]
    centres, points = _samples(*box)
    out: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    reach = np.zeros(len(points))
    for positions in antennas:
        to_points = np.linalg.norm(points[:, None] - positions, axis=-1)
        to_centres = np.linalg.norm(centres[:, None] - positions, axis=-1)
        difference = to_points - to_centres
        reach = reach + np.abs(difference).max(1)
        # Amplitudes vary smoothly too (spreading, obliquity): the true ratio is one such factor.
        ratio = to_centres / to_points
        waves = np.concatenate(
            [
                np.exp(-1j * value * difference) * ratio**power
                for value in k[[0, -1]]
                for power in (0, 2)
            ]
        )
        labels = antenna_groups(torch.from_numpy(positions.copy())).numpy()
        out.append(_interpolation(np.concatenate([waves.real, waves.imag]), labels, tolerance))
    (i_tx, p_tx), (i_rx, p_rx) = out
    nodes, weights = _frequency_nodes(k, float(reach.max()), tolerance)
    arrays = (i_tx, i_rx, p_tx, p_rx, nodes, weights)
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)  # type: ignore[return-value]


def _samples(
    low: NDArray[np.float64], high: NDArray[np.float64], half: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and points (N, 3): cells at the box's corners, faces and middle, denser in front."""
    rng = np.random.default_rng(0)
    steps = np.array(np.meshgrid([0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1], [0, 0.1, 0.5]))
    centres = low + steps.reshape(3, -1).T * (high - low)
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    offsets = np.concatenate([corners, rng.uniform(-1, 1, (12, 3))]) * half
    points = centres[:, None] + offsets
    return np.repeat(centres, len(offsets), axis=0), points.reshape(-1, 3)


def _interpolation(
    samples: NDArray[np.float64], labels: NDArray[np.int64], tolerance: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Interpolative decomposition of the columns (antennas) of ``samples``, group by group."""
    chosen: list[NDArray[np.int64]] = []
    blocks: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        # The columns' own triangle first: pivoting a tall matrix takes ten times as long.
        tall = torch.from_numpy(samples[:, members])
        triangle = torch.linalg.qr(tall, mode="r")[1].numpy()
        _, r, order = scipy.linalg.qr(triangle, mode="economic", pivoting=True)
        # Error left by the first i antennas, root mean square over samples and antennas.
        left = np.sqrt(np.cumsum((r**2).sum(1)[::-1])[::-1] / (r**2).sum())
        rank = max(1, int((left > tolerance).sum()))
        basis = np.zeros((len(members), rank))
        basis[order[:rank]] = np.eye(rank)
        if rank < len(members):
            basis[order[rank:]] = scipy.linalg.solve_triangular(r[:rank, :rank], r[:rank, rank:]).T
        chosen.append(members[order[:rank]])
        blocks.append((members, basis))
    total = np.zeros((len(labels), sum(len(c) for c in chosen)))
    column = 0
    for members, basis in blocks:
        total[members, column : column + basis.shape[1]] = basis
        column += basis.shape[1]
    return np.concatenate(chosen), total


def _frequency_nodes(
    k: NDArray[Any], reach: float, tolerance: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Fewest equal steps over the band, and the least-squares interpolation from them.

    ``reach`` is the largest two-way path difference, m, for which e^{-jkδ} must be right.
    """
    centre, half = float(k[0] + k[-1]) / 2, float(k[-1] - k[0]) / 2
    path = np.linspace(0, reach, 256)[:, None]

    def waves(values: NDArray[Any]) -> Tensor:
        phase = path * (values - centre)
        return torch.from_numpy(np.concatenate([np.cos(phase), np.sin(phase)]))

    wanted = waves(k)
    # Fewer steps than a period of the longest path, on either side of the centre, cannot do.
    fewest = max(2, math.ceil(2 * half * reach / math.pi))
    for count in range(fewest, len(k)):
        # Nodes a little beyond the band keep the interpolation from growing at its ends.
        nodes = centre + (half * (1 + 0.4 / count)) * np.linspace(-1, 1, count)
        known = waves(nodes)
        weights = torch.linalg.lstsq(known, wanted, rcond=1e-10, driver="gelsd").solution
        error = known @ weights - wanted
        if math.sqrt(2 * float(error.square().mean())) < tolerance:
            return nodes, weights.T.numpy()
    return k.copy(), np.eye(len(k))
