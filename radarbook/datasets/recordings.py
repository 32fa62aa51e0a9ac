"""Measured signals: recordings in the MAROON / QAR50 layout and in a plain HDF5 layout of our own.

MAROON (Wirth et al., arXiv 2411.00527; Zenodo 18254440) keeps a recording as ::

    <object>/<distance>/metadata.json
    <object>/<distance>/radar_72.0_82.0_128/calibrated_data/000000.npy
    <object>/<distance>/radar_72.0_82.0_128/calibrated_data/000000_emptyfiltered.npy
    <object>/<distance>/radar_72.0_82.0_128/calibration.json
    <object>/<distance>/radar_72.0_82.0_128/depth/000000.png          uint16, mm, 0 = none

A frame is a complex array (94, 94, 128) = (rx, tx, frequency). The published files wrap it in a
pickled dictionary, with the array's two outer reference channels and the frequencies beside it;
both forms are read, and nothing of a pickle but numbers is ever loaded.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from radarbook.errors import InputError
from radarbook.files import atomic_path, write_json
from radarbook.hdf5 import new_hdf5
from radarbook.radar.array import Array, qar50
from radarbook.radar.signal import QAR50_SHAPE, check_signal, write_signal
from radarbook.radar.waveform import Waveform, qar50_waveform

SIGNAL_LAYOUT = "radarbook signal"
SIGNAL_LAYOUT_VERSION = 1
RADAR_FOLDER = "radar_72.0_82.0_128"
_EMPTY_FILTERED = "_emptyfiltered"
Meta = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Recording:
    """One measured frame with what is needed to image it.

    Attributes
    ----------
    signal : Tensor (rx, tx, f), complex64
        Time factor e^{+jωt}: a path of length d has the phase -kd.
    array, waveform
        Antenna positions (radar frame, m) in the order of the signal's axes, and frequencies (Hz).
    meta : mapping
        Whatever is known: ``object``, ``subject``, ``expression``, ``distance`` (m), ``frame``,
        ``empty_filtered``, ``path``, ...
    calibration : mapping
        The frame's entry of MAROON's ``calibration.json`` (empty where there is none).
    reference_depth : Tensor (H, W), float32, or None
        Depth image stored beside the recording, m, [y, x] ascending in the radar frame (MAROON
        mirrors x: turned back here); NaN where it has none. Its grid is the calibration's volume.
    """

    signal: Tensor
    array: Array
    waveform: Waveform
    meta: Meta = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    reference_depth: Tensor | None = None

    def __post_init__(self) -> None:
        shape = (len(self.array.rx), len(self.array.tx), len(self.waveform))
        check_signal(self.signal.numpy(), "recording", shape)


@dataclass(frozen=True)
class RecordingFile:
    """A recording that was found but not read: a path and what the path says."""

    path: Path
    meta: Meta

    def read(self) -> Recording:
        """Read the signal now."""
        recording = read_recording(self.path)
        return replace(recording, meta=dict(self.meta) | dict(recording.meta))


# -- reading ------------------------------------------------------------------------------------


def read_recording(
    path: str | os.PathLike[str], *, frame: int = 0, empty_filtered: bool | None = None
) -> Recording:
    """Read one recording.

    ``path`` is a ``.npy`` frame, an ``.h5`` file in our own layout, or a folder in MAROON layout
    (the distance or the radar folder), of which ``frame`` is read. ``empty_filtered`` chooses
    between the raw frame and the one with the empty room subtracted; None takes the filtered one
    where there is one. Raises :class:`~radarbook.errors.InputError` naming the file and what is
    wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        path = _frame_in(path, frame, empty_filtered)
    if not path.is_file():
        raise InputError(f"{path}: no such file or folder")
    if path.suffix in (".h5", ".hdf5"):
        return _read_hdf5(path)
    if path.suffix == ".npy":
        return _read_maroon(path)
    raise InputError(f"{path}: expected a recording (.npy, .h5 or a folder), found '{path.suffix}'")


