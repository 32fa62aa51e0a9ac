"""Recordings by their paths: read one, find many, write one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from radarbook.datasets.recordings.checks import check_recording
from radarbook.datasets.recordings.described import read_described
from radarbook.datasets.recordings.description import Description, read_description
from radarbook.datasets.recordings.maroon import (
    OTHER_FORMATS,
    beside_frame,
    frame_in,
    frame_named,
    is_filtered,
    maroon_meta,
    other_stem,
    read_frame,
)
from radarbook.datasets.recordings.own_layout import (
    hdf5_meta,
    is_ours,
    read_hdf5,
    write_recording,
)
from radarbook.datasets.recordings.recording import Meta, Recording
from radarbook.errors import InputError
from radarbook.files import is_stream
from radarbook.hdf5 import has_hdf5_suffix, open_hdf5
from radarbook.radar.array import POSITION_UNITS, qar50
from radarbook.radar.signal import frequencies_path, is_usual, write_signal
from radarbook.radar.waveform import FREQUENCY_UNITS, Waveform


@dataclass(frozen=True)
class RecordingFile:
    """A recording that was found but not read: its path, and metadata from the path."""

    path: Path
    meta: Meta

    def read(self) -> Recording:
        """Read the signal now."""
        recording = read_recording(self.path)
        return replace(recording, meta=dict(self.meta) | dict(recording.meta))


def read_recording(
    path: str | os.PathLike[str],
    *,
    description: Description | str | os.PathLike[str] | None = None,
    shot: int | str | None = None,
    frame: int = 0,
    empty_filtered: bool | None = None,
    frequencies: Waveform | None = None,
    frequency_unit: str | None = None,
    units: str | None = None,
    conjugate: bool = False,
) -> Recording:
    """Read one recording.

    Parameters
    ----------
    path
        A ``.npy`` frame, an ``.h5`` file in our own layout, or a folder in MAROON layout (the
        distance or the radar folder), of which ``frame`` is read. With a description, a file of
        any radar: ``.npy``, ``.npz``, ``.mat``, ``.h5``.
    description : Description or path, optional
        What the file does not say about itself (the book's page on recordings). A path: a TOML
        file. ``units`` and ``frequency_unit`` are then the description's.
    shot : int or "mean", optional
        Which of several shots of a described recording; None: the description's.
    empty_filtered
        The frame with the empty room subtracted (True) or the raw one (False); None takes the
        filtered one if it exists.
    frequencies
        Taken instead of those in the file.
    frequency_unit : Hz, kHz, MHz or GHz
        Of the frequencies in the file; None: as stated in the file, Hz if nowhere.
    units : m, cm or mm
        Of the antenna positions in the file; None: as stated in the file, m if nowhere.
    conjugate
        Conjugate the signal: for one of time factor e^{-jωt}, or whose I and Q are swapped.

    Raises :class:`~radarbook.errors.InputError`, which names the file and the fault. Faults that
    still allow an image are in ``notes``.

    Examples
    --------
    A line of five positions of one antenna, which transmits and receives:

    >>> import numpy as np
    >>> np.save("line.npy", np.ones((5, 8), np.complex64))
    >>> from radarbook.datasets.recordings import parse_description
    >>> description = parse_description('''
    ... signal = { axes = "x, f" }
    ... frequencies = { start = 76, stop = 78, unit = "GHz" }
    ... scan = { step = [2], unit = "mm" }
    ... ''', "radar.toml")
    >>> recording = read_recording("line.npy", description=description)
    >>> tuple(recording.signal.shape), recording.array.tx[:, 0].tolist()
    ((5, 8), [-0.004, -0.002, 0.0, 0.002, 0.004])
    """
    path = Path(path)
    for name, unit, known in (
        ("frequency unit", frequency_unit, FREQUENCY_UNITS),
        ("units", units, POSITION_UNITS),
    ):
        if unit is not None and unit not in known:
            raise InputError(f"{name}: expected one of {', '.join(known)}, found '{unit}'")
    _require_existing(path)
    if description is not None:
        if not isinstance(description, Description):
            description = read_description(description)
        for name, given in (("units", units), ("frequency unit", frequency_unit)):
            if given is not None:
                raise InputError(f"{name}: the description says it, leave it out")
        recording = read_described(path, description, shot=shot, frequencies=frequencies)
        return _checked(recording, path, conjugate)
    if shot is not None:
        raise InputError(f"{path}: expected a description for a shot, found none")
    if path.is_dir():
        path = frame_in(path, frame, empty_filtered)
    if has_hdf5_suffix(path):
        recording = read_hdf5(path, frequencies, frequency_unit, units)
    elif path.suffix.lower() == ".npy":
        recording = read_frame(path, frequencies, frequency_unit)
    else:
        raise InputError(
            f"{path}: expected a recording (.npy, .h5 or a folder), found '{path.suffix}'; "
            f"{OTHER_FORMATS}"
        )
    return _checked(recording, path, conjugate)


def _checked(recording: Recording, path: Path, conjugate: bool) -> Recording:
    """The recording, conjugated if asked for, with the notes of the checks."""
    if conjugate:
        recording = recording.conjugated()
    found = [f"{path}: {note}" for note in check_recording(recording)]
    return replace(recording, notes=(*recording.notes, *found))


def _require_existing(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder") from None
    except OSError as error:
        loop = " of symbolic links" if error.errno == errno.ELOOP else ""
        found = "a loop" if loop else error.strerror
        raise InputError(f"{path}: expected a recording, found {found}{loop}") from None


def find_recordings(
    folder: str | os.PathLike[str], *, empty_filtered: bool | None = None
) -> Iterator[RecordingFile]:
    """Recordings below ``folder``, in the order of their paths, without reading any signal.

    Frames in MAROON's ``calibrated_data`` folders, ``.npy`` files in ``folder`` itself, and
    HDF5 files of our own layout anywhere below it. ``empty_filtered``: True or False for only the
    filtered or only the raw frames; None takes the filtered one of each frame if it exists.

    Examples
    --------
    >>> import numpy as np
    >>> Path("day").mkdir()
    >>> np.save("day/b.npy", np.ones((94, 94, 128), np.complex64))
    >>> [found.path.name for found in find_recordings("day")]
    ['b.npy']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of recordings, found none")
    for where, subfolders, names in os.walk(folder):
        subfolders.sort()
        here = Path(where)
        for name in sorted(names):
            path = here / name
            if path.suffix.lower() == ".npy" and (here.name == "calibrated_data" or here == folder):
                filtered = is_filtered(path)
                other = other_stem(path)
                wanted = (
                    filtered == empty_filtered
                    if empty_filtered is not None
                    else filtered or frame_named(other, names) is None
                )
                if wanted:
                    yield RecordingFile(path, maroon_meta(path))
            elif has_hdf5_suffix(path) and is_ours(path):
                with open_hdf5(path) as file:
                    yield RecordingFile(path, hdf5_meta(file, path))


def files_read(path: str | os.PathLike[str]) -> list[Path]:
    """Files that :func:`read_recording` may read for ``path``: the frame and files next to it."""
    path = Path(path)
    if path.is_dir():
        path = frame_in(path, 0, None)
    beside = [frequencies_path(path), *beside_frame(path)]
    return [path, *(file for file in beside if file.is_file())]


def saved_files(path: str | os.PathLike[str], waveform: Waveform) -> list[Path]:
    """Files that :func:`save_recording` writes: the recording, and its frequencies if separate.

    Raises :class:`~radarbook.errors.InputError` for a name that ends neither in ``.npy`` nor in
    ``.h5``, and for a pipe or a device where the frequencies need a file.
    """
    path = Path(path)
    if has_hdf5_suffix(path):
        return [path]
    stream = is_stream(path)
    if path.suffix.lower() != ".npy" and not stream:
        raise InputError(
            f"{path}: expected a name ending in .npy, .h5 or .hdf5 for a signal, "
            f"found '{path.suffix}'"
        )
    if is_usual(waveform):
        return [path]
    if stream:
        raise InputError(
            f"{path}: expected a file for a signal of other frequencies than 72-82 GHz in 128 "
            "steps, found a pipe or a device, next to which they cannot stand"
        )
    return [path, frequencies_path(path)]


def save_recording(path: str | os.PathLike[str], recording: Recording) -> None:
    """Write a recording in the layout that the name asks for, so that it can be read again.

    ``.h5``: :func:`write_recording`. ``.npy``: the signal of a QAR50 in MAROON order, and its
    frequencies next to it where they are not the usual ones
    (:func:`~radarbook.radar.signal.write_signal`); raises
    :class:`~radarbook.errors.InputError` for another array, which a ``.npy`` file cannot state,
    and as :func:`saved_files` does.

    Examples
    --------
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(4)
    >>> signal = simulate_points(torch.tensor([[0.0, 0.0, 0.3]]), torch.ones(1), array, waveform)
    >>> save_recording("point.npy", Recording(signal, array, waveform))
    >>> len(read_recording("point.npy").waveform)
    4
    """
    saved_files(path, recording.waveform)
    if has_hdf5_suffix(path):
        write_recording(path, recording)
        return
    usual = qar50()
    if not all(
        torch.equal(getattr(recording.array, name).cpu(), getattr(usual, name))
        for name in ("tx", "rx")
    ):
        raise InputError(f"{path}: expected the QAR50 array for .npy, found another; use .h5")
    write_signal(path, recording.signal.detach().cpu().numpy(), recording.waveform)
