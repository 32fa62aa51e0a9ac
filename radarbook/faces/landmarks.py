"""Landmarks as files give them, of face models and of scans: JSON, or lines of text."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from radarbook.errors import InputError
from radarbook.faces.mesh import METRES, Units

#: Landmarks farther than this from the mesh (ears, on a cropped face) are left out.
LANDMARK_REACH_MM = 10.0
#: A name's vertex index, or None and its coordinates.
Record = tuple[int | None, np.ndarray]


def from_json(text: str, where: str) -> dict[str, Record]:
    """Landmarks by name from JSON text.

    A list of ``{id, coordinates}`` or a dictionary from names to coordinates, to indices or to
    such records; empty text means none. ``where`` names file and dataset in the
    :class:`~radarbook.errors.InputError` for any other text.
    """
    if not text.strip():
        return {}
    try:
        return _records(json.loads(text))
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError(
            f"{where} is not a JSON list of {{id, coordinates}} or a dictionary by name"
        ) from None


#: First of the 68 landmarks of each group of a menpo file, and the groups' sizes.
_MENPO = {
    "chin": (0, 17),
    "jaw": (0, 17),
    "leyebrow": (17, 5),
    "reyebrow": (22, 5),
    "nose": (27, 9),
    "leye": (36, 6),
    "reye": (42, 6),
    "mouth": (48, 20),
}


def read_landmarks(path: str | os.PathLike[str], units: Units = "m") -> dict[str, np.ndarray]:
    """Points (3,) m by name from a file of landmarks whose coordinates are in ``units``.

    Three kinds of file are read: menpo's ``.ljson``, whose 68 points become ``multipie68.00`` …
    ``multipie68.67`` by their group and place in it; JSON as :func:`from_json` reads it; and lines
    ``name x y z``, separated by commas or spaces, a first line ``name,x,y,z`` allowed. Raises
    :class:`~radarbook.errors.InputError` for a file that is missing or neither of them, and for
    coordinates that are not three finite numbers.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("points.csv").write_text("name,x,y,z\\nmultipie68.30,0,4,131\\n")
    >>> read_landmarks("points.csv", "mm")["multipie68.30"].tolist()
    [0.0, 0.004, 0.131]
    """
    path = Path(path)
    if units not in METRES:
        raise InputError(f"units: expected one of {', '.join(METRES)}, found '{units}'")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(f"{path}: landmark file not found") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected landmarks as text, found other data") from None
    if path.suffix.lower() == ".ljson":
        records = _menpo(text, str(path))
    elif text.lstrip()[:1] in ("[", "{"):
        records = from_json(text, str(path))
    else:
        first, _, rest = text.partition("\n")
        header = first.replace(",", " ").lower().split()[1:] == ["x", "y", "z"]
        records = from_lines(rest if header else text, str(path))
    points = {}
    for name, (_, point) in records.items():
        if point.shape != (3,) or not np.isfinite(point).all():
            raise InputError(
                f"{path}: landmark '{name}' has coordinates {point.tolist()}, expected three "
                "finite numbers"
            )
        points[name] = point * METRES[units]
    return points


def _menpo(text: str, where: str) -> dict[str, Record]:
    try:
        content = json.loads(text)
        group = next(iter(content["groups"].values())) if "groups" in content else content
        points = np.asarray(group["landmarks"]["points"], dtype=np.float64)
        masks = {str(one["label"]): [int(i) for i in one["mask"]] for one in group["labels"]}
        if len(points) == 68 and all(
            len(masks[n]) == k for n, (_, k) in _MENPO.items() if n in masks
        ):
            numbers = {
                i: first + place
                for name, (first, _) in _MENPO.items()
                for place, i in enumerate(masks.get(name, []))
            }
            return {f"multipie68.{n:02d}": (None, points[i]) for i, n in sorted(numbers.items())}
        return {f"point.{i:02d}": (None, point) for i, point in enumerate(points)}
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, StopIteration):
        raise InputError(f"{where}: expected landmarks as menpo writes them (.ljson)") from None


def from_lines(text: str, where: str) -> dict[str, Record]:
    """Landmarks by name from lines ``name [visible] x y z``; those marked 0, invisible, left out.

    Raises :class:`~radarbook.errors.InputError` for any other line.
    """
    records: dict[str, Record] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError:
            values = []
        if len(values) not in (3, 4):
            raise InputError(
                f"{where}, line {number}: expected 'name visible x y z', found '{line.strip()}'"
            )
        if len(values) == 3 or values[0]:
            records[words[0]] = None, np.asarray(values[-3:])
    return records


def nearest_vertices(
    records: Mapping[str, Record], points: np.ndarray, source: str
) -> dict[str, int]:
    """Vertex index of each landmark: its own, or that of the vertex nearest its coordinates.

    ``points`` (N, 3) mm is the mesh that coordinates lie on. Landmarks farther than
    :data:`LANDMARK_REACH_MM` from it are left out. Raises
    :class:`~radarbook.errors.InputError` for indices out of range and malformed coordinates.
    """
    tree = cKDTree(points)
    landmarks: dict[str, int] = {}
    for label, (index, coordinates) in records.items():
        if index is not None:
            if not 0 <= index < len(points):
                raise InputError(
                    f"{source}: landmark '{label}' is vertex {index}, "
                    f"expected 0 to {len(points) - 1}"
                )
            landmarks[label] = index
            continue
        if coordinates.shape != (3,) or not np.isfinite(coordinates).all():
            raise InputError(
                f"{source}: landmark '{label}' has coordinates {coordinates.tolist()}, "
                "expected three finite numbers"
            )
        distance, nearest = tree.query(coordinates)
        if distance <= LANDMARK_REACH_MM:
            landmarks[label] = int(nearest)
    return landmarks


def _records(value: Any) -> dict[str, Record]:
    if isinstance(value, Mapping):
        named = [(str(key), item) for key, item in value.items()]
    else:
        named = [(str(item["id"]), item) for item in value]
    records: dict[str, Record] = {}
    for label, item in named:
        index, coordinates = None, np.empty(0)
        if isinstance(item, int):
            index = item
        elif isinstance(item, Mapping):
            if item.get("index") is not None:
                index = int(item["index"])
            else:
                coordinates = np.asarray(item["coordinates"], dtype=np.float64)
        else:
            coordinates = np.asarray(item, dtype=np.float64)
        records[label] = (index, coordinates)
    return records
