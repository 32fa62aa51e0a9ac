"""What is made of a volume: files, point clouds, projections; volumes of several arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.files import write_bytes
from radarbook.hdf5 import new_hdf5, read_hdf5
from radarbook.radar.array import Array
from radarbook.radar.imaging import MEMORY_BUDGET, Grid, ImagingMethod, Window, back_project
from radarbook.radar.waveform import Waveform

Sum = Literal["coherent", "power"]
_KIND = "radarbook volume"
_AXES = ("x", "y", "z")


def back_project_together(
    signals: Sequence[Tensor],
    arrays: Sequence[Array],
    waveform: Waveform,
    grid: Grid,
    *,
    how: Sum,
    window: Window = "rectangular",
    method: ImagingMethod | None = None,
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """One volume of several arrays, each with its own signal.

    Parameters
    ----------
    signals, arrays
        One of each for every array; see :func:`~radarbook.radar.imaging.back_project`. Arrays
        stand anywhere (:meth:`~radarbook.radar.array.Array.moved`).
    how
        ``"coherent"`` sums the volumes: one aperture, sharper and stronger where arrays see the
        same, if they share a clock and their positions are known to a tenth of a wavelength.
        ``"power"`` sums |I|², with which every array shows what it alone sees, whatever its
        phase.
    window, method, memory
        As of :func:`~radarbook.radar.imaging.back_project`.

    Returns
    -------
    Tensor (z, y, x) or (B, z, y, x)
        Complex if coherent; the root of the power, real, else. Differentiable with respect to the
        signals.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> left, waveform = qar50(), qar50_waveform(4)
    >>> right = left.moved(translation=torch.tensor([0.2, 0.0, 0.0]))
    >>> point = torch.tensor([[0.0, 0.0, 0.3]])
    >>> signals = [simulate_points(point, torch.ones(1), a, waveform) for a in (left, right)]
    >>> grid = Grid(torch.zeros(1), torch.zeros(1), torch.tensor([0.3]))
    >>> volume = back_project_together(signals, [left, right], waveform, grid, how="coherent")
    >>> round(float(volume.abs()) / (94 * 94 * 4), 3)  # both arrays, in phase
    2.0
    """
    if how not in ("coherent", "power"):
        raise InputError(f"parameter 'how': expected coherent or power, found {how!r}")
    if len(signals) != len(arrays) or not arrays:
        raise InputError(
            f"signals: expected one for each array, found {len(signals)} and {len(arrays)}"
        )
    total: Tensor | None = None
    for signal, array in zip(signals, arrays, strict=True):
        volume = back_project(
            signal, array, waveform, grid, window=window, method=method, memory=memory
        )
        part = volume if how == "coherent" else volume.real.square() + volume.imag.square()
        total = part if total is None else total + part
    assert total is not None
    if how == "coherent":
        return total
    # The root has no gradient at zero.
    return total.clamp(min=torch.finfo(total.dtype).tiny).sqrt()


def decibel(volume: Tensor, floor_db: float = -200.0) -> Tensor:
    """Level (…) of a volume in dB relative to its maximum, not below ``floor_db``.

    Raises :class:`~radarbook.errors.InputError` for a volume of zeros.

    Examples
    --------
    >>> decibel(torch.tensor([[[1.0, 0.1, 0.0]]]), -60.0).flatten().tolist()
    [0.0, -20.0, -60.0]
    """
    magnitude = volume.detach().abs()
    top = float(magnitude.max())
    if not (math.isfinite(top) and top > 0):
        raise InputError("volume: expected finite values, not all zero")
    return 20 * torch.log10((magnitude / top).clamp(min=10 ** (floor_db / 20)))


def projections(volume: Tensor, floor_db: float = -60.0) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum projections of a volume (z, y, x) in dB: along z (y, x), y (z, x) and x (z, y).

    Examples
    --------
    >>> volume = torch.zeros(3, 4, 5)
    >>> volume[2, 1, 0] = 1.0
    >>> [tuple(p.shape) for p in projections(volume)]
    [(4, 5), (3, 5), (3, 4)]
    """
    if volume.ndim != 3:
        raise InputError(f"volume: expected (z, y, x), found {tuple(volume.shape)}")
    level = decibel(volume, floor_db)
    return level.amax(0), level.amax(1), level.amax(2)


