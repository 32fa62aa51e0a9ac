"""HDF5 files: opened for reading on any file system, written whole or not at all.

HDF5 locks a file that it opens. Some network and container file systems have no locks, and a file
that another program writes is locked: both fail with errors that a user cannot interpret. Every
HDF5 file of the library is opened here.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from radarbook.errors import InputError
from radarbook.files import write_bytes

#: Errors of a file that another program has open for writing.
_BUSY = (errno.EAGAIN, errno.EACCES)
_SUFFIXES = (".h5", ".hdf5")
#: Other kinds of files by their first bytes.
_KINDS = {
    b"MATLAB": "a MATLAB file before version 7.3; save it with '-v7.3'",
    b"PK\x03\x04": "a ZIP archive, as NumPy's .npz",
    b"\x93NUMPY": "a NumPy array",
    b"\x80": "a pickle, which is never read",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"GIF8": "a GIF image",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"ply": "a PLY mesh",
    b"<": "a web page; was the download refused?",
}


class DamagedFileError(InputError):
    """A file that is not HDF5, or not a whole one; ``reason`` says so without the file's name."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.reason = reason


def has_hdf5_suffix(path: str | os.PathLike[str]) -> bool:
    """True for a name that ends in ``.h5`` or ``.hdf5``, in any case."""
    return Path(path).suffix.lower() in _SUFFIXES


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading.

    Where the file system has no locks the file is opened without one. Raises
    :class:`~radarbook.errors.InputError` with the reason: the file is missing, empty, cut short,
    locked by another program, not readable, or not HDF5; :class:`DamagedFileError` where what
    it holds is the reason.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if not _cannot_lock(error):
            raise _reason(Path(path), error) from None
        failed = error
    if failed.errno in _BUSY:
        raise InputError(
            f"{path}: another program is writing this HDF5 file (it is locked); "
            "close it there and try again"
        )
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        # The environment variable, where it is set, overrides the argument.
        if not _cannot_lock(error):
            raise _reason(Path(path), error) from None
        raise InputError(f"{path}: {_no_locks(error)}") from None


@contextmanager
def read_hdf5(path: str | os.PathLike[str], expected: str) -> Iterator[h5py.File]:
    """An HDF5 file whose content the block reads.

    A file that is missing, damaged or lacks what the block asks for is an
    :class:`~radarbook.errors.InputError` that says what was ``expected``.
    """
    try:
        with open_hdf5(path) as file:
            yield file
    except (DamagedFileError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError) and not isinstance(error, DamagedFileError):
            raise
        raise InputError(f"{path}: expected {expected}, found: {reason_of(error)}") from None


@contextmanager
def new_hdf5(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A new HDF5 file, under its final name when the block has succeeded and never before.

    It is built in memory and written at once. A full disk is then a plain ``OSError``: the HDF5
    library itself notices it late, under other names, and its files do not close any more. No lock
    is taken, which some file systems do not have.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        yield file
    write_bytes(path, buffer.getbuffer())


def text_of(value: Any) -> str | None:
    """Text of an HDF5 attribute or dataset as any program writes it, or None if it is no text.

    Accepts variable-length and fixed-length strings, padded with zeros or spaces, and an array of
    one string, as MATLAB, Julia and C write them.
    """
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return str(value).rstrip("\0 ") if isinstance(value, str) else None


def _reason(path: Path, error: OSError) -> InputError:
    """Why a file could not be opened."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            return InputError(f"{path}: expected an HDF5 file, found a folder")
        with open(path, "rb") as file:
            start = file.read(8)
    except FileNotFoundError:
        return InputError(f"{path}: no such file")
    except OSError as found:  # a loop of symbolic links, no permission, a broken disk
        return InputError(f"{path}: cannot be read ({found.strerror})")
    if size == 0:
        reason = "not an HDF5 file, it is empty"
    elif kind := next((text for head, text in _KINDS.items() if start.startswith(head)), ""):
        reason = f"not an HDF5 file but {kind}"
    elif "truncated file" in str(error):
        reason = "damaged HDF5 file, it ends early"
    elif "signature not found" in str(error):
        reason = "not an HDF5 file"
    else:
        reason = f"damaged or unreadable HDF5 file ({reason_of(error)})"
    return DamagedFileError(path, reason)


def _cannot_lock(error: OSError) -> bool:
    return "unable to lock file" in str(error)


def _no_locks(error: OSError) -> str:
    code = errno.errorcode.get(error.errno or 0, "error")
    return (
        f"the file system cannot lock files ({code}, errno {error.errno}); "
        "set HDF5_USE_FILE_LOCKING=FALSE in the environment and try again"
    )


def reason_of(error: Exception) -> str:
    """Why a file could not be opened or read, in one line without its name."""
    return error.reason if isinstance(error, DamagedFileError) else str(error).splitlines()[0]
