"""A dataset on disk: HDF5 shards, one index over them, and a ``torch`` dataset that reads them.

A folder holds ``dataset.json`` (the settings), ``shard-00000.h5`` … and, once every shard is
there, ``index.h5``, whose virtual datasets show all shards as one to any HDF5 program. The book's
data page describes every name, unit and dtype.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.datasets.distribution import SPLITS, Indices, Split, Splits
from radarbook.errors import InputError
from radarbook.faces.parameters import NAMES, FaceParameters
from radarbook.files import write_bytes
from radarbook.hdf5 import DamagedFileError, open_hdf5, reason_of
from radarbook.radar.image import RadarImage

LAYOUT = "radarbook faces"
LAYOUT_VERSION = 1
SETTINGS_FILE = "dataset.json"
INDEX_FILE = "index.h5"

#: What every dataset of a shard means; written as attributes.
UNITS = {
    "sample": ("1", "sample number i; everything else of the row depends on (seed, i)"),
    "shape": ("1", "shape coefficients, standard deviations"),
    "expression": ("1", "expression coefficients, standard deviations"),
    "translation": ("m", "x, y, z in the radar frame"),
    "rotation": ("rad", "yaw, pitch, roll"),
    "rendering": ("dB, 1, m", "dynamic range, material factor, antenna size"),
    "amplitude_db": ("dB", "relative to the image's maximum, [sample, y, x], clipped at floor_db"),
    "depth": ("m", "z of the strongest voxel minus depth_reference_m, [sample, y, x]"),
    "x": ("m", "pixel centres"),
    "y": ("m", "pixel centres"),
}
PER_SAMPLE = ("sample", *NAMES, "amplitude_db", "depth")

Arrays = Mapping[str, NDArray[Any]]


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:05d}.h5"


def dataset_files(folder: Path) -> list[Path]:
    """Every file of a dataset that is there."""
    names = (folder / SETTINGS_FILE, folder / INDEX_FILE)
    return [*(path for path in names if path.exists()), *sorted(folder.glob("shard-*.h5"))]


# -- writing ------------------------------------------------------------------------------------


def encode(
    sample: Sequence[int], parameters: FaceParameters, image: RadarImage, reference: float
) -> dict[str, NDArray[Any]]:
    """The arrays of some samples as a shard stores them.

    Images become float16. Depth is stored relative to ``reference`` (metres, the middle of the
    scene), where float16 is finest: rounding is at most 0.016 dB for amplitudes down to -60 dB and
    0.03 mm for depths within 0.125 m of the reference. Where the mask is false the depth carries
    nothing and is stored as the reference. Raises ``FloatingPointError`` naming a sample whose
    image is not finite.
    """
    finite = torch.isfinite(image.amplitude_db).all(-1).all(-1) & torch.isfinite(image.depth).all(
        -1
    ).all(-1)
    if not bool(finite.all()):
        bad = sample[int((~finite).nonzero()[0])]
        raise FloatingPointError(f"sample {bad}: the renderer returned a NaN or infinite image")
    depth = torch.where(image.mask, image.depth.double() - reference, 0.0)
    arrays: dict[str, NDArray[Any]] = {"sample": np.asarray(sample, dtype=np.int64)}
    for name in NAMES:
        arrays[name] = getattr(parameters, name).detach().cpu().float().numpy()
    arrays["amplitude_db"] = image.amplitude_db.detach().cpu().numpy().astype(np.float16)
    arrays["depth"] = depth.detach().cpu().numpy().astype(np.float16)
    arrays["x"] = image.x.detach().cpu().double().numpy()
    arrays["y"] = image.y.detach().cpu().double().numpy()
    return arrays


def shard_bytes(arrays: Arrays, attributes: Mapping[str, Any]) -> bytes:
    """A whole shard as the bytes of an HDF5 file, with its checksum.

    The file is built in memory (a few megabytes), so that writing it is one plain write, whose
    failure (full disk, quota) is a plain ``OSError``. The same content gives the same bytes.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            dataset = file.create_dataset(name, data=array)
            dataset.attrs["unit"], dataset.attrs["description"] = UNITS[name]
        file.attrs["checksum"] = checksum(file)
    return buffer.getvalue()


