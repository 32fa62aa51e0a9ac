"""Two reflections: reciprocity, the vector double integral, polarisation, convergence."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.polarisation import Polarisation, across, mirrored, reflect
from radarbook.radar.scattering import SKIN_PERMITTIVITY, fresnel_pair
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform
from tests.radar.double_integral import Surface, ball, join, plane, second_reflection

ICT = Path("../shared/models/ict_face.h5")
VERTICAL, HORIZONTAL = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
#: Three transmitters and receivers on the rim of the QAR50's square.
FEW = Array(
    torch.tensor([[-0.07, -0.05, 0], [0.07, 0.02, 0], [-0.07, 0.06, 0]]),
    torch.tensor([[-0.05, -0.07, 0], [0.02, 0.07, 0], [0.06, -0.07, 0]]),
)
ONE = Waveform(torch.tensor([77e9], dtype=torch.float64))


def _coherence(a: np.ndarray | Tensor, b: np.ndarray | Tensor) -> float:
    a, b = np.asarray(a).ravel(), np.asarray(b).ravel()
    return float(abs(np.vdot(a, b)) / np.linalg.norm(a) / np.linalg.norm(b))


def _referee(surface: Surface, array: Array, polarisation: tuple[float, float, float]):
    """Of both directions the mean: physical optics' own is reciprocal to 0.83 on such small
    bodies, whose rims radiate as much as they do."""
    sides = array.tx.numpy(), array.rx.numpy()
    options = {"polarisation": (polarisation,) * 2, "permittivity": SKIN_PERMITTIVITY}
    there, back = (
        second_reflection(surface, *pair, ONE.wavenumbers.numpy(), **options)
        for pair in (sides, sides[::-1])
    )
    return (there + back.transpose(1, 0, 2)) / 2


def _ball_and_plate() -> tuple[meshes.SceneMesh, Surface]:
    """A ball of 24 mm before a plate of 26 mm that is turned towards it by 40°."""
    centre, radius, turn = (0.011, 0.002, 0.30), 0.012, math.radians(40)
    middle, side = (-0.010, 0.0, 0.312), 0.026
    mesh = meshes.join(
        meshes.sphere(centre, radius, 1.5e-3),
        meshes.plate(middle, side, side, 2e-3, tilt=(-turn, 0)),
    )
    width = -side * np.array([math.cos(turn), 0.0, math.sin(turn)])
    flat = plane(middle, width, np.array([0.0, side, 0.0]), 1e-3)
    round_ = ball(centre, radius, 1e-3)
    # What neither antennas nor plate see is left out: it has no part in the sum.
    front = (round_.normal[:, 2] < 0.3) & (round_.normal @ flat.normal[0] < 0.2)
    cap = Surface(round_.place[front], round_.normal[front], round_.area[front])
    return mesh, join(cap, flat)


@pytest.mark.parametrize(
    ("size", "polarisation", "least"),
    [
        (1.0, VERTICAL, 0.96),
        (1.0, HORIZONTAL, 0.98),
        (0.2, VERTICAL, 0.99),
        (0.2, HORIZONTAL, 0.99),
    ],
)
def test_ball_before_a_plate_equals_the_vector_double_integral(size, polarisation, least):
    """Bodies of six wavelengths, whose rims radiate much of the little there is. Horizontal fields
    meet the plate near Brewster's angle, where every antenna needs its own angle of incidence."""
    mesh, surface = _ball_and_plate()
    array = Array(size * FEW.tx, size * FEW.rx)
    wanted = _referee(surface, array, polarisation)
    found = multiple_bounces(
        *mesh, array, ONE, antenna_size=0.0, polarisation=Polarisation(polarisation, polarisation)
    )
    assert _coherence(found, wanted) > least
    # A third of the amplitude for bodies this small; heads are compared in benchmarks.bounces.
    assert 0.7 < float(np.linalg.norm(found) / np.linalg.norm(wanted)) < 1.3


def test_ball_before_a_plate_converges():
    """Smaller patches: half of the distance to the finest, or less, at each step."""
    mesh, _ = _ball_and_plate()
    coarse, medium, fine = (
        multiple_bounces(*mesh, FEW, ONE, antenna_size=0.0, patch_size=size)
        for size in (3.4e-3, 1.7e-3, 0.85e-3)
    )
    errors = [float((x - fine).norm() / fine.norm()) for x in (coarse, medium)]
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.12


