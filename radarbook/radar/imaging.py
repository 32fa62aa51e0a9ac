"""From the raw signal to a volume and back: back-projection and its adjoint (book, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.profiles import Profile
from radarbook.progress import Progress
from radarbook.radar.array import Array, Pose
from radarbook.radar.clusters import Clusters
from radarbook.radar.pair_sum import Pairs
from radarbook.radar.skeleton import (
    CACHE,
    Advance,
    Operator,
    antenna_groups,
    build_skeleton,
    linear,
    unit,
)
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone, divide

Method = Literal["fast", "direct"]
ImagingMethod = Literal["fast", "direct", "interpolated", "clusters"]
Window = Literal["rectangular", "hann", "hamming", "edges"]
#: Bytes that one call may hold in addition to its input and output, unless the caller differs.
MEMORY_BUDGET = 512 * 2**20
#: Largest cell of voxels that share a skeleton, (x, y, z) metres: small cells need few antennas,
#: large ones few cells (measured: benchmarks/renderer.py).
_CELL = (0.036, 0.036, 0.045)
#: Antennas of a side from which on its skeleton takes longer to find than clusters take to image.
_MANY = 400
#: Voxels times pairs times frequencies up to which a direct sum takes less time than a plan.
_FEW = 2e8
#: Voxels or pairs that one thread sums at a time where pairs are summed directly.
_BLOCK = 512


@dataclass(frozen=True)
class Grid:
    """A volume's voxel centres: ascending x (W,), y (H,), z (D,), float64, metres.

    The axes are the radar frame's, or those of a frame of the grid's own: its axes are the columns
    of ``rotation`` (3, 3), its zero is ``origin`` (3,) of the radar frame.

    Examples
    --------
    >>> grid = Grid.regular(0.30, 64, depth_start=0.25, depth_stop=0.40, depth_planes=31)
    >>> grid.shape
    (31, 64, 64)
    """

    x: Tensor
    y: Tensor
    z: Tensor
    rotation: Tensor | None = field(default=None, kw_only=True)
    origin: Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for name in ("x", "y", "z"):
            value = torch.as_tensor(getattr(self, name)).to(torch.float64)
            if value.ndim != 1 or len(value) == 0 or not bool(torch.isfinite(value).all()):
                raise InputError(f"grid {name}: expected finite coordinates (count,)")
            if bool((value.diff() <= 0).any()):
                raise InputError(f"grid {name}: expected ascending coordinates")
            object.__setattr__(self, name, value)
        if self.rotation is not None or self.origin is not None:
            frame = Pose.of(self.rotation, self.origin, "grid")
            object.__setattr__(self, "rotation", frame.rotation)
            object.__setattr__(self, "origin", frame.translation)

    @classmethod
    def plane(
        cls,
        middle: Sequence[float] | Tensor,
        across: Sequence[float] | Tensor,
        up: Sequence[float] | Tensor,
        pixels: tuple[int, int],
    ) -> Grid:
        """One plane anywhere in the scene: a rectangle of ``pixels`` (across, up) centres.

        ``middle`` (3,) is its middle, m; ``across`` and ``up`` (3,) are its sides, m, at a right
        angle. The image is ``[y, x]`` with x along ``across`` and y along ``up``.

        Examples
        --------
        >>> floor = Grid.plane((0.0, 0.0, 0.3), (0.2, 0.0, 0.0), (0.0, 0.0, 0.1), (21, 11))
        >>> floor.shape, [round(v, 3) for v in floor.points()[0, -1, 0].tolist()]
        ((1, 11, 21), [-0.095, 0.0, 0.345])
        """
        sides = [torch.as_tensor(v, dtype=torch.float64) for v in (across, up)]
        lengths = [float(side.norm()) for side in sides]
        if min(lengths) == 0 or abs(float(sides[0] @ sides[1])) > 1e-6 * math.prod(lengths):
            raise InputError(
                "grid plane: expected two sides at a right angle, neither of them zero"
            )
        first, second = (side / length for side, length in zip(sides, lengths, strict=True))
        axes = [
            (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * (length / count)
            for count, length in zip(pixels, lengths, strict=True)
        ]
        return cls(
            axes[0],
            axes[1],
            torch.zeros(1),
            rotation=torch.stack([first, second, torch.linalg.cross(first, second)], dim=1),
            origin=torch.as_tensor(middle, dtype=torch.float64),
        )

    @classmethod
    def regular(
        cls,
        extent: float,
        pixels: int,
        depth_start: float,
        depth_stop: float,
        depth_planes: int,
    ) -> Grid:
        """A square of ``pixels`` pixel centres on ``extent`` metres; planes start … stop.

        Examples
        --------
        >>> Grid.regular(0.3, 64, 0.25, 0.35, 24).shape
        (24, 64, 64)
        """
        side = (torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2) * (extent / pixels)
        z = torch.linspace(depth_start, depth_stop, depth_planes, dtype=torch.float64)
        return cls(side, side.clone(), z)

    @classmethod
    def for_profile(cls, profile: Profile) -> Grid:
        """The grid of a profile's images."""
        return cls.regular(
            profile.extent,
            profile.pixels,
            profile.depth_start,
            profile.depth_stop,
            profile.depth_planes,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.z), len(self.y), len(self.x)

    def points(self) -> Tensor:
        """(z, y, x, 3) float64 voxel centres in the radar frame."""
        z, y, x = torch.meshgrid(self.z, self.y, self.x, indexing="ij")
        points = torch.stack([x, y, z], dim=-1)
        if self.rotation is None or self.origin is None:
            return points
        return points @ self.rotation.T + self.origin

    def seen(self, array: Array) -> tuple[Array, Grid]:
        """The array in the grid's own frame, and the grid without it."""
        if self.rotation is None or self.origin is None:
            return array, self
        back = self.rotation.T
        return array.moved(back, -back @ self.origin), Grid(self.x, self.y, self.z)


