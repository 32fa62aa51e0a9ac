"""Named arrays in the files of other programs: ``.npy``, ``.npz``, MATLAB, HDF5 and text.

Each file has a way to name its arrays. Here all of them are read by name:

======================  =========================================================================
file                    names
======================  =========================================================================
``.npy``                ``block 0``, ``block 1``, …: the results of consecutive ``numpy.save``
``.npz``                its arrays
``.mat``, any version   its variables, ``struct/field`` within structures, ``cell/0`` within cells,
                        axes in MATLAB's order
``.h5``, ``.hdf5``      its data sets, ``group/name`` within groups
``.csv``, ``.txt``      ``table``, all of it, which needs no name; the columns of the first line,
                        without one ``column 0``, ``column 1``, …
======================  =========================================================================

Nothing of a pickle but numbers is loaded.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from radarbook.datasets.recordings import matlab
from radarbook.errors import InputError
from radarbook.hdf5 import open_hdf5, reason_of
from radarbook.npy import read_npy
from radarbook.radar.signal import as_complex

#: Endings of the files that can be read by name.
_TEXT = (".csv", ".txt")
READABLE = (".npy", ".npz", ".mat", ".h5", ".hdf5", *_TEXT)
#: First bytes of an HDF5 file, and where MATLAB puts them.
_HDF5, _MATLAB_BLOCK = b"\x89HDF\r\n\x1a\n", 512
#: A text file's numbers altogether.
_TABLE = "table"


@dataclass(frozen=True)
class Variables:
    """The arrays of one file by their names; each is read when it is asked for.

    Attributes
    ----------
    path : Path
    shapes : mapping
        Shape of each array by its name, in the file's order.

    Examples
    --------
    >>> with open("scan.npy", "wb") as file:
    ...     np.save(file, np.zeros((2, 11, 5, 4), np.uint16))
    ...     np.save(file, 22.2e9)
    >>> found = open_variables(Path("scan.npy"))
    >>> found.shapes
    {'block 0': (2, 11, 5, 4), 'block 1': ()}
    >>> float(found.read("block 1"))
    22200000000.0
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    _reader: Callable[[str], NDArray[Any]] = field(repr=False)

    def read(self, name: str | None = None) -> NDArray[Any]:
        """The array of a name; without one the only array, the one with most numbers by far, or
        all of a text file.

        Raises :class:`~radarbook.errors.InputError` for a name that is not there, with the names
        that are, and where no array stands out.
        """
        if name is None:
            name = self._largest()
        if name not in self.shapes:
            raise InputError(f"{self.path}: expected a variable '{name}', found {self.listing()}")
        try:
            return self._reader(name)
        except InputError:
            raise
        except Exception as error:  # a damaged file may raise anything
            raise InputError(f"{self.path}: {name}: cannot be read ({_line(error)})") from None

    def listing(self) -> str:
        """Names and shapes for a message."""
        shown = [f"{name} {shape}" for name, shape in list(self.shapes.items())[:8]]
        return ", ".join(shown + ["..."] * (len(self.shapes) > 8)) or "none"

    def _largest(self) -> str:
        """The array with four times as many numbers as any other; all of a text file."""
        if _TABLE in self.shapes and self.path.suffix.lower() in _TEXT:
            return _TABLE
        sizes = sorted(self.shapes, key=lambda name: -_size(self.shapes[name]))
        if not sizes:
            raise InputError(f"{self.path}: expected an array, found none")
        largest = _size(self.shapes[sizes[0]])
        if len(sizes) > 1 and largest < 4 * _size(self.shapes[sizes[1]]):
            raise InputError(
                f"{self.path}: expected the name of a variable, as there are {self.listing()}"
            )
        return sizes[0]


def open_variables(path: Path) -> Variables:
    """The arrays of a file. Raises :class:`~radarbook.errors.InputError`.

    Missing, empty, damaged and pickled files and those of another kind are refused in one line.
    """
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise InputError(
            f"{path}: expected a file of {', '.join(READABLE)}, found '{suffix or path.name}'"
        )
    try:
        with open(path, "rb") as file:
            start = file.read(_MATLAB_BLOCK + len(_HDF5))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not start:
        raise InputError(f"{path}: expected numbers, found an empty file")
    if suffix == ".npy":
        return _npy(path)
    if suffix == ".npz":
        return _npz(path)
    if suffix == ".mat" and _HDF5 not in (start[: len(_HDF5)], start[_MATLAB_BLOCK:]):
        return _matlab(path)
    if suffix in _TEXT:
        return _text(path)
    return _hdf5(path, reverse=suffix == ".mat")


def _npy(path: Path) -> Variables:
    arrays = {f"block {i}": array for i, array in enumerate(read_npy(path))}
    for name, array in arrays.items():
        if array.dtype == object:
            raise InputError(f"{path}: {name}: expected numbers, found a pickle")
    return _of_arrays(path, arrays)


def _of_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Variables:
    return Variables(path, {n: a.shape for n, a in arrays.items()}, arrays.__getitem__)


