"""Pictures of volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radarbook import figures
from radarbook.errors import InputError
from radarbook.figures import static
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
    assert float(np.max(figure.data[0].z)) == 0.0
    assert static.png(figure)[:4] == b"\x89PNG"


def test_scale_bar_is_as_long_as_it_says(volume):
    figure = figures.volume_projections(volume, GRID)
    bars = [t for t in figure.data if t.type == "scatter"]
    assert len(bars) == 3
    for bar in bars:
        said = float(bar.text[1].split()[0])
        assert abs(bar.x[2] - bar.x[0]) == pytest.approx(said)
        assert said in (20, 50)
    assert static.png(figure)[:4] == b"\x89PNG"


def test_views_are_on_one_scale():
    axis = torch.linspace(-0.1, 0.1, 8)
    figure = figures.array_views([torch.ones(8, 8), torch.full((8, 8), 0.1)], axis, axis, "ab")
    levels = [float(np.max(t.z)) for t in figure.data if t.type == "heatmap"]
    np.testing.assert_allclose(levels, [0, -20], atol=1e-5)
    with pytest.raises(InputError, match="labels"):
        figures.array_views([torch.ones(8, 8)], axis, axis, "ab")