def _reciprocity(mesh: meshes.SceneMesh, array: Array, waveform: Waveform, **options) -> float:
    there, back = (
        multiple_bounces(*mesh, a, waveform, visibility=visibility(*mesh, a), **options)
        for a in (array, array.swapped())
    )
    return _coherence(there, back.transpose(0, 1))


@pytest.mark.parametrize("bounces", [2, 3])
def test_reciprocity_of_ball_and_plate(bounces):
    mesh, _ = _ball_and_plate()
    assert _reciprocity(mesh, FEW, ONE, bounces=bounces) > 1 - 1e-9


@pytest.mark.parametrize("model", ["procedural", ICT])
def test_reciprocity_of_heads(model):
    """In single precision, with hidden parts."""
    if isinstance(model, Path) and not model.exists():
        pytest.skip(f"{model} is absent")
    face = load_model(str(model))
    vertices = to_radar(face, FaceParameters.neutral(1), 0.30)[0]
    array = qar50().subset(tx=torch.arange(0, 94, 6), rx=torch.arange(0, 94, 6))
    assert _reciprocity((vertices, face.triangles), array, ONE, patch_size=4e-3) > 0.9999


def test_crossed_polarisation_is_reciprocal():
    """Vertical to horizontal one way is horizontal to vertical the other."""
    mesh, _ = _ball_and_plate()
    there = multiple_bounces(*mesh, FEW, ONE, polarisation=Polarisation(VERTICAL, HORIZONTAL))
    back = multiple_bounces(
        *mesh, FEW.swapped(), ONE, polarisation=Polarisation(HORIZONTAL, VERTICAL)
    )
    assert (there - back.transpose(0, 1)).norm() < 1e-9 * there.norm()
    along = multiple_bounces(*mesh, FEW, ONE)
    assert 1e-3 < float(there.norm() / along.norm()) < 1


# -- polarisation ----------------------------------------------------------------------------------


def test_corner_of_skin_at_45_degrees_in_closed_form():
    """Along the edge Γ_TE², across it Γ_TM², in the sign that the two have as Jones vectors: the
    field in the plane of incidence turns with the ray, by 180° after two reflections."""
    half = math.sqrt(0.5)
    into = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    between = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    te, tm = fresnel_pair(torch.tensor(half, dtype=torch.float64), SKIN_PERMITTIVITY)
    for axis, wanted in ((VERTICAL, te**2), (HORIZONTAL, -(tm**2))):
        field = across(axis, into).cdouble()
        once = reflect(field, into, between, SKIN_PERMITTIVITY)
        twice = reflect(once, between, -into, SKIN_PERMITTIVITY)
        assert complex((twice * torch.tensor(axis, dtype=torch.float64)).sum()) == pytest.approx(
            complex(wanted), abs=1e-12
        )
    assert abs(complex(te**2)) == pytest.approx(0.47, abs=0.01)
    assert abs(complex(tm**2)) == pytest.approx(0.22, abs=0.01)
    # A law of Fresnel's at 45°: Γ_TM is Γ_TE² but for its sign.
    assert complex(tm) == pytest.approx(-complex(te**2), abs=1e-12)


@pytest.mark.parametrize("polarisation", [VERTICAL, HORIZONTAL])
def test_right_angle_of_skin_over_that_of_metal(polarisation):
    """Two walls seen from afar. Rays that are not quite specular meet the walls at other angles,
    which for 50 mm walls changes Γ² by some per cent."""
    distance, side = 1.5, 0.05
    reach, slant = side / math.sqrt(8), math.pi / 4
    mesh = meshes.join(
        *(
            meshes.plate((s * reach, 0, distance - reach), side, side, 4e-3, tilt=(t, 0))
            for s, t in ((-1, -slant), (1, slant))
        )
    )
    single = Array(torch.zeros(1, 3), torch.zeros(1, 3))
    skin, metal = (
        multiple_bounces(
            *mesh, single, ONE, permittivity=eps, polarisation=Polarisation(*(polarisation,) * 2)
        )
        for eps in (SKIN_PERMITTIVITY, None)
    )
    te, tm = fresnel_pair(torch.tensor(math.sqrt(0.5), dtype=torch.float64), SKIN_PERMITTIVITY)
    wanted = complex((te if polarisation == VERTICAL else tm) ** 2)
    assert abs(complex(skin / metal) - wanted) < 0.05 * abs(wanted)


