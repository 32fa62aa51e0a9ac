"""Factorised back-projection of any array: clusters of antenna pairs (book, section 4).

The image that neighbouring pairs make, with the phase of the path by way of their middle taken out,
varies slowly: it is known everywhere from few nodes. So the pairs are halved and halved again, by
their positions, into a tree of clusters. A cluster's demodulated image is computed on a grid of
Chebyshev nodes, as coarse as its extent and the bandwidth allow, from those of its parts

    I_C(v) = Σ_parts e^{j(ψ_part(v) - ψ_C(v))} Σ_nodes Ψ_n(v) I_part(n),                  Eq. (P4.7)

and of a small cluster by the sum over its pairs (:mod:`radarbook.radar.pair_sum`). Nothing is
assumed of where antennas stand: raster, line, arc, shell, or one transmitter far away. The cost of
a volume of N³ voxels falls from N³ · P to some N² · P (measured: ``benchmarks/renderer.py``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.radar import pair_kernels
from radarbook.radar.array import Array
from radarbook.radar.pair_sum import Pairs, compiled
from radarbook.radar.waveform import Waveform
from radarbook.threads import divide

#: Bound on the relative error of one interpolation: three or four follow one another.
TOLERANCE = 5e-5
#: Pairs of the smallest cluster.
_SMALLEST = 4
#: Parts that a cluster may be divided into, powers of two.
_BRANCHES = (4, 16, 64, 256)
#: Nanoseconds that one thread takes (``benchmarks/renderer.py``), for the choice of a plan: a path
#: and its phase, each of its frequencies, a node that is interpolated and turned, each node of the
#: coarse axis that it is interpolated from, and whatever a part takes in addition.
_PATH, _FREQUENCY, _NODE, _FROM, _PART = 8.0, 0.45, 12.0, 0.12, 4e5
#: Parts of a leaf's nodes, so that threads have work of some milliseconds.
_LEAF = 4096

Axes = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Carrier:
    """φ(v) = 2π (Σ_i rates_i |v - sources_i| + slope · v): the phase that a cluster's image loses.

    ``sources`` (n, 3), ``rates`` (n,) turns a metre, ``slope`` (3,) turns a metre; float64.
    """

    sources: NDArray[np.float64]
    rates: NDArray[np.float64]
    slope: NDArray[np.float64]

    @classmethod
    def none(cls) -> Carrier:
        """φ = 0."""
        return cls(np.zeros((0, 3)), np.zeros(0), np.zeros(3))

    @classmethod
    def round(cls, tx: NDArray[np.float64], rx: NDArray[np.float64], rate: float) -> Carrier:
        """Of the path from ``tx`` (3,) to a point and on to ``rx`` (3,)."""
        if np.array_equal(tx, rx):
            return cls(tx[None], np.array([2 * rate]), np.zeros(3))
        return cls(np.stack([tx, rx]), np.full(2, rate), np.zeros(3))

    def gradient(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(V, 3) rad/m at points (V, 3)."""
        total = np.broadcast_to(self.slope, points.shape)
        for source, rate in zip(self.sources, self.rates, strict=True):
            total = total + rate * _directions(points, source)
        return 2 * math.pi * total

    def minus(self, other: Carrier) -> Carrier:
        """φ less that of another carrier."""
        return Carrier(
            np.concatenate([self.sources, other.sources]),
            np.concatenate([self.rates, -other.rates]),
            self.slope - other.slope,
        )

    def turns(self, axes: Axes) -> Tensor:
        """(z, y, x) float64 turns on a grid."""
        x, y, z = axes
        if x.device.type == "cpu":
            out = np.empty((len(z), len(y), len(x)))
            pair_kernels.carrier_turns(x.numpy(), y.numpy(), z.numpy(), *self._values, out)
            return torch.from_numpy(out)
        points = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], -1)
        total = points @ torch.from_numpy(self.slope).to(points)
        for source, rate in zip(self.sources, self.rates.tolist(), strict=True):
            total = total + rate * (points - torch.from_numpy(source).to(points)).norm(dim=-1)
        return total

    def times(self, value: Tensor, axes: Axes, sign: int) -> Tensor:
        """``value`` (2, z, y, x) times e^{±jφ}."""
        if compiled(value):
            out = np.empty(value.shape, dtype=np.float32)
            x, y, z = (axis.numpy() for axis in axes)
            pair_kernels.turned(value.numpy(), x, y, z, *self._values, np.float32(sign), out)
            return torch.from_numpy(out)
        phase = (self.turns(axes) % 1).to(value.dtype) * (2 * math.pi * sign)
        wave = torch.complex(phase.cos(), phase.sin()) * torch.complex(value[0], value[1])
        return torch.stack([wave.real, wave.imag])

    @property
    def _values(self) -> tuple[NDArray[np.float64], ...]:
        return self.sources, self.rates, self.slope


