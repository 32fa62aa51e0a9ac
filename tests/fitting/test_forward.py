"""The reduced physics against the renderer's own, which it must repeat."""

import math

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.fitting import forward
from radarbook.fitting.decimation import decimate
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import STEEP, STEEPEST, ReducedPhysics, _gauss
from radarbook.fitting.objectives.focused import smooth
from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer
from radarbook.radar.simulate import simulate, simulate_points
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform
from tests.fitting.scenes import face, renderer, trough


def _simulated(reduced: ReducedPhysics, p: FaceParameters, facet_size: float) -> torch.Tensor:
    """The coherent part alone: that of a smooth skin, times its share of the amplitude."""
    vertices = to_radar(reduced.model, p, reduced.renderer.distance)
    smooth = simulate(
        vertices,
        reduced.model.triangles,
        reduced.array,
        reduced.waveform,
        visibility=visibility(vertices, reduced.model.triangles, reduced.array),
        antenna_size=p.antenna_size,
        method="direct",
        facet_size=min(facet_size, 1.0),
        surface=reduced.renderer.surface,
    )
    return smooth * (1 - p.material.square()).sqrt()


@pytest.mark.parametrize("facet_size", [math.inf, 3e-3])
def test_signal_is_the_simulators_coherent_part(facet_size: float) -> None:
    physical = renderer(32)
    reduced = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=facet_size
    )
    p = face((0.5, -1.0), 0.7, (0.01, -0.02, 0.01), material=0.3)
    reference = _simulated(reduced, p, facet_size)
    # complex64 after a dozen multiplications of phases, and a parabola in frequency: 1e-4 each.
    with torch.no_grad():
        assert (reduced.signal(p) - reference).norm() < 5e-4 * reference.norm()
    # With gradients another way is taken through the same formulas.
    variable = p.replace(translation=p.translation.clone().requires_grad_())
    assert (reduced.signal(variable) - reference).norm() < 5e-4 * reference.norm()


def test_threads_change_nothing() -> None:
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    p = FaceParameters.cat([face((n / 4, -0.5)) for n in range(5)])
    known, signals = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            reduced = ReducedPhysics(physical, decimation, facet_size=math.inf)
            with torch.no_grad():
                signals.append(reduced.signal(p, like=p[0]))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(known)
    assert torch.equal(*signals)


