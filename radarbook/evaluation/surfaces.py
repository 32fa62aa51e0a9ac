"""A fitted face against a scan of any mesh, as benchmarks of face reconstruction compare them.

The scan is moved rigidly onto the fit, by landmarks and then by iterative closest points, and its
distances to the surface of the fit are stated over a part of the face. No vertex of the one
corresponds to a vertex of the other, so sliding along the surface costs nothing.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
import trimesh.registration
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from radarbook.errors import InputError
from radarbook.faces.compare import closest_on_surface
from radarbook.faces.mesh import Mesh, require_mesh, welded
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import MM, pivot_and_origin, place
from radarbook.faces.regions import ANCHORS
from radarbook.files import write_text

Floats = NDArray[np.float64]

#: Of a sample of a surface: longest edge of the triangles whose centres it has, m.
SPACING = 2.5e-3
#: Iterations at most, and the largest movement of a point, m, at which the alignment has converged.
ITERATIONS, CONVERGED = 120, 1e-7
#: Points of the first alignment, about; all count for the last.
FEW = 3000
#: Iterations after which the compared part is kept, so that points on its rim do not come and go.
REGION_FIXED = 50
#: Pairs farther apart than this do not count for the alignment without landmarks, m.
REACH = 0.03
#: Levels for which the share of the surface within them is stated, mm.
WITHIN = (1.0, 2.0, 3.0)
#: Levels of the cumulative curve, mm.
LEVELS = tuple(round(0.1 * k, 1) for k in range(101))
#: Landmarks on the outline of a face: a point of a curve, which each marks elsewhere.
_OUTLINE = {f"multipie68.{k:02d}" for k in range(17)}


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with what is known of it, in metres.

    Attributes
    ----------
    vertices : (N, 3) float64 array
        Metres.
    triangles : (F, 3) int64 array
    landmarks : mapping of str to (3,) array
        Points by name, metres.
    regions : mapping of str to (N,) bool array
        Vertices of each region.
    towards : (3,) array, optional
        Direction from the face to the radar array, in the frame of the vertices.

    Raises :class:`~radarbook.errors.InputError` for a mesh that is none, and for landmarks or
    regions of another shape.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.evaluation import Surface
    >>> face = rb.FaceParameters.neutral(1)
    >>> surface = Surface.of_face(rb.load_model(), face)
    >>> surface.towards.round(1)[2].item(), sorted(surface.regions)[:2]
    (1.0, ['cheeks', 'chin'])
    """

    vertices: Floats
    triangles: NDArray[np.int64]
    landmarks: Mapping[str, Floats] = field(default_factory=dict)
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    towards: Floats | None = None

    def __post_init__(self) -> None:
        require_mesh("surface", self.vertices, self.triangles)
        for name, point in self.landmarks.items():
            if np.shape(point) != (3,) or not np.isfinite(point).all():
                raise InputError(f"landmark '{name}': expected three finite numbers, found {point}")
        for name, mask in self.regions.items():
            if np.shape(mask) != (len(self.vertices),):
                raise InputError(
                    f"region '{name}': expected {len(self.vertices)} values, one for each vertex, "
                    f"found {np.shape(mask)}"
                )

    @classmethod
    def of_model(cls, model: MorphableModel, mesh: Mesh) -> Surface:
        """A mesh (m) of a model's vertices, with the model's landmarks and regions.

        Raises :class:`~radarbook.errors.InputError` for a mesh of other triangles.
        """
        same = np.array_equal(np.sort(mesh.triangles, 1), np.sort(model.triangles.cpu().numpy(), 1))
        if len(mesh.vertices) != model.n_vertices or not same:
            raise InputError(
                f"model '{model.name}': expected a mesh with its {model.n_vertices} vertices and "
                f"{len(model.triangles)} triangles, found {len(mesh.vertices)} and "
                f"{len(mesh.triangles)} or another order"
            )
        vertices = np.asarray(mesh.vertices, dtype=np.float64)
        return cls(
            vertices,
            mesh.triangles,
            {name: vertices[index] for name, index in model.landmarks.items()},
            {name: mask.cpu().numpy() for name, mask in model.regions.items()},
        )

    @classmethod
    def of_face(
        cls, model: MorphableModel, parameters: FaceParameters, distance: float = 0.30
    ) -> Surface:
        """The first face of some parameters, in the model frame; ``distance`` (m) is the fit's."""
        shape, expression = parameters.shape[:1], parameters.expression[:1]
        points = model.vertices(shape, expression)[0].detach().cpu().double().numpy()
        surface = cls.of_model(model, Mesh(MM * points, model.triangles.cpu().numpy()))
        # Where a point 1 mm from the pivot along each axis comes to.
        pivot, _ = pivot_and_origin(model)
        ends = pivot + pivot.new_tensor([[0.0, 0.0, 0.0], *np.eye(3).tolist()])
        posed = place(model, ends[None], parameters[:1], distance)[0].detach().cpu().double()
        axes = (posed[1:] - posed[0]).numpy() / MM
        direction = axes @ -posed[0].numpy()
        towards = direction / np.linalg.norm(direction)
        return cls(surface.vertices, surface.triangles, surface.landmarks, surface.regions, towards)

    def moved(self, rotation: Floats, translation: Floats) -> Surface:
        """The surface with each point p (m) at R p + t, for R (3, 3) and t (3,) m."""
        towards = None if self.towards is None else rotation @ self.towards
        marks = {name: rotation @ point + translation for name, point in self.landmarks.items()}
        vertices = self.vertices @ rotation.T + translation
        return Surface(vertices, self.triangles, marks, self.regions, towards)

    @property
    def nose_tip(self) -> Floats:
        """(3,) m: the landmark, or without one the point that is foremost along +z."""
        for name in ("nose_tip", *ANCHORS["nose_tip"]):
            if name in self.landmarks:
                return np.asarray(self.landmarks[name], dtype=np.float64)
        used = self.vertices[np.unique(self.triangles)]
        return np.asarray(used[used[:, 2].argmax()])