@dataclass(frozen=True)
class Cluster:
    """Pairs ``first`` … ``last`` - 1 of the tree's order, whose demodulated image is known on
    ``axes``: from its ``parts`` or, if it has none, pair by pair."""

    first: int
    last: int
    axes: Axes
    carrier: Carrier
    parts: tuple[Cluster, ...]
    cost: float

    @property
    def nodes(self) -> int:
        return math.prod(map(len, self.axes))


class Clusters:
    """The linear operator from a signal (B, P, F) to a volume (B, z, y, x), and its adjoint."""

    def __init__(
        self, array: Array, waveform: Waveform, axes: Axes, like: Tensor, memory: int
    ) -> None:
        self.real, self.device, self.memory = like.dtype.to_real(), like.device, memory
        self.shape = tuple(len(axis) for axis in axes[::-1])
        axes = tuple(axis.to(like.device) for axis in axes)  # type: ignore[assignment]
        pairs = Pairs.of(array, waveform, torch.device("cpu"))
        pairs = Pairs(pairs.tx.detach(), pairs.rx.detach(), pairs.wavenumbers)
        self.order = neighbours(pairs.tx, pairs.rx)
        self.pairs = pairs[self.order]
        self._axes: dict[tuple[float, float, int], Tensor] = {}
        self._known: dict[tuple[int, int], Tensor] = {}
        self.boxes = list(self._boxes(axes))
        self._ready = Pairs(*(
            v.to(self.device) for v in (self.pairs.tx, self.pairs.rx, self.pairs.wavenumbers)
        ))  # fmt: skip

    @property
    def pieces(self) -> int:
        """Pieces of work that :meth:`back_project` reports."""
        return sum(max(1, len(root.parts)) for _, _, root in self.boxes)

    @property
    def cost(self) -> float:
        """Estimated seconds of one thread."""
        return 1e-9 * sum(root.cost for _, _, root in self.boxes)

    # -- the two directions -----------------------------------------------------------------------

    def back_project(self, signal: Tensor, advance: Callable[[int], None] | None = None) -> Tensor:
        """(B, P, F) to (B, z, y, x)."""
        volume = signal.new_zeros(len(signal), *self.shape)
        samples = signal[:, self.order.to(signal.device)]
        for b in range(len(signal)):
            for place, axes, root in self.boxes:
                value = self._image(root, samples[b], advance)
                self._restore(root, value, axes, volume[b][place])
        return volume

    def project(self, volume: Tensor) -> Tensor:
        """(B, z, y, x) to (B, P, F), the adjoint."""
        signal = volume.new_zeros(len(volume), len(self.pairs), len(self.pairs.wavenumbers))
        for b in range(len(volume)):
            for place, axes, root in self.boxes:
                value = self._reduce(root, axes, volume[b][place])
                self._expand(root, value, signal[b])
        back = torch.empty_like(signal)
        back[:, self.order.to(volume.device)] = signal
        return back

    def _image(
        self, cluster: Cluster, samples: Tensor, advance: Callable[[int], None] | None = None
    ) -> Tensor:
        """(2, z, y, x) demodulated on the cluster's axes."""
        if not cluster.parts:
            value = self._leaf(cluster, samples)
            if advance is not None:
                advance(1)
            return value

        def part(n: int) -> Tensor:
            some = cluster.parts[n]
            value = self._image(some, samples)
            value = _interpolated(value, self._matrices(some.axes, cluster.axes))
            return some.carrier.minus(cluster.carrier).times(value, cluster.axes, +1)

        size = [2, *(len(axis) for axis in cluster.axes[::-1])]
        total = torch.zeros(size, dtype=self.real, device=self.device)
        for value in divide(part, len(cluster.parts), most=self._together(cluster)):
            total += value
            if advance is not None:
                advance(1)
        return total

    def _expand(self, cluster: Cluster, value: Tensor, signal: Tensor) -> None:
        """Adds to ``signal`` (P, F) what :meth:`_image`'s adjoint makes of ``value``."""
        if not cluster.parts:
            mine = slice(cluster.first, cluster.last)
            points, carrier = self._grid(cluster)
            flat, pairs = value.flatten(1), self._ready[mine]
            # Blocks of pairs are independent: each thread has its own.
            blocks = list(torch.arange(len(pairs)).split(256))

            def block(n: int) -> Tensor:
                return pairs[blocks[n].to(self.device)].from_points(flat, points, carrier)

            signal[mine] += torch.cat(list(divide(block, len(blocks))))
            return

        def part(n: int) -> None:
            some = cluster.parts[n]
            back = some.carrier.minus(cluster.carrier).times(value, cluster.axes, -1)
            matrices = [None if m is None else m.T for m in self._matrices(some.axes, cluster.axes)]
            self._expand(some, _interpolated(back, matrices), signal)

        for _ in divide(part, len(cluster.parts), most=self._together(cluster)):
            pass

    def _leaf(self, cluster: Cluster, samples: Tensor) -> Tensor:
        points, carrier = self._grid(cluster)
        mine = slice(cluster.first, cluster.last)
        pairs, some = self._ready[mine], samples[mine]
        blocks = [slice(i, i + _LEAF) for i in range(0, len(points), _LEAF)]

        def block(n: int) -> Tensor:
            return pairs.at_points(some, points[blocks[n]], carrier[blocks[n]])

        flat = torch.cat(list(divide(block, len(blocks))), dim=1)
        return flat.unflatten(1, [len(axis) for axis in cluster.axes[::-1]])

    # -- the fine grid ----------------------------------------------------------------------------

    def _restore(self, root: Cluster, value: Tensor, axes: Axes, out: Tensor) -> None:
        """Interpolates the root's image to a box of the volume and puts its carrier back."""
        x, y, z = self._matrices(root.axes, axes)
        if z is not None:
            value = _along(value, z, 1)

        def plane(i: int) -> None:  # plane by plane: the volume is held once
            part = _interpolated(value[:, i : i + 1], (x, y, None))
            level = (axes[0], axes[1], axes[2][i : i + 1])
            part = root.carrier.times(part, level, +1)
            out[i] = torch.complex(part[0, 0], part[1, 0])

        for _ in divide(plane, len(out)):
            pass

    def _reduce(self, root: Cluster, axes: Axes, volume: Tensor) -> Tensor:
        """The adjoint of :meth:`_restore`."""
        x, y, z = (None if m is None else m.T for m in self._matrices(root.axes, axes))

        def plane(i: int) -> Tensor:
            level = (axes[0], axes[1], axes[2][i : i + 1])
            part = torch.stack([volume[i].real, volume[i].imag])[:, None].contiguous()
            part = root.carrier.times(part, level, -1)
            return _interpolated(part, (x, y, None))

        planes = torch.cat(list(divide(plane, len(volume))), dim=1)
        return planes if z is None else _along(planes, z, 1)

    # -- small parts ------------------------------------------------------------------------------

    def _grid(self, cluster: Cluster) -> tuple[Tensor, Tensor]:
        """Nodes (V, 3) and the carrier there (V,), z slowest."""
        points = torch.stack(torch.meshgrid(*cluster.axes[::-1], indexing="ij")[::-1], -1)
        return points.reshape(-1, 3), cluster.carrier.turns(cluster.axes).flatten()

    def _matrices(self, coarse: Axes, fine: Axes) -> tuple[Tensor | None, ...]:
        """Interpolation along x, y and z; None where the axis is the same."""
        found: list[Tensor | None] = []
        for c, f in zip(coarse, fine, strict=True):
            if c is f:
                found.append(None)
                continue
            # Axes are kept as long as the operator, and few: a number of nodes is one axis.
            key = id(c), id(f)
            if key not in self._known:
                self._known[key] = _interpolation(c, f).to(self.device, self.real)
            found.append(self._known[key])
        return tuple(found)

    def _together(self, cluster: Cluster) -> int:
        """Parts of a cluster at a time: each holds its image and its carrier there."""
        each = cluster.nodes * (8 + 6 * self.real.itemsize)
        return max(1, self.memory // (4 * each))

    # -- the plan ---------------------------------------------------------------------------------

    def _boxes(self, axes: Axes) -> Iterator[tuple[tuple[slice, ...], Axes, Cluster]]:
        """Boxes of the grid (z, y, x), their axes, and the tree of each: as large as the memory
        holds."""
        waiting = [tuple(slice(0, len(axis)) for axis in axes)]
        while waiting:
            box = waiting.pop()
            some: Axes = tuple(axis[s] for axis, s in zip(axes, box, strict=True))  # type: ignore[assignment]
            root = self._root(some)
            each = root.nodes * (8 + 6 * self.real.itemsize)
            longest = max(range(3), key=lambda i: (len(root.axes[i]), len(some[i])))
            if 6 * each > self.memory and len(some[longest]) > 1:
                at = box[longest]
                middle = (at.start + at.stop) // 2
                for part in (slice(middle, at.stop), slice(at.start, middle)):
                    waiting.append((*box[:longest], part, *box[longest + 1 :]))
                continue
            yield box[::-1], some, root

    def _root(self, axes: Axes) -> Cluster:
        """The cluster of all pairs, on the grid itself or on a coarse one: what costs less."""
        found = _Planner(self.pairs, axes, self._axis)
        coarse, carrier = found.coarse(0, len(self.pairs))
        voxels, nodes = (math.prod(map(len, a)) for a in (axes, coarse))
        if 2 * nodes > voxels:
            return found.plan(0, len(self.pairs), axes, Carrier.none())
        return found.plan(0, len(self.pairs), coarse, carrier)

    def _axis(self, axis: Tensor, width: float) -> Tensor:
        """Chebyshev nodes that carry e^{jκx} for |κ| ≤ width (rad/m) over an axis, or the axis
        itself where it has no more."""
        low, high = float(axis[0]), float(axis[-1])
        count = _node_count(math.ceil(width * (high - low) * 5) / 10)
        if count >= len(axis):
            return axis
        key = low, high, count
        if key not in self._axes:
            angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
            nodes = (low + high) / 2 - (high - low) / 2 * torch.cos(angles)
            self._axes[key] = nodes.to(self.device)
        return self._axes[key]


class _Planner:
    """Which clusters a box of the grid is computed by."""

    def __init__(self, pairs: Pairs, axes: Axes, axis: Callable[[Tensor, float], Tensor]) -> None:
        self.pairs, self.axes, self._axis = pairs, axes, axis
        self._tx, self._rx = pairs.tx.numpy(), pairs.rx.numpy()
        self._k = pairs.wavenumbers[[0, -1]].numpy()
        self._path = _PATH + _FREQUENCY * len(pairs.wavenumbers)
        self._known: dict[tuple[int, int], tuple[Axes, Carrier]] = {}

    def plan(self, first: int, last: int, axes: Axes, carrier: Carrier) -> Cluster:
        """How the image of these pairs on these axes is computed: what costs least."""
        nodes = math.prod(map(len, axes))
        best = Cluster(first, last, axes, carrier, (), nodes * (last - first) * self._path)
        options = []
        for branches in _BRANCHES:
            if last - first < branches * _SMALLEST:
                break
            total, halves = 0.0, _halved(first, last, branches)
            for low, high in halves:
                coarse, _ = self.coarse(low, high)
                few = math.prod(map(len, coarse))
                total += few * (high - low) * self._path + nodes * _node_cost(coarse, axes) + _PART
            options.append((total, halves))
        if not options:
            return best
        # Where no division pays at once, it may if the parts are divided again: the coarsest.
        total, halves = min(options, key=lambda option: option[0])
        if total >= best.cost:
            total, halves = options[0]
            if sum(self._floor(nodes, axes, *half) for half in halves) >= best.cost:
                return best
        parts = [self.plan(*half, *self.coarse(*half)) for half in halves]
        total = sum(p.cost + nodes * _node_cost(p.axes, axes) + _PART for p in parts)
        if total >= best.cost:
            return best
        return Cluster(first, last, axes, carrier, tuple(parts), total)

    def _floor(self, nodes: int, axes: Axes, first: int, last: int) -> float:
        """What a part costs at least."""
        return nodes * _node_cost(self.coarse(first, last)[0], axes) + _PART

    def coarse(self, first: int, last: int) -> tuple[Axes, Carrier]:
        """Nodes that carry the image of these pairs over the box, and the carrier to take out."""
        if (first, last) not in self._known:
            self._known[first, last] = self._coarse(first, last)
        return self._known[first, last]

    def _coarse(self, first: int, last: int) -> tuple[Axes, Carrier]:
        tx, rx = self._tx[first:last], self._rx[first:last]
        middles = tx.mean(0), rx.mean(0)
        points = _probes(self.axes, np.stack(middles))
        low, high = np.empty((2, *points.shape))
        pair_kernels.slopes(points, tx, rx, low, high)
        low = np.minimum(low * self._k[0], low * self._k[1])
        high = np.maximum(high * self._k[0], high * self._k[1])
        rate = float(self._k.mean()) / (2 * math.pi)
        slope = (low.min(0) + high.max(0)) / (4 * math.pi)
        best: tuple[int, Axes, Carrier] | None = None
        for carrier in (
            Carrier.round(*middles, rate),
            Carrier(np.zeros((0, 3)), np.zeros(0), slope),
        ):
            own = carrier.gradient(points)
            widest = np.maximum(high - own, own - low).max(0).tolist()
            x, y, z = (self._axis(a, w) for a, w in zip(self.axes, widest, strict=True))
            count = len(x) * len(y) * len(z)
            if best is None or count < best[0]:
                best = count, (x, y, z), carrier
        assert best is not None
        return best[1], best[2]


def _directions(points: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float64]:
    path = points - source
    return path / np.maximum(np.linalg.norm(path, axis=-1, keepdims=True), 1e-9)


def _node_cost(coarse: Axes, fine: Axes) -> float:
    return _NODE + _FROM * (0 if coarse[0] is fine[0] else len(coarse[0]))


def _halved(first: int, last: int, branches: int) -> list[tuple[int, int]]:
    parts = [(first, last)]
    while len(parts) < branches:
        parts = [
            half
            for low, high in parts
            for half in ((low, (low + high) // 2), ((low + high) // 2, high))
        ]
    return parts


def neighbours(tx: Tensor, rx: Tensor) -> Tensor:
    """(P,) order of pairs, of antennas at ``tx`` and ``rx`` (P, 3), in which neighbours in space
    follow one another: halved and halved again along their largest extent, transmitter and
    receiver positions alike.

    Examples
    --------
    >>> line = torch.tensor([[3.0, 0, 0], [0, 0, 0], [2, 0, 0], [1, 0, 0], [5, 0, 0], [4, 0, 0]])
    >>> neighbours(line, line).tolist()
    [1, 3, 2, 0, 5, 4]
    """
    places = np.concatenate([tx.numpy(), rx.numpy()], axis=1)
    order = np.arange(len(places))
    waiting = [(0, len(places))]
    while waiting:
        low, high = waiting.pop()
        if high - low <= _SMALLEST:
            continue
        some = order[low:high]
        here = places[some]
        order[low:high] = some[np.argsort(here[:, np.ptp(here, axis=0).argmax()], kind="stable")]
        waiting += [(low, (low + high) // 2), ((low + high) // 2, high)]
    return torch.from_numpy(order)


def _probes(axes: Axes, middles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(V, 3) points of a box where a bandwidth is looked at: a lattice and what is nearest to the
    cluster."""
    ticks = []
    for i, axis in enumerate(axes):
        low, high = float(axis.min()), float(axis.max())
        near = np.clip(middles[:, i], low, high)
        ticks.append(np.unique(np.concatenate([np.linspace(low, high, 3), near])))
    return np.stack(np.meshgrid(*ticks, indexing="ij"), -1).reshape(-1, 3)


@functools.lru_cache(maxsize=4096)
def _node_count(argument: float) -> int:
    """Fewest nodes whose interpolation of e^{jax}, |x| ≤ 1, leaves out less than the tolerance:
    the series is 2 Σ j^n J_n(a) T_n(x), and what is left out counts twice, by aliasing."""
    orders = np.arange(0, math.ceil(argument) + 40)
    terms = np.abs(scipy.special.jv(orders, argument))
    left = 4 * np.cumsum(terms[::-1])[::-1]
    return int(np.argmax(left < TOLERANCE))


def _interpolation(coarse: Tensor, fine: Tensor) -> Tensor:
    """(fine, coarse) weights of the polynomial through Chebyshev nodes of the first kind."""
    count = len(coarse)
    signs = torch.ones(count, dtype=torch.float64)
    signs[1::2] = -1
    weights = signs * torch.sin((torch.arange(count, dtype=torch.float64) + 0.5) * math.pi / count)
    distance = fine.cpu()[:, None] - coarse.cpu()
    at_node = distance == 0
    terms = weights / torch.where(at_node, 1.0, distance)
    terms = terms / terms.sum(1, keepdim=True)
    return torch.where(at_node.any(1, keepdim=True), at_node.double(), terms)


def _along(value: Tensor, matrix: Tensor, dim: int) -> Tensor:
    """A real matrix along one axis of (2, z, y, x)."""
    if dim == 3:
        return value @ matrix.T
    if dim == 2:
        return matrix @ value
    return (matrix @ value.flatten(2)).unflatten(2, value.shape[2:])


def _interpolated(
    value: Tensor, matrices: tuple[Tensor | None, ...] | list[Tensor | None]
) -> Tensor:
    """(2, z, y, x) by the matrices of x, y and z, those that grow last applied last."""
    given = [(m, dim) for m, dim in zip(matrices, (3, 2, 1), strict=True) if m is not None]
    for matrix, dim in sorted(given, key=lambda item: len(item[0]) / item[0].shape[1]):
        value = _along(value, matrix, dim)
    return value