def frequency_window(kind: Window, count: int) -> Tensor:
    """(F,) float64 weights along frequency, mean 1.

    ``"edges"`` is 1 + 2u² for u from -1 to 1 over the band: a lobe in depth narrower by a seventh,
    side lobes of -7 dB, 0.6 dB of signal to noise; for :func:`image_from_volume`'s ``sharp``.

    Examples
    --------
    >>> [round(weight, 3) for weight in frequency_window("hann", 3).tolist()]
    [0.75, 1.5, 0.75]
    """
    if kind == "rectangular":
        weights = torch.ones(count, dtype=torch.float64)
    elif kind == "hann":
        # Sampled inside the band, so no step is thrown away.
        weights = torch.hann_window(count + 2, periodic=False, dtype=torch.float64)[1:-1]
    elif kind == "hamming":
        weights = torch.hamming_window(count, periodic=False, dtype=torch.float64)
    elif kind == "edges":
        weights = 1 + 2 * torch.linspace(-1, 1, count, dtype=torch.float64).square()
    else:
        raise InputError(
            f"parameter 'window': expected rectangular, hann, hamming or edges, found {kind!r}"
        )
    return weights / weights.mean()


@alone()
def back_project(
    signal: Tensor,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    *,
    window: Window = "rectangular",
    method: ImagingMethod | None = None,
    memory: int = MEMORY_BUDGET,
    progress: bool = False,
) -> Tensor:
    """Volume I(v) = Σ S[rx, tx, f] · w(f) · e^{+jk(d_tx(v) + d_rx(v))}, Eq. (P4.1).

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex
        Of an array with pairs (pair, f) or (B, pair, f).
    array, waveform
        Antennas, m, and frequencies, Hz, that the signal was measured with.
    grid : Grid
        Voxel centres, m, in the array's frame.
    window
        Weights along frequency (:func:`frequency_window`): less skirt in depth for a wider main
        lobe, or the reverse.
    method
        Default: :func:`imaging_method`'s choice, which lists the methods.
    memory : int
        Bytes of working memory to stay within (signal and volume not counted).
    progress : bool
        Whether to show how far the work is (not by ``"direct"``).

    Returns
    -------
    Tensor (z, y, x) or (B, z, y, x), complex, of the signal's dtype and on its device
        Linear in the signal and differentiable with respect to it; :func:`project` is the exact
        adjoint. ``"direct"`` also carries gradients to the array's positions.

    Raises :class:`~radarbook.errors.InputError` where the signal does not fit array and waveform.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(8)
    >>> point = torch.tensor([[0.02, -0.01, 0.30]])
    >>> signal = simulate_points(point, torch.ones(1), array, waveform)
    >>> grid = Grid(torch.tensor([0.0, 0.02]), torch.tensor([-0.01, 0.01]), torch.tensor([0.30]))
    >>> volume = back_project(signal, array, waveform, grid)
    >>> int(volume.abs().argmax())  # y = -0.01, x = 0.02: where the point is
    1
    """
    array.require_signal(signal, len(waveform))
    batched = signal.ndim > len(array.axes)
    batch = signal if batched else signal[None]
    batch = batch * frequency_window(window, len(waveform)).to(signal)
    array, grid = grid.seen(array)
    operator = _operator(method, array, waveform, grid, signal, memory)
    if isinstance(operator, _Direct):
        volume = operator.back_project(batch)
    else:
        image = operator.back_project
        with Progress(operator.pieces, "image", "piece", shown=progress) as shown:
            volume = linear(
                operator.ordered(batch), lambda s: image(s, shown.update), operator.project
            )
    return volume if batched else volume[0]