@dataclass(frozen=True)
class Distances:
    """Distances of the points of one surface to another, each with the area that it stands for.

    Attributes
    ----------
    points : (M, 3) array
        Sampled points, m, in the frame of the fit.
    values : (M,) array
        Distances, m.
    areas : (M,) array
        Square metres.
    regions : mapping of str to (M,) bool array
    left_out : float
        Share of the area whose nearest point lies on the border of the other surface: what it
        lies nearest to was not measured. These points are not among the above.

    Examples
    --------
    >>> import numpy as np
    >>> from radarbook.evaluation import Distances
    >>> one = Distances(np.zeros((3, 3)), np.array([1e-3, 2e-3, 6e-3]), np.ones(3))
    >>> one.summary()["median"], one.summary()["mean"], one.summary()["within 2 mm"]
    (2.0, 3.0, 0.667)
    """

    points: Floats
    values: Floats
    areas: Floats
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    left_out: float = 0.0

    def of(self, region: str) -> Distances:
        """Those of one region."""
        inside = self.regions[region]
        return Distances(self.points[inside], self.values[inside], self.areas[inside])

    def quantile(self, share: float) -> float:
        """Distance, m, within which a share of the area lies."""
        return float(np.quantile(self.values, share, weights=self.areas, method="inverted_cdf"))

    @property
    def mean(self) -> float:
        """Metres."""
        return float(np.average(self.values, weights=self.areas))

    @property
    def deviation(self) -> float:
        """Standard deviation, m."""
        variance = np.average((self.values - self.mean) ** 2, weights=self.areas)
        return math.sqrt(float(variance))

    def within(self, level: float) -> float:
        """Share of the area that lies within a distance, m."""
        return float(self.areas[self.values <= level].sum() / self.areas.sum())

    def summary(self) -> dict[str, float]:
        """Statistics: lengths in mm and the area in mm², shares from 0 to 1; rounded."""
        return {
            "median": round(1e3 * self.quantile(0.5), 4),
            "mean": round(1e3 * self.mean, 4),
            "std": round(1e3 * self.deviation, 4),
            "90 %": round(1e3 * self.quantile(0.9), 4),
            **{f"within {level:g} mm": round(self.within(1e-3 * level), 3) for level in WITHIN},
            "area": round(1e6 * float(self.areas.sum()), 1),
        }


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare`; its ``str`` is the table that the command line prints.

    Attributes
    ----------
    scan_to_fit : Distances
        Of points of the scan to the surface of the fit: the benchmarks' measure.
    fit_to_scan : Distances
        Of points of the fit to the surface of the scan.
    fit, scan : Surface
        In the frame of the fit, the scan after its alignment.
    rotation, translation : (3, 3), (3,) arrays
        The alignment: a point p of the scan (m) came to R p + t.
    converged : bool
        Whether the alignment came to rest.
    radius : float
        Of the part of the face about the nose tip that is compared, m.
    facing : float, optional
        Largest angle, degrees, between the surface's normal and the direction to the array.
    """

    scan_to_fit: Distances
    fit_to_scan: Distances
    fit: Surface
    scan: Surface
    rotation: Floats
    translation: Floats
    converged: bool
    radius: float
    facing: float | None = None

    def rows(self) -> Iterator[tuple[str, str, dict[str, float]]]:
        """(measure, region, statistics) of both measures, over all and by region."""
        for name in ("scan_to_fit", "fit_to_scan"):
            whole: Distances = getattr(self, name)
            yield name, "all", whole.summary()
            for region, inside in whole.regions.items():
                if inside.any():
                    yield name, region, whole.of(region).summary()

    def vertex_distances(self) -> Floats:
        """(N,) m: distance of each vertex of the fit to the scan; NaN outside the compared part."""
        near, distance, which = closest_on_surface(
            self.fit.vertices, self.scan.vertices, self.scan.triangles
        )
        inside = _inside(self.fit, self.fit.vertices, self.radius)
        inside &= ~_Border.of(self.scan).holds(near, which)
        if self.facing is not None:
            inside &= _facing(self.fit, _vertex_normals(self.fit), self.facing)
        return np.where(inside, distance, np.nan)

    def as_dict(self) -> dict[str, Any]:
        """Everything but the meshes, JSON-able."""
        curve = {
            name: [round(getattr(self, name).within(1e-3 * level), 4) for level in LEVELS]
            for name in ("scan_to_fit", "fit_to_scan")
        }
        found: dict[str, Any] = {"units": "mm, shares from 0 to 1"}
        for name, region, row in self.rows():
            found.setdefault(name, {})[region] = row
        return found | {
            "cumulative": {"within_mm": list(LEVELS)} | curve,
            "left_out": {n: round(getattr(self, n).left_out, 4) for n in curve},
            "radius_mm": round(1e3 * self.radius, 3),
            "facing_degrees": self.facing,
            "rotation": self.rotation.tolist(),
            "translation_m": self.translation.tolist(),
            "converged": self.converged,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all results as JSON, or the table alone as CSV, by the name's ending."""
        path = Path(path)
        if path.suffix.lower() == ".json":
            write_text(path, json.dumps(self.as_dict(), indent=1) + "\n")
        elif path.suffix.lower() == ".csv":
            file = io.StringIO()
            writer = csv.writer(file, lineterminator="\n")
            rows = list(self.rows())
            writer.writerow(["measure", "region", *rows[0][2]])
            writer.writerows([name, region, *row.values()] for name, region, row in rows)
            write_text(path, file.getvalue())
        else:
            raise InputError(f"{path}: expected a name ending in .json, .csv")

    def __str__(self) -> str:
        heads = ["median", "mean", "std", "90 %", *(f"within {level:g} mm" for level in WITHIN)]
        lines = [f"{'mm':<24}" + "".join(f"{head:>13}" for head in heads)]
        for name, region, row in self.rows():
            words = name.replace("_", " ") if region == "all" else f"  {region}"
            cells = [f"{row[h]:.2f}" if h in heads[:4] else f"{row[h]:.0%}" for h in heads]
            lines.append(f"{words:<24}" + "".join(f"{cell:>13}" for cell in cells))
        part = f"within {1e3 * self.radius:.0f} mm of the nose tip"
        if self.facing is not None:
            part += f", normals within {self.facing:.0f} degrees of the direction to the array"
        turn = math.degrees(Rotation.from_matrix(self.rotation).magnitude())
        lines.append(
            f"{part}; the nearest point of {self.scan_to_fit.left_out:.0%} of the scan and "
            f"{self.fit_to_scan.left_out:.0%} of the fit lies on a border: left out"
        )
        x, y, z = (1e3 * self.translation).tolist()
        lines.append(
            f"alignment: scan turned by {turn:.1f} degrees, moved by {x:+.1f} {y:+.1f} {z:+.1f} mm"
            + ("" if self.converged else "; it did not converge")
        )
        return "\n".join(lines)


def compare(
    fit: Surface | Mesh,
    scan: Surface | Mesh,
    *,
    radius: float = 0.075,
    facing: float | None = None,
    align: bool = True,
) -> Comparison:
    """Distances between a fitted face and a scan, after rigid alignment.

    The scan is brought to the fit by common landmarks, of which three are enough; those on the
    outline count only if there are no others. Without landmarks both must be upright: the scan
    starts as it is or turned by half about y, with its foremost or its central point on the fit's,
    and the best of these ends counts. Iterative closest points (Gauss-Newton steps on the distances
    to the planes of the nearest triangles; Chen and Medioni, 1992) then minimise the mean squared
    distance of the compared part of the scan.

    Distances are those of centres of triangles, divided to edges of at most 2.5 mm, and count by
    their area. So neither the triangulation of the scan nor that of the fit decides a figure.
    Points whose nearest point lies on the border of the other surface are left out, and their share
    is stated.

    Parameters
    ----------
    fit, scan : Surface or Mesh
        Metres, each in any frame in which +y is up; ``fit`` in the model frame for the foremost
        point to be a nose tip.
    radius : float
        The part of the face that is compared lies within this distance of the fit's nose tip, m.
    facing : float, optional
        Compare only where the normal is within so many degrees of the direction to the array,
        ``fit.towards``, else +z.
    align : bool
        Without it the scan stays where it is.

    Returns :class:`Comparison`. Raises :class:`~radarbook.errors.InputError` for a radius or an
    angle out of range, for fewer than three common landmarks or such on one line where both
    surfaces have some, and for surfaces that do not overlap.

    Examples
    --------
    A scan that is the fit itself, moved.

    >>> import numpy as np
    >>> import radarbook as rb
    >>> from radarbook.evaluation import Surface
    >>> fit = Surface.of_face(rb.load_model(), rb.FaceParameters.neutral(1))
    >>> scan = fit.moved(np.eye(3), np.array([0.0, 0.01, 0.3]))
    >>> result = rb.compare(fit, scan)
    >>> result.scan_to_fit.summary()["mean"], result.converged
    (0.0, True)
    """
    if not 0 < radius < math.inf:
        raise InputError(f"radius: expected metres above 0, found {radius:g}")
    if facing is not None and not 0 < facing <= 180:
        raise InputError(f"facing: expected degrees above 0, at most 180, found {facing:g}")
    fit, scan = (
        one if isinstance(one, Surface) else Surface(one.vertices, one.triangles)
        for one in (fit, scan)
    )
    rotation, translation, converged = np.eye(3), np.zeros(3), True
    if align:
        rotation, translation, converged = _aligned(fit, scan, radius, facing)
    scan = scan.moved(rotation, translation)
    return Comparison(
        scan_to_fit=_distances(scan, fit, fit, radius, facing),
        fit_to_scan=_distances(fit, scan, fit, radius, facing),
        fit=fit,
        scan=scan,
        rotation=rotation,
        translation=translation,
        converged=converged,
        radius=radius,
        facing=facing,
    )


# -- samples of a surface ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sample:
    """Centres (M, 3) of small triangles, with areas (M,) and normals (M, 3)."""

    points: Floats
    areas: Floats
    normals: Floats

    @classmethod
    def of(cls, surface: Surface) -> _Sample:
        # Measured points alone: a triangle whose corners coincide has no area and no normal.
        vertices, triangles = trimesh.remesh.subdivide_to_size(
            surface.vertices, surface.triangles, SPACING, max_iter=16
        )
        a, b, c = (vertices[triangles[:, k]] for k in range(3))
        normals = np.cross(b - a, c - a) / 2
        areas = np.linalg.norm(normals, axis=1)
        good = areas > 1e-6 * areas.mean()
        points = (a + b + c)[good] / 3
        return cls(points, areas[good], normals[good] / areas[good, None])

    def part(self, inside: NDArray[np.bool_]) -> _Sample:
        return _Sample(self.points[inside], self.areas[inside], self.normals[inside])

    def moved(self, rotation: Floats, translation: Floats) -> _Sample:
        points = self.points @ rotation.T + translation
        return _Sample(points, self.areas, self.normals @ rotation.T)


def _vertex_normals(surface: Surface) -> Floats:
    mesh = trimesh.Trimesh(surface.vertices, surface.triangles, process=False)
    return np.asarray(mesh.vertex_normals)


def _inside(fit: Surface, points: Floats, radius: float) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.linalg.norm(points - fit.nose_tip, axis=1) <= radius
    return found


def _facing(fit: Surface, normals: Floats, angle: float) -> NDArray[np.bool_]:
    towards = np.array([0.0, 0.0, 1.0]) if fit.towards is None else fit.towards
    found: NDArray[np.bool_] = normals @ towards >= math.cos(math.radians(angle))
    return found


@dataclass(frozen=True)
class _Border:
    """The open edges of a mesh, with coincident vertices taken as one."""

    corners: Floats
    opposite: NDArray[np.bool_]  # (F, 3): the edge opposite a corner is open
    ends: NDArray[np.bool_]  # (F, 3): a corner lies on an open edge

    @classmethod
    def of(cls, surface: Surface) -> _Border:
        _, number = welded(surface.vertices)
        triangles = number[surface.triangles]
        edges = np.sort(np.stack([triangles[:, [1, 2]], triangles[:, [2, 0]], triangles[:, :2]], 1))
        _, which, count = np.unique(
            edges.reshape(-1, 2), axis=0, return_inverse=True, return_counts=True
        )
        open_edges = count[which.reshape(-1)] == 1
        ends = np.zeros(len(surface.vertices), dtype=bool)
        ends[edges.reshape(-1, 2)[open_edges]] = True
        return cls(surface.vertices[surface.triangles], open_edges.reshape(-1, 3), ends[triangles])

    def holds(self, points: Floats, which: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(M,) whether points (M, 3) of the triangles (M,) lie on an open edge."""
        # The weight of a corner is 0 on the edge opposite; two weights are 0 at a corner.
        weights = trimesh.triangles.points_to_barycentric(self.corners[which], points)
        zero = np.abs(weights) < 1e-7
        on_edge = (zero & self.opposite[which]).any(axis=1)
        at_end = ((weights > 1 - 1e-7) & self.ends[which]).any(axis=1)
        found: NDArray[np.bool_] = on_edge | at_end
        return found


def _distances(
    one: Surface, other: Surface, fit: Surface, radius: float, facing: float | None
) -> Distances:
    sample = _Sample.of(one)
    inside = _inside(fit, sample.points, radius)
    if facing is not None:
        inside &= _facing(fit, sample.normals, facing)
    sample = sample.part(inside)
    if not len(sample.points):
        raise InputError("comparison: expected surfaces that overlap, found no point to compare")
    near, values, which = closest_on_surface(sample.points, other.vertices, other.triangles)
    measured = ~_Border.of(other).holds(near, which)
    if not measured.any():
        raise InputError("comparison: expected surfaces that overlap, found borders that meet")
    on_fit = which
    if other is not fit:
        on_fit = closest_on_surface(sample.points, fit.vertices, fit.triangles)[2]
    regions = {
        # A triangle belongs to a region with most of its corners.
        name: (mask[fit.triangles].sum(axis=1) >= 2)[on_fit][measured]
        for name, mask in fit.regions.items()
    }
    left_out = 1 - float(sample.areas[measured].sum() / sample.areas.sum())
    return Distances(
        sample.points[measured], values[measured], sample.areas[measured], regions, left_out
    )


# -- alignment -----------------------------------------------------------------------------------


def _aligned(
    fit: Surface, scan: Surface, radius: float, facing: float | None
) -> tuple[Floats, Floats, bool]:
    """Rotation (3, 3), translation (3,) m, and whether it converged."""
    whole, border = _Sample.of(scan), _Border.of(fit)
    few = whole.part(np.arange(len(whole.points)) % max(1, len(whole.points) // FEW) == 0)
    common = sorted(fit.landmarks.keys() & scan.landmarks.keys())
    inner = [name for name in common if name not in _OUTLINE]
    common = inner if len(inner) >= 3 else common
    if common:
        starts = [_by_landmarks(fit, scan, common)]
    elif fit.landmarks and scan.landmarks:
        raise InputError(
            "landmarks: expected three or more names that fit and scan share, found "
            f"{', '.join(list(fit.landmarks)[:2])} and {', '.join(list(scan.landmarks)[:2])} …"
        )
    else:
        starts = list(_starts(fit, scan))
    ends = []
    for start in starts:
        reach = math.inf if common else REACH
        try:
            end = _refined(fit, border, few, start, radius, facing, reach=reach, rest=1e-5)
        except _ApartError:
            continue
        ends.append((_cost(fit, few.moved(*end[:2]), radius), end[:2]))
    if not ends:
        raise InputError("comparison: expected surfaces that overlap, found no common part")
    best = min(ends, key=lambda end: end[0])[1]
    try:
        return _refined(fit, border, whole, best, radius, facing)
    except _ApartError:
        raise InputError("comparison: expected surfaces that overlap, found none") from None


class _ApartError(Exception):
    """Two surfaces have no common part."""


def _starts(fit: Surface, scan: Surface) -> Iterator[tuple[Floats, Floats]]:
    """The scan as it is or turned by half about y, with its foremost or central point on the
    fit's."""
    for turn in (np.eye(3), np.diag([-1.0, 1.0, -1.0])):
        turned = scan.vertices[np.unique(scan.triangles)] @ turn.T
        yield turn, fit.nose_tip - turned[turned[:, 2].argmax()]
        yield turn, _middle(fit.vertices) - _middle(turned)


def _middle(points: Floats) -> Floats:
    return (points.min(axis=0) + points.max(axis=0)) / 2


def _by_landmarks(fit: Surface, scan: Surface, names: Sequence[str]) -> tuple[Floats, Floats]:
    ours, theirs = (np.array([s.landmarks[name] for name in names]) for s in (fit, scan))
    spread = np.linalg.svd(theirs - theirs.mean(axis=0), compute_uv=False)
    if len(names) < 3 or spread[1] < 1e-3 * spread[0]:
        raise InputError(
            "landmarks: expected three or more that fit and scan share and that are not on one "
            f"line, found {', '.join(names)}"
        )
    matrix, _, _ = trimesh.registration.procrustes(theirs, ours, reflection=False, scale=False)
    return matrix[:3, :3], matrix[:3, 3]


def _cost(fit: Surface, sample: _Sample, radius: float) -> float:
    """Mean squared distance, m², of the fit's part to the nearest points, none over REACH."""
    part = _Sample.of(fit)
    part = part.part(_inside(fit, part.points, radius))
    distance, _ = cKDTree(sample.points).query(part.points)
    return float(np.average(np.minimum(distance, REACH) ** 2, weights=part.areas))


def _refined(
    fit: Surface,
    border: _Border,
    sample: _Sample,
    start: tuple[Floats, Floats],
    radius: float,
    facing: float | None,
    *,
    reach: float = math.inf,
    rest: float = CONVERGED,
) -> tuple[Floats, Floats, bool]:
    """Iterative closest points from a start; pairs farther apart than ``reach`` do not count, and
    it ends when no point moves by more than ``rest``. Raises :class:`_ApartError`."""
    rotation, translation = start
    mesh = trimesh.Trimesh(fit.vertices, fit.triangles, process=False)
    normals = np.asarray(mesh.face_normals)
    inside = np.ones(len(sample.points), dtype=bool)
    for number in range(ITERATIONS):
        moved = sample.moved(rotation, translation)
        if number < REGION_FIXED:
            inside = _inside(fit, moved.points, radius)
            if facing is not None:
                inside &= _facing(fit, moved.normals, facing)
        moved = moved.part(inside)
        if len(moved.points) < 6:
            raise _ApartError
        near, distance, which = closest_on_surface(moved.points, fit.vertices, fit.triangles)
        # The direction to the nearest point; on the surface itself, that of its normal.
        apart = moved.points - near
        far = distance > 1e-9
        along = np.where(far[:, None], apart / np.maximum(distance, 1e-9)[:, None], normals[which])
        use = (distance < reach) & ~border.holds(near, which)
        if use.sum() < 6:
            raise _ApartError
        weight = np.sqrt(moved.areas[use])
        centre = moved.points[use].mean(axis=0)
        arms = moved.points[use] - centre
        rows = np.concatenate([np.cross(arms, along[use]), along[use]], axis=1) * weight[:, None]
        residual = (apart[use] * along[use]).sum(axis=1) * weight
        # A radian moves points by some 5 cm. A surface that may slide or turn without a change
        # of distance (a plate, a ball) does neither.
        scale = np.array([20.0] * 3 + [1.0] * 3)
        twist = -scale * np.linalg.lstsq(rows * scale, residual, rcond=1e-6)[0]
        turn = Rotation.from_rotvec(twist[:3]).as_matrix()
        rotation = turn @ rotation
        translation = turn @ (translation - centre) + centre + twist[3:]
        if np.abs(arms).max() * np.linalg.norm(twist[:3]) + np.linalg.norm(twist[3:]) < rest:
            return rotation, translation, True
    return rotation, translation, False
