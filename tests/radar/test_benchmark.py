"""What the renderer's benchmark compares with must compute what it claims to."""

from __future__ import annotations

import pytest
import torch

from benchmarks.hole import outermost, smoothed
from benchmarks.renderer import batch_times, grid_of, reference_torch
from radarbook.faces.load import load_model
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate_points
from radarbook.radar.waveform import qar50_waveform


@pytest.mark.parametrize("memory", [1, 2**28])
def test_reference_is_the_sum_over_everything(array, memory):
    """Against the direct method in float64. Single-precision phases of 1,600 rad leave 1e-4.

    (The numba kernel is not run here: its threads stay in the process and get in torch's way.)
    """
    few = Array(array.tx[::8], array.rx[::8])
    waveform = qar50_waveform(8)
    points = torch.tensor([[0.01, -0.02, 0.31], [-0.03, 0.0, 0.33]])
    signal = simulate_points(points, torch.tensor([1.0 + 0j, 0.5j]), few, waveform)
    axis = torch.linspace(-0.04, 0.04, 6)
    grid = Grid(axis, axis, torch.tensor([0.30, 0.31, 0.33]))
    wanted = back_project(signal.to(torch.complex128), few, waveform, grid, method="direct")
    voxels = grid.points().reshape(-1, 3)
    found = reference_torch(signal, few, waveform, voxels, memory)
    assert found.dtype == torch.complex64
    assert (found.reshape(grid.shape) - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_batches_are_timed():
    rows = batch_times(
        load_model("procedural"), 8, (1, 2), torch.device("cpu"), memory=2**28, planes=4
    )
    assert [row[0] for row in rows] == [1, 2]
    assert all(row[1] > 0 for row in rows)
    assert grid_of(8, 4).shape == (4, 8, 8)


def test_outermost_edges_are_those_of_the_hole() -> None:
    """Of a hole with a ledge of 10 mm, half as deep, on two sides: its outline."""
    u = (torch.arange(160) - 79.5).abs()
    hole = (u < 40)[:, None] & (u < 40)
    image = 1 - hole.to(torch.complex128)
    image[hole & ((torch.arange(160) > 109)[:, None] | (torch.arange(160) > 109))] = 0.5
    assert outermost(smoothed(image, 2.0)) == pytest.approx(0.080, abs=1.5e-3)
