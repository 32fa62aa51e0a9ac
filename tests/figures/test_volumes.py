"""Pictures of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radarbook import figures
from radarbook.errors import InputError
from radarbook.figures import static
from radarbook.radar.image import image_from_volume
from radarbook.radar.imaging import Grid

GRID = Grid.regular(0.24, 16, 0.2, 0.4, 90)


@pytest.fixture
def volume():
    values = torch.rand(GRID.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    values[37, 4, 11] = 1.0
    return values


@pytest.mark.parametrize(("along", "top"), [("z", 37), ("y", 4), ("x", 11)])
def test_viewer_opens_at_the_brightest_slice(volume, along, top):
    figure = figures.slices_viewer(volume, GRID.x, GRID.y, GRID.z, along=along)
    assert len(figure.frames) == len(figure.layout.sliders[0].steps) <= 41
    slider = figure.layout.sliders[0]
    axis = getattr(GRID, along)
    assert slider.steps[slider.active].label == f"{1e3 * float(axis[top]):.1f}"
    shown = next(f for f in figure.frames if f.name == str(top))
    np.testing.assert_array_equal(shown.data[0].z, figure.data[0].z)
    assert float(np.nanmax(figure.data[0].z)) == 0.0
    assert static.png(figure)[:4] == b"\x89PNG"


def test_scale_bar_is_as_long_as_it_says(volume):
    figure = figures.volume_projections(volume, GRID)
    lines = [t for t in figure.data if t.type == "scatter"]
    plates, bars = lines[::2], lines[1::2]
    assert len(bars) == 3
    for plate, bar in zip(plates, bars, strict=True):
        assert min(plate.x) < min(bar.x) < max(bar.x) < max(plate.x)
        said = float(bar.text[1].split()[0])
        assert abs(bar.x[2] - bar.x[0]) == pytest.approx(said)
        assert said in (20, 50)
    assert static.png(figure)[:4] == b"\x89PNG"


def test_a_radar_image_takes_a_scale_bar(volume):
    """The picture that ``radarbook image --png`` writes: a bar on the amplitude alone."""
    figure = figures.radar_image(image_from_volume(volume[None].to(torch.complex64), GRID))
    figures.scale_bar(figure)
    plate, bar = (t for t in figure.data if t.type == "scatter")
    assert {plate.xaxis, bar.xaxis} <= {None, "x"}
    assert abs(bar.x[2] - bar.x[0]) == pytest.approx(float(bar.text[1].split()[0]))
    assert static.png(figure)[:4] == b"\x89PNG"


def test_views_are_on_one_scale():
    axis = torch.linspace(-0.1, 0.1, 8)
    figure = figures.array_views([torch.ones(8, 8), torch.full((8, 8), 0.1)], axis, axis, "ab")
    levels = [float(np.nanmax(t.z)) for t in figure.data if t.type == "heatmap"]
    np.testing.assert_allclose(levels, [0, -20], atol=1e-5)
    with pytest.raises(InputError, match="labels"):
        figures.array_views([torch.ones(8, 8)], axis, axis, "ab")


def test_nothing_is_painted_below_the_dynamic_range(volume):
    x, y, z = GRID.x, GRID.y, GRID.z
    level = 20 * torch.log10(volume.abs() / volume.abs().max())
    floor = -25.0
    pictures = {
        "slices": (figures.slices_viewer(volume, x, y, z, floor_db=floor), level[37]),
        "cuts": (figures.volume_slices(volume, x, y, z, floor_db=floor), level[37]),
        "projections": (figures.volume_projections(volume, GRID, floor_db=floor), level.amax(0)),
        "views": (figures.array_views([volume[37]], x, y, ["a"], floor_db=floor), level[37]),
    }
    for name, (figure, expected) in pictures.items():
        painted = ~np.isnan(figure.data[0].z)
        np.testing.assert_array_equal(painted, (expected > floor).numpy(), name)
        assert 0 < painted.sum() < painted.size or name == "projections"
