"""The surface of an STL file, binary or ASCII."""

from __future__ import annotations

import re

import numpy as np

from radarbook.errors import InputError
from radarbook.faces.polygons import Polygons

_HEADER = 84
_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = re.compile(rb"(?:^|\s)vertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)
_FACET = re.compile(rb"(?:^|\s)facet\s", re.IGNORECASE)
_END = re.compile(rb"(?:^|\s)endsolid\b", re.IGNORECASE)


def parse_stl(data: bytes) -> Polygons:
    """Triangles of a file's bytes; every one has three vertices of its own.

    Raises :class:`~radarbook.errors.InputError` for a file that ends early or is no STL file.
    """
    expected = -1
    if len(data) >= _HEADER:
        expected = int.from_bytes(data[80:_HEADER], "little")
    held = (len(data) - _HEADER) // _RECORD.itemsize
    if held != expected and data.lstrip()[:5].lower() == b"solid" and _FACET.search(data):
        points = _ascii(data)
    elif len(data) < _HEADER:
        raise InputError(f"the file ends early: {len(data)} bytes, an STL header has {_HEADER}")
    elif held < expected:
        raise InputError(
            f"the file ends early: its header counts {expected} triangles, {max(held, 0)} are there"
        )
    elif data[_HEADER + expected * _RECORD.itemsize :].strip(b"\0 \r\n\t"):
        raise InputError(
            f"its header counts {expected} triangles, but {held} are there, or other data follow"
        )
    else:
        records = np.frombuffer(data, _RECORD, expected, _HEADER)
        points = records["corners"].reshape(-1, 3).astype(np.float64)
    return Polygons(points, np.full(len(points) // 3, 3), np.arange(len(points)))


def _ascii(data: bytes) -> np.ndarray:
    if not _END.search(data):
        raise InputError("the file ends early: 'endsolid' is missing")
    try:
        points = np.array(_VERTEX.findall(data)).astype(np.float64).reshape(-1, 3)
    except ValueError as error:
        raise InputError(f"expected three numbers after 'vertex' ({error})") from None
    facets = len(_FACET.findall(data))
    if len(points) != 3 * facets:
        raise InputError(f"expected 3 vertices for each facet, found {len(points)} of {facets}")
    return points
