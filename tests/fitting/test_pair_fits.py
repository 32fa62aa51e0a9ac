"""Fits to recordings of arrays that are no product: rasters, lists of pairs, missing channels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.fitting.acceptance import judge
from radarbook.fitting.decimation import decimate
from radarbook.fitting.descend import FitResult
from radarbook.fitting.focus import RangeFocus
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.plan import final_objective, physical_plan
from radarbook.fitting.reconstruct import uncertainty_through_physics
from radarbook.fitting.reconstruction import reconstruct
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import REFINE
from radarbook.radar.array import Array, qar50
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.renderer import PhysicalRenderer
from tests.fitting.scenes import aside, face, renderer
from tests.fitting.test_joint import distance_mm
from tests.radar.test_pairs import raster

FREE = ("shape", "expression", "translation", "rotation")
#: A smooth dome: what it leaves unexplained is an error of the fit.
TRUTH = face((0.5, -0.5), 0.3, (0.002, -0.001, 0.001), material=0.0)
START = face((0.35, -0.4), 0.15, (0.0018, -0.0012, 0.0012), material=0.0)


def missing() -> Array:
    """The QAR50, a third of whose channels are missing."""
    stream = torch.Generator().manual_seed(0)
    return qar50().subset(channels=torch.rand(94, 94, generator=stream) > 0.3)


def bistatic() -> Array:
    aside = torch.tensor([0.02, 0.01, 0.0], dtype=torch.float64)
    return Array.of_pairs(raster(24, 24, 5e-3), raster(24, 24, 5e-3) + aside)


#: Its images repeat every λR/2d = 117 mm, beyond the dome.
ARRAYS: dict[str, Callable[[], Array]] = {
    "raster": lambda: Array.monostatic(raster(28, 28, 5e-3)),
    "pairs": bistatic,
    "missing channels": missing,
    "moved raster": lambda: Array.monostatic(raster(28, 28, 5e-3)).moved(
        aside(20).rotation, aside(20).origin
    ),
}


def seen_by(array: Array) -> PhysicalRenderer:
    return renderer(model=None).replace(array=array)


@pytest.mark.parametrize("name", ARRAYS)
def test_the_reduced_signal_is_the_renderer_s(name: str) -> None:
    """The kernel of pairs, or the product's, against the renderer's direct sum in float64. Both let
    facets answer towards the middle of some neighbours, but of different ones, also for the
    reflection coefficient: 7e-3 each."""
    physical = seen_by(ARRAYS[name]()).replace(method="direct")
    decimation = decimate(physical.array, physical.waveform)
    reduced = ReducedPhysics(physical, decimation)
    with torch.no_grad():
        mine = reduced.signal(TRUTH)
        wanted = decimation(physical.signal(TRUTH))
    assert mine.shape == (1, *reduced.array.channels, len(reduced.waveform))
    assert float((mine - wanted).norm() / wanted.norm()) < 1.5e-2


@pytest.mark.parametrize("name", ARRAYS)
def test_range_profiles_are_the_image_frequency_by_frequency(name: str) -> None:
    """Against back-projection by the direct sum, complex64: 2e-5 of the largest."""
    physical = seen_by(ARRAYS[name]())
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    signal = reduced.signal(TRUTH)[0].detach()
    grid = Grid.regular(0.05, 8, 0.3, 0.3, 1)
    focus = RangeFocus(reduced, grid.points().reshape(-1, 3))
    profiles = focus.profiles(signal)
    for f in (0, len(reduced.waveform) - 1):
        one = torch.zeros_like(signal)
        one[..., f] = signal[..., f]
        image = back_project(one, reduced.array, reduced.waveform, grid, method="direct").flatten()
        assert float((profiles[f] - image).abs().max()) < 2e-5 * float(image.abs().max())
    assert torch.allclose(focus.profiles(signal[None])[0], profiles, rtol=0, atol=1e-6)


def test_a_list_of_pairs_is_thinned_evenly() -> None:
    """At most as many pairs as of the QAR50, over all of the aperture."""
    array = Array.monostatic(raster(96, 96, 1.5e-3))
    physical = seen_by(array)
    part = decimate(array, physical.waveform).antennas(array)
    assert len(part.every_pair()) == 2304 == len(part.tx)
    widths = [(a.tx.amax(0) - a.tx.amin(0))[:2] for a in (array, part)]
    assert torch.allclose(*widths, atol=3e-3)
    # One of every two by two places.
    nearest = torch.cdist(part.tx, part.tx) + torch.eye(2304)
    assert float(nearest.amin(1).median()) > 2e-3


def row_and_column() -> Array:
    """A row of transmitters and a column of receivers, as on many boards: each side is a line."""
    line, zero = torch.linspace(-0.07, 0.07, 60, dtype=torch.float64), torch.zeros(60)
    return Array(
        torch.stack([line, zero - 0.07, zero], 1), torch.stack([zero + 0.07, line, zero], 1)
    )


@pytest.mark.parametrize("made", [ARRAYS["raster"], row_and_column], ids=["raster", "lines"])
def test_diffuse_power_is_the_mean_of_many_samples(made: Callable[[], Array]) -> None:
    """As for a QAR50: a Gaussian in place of the point-spread function, 20 % of the whole."""
    physical = seen_by(made())
    reduced = ReducedPhysics(physical, decimate(physical.array, physical.waveform))
    rough = face((0.5, -0.5), 0.3, material=1.0)
    side = torch.arange(-10, 11, dtype=torch.float64) * 4.5e-3
    y, x = torch.meshgrid(side, side, indexing="ij")
    points = torch.stack([x, y, torch.full_like(x, 0.31)], -1)
    focus = RangeFocus(reduced, points.reshape(-1, 3))
    predicted = reduced.diffuse_power(rough, points, focus.phase_per_metre)[0]
    samples = [focus.power_and_lag(s)[0] for s in reduced.speckle_samples(rough, 24)]
    found = torch.stack(samples).mean(0)
    assert float(predicted.sum() / found.sum()) == pytest.approx(1, abs=0.2)
    assert float(torch.corrcoef(torch.stack([predicted, found]))[0, 1]) > 0.95


Fit = tuple[float, FitResult, tuple[Tensor, PhysicalRenderer]]


def _fitted(array: Array, wrong: float = 1.0) -> Fit:
    """Error, mm, and loss of a near start's fit to a recording, by an array whose positions the fit
    takes for ``wrong`` times what they are."""
    physical = seen_by(array)
    with torch.no_grad():
        signal = (0.6 - 2j) * physical.signal(TRUTH.to(dtype=torch.float32))
    assumed = physical.replace(array=array.replace(tx=wrong * array.tx, rx=wrong * array.rx))
    result = restarts(physical_plan(signal, assumed, schedule=REFINE[-2:], free=FREE), START)
    return distance_mm(result.parameters, TRUTH), result, (signal, assumed)


@pytest.fixture(scope="module", name="right")
def right_() -> Fit:
    return _fitted(ARRAYS["raster"]())


def test_a_face_seen_by_a_raster_is_fitted(right: Fit) -> None:
    error, result, recorded = right
    assert error < 0.25 * distance_mm(START, TRUTH)
    # A smooth face leaves no more than the reduced physics' own errors.
    assert float(result.losses) < 0.02
    sure = uncertainty_through_physics(*recorded, result.parameters)
    assert bool((sure.deviations() < 1).all())


@pytest.mark.slow
def test_wrong_positions_are_noticed(right: Fit) -> None:
    """A raster assumed 5 % wider is a face that is not there: it is not accepted."""
    _, wrong, recorded = _fitted(ARRAYS["raster"](), wrong=1.05)
    assert float(wrong.losses) > 5 * float(right[1].losses)
    assert not judge(final_objective(*recorded), wrong.parameters)[0].accepted
    assert float(wrong.losses) > 0.05


@pytest.mark.slow
def test_pairs_and_missing_channels_start_a_fit() -> None:
    """Through the function that a user calls, no step: the start is where the face is."""
    fine = Array.of_pairs(raster(40, 40, 3e-3), raster(40, 40, 3e-3) + 0.005)
    for array in (fine, ARRAYS["missing channels"]()):
        physical = seen_by(array)
        with torch.no_grad():
            signal = physical.signal(face(translation=(0.01, -0.01, 0.01)))[0]
        recording = Recording(signal, physical.array, physical.waveform)
        found = reconstruct(recording, physical.model, steps=0).parameters
        assert torch.allclose(
            found.translation[0], torch.tensor([0.01, -0.01, 0.01], dtype=torch.float64), atol=2e-3
        )


def test_double_bounce_of_a_list_of_pairs_is_refused() -> None:
    physical = seen_by(ARRAYS["raster"]())
    signal = torch.ones(*physical.array.channels, 24, dtype=torch.complex64)
    recording = Recording(signal, physical.array, physical.waveform)
    with pytest.raises(InputError, match="bounces: expected 1, found 2: double bounce is not"):
        reconstruct(recording, physical.model, steps=0, bounces=2)
