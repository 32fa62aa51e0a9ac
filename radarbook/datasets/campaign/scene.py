"""From a take's plan to a recording: the bodies before the array, what radiates, what hides what.

Signals are those of :func:`~radarbook.radar.simulate.simulate`: first reflections by physical
optics. Bodies hide each other; each has its own roughness and permittivity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from torch import Tensor
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.datasets.campaign.plan import Body, Campaign, Cast, Foam, Hair
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.recordings import Recording
from radarbook.faces.displacements import vertex_normals
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import place
from radarbook.radar.array import Array, qar50
from radarbook.radar.layer import Layer
from radarbook.radar.meshes import join, sphere
from radarbook.radar.pieces import FACET_SIZE
from radarbook.radar.scattering import SKIN_PERMITTIVITY
from radarbook.radar.simulate import simulate, simulate_points
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform
from radarbook.seeds import stream_key, torch_stream

#: Facets of what is not the face, m: a flat one is a hundredth of a wavelength off a surface of
#: 0.1 m radius, and rough ones radiate each on its own.
_COARSE = 5e-3
#: How far the head goes on behind the mask, mm, and how much wider it gets on the way.
_BEHIND = tuple(np.linspace(0.0, 60.0, 16).tolist())
_WIDER = tuple((8.0 * np.sin(np.linspace(0.0, 0.7 * np.pi, 16))).tolist())


@dataclass(frozen=True, eq=False)
class Thing:
    """One body: vertices (N, 3) m in the radar frame, triangles (F, 3), and what it is made of."""

    vertices: Tensor
    triangles: Tensor
    material: float
    permittivity: complex
    facet: float = FACET_SIZE
    surface: SmoothSurface | None = None
    rest: Tensor | None = None
    #: False: it only hides what is behind it.
    radiates: bool = True
    #: True: on the face, as brows are.
    worn: bool = False


def record(campaign: Campaign, cast: Cast, subject: int, expression: str, take: int) -> Recording:
    """The recording of one take, with the nominal positions of the antennas.

    Takes a second or two on one core for the procedural model. The same on every machine but for
    rounding.
    """
    return record_parts(campaign, cast, subject, expression, take)[0]


def record_parts(
    campaign: Campaign, cast: Cast, subject: int, expression: str, take: int
) -> tuple[Recording, Tensor]:
    """A take, and the part (rx, tx, f) of its signal that is of the face with what is on it.

    The other part is of all other bodies, of leakage and of noise. Gains, phases, positions and
    movement are in both.
    """
    whole = qar50_waveform(128)
    waveform = Waveform(whole.frequencies[:: campaign.step])
    number = campaign.number(subject, expression, take)
    nominal, instrument = qar50(), campaign.instrument
    seed = stream_key(campaign.seed, "campaign/instrument", campaign.recorded_by(subject))
    own = Imperfections(
        gain_db=instrument.gain_db, phase=instrument.phase, position=instrument.position
    )
    array = own.array(nominal, seed)
    face = campaign.face(cast, subject, expression, take)
    scene = Imperfections(
        velocity=(0.0, 0.0, campaign.velocity(subject, expression, take)),
        sweep=campaign.breathing.sweep if campaign.breathing else 0.0,
    )
    leaking = replace(scene, leakage_db=instrument.leakage_db)
    noise = Imperfections(snr_db=instrument.snr_db)

    def measured(signal: Tensor, moving: Imperfections) -> Tensor:
        moved = moving.apply(signal, array, waveform, seed, centre=(0.0, 0.0, 0.35))
        return own.apply(moved, array, waveform, seed)

    with torch.no_grad():
        first, others = clean_signals(campaign, cast, face, subject, take, array, waveform, number)
        total = noise.apply(measured(first + others, leaking), array, waveform, number)
        first = measured(first, scene)
    about: dict[str, str | int | float | bool] = {
        "subject": subject_name(subject),
        "expression": expression,
        "take": take,
        "head_rest": not campaign.without_rest(take),
        "blanket": campaign.covered(subject, take) is not None,
        "simulated": True,
    }
    return Recording(total, nominal, waveform, about), first


def subject_name(subject: int) -> str:
    """``S01`` for the first."""
    return f"S{subject + 1:02d}"


def clean_signals(
    campaign: Campaign,
    cast: Cast,
    face: FaceParameters,
    subject: int,
    take: int,
    array: Array,
    waveform: Waveform,
    number: int,
    distance: float = 0.30,
) -> tuple[Tensor, Tensor]:
    """(rx, tx, f) complex64 each, without the instrument's faults: of the face with what is on it,
    and of everything else before the array.

    ``number`` decides the speckle and the foam.
    """
    things = bodies(campaign, cast, face, subject, distance)
    thickness = campaign.covered(subject, take)
    layer = None
    if thickness is not None and campaign.blanket is not None:
        slab = campaign.blanket
        layer = Layer(slab.distance, thickness, slab.permittivity, echo=True)
    joined, triangles = _joined(things)
    seen = visibility(joined, triangles, array).split([len(one.triangles) for one in things])
    empty = torch.zeros(len(array.rx), len(array.tx), len(waveform), dtype=torch.complex64)
    total = {True: empty, False: empty.clone()}
    for n, (one, mine) in enumerate(zip(things, seen, strict=True)):
        if not (one.radiates and bool(mine.any())):
            continue
        total[n == 0 or one.worn] += simulate(
            one.vertices.float(),
            one.triangles,
            array,
            waveform,
            material=one.material,
            antenna_size=campaign.antenna_size,
            permittivity=one.permittivity,
            visibility=mine,
            # The slab's echo is added once.
            layer=layer if layer is None or n == 0 else replace(layer, echo=False),
            facet_size=one.facet,
            surface=one.surface,
            seed=stream_key(number, "campaign/speckle", n),
            rest=one.rest,
            # Within 5e-4 of each other; of so few facets kernels take half of the time.
            method="kernels" if layer is None else "cells",
        )
    if campaign.foam is not None:
        places, strengths = _foam(campaign.foam, joined, triangles, number)
        total[False] += simulate_points(places, strengths, array, waveform)
    return total[True], total[False]


def bodies(
    campaign: Campaign, cast: Cast, face: FaceParameters, subject: int, distance: float = 0.30
) -> list[Thing]:
    """What stands before the array: the face first, then what the campaign has of the rest."""
    model = cast.model
    points = model.vertices(face.shape, face.expression)[0]

    def placed(some: Tensor) -> Tensor:
        return place(model, some[None].float(), face, distance)[0]

    rough = float(face.material[0])
    skin = SKIN_PERMITTIVITY
    smooth = SmoothSurface.of(model.shape_mean + model.expression_mean, model.triangles)
    rest = 1e-3 * model.mean.double()
    found = [
        Thing(placed(points), model.triangles, rough, skin, FACET_SIZE, smooth, rest),
    ]
    line = campaign.hairline(subject)
    if campaign.body is not None:
        own = campaign.body
        covered = line is not None and campaign.hair is not None
        sides = _head(points, model.triangles)
        # Seen edge on, they reflect 42 dB less than the face.
        found.append(Thing(placed(sides[0]), sides[1], rough, skin, radiates=False))
        ears = _ears(own, points)
        found.append(Thing(placed(ears[0]), ears[1], rough, skin, _COARSE))
        if covered and campaign.hair is not None:
            outer = _hair_on_head(campaign.hair, points, model.triangles, float(line or 0.0))
            found.append(_strands(campaign.hair, placed(outer[0]), outer[1]))
        chin = points[points[:, 1].argmin()]
        neck = _neck(own, chin)
        found.append(Thing(placed(neck[0]), neck[1], rough, skin, _COARSE))
        top = placed(chin[None])[0]
        shoulders = _shoulders(own, top)
        found.append(Thing(*shoulders, own.cloth_material, own.cloth, _COARSE))
    if campaign.hair is not None:
        hair = campaign.hair
        for part in _on_face(hair, cast, points, line):
            found.append(replace(_strands(hair, placed(part[0]), part[1]), worn=True))
    return found


def _strands(hair: Hair, vertices: Tensor, triangles: Tensor) -> Thing:
    return Thing(vertices, triangles, hair.material, hair.permittivity, _COARSE)


def _joined(things: Sequence[Thing]) -> tuple[Tensor, Tensor]:
    first = np.cumsum([0, *(len(one.vertices) for one in things[:-1])]).tolist()
    return (
        torch.cat([one.vertices for one in things]),
        torch.cat([one.triangles + n for one, n in zip(things, first, strict=True)]),
    )


# -- parts, mm in the model frame ----------------------------------------------------------------


def _border(triangles: Tensor) -> Tensor:
    """(E, 2) edges of one triangle alone, in its sense."""
    edges = torch.cat([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    low, high = edges.amin(1), edges.amax(1)
    _, back, count = torch.unique(
        low * (int(triangles.max()) + 1) + high, return_inverse=True, return_counts=True
    )
    return edges[count[back] == 1]


def _outline(points: Tensor, triangles: Tensor) -> Tensor:
    """The border's edges on the mask's outside: a slit between the lips is none."""
    edges = _border(triangles)
    middle = points[edges].mean(1)
    low, high = points.amin(0), points.amax(0)
    unit = (middle - (low + high) / 2) / ((high - low) / 2)
    return edges[unit[:, :2].norm(dim=1) > 0.6]


def _rings(points: Tensor, edges: Tensor, lift: float) -> tuple[Tensor, Tensor]:
    """The head behind the mask: its outline, moved back and outwards ring by ring."""
    used, number = torch.unique(edges, return_inverse=True)
    rim = points[used].double()
    centre = rim.mean(0)
    out = rim - centre
    out[:, 2] = 0
    out = torch.nn.functional.normalize(out, dim=1)
    back = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    rings = [
        rim + (wider + lift) * out + behind * back
        for behind, wider in zip(_BEHIND, _WIDER, strict=True)
    ]
    n = len(used)
    found = []
    for k in range(len(rings) - 1):
        a, b = number[:, 0] + k * n, number[:, 1] + k * n
        # The strip continues the mask: its edges run the other way.
        found += [torch.stack([b, a, a + n], 1), torch.stack([b, a + n, b + n], 1)]
    return torch.cat(rings), torch.cat(found)


def _head(points: Tensor, triangles: Tensor) -> tuple[Tensor, Tensor]:
    return _rings(points, _outline(points, triangles), 0.0)


def _hair_on_head(
    hair: Hair, points: Tensor, triangles: Tensor, line: float
) -> tuple[Tensor, Tensor]:
    """Above the height of the hairline in the middle, less 40 mm: hair on the sides is lower."""
    edges = _outline(points, triangles)
    low = float(points[:, 1].amax()) - line - 40.0
    high = points[edges, 1].amin(1) > low
    return _rings(points, edges[high], hair.thickness)


def _ears(body: Body, points: Tensor) -> tuple[Tensor, Tensor]:
    ball, triangles = sphere((0.0, 0.0, 0.0), 1.0, facet=0.2)
    half = float(points[:, 0].abs().max()) + 6.0
    radii = torch.tensor(body.ear, dtype=torch.float64)
    sides = []
    for side in (-half, half):
        centre = torch.tensor([side, 20.0, float(points[:, 2].amin()) - 8.0], dtype=torch.float64)
        sides.append((ball * radii + centre, triangles))
    return join(*sides)


def _neck(body: Body, chin: Tensor) -> tuple[Tensor, Tensor]:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 41)
    down = np.linspace(0.0, 110.0, 26)
    x, y = np.meshgrid(body.neck * np.sin(turn), -down)
    z = np.broadcast_to(body.neck * np.cos(turn), x.shape)
    below, behind = float(chin[1]) - 4.0, float(chin[2]) - 25.0 - body.neck
    points = np.stack([x, y + below, z + behind], axis=-1)
    return torch.from_numpy(points.reshape(-1, 3)), _grid_triangles(*x.shape)


def _shoulders(body: Body, chin: Tensor) -> tuple[Tensor, Tensor]:
    """In the radar frame, m: they do not turn with the head."""
    width, depth, height = (1e-3 * v for v in body.shoulders)
    turn = np.linspace(-np.pi / 2, np.pi / 2, 101)
    fall = np.linspace(0.0, 1.0, 33)
    # Half axes grow from the neck outwards over most of the height.
    grown = np.sqrt(1 - 0.9 * (1 - np.minimum(fall / 0.8, 1.0)) ** 2)[:, None]
    x = -width * grown * np.sin(turn)
    y = np.broadcast_to(-height * fall[:, None], x.shape)
    z = depth * (1 - grown * np.cos(turn))
    at = np.array([0.0, float(chin[1]) - 1e-3 * body.below, float(chin[2]) + 1e-3 * body.behind])
    at[0] = float(chin[0])
    points = np.stack([x, y, z], axis=-1) + at
    return torch.from_numpy(points.reshape(-1, 3)).float(), _grid_triangles(*x.shape)


def _grid_triangles(rows: int, columns: int) -> Tensor:
    """Of points row by row downwards, each from the subject's right to the left."""
    number = torch.arange(rows * columns).reshape(rows, columns)
    a, b = number[:-1, :-1].flatten(), number[:-1, 1:].flatten()
    c, d = number[1:, :-1].flatten(), number[1:, 1:].flatten()
    return torch.cat([torch.stack([a, c, b], 1), torch.stack([b, c, d], 1)])


