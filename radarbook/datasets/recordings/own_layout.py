"""Recordings in the project's HDF5 layout, for any array and any frequencies."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.datasets.recordings.axes import (
    complex64,
    in_order,
    numbers,
    require_apart,
    waveform_of,
)
from radarbook.datasets.recordings.recording import Recording
from radarbook.errors import InputError
from radarbook.hdf5 import DamagedFileError, new_hdf5, open_hdf5, reason_of, text_of
from radarbook.radar.array import POSITION_UNITS, Array, Pose, likely_position_unit
from radarbook.radar.signal import as_complex, check_signal
from radarbook.radar.waveform import FREQUENCY_UNITS, Waveform

SIGNAL_LAYOUT = "radarbook signal"
SIGNAL_LAYOUT_VERSION = 1
#: Attributes of a dataset that may name its unit.
_UNIT = ("unit", "units")


# -- reading ------------------------------------------------------------------------------------


def is_ours(path: Path) -> bool:
    try:
        with open_hdf5(path) as file:
            return text_of(file.attrs.get("layout")) == SIGNAL_LAYOUT
    except DamagedFileError:
        return False


def hdf5_meta(file: h5py.File, path: Path) -> dict[str, Any]:
    """The attributes of the group ``meta``, as Python's own text and numbers."""
    own: dict[str, Any] = {}
    for name, value in file["meta"].attrs.items() if "meta" in file else ():
        text = text_of(value)
        if text is not None:
            own[name] = text
        elif isinstance(value, np.generic | np.ndarray) and np.size(value) == 1:
            own[name] = np.ravel(value)[0].item()
        elif not isinstance(value, h5py.Empty):
            own[name] = value
    return own | {"path": str(path)}


def read_hdf5(
    path: Path, given: Waveform | None, frequency_unit: str | None, units: str | None
) -> Recording:
    try:
        with open_hdf5(path) as file:
            return _recording_in(file, path, given, frequency_unit, units)
    except InputError:
        raise
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        # What h5py raises for parts that are missing, damaged or of a kind it does not know.
        raise InputError(f"{path}: damaged or incomplete: {reason_of(error)}") from None


def _recording_in(
    file: h5py.File,
    path: Path,
    given: Waveform | None,
    frequency_unit: str | None,
    units: str | None,
) -> Recording:
    layout, version = file.attrs.get("layout"), file.attrs.get("layout_version")
    if text_of(layout) != SIGNAL_LAYOUT:
        raise InputError(f"{path}: expected an HDF5 file with layout = '{SIGNAL_LAYOUT}'")
    if version is not None and not _is_version(version):
        raise InputError(
            f"{path}: expected layout_version {SIGNAL_LAYOUT_VERSION}, found {version}"
        )
    tx, rx = (_positions(file, name, path, units) for name in ("tx", "rx"))
    notes: list[str] = []
    values = None
    if given is None:
        values = np.ravel(numbers(_dataset(file, "frequency", path)[()], f"{path}: frequency"))
        unit = frequency_unit or _unit_of(file["frequency"], FREQUENCY_UNITS, "Hz", path)
        waveform = waveform_of(values, unit, str(path))
    else:
        waveform = given
        notes += [f"{path}: the frequencies in the file are not used"] * ("frequency" in file)
    stated = units is not None or all(_states_unit(file[name]) for name in ("tx", "rx"))
    array = _array_of(tx, rx, waveform, path, stated)
    if "pairs" in file:
        array = array.replace(pairs=_pairs_in(file, path, array))
    if "pose" in file:
        array = array.replace(**_pose_in(file, path))
    dataset = _dataset(file, "signal", path)
    # By the shape first: a damaged one could ask for any amount of memory.
    shape = array.signal_shape(len(waveform)), array.axes
    if dataset.shape != shape[0]:
        check_signal(np.broadcast_to(np.complex64(1), dataset.shape), str(path), *shape)
    signal = check_signal(as_complex(dataset[()], str(path)), str(path), *shape)
    if values is not None:
        signal, more = in_order(signal, values, str(path))
        notes += more
    return Recording(
        signal=complex64(signal, str(path)),
        array=array,
        waveform=waveform,
        meta=hdf5_meta(file, path),
        calibration=_calibration_in(file, path),
        reference_depth=_reference_depth_in(file, path),
        notes=tuple(notes),
    )


def _is_version(value: Any) -> bool:
    """Whether an attribute holds the layout's version: 1, "1", or 1.0 as MATLAB writes it."""
    text = text_of(value)
    try:
        return float(np.ravel(value)[0] if text is None else text) == SIGNAL_LAYOUT_VERSION
    except (IndexError, TypeError, ValueError):
        return False


def _array_of(
    tx: NDArray[np.float64], rx: NDArray[np.float64], waveform: Waveform, path: Path, stated: bool
) -> Array:
    """The array of positions in metres; their unit must be plausible, or stated: then an antenna
    may be any distance away."""
    try:
        array = Array(torch.from_numpy(tx), torch.from_numpy(rx), unit="m" if stated else None)
    except InputError as error:
        advice = ""
        if "within 2 m" in str(error):
            likely = likely_position_unit(max(np.abs(tx).max(), np.abs(rx).max()))
            advice = f" (--units {' or '.join(likely)})"
        raise InputError(f"{path}: {error}{advice}") from None
    require_apart(array, waveform, str(path), "--units m, cm or mm")
    return array


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{path}: expected a dataset '{name}', found none")
    return found


