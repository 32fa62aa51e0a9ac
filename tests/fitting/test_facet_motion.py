"""First-order changes of range profiles against differences of rendered ones."""

import math
from pathlib import Path

import pytest
import torch

from radarbook.faces.displacements import Displacements, with_displacements
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting import tuned
from radarbook.fitting.decimation import decimate
from radarbook.fitting.delay import DelayedPhysics, with_delay
from radarbook.fitting.facet_motion import FacetMotion
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import STEEP, ReducedPhysics
from radarbook.fitting.objectives import PhaseObjective, PowerObjective
from radarbook.fitting.objectives.focused import Pixels
from radarbook.fitting.space import ParameterSpace
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.threads import alone
from tests.fitting.scenes import aside, face, renderer

SMALL = Pixels(pixel=0.0045, half_width=0.045)
ICT = Path(__file__).parents[3] / "shared" / "models" / "ict_face.h5"


def _physics(physical: PhysicalRenderer) -> ReducedPhysics:
    return ReducedPhysics(physical, decimate(physical.array, physical.waveform))


def _focus(physics: ReducedPhysics, p: FaceParameters, pixels: Pixels = SMALL) -> RangeFocus:
    centre = physics.vertices(p)[0].double().mean(0)
    return pixels.focused(physics.signal(p)[0], centre, physics)


def _moved(p: FaceParameters, columns: list[int], step: float = 5e-6) -> FaceParameters:
    """Versions of a face (1) whose surface moves by up to ``step`` m."""
    physics = _physics(renderer())
    space = ParameterSpace.of(p)
    vector, shift = p.normalised(), 1e-3 * torch.eye(space.width, dtype=torch.float64)[columns]
    moved = (physics.vertices(space.unpack(vector + shift)) - physics.vertices(p)).norm(dim=2)
    return space.unpack(vector + shift * (step / moved.amax(1, keepdim=True).double()))


@pytest.mark.parametrize("smooth", [False, True])
def test_changes_are_those_of_rendered_profiles(smooth: bool) -> None:
    """Against the same facets. Modes: what is left are the cosines of legs, the same for all
    antennas, and the rim; pose, to rounding of steps of 5 µm."""
    physics = _physics(renderer().replace(smooth=smooth))
    p = face((0.5, -0.5), 0.3, (0.001, -0.002, 0.0))
    focus = _focus(physics, p)
    moved = _moved(p, list(range(9)))
    for mine in (physics, physics.tilted(STEEP)):
        found = FacetMotion(mine).profiles(p, moved, focus)
        wanted = mine.profiles(p, moved, focus)
        errors, size = (found - wanted).flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1)
        assert float((errors / size)[:3].max()) < 0.06
        # The dome is nearly round: its roll does hardly anything.
        assert float(errors[3:].max() / size[3:].max()) < 0.02


def test_changes_are_linear_and_the_whole_face_moves_in_phase() -> None:
    physics = _physics(renderer())
    p = face((0.5, -0.5), 0.3)
    focus, motion = _focus(physics, p), FacetMotion(physics)
    step = torch.tensor([[0.0, 0.0, 1e-6]], dtype=torch.float64)
    moved = FaceParameters.cat(
        [p.replace(translation=p.translation + n * step) for n in (1, 3)]
        + [p.replace(shape=p.shape + n * 1e-3) for n in (1, 3)]
    )
    changes = motion.profiles(p, moved, focus)
    for one, three in ((0, 1), (2, 3)):
        assert (changes[three] - 3 * changes[one]).norm() < 1e-4 * changes[three].norm()
    # A micrometre farther turns each profile by 2k µm, less the mean cosine of legs.
    profiles = focus.profiles(physics.signal(p)[0])
    turned = -2e-6j * physics.waveform.wavenumbers[:, None].float() * profiles
    part = (turned.conj() * changes[0]).sum() / turned.abs().square().sum()
    assert 0.9 < float(part.real) < 1.0
    assert abs(float(part.imag)) < 0.03


def test_what_is_no_motion_is_rendered() -> None:
    physics = _physics(renderer())
    p = face((0.5, -0.5), 0.3)
    focus = _focus(physics, p)
    vector = p.normalised()
    versions = vector.repeat(3, 1)
    versions[0, 10] += 0.2  # material
    versions[1, 11] += 0.1  # antenna size
    versions[2, 0] += 1e-3
    moved = ParameterSpace.of(p).unpack(versions)
    found = FacetMotion(physics).profiles(p, moved, focus)
    wanted = physics.profiles(p, moved[:2], focus)
    assert (found[:2] - wanted).norm() < 1e-4 * wanted.norm()
    assert found[2].norm() > 0


@pytest.mark.parametrize("kind", ["layer", "delay", "array"])
def test_changes_through_a_layer_with_a_delay_and_of_a_moved_array(kind: str) -> None:
    physical, p = renderer(), face((0.5, -0.5), 0.3)
    made = ReducedPhysics
    if kind == "layer":
        physical = renderer(layer=Layer(0.25, 4e-3, 1.6 - 0.02j))
    elif kind == "array":
        physical = physical.replace(array=aside(10.0))
    else:
        made, p = DelayedPhysics, with_delay(p, 3e-11)
    physics = made(physical, decimate(physical.array, physical.waveform))
    focus = _focus(physics, p)
    moved = _moved(p, [0, 1, 2])
    found = FacetMotion(physics).profiles(p, moved, focus)
    wanted = physics.profiles(p, moved, focus)
    assert (found - wanted).norm() < 0.06 * wanted.norm()


