"""What is made of volumes: sums over arrays, files, points, projections."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh

from radarbook.errors import InputError
from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.simulate import simulate_points
from radarbook.radar.volume import (
    back_project_together,
    decibel,
    load_volume,
    point_cloud,
    projections,
    save_points,
    save_volume,
)
from radarbook.radar.waveform import qar50_waveform

WAVEFORM = qar50_waveform(6)


def turned(degrees, towards=0.3):
    a = math.radians(degrees)
    turn = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )
    middle = torch.tensor([0, 0, towards], dtype=torch.float64)
    few = qar50().subset(tx=torch.arange(0, 94, 5), rx=torch.arange(0, 94, 5))
    return few.moved(turn, middle - turn @ middle)


@pytest.fixture(scope="module")
def scene():
    """Two points as two arrays 40° apart record them."""
    arrays = [turned(-20), turned(20)]
    points = torch.tensor([[0.02, 0.01, 0.30], [-0.03, 0.0, 0.32]], dtype=torch.float64)
    values = torch.tensor([1.0, 0.7], dtype=torch.float64)
    return arrays, [simulate_points(points, values, a, WAVEFORM) for a in arrays]


def test_together_is_the_sum(scene):
    """Coherent: the sum of the volumes; power: of their squares, to rounding."""
    arrays, signals = scene
    grid = Grid.regular(0.1, 12, 0.28, 0.34, 7)
    each = [back_project(s, a, WAVEFORM, grid) for s, a in zip(signals, arrays, strict=True)]
    coherent = back_project_together(signals, arrays, WAVEFORM, grid, how="coherent")
    power = back_project_together(signals, arrays, WAVEFORM, grid, how="power")
    torch.testing.assert_close(coherent, each[0] + each[1])
    torch.testing.assert_close(power, (each[0].abs() ** 2 + each[1].abs() ** 2).sqrt())
    assert not power.is_complex()


def test_two_arrays_resolve_more(scene):
    """At a point both arrays are in phase: twice the amplitude of one; between their views the
    coherent lobe is narrower across, by the wider aperture (at most 0.7 of one array's width)."""
    arrays, signals = scene
    line = torch.linspace(0.012, 0.028, 81, dtype=torch.float64)
    grid = Grid(line, torch.tensor([0.01]), torch.tensor([0.30]))
    both = back_project_together(signals, arrays, WAVEFORM, grid, how="coherent").abs().flatten()
    one = back_project(signals[0], arrays[0], WAVEFORM, grid).abs().flatten()
    assert float(both[40] / one[40]) == pytest.approx(2.0, rel=0.1)

    def width(level):
        return int((level > level.max() * 10 ** (-3 / 20)).sum())

    assert width(both) < 0.7 * width(one)


def test_points_of_a_plane_of_peaks():
    grid = Grid.regular(0.1, 6, 0.2, 0.3, 11)
    depth = torch.arange(11.0)[:, None, None]
    volume = torch.exp(-((depth - 5) ** 2) / 8).expand(grid.shape).clone()  # a slab at z = 0.25
    points, level = point_cloud(volume, grid, -3.0)
    assert len(points) == 36
    np.testing.assert_allclose(points[:, 2], 0.25)
    np.testing.assert_allclose(level, 0, atol=1e-6)
    thick, _ = point_cloud(volume, grid, -3.0, peaks=False)
    assert len(thick) == 36 * int((decibel(volume)[:, 0, 0] >= -3).sum()) > 36
    with pytest.raises(InputError, match="threshold"):
        point_cloud(volume, grid, 3.0)


def test_points_file_is_read_by_others(tmp_path):
    points = torch.tensor([[0.1, -0.2, 0.3], [1.0, 2.0, 3.0]])
    save_points(tmp_path / "p.ply", points, torch.tensor([-3.0, 0.0]))
    cloud = trimesh.load(tmp_path / "p.ply")
    np.testing.assert_allclose(cloud.vertices, points.numpy(), rtol=1e-6)
    data = cloud.metadata["_ply_raw"]["vertex"]["data"]
    np.testing.assert_allclose(np.ravel(data["amplitude_db"]), [-3, 0])


@pytest.mark.parametrize("magnitude", [False, True])
def test_volume_file(tmp_path, magnitude):
    grid = Grid.plane((0.0, 0.1, 0.3), (0.1, 0.0, 0.1), (0.0, 0.2, 0.0), (5, 4))
    volume = torch.randn(grid.shape, dtype=torch.complex64, generator=torch.Generator())
    save_volume(tmp_path / "v.h5", volume, grid, magnitude=magnitude)
    read, same = load_volume(tmp_path / "v.h5")
    torch.testing.assert_close(read, volume.abs() if magnitude else volume)
    torch.testing.assert_close(same.points(), grid.points())
    (tmp_path / "bad.h5").write_bytes(b"no HDF5")
    with pytest.raises(InputError, match=r"bad.h5: expected an HDF5 volume"):
        load_volume(tmp_path / "bad.h5")


def test_projections_are_maxima():
    volume = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(0))
    z, y, x = projections(volume, -300.0)
    level = 20 * np.log10(volume.numpy() / float(volume.max()))
    for found, axis in ((z, 0), (y, 1), (x, 2)):
        np.testing.assert_allclose(found, level.max(axis), atol=1e-4)


def test_empty_volumes_are_refused():
    with pytest.raises(InputError, match="not all zero"):
        decibel(torch.zeros(2, 2, 2))
    with pytest.raises(InputError, match="one for each array"):
        back_project_together([], [], WAVEFORM, Grid.regular(0.1, 2, 0.2, 0.3, 2), how="power")
