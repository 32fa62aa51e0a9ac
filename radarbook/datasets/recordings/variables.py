"""Named arrays in the files of other programs: ``.npy``, ``.npz``, MATLAB, HDF5 and text.

Each file has a way to name its arrays. Here all of them are read by name:

======================  =========================================================================
file                    names
======================  =========================================================================
``.npy``                ``block 0``, ``block 1``, …: the results of consecutive ``numpy.save``
``.npz``                its arrays
``.mat`` up to v7       its variables
``.mat`` v7.3           its variables, ``folder/name`` within structures, axes in MATLAB's order
``.h5``, ``.hdf5``      its data sets, ``group/name`` within groups
``.csv``, ``.txt``      the columns of the first line; without one ``column 0``, ``column 1``, …
======================  =========================================================================

Nothing of a pickle but numbers is loaded.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.hdf5 import open_hdf5, reason_of
from radarbook.npy import read_npy
from radarbook.radar.signal import as_complex

#: Endings of the files that can be read by name.
READABLE = (".npy", ".npz", ".mat", ".h5", ".hdf5", ".csv", ".txt")
#: First bytes of an HDF5 file, and where MATLAB puts them.
_HDF5, _MATLAB_BLOCK = b"\x89HDF\r\n\x1a\n", 512


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
        """The array of a name; without one the only array, or the one with most numbers by far.

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
        except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: {name}: cannot be read ({_line(error)})") from None

    def listing(self) -> str:
        """Names and shapes for a message."""
        shown = [f"{name} {shape}" for name, shape in list(self.shapes.items())[:8]]
        return ", ".join(shown + ["..."] * (len(self.shapes) > 8)) or "none"

    def _largest(self) -> str:
        """The array with four times as many numbers as any other."""
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
    if suffix in (".csv", ".txt"):
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
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: expected a NumPy .npz archive, found {_line(error)}") from None
    return Variables(path, shapes, read)


def _npy_shape(file: Any) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)[0]
    return np.lib.format.read_array_header_2_0(file)[0]


def _matlab(path: Path) -> Variables:
    """A MATLAB file up to version 7: real and complex arrays; structures are left out."""

    def read(name: str) -> NDArray[Any]:
        return np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])

    try:
        found = scipy.io.whosmat(path)
    except Exception as error:  # a damaged file may raise anything
        raise InputError(f"{path}: expected a MATLAB file, found {_line(error)}") from None
    kinds = ("int", "uint", "single", "double", "logical")
    shapes = {name: tuple(shape) for name, shape, kind in found if kind.startswith(kinds)}
    return Variables(path, shapes, read)


def _hdf5(path: Path, *, reverse: bool) -> Variables:
    """An HDF5 file; MATLAB writes the axes in reverse order, which is undone."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("#") and item.shape is not None:
            shapes[name] = item.shape[::-1] if reverse else item.shape

    def read(name: str) -> NDArray[Any]:
        with open_hdf5(path) as file:
            values = np.asarray(file[name][()])
        if values.dtype.names is not None:
            values = as_complex(values, f"{path}: {name}")
        return values.T if reverse else values

    with open_hdf5(path) as file:
        try:
            file.visititems(note)
        except (OSError, RuntimeError, KeyError) as error:
            raise InputError(f"{path}: damaged HDF5 file ({reason_of(error)})") from None
    return Variables(path, shapes, read)


def _text(path: Path) -> Variables:
    """Columns of a text file, separated by commas, semicolons, tabs or spaces; ``#`` comments."""
    names, table = read_table(path)
    return _of_arrays(path, dict(zip(names, table.T, strict=True)))


def read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the columns, in lower case, and numbers (rows, columns) of a text file.

    Separated by commas, semicolons, tabs or spaces; what follows ``#`` is a comment. The first
    line may hold names. Raises :class:`~radarbook.errors.InputError` with the line of the fault.
    """
    rows = read_rows(path)
    first = rows[0][1]
    named = not all(_is_number(word) for word in first)
    names = [w.lower() for w in first] if named else [f"column {i}" for i in range(len(first))]
    values = []
    for line, row in rows[named:]:
        if len(row) != len(first) or not all(_is_number(word) for word in row):
            raise InputError(
                f"{path}, line {line}: expected {len(first)} numbers, found {' '.join(row)[:60]!r}"
            )
        values.append([float(word) for word in row])
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
        separator = next((s for s in (",", ";", "\t") if s in plain), None)
        words = next(csv.reader([plain], delimiter=separator)) if separator else plain.split()
        rows.append((number, [word.strip() for word in words]))
    if not rows:
        raise InputError(f"{path}: expected numbers, found none")
    return rows


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return re.fullmatch(r"[-+.\deEnaif]+", word) is not None


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