def test_the_number_of_threads_changes_nothing() -> None:
    physics = _physics(renderer())
    p = face((0.5, -0.5), 0.3)
    focus, moved = _focus(physics, p), _moved(p, [0, 1, 2, 3])
    found = []
    for threads in (1, 2):
        with alone(divided=threads):
            found.append(FacetMotion(physics).profiles(p, moved, focus))
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", [PowerObjective, PhaseObjective])
@pytest.mark.parametrize("source", ["procedural", "ICT"])
def test_a_jacobian_of_many_modes_is_as_good_as_that_of_fewer_facets(
    kind: type[PowerObjective] | type[PhaseObjective], source: str
) -> None:
    """Residuals of a face with displacements: columns against those of all facets, rendered. The
    measure is the error of rendered changes without steep facets."""
    if source == "ICT" and not ICT.exists():
        pytest.skip(f"{ICT.name} is not there")
    prior = Displacements(lengths=(30.0, 12.0), deviations=(0.8, 0.4))
    model = load_model() if source == "procedural" else load_model(ICT, 80, 40)
    model = with_displacements(model, prior)
    physical = renderer(model=model)
    physics = _physics(physical)
    stream = torch.Generator().manual_seed(3)
    p = FaceParameters.random(1, model.n_shape, model.n_expression, stream).to(dtype=torch.float64)
    p = p.replace(rendering=torch.tensor([[-20.0, 0.1, 2e-3]], dtype=torch.float64))
    # A wrong face has residuals, as a fit has.
    truth = p.replace(shape=p.shape + 0.05)
    space = ParameterSpace.of(p)
    width = space.coefficients
    columns = [0, 3, 9, model.n_shape - 100, model.n_shape - 1, width - 1]
    columns += [width, width + 1, width + 3, width + 4, width + 5]
    shift = torch.diag(space.vector(*tuned.DIFFERENCES))[columns]
    moved = space.unpack(p.normalised() + shift)
    # Steps of 10 µm: of the last modes 0.005 standard deviations are within rounding.
    size = (physics.vertices(moved) - physics.vertices(p)).norm(dim=2).amax(1).double()
    moved = space.unpack(p.normalised() + shift * (1e-5 / size)[:, None])
    centre = physics.vertices(truth).double().mean(1)
    options = {"smoothing": 0.0068} if kind is PowerObjective else {}
    rows = []
    with torch.no_grad():
        signal = physics.signal(truth)
        for changes in (None, physics.tilted(STEEP), FacetMotion(physics.tilted(STEEP))):
            objective = kind.of(signal, physics, centre, changes=changes, prior=0.0, **options)
            found = objective.jacobian(p, moved, 0)
            rows.append(found[1:] - found[0])
    exact, fewer, first = rows
    errors = [(some - exact).norm(dim=1) / exact.norm(dim=1) for some in (fewer, first)]
    # To first order the rim of what is seen stays where a mode moves a face along itself, which
    # the procedural face's do most; power has no phases, and so less of what is first order.
    factor, floor = (1.6, 0.03) if kind is PowerObjective else (1.2, 0.02)
    assert float(errors[1].median()) < factor * float(errors[0].median()) + floor
    if kind is PhaseObjective:
        assert bool((errors[1] < 1.6 * errors[0] + 0.07).all()), errors


def test_depths_that_a_bump_leaves_open_are_known_beside_it() -> None:
    """The dome's first mode raises its top by 1.5 mm: a deviation of 0.1 is 0.15 mm there."""
    physics = _physics(renderer())
    p = face()
    focus, motion = _focus(physics, p), FacetMotion(physics)
    vector, step = p.normalised(), 1e-3
    shift = torch.zeros(2, vector.shape[1], dtype=torch.float64)
    shift[0, 0], shift[1, 5] = step, step  # bump, and depth of the whole
    moved = ParameterSpace.of(p).unpack(vector + shift)
    root = torch.tensor([[0.1 / step], [0.0]])
    variance = motion.depth_variance(p, moved, root, focus)
    places, weight = focus.points, torch.ones(())
    beside = places[:, :2].norm(dim=1)
    top = float(variance[beside.argmin()].sqrt())
    # Less the mean over the dome, which the gain absorbs.
    assert 0.07e-3 < top < 0.15e-3
    side = (beside - 0.024).abs() < 0.003
    assert float(variance[side].mean().sqrt()) < 0.6 * top
    # Depth of the whole alone is the gain's.
    common = motion.depth_variance(p, moved, torch.tensor([[0.0], [0.1 / step]]), focus)
    assert float(common.max().sqrt()) < 0.15 * 0.1 * 0.05
    # Variances of independent parameters add.
    both = motion.depth_variance(p, moved, torch.diag(torch.tensor([0.1 / step] * 2)), focus)
    assert torch.allclose(both, variance + common, rtol=1e-4)
    assert math.isfinite(float(weight * both.sum()))
