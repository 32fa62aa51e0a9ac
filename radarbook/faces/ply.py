"""The surface of a PLY file: vertices, polygons and triangle strips, binary or ASCII.

Read here because trimesh refuses binary polygons of different sizes and knows no strips, as does
meshio, and plyfile's licence (GPL) is not this project's.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.faces.polygons import Polygons

_TYPES = {
    "char": "b",
    "uchar": "B",
    "short": "h",
    "ushort": "H",
    "int": "i",
    "uint": "I",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "float": "f",
    "double": "d",
    "float32": "f",
    "float64": "d",
}
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_INDICES = ("vertex_indices", "vertex_index")


@dataclass(frozen=True)
class _Property:
    """``type`` of its values, and ``count``: that of a list's length, or "" where it is no list."""

    name: str
    type: str
    count: str = ""


@dataclass(frozen=True)
class _Element:
    name: str
    rows: int
    properties: list[_Property] = field(default_factory=list)


@dataclass(frozen=True)
class _Lists:
    """Lists of all rows: their ``lengths`` (rows,) and their ``values`` in a row."""

    lengths: NDArray[np.int64]
    values: NDArray[Any]


_Columns = dict[str, Any]


class _EndsEarly(Exception):
    """A row asks for more than the file holds."""


def parse_ply(data: bytes) -> Polygons:
    """Vertices, polygons (``face``) and strips (``tristrips``) of a file's bytes.

    Other elements and properties are passed over. Raises :class:`~radarbook.errors.InputError` for
    a header that cannot be read, a file that ends early or goes on after its last element, and
    indices that are no whole numbers.
    """
    order, elements, at = _header(data)
    source = _Binary(data, at, order) if order else _Text(data[at:])
    tables = {element.name: _rows(element, source) for element in elements}
    source.require_end()
    vertex = tables.get("vertex", {})
    missing = [axis for axis in "xyz" if not isinstance(vertex.get(axis), np.ndarray)]
    if missing:
        raise InputError(f"expected vertices with x, y and z, found none with {missing[0]}")
    points = np.stack([vertex[axis].astype(np.float64) for axis in "xyz"], axis=1)
    faces = _indices(tables, "face")
    strips = _strip_triangles(_indices(tables, "tristrips"))
    small = np.flatnonzero(faces.lengths < 3)
    if len(small):
        raise InputError(
            f"face {small[0]} (from 0) has {faces.lengths[small[0]]} vertices, expected 3 or more"
        )
    return Polygons(
        points,
        np.concatenate([faces.lengths, np.full(len(strips), 3)]),
        np.concatenate([faces.values, strips.ravel()]),
    )


# -- header ----------------------------------------------------------------------------------------


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    """Byte order ("" for text), the elements, and where the data begin."""
    end = re.search(rb"(?:^|[\r\n])end_header[ \t]*(?:\r\n|\n|\r)?", data)
    if not re.match(rb"ply\s", data):
        raise InputError("not a PLY file, whose first line is 'ply'")
    if end is None:
        raise InputError("the file ends early: its header has no end_header")
    order: str | None = None
    elements: list[_Element] = []
    for line in re.split(r"[\r\n]+", data[: end.start()].decode("latin-1"))[1:]:
        words = line.split()
        try:
            match words:
                case ["format", name, _]:
                    order = _ORDERS[name]
                case ["element", name, rows] if int(rows) >= 0:
                    elements.append(_Element(name, int(rows)))
                case ["property", "list", count, kind, name]:
                    elements[-1].properties.append(_Property(name, _TYPES[kind], _TYPES[count]))
                case ["property", kind, name]:
                    elements[-1].properties.append(_Property(name, _TYPES[kind]))
                case [] | ["comment" | "obj_info", *_]:
                    pass
                case _:
                    raise ValueError
        except (ValueError, LookupError):
            raise InputError(f"header line not understood: {line.strip()!r}") from None
    if order is None:
        raise InputError("expected a format line in the header, found none")
    return order, elements, end.end()


# -- data ------------------------------------------------------------------------------------------


class _Binary:
    def __init__(self, data: bytes, at: int, order: str) -> None:
        self.data, self.at, self.order = data, at, order

    def take(self, kind: str, count: int) -> tuple[Any, ...]:
        layout = f"{self.order}{count}{kind}"
        try:
            values = struct.unpack_from(layout, self.data, self.at)
        except struct.error:
            raise _EndsEarly from None
        self.at += struct.calcsize(layout)
        return values

    def table(self, element: _Element, lengths: list[int]) -> _Columns | None:
        """All rows at once, if every row's lists have the lengths given; else None."""
        fields: list[Any] = []
        for n, (item, length) in enumerate(zip(element.properties, lengths, strict=True)):
            if item.count:
                fields.append((f"count {n}", self.order + item.count))
            fields.append((f"value {n}", self.order + item.type, (length,)))
        dtype = np.dtype(fields)
        if self.at + element.rows * dtype.itemsize > len(self.data):
            return None
        rows = np.frombuffer(self.data, dtype, element.rows, self.at)
        columns: _Columns = {}
        for n, (item, length) in enumerate(zip(element.properties, lengths, strict=True)):
            if item.count and (rows[f"count {n}"] != length).any():
                return None
            columns[item.name] = _column(item, length, rows[f"value {n}"])
        self.at += element.rows * dtype.itemsize
        return columns

    def require_end(self) -> None:
        if self.data[self.at :].strip(b"\0 \r\n\t"):
            raise InputError(
                f"{len(self.data) - self.at} bytes follow the last element that the header names"
            )