def checksum(file: h5py.File) -> str:
    """SHA-256 over every attribute and dataset of a shard but the checksum itself."""
    hasher = hashlib.sha256()

    def add(*parts: object) -> None:
        for part in parts:
            data = part if isinstance(part, bytes) else str(part).encode()
            hasher.update(len(data).to_bytes(8, "little") + data)

    for name in sorted(set(file.attrs) - {"checksum"}):
        add(name, file.attrs[name])
    for name in sorted(file):
        dataset = file[name]
        add(name, dataset.dtype.str, dataset.shape, dataset[()].tobytes())
        for key in sorted(dataset.attrs):
            add(key, dataset.attrs[key])
    return hasher.hexdigest()


def write_shard(path: Path, arrays: Arrays, attributes: Mapping[str, Any]) -> None:
    """Write a shard: whole, under its final name, or not at all. ``OSError`` where it cannot be."""
    write_bytes(path, shard_bytes(arrays, attributes))


def damage(path: Path, attributes: Mapping[str, Any]) -> str | None:
    """Why a shard is invalid (checksum or identity), or ``None``."""
    try:
        with open_hdf5(path) as file:
            for name, value in attributes.items():
                if file.attrs.get(name) != value:
                    return f"attribute '{name}' is not the one that was written"
            if file.attrs.get("checksum") != checksum(file):
                return "its content does not match its checksum"
    except Exception as error:  # h5py raises OSError, KeyError, RuntimeError, ... on damaged files
        return f"it cannot be read ({reason_of(error)})"
    return None


def write_index(
    folder: Path, shards: Sequence[Path], splits: Splits, attributes: Mapping[str, Any]
) -> None:
    """Write ``index.h5``: virtual datasets over all shards, next to the split of every sample.

    The shards are named relative to the index, so the folder can be moved. An index that is
    there already, byte for byte, is left alone.
    """
    with open_hdf5(shards[0]) as first:
        kinds = {name: (first[name].shape[1:], first[name].dtype) for name in PER_SAMPLE}
        grid = {name: first[name][()] for name in ("x", "y")}
    sizes, checksums, makers = [], [], []
    for shard in shards:
        with open_hdf5(shard) as file:
            sizes.append(len(file["sample"]))
            checksums.append(file.attrs["checksum"])
            makers.append(file.attrs["versions"])
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, (shape, dtype) in kinds.items():
            layout = h5py.VirtualLayout((sum(sizes), *shape), dtype)
            # As h5py's ordinary datasets, without the time: the same content gives the same bytes.
            layout.dcpl.set_obj_track_times(False)
            start = 0
            for shard, size in zip(shards, sizes, strict=True):
                source = h5py.VirtualSource(shard.name, name, (size, *shape), dtype)
                layout[start : start + size] = source
                start += size
            dataset = file.create_virtual_dataset(name, layout)
            dataset.attrs["unit"], dataset.attrs["description"] = UNITS[name]
        for name, values in grid.items():
            dataset = file.create_dataset(name, data=values)
            dataset.attrs["unit"], dataset.attrs["description"] = UNITS[name]
        number = np.concatenate(
            [np.full(len(splits.block(s)), k, np.uint8) for k, s in enumerate(SPLITS)]
        )
        dataset = file.create_dataset("split", data=number)
        dataset.attrs["description"] = ", ".join(f"{k} = {s}" for k, s in enumerate(SPLITS))
        file.create_dataset("shard", data=np.array([shard.name for shard in shards], "S"))
        file.create_dataset("shard_size", data=sizes)
        file.create_dataset("shard_checksum", data=np.array(checksums, "S"))
        file.create_dataset("shard_versions", data=np.array(makers, "S"))
    path = folder / INDEX_FILE
    if not path.exists() or path.read_bytes() != buffer.getvalue():
        write_bytes(path, buffer.getbuffer())


