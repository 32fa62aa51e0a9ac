"""Every kind of array against the referee: geometry, sign and scale of signal and image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.hole import PIXEL, simulated_hole
from benchmarks.referee.simulator import Body, Referee
from benchmarks.referee.surface import ellipsoid
from radarbook.evaluation import hole_side
from radarbook.radar import meshes
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate
from radarbook.radar.waveform import Waveform

WAVEFORM = Waveform(torch.linspace(24e9, 30e9, 6, dtype=torch.float64))
#: Two balls of different size, on no axis of symmetry: centre and radius, m.
BALLS = ((0.025, -0.015, 0.29), 8e-3), ((-0.03, 0.02, 0.32), 5e-3)


def grid_of(x: Tensor, y: Tensor) -> Tensor:
    places = torch.cartesian_prod(x, y)
    return torch.cat([places, torch.zeros(len(places), 1, dtype=torch.float64)], 1)


def line(count: int, half: float) -> Tensor:
    return torch.linspace(-half, half, count, dtype=torch.float64)


def raster(count: int, half: float) -> Tensor:
    return grid_of(line(count, half), line(count, half))


def column_and_row() -> Array:
    zero = torch.zeros(1, dtype=torch.float64)
    return Array(grid_of(zero - 0.05, line(12, 0.06)), grid_of(line(12, 0.06), zero + 0.05))


def turned(array: Array) -> Array:
    a = math.radians(25)
    matrix = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )
    centre = torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    return array.moved(matrix, centre - matrix @ centre)


def cylinder() -> Array:
    """Positions on a cylinder about the scene."""
    angle = line(9, 0.5)
    ring = torch.stack([0.3 * angle.sin(), 0 * angle, 0.3 - 0.3 * angle.cos()], 1)
    lift = torch.stack([0 * angle, line(9, 0.06), 0 * angle], 1)
    return Array.monostatic((ring[:, None] + lift).reshape(-1, 3))


def chosen(every: int) -> Tensor:
    return (torch.arange(144).reshape(12, 12) * 7) % every != 0


ARRAYS: dict[str, Callable[[], Array]] = {
    "product": column_and_row,
    "missing channels": lambda: column_and_row().subset(channels=chosen(3)),
    "few pairs": lambda: column_and_row().subset(channels=~chosen(7)),
    "some antennas": lambda: column_and_row().subset(tx=torch.arange(1, 12), rx=torch.arange(11)),
    "monostatic": lambda: Array.monostatic(raster(9, 0.06)),
    "synthetic aperture": lambda: Array.of_pairs(
        raster(9, 0.06), raster(9, 0.06) + torch.tensor([0.02, 0.01, 0.0], dtype=torch.float64)
    ),
    "moved product": lambda: turned(column_and_row()),
    "moved raster": lambda: turned(Array.monostatic(raster(9, 0.06))),
    "not in one plane": cylinder,
}


def refereed(bodies: list[Body], array: Array, referee: Referee, waveform: Waveform) -> Tensor:
    """The referee's signal of all products, of which an array's channels are taken."""
    whole = referee.signal(bodies, array.tx.numpy(), array.rx.numpy(), waveform.frequencies.numpy())
    tx, rx = array.every_pair().unbind(1)
    signal = torch.from_numpy(whole)[rx, tx]
    return signal.reshape(array.signal_shape(len(waveform)))


@pytest.fixture(params=ARRAYS, name="case")
def case_(request: pytest.FixtureRequest) -> tuple[Array, Tensor]:
    array = ARRAYS[request.param]()
    bodies = [
        Body(ellipsoid(np.array(at), np.full(3, r)), material=0.0, permittivity=None)
        for at, r in BALLS
    ]
    # Isotropic antennas: the referee's apertures are not turned with an array.
    referee = Referee(antenna_size=1e-6, spacing=1e-3, shadows=False)
    return array, refereed(bodies, array, referee, WAVEFORM)


def test_signals_of_every_array_are_the_referee_s(case: tuple[Array, Tensor]) -> None:
    """Amplitude and phase, no gain fitted: within 5 % of the norm. The referee leaves out a piece's
    own phase, and triangles of 1 mm are not quite the ball (3 % together on the whole)."""
    array, wanted = case
    parts = [meshes.sphere(at, radius=r, facet=1e-3) for at, r in BALLS]
    signal = sum(
        simulate(v.float(), t, array, WAVEFORM, permittivity=None, antenna_size=0.0)
        for v, t in parts
    )
    assert isinstance(signal, Tensor)
    assert float((signal - wanted).norm() / wanted.norm()) < 0.05


def test_images_of_every_array_show_where_the_balls_are(case: tuple[Array, Tensor]) -> None:
    """The larger ball's nearest point is the peak, within half the resolution: 8 mm across, 12 mm
    in range (25 mm). With the other sign of the phase nothing is as bright there."""
    array, signal = case
    (x, y, z), radius = BALLS[0]
    grid = Grid(line(31, 0.06), line(31, 0.06), line(21, 0.05) + 0.3)
    image, mirrored = (
        back_project(s, array, WAVEFORM, grid).abs() for s in (signal, signal.conj())
    )
    depth, row, column = np.unravel_index(int(image.argmax()), grid.shape)
    middle = (array.tx.mean(0) + array.rx.mean(0)) / 2
    centre = torch.tensor([x, y, z], dtype=torch.float64)
    nearest = centre + radius * torch.nn.functional.normalize(middle - centre, dim=0)
    found = torch.stack([grid.x[column], grid.y[row], grid.z[depth]])
    assert bool(((found - nearest).abs() < torch.tensor([8e-3, 8e-3, 12e-3])).all())
    assert float(mirrored.max()) < 0.8 * float(image.max())


@pytest.mark.parametrize("side", [0.08, 0.06])
def test_a_hole_of_known_size_is_measured(side: float) -> None:
    """At half amplitude, in a plate at 90 mm before a raster at 24 GHz: within 1.5 pixels."""
    assert hole_side(simulated_hole(side), PIXEL) == pytest.approx(side, abs=1.5 * PIXEL)
