"""Static pictures show the figure: right colours, right places, and nothing blank."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from radarbook import figures
from radarbook.figures import static
from tests.figures.test_figures import SQUARE, TRIANGLES, image


def pixels(figure, **keywords) -> np.ndarray:
    picture = Image.open(io.BytesIO(static.png(figure, **keywords))).convert("RGB")
    return np.asarray(picture).astype(float)


FIGURES = {
    "face": lambda: figures.face(SQUARE, TRIANGLES, title="t"),
    "regions": lambda: figures.face_regions(SQUARE, TRIANGLES, {"a": [True, True, True, False]}),
    "values": lambda: figures.error_map(SQUARE, TRIANGLES, [0.0, 1.0, 2.0, 3.0]),
    "row": lambda: figures.faces_row([SQUARE] * 3, TRIANGLES, list("abc")),
    "slider": lambda: figures.faces_slider([SQUARE, SQUARE * 2], TRIANGLES, ["1", "2"]),
    "image": lambda: figures.radar_image(image()),
    "images": lambda: figures.image_slider(image(3), list("abc"), parameter="p"),
    "slices": lambda: figures.volume_slices(
        np.random.default_rng(0).random((4, 5, 6)), np.arange(6), np.arange(5), np.arange(4)
    ),
    "array": lambda: figures.array_layout(np.eye(3), np.eye(3)),
    "curves": lambda: figures.curves({"a": [3, 2, 1]}, log_y=True, references={"r": 1.5}),
    "bars": lambda: figures.bars({"a": {"x": 1.0, "y": 2.0}}, y_title="mm"),
    "matrix": lambda: figures.similarity_matrix(np.eye(4), list("abcd")),
    "histogram": lambda: figures.histogram({"a": np.arange(9.0)}, x_title="mm"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_kind_of_figure_draws_whole_and_near_its_size(name):
    figure = FIGURES[name]()
    drawn = pixels(figure, scale=1.0)
    width = figure.layout.width or figure.layout.template.layout.width
    height = figure.layout.height or figure.layout.template.layout.height
    # Empty margins are cut, long labels may reach over the layout's edge: near its size, no more.
    for found, wanted in zip(drawn.shape[:2], (height, width), strict=True):
        assert 0.4 * wanted < found < 1.15 * wanted
    assert drawn.std() > 3  # a blank page has 0
    # Nothing is cut off: the outermost pixels are all paper.
    for edge in (drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]):
        assert edge.min() > 250


def test_restored_figure_draws_the_same_picture():
    figure = figures.radar_image(image())
    restored = json.loads(figure.to_json())
    np.testing.assert_array_equal(pixels(figure), pixels(restored))


def test_mesh_lies_where_the_camera_sees_it():
    # A triangle in the upper right only: the lower left of the picture stays white.
    corner = np.array([[0, 0, 0], [100, 0, 0], [0, 100, 0], [-100, -100, 0]], np.float32)
    figure = figures.face(corner, np.array([[0, 1, 2]]))
    drawn = pixels(figure, scale=1.0)
    painted = np.argwhere(drawn[..., 0] > drawn[..., 2] + 20)  # skin, not the grey scale bar
    height, width = drawn.shape[:2]
    assert len(painted) > 1000
    assert painted[:, 0].max() < 0.55 * height
    assert painted[:, 1].min() > 0.45 * width


def test_nearer_mesh_hides_the_farther_one():
    near = figures.mesh_trace(SQUARE + np.float32([0, 0, 50]), TRIANGLES, colour="#ff0000")
    far = figures.mesh_trace(SQUARE, TRIANGLES, colour="#0000ff")
    for order in ([near, far], [far, near]):
        figure = go.Figure(order)
        figure.update_layout(
            width=200,
            height=200,
            margin={"l": 0, "r": 0, "t": 0, "b": 0},
            scene_camera={"eye": {"x": 0, "y": 0, "z": 2}, "up": {"x": 0, "y": 1, "z": 0}},
        )
        red, _, blue = pixels(figure, scale=1.0)[100, 100]
        assert red > 2 * blue + 20


def test_surface_facing_the_light_is_brighter():
    tilted = SQUARE.copy()
    tilted[:, 2] = tilted[:, 1] * 1.5  # faces down, away from a light above
    raised = SQUARE.copy()
    raised[:, 2] = -tilted[:, 2]
    down, up = (pixels(figures.face(s, TRIANGLES), scale=0.5) for s in (tilted, raised))
    middle = tuple(n // 2 for n in down.shape[:2])
    assert up[middle].sum() > down[middle].sum() + 20


def test_heatmap_puts_x_reversed_and_y_up():
    level = torch.full((1, 6, 8), -20.0)
    level[0, -1, 0] = 0.0  # highest y, lowest x: top right as the radar sees it
    one = image(1)
    one = replace(one, amplitude_db=level, mask=level > -20)
    drawn = pixels(figures.radar_image(one), scale=1.0)
    # The left panel: bright pixels of the amplitude's hottest colour.
    panel = drawn[:, : drawn.shape[1] // 2 - 100]
    bright = np.argwhere((panel[..., 0] > 240) & (panel[..., 1] > 240) & (panel[..., 2] < 200))
    dark = np.argwhere(panel.max(2) < 30)
    assert bright[:, 0].mean() < dark[:, 0].mean()
    assert bright[:, 1].mean() > dark[:, 1].mean()


def test_unknown_trace_is_not_silently_left_out():
    with pytest.raises(NotImplementedError, match="violin"):
        static.png(go.Figure(go.Violin(y=[1, 2, 3])))


@pytest.mark.parametrize("colours", [1, 3])
def test_large_pictures_have_few_colours_only_where_nothing_is_seen(colours):
    """A noisy ramp of one colour fits 256 colours; one of three independent ones does not."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, colours), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.broadcast_to(noise, (400, 400, 3)).copy()).save(file, format="png")
    given = file.getvalue()
    made = static._smaller(given)
    there, here = (np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in (given, made))
    assert np.array_equal(there, here)
    assert len(given) > static._LARGE
    assert len(made) == len(given) if colours == 3 else len(made) < 0.5 * len(given)


def test_save_png_is_whole(tmp_path):
    path = tmp_path / "face.png"
    figures.save_png(FIGURES["face"](), path)
    assert Image.open(path).size[0] > 1000
    assert list(tmp_path.iterdir()) == [path]
