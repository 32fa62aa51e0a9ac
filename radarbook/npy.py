"""NumPy ``.npy`` files from outside: every array in the file, and no code from a pickle.

``numpy.save`` may be called several times on one open file; ``numpy.load`` then returns the first
array and drops the others in silence. Here all of them are read, so that a caller can report them.
"""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from radarbook.errors import InputError

_MAGIC = b"\x93NUMPY"


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


def read_npy(path: str | os.PathLike[str]) -> list[NDArray[Any]]:
    """All arrays of a ``.npy`` file, in their order; a pickled one has the dtype ``object``.

    Of pickles, arrays, numbers, text and plain containers are loaded and nothing else is called.
    Raises :class:`~radarbook.errors.InputError`: no such file, empty, no NumPy file, cut short, an
    ``.npz`` archive, bytes behind the last array that are none.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            return _arrays(file, os.fstat(file.fileno()).st_size, path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:  # a folder, a loop of symbolic links, no permission, a broken disk
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def listing(arrays: Sequence[NDArray[Any]]) -> str:
    """Types and shapes for a message: ``3 arrays (uint16 (2, 11), float64 (), float64 ())``."""
    shown = [f"{a.dtype} {a.shape}" for a in arrays[:6]] + ["..."] * (len(arrays) > 6)
    return f"{len(arrays)} arrays ({', '.join(shown)})"


def _arrays(file: BinaryIO, size: int, path: Path) -> list[NDArray[Any]]:
    start = file.read(len(_MAGIC))
    if not start:
        raise InputError(f"{path}: expected a NumPy .npy array, found an empty file")
    if start.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path}: expected a NumPy .npy array, found an .npz archive; "
            "save its signal alone with numpy.save"
        )
    if start != _MAGIC:
        raise InputError(f"{path}: expected a NumPy .npy array, found another kind of file")
    arrays: list[NDArray[Any]] = []
    position = 0
    while position < size:
        file.seek(position)
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InputError(
                f"{path}: expected nothing after the array, found {size - position} bytes that "
                "are no NumPy array"
            )
        file.seek(position)
        arrays.append(_array(file, size, path))
        position = file.tell()
    return arrays


def _array(file: BinaryIO, size: int, path: Path) -> NDArray[Any]:
    """The array that begins here."""
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, by_columns, dtype = np.lib.format.read_array_header_2_0(file)
        if dtype.hasobject:
            content = np.empty((), dtype=object)
            content[()] = _NumbersOnly(file).load()
            inner = content.item()
            return inner if isinstance(inner, np.ndarray) else content
        if min(shape, default=0) < 0:
            raise ValueError(f"the shape {shape}")
    except OSError:
        raise
    except Exception as error:  # a damaged header or pickle may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: expected a NumPy .npy array, found {reason}") from None
    count = math.prod(shape)
    held, needed = size - file.tell(), count * dtype.itemsize
    if needed > held:
        raise InputError(
            f"{path}: the file ends early: expected {needed} bytes for the array "
            f"{dtype} {shape}, found {held}"
        )
    values = np.fromfile(file, dtype, count)
    return values.reshape(shape, order="F" if by_columns else "C")