#: Brows by landmark number: each is covered along these, so far above and below, mm.
_BROWS, _BROW_HALF = ((17, 18, 19, 20, 21), (22, 23, 24, 25, 26)), 4.5


def _on_face(
    hair: Hair, cast: Cast, points: Tensor, line: float | None
) -> list[tuple[Tensor, Tensor]]:
    """Brows, and hair over the forehead: pieces of the skin, lifted along its normals."""
    model = cast.model
    normals = vertex_normals(points, model.triangles)
    middle = points[model.triangles].mean(1)
    found = []
    for numbers in _BROWS:
        names = [f"multipie68.{n:02d}" for n in numbers]
        if not all(name in model.landmarks for name in names):
            continue
        path = points[[model.landmarks[name] for name in names], :2]
        steps = torch.linspace(0, 1, 9)[:, None, None]
        along = (path[:-1] * (1 - steps) + path[1:] * steps).reshape(-1, 2)
        near = torch.cdist(middle[:, :2], along).amin(1) < _BROW_HALF
        found.append((points + hair.brow * normals, model.triangles[near]))
    if line is not None and line > 0:
        top = float(points[:, 1].amax())
        # Temples are covered farther down than the middle.
        lower = top - line - 0.006 * middle[:, 0].square()
        high = middle[:, 1] > lower
        found.append((points + hair.thickness * normals, model.triangles[high]))
    return [(vertices, some) for vertices, some in found if len(some)]