@pytest.mark.parametrize("way", ["like one face", "each as it is", "coarse", "coarse and flat"])
def test_one_batch_is_the_faces_one_by_one(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU takes them: the same sums in another order, single precision.

    A batch's facets are made by operations, which round their corners to 3e-8 m, 1e-4 radians.
    """
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    options = {
        "like one face": {},
        "each as it is": {"tilts": STEEP},
        "coarse": {"facet_size": math.inf, "coarse": True},
        "coarse and flat": {"facet_size": math.inf, "coarse": True, "tilts": STEEPEST},
    }[way]
    reduced = ReducedPhysics(physical, decimation, **options)
    p = FaceParameters.cat(
        [face((n / 4, -0.5), n / 5, (0.002 * n, 0.0, 0.0), material=0.1 * n) for n in range(4)]
    )
    like = p[:1] if way == "like one face" else None
    with torch.no_grad():
        alone = reduced.signal(p, like=like)
        # A budget for a face and a half: the batch is cut.
        budget = 8 * 9 * 3 * len(reduced.model.triangles) * 96 // 2
        frugal = reduced.replace(renderer=physical.replace(memory=budget))
        monkeypatch.setattr(launch, "batched", lambda device: True)
        monkeypatch.setattr(forward, "MEMORY", budget)
        together = frugal.signal(p, like=like)
    assert (together - alone).norm() < 1e-4 * alone.norm()


def test_steep_facets_hardly_show() -> None:
    """Of a dome whose rim is tilted by 34° and cut off there: its edge is what is lost."""
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    p = face((1.0, 0.5), 0.5)
    whole = ReducedPhysics(physical, decimation).signal(p)
    for tilts, error in ((STEEP, 0.1), (STEEPEST, 0.2)):
        reduced = ReducedPhysics(physical, decimation, tilts=tilts)
        assert (reduced.signal(p) - whole).norm() < error * whole.norm()


@pytest.mark.parametrize("layer", [None, Layer(0.2, 4e-3, 1.9 - 0.08j)], ids=["bare", "covered"])
def test_diffuse_power_is_the_mean_of_many_samples(layer: Layer | None) -> None:
    physical = renderer(layer=layer)
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    p = face((0.5, -0.5), 0.3, material=1.0)
    side = torch.arange(-8, 9, dtype=torch.float64) * 4.5e-3
    y, x = torch.meshgrid(side, side, indexing="ij")
    focus = RangeFocus(reduced, torch.stack([x, y, torch.full_like(x, 0.31)], -1).reshape(-1, 3))
    samples = torch.stack([focus.power_and_lag(s) for s in reduced.speckle_samples(p, 16)]).mean(0)
    stated = reduced.diffuse_power(p, focus.lattice(17), focus.phase_per_metre)
    # 16 samples of exponentially distributed speckle, smoothed over some five pixels: 8 % in a
    # pixel; the Gaussian in place of the point-spread function, and all of it in focus: 10 %.
    power, expected = (smooth(v.reshape(3, 17, 17), 1.2)[0] for v in (samples, stated))
    assert float(stated[0].sum()) == pytest.approx(float(samples[0].sum()), rel=0.12)
    bright = power > 0.3 * power.max()
    assert ((expected / power)[bright] - 1).abs().mean() < 0.15
    behind = [torch.complex(*smooth(v.reshape(3, 17, 17), 1.2)[1:]) for v in (stated, samples)]
    assert focus.range_difference(*behind)[bright].abs().mean() < 1.5e-3


def test_gaussians_through_windows_are_those_everywhere() -> None:
    places = torch.arange(-8, 9) * 4.5e-3
    centre = torch.linspace(-0.06, 0.06, 241)  # beside the places, too
    sigma = torch.linspace(1e-3, 6e-3, 241)
    whole = torch.exp(-0.5 * ((places - centre[:, None]) / sigma[:, None]).square())
    # What is left out lies four σ off.
    assert (_gauss(places, centre, sigma) - whole).abs().max() < math.exp(-8)


def test_decimated_recording_is_the_signal_there() -> None:
    physical = renderer(24)
    decimation = decimate(physical.array, physical.waveform)
    reduced = ReducedPhysics(physical, decimation)
    p = face((1.0, 0.0), material=0.0)
    whole = physical.signal(p.to(dtype=torch.float32))
    # The renderer's simulation through cells is within 1e-3 of the direct one.
    assert (reduced.signal(p) - decimation(whole)).norm() < 2e-3 * reduced.signal(p).norm()


@pytest.mark.parametrize("layer", [None, Layer(0.2, 3e-3, 1.6 - 0.05j)])
def test_reflections_are_what_the_renderer_adds_for_them(layer: Layer | None) -> None:
    """In double precision, at all antennas and frequencies, as the difference of two signals."""
    once, twice = (
        renderer(24, layer=layer, model=trough().to(dtype=torch.float64), bounces=n) for n in (1, 2)
    )
    decimation = decimate(once.array, once.waveform)
    p = face((0.5, -0.3), material=0.3)
    wanted = decimation(twice.signal(p) - once.signal(p))[0]
    assert ReducedPhysics(once, decimation).reflections(p) is None
    found = ReducedPhysics(twice, decimation).reflections(p)
    assert found is not None
    # Between walls at a right angle they are as strong as single ones.
    assert wanted.norm() > 0.3 * decimation(once.signal(p)).norm()
    # Vertices in single precision, whose rounding moves phases by some 1e-4.
    assert (found - wanted).norm() < 1e-3 * wanted.norm()


def test_a_layer_changes_the_lean_signal_as_the_simulators() -> None:
    bare = ReducedPhysics(renderer(24), decimate(renderer(24).array, renderer(24).waveform))
    p = face((1.0, 0.0), material=0.0)
    for echo in (False, True):
        physical = renderer(24, layer=Layer(0.2, 3e-3, 1.6 - 0.05j, echo))
        whole = bare.decimation(physical.signal(p.to(dtype=torch.float32)))
        covered = ReducedPhysics(physical, bare.decimation)
        # The renderer's simulation through cells is within 1e-3 of the direct one.
        assert (covered.signal(p) - whole).norm() < 2e-3 * whole.norm()
        # Gradients go through the renderer; values stay the same, the facets' and the echo's.
        followed = covered.signal(p.replace(translation=p.translation.requires_grad_()))
        assert followed.requires_grad
        assert (followed - whole).norm() < 2e-3 * whole.norm()
        assert (bare.signal(p) - whole).norm() > 0.5 * whole.norm()


def test_one_layer_covers_all_faces() -> None:
    physical = renderer(layer=Layer(0.2, torch.tensor([1e-3, 2e-3]), 1.5))
    with pytest.raises(InputError, match="expected one layer, found one per face"):
        ReducedPhysics(physical, decimate(physical.array, physical.waveform))


def test_gradients_are_those_of_the_direct_sum_in_double_precision() -> None:
    """Of a linear functional of the signal, with respect to every unknown."""
    physical = renderer(24)
    reduced = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=math.inf
    )
    p = face((0.5, -1.0), 0.7, (0.01, -0.02, 0.01), material=0.3)
    model = physical.model.to(dtype=torch.float64)
    seen = visibility(to_radar(model, p, physical.distance), model.triangles, reduced.array)

    def direct(faces: FaceParameters) -> torch.Tensor:
        smooth = simulate(
            to_radar(model, faces, physical.distance),
            model.triangles,
            reduced.array,
            reduced.waveform,
            visibility=seen,
            antenna_size=faces.antenna_size,
            method="direct",
            facet_size=1.0,
            surface=physical.surface,
        )
        return smooth * (1 - faces.material.square()).sqrt()

    shape = reduced.signal(p).shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.complex64)
    gradients = []
    for signal in (reduced.signal, direct):
        variable = p.normalised().clone().requires_grad_()
        (signal(FaceParameters.from_normalised(variable, 2, 1)) * weights).sum().real.backward()
        assert variable.grad is not None
        gradients.append(variable.grad[0])
    ours, exact = gradients
    # The dynamic range has no part in it. Single precision over 200,000 paths.
    known = torch.tensor([i for i in range(12) if i != 9])
    assert ((ours - exact)[known].abs() < 3e-3 * exact[known].abs() + 3e-4).all()


def test_profiles_are_back_projection_frequency_by_frequency() -> None:
    physical = renderer(24)
    reduced = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=math.inf
    )
    signal = reduced.signal(face())
    side = torch.linspace(-0.03, 0.03, 7)
    grid = Grid(side, side, torch.tensor([0.31]))
    wanted = back_project(signal, reduced.array, reduced.waveform, grid, method="direct")
    focus = RangeFocus(reduced, grid.points().reshape(-1, 3))
    # Sums of 32 × 32 × 8 terms in complex64.
    assert (focus.profiles(signal[0]).sum(0) - wanted.flatten()).norm() < 1e-4 * wanted.norm()


def test_the_lag_tells_how_far_behind_a_point_lies() -> None:
    physical = renderer(24)
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    point = torch.tensor([[0.01, -0.02, 0.31]], dtype=torch.float64)
    signal = simulate_points(
        point, torch.ones(1, dtype=torch.float64), reduced.array, reduced.waveform
    )
    for behind in (-0.01, 0.0, 0.01):
        focus = RangeFocus(reduced, point - torch.tensor([0.0, 0.0, behind]))
        power, real, imaginary = focus.power_and_lag(signal.to(torch.complex64))
        # Seen under an angle a millimetre in depth is a little less in path, out of focus the
        # power falls: 4 % of the distance, and a quarter of the power.
        found = focus.range_difference(
            torch.complex(real, imaginary), torch.ones(1, dtype=torch.complex64)
        )
        assert float(found) == pytest.approx(behind, rel=0.04, abs=1e-5)
        assert float(power) > 0.7 * len(reduced.waveform) * (32 * 32) ** 2


def test_decimation_keeps_ends_symmetry_and_range() -> None:
    array, waveform = qar50(), qar50_waveform(128)
    d = decimate(array, waveform, antennas=2, depth=0.165)
    assert len(d.tx) == len(d.rx) == 48
    assert torch.allclose(array.tx[d.tx].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert float(array.tx[d.tx][:, 1].max()) == float(array.tx[:, 1].max())
    kept = Waveform(waveform.frequencies[d.steps])
    assert 0.165 <= kept.unambiguous_range < 0.19
    with pytest.raises(InputError, match="equal frequency steps"):
        decimate(array, Waveform(torch.tensor([72e9, 73e9, 80e9])))


def test_near_a_face_nothing_is_decided_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """The face itself to the last bit; others as if they were divided and lit like it."""
    physical = renderer()
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    here, there = face(), face((0.1, -0.1), 0.1)
    with torch.no_grad():
        own, like = reduced.signal(here), reduced.signal(FaceParameters.cat([there] * 2), like=here)
        frozen = reduced.frozen_at(here)
        monkeypatch.setattr(ReducedPhysics, "_divided", None)
        assert torch.equal(frozen.signal(here), own)
        found, steep = frozen.signal(there)[0], frozen.tilted(STEEP).signal(there)[0]
    # Sums in another order, as one face is shared out to threads.
    assert float((found - like[0]).norm() / like[0].norm()) < 1e-6
    assert not torch.equal(steep, found)
    coarse = ReducedPhysics(
        physical, decimate(physical.array, physical.waveform), facet_size=math.inf, coarse=True
    )
    assert coarse.frozen_at(here) is coarse


def test_what_is_remembered_of_a_face_is_that_face_s() -> None:
    """Signals and pieces are kept from one call to the next; another face's are not taken."""
    physical = renderer()
    decimation = decimate(physical.array, physical.waveform)
    everything = ReducedPhysics(physical, decimation)
    reduced = everything.tilted(STEEP)
    faces = [face((0.5, -0.5), 0.3), face((0.5, -0.5), 0.31), face(material=0.4)]
    with torch.no_grad():
        for p in (*faces, *faces[::-1]):
            for kept, tilts in ((everything, None), (reduced, STEEP)):
                fresh = ReducedPhysics(physical, decimation, tilts=tilts).signal(p)
                found = kept.signal(p, like=p)
                assert torch.equal(found, fresh)
                found.zero_()  # the caller's own
                assert torch.equal(kept.signal(p), fresh)


@pytest.mark.parametrize("way", ["divided", "whole"])
def test_smooth_faces_are_the_simulators(way: str) -> None:
    """The same surface in a fit as in the renderer, whose faces radiate from bent triangles."""
    physical = renderer(32).replace(smooth=False)
    options = {"facet_size": math.inf, "coarse": True} if way == "whole" else {}
    flat = ReducedPhysics(physical, decimate(physical.array, physical.waveform), **options)
    bent = flat.replace(renderer=physical.replace(smooth=True))
    p = face((0.5, -1.0), 0.7, (0.01, -0.02, 0.01), material=0.3)
    vertices = to_radar(bent.model, p, physical.distance)
    triangles = bent.model.triangles
    seen = None if bent.coarse else visibility(vertices, triangles, bent.array)
    reference = simulate(
        vertices, triangles, bent.array, bent.waveform, visibility=seen, material=0.3,
        antenna_size=p.antenna_size, surface=bent.renderer.surface, seed=None, method="direct",
        facet_size=min(bent.facet_size, 1.0),
    )  # fmt: skip
    variable = p.replace(translation=p.translation.clone().requires_grad_())
    with torch.no_grad():
        found = bent.signal(p), bent.frozen_at(p).signal(p)
        assert (flat.signal(p) - reference).norm() > 0.01 * reference.norm()
    for signal in (*found, bent.signal(variable)):
        assert (signal - reference).norm() < 5e-4 * reference.norm()