def _npz(path: Path) -> Variables:
    def read(name: str) -> NDArray[Any]:
        with np.load(path, allow_pickle=False) as archive:
            return archive[name]

    try:
        with zipfile.ZipFile(path) as archive:
            shapes = {}
            for member in archive.namelist():
                if member.endswith(".npy"):
                    with archive.open(member) as file:
                        shapes[member[:-4]] = _npy_shape(file)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: expected a NumPy .npz archive, found {_line(error)}") from None
    return Variables(path, shapes, read)


def _npy_shape(file: Any) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)[0]
    return np.lib.format.read_array_header_2_0(file)[0]


def _matlab(path: Path) -> Variables:
    try:
        shapes = matlab.shapes_of(path)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: expected a MATLAB file, found {_line(error)}") from None
    return Variables(path, shapes, partial(matlab.read_array, path))


def _hdf5(path: Path, *, reverse: bool) -> Variables:
    """An HDF5 file; MATLAB writes the axes in reverse order, which is undone."""
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, str] = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if not isinstance(item, h5py.Dataset) or name.startswith("#") or item.shape is None:
            return
        if h5py.check_ref_dtype(item.dtype) is not None:  # MATLAB's cells
            for number, one in enumerate(np.ravel(item[()])):
                if isinstance(item.file[one], h5py.Dataset):
                    add(f"{name}/{number}", item.file[one])
        else:
            add(name, item)

    def add(name: str, item: h5py.Dataset) -> None:
        shapes[name] = item.shape[::-1] if reverse else item.shape
        places[name] = item.name

    def read(name: str) -> NDArray[Any]:
        with open_hdf5(path) as file:
            values = np.asarray(file[places[name]][()])
        if values.dtype.names is not None:
            values = as_complex(values, f"{path}: {name}")
        return values.T if reverse else values

    with open_hdf5(path) as file:
        try:
            file.visititems(note)
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: damaged HDF5 file ({reason_of(error)})") from None
    return Variables(path, shapes, read)


def _text(path: Path) -> Variables:
    """A text file: its table and its columns. Complex numbers as ``1+2j`` or ``1+2i``."""
    names, table = _table(path, _complex)
    if not table.imag.any():
        table = table.real
    arrays = {_TABLE: table} | dict(zip(names, table.T, strict=True))
    return _of_arrays(path, arrays)


def read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the columns, in lower case, and numbers (rows, columns) of a text file.

    Separated by commas, semicolons, tabs or spaces; what follows ``#`` is a comment. Between
    semicolons or tabs a number may have a decimal comma. The first line may hold names. Raises
    :class:`~radarbook.errors.InputError` with the line of the fault.
    """
    return _table(path, _real)


def _table(path: Path, number: Callable[[str], complex | None]) -> tuple[list[str], NDArray[Any]]:
    """:func:`read_table`, of words that ``number`` reads; it is None for another word."""
    rows = read_rows(path)
    first = rows[0][1]
    named = any(number(word) is None for word in first)
    names = [w.lower() for w in first] if named else [f"column {i}" for i in range(len(first))]
    values = []
    for line, row in rows[named:]:
        found = [number(word) for word in row]
        if len(row) != len(first) or None in found:
            raise InputError(
                f"{path}, line {line}: expected {len(first)} numbers, found {' '.join(row)[:60]!r}"
            )
        values.append(found)
    if not values:
        raise InputError(f"{path}: expected numbers, found names of columns only")
    return names, np.array(values)


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Number and words of each line of a text file that is no comment and not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: expected text, found another kind of file") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.split("#")[0].strip()
        if not plain:
            continue
        rows.append((number, _words(plain)))
    if not rows:
        raise InputError(f"{path}: expected numbers, found none")
    return rows


def _words(line: str) -> list[str]:
    """The words of a line, numbers with a decimal point."""
    for separator in (";", "\t"):
        words = [word.strip() for word in next(csv.reader([line], delimiter=separator))]
        if len(words) > 1 and all(w.count(",") <= 1 and not w.endswith(",") for w in words):
            plain = [word.replace(",", ".") for word in words]
            return [p if _real(p) is not None else w for w, p in zip(words, plain, strict=True)]
    separator = next((s for s in (",", ";", "\t") if s in line), "")
    words = next(csv.reader([line], delimiter=separator)) if separator else line.split()
    return [word.strip() for word in words]


def _real(word: str) -> float | None:
    """A number; None for anything else."""
    if re.fullmatch(r"[-+.\deEnaif]+", word) is None:
        return None
    try:
        return float(word)
    except ValueError:
        return None


def _complex(word: str) -> complex | None:
    """A real or complex number, as NumPy and MATLAB write it; None for anything else."""
    real = _real(word)
    if real is not None or re.fullmatch(r"\(?[-+.\deE]+[ij]\)?", word) is None:
        return real
    try:
        return complex(word.replace("i", "j").replace("+-", "-"))
    except ValueError:
        return None


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
