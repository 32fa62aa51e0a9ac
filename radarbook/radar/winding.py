"""Repair of a user's mesh: the front side of each triangle, and repeated triangles.

A facet seen from behind does not radiate, and one that is there twice radiates twice. Both are
common in files of other programs. Repair happens when such a file is read
(:func:`radarbook.radar.scene_file.read_scene`), never in the physics.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import trimesh
from numpy.typing import NDArray
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.errors import InputError
from radarbook.faces.mesh import welded
from radarbook.faces.winding import Winding

Triangles = NDArray[np.int64]
Points = NDArray[np.float64]

#: A triangle whose height is below this part of its longest edge has no area.
_FLAT = 1e-9
#: Open surfaces are one-sided; a smaller part of their visible area than this goes unmentioned.
_BEHIND = 0.02


def repaired(points: Points, triangles: Triangles) -> tuple[Triangles, list[str]]:
    """The triangles (G, 3) of a mesh in the radar frame that should radiate, and notes on repairs.

    ``points`` (N, 3) are metres, the array's middle is the origin; ``triangles`` (F, 3) stay in
    their order. Vertices that coincide count as one.

    - Triangles without area, and repetitions of a triangle, are dropped.
    - Neighbours get the same winding if exactly two triangles share an edge.
    - Closed surfaces get outward normals; a cavity within a closed surface keeps inward ones.
    - Open surfaces are turned so that the larger part of their visible area faces the array. If
      both sides of an open surface are in the file, both are kept.
    - A surface with no consistent winding (a Möbius strip) keeps the file's.

    The notes are one sentence each; a sound mesh comes back as it is, without notes. Raises
    :class:`~radarbook.errors.InputError` if no triangle has an area.

    Examples
    --------
    >>> points = np.array([[0, 0, 0.3], [0.1, 0, 0.3], [0, 0.1, 0.3]])
    >>> triangles, notes = repaired(points, np.array([[0, 1, 2]]))  # of normal +z
    >>> triangles.tolist(), len(notes)
    ([[0, 2, 1]], 1)
    """
    solid = _has_area(points, triangles)
    if not solid.any():
        raise InputError(f"none of its {len(triangles)} triangles has an area")
    used, corner = np.unique(triangles, return_inverse=True)
    _, label = welded(points[used])
    corners = label[corner.reshape(triangles.shape)]
    first, front = _repetitions(corners)
    one_each = np.flatnonzero(first & (front < 0))
    surface = _Surface.of(points[triangles[one_each]], corners[one_each])

    # If the file has both sides of a triangle, the inner side of a closed surface is dropped, and
    # both sides of an open one are kept.
    backs = np.flatnonzero(first & (front >= 0))
    fronts = np.searchsorted(one_each, front[backs])
    inner = surface.closed[surface.part[fronts]]
    keep = np.zeros(len(triangles), dtype=bool)
    keep[one_each] = True
    keep[backs[~inner]] = True
    keep &= solid
    two_sided = np.zeros(len(one_each), dtype=bool)
    two_sided[fronts[~inner]] = True
    reverse = np.zeros(len(triangles), dtype=bool)
    reverse[one_each] = surface.turned & ~two_sided

    out = triangles.copy()
    out[reverse] = out[reverse][:, [0, 2, 1]]
    flat, repeated = int((~solid).sum()), int((solid & ~keep).sum())
    notes = []
    if flat:
        notes.append(f"{_counted(flat)} without area dropped")
    if repeated:
        notes.append(f"{_counted(repeated)} dropped that the file repeats")
    return out[keep], notes + surface.notes(two_sided)


def _counted(count: int, things: str = "triangle") -> str:
    return f"{count} {things}" + ("s" if count != 1 else "")


def _has_area(points: Points, triangles: Triangles) -> NDArray[np.bool_]:
    a, b, c = (points[triangles[:, k]] for k in range(3))
    twice = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    longest = np.max([((p - q) ** 2).sum(axis=1) for p, q in ((a, b), (b, c), (c, a))], axis=0)
    return twice > _FLAT * longest


def _repetitions(corners: Triangles) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Triangles that are the first with their corners and winding (F,), none with a corner twice;
    and for each triangle the earlier one of which it is the other side, else -1 (F,).
    """
    a, b, c = corners.T
    numbers = np.flatnonzero((a != b) & (b != c) & (c != a))
    low = corners[numbers].argmin(axis=1)[:, None]
    ring = np.take_along_axis(corners[numbers], (low + np.arange(3)) % 3, axis=1)
    turned = ring[:, 1] > ring[:, 2]
    key = np.sort(ring, axis=1)
    # By corners, then winding, then place in the file.
    order = np.lexsort((numbers, turned, *key.T))
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (key[order][1:] == key[order][:-1]).all(axis=1)
    alike = same.copy()
    alike[1:] &= turned[order][1:] == turned[order][:-1]
    distinct, other = numbers[order[~alike]], same[~alike]
    first = np.zeros(len(corners), dtype=bool)
    first[distinct] = True
    front = np.full(len(corners), -1)
    here = np.flatnonzero(other)
    one, two = distinct[here - 1], distinct[here]
    front[np.maximum(one, two)] = np.minimum(one, two)
    return first, front


