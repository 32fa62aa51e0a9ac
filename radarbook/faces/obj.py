"""The surface of a Wavefront OBJ file: vertices and polygons, nothing else.

Read here because the readers of trimesh and meshio take an index of 0 for the last vertex, refuse
comments behind values or relative texture indices, and divide vertices along texture seams.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import numpy as np

from radarbook.errors import InputError
from radarbook.faces.polygons import Polygons


def parse_obj(data: bytes) -> Polygons:
    """Vertices (``v``) and polygons (``f``) of a file's bytes.

    Comments, tabs, continued lines, byte-order marks and indices relative to the end (negative)
    are understood. Texture, normals, colours, groups and materials are passed over. Raises
    :class:`~radarbook.errors.InputError` with the line number for what is no vertex or polygon,
    and for an index of 0 or out of range.
    """
    points: list[tuple[float, float, float]] = []
    counts: list[int] = []
    corners: list[int] = []
    lines: list[int] = []
    for number, words in _statements(_text(data)):
        if words[0] == "v":
            try:
                x, y, z = words[1:4]
                points.append((float(x), float(y), float(z)))
            except ValueError:
                raise InputError(
                    f"line {number}: expected a vertex 'v x y z', found {_quoted(words)}"
                ) from None
        elif words[0] in ("f", "fo"):
            try:
                ring = [int(word.partition("/")[0]) for word in words[1:]]
            except ValueError:
                raise InputError(
                    f"line {number}: expected a face 'f' with vertex indices, "
                    f"found {_quoted(words)}"
                ) from None
            if len(ring) < 3:
                raise InputError(
                    f"line {number}: expected a face of 3 or more vertices, found {_quoted(words)}"
                )
            if 0 in ring:
                raise InputError(
                    f"line {number}: face index 0, but OBJ indices count from 1; where the file "
                    "counts from 0, add 1 to every index"
                )
            if min(ring) < -len(points):
                raise InputError(
                    f"line {number}: relative face index {min(ring)} out of range, "
                    f"{len(points)} vertices stand before this line"
                )
            corners += [i - 1 if i > 0 else len(points) + i for i in ring]
            counts.append(len(ring))
            lines.append(number)
    found = np.array(corners, dtype=np.int64)
    if len(found) and found.max() >= len(points):
        first = int((found >= len(points)).argmax())
        line = np.repeat(lines, counts)[first]
        raise InputError(
            f"line {line}: face index {found[first] + 1} out of range, expected 1 to {len(points)}"
        )
    return Polygons(
        np.array(points, dtype=np.float64).reshape(-1, 3), np.array(counts, dtype=np.int64), found
    )


def _text(data: bytes) -> str:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(name, errors="replace")
    if b"\0" in data[:4096]:
        raise InputError("not an OBJ file: expected text, found binary data")
    # Only names may hold letters of another encoding, and names are passed over.
    return data.decode("utf-8", errors="replace")


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Words of each statement with its first line's number; comments gone, continuations joined."""
    begun: list[str] = []
    first = 0
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        if "#" in line:
            line = line.partition("#")[0]
        line = line.rstrip()
        first = first or number
        if line.endswith("\\"):
            begun += line[:-1].split()
            continue
        words = begun + line.split()
        if words:
            yield first, words
        begun, first = [], 0
    if begun:
        yield first, begun


def _quoted(words: list[str]) -> str:
    text = " ".join(words)
    return repr(text if len(text) <= 40 else text[:37] + "...")
