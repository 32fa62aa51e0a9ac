"""Winding of triangles: the same sense all over a surface."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components


def unified(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Triangles of one sense, which were turned, and whether one sense exists.

    Neighbours share an edge; wound in one sense they run through it in opposite directions. In
    each connected piece the smaller number of triangles is turned. Edges of three and more
    triangles say nothing and are passed over.

    Parameters
    ----------
    triangles : (F, 3) int array
        Vertex indices.

    Returns
    -------
    triangles : (F, 3) int64 array
    turned : (F,) bool array
    orientable : bool
        False for a surface of one side only (a Möbius strip), which is returned as it is.
    """
    triangles = np.asarray(triangles, dtype=np.int64)
    count = len(triangles)
    start = triangles.reshape(-1)
    end = np.roll(triangles, -1, axis=1).reshape(-1)
    owner = np.repeat(np.arange(count), 3)
    low, high = np.minimum(start, end), np.maximum(start, end)
    key = low * (triangles.max(initial=0) + 1) + high
    order = np.argsort(key, kind="stable")
    _, first, times = np.unique(key[order], return_index=True, return_counts=True)
    one, other = order[first[times == 2]], order[first[times == 2] + 1]
    # Two copies of each triangle, as it is and turned; links join copies that agree. A piece then
    # falls into two components, one for each sense, or into one if it has none.
    against = (start[one] == start[other]).astype(np.int64)
    a, b = owner[one], owner[other]
    rows = np.concatenate([a, a + count])
    columns = np.concatenate([b + against * count, b + (1 - against) * count])
    graph = coo_matrix((np.ones(len(rows), dtype=np.int8), (rows, columns)), (2 * count,) * 2)
    component = connected_components(graph, directed=False)[1]
    kept, reverse = component[:count], component[count:]
    if (kept == reverse).any():
        return triangles, np.zeros(count, dtype=bool), False
    size = np.bincount(kept, minlength=component.max() + 1)
    # On equal numbers the sense of the first triangle decides.
    turned = (size[kept] < size[reverse]) | ((size[kept] == size[reverse]) & (kept > reverse))
    result = triangles.copy()
    result[turned] = result[turned][:, ::-1]
    return result, turned, True