@dataclass(frozen=True)
class _Surface:
    """Distinct triangles in connected parts.

    ``places`` (F, 3, 3) are their corners; ``part`` (F,) the part of each; ``sign`` (F,) +1 where
    its winding is kept and -1 where it is turned so that its part is consistent, with as little
    area turned as possible; ``closed`` and ``orientable`` (parts,) what the parts are; ``crowded``
    how many edges more than two triangles share.
    """

    places: NDArray[np.float64]
    part: NDArray[np.int64]
    sign: NDArray[np.int64]
    closed: NDArray[np.bool_]
    orientable: NDArray[np.bool_]
    crowded: int

    @classmethod
    def of(cls, places: NDArray[np.float64], corners: Triangles) -> _Surface:
        winding = Winding.of(corners)
        part, parts = winding.part, len(winding.orientable)
        area = np.linalg.norm(_area_vectors(places), axis=1)
        majority = np.where(np.bincount(part, winding.sign * area, parts) < 0, -1, 1)
        # Closed: a part's triangles meet each of its edges an even number of times.
        edges = len(winding.uses)
        meeting = (part[:, None] * edges + winding.edge).ravel()
        at, meets = np.unique(meeting, return_counts=True)
        closed = np.ones(parts, dtype=bool)
        closed[(at // edges)[meets % 2 == 1]] = False
        return cls(
            places,
            part,
            winding.sign * majority[part],
            closed & winding.orientable,
            winding.orientable,
            int((winding.uses > 2).sum()),
        )

    @cached_property
    def wanted(self) -> NDArray[np.int64]:
        """(parts,) +1 where ``sign`` gives a part its right side, -1 where all of it is turned."""
        wanted = self._outward()
        faces_array = np.bincount(self.part, self.sign * self.seen, len(self.closed)) >= 0
        open_ = self.orientable & ~self.closed
        wanted[open_] = np.where(faces_array[open_], 1, -1)
        return wanted

    @property
    def turned(self) -> NDArray[np.bool_]:
        """(F,) whether each triangle is to be turned round."""
        return self.sign * self.wanted[self.part] < 0

    def notes(self, two_sided: NDArray[np.bool_]) -> list[str]:
        """Notes on turned and doubtful parts; ``two_sided`` (F,) triangles stay as they are."""
        notes = []
        mixed = int((self.sign[~two_sided] < 0).sum())
        if mixed:
            notes.append(
                f"{mixed} of {_counted(len(self.sign))} turned: their winding was not that "
                "of their neighbours"
            )
        inward = (self.wanted[self.part] < 0) & ~two_sided
        whole = self.closed[self.part]
        if (inward & whole).any():
            notes.append(
                f"closed surfaces of {_counted(int((inward & whole).sum()))} had inward normals "
                "and were turned outward"
            )
        if (inward & ~whole).any():
            notes.append(
                f"open surfaces of {_counted(int((inward & ~whole).sum()))} had their normals away "
                "from the array and were turned towards it; the mesh must be in the radar frame "
                "(--model-frame places one that is not)"
            )
        if self.crowded:
            notes.append(
                f"more than two triangles meet at {_counted(self.crowded, 'edge')}, across which "
                "the winding is not propagated"
            )
        loose = int((~self.orientable[self.part]).sum())
        if loose:
            notes.append(
                f"{_counted(loose)} form a surface without a consistent winding; it is left "
                "unchanged"
            )
        seen = np.where(self.turned, -self.seen, self.seen)[~two_sided]
        behind = -seen[seen < 0].sum() / max(np.abs(seen).sum(), 1e-300)
        if behind > _BEHIND:
            notes.append(
                f"{100 * behind:.0f} % of the open surfaces' visible area is seen "
                "from behind and does not reflect"
            )
        return notes

    def _outward(self) -> NDArray[np.int64]:
        """(parts,) +1 where a closed part stays as ``sign`` has it, -1 where it is turned."""
        parts = len(self.closed)
        a, b, c = (self.places - self.places.mean(axis=(0, 1))).transpose(1, 0, 2)
        volume = np.bincount(self.part, self.sign * (a * np.cross(b, c)).sum(axis=1) / 6, parts)
        wanted = np.ones(parts, dtype=np.int64)
        bodies = np.flatnonzero(self.closed)
        if (volume[bodies] >= 0).all():
            return wanted
        sense = np.where(volume < 0, -1, 1)
        outward = np.ones(parts, dtype=np.int64)
        # Larger bodies first: what contains a body is decided before the body.
        bodies = bodies[np.argsort(-np.abs(volume[bodies]), kind="stable")]
        container = self._containers(bodies)
        for body in bodies:
            around = container[body]
            # A surface that is wound the other way than the one around it bounds a cavity.
            if around >= 0 and sense[body] != sense[around]:
                outward[body] = -outward[around]
        wanted[bodies] = (sense * outward)[bodies]
        return wanted

    def _containers(self, bodies: NDArray[np.int64]) -> NDArray[np.int64]:
        """(parts,) the smallest of the ``bodies`` (large to small) around each of them, or -1."""
        container = np.full(len(self.closed), -1)
        grouped = np.argsort(self.part, kind="stable")
        bounds = np.searchsorted(self.part[grouped], np.arange(len(self.closed) + 1))
        low = np.minimum.reduceat(self.places.min(axis=1)[grouped], bounds[:-1])[bodies]
        high = np.maximum.reduceat(self.places.max(axis=1)[grouped], bounds[:-1])[bodies]
        sample = self.places[grouped[bounds[:-1]], 0]
        for n, body in enumerate(bodies):
            inner = bodies[n + 1 :]
            boxed = (low[n + 1 :] > low[n]).all(axis=1) & (high[n + 1 :] < high[n]).all(axis=1)
            inner = inner[boxed]
            if len(inner):
                shell = self.places[grouped[bounds[body] : bounds[body + 1]]]
                signs = self.sign[grouped[bounds[body] : bounds[body + 1]]]
                around = [
                    abs(_winding_number(point, shell, signs)) > 0.5 for point in sample[inner]
                ]
                container[inner[around]] = body
        return container

    @cached_property
    def seen(self) -> NDArray[np.float64]:
        """(F,) solid angle in which the array's middle sees each triangle of an open part, positive
        where it sees the front by the file's winding; 0 where it is hidden or of a closed part."""
        seen = np.zeros(len(self.part))
        some = np.flatnonzero(~self.closed[self.part])
        if len(some) == 0:
            return seen
        soup = trimesh.Trimesh(
            self.places.reshape(-1, 3), np.arange(3 * len(self.part)).reshape(-1, 3), process=False
        )
        centre = self.places[some].mean(axis=1)
        met = RayMeshIntersector(soup).intersects_first(np.zeros_like(centre), centre)
        visible = met == some
        towards = -(_area_vectors(self.places[some]) * centre).sum(axis=1)
        seen[some] = np.where(visible, towards / np.linalg.norm(centre, axis=1) ** 3, 0.0)
        return seen


def _area_vectors(places: NDArray[np.float64]) -> NDArray[np.float64]:
    a, b, c = places.transpose(1, 0, 2)
    return np.cross(b - a, c - a) / 2


def _winding_number(
    point: NDArray[np.float64], shell: NDArray[np.float64], signs: NDArray[np.int64]
) -> float:
    """Winding number of a closed surface (F, 3, 3) around a point: 1 within it, 0 outside."""
    a, b, c = (shell - point).transpose(1, 0, 2)
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    spat = (a * np.cross(b, c)).sum(axis=1)
    rest = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
    return float((signs * np.arctan2(spat, rest)).sum() / (2 * np.pi))