# -- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Map:
    """Where a contiguous HDF5 dataset lies in its file, to be memory-mapped."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def of(cls, dataset: h5py.Dataset) -> _Map:
        offset = dataset.id.get_offset()
        if offset is None:
            raise OSError(f"'{dataset.name}' is not stored in one piece")
        return cls(dataset.file.filename, offset, dataset.shape, dataset.dtype.str)

    def open(self) -> NDArray[Any]:
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return mapped.view(np.ndarray)  # plain arrays index faster


class FaceDataset(torch.utils.data.Dataset[tuple[FaceParameters, RadarImage]]):
    """Faces and their radar images, read in batches.

    Parameters
    ----------
    folder : path
        A finished dataset (``radarbook generate``).
    split : "train", "validation", "test" or None
        None is all samples, in the order of their numbers.
    dynamic_range : float, (low, high) or None
        Where images are clipped at reading, negative dB. Of a pair, each sample of
        each batch has a uniform sample. None: (-30, -15) for the training split, -20 otherwise.
    memory : None, "cpu", "cuda", ...
        None reads batches from the (page-cached) files; a device name loads the images there
        once, as float16, and batches are gathered on it.

    ``dataset.batch(indices)`` returns ``(FaceParameters, RadarImage)`` of float32 tensors, whole
    batches at a time; the parameters' dynamic range is the one that was applied. The object is
    cheap to pickle and holds no open HDF5 handle, so it works in the workers of a ``DataLoader``,
    forked or spawned (:meth:`collate` is the ``collate_fn``).

    Raises :class:`~radarbook.errors.InputError` naming a missing, unfinished or damaged file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: Split | None = None,
        *,
        dynamic_range: float | tuple[float, float] | None = None,
        memory: str | torch.device | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.split = split
        if dynamic_range is None:
            dynamic_range = (-30.0, -15.0) if split == "train" else -20.0
        self.dynamic_range = dynamic_range
        index = self.folder / INDEX_FILE
        if not index.is_file():
            raise InputError(
                f"{self.folder}: expected a finished dataset, found no {INDEX_FILE} "
                "(run 'radarbook generate' again to finish it)"
            )
        try:
            with open_hdf5(index) as file:
                if file.attrs.get("layout") != LAYOUT:
                    raise InputError(f"{index}: expected a '{LAYOUT}' index, found something else")
                self.attributes = dict(file.attrs)
                shards = [name.decode() for name in file["shard"][()]]
                checksums = [value.decode() for value in file["shard_checksum"][()]]
                sizes = [int(n) for n in file["shard_size"][()]]
                self.x = torch.from_numpy(file["x"][()]).float()
                self.y = torch.from_numpy(file["y"][()]).float()
        except (DamagedFileError, OSError, KeyError) as error:
            raise InputError(f"{index}: damaged index ({reason_of(error)})") from None
        self.settings: dict[str, Any] = json.loads(self.attributes["settings"])
        self.fingerprint = str(self.attributes["fingerprint"])
        self._reference = float(self.settings["depth_reference"])
        floor = float(self.settings["floor_db"])
        for value in np.atleast_1d(self.dynamic_range):
            if not floor <= value < 0:
                raise InputError(
                    f"dynamic_range: expected negative dB down to {floor:g} (where the dataset's "
                    f"images end), found {value:g}"
                )
        splits = Splits(**self.settings["splits"])
        block = range(splits.count) if split is None else splits.block(split)
        #: (N,) sample numbers of this split.
        self.samples = np.arange(block.start, block.stop)

        # Samples are stored in the order of their numbers: shard and row follow from the sizes.
        ends = np.cumsum(sizes)
        self._shard = np.searchsorted(ends, self.samples, side="right")
        self._row = self.samples - (ends - sizes)[self._shard]
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in NAMES}
        self._maps: list[tuple[_Map, _Map]] = []
        for name, wanted in zip(shards, checksums, strict=True):
            path = self.folder / name
            try:
                with open_hdf5(path) as file:
                    if file.attrs["checksum"] != wanted:
                        raise OSError("its content does not match its checksum")
                    for parameter in NAMES:
                        parts[parameter].append(file[parameter][()])
                    self._maps.append((_Map.of(file["amplitude_db"]), _Map.of(file["depth"])))
            except (DamagedFileError, OSError, KeyError, RuntimeError) as error:
                raise InputError(
                    f"{path}: damaged shard: {reason_of(error)} "
                    "('radarbook generate --repair' makes it again)"
                ) from None
        chosen = slice(block.start, block.stop)
        #: Parameters as they were sampled, (N, ...) each.
        self.parameters = FaceParameters(
            *(torch.from_numpy(np.concatenate(parts[name])[chosen]) for name in NAMES)
        )
        self._open: dict[int, tuple[NDArray[Any], NDArray[Any]]] = {}
        self._memory: tuple[Tensor, Tensor] | None = None
        if memory is not None:
            everything = self._read(np.arange(len(self)))
            self._memory = (everything[0].to(memory), everything[1].to(memory))
            self.parameters = self.parameters.to(memory)
            self.x, self.y = self.x.to(memory), self.y.to(memory)

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would be a copy of the file: the other side opens its own.
        return self.__dict__ | {"_open": {}}

    def __getitem__(self, index: int | slice | Sequence[int]) -> tuple[FaceParameters, RadarImage]:
        """A batch, also for a single integer."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"sample {index} of {len(self)}")
            return self.batch([index])
        if isinstance(index, slice):
            return self.batch(range(*index.indices(len(self))))
        return self.batch(index)

    def __getitems__(self, indices: Sequence[int]) -> tuple[FaceParameters, RadarImage]:
        """What a ``DataLoader`` asks for: the batch in one piece (see :meth:`collate`)."""
        return self.batch(indices)

    @staticmethod
    def collate(
        batch: tuple[FaceParameters, RadarImage],
    ) -> tuple[FaceParameters, RadarImage]:
        """The ``collate_fn`` of a ``DataLoader`` over this dataset: a batch is one already."""
        return batch

    def batch(
        self, indices: Indices, *, generator: torch.Generator | None = None
    ) -> tuple[FaceParameters, RadarImage]:
        """Parameters and images of the given rows of this split, float32.

        ``generator`` (CPU) samples the dynamic ranges; None is torch's global one, which a
        ``DataLoader`` seeds per worker.
        """
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        if self._memory is not None:
            here = rows.to(self._memory[0].device)
            amplitude, depth = (images[here].float() for images in self._memory)
        else:
            here = rows
            amplitude, depth = (images.float() for images in self._read(rows.numpy()))
        if isinstance(self.dynamic_range, tuple):
            low, high = self.dynamic_range
            level = low + (high - low) * torch.rand(len(rows), generator=generator)
        else:
            level = torch.full((len(rows),), float(self.dynamic_range))
        level = level.to(amplitude.device)
        parameters = self.parameters[here]
        rendering = parameters.rendering.clone()
        rendering[:, 0] = level
        floor = level[:, None, None]
        image = RadarImage(
            amplitude_db=torch.maximum(amplitude, floor),
            depth=depth.add_(self._reference),
            mask=amplitude > floor,
            x=self.x,
            y=self.y,
            dynamic_range_db=level,
        )
        return parameters.replace(rendering=rendering), image

    def _read(self, rows: NDArray[np.integer[Any]]) -> tuple[Tensor, Tensor]:
        """Amplitude and relative depth of some rows, float16, from the mapped files."""
        size = (len(rows), len(self.y), len(self.x))
        amplitude, depth = np.empty(size, np.float16), np.empty(size, np.float16)
        shards, places = self._shard[rows].tolist(), self._row[rows].tolist()
        for k, (shard, row) in enumerate(zip(shards, places, strict=True)):
            maps = self._open.get(shard)
            if maps is None:
                maps = self._open[shard] = tuple(m.open() for m in self._maps[shard])
            amplitude[k] = maps[0][row]
            depth[k] = maps[1][row]
        return torch.from_numpy(amplitude), torch.from_numpy(depth)
