"""MATLAB files up to version 7: arrays of numbers by their names, also of structures and cells.

SciPy reads them. A damaged file can make it read beyond its buffers and end the process, so that
the file's elements are checked first: the type and the length of each.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

#: Bytes of the header, and where its mark of the byte order is.
_HEADER, _ORDER = 128, 126
#: Types of elements: numbers and text; a compressed element; an array, which has elements itself.
_PLAIN, _ARRAY, _COMPRESSED = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18}, 14, 15
#: Kinds of variables that are numbers, and that may hold some.
_NUMBERS, _HOLDERS = ("int", "uint", "single", "double", "logical"), ("struct", "cell")


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each array of numbers by its name: ``struct/field``, ``cell/0``.

    Raises :class:`ValueError` and whatever SciPy raises for a damaged file.

    Examples
    --------
    >>> scipy.io.savemat("scan.mat", {"radar": {"data": np.ones((2, 3)), "unit": "m"}, "f": 1.0})
    >>> shapes_of(Path("scan.mat"))
    {'radar/data': (2, 3), 'f': (1, 1)}
    """
    _check(path.read_bytes())
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape, kind in scipy.io.whosmat(path):
        if kind.startswith(_NUMBERS):
            shapes[name] = tuple(shape)
        elif kind in _HOLDERS:
            shapes |= {inner: array.shape for inner, array in _members(name, _loaded(path, name))}
    return shapes


def read_array(path: Path, name: str) -> NDArray[Any]:
    """The array of a name that :func:`shapes_of` lists, of a file that it has checked."""
    whole = name.split("/")[0]
    return dict(_members(whole, _loaded(path, whole)))[name]


def _loaded(path: Path, name: str) -> NDArray[Any]:
    return np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])


def _members(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Arrays of numbers within a variable, by their names."""
    array = np.asarray(value)
    if array.dtype.kind in "fiucb":
        yield name, array
        return
    fields = array.dtype.names
    if fields is None and array.dtype != object:
        return  # text
    items = array.ravel(order="F")
    for number, item in enumerate(items):
        # A structure, unlike an array of structures, has no number.
        own = name if fields is not None and len(items) == 1 else f"{name}/{number}"
        if fields is None:
            yield from _members(own, item)
        else:
            for one in fields:
                yield from _members(f"{own}/{one}", item[one])


def _check(content: bytes) -> None:
    """Raise :class:`ValueError` for an element of an unknown type, or beyond the file's end.

    Version 4, whose first number has a byte 0, has no elements.
    """
    if len(content) < 4 or 0 in content[:4]:
        return
    mark = content[_ORDER:_HEADER]
    if mark not in (b"IM", b"MI"):
        raise ValueError("no mark of the byte order in its header")
    _check_elements(memoryview(content)[_HEADER:], "<" if mark == b"IM" else ">")


def _check_elements(content: memoryview, order: str) -> None:
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}II", content, place)
        begin, short = place + 8, kind >> 16
        if short:  # type, size and up to four bytes of data in one tag
            kind, size, begin = kind & 0xFFFF, short, place + 4
        end = begin + size
        if end > len(content) or (short and size > 4):
            raise ValueError(f"an element of {size} bytes where {len(content) - begin} are left")
        if kind == _COMPRESSED:
            _check_elements(memoryview(zlib.decompress(content[begin:end])), order)
        elif kind == _ARRAY:
            _check_elements(content[begin:end], order)
        elif kind not in _PLAIN:
            raise ValueError(f"an element of the unknown type {kind}")
        place = place + 8 if short else end if kind == _COMPRESSED else begin + -(-size // 8) * 8