def test_reflection_is_reciprocal_and_keeps_power():
    """Random directions: the dyad of the way back is the transpose, and metal keeps the power."""
    generator = torch.Generator().manual_seed(3)
    into, out = torch.nn.functional.normalize(
        torch.randn(2, 50, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    p, q = across(VERTICAL, into).cdouble(), across(HORIZONTAL, -out).cdouble()
    there = (reflect(p, into, out, SKIN_PERMITTIVITY) * q).sum(1)
    back = (reflect(q, -out, -into, SKIN_PERMITTIVITY) * p).sum(1)
    assert (there - back).abs().max() < 1e-12
    power = reflect(p, into, out, None).abs().square().sum(1)
    assert (power - 1).abs().max() < 1e-9


@pytest.mark.parametrize("permittivity", [SKIN_PERMITTIVITY, None])
def test_mirrored_is_the_reflection_into_the_mirror_image(permittivity):
    """At random angles, and close to normal incidence, where the plane of incidence is lost: there
    the reference divides by the sine squared, 1e-12 with rounding of 1e-16."""
    generator = torch.Generator().manual_seed(4)
    into, other = torch.nn.functional.normalize(
        torch.randn(2, 200, 3, generator=generator, dtype=torch.float64), dim=-1
    )
    field = across(VERTICAL, into)
    for tilt in (1.0, 1e-3, 1e-5):
        normal = torch.nn.functional.normalize(-into + tilt * other, dim=-1)
        normal = normal * -(normal * into).sum(1, keepdim=True).sign()
        out = into - 2 * (into * normal).sum(1, keepdim=True) * normal
        wanted = reflect(field.cdouble(), into, out, permittivity)
        found = mirrored(field, into, normal, permittivity)
        assert (found - wanted).abs().max() < 1e-9
    # Straight back the reference has no plane at all: Fresnel's coefficient at normal incidence.
    gamma = fresnel_pair(torch.tensor(1.0, dtype=torch.float64), permittivity)[0]
    assert (mirrored(field, into, -into, permittivity) - gamma * field).abs().max() < 1e-12


def test_polarisation_is_checked():
    for bad in ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (math.nan, 1.0, 0.0)):
        with pytest.raises(InputError, match="polarisation tx: expected"):
            Polarisation(tx=bad)


def test_too_many_pairs_are_refused(monkeypatch):
    monkeypatch.setattr("radarbook.radar.double_bounce._MOST_PAIRS", 10)
    with pytest.raises(InputError, match="larger patch_size"):
        multiple_bounces(*_ball_and_plate()[0], FEW, ONE)


def test_bounces_of_a_moved_array_and_of_missing_channels() -> None:
    """The same scene moved together with the array, float64 throughout; and entries of the
    product. A list of pairs that is no product is refused."""
    few = qar50().subset(tx=torch.arange(0, 94, 12), rx=torch.arange(0, 94, 12))
    vertices, triangles = meshes.corner((0.0, 0.0, 0.35), 0.03, 6e-3)
    vertices, waveform = vertices.double(), qar50_waveform(2)
    a = math.radians(30)
    turn = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )
    shift = torch.tensor([0.02, -0.01, 0.05], dtype=torch.float64)
    wanted = multiple_bounces(vertices, triangles, few, waveform)
    moved = few.moved(turn, shift)
    found = multiple_bounces(vertices @ turn.T + shift, triangles, moved, waveform)
    # Cells of patches are at the same places but for rounding of 1e-16 m.
    assert float((found - wanted).norm() / wanted.norm()) < 1e-6
    kept = torch.rand(few.channels, generator=torch.Generator().manual_seed(0)) > 0.4
    part = multiple_bounces(vertices, triangles, few.subset(channels=kept), waveform)
    assert torch.equal(part, wanted[kept])
    line = Array.monostatic(few.tx)
    with pytest.raises(InputError, match="bounces: expected 1, found 2"):
        multiple_bounces(vertices, triangles, line, waveform)