def find_recordings(
    folder: str | os.PathLike[str], *, empty_filtered: bool | None = None
) -> Iterator[RecordingFile]:
    """Recordings below ``folder``, in the order of their paths, without reading any signal.

    Frames in MAROON's ``calibrated_data`` folders, ``.npy`` files in ``folder`` itself, and
    HDF5 files of our own layout anywhere below it. ``empty_filtered``: True or False for only the
    filtered or only the raw frames; None takes of each frame the filtered one where there is one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of recordings, found none")
    for where, subfolders, names in os.walk(folder):
        subfolders.sort()
        here = Path(where)
        for name in sorted(names):
            path = here / name
            if path.suffix == ".npy" and (here.name == "calibrated_data" or here == folder):
                filtered = path.stem.endswith(_EMPTY_FILTERED)
                other = _other_version(path)
                wanted = (
                    filtered == empty_filtered
                    if empty_filtered is not None
                    else filtered or other.name not in names
                )
                if wanted:
                    yield RecordingFile(path, _maroon_meta(path))
            elif path.suffix in (".h5", ".hdf5") and _is_ours(path):
                with h5py.File(path, "r") as file:
                    yield RecordingFile(path, _hdf5_meta(file, path))


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """Files that :func:`read_recording` may read for ``path``: the frame and what is beside it."""
    path = Path(path)
    if path.is_dir():
        path = _frame_in(path, 0, None)
    radar = path.parent.parent if path.parent.name == "calibrated_data" else path.parent
    depth = f"{path.stem.removesuffix(_EMPTY_FILTERED)}.png"
    beside = [radar / "calibration.json", radar / "depth" / depth, radar.parent / "metadata.json"]
    return [path, *(file for file in beside if file.is_file())]


def _other_version(path: Path) -> Path:
    """The raw frame of a filtered one, and the reverse."""
    if path.stem.endswith(_EMPTY_FILTERED):
        return path.with_name(path.stem.removesuffix(_EMPTY_FILTERED) + path.suffix)
    return path.with_name(path.stem + _EMPTY_FILTERED + path.suffix)


def _frame_in(folder: Path, frame: int, empty_filtered: bool | None) -> Path:
    radar = folder if (folder / "calibrated_data").is_dir() else folder / RADAR_FOLDER
    raw = radar / "calibrated_data" / f"{frame:06d}.npy"
    filtered = _other_version(raw)
    candidates = {None: [filtered, raw], True: [filtered], False: [raw]}[empty_filtered]
    for path in candidates:
        if path.is_file():
            return path
    names = " or ".join(path.name for path in candidates)
    raise InputError(f"{folder}: expected {names} in {RADAR_FOLDER}/calibrated_data, found none")


class _NumbersOnly(pickle.Unpickler):
    """Unpickles NumPy arrays and plain containers; a file that names anything else is refused."""

    _ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in self._ALLOWED:
            # NumPy 2 renamed the module that NumPy 1's files name.
            return super().find_class(module.replace("numpy.core", "numpy._core"), name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _load_npy(path: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """The array of a ``.npy`` frame and, for MAROON's dictionaries, the entries beside it."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            if not dtype.hasobject:
                return np.load(path, allow_pickle=False), {}
            content = _NumbersOnly(io.BufferedReader(file)).load()
    except (ValueError, OSError, EOFError, pickle.UnpicklingError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected a NumPy .npy array, found {reason}") from None
    entries = content.item() if isinstance(content, np.ndarray) and shape == () else None
    if not isinstance(entries, dict) or not isinstance(entries.get("xr"), np.ndarray):
        raise InputError(f"{path}: expected a signal or a dictionary with the array 'xr'")
    return entries.pop("xr"), entries


def _read_maroon(path: Path) -> Recording:
    signal, entries = _load_npy(path)
    rx, tx, steps = QAR50_SHAPE
    if signal.ndim == 3 and signal.shape[:2] == (rx + 2, tx + 2):
        signal = signal[1:-1, 1:-1]  # the first and last channels are references, not of the array
    waveform = qar50_waveform(steps)
    if "fvec" in entries:
        waveform = Waveform(torch.from_numpy(np.ravel(entries["fvec"]).astype(np.float64)))
    check_signal(signal, str(path), (rx, tx, len(waveform)))
    radar = path.parent.parent if path.parent.name == "calibrated_data" else path.parent
    calibration, depth = {}, None
    frame = path.stem.removesuffix(_EMPTY_FILTERED)
    if (radar / "calibration.json").is_file():
        calibration = _read_json(radar / "calibration.json").get(frame, {})
    if (radar / "depth" / f"{frame}.png").is_file():
        depth = _read_depth(radar / "depth" / f"{frame}.png")
    return Recording(
        signal=torch.from_numpy(np.ascontiguousarray(signal, dtype=np.complex64)),
        array=qar50(),
        waveform=waveform,
        meta=_maroon_meta(path),
        calibration=calibration,
        reference_depth=depth,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: expected JSON, found {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _read_depth(path: Path) -> Tensor:
    try:
        with Image.open(path) as image:
            millimetres = np.asarray(image)
    except OSError as error:
        raise InputError(f"{path}: expected a PNG, found {error}") from None
    if millimetres.ndim != 2 or millimetres.dtype.kind not in "ui":
        raise InputError(
            f"{path}: expected one channel of whole millimetres, found "
            f"{millimetres.dtype} {millimetres.shape}"
        )
    # The picture's first row is the top, and MAROON mirrors x: both turned, [y, x] ascend.
    metres = millimetres[::-1, ::-1].astype(np.float32) / 1000
    return torch.from_numpy(np.where(metres > 0, metres, np.float32(np.nan)))


def _maroon_meta(path: Path) -> dict[str, str | int | float | bool]:
    """What the path, and a ``metadata.json`` beside the radar folder, say about a frame."""
    meta: dict[str, str | int | float | bool] = {
        "path": str(path),
        "empty_filtered": path.stem.endswith(_EMPTY_FILTERED),
    }
    frame = path.stem.removesuffix(_EMPTY_FILTERED)
    if re.fullmatch(r"\d+", frame):
        meta["frame"] = int(frame)
    if path.parent.name != "calibrated_data":
        return meta
    place = path.absolute().parent.parent.parent
    meta["object"] = place.parent.name
    if re.fullmatch(r"\d+", place.name):
        meta["distance"] = int(place.name) / 100  # the folder is named in centimetres
    if (place / "metadata.json").is_file():
        for name, value in _read_json(place / "metadata.json").items():
            if name == "distance_meters":
                meta["distance"] = float(value)
            elif isinstance(value, str | int | float | bool):
                meta[name] = value
    return meta


def _is_ours(path: Path) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return bool(file.attrs.get("layout") == SIGNAL_LAYOUT)
    except OSError:
        return False


def _hdf5_meta(file: h5py.File, path: Path) -> dict[str, Any]:
    # NumPy scalars become Python's.
    own = {k: v.item() if isinstance(v, np.generic) else v for k, v in file["meta"].attrs.items()}
    return own | {"path": str(path)}


def _read_hdf5(path: Path) -> Recording:
    if not _is_ours(path):
        raise InputError(f"{path}: expected an HDF5 file with layout = '{SIGNAL_LAYOUT}'")
    try:
        with h5py.File(path, "r") as file:
            signal = check_signal(file["signal"][()], str(path), (None, None, None))
            array = Array(torch.from_numpy(file["tx"][()]), torch.from_numpy(file["rx"][()]))
            waveform = Waveform(torch.from_numpy(file["frequency"][()]))
            depth = file["reference_depth"][()] if "reference_depth" in file else None
            calibration = json.loads(file.attrs.get("calibration", "{}"))
            meta = _hdf5_meta(file, path)
    except (KeyError, OSError) as error:
        raise InputError(f"{path}: damaged or incomplete: {error}") from None
    shape = (len(array.rx), len(array.tx), len(waveform))
    check_signal(signal, str(path), shape)
    return Recording(
        signal=torch.from_numpy(signal.astype(np.complex64)),
        array=array,
        waveform=waveform,
        meta=meta,
        calibration=calibration,
        reference_depth=None if depth is None else torch.from_numpy(depth.astype(np.float32)),
    )


# -- writing ------------------------------------------------------------------------------------


def write_recording(path: str | os.PathLike[str], recording: Recording) -> None:
    """Write a recording in our own HDF5 layout, atomically (complex64; the book's data page)."""
    with new_hdf5(path) as file:
        file.attrs["layout"] = SIGNAL_LAYOUT
        file.attrs["layout_version"] = SIGNAL_LAYOUT_VERSION
        file.attrs["convention"] = (
            "time factor exp(+j omega t): a path of length d has the phase -2 pi f d / c; "
            "right-handed frame, antennas near z = 0, +z into the scene, +y up"
        )
        if recording.calibration:
            file.attrs["calibration"] = json.dumps(dict(recording.calibration))
        signal = file.create_dataset(
            "signal", data=recording.signal.detach().cpu().numpy().astype(np.complex64)
        )
        signal.attrs["description"] = "complex amplitude, [rx, tx, frequency]"
        columns = {
            "rx": (recording.array.rx, "m", "receiver positions x, y, z"),
            "tx": (recording.array.tx, "m", "transmitter positions x, y, z"),
            "frequency": (recording.waveform.frequencies, "Hz", "frequency steps, ascending"),
        }
        for axis, (name, (values, unit, description)) in enumerate(columns.items()):
            dataset = file.create_dataset(name, data=values.detach().cpu().numpy())
            dataset.attrs["unit"], dataset.attrs["description"] = unit, description
            signal.dims[axis].label = name
        if recording.reference_depth is not None:
            depth = file.create_dataset("reference_depth", data=recording.reference_depth.numpy())
            depth.attrs["unit"] = "m"
            depth.attrs["description"] = "depth image [y, x], ascending; NaN where there is none"
        meta = file.create_group("meta")
        for name, value in recording.meta.items():
            if name != "path":
                meta.attrs[name] = value


def write_maroon(folder: str | os.PathLike[str], recording: Recording, *, frame: int = 0) -> Path:
    """Write a QAR50 recording as a frame of a MAROON folder and return the frame's path.

    ``folder`` is ``<object>/<distance in cm>``. ``meta["empty_filtered"]`` decides the file's
    name; other metadata go into ``metadata.json`` beside what stands there.
    """
    check_signal(recording.signal.numpy(), "recording")
    folder = Path(folder)
    meta = {k: v for k, v in recording.meta.items() if k != "path"}
    suffix = _EMPTY_FILTERED if meta.pop("empty_filtered", False) else ""
    radar = folder / RADAR_FOLDER
    path = radar / "calibrated_data" / f"{frame:06d}{suffix}.npy"
    write_signal(path, recording.signal.numpy())
    for name in ("frame", "object"):  # said by the path
        meta.pop(name, None)
    if "distance" in meta:
        meta["distance_meters"] = meta.pop("distance")
    if meta:
        _update_json(folder / "metadata.json", meta)
    if recording.calibration:
        _update_json(radar / "calibration.json", {f"{frame:06d}": dict(recording.calibration)})
    if recording.reference_depth is not None:
        millimetres = np.nan_to_num(recording.reference_depth.numpy() * 1000).round()
        picture = radar / "depth" / f"{frame:06d}.png"
        with atomic_path(picture) as temporary:
            Image.fromarray(millimetres.astype(np.uint16)[::-1, ::-1]).save(temporary)
    return path


def _update_json(path: Path, entries: Mapping[str, Any]) -> None:
    found = _read_json(path) if path.is_file() else {}
    write_json(path, found | dict(entries))