def _foam(foam: Foam, vertices: Tensor, triangles: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Points (P, 3) m of a wall and their complex amplitudes, those that the head does not hide.

    An area A that reflects by Lambert's law has the amplitude |Γ| √(A/π) / distance², with a
    phase and a Rayleigh factor of its own.
    """
    spacing = 0.014
    stream = torch_stream(number, "campaign/foam")
    side = torch.arange(-foam.side / 2, foam.side / 2, spacing, dtype=torch.float64) + spacing / 2
    flat = torch.cartesian_prod(side, side)
    flat = flat + spacing * (torch.rand(flat.shape, generator=stream, dtype=torch.float64) - 0.5)
    far = foam.distance + foam.depth * torch.rand(len(flat), generator=stream, dtype=torch.float64)
    places = torch.cat([flat, far[:, None]], dim=1)
    normal = torch.randn(len(flat), 2, generator=stream, dtype=torch.float64) / np.sqrt(2)
    strength = foam.reflection * np.sqrt(spacing**2 / np.pi)
    strengths = strength * torch.view_as_complex(normal) / far.square()
    mesh = trimesh.Trimesh(vertices.numpy(), triangles.numpy(), process=False)
    hidden: NDArray[np.bool_] = RayMeshIntersector(mesh).intersects_any(
        np.zeros_like(places.numpy()), places.numpy()
    )
    free = torch.from_numpy(~hidden)
    return places[free].float(), strengths[free].to(torch.complex64)
