"""Winding of triangles: the same sense all over a surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class Winding:
    """How the triangles of a mesh are wound, part by connected part.

    Two triangles are neighbours where exactly they share an edge; wound in one sense they run
    through it in opposite directions. Edges of three and more triangles connect nothing.

    Attributes
    ----------
    part : (F,) int64 array
        The part that each triangle belongs to.
    sign : (F,) int64 array
        +1 where a triangle has the sense of its part's first triangle, -1 where it has the other;
        +1 all over a part that has no sense.
    orientable : (parts,) bool array
        False for a surface of one side only (a Möbius strip).
    edge : (F, 3) int64 array
        Number of the edge from each corner to the next.
    uses : (edges,) int64 array
        Triangles that share each edge.
    """

    part: NDArray[np.int64]
    sign: NDArray[np.int64]
    orientable: NDArray[np.bool_]
    edge: NDArray[np.int64]
    uses: NDArray[np.int64]

    @classmethod
    def of(cls, triangles: NDArray[np.int64]) -> Winding:
        """The winding of triangles (F, 3) of vertex indices."""
        count = len(triangles)
        begin, end = triangles.ravel(), np.roll(triangles, -1, axis=1).ravel()
        owner = np.repeat(np.arange(count), 3)
        key = np.minimum(begin, end) * (triangles.max(initial=0) + 1) + np.maximum(begin, end)
        order = np.argsort(key, kind="stable")
        _, start, uses = np.unique(key[order], return_index=True, return_counts=True)
        edge = np.empty(len(key), dtype=np.int64)
        edge[order] = np.repeat(np.arange(len(uses)), uses)
        pair = start[uses == 2]
        one, two = order[pair], order[pair + 1]
        f, g = owner[one], owner[two]
        agree = begin[one] != begin[two]
        # Twice the triangles: as they are, and turned. A part with one winding falls into two
        # halves of this graph; one without stays in one piece.
        rows = np.concatenate([f, f + count])
        columns = np.concatenate([np.where(agree, g, g + count), np.where(agree, g + count, g)])
        half = _components(rows, columns, 2 * count)
        part = _components(f, g, count)
        parts = int(part.max(initial=-1)) + 1
        orientable = np.ones(parts, dtype=bool)
        orientable[part[half[:count] == half[count:]]] = False
        first = np.full(parts, -1)
        first[part[::-1]] = half[:count][::-1]
        sign = np.where(half[:count] == first[part], 1, -1)
        sign[~orientable[part]] = 1
        return cls(part, sign, orientable, edge.reshape(count, 3), uses)


def _components(rows: NDArray[np.int64], columns: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def unified(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Triangles of one sense, which were turned, and whether one sense exists.

    In each connected part the smaller number of triangles is turned; of equal numbers, those that
    are not wound as the first.

    Parameters
    ----------
    triangles : (F, 3) int array
        Vertex indices.

    Returns
    -------
    triangles : (F, 3) int64 array
    turned : (F,) bool array
    orientable : bool
        False if a part has no sense; all triangles are then returned as they are.
    """
    triangles = np.asarray(triangles, dtype=np.int64)
    winding = Winding.of(triangles)
    if not winding.orientable.all():
        return triangles, np.zeros(len(triangles), dtype=bool), False
    majority = np.where(np.bincount(winding.part, winding.sign) < 0, -1, 1)
    turned = winding.sign != majority[winding.part]
    result = triangles.copy()
    result[turned] = result[turned][:, ::-1]
    return result, turned, True
