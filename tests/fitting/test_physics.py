"""The lean physics against the renderer's own, which it must repeat."""

import math

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.pose import to_radar
from radarbook.fitting.physics import LeanImaging, LeanPhysics, decimate
from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform
from tests.fitting.scenes import face, renderer


@pytest.mark.parametrize("facet_size", [math.inf, 3e-3])
def test_signal_is_the_simulators(facet_size: float) -> None:
    physical = renderer(32)
    lean = LeanPhysics(physical, decimate(physical.array, physical.waveform), facet_size=facet_size)
    p = face((0.5, -1.0), 0.7, (0.01, -0.02, 0.01), material=0.3)
    reference = simulate(
        to_radar(lean.model, p, physical.distance),
        lean.model.triangles,
        lean.array,
        lean.waveform,
        visibility=visibility(to_radar(lean.model, p, 0.3), lean.model.triangles, lean.array),
        material=p.material,
        antenna_size=p.antenna_size,
        method="direct",
        facet_size=min(facet_size, 1.0),
        seed=physical.seed,
    )
    # complex64 after a dozen multiplications of phases, and a parabola in frequency: 1e-4 each.
    assert (lean.signal(p) - reference).norm() < 5e-4 * reference.norm()


def test_decimated_recording_is_the_signal_there() -> None:
    physical = renderer(24)
    decimation = decimate(physical.array, physical.waveform)
    lean = LeanPhysics(physical, decimation)
    p = face((1.0, 0.0))
    whole = physical.signal(p.to(dtype=torch.float32))
    # The renderer's fast simulation is within 1e-3 of the direct one.
    assert (lean.signal(p) - decimation(whole)).norm() < 2e-3 * lean.signal(p).norm()


def test_imaging_is_back_projection() -> None:
    physical = renderer(24)
    lean = LeanPhysics(physical, decimate(physical.array, physical.waveform), facet_size=math.inf)
    signal = lean.signal(face())
    side = torch.linspace(-0.03, 0.03, 7)
    grid = Grid(side, side, torch.linspace(0.29, 0.32, 3))
    wanted = back_project(signal, lean.array, lean.waveform, grid, method="direct")
    # Sums of 48 × 48 × 12 terms in complex64.
    assert (LeanImaging(lean, grid).volume(signal) - wanted).norm() < 1e-4 * wanted.norm()


def test_decimation_keeps_ends_symmetry_and_range() -> None:
    array, waveform = qar50(), qar50_waveform(128)
    d = decimate(array, waveform, depth=0.165)
    assert len(d.tx) == len(d.rx) == 48
    assert torch.allclose(array.tx[d.tx].mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12)
    assert float(array.tx[d.tx][:, 1].max()) == float(array.tx[:, 1].max())
    kept = Waveform(waveform.frequencies[d.steps])
    assert 0.165 <= kept.unambiguous_range < 0.19
    with pytest.raises(InputError, match="equal frequency steps"):
        decimate(array, Waveform(torch.tensor([72e9, 73e9, 80e9])))