@alone()
def project(
    volume: Tensor,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    *,
    window: Window = "rectangular",
    method: ImagingMethod | None = None,
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """The exact adjoint of :func:`back_project`: the signal of one point per voxel, Eq. (P4.2).

    ``volume`` (z, y, x) or (B, z, y, x) complex reflectivities; returns (rx, tx, f) or
    (B, rx, tx, f), or (pair, f) and (B, pair, f), of the same dtype. Differentiable as
    :func:`back_project` is.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(8)
    >>> grid = Grid.regular(0.1, 9, 0.27, 0.33, 5)
    >>> volume = torch.ones(1, 5, 9, 9, dtype=torch.complex64)
    >>> signal = project(volume, array, waveform, grid)
    >>> back = back_project(signal, array, waveform, grid)  # the adjoint: <P v, P v> = <v, B P v>
    >>> torch.allclose(signal.abs().square().sum(), (volume * back).sum().real, rtol=1e-2)
    True
    """
    if (
        volume.ndim not in (3, 4)
        or tuple(volume.shape[-3:]) != grid.shape
        or not volume.is_complex()
    ):
        raise InputError(
            f"volume: expected complex (z, y, x) = {grid.shape}, "
            f"found {volume.dtype} {tuple(volume.shape)}"
        )
    batch = volume if volume.ndim == 4 else volume[None]
    weights = frequency_window(window, len(waveform)).to(volume)
    array, grid = grid.seen(array)
    operator = _operator(method, array, waveform, grid, volume, memory)
    if isinstance(operator, _Direct):
        signal = operator.project(batch)
    else:
        signal = operator.restored(linear(batch, operator.project, operator.back_project))
    signal = signal.unflatten(1, array.channels) if signal.ndim == 3 else signal
    signal = signal * weights
    return signal if volume.ndim == 4 else signal[0]


def imaging_method(array: Array, waveform: Waveform, grid: Grid) -> ImagingMethod:
    """The quickest method for an array and a grid.

    - ``"direct"``: every pair and frequency for every voxel. For few voxels of arrays with pairs,
      and for gradients to antenna positions.
    - ``"fast"``: the same for the skeleton of each cell of voxels
      (:mod:`~radarbook.radar.skeleton`), within 1e-3. For arrays without pairs of at most 400
      antennas a side.
    - ``"interpolated"``: a coarse grid by ``"fast"``, demodulated and interpolated, within 2e-3.
      For the same arrays, where the coarse grid has less than a third of the grid's voxels: voxels
      finer than about 1 mm.
    - ``"clusters"``: clusters of neighbouring pairs (:mod:`~radarbook.radar.clusters`), within
      1e-3. For any other array: pairs, rasters, synthetic apertures, large sides.

    Bounds are relative to the largest voxel. ``"fast"`` of an array with pairs is ``"clusters"``.
    Measured by ``python -m benchmarks.renderer``.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> imaging_method(qar50(), qar50_waveform(24), Grid.regular(0.3, 64, 0.23, 0.47, 33))
    'fast'
    """
    array, grid = grid.seen(array)
    if array.pairs is None and max(array.channels) <= _MANY:
        coarse = math.prod(map(len, _coarse_axes(array, waveform, grid)))
        return "interpolated" if 3 * coarse < math.prod(grid.shape) else "fast"
    work = float(math.prod(array.channels)) * math.prod(grid.shape) * len(waveform)
    return "direct" if work < _FEW else "clusters"


def _operator(
    method: str | None,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    like: Tensor,
    memory: int,
) -> _Direct | _Cells | _Refined | _Clusters:
    positions = array.tx.requires_grad or array.rx.requires_grad
    if method is None:
        method = "direct" if positions else imaging_method(array, waveform, grid)
    if method == "direct":
        return _Direct(array, waveform, grid, like, memory)
    if method not in ("fast", "interpolated", "clusters"):
        raise InputError(
            f"parameter 'method': expected fast, direct, interpolated or clusters, found {method!r}"
        )
    if method == "clusters" or array.pairs is not None or max(array.channels) > _MANY:
        return _Clusters(array, waveform, grid, like, memory)
    made = _Cells if method == "fast" else _Refined
    return made(array, waveform, grid, like, memory)


def _unwatched(count: int) -> None:
    """Where nobody asks how far the work is."""


class _ByFrequency:
    """An operator that takes signals frequency by frequency, (B, f, rx, tx)."""

    @staticmethod
    def ordered(signal: Tensor) -> Tensor:
        """(B, rx, tx, f) as the operator takes it."""
        return signal.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def restored(samples: Tensor) -> Tensor:
        """The reverse."""
        return samples.permute(0, 2, 3, 1)


# -- any pairs: through clusters of them -----------------------------------------------------------


class _Clusters(Clusters):
    """:class:`~radarbook.radar.clusters.Clusters` on a grid."""

    def __init__(
        self, array: Array, waveform: Waveform, grid: Grid, like: Tensor, memory: int
    ) -> None:
        super().__init__(array, waveform, (grid.x, grid.y, grid.z), like, memory)

    @staticmethod
    def ordered(signal: Tensor) -> Tensor:
        """(B, …, f) as (B, P, f)."""
        return signal.flatten(1, -2)

    @staticmethod
    def restored(samples: Tensor) -> Tensor:
        """(B, P, f), which the caller gives its channels back."""
        return samples


# -- fast: through the skeletons of cells of voxels ------------------------------------------------


class _Cells(_ByFrequency):
    """A grid cut into equal cells of at most ``_CELL`` metres, and the skeleton they share."""

    def __init__(
        self, array: Array, waveform: Waveform, grid: Grid, like: Tensor, memory: int
    ) -> None:
        self.shape, self.memory = grid.shape, memory
        axes = [
            _split(axis, size) for axis, size in zip((grid.x, grid.y, grid.z), _CELL, strict=True)
        ]
        self.counts = [tuple(axis.shape) for axis in axes]  # (cells, voxels a cell) along x, y, z
        middle = [(axis[:, 0] + axis[:, -1]) / 2 for axis in axes]
        half = [float((axis[:, -1] - axis[:, 0]).max()) / 2 for axis in axes]
        box = np.array([[float(m.min()), float(m.max())] for m in middle])
        self.skeleton = build_skeleton(array, waveform, box[:, 0], box[:, 1], np.array(half))
        z, y, x = torch.meshgrid(*middle[::-1], indexing="ij")
        self.centres = torch.stack([x, y, z], -1).reshape(-1, 3).to(like.device)
        self.offsets = [
            (axis - m[:, None]).to(like.device, like.dtype.to_real())
            for axis, m in zip(axes, middle, strict=True)
        ]

    @property
    def pieces(self) -> int:
        """Pieces of work that :meth:`back_project` reports: each cell twice."""
        return 2 * len(self.centres)

    def back_project(self, signal: Tensor, advance: Advance = _unwatched) -> Tensor:
        """(B, f, rx, tx) to (B, z, y, x)."""
        cores = self.skeleton.focus(signal, self.centres, self.memory, advance)
        steering, chunks, most = self._steering(signal.dtype, len(signal))

        def part(n: int) -> Tensor:
            return self._image(cores[:, chunks[n]], *steering(chunks[n]))

        parts = []
        for image in divide(part, len(chunks), most):
            parts.append(image)
            advance(image.shape[1])
        return self._join(torch.cat(parts, dim=1))

    def project(self, volume: Tensor) -> Tensor:
        """(B, z, y, x) to (B, f, rx, tx), the adjoint."""
        values = self._cut(volume)
        steering, chunks, most = self._steering(volume.dtype, len(volume))

        def part(n: int) -> Tensor:
            to_tx, to_rx = steering(chunks[n])
            some = values[:, chunks[n], :, None]
            steps = [
                (to_rx[g].conj() * some).transpose(-1, -2) @ to_tx[g].conj()
                for g in range(len(to_tx))
            ]
            return torch.stack(steps, dim=2)

        cores = torch.cat(list(divide(part, len(chunks), most)), dim=1)
        return self.skeleton.expand(cores, self.centres, self.memory)

    @staticmethod
    def _image(cores: Tensor, to_tx: Tensor, to_rx: Tensor) -> Tensor:
        """(B, cells, voxels): the bilinear form of every voxel, summed over frequencies."""
        total = torch.zeros((), dtype=cores.dtype, device=cores.device)
        for g in range(len(to_tx)):
            # One pass a frequency; the sum over antennas is left to the end.
            total = torch.addcmul(total, to_rx[g] @ cores[:, :, g], to_tx[g])
        return total.sum(-1)

    def _steering(
        self, dtype: torch.dtype, batch: int
    ) -> tuple[Callable[[slice], tuple[Tensor, Tensor]], list[slice], int]:
        """What gives e^{+jk(d(v) - d(c))} (g, cells, voxels, antennas) for transmitters and for
        receivers, of some cells; the cells of each chunk; how many chunks the budget holds."""
        legs = self.skeleton.legs(self.centres, dtype.to_real())
        sizes = len(self.skeleton.tx) + len(self.skeleton.rx)
        voxels = math.prod(count for _, count in self.counts)
        per_cell = voxels * sizes * dtype.itemsize * (len(self.skeleton.wavenumbers) + 6 + batch)
        memory = self.memory
        if self.centres.device.type == "cpu":
            memory = min(memory, CACHE)
        size = max(1, memory // per_cell)
        cells = torch.arange(len(self.centres), device=self.centres.device)

        def steering(some: slice) -> tuple[Tensor, Tensor]:
            index = cells[some]
            offset = self._offset(index)
            to_tx, to_rx = (self.skeleton.waves(leg[index].lengths(offset)[1], +1) for leg in legs)
            return to_tx, to_rx

        chunks = [slice(start, start + size) for start in range(0, len(cells), size)]
        return steering, chunks, self.memory // (size * per_cell)

    def _offset(self, index: Tensor) -> Tensor:
        """(cells, voxels, 3) of the numbered cells' voxels from their centres; z slowest."""
        (nx, wx), (ny, wy), (_, wz) = self.counts
        x, y, z = self.offsets
        x, y, z = x[index % nx], y[index // nx % ny], z[index // (nx * ny)]
        shape = (len(index), wz, wy, wx)
        parts = (x[:, None, None], y[:, None, :, None], z[:, :, None, None])
        return torch.stack([part.expand(shape) for part in parts], -1).flatten(1, 3)

    def _join(self, values: Tensor) -> Tensor:
        (nx, wx), (ny, wy), (nz, wz) = self.counts
        volume = values.reshape(-1, nz, ny, nx, wz, wy, wx).permute(0, 1, 4, 2, 5, 3, 6)
        depth, height, width = self.shape
        return volume.reshape(len(values), nz * wz, ny * wy, nx * wx)[:, :depth, :height, :width]

    def _cut(self, volume: Tensor) -> Tensor:
        (nx, wx), (ny, wy), (nz, wz) = self.counts
        depth, height, width = self.shape
        whole = volume.new_zeros(len(volume), nz * wz, ny * wy, nx * wx)
        whole[:, :depth, :height, :width] = volume
        cells = whole.reshape(-1, nz, wz, ny, wy, nx, wx).permute(0, 1, 3, 5, 2, 4, 6)
        return cells.reshape(len(volume), nz * ny * nx, wz * wy * wx)


def _split(axis: Tensor, size: float) -> Tensor:
    """(cells, count): an axis in equal counts of at most ``size`` metres; the last one is filled
    up by repeating the axis's end."""
    steps = axis.diff()
    widest = float(steps.max()) if len(steps) else size
    count = max(1, min(len(axis), 1 + math.floor(size / widest)))
    cells = math.ceil(len(axis) / count)
    count = math.ceil(len(axis) / cells)
    padding = axis[-1:].expand(cells * count - len(axis))
    return torch.cat([axis, padding]).reshape(cells, count)


# -- interpolated: a coarse grid, demodulated ------------------------------------------------------


class _Refined(_ByFrequency):
    """A fine grid through a coarse one: Eqs. (P4.4)-(P4.6).

    The volume oscillates with a carrier, the two-way phase at mid-band from the middles of the
    antenna groups. Without it the volume is band-limited: its widest local frequency is measured
    over the grid's corners and the array, the coarse step is that bandwidth's with an oversampling
    of ``_OVERSAMPLING``, and a Kaiser-windowed sinc of ``2 · _TAPS`` coarse samples interpolates.
    """

    def __init__(
        self, array: Array, waveform: Waveform, grid: Grid, like: Tensor, memory: int
    ) -> None:
        self.grid = grid
        self.wavenumber = _carrier_wavenumber(waveform)
        self.sources = _carrier_sources(array)
        axes = _coarse_axes(array, waveform, grid)
        self.coarse = Grid(*axes)
        self.cells = _Cells(array, waveform, self.coarse, like, memory)
        real = like.dtype.to_real()
        self.weights = [
            _kaiser_sinc(fine, coarse).to(like.device, real)
            for fine, coarse in zip((grid.x, grid.y, grid.z), axes, strict=True)
        ]

    @property
    def pieces(self) -> int:
        """Pieces of work that :meth:`back_project` reports: the cells' and each plane."""
        return self.cells.pieces + len(self.grid.z)

    def back_project(self, signal: Tensor, advance: Advance = _unwatched) -> Tensor:
        """(B, f, rx, tx) to (B, z, y, x)."""
        coarse = self.cells.back_project(signal, advance)
        coarse = coarse * self._carrier(self.coarse, signal).conj()
        x, y, z = (w.to(signal.dtype) for w in self.weights)
        planes = torch.einsum("zk,bkyx->bzyx", z, coarse)
        out = signal.new_empty(len(signal), *self.grid.shape)

        def plane(i: int) -> None:  # plane by plane: the fine volume is held once
            out[:, i] = y @ planes[:, i] @ x.T
            out[:, i] *= self._carrier(self.grid, signal, i)

        for _ in divide(plane, len(self.grid.z)):
            advance(1)
        return out

    def project(self, volume: Tensor) -> Tensor:
        """(B, z, y, x) to (B, f, rx, tx), the adjoint."""
        x, y, z = (w.to(volume.dtype) for w in self.weights)
        planes = torch.stack(
            [
                y.T @ (volume[:, i] * self._carrier(self.grid, volume, i).conj()) @ x
                for i in range(volume.shape[1])
            ],
            dim=1,
        )
        coarse = torch.einsum("zk,bzyx->bkyx", z, planes)
        return self.cells.project(coarse * self._carrier(self.coarse, volume))

    def _carrier(self, grid: Grid, like: Tensor, plane: int | None = None) -> Tensor:
        """(z, y, x) or, for one plane, (y, x)."""
        z = grid.z if plane is None else grid.z[plane : plane + 1]
        z, y, x = (
            v.to(like.device).reshape(shape)
            for v, shape in ((z, (-1, 1, 1)), (grid.y, (-1, 1)), (grid.x, (-1,)))
        )
        path = torch.zeros((), dtype=torch.float64, device=like.device)
        for middles in self.sources:
            for px, py, pz in middles.tolist():
                leg = ((x - px).square() + (y - py).square() + (z - pz).square()).sqrt()
                path = path + leg / len(middles)
        carrier = unit(((self.wavenumber * path) % (2 * math.pi)).to(like.dtype.to_real()))
        return carrier if plane is None else carrier[0]


_OVERSAMPLING = 1.5
_TAPS = 6


def _coarse_axes(array: Array, waveform: Waveform, grid: Grid) -> list[Tensor]:
    """x, y and z of the coarse grid: steps that the volume's bandwidth allows."""
    steps = math.pi / _bandwidth(array, waveform, grid) / _OVERSAMPLING
    return [
        _coarse_axis(axis, float(step))
        for axis, step in zip((grid.x, grid.y, grid.z), steps, strict=True)
    ]


def _carrier_sources(array: Array) -> list[Tensor]:
    """Points that the carrier's legs start from: middles of the groups of each side."""
    return [_group_middles(positions) for positions in (array.tx, array.rx)]


def _carrier_wavenumber(waveform: Waveform) -> float:
    return float(waveform.wavenumbers[0] + waveform.wavenumbers[-1]) / 2


def _bandwidth(array: Array, waveform: Waveform, grid: Grid) -> Tensor:
    """(3,) largest difference of the local frequency from the carrier's along x, y, z, rad/m."""
    axes = (grid.x, grid.y, grid.z)
    ticks = [torch.stack([a[0], (a[0] + a[-1]) / 2, a[-1]]) for a in axes]
    points = torch.cartesian_prod(*ticks)

    def slopes(antennas: Tensor) -> Tensor:
        return torch.nn.functional.normalize(points[:, None] - antennas.detach().cpu(), dim=-1)

    carrier = _carrier_wavenumber(waveform) * sum(
        slopes(m).mean(1) for m in _carrier_sources(array)
    )
    tx, rx = slopes(array.tx), slopes(array.rx)
    widest = torch.zeros(3, dtype=torch.float64)
    for k in waveform.wavenumbers[[0, -1]].tolist():
        for bound in ("amax", "amin"):
            extreme = k * (getattr(tx, bound)(1) + getattr(rx, bound)(1)) - carrier
            widest = torch.maximum(widest, extreme.abs().amax(0))
    return widest


def _group_middles(positions: Tensor) -> Tensor:
    antennas = positions.detach().cpu()
    labels = antenna_groups(antennas)
    return torch.stack([antennas[labels == g].mean(0) for g in range(int(labels.max()) + 1)])


def _coarse_axis(axis: Tensor, step: float) -> Tensor:
    """Equal steps that reach ``_TAPS`` beyond the axis at both ends."""
    first, last = float(axis[0]), float(axis[-1])
    inner = math.ceil((last - first) / step)
    index = torch.arange(-_TAPS, inner + _TAPS + 1, dtype=torch.float64)
    return first + index * step


def _kaiser_sinc(fine: Tensor, coarse: Tensor) -> Tensor:
    """(fine, coarse) interpolation weights: Kaiser's rule for the transition that the
    oversampling leaves."""
    transition = 2 * math.pi * (1 - 1 / _OVERSAMPLING)
    beta = 0.1102 * (2.285 * 2 * _TAPS * transition + 8 - 8.7)
    at = (fine[:, None] - coarse) / (coarse[1] - coarse[0])
    inside = (1 - (at / _TAPS).square()).clamp(min=0)
    window = torch.special.i0(beta * inside.sqrt()) / torch.special.i0(fine.new_tensor(beta))
    return torch.where(at.abs() <= _TAPS, torch.sinc(at) * window, 0)


# -- direct: every antenna and frequency for every voxel -------------------------------------------


class _Direct:
    """The sums themselves, which carry gradients to the antennas' positions where asked to."""

    def __init__(
        self, array: Array, waveform: Waveform, grid: Grid, like: Tensor, memory: int
    ) -> None:
        self.array, self.waveform, self.grid, self.memory = array, waveform, grid, memory
        self.pairs = None
        if array.pairs is not None:
            self.pairs = Pairs.of(array, waveform, like.device)
            self.points = grid.points().reshape(-1, 3).to(like.device)

    def back_project(self, signal: Tensor) -> Tensor:
        """(B, rx, tx, f) or (B, P, f) to (B, z, y, x)."""
        if self.pairs is None:
            samples = signal.permute(0, 3, 1, 2).contiguous()
            return _back_project_direct(samples, self.array, self.waveform, self.grid, self.memory)
        return self._of_pairs(signal, self._image, self._expand)

    def project(self, volume: Tensor) -> Tensor:
        """The adjoint."""
        if self.pairs is None:
            samples = _project_direct(volume, self.array, self.waveform, self.grid, self.memory)
            return samples.permute(0, 2, 3, 1)
        return self._of_pairs(volume, self._expand, self._image)

    def _of_pairs(self, x: Tensor, operator: Operator, adjoint: Operator) -> Tensor:
        if self.array.tx.requires_grad or self.array.rx.requires_grad:
            return operator(x)
        return linear(x, operator, adjoint)

    def _image(self, signal: Tensor) -> Tensor:
        assert self.pairs is not None
        pairs, blocks = self.pairs, list(self.points.split(_BLOCK))

        def block(n: int) -> Tensor:
            sums = [pairs.at_points(samples, blocks[n]) for samples in signal]
            return torch.stack([torch.complex(*s.unbind(0)) for s in sums])

        volume = torch.cat(list(divide(block, len(blocks))), dim=1)
        return volume.unflatten(1, self.grid.shape)

    def _expand(self, volume: Tensor) -> Tensor:
        assert self.pairs is not None
        values = [torch.stack([v.real, v.imag]).flatten(1) for v in volume]
        blocks = list(torch.arange(len(self.pairs), device=self.points.device).split(_BLOCK))
        every = self.pairs

        def block(n: int) -> Tensor:
            return torch.stack([every[blocks[n]].from_points(v, self.points) for v in values])

        return torch.cat(list(divide(block, len(blocks))), dim=1)


def _back_project_direct(
    samples: Tensor, array: Array, waveform: Waveform, grid: Grid, memory: int
) -> Tensor:
    steering, chunks, most = _direct_steering(array, waveform, grid, samples, memory)

    def part(n: int) -> Tensor:
        sent, received = steering(chunks[n])
        volume = torch.zeros((), dtype=samples.dtype, device=samples.device)
        for f in range(len(sent)):
            volume = volume + ((received[f] @ samples[:, f]) * sent[f]).sum(-1)
        return volume

    volume = torch.cat(list(divide(part, len(chunks), most)), dim=1)
    return volume.reshape(len(samples), *grid.shape)


def _project_direct(
    volume: Tensor, array: Array, waveform: Waveform, grid: Grid, memory: int
) -> Tensor:
    values = volume.flatten(1)
    steering, chunks, most = _direct_steering(array, waveform, grid, volume, memory)

    def part(n: int) -> Tensor:
        sent, received = steering(chunks[n])
        some = values[:, chunks[n], None]
        steps = [
            (received[f].conj() * some).transpose(1, 2) @ sent[f].conj() for f in range(len(sent))
        ]
        return torch.stack(steps, dim=1)

    total = torch.zeros((), dtype=volume.dtype, device=volume.device)
    for signal in divide(part, len(chunks), most):
        total = total + signal
    return total


def _direct_steering(
    array: Array, waveform: Waveform, grid: Grid, like: Tensor, memory: int
) -> tuple[Callable[[slice], tuple[Tensor, Tensor]], list[slice], int]:
    """What gives e^{+jkd} for tx (f, V, T) and rx (f, V, R) of some voxels, z slowest; the voxels
    of each chunk; how many chunks the budget holds."""
    antennas = [positions.to(like.device) for positions in (array.tx, array.rx)]
    k = waveform.wavenumbers.to(like.device)
    points = grid.points().reshape(-1, 3).to(like.device)
    per_voxel = sum(map(len, antennas)) * len(k) * 4 * like.dtype.itemsize

    def steering(some: slice) -> tuple[Tensor, Tensor]:
        pair = []
        for positions in antennas:
            distance = (points[some, None] - positions).square().sum(-1).sqrt()
            phase = (k[:, None, None] * distance) % (2 * math.pi)
            pair.append(unit(phase.to(like.dtype.to_real())))
        return pair[0], pair[1]

    at_once = memory if like.device.type != "cpu" else min(memory, CACHE)
    size = max(1, at_once // per_voxel)
    chunks = [slice(start, start + size) for start in range(0, len(points), size)]
    return steering, chunks, memory // (size * per_voxel)
