"""Landmarks of a face model as files give them: JSON, or lines of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from radarbook.errors import InputError

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