def _states_unit(dataset: h5py.Dataset) -> bool:
    return any(text_of(dataset.attrs.get(name)) for name in _UNIT)


def _unit_of(dataset: h5py.Dataset, known: Mapping[str, float], usual: str, path: Path) -> str:
    """The unit that a dataset's attribute ``unit`` or ``units`` names."""
    for attribute in _UNIT:
        unit = text_of(dataset.attrs.get(attribute))
        if unit:
            if unit not in known:
                raise InputError(
                    f"{path}: {dataset.name[1:]}: expected {attribute} {', '.join(known)}, "
                    f"found '{unit}'"
                )
            return unit
    return usual


def _positions(file: h5py.File, name: str, path: Path, unit: str | None) -> NDArray[np.float64]:
    """(antennas, 3) m."""
    dataset = _dataset(file, name, path)
    unit = unit or _unit_of(dataset, POSITION_UNITS, "m", path)
    return numbers(dataset[()], f"{path}: {name}") * POSITION_UNITS[unit]


def _pairs_in(file: h5py.File, path: Path, array: Array) -> Tensor:
    """(pairs, 2) numbers of transmitter and receiver."""
    value = _dataset(file, "pairs", path)[()]
    if not np.issubdtype(np.asarray(value).dtype, np.integer):
        raise InputError(f"{path}: pairs: expected whole numbers, found {np.asarray(value).dtype}")
    try:
        return array.replace(pairs=torch.from_numpy(value.astype(np.int64))).every_pair()
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _pose_in(file: h5py.File, path: Path) -> dict[str, Tensor]:
    """Rotation and origin (m) of the array's own frame; missing ones are those of no movement."""
    group, found = file["pose"], {}
    for name in ("rotation", "origin"):
        if name in group:
            values = numbers(_dataset(group, name, path)[()], f"{path}: pose/{name}")
            found[name] = torch.from_numpy(values)
    try:
        pose = Pose.of(found.get("rotation"), found.get("origin"), "pose")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return {"rotation": pose.rotation, "origin": pose.translation}


def _calibration_in(file: h5py.File, path: Path) -> dict[str, Any]:
    value = file.attrs.get("calibration")
    text = "{}" if value is None else text_of(value)
    try:
        entries = json.loads(text or "")
    except ValueError:
        entries = None
    if not isinstance(entries, dict):
        found = f"{text[:40]!r}" if text is not None else f"{np.asarray(value).dtype}"
        raise InputError(f"{path}: calibration: expected a JSON object as text, found {found}")
    return entries


def _reference_depth_in(file: h5py.File, path: Path) -> Tensor | None:
    if "reference_depth" not in file:
        return None
    source = f"{path}: reference_depth"
    depth = numbers(_dataset(file, "reference_depth", path)[()], source)
    if depth.ndim != 2:
        raise InputError(f"{source}: expected an image [y, x], found shape {depth.shape}")
    return torch.from_numpy(depth.astype(np.float32))


# -- writing ------------------------------------------------------------------------------------


def write_recording(path: str | os.PathLike[str], recording: Recording) -> None:
    """Write a recording in our own HDF5 layout, atomically (complex64; the book's data page).

    Pairs of an array and its pose in the radar frame are kept where it has any.

    Examples
    --------
    >>> from radarbook.datasets.recordings import read_recording
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(4)
    >>> signal = simulate_points(torch.tensor([[0.0, 0.0, 0.3]]), torch.ones(1), array, waveform)
    >>> write_recording("point.h5", Recording(signal, array, waveform))
    >>> torch.equal(read_recording("point.h5").signal, signal)
    True
    """
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
        array = recording.array
        signal.attrs["description"] = f"complex amplitude, [{', '.join(array.axes)}]"
        for axis, label in enumerate(array.axes):
            signal.dims[axis].label = label
        columns = {
            "rx": (recording.array.rx, "m", "receiver positions x, y, z"),
            "tx": (recording.array.tx, "m", "transmitter positions x, y, z"),
            "frequency": (recording.waveform.frequencies, "Hz", "frequency steps, ascending"),
        }
        for name, (values, unit, description) in columns.items():
            dataset = file.create_dataset(name, data=values.detach().cpu().numpy())
            dataset.attrs["unit"], dataset.attrs["description"] = unit, description
        if array.pairs is not None:
            pairs = file.create_dataset("pairs", data=array.pairs.cpu().numpy())
            pairs.attrs["description"] = "numbers of transmitter and receiver of each channel, of 0"
        if array.is_moved:
            pose = file.create_group("pose")
            pose.attrs["description"] = "the array's own frame in the frame of tx and rx"
            rotation = pose.create_dataset("rotation", data=array.rotation.cpu().numpy())
            rotation.attrs["description"] = "its axes x, y, z as columns; antennas look along z"
            origin = pose.create_dataset("origin", data=array.origin.cpu().numpy())
            origin.attrs["unit"] = "m"
        if recording.reference_depth is not None:
            depth = file.create_dataset("reference_depth", data=recording.reference_depth.numpy())
            depth.attrs["unit"] = "m"
            depth.attrs["description"] = "depth image [y, x], ascending; NaN where there is none"
        meta = file.create_group("meta")
        for name, value in recording.meta.items():
            if name != "path":
                meta.attrs[name] = value