class _Text:
    def __init__(self, data: bytes) -> None:
        words = data.split()
        try:
            self.values = np.array(words).astype(np.float64) if words else np.empty(0)
        except ValueError as error:
            raise InputError(f"expected numbers after the header ({error})") from None
        self.at = 0

    def take(self, kind: str, count: int) -> tuple[Any, ...]:
        if self.at + count > len(self.values):
            raise _EndsEarly
        self.at += count
        return tuple(self.values[self.at - count : self.at].tolist())

    def table(self, element: _Element, lengths: list[int]) -> _Columns | None:
        width = sum(lengths) + sum(1 for item in element.properties if item.count)
        if self.at + element.rows * width > len(self.values):
            return None
        rows = self.values[self.at : self.at + element.rows * width].reshape(element.rows, width)
        columns: _Columns = {}
        at = 0
        for item, length in zip(element.properties, lengths, strict=True):
            if item.count:
                if (rows[:, at] != length).any():
                    return None
                at += 1
            columns[item.name] = _column(item, length, rows[:, at : at + length])
            at += length
        self.at += element.rows * width
        return columns

    def require_end(self) -> None:
        if self.at < len(self.values):
            raise InputError(
                f"{len(self.values) - self.at} values follow the last element that the header names"
            )


def _column(item: _Property, length: int, values: NDArray[Any]) -> Any:
    if not item.count:
        return values[:, 0]
    return _Lists(np.full(len(values), length, dtype=np.int64), values.ravel())


def _rows(element: _Element, source: _Binary | _Text) -> _Columns:
    """Columns of an element: arrays, and :class:`_Lists` where a property is a list."""
    if element.rows == 0 or not element.properties:
        none = _Lists(np.empty(0, np.int64), np.empty(0))
        return {p.name: none if p.count else np.empty(0) for p in element.properties}
    start = source.at
    read: dict[str, tuple[list[int], list[Any]]] = {p.name: ([], []) for p in element.properties}
    for row in range(element.rows):
        if row == 1:
            # Most files have rows of one length: try that of the first for all of them.
            here, source.at = source.at, start
            columns = source.table(element, [read[p.name][0][0] for p in element.properties])
            if columns is not None:
                return columns
            source.at = here
        try:
            for item in element.properties:
                length = int(source.take(item.count, 1)[0]) if item.count else 1
                if length < 0:
                    raise InputError(f"{element.name} {row} (from 0): a list of length {length}")
                lengths, values = read[item.name]
                lengths.append(length)
                values.extend(source.take(item.type, length))
        except _EndsEarly:
            raise InputError(
                f"the file ends early: its header counts {element.rows} of element "
                f"'{element.name}', {row} are there"
            ) from None
    out: _Columns = {}
    for item in element.properties:
        lengths, values = read[item.name]
        column = np.array(values)
        out[item.name] = _Lists(np.array(lengths), column) if item.count else column
    return out


# -- surface ---------------------------------------------------------------------------------------


def _indices(tables: dict[str, _Columns], element: str) -> _Lists:
    """Lists of vertex indices of an element, int64; -1 also where it was written unsigned."""
    lists = {n: c for n, c in tables.get(element, {}).items() if isinstance(c, _Lists)}
    named = [lists[name] for name in _INDICES if name in lists]
    if not named and len(lists) == 1:
        named = list(lists.values())
    if not named:
        return _Lists(np.empty(0, np.int64), np.empty(0, np.int64))
    values = named[0].values.astype(np.int64)
    if (values != named[0].values).any():
        raise InputError(f"element '{element}': expected whole numbers as vertex indices")
    return _Lists(named[0].lengths, np.where(values == 2**32 - 1, -1, values))


def _strip_triangles(strips: _Lists) -> NDArray[np.int64]:
    """(F, 3): every three neighbours of a strip, every second triangle turned; -1 ends a strip.

    Triangles with a repeated index only stitch two parts of a strip together and are left out.
    """
    found = [np.empty((0, 3), np.int64)]
    for strip in np.split(strips.values, np.cumsum(strips.lengths)[:-1]):
        cuts = np.flatnonzero(strip == -1)
        for part in np.split(strip, cuts):
            run = part[part != -1]
            if len(run) < 3:
                continue
            triangles = np.stack([run[:-2], run[1:-1], run[2:]], axis=1)
            triangles[1::2] = triangles[1::2, [1, 0, 2]]
            a, b, c = triangles.T
            found.append(triangles[(a != b) & (b != c) & (c != a)])
    return np.concatenate(found)
