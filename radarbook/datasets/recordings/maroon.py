"""Frames of the QAR50 in ``.npy`` files: plain ones, and folders in MAROON's layout."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from radarbook.datasets.recordings.axes import complex64, in_order, numbers, waveform_of
from radarbook.datasets.recordings.recording import Recording
from radarbook.errors import InputError
from radarbook.files import atomic_path, write_json
from radarbook.npy import listing, read_npy
from radarbook.radar.array import qar50
from radarbook.radar.signal import (
    QAR50_SHAPE,
    as_complex,
    check_signal,
    frequencies_path,
    read_frequencies,
    write_signal,
)
from radarbook.radar.waveform import Waveform, qar50_waveform

RADAR_FOLDER = "radar_72.0_82.0_128"
#: Advice for a file of another kind or array.
OTHER_FORMATS = "describe the file of another radar, --describe radar.toml or --array"
_EMPTY_FILTERED = "_emptyfiltered"


# -- folders ------------------------------------------------------------------------------------


def is_filtered(path: Path) -> bool:
    return path.stem.endswith(_EMPTY_FILTERED)


def other_stem(path: Path) -> str:
    """The stem of the raw frame of a filtered one, and the reverse."""
    stem = path.stem
    return stem.removesuffix(_EMPTY_FILTERED) if is_filtered(path) else stem + _EMPTY_FILTERED


def frame_named(stem: str, names: Iterable[str]) -> str | None:
    """Of file names the one of ``<stem>.npy``, the suffix in any case."""
    for name in sorted(names):
        if name[:-4] == stem and name[-4:].lower() == ".npy":
            return name
    return None


def frame_in(folder: Path, frame: int, empty_filtered: bool | None) -> Path:
    radar = folder if (folder / "calibrated_data").is_dir() else folder / RADAR_FOLDER
    frames = radar / "calibrated_data"
    raw, filtered = f"{frame:06d}", f"{frame:06d}{_EMPTY_FILTERED}"
    stems = {None: [filtered, raw], True: [filtered], False: [raw]}[empty_filtered]
    names = os.listdir(frames) if frames.is_dir() else []
    for stem in stems:
        name = frame_named(stem, names)
        if name is not None:
            return frames / name
    wanted = " or ".join(f"{stem}.npy" for stem in stems)
    raise InputError(f"{folder}: expected {wanted} in {RADAR_FOLDER}/calibrated_data, found none")


def beside_frame(path: Path) -> list[Path]:
    """Paths of calibration, depth image and metadata of a frame, if it has them."""
    radar = path.parent.parent if path.parent.name == "calibrated_data" else path.parent
    depth = radar / "depth" / f"{path.stem.removesuffix(_EMPTY_FILTERED)}.png"
    return [radar / "calibration.json", depth, radar.parent / "metadata.json"]


def maroon_meta(path: Path) -> dict[str, str | int | float | bool]:
    """Metadata of a frame from its path and a ``metadata.json`` next to the radar folder."""
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


# -- reading ------------------------------------------------------------------------------------


def read_frame(path: Path, given: Waveform | None, unit: str | None) -> Recording:
    """A frame of the QAR50: plain, as MAROON publishes it, or with frequencies next to it.

    ``given`` waveform: taken instead of the file's frequencies; ``unit``: of the file's.
    """
    source = str(path)
    signal, values, notes = _signal_in(read_npy(path), source)
    rx, tx, _ = QAR50_SHAPE
    if signal.ndim == 3 and signal.shape[:2] == (rx + 2, tx + 2):
        signal = signal[1:-1, 1:-1]  # the first and last channels are references, not of the array
    _check_antennas(signal, source)
    if values is None and given is None:
        values = read_frequencies(path)
        unit = "Hz" if values is not None else unit
    if given is not None:
        notes += [f"{source}: the frequencies in the file are not used"] * (values is not None)
        waveform = given
    elif values is not None:
        waveform = waveform_of(values, unit or "Hz", source)
    else:
        waveform = _usual_waveform(signal.shape, path)
    check_signal(signal, source, (rx, tx, len(waveform)))
    if given is None and values is not None:
        signal, more = in_order(signal, values, source)
        notes += more
    calibration, depth = {}, None
    calibration_file, depth_file, _ = beside_frame(path)
    if calibration_file.is_file():
        frame = path.stem.removesuffix(_EMPTY_FILTERED)
        calibration = _read_json(calibration_file).get(frame, {})
    if depth_file.is_file():
        depth = _read_depth(depth_file)
    return Recording(
        signal=complex64(signal, source),
        array=qar50(),
        waveform=waveform,
        meta=maroon_meta(path),
        calibration=calibration,
        reference_depth=depth,
        notes=tuple(notes),
    )


def _check_antennas(signal: NDArray[Any], source: str) -> None:
    """Refuse a signal of another array than the QAR50, or with its axes in another order."""
    rx, tx, steps = QAR50_SHAPE
    if signal.shape[:2] == (rx, tx) and signal.ndim == 3:
        return
    others = [size for size in signal.shape if size != rx]
    if signal.ndim == 3 and len(others) == 1:
        steps = others[0]
    try:
        check_signal(signal, source, (rx, tx, steps))
    except InputError as error:
        advice = "" if ";" in str(error) or "likely" in str(error) else f"; {OTHER_FORMATS}"
        raise InputError(f"{error}{advice}") from None


def _usual_waveform(shape: tuple[int, ...], path: Path) -> Waveform:
    """72-82 GHz in 128 steps, which a ``.npy`` file without frequencies stands for."""
    if shape != QAR50_SHAPE:
        raise InputError(
            f"{path}: expected {QAR50_SHAPE} at 72-82 GHz, or {frequencies_path(path).name} next "
            f"to it, found {shape}; state its frequencies with --frequencies START STOP COUNT"
        )
    return qar50_waveform(QAR50_SHAPE[2])


def _signal_in(
    arrays: list[NDArray[Any]], source: str
) -> tuple[NDArray[np.complexfloating], NDArray[np.float64] | None, list[str]]:
    """Signal, frequencies where they are with it, and notes, of the arrays of a ``.npy`` file."""
    if len(arrays) > 1:
        return _joined(arrays, source)
    if arrays[0].dtype != object:
        return _checked_complex(arrays[0], source), None, []
    entries = arrays[0].item() if arrays[0].shape == () else None
    if not isinstance(entries, dict) or not isinstance(entries.get("xr"), np.ndarray):
        raise InputError(f"{source}: expected a signal or a dictionary with the array 'xr'")
    frequencies = None
    if "fvec" in entries:
        frequencies = numbers(np.ravel(entries["fvec"]), f"{source}: fvec")
    return _checked_complex(entries["xr"], source), frequencies, []


def _checked_complex(values: NDArray[Any], source: str) -> NDArray[np.complexfloating]:
    """Complex numbers; a signal of another shape is refused for its shape first."""
    if values.ndim != 3 and values.dtype.names is None:
        check_signal(values, source)
    return as_complex(values, source)


def _joined(
    arrays: list[NDArray[Any]], source: str
) -> tuple[NDArray[np.complexfloating], NDArray[np.float64] | None, list[str]]:
    """The signal of several arrays, where only one reading is possible."""
    first, second = arrays[:2]
    real = [array.dtype.kind in "fiu" for array in arrays]
    if len(arrays) == 2 and all(real) and first.ndim == 3 and first.shape == second.shape:
        signal = first.astype(np.float64) + 1j * second.astype(np.float64)
        return signal, None, [f"{source}: two arrays, read as real and imaginary part"]
    if len(arrays) == 2 and real == [False, True] and second.ndim == 1 and first.ndim == 3:
        note = f"{source}: two arrays, read as signal and frequencies"
        return as_complex(first, source), numbers(second, source), [note]
    # One plane for each frequency, unless there are as many as antennas.
    rx, tx, _ = QAR50_SHAPE
    plane = {array.shape for array in arrays}
    if plane not in ({(rx, tx)}, {(rx + 2, tx + 2)}) or len(arrays) in (rx, rx + 2):
        raise InputError(
            f"{source}: expected one signal (rx, tx, frequency), found {listing(arrays)}; "
            f"join them into one, or {OTHER_FORMATS}"
        )
    signal = np.stack([as_complex(array, source) for array in arrays], axis=-1)
    return signal, None, [f"{source}: {len(arrays)} arrays, read as one for each frequency"]


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


# -- writing ------------------------------------------------------------------------------------


def write_maroon(folder: str | os.PathLike[str], recording: Recording, *, frame: int = 0) -> Path:
    """Write a QAR50 recording as a frame of a MAROON folder and return the frame's path.

    ``folder`` is ``<object>/<distance in cm>``. ``meta["empty_filtered"]`` decides the file's
    name; other metadata are added to ``metadata.json``.
    """
    check_signal(recording.signal.numpy(), "recording")
    folder = Path(folder)
    meta = {k: v for k, v in recording.meta.items() if k != "path"}
    suffix = _EMPTY_FILTERED if meta.pop("empty_filtered", False) else ""
    radar = folder / RADAR_FOLDER
    path = radar / "calibrated_data" / f"{frame:06d}{suffix}.npy"
    write_signal(path, recording.signal.numpy())
    for name in ("frame", "object"):  # from the path
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