def point_cloud(
    volume: Tensor, grid: Grid, threshold_db: float = -20.0, *, peaks: bool = True
) -> tuple[Tensor, Tensor]:
    """Points of a volume that are strong.

    Parameters
    ----------
    volume : Tensor (z, y, x), complex or magnitude
    threshold_db : float
        Level relative to the maximum from which on a voxel counts, negative dB.
    peaks : bool
        Only voxels not weaker than both neighbours along z: the surface instead of a slab as thick
        as the resolution.

    Returns
    -------
    points : Tensor (N, 3), float64
        Metres, radar frame.
    amplitude_db : Tensor (N,)
        Relative to the maximum.

    Examples
    --------
    >>> grid = Grid.regular(0.1, 5, 0.2, 0.3, 3)
    >>> volume = torch.full(grid.shape, 1e-3)
    >>> volume[1, 2, 2], volume[1, 2, 3] = 1.0, 0.5
    >>> points, amplitude_db = point_cloud(volume, grid)
    >>> [[round(v, 3) for v in p] for p in points.tolist()], amplitude_db.round().tolist()
    ([[0.0, 0.0, 0.25], [0.02, 0.0, 0.25]], [0.0, -6.0])
    """
    if tuple(volume.shape) != grid.shape:
        raise InputError(f"volume: expected (z, y, x) = {grid.shape}, found {tuple(volume.shape)}")
    if not (math.isfinite(threshold_db) and threshold_db < 0):
        raise InputError(f"threshold: expected negative dB, found {threshold_db}")
    level = decibel(volume)
    strong = level >= threshold_db
    if peaks and len(level) > 1:
        around = torch.nn.functional.pad(level[None, None], (0, 0, 0, 0, 1, 1), value=-math.inf)
        strong &= (level >= around[0, 0, :-2]) & (level >= around[0, 0, 2:])
    return grid.points().to(level.device)[strong], level[strong]


def save_points(path: str | os.PathLike[str], points: Tensor, amplitude_db: Tensor) -> None:
    """Write a point cloud as binary PLY, metres, with property ``amplitude_db``; atomically.

    Examples
    --------
    >>> save_points("points.ply", torch.zeros(1, 3), torch.zeros(1))
    """
    if points.ndim != 2 or points.shape[1] != 3 or amplitude_db.shape != points.shape[:1]:
        raise InputError(
            f"{path}: expected points (N, 3) and amplitudes (N,), found {tuple(points.shape)} and "
            f"{tuple(amplitude_db.shape)}"
        )
    names = (*_AXES, "amplitude_db")
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment radarbook, units: m and dB relative to the maximum",
        f"element vertex {len(points)}",
        *(f"property float {name}" for name in names),
        "end_header\n",
    ]
    table = torch.cat([points.double(), amplitude_db.double()[:, None]], dim=1)
    rows = table.detach().cpu().numpy().astype("<f4").tobytes()
    write_bytes(path, "\n".join(header).encode("ascii") + rows)


def save_volume(
    path: str | os.PathLike[str], volume: Tensor, grid: Grid, *, magnitude: bool = False
) -> None:
    """Write a volume to HDF5, atomically.

    Dataset ``volume`` (z, y, x), complex or, with ``magnitude``, its absolute value; ``x``, ``y``,
    ``z`` in m. A grid with a frame of its own adds ``rotation`` (3, 3) and ``origin`` (3,): a voxel
    is at rotation @ (x, y, z) + origin.

    Examples
    --------
    >>> grid = Grid.regular(0.1, 4, 0.2, 0.3, 3)
    >>> save_volume("volume.h5", torch.ones(grid.shape, dtype=torch.complex64), grid)
    >>> volume, same = load_volume("volume.h5")
    >>> volume.dtype, bool((same.x == grid.x).all())
    (torch.complex64, True)
    """
    if tuple(volume.shape) != grid.shape:
        raise InputError(
            f"{path}: expected a volume (z, y, x) = {grid.shape}, found {tuple(volume.shape)}"
        )
    values = volume.detach().cpu()
    with new_hdf5(path) as file:
        file.attrs["kind"] = _KIND
        file.create_dataset("volume", data=(values.abs() if magnitude else values).numpy())
        file["volume"].attrs["units"] = "1"
        for name in _AXES:
            file.create_dataset(name, data=getattr(grid, name).cpu().numpy())
            file[name].attrs["units"] = "m"
        if grid.rotation is not None and grid.origin is not None:
            file.create_dataset("rotation", data=grid.rotation.cpu().numpy())
            file.create_dataset("origin", data=grid.origin.cpu().numpy())
            file["origin"].attrs["units"] = "m"


def load_volume(path: str | os.PathLike[str]) -> tuple[Tensor, Grid]:
    """Read what :func:`save_volume` wrote. Raises :class:`~radarbook.errors.InputError`.

    Examples
    --------
    >>> load_volume("missing.h5")
    Traceback (most recent call last):
        ...
    radarbook.errors.InputError: missing.h5: no such file
    """
    with read_hdf5(path, "an HDF5 volume with volume, x, y and z") as file:
        volume = torch.from_numpy(np.asarray(file["volume"][()]))
        axes = [torch.from_numpy(np.asarray(file[name][()])) for name in _AXES]
        frame = {
            name: torch.from_numpy(np.asarray(file[name][()]))
            for name in ("rotation", "origin")
            if name in file
        }
    grid = Grid(*axes, **frame)
    if tuple(volume.shape) != grid.shape:
        raise InputError(
            f"{path}: expected volume of shape {grid.shape}, found {tuple(volume.shape)}"
        )
    return volume, grid
