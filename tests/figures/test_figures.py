"""Figures carry what they were given, with axes and units, and are refused what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import radarbook as rb
from radarbook import figures
from radarbook.errors import InputError
from radarbook.figures.static import _values
from radarbook.radar.image import RadarImage

SQUARE = np.array([[-50, -60, 0], [50, -60, 0], [50, 60, 0], [-50, 60, 0]], np.float32)
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3]])


def image(batch: int = 2) -> RadarImage:
    x, y = torch.linspace(-0.1, 0.1, 8), torch.linspace(-0.06, 0.06, 6)
    level = torch.arange(48.0).reshape(6, 8) / 47 * 30 - 30
    mask = level > -20
    depth = 0.3 + 0.001 * torch.arange(48.0).reshape(6, 8)
    stack = [t.expand(batch, 6, 8).clone() for t in (level.clamp(min=-20), depth)]
    return RadarImage(*stack, mask.expand(batch, 6, 8).clone(), x, y, torch.full((batch,), -20.0))


def spec(figure):
    """The figure as a reader gets it: through JSON."""
    return json.loads(figure.to_json())


def test_face_carries_its_mesh_in_compact_arrays():
    trace = spec(figures.face(SQUARE, TRIANGLES))["data"][0]
    assert trace["x"]["dtype"] == "f4"
    assert trace["i"]["dtype"] == "u2"
    np.testing.assert_array_equal(_values(trace["y"]), SQUARE[:, 1])
    np.testing.assert_array_equal(np.stack([_values(trace[k]) for k in "ijk"], 1), TRIANGLES)


def test_face_takes_tensors_that_require_gradients():
    vertices = torch.tensor(SQUARE, requires_grad=True)
    assert len(figures.face(vertices[None], torch.tensor(TRIANGLES)).data) == 1


def test_error_map_starts_at_zero_and_names_its_unit():
    trace = figures.error_map(SQUARE, TRIANGLES, [1.0, 2.0, 3.0, 4.0]).data[0]
    assert (trace.cmin, trace.cmax) == (0.0, 4.0)
    assert "(mm)" in trace.colorbar.title.text


def test_row_of_faces_is_one_scene_without_overlap():
    figure = figures.faces_row([SQUARE] * 5, TRIANGLES, list("abcde"), columns=3)
    meshes = [t for t in figure.data if t.type == "mesh3d"]
    assert len(meshes) == 5
    assert {t.scene for t in meshes} <= {None, "scene"}
    boxes = [(t.x.min(), t.x.max(), t.y.min(), t.y.max()) for t in meshes]
    for n, a in enumerate(boxes):
        for b in boxes[n + 1 :]:
            assert a[1] < b[0] or b[1] < a[0] or a[3] < b[2] or b[3] < a[2]
    # By these steps a narrow page moves the faces into fewer columns.
    sheet = figure.layout.meta["sheet"]
    assert (sheet["count"], sheet["columns"]) == (5, 3)
    assert boxes[1][0] - boxes[0][0] == pytest.approx(sheet["step"][0])
    assert boxes[0][2] - boxes[3][2] == pytest.approx(sheet["step"][1])
    # Faces keep their proportions, and the last row has room for its labels.
    scene = figure.layout.scene
    shown = np.array([np.diff(scene[f"{axis}axis"].range)[0] for axis in "xy"])
    aspect = np.array([scene.aspectratio.x, scene.aspectratio.y])
    np.testing.assert_allclose(shown / shown[0], aspect / aspect[0], rtol=1e-5)  # float32
    assert boxes[-1][2] - scene.yaxis.range[0] >= sheet["step"][1] - sheet["tall"]


def test_slider_has_a_frame_for_each_stop():
    shapes = [SQUARE * k for k in (0.5, 1.0, 1.5)]
    figure = figures.faces_slider(shapes, TRIANGLES, ["-1", "0", "1"], parameter="σ")
    steps = figure.layout.sliders[0].steps
    assert [s.args[0][0] for s in steps] == [f.name for f in figure.frames]
    for frame, shape in zip(figure.frames, shapes, strict=True):
        np.testing.assert_array_equal(frame.data[0].x, shape[:, 0])


def test_radar_image_has_x_to_the_left_and_y_up_in_millimetres():
    figure = figures.radar_image(image(), 1)
    amplitude, depth = figure.data
    np.testing.assert_allclose(amplitude.x, np.linspace(-100, 100, 8), rtol=1e-6)
    np.testing.assert_allclose(amplitude.y, np.linspace(-60, 60, 6), rtol=1e-6)
    assert figure.layout.xaxis.autorange == "reversed"
    assert figure.layout.yaxis.autorange != "reversed"
    assert "(mm)" in figure.layout.xaxis.title.text
    assert "dB" in amplitude.colorbar.title.text
    assert "mm" in depth.colorbar.title.text


def test_depth_is_drawn_only_where_the_mask_is_true():
    one = image(1)
    drawn = figures.radar_image(one).data[1].z
    np.testing.assert_array_equal(np.isnan(drawn), ~one.mask[0].numpy())
    np.testing.assert_allclose(
        drawn[one.mask[0].numpy()], 1e3 * one.depth[0][one.mask[0]].numpy(), rtol=1e-6
    )


def test_amplitude_below_the_dynamic_range_is_not_plotted():
    one = image(1)
    for figure in (figures.radar_image(one), figures.image_slider(one, ["a"])):
        np.testing.assert_array_equal(np.isnan(figure.data[0].z), ~one.mask[0].numpy())
    assert np.isnan(figure.frames[0].data[0].z).any()


def test_outline_and_landmarks_lie_over_the_face_and_the_image_is_cropped_to_it():
    model = rb.load_model()
    step = torch.tensor([[0.02, -0.01, 0.0]])
    faces = rb.FaceParameters.neutral(2)
    faces.translation[1] = step
    still, moved = figures.face_outlines(model, faces, 0.3)
    apart = moved.outline - still.outline
    np.testing.assert_allclose(apart, np.broadcast_to(step[:, :2], apart.shape), atol=1e-7)
    flat = rb.to_radar(model, faces[:1], 0.3)[0, :, :2].numpy()
    np.testing.assert_allclose(still.outline.min(0), flat.min(0), atol=1e-7)
    np.testing.assert_allclose(
        still.landmarks[30], flat[model.landmarks["multipie68.30"]], atol=1e-7
    )
    figure = figures.radar_images(image(2), ["a", "b"], outlines=[still, moved])
    right, left = figure.layout.xaxis3.range
    assert right > 1e3 * moved.outline[:, 0].max()
    assert left < 1e3 * moved.outline[:, 0].min()
    assert right - left == pytest.approx(-np.diff(figure.layout.xaxis.range)[0])
    assert len(figure.data) == 4 + 2 * 2 * 2


def test_each_triangle_is_in_one_region():
    masks = {"low": [True, True, False, False], "all": [True] * 4}
    figure = figures.face_regions(SQUARE, TRIANGLES, masks)
    rest, low, whole, names = figure.data
    assert [len(mesh.i) for mesh in (rest, low, whole)] == [0, 1, 1]
    assert list(names.text) == ["low", "all"]
    assert low.color != whole.color


def test_volume_slices_cut_through_the_brightest_voxel():
    volume = np.full((5, 6, 7), 0.01)
    volume[2, 4, 1] = 1.0
    x, y, z = np.arange(7) * 0.01, np.arange(6) * 0.01, np.arange(5) * 0.01
    lateral, over_x, over_y = figures.volume_slices(volume, x, y, z).data
    assert lateral.z[4, 1] == over_x.z[2, 1] == over_y.z[2, 4] == 0.0
    assert np.sum(lateral.z == 0) == np.sum(over_x.z == 0) == np.sum(over_y.z == 0) == 1
    with pytest.raises(InputError, match=r"expected shape \(5, 7, 6\)"):
        figures.volume_slices(volume, y, x, z)


def test_width_of_a_gaussian_is_its_closed_form():
    # exp(-x²/2s²) is at -6 dB (power) where x = s·sqrt(2·ln 10·6/20); linear interpolation
    # between samples of 0.01 s errs below 1e-4 there.
    x = np.arange(-8, 8, 0.01)
    level = 20 * np.log10(np.exp(-(x**2) / 2))
    expected = 2 * np.sqrt(2 * np.log(10) * 6 / 20)
    assert figures.width_at(x, level, -6.0) == pytest.approx(expected, abs=1e-4)
    assert np.isnan(figures.width_at(x[:900], level[:900], -6.0))


def test_range_profile_peaks_at_half_the_path():
    frequencies = np.linspace(72e9, 82e9, 128)
    path = 0.63
    signal = np.exp(-2j * np.pi * frequencies / 299_792_458 * path)[None, None]
    line = figures.range_profile(signal, frequencies, pairs=[(0, 0)]).data[0]
    # One step of the zero-padded grid, 1.8 mm, is all that can be asked for.
    step = float(line.x[1] - line.x[0])
    assert line.x[np.argmax(line.y)] == pytest.approx(1e3 * path / 2, abs=step)
    near = figures.range_profile(signal, frequencies, pairs=[(0, 0)], limits_mm=(200.0, 400.0))
    assert near.data[0].x.min() >= 200
    assert near.data[0].x.max() <= 400
    assert near.data[0].x[np.argmax(near.data[0].y)] == line.x[np.argmax(line.y)]


def test_virtual_aperture_holds_all_midpoints():
    tx = np.array([[0.0, 0.01, 0.0], [0.0, 0.03, 0.0]])
    rx = np.array([[0.02, 0.0, 0.0]])
    pairs = figures.array_layout(tx, rx).data[2]
    np.testing.assert_allclose(np.stack([pairs.x, pairs.y], 1), [[10, 5], [10, 15]], rtol=1e-6)


def test_similarity_matrix_keeps_its_range_and_first_row_on_top():
    figure = figures.similarity_matrix(np.eye(3), ["a", "b", "c"])
    assert (figure.data[0].zmin, figure.data[0].zmax) == (-1.0, 1.0)
    assert figure.layout.yaxis.autorange == "reversed"


def test_histogram_counts_every_value_once():
    numbers = np.random.default_rng(0).normal(size=300)
    line = figures.histogram({"a": numbers}, x_title="error (mm)").data[0]
    assert line.y[::2].sum() == 300


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: figures.face(SQUARE[:, :2], TRIANGLES), "vertices_mm"),
        (lambda: figures.face(SQUARE, TRIANGLES, values=[1.0]), "one per vertex"),
        (lambda: figures.face(SQUARE, TRIANGLES, view="behind"), "view"),
        (lambda: figures.faces_row([SQUARE], TRIANGLES, ["a", "b"]), "labels"),
        (lambda: figures.radar_images(image(2), ["a"]), "labels"),
        (lambda: figures.similarity_matrix(np.eye(3), ["a"]), "matrix"),
        (lambda: figures.radar_images(image(1), ["a"], outlines=[]), "outlines"),
        (lambda: figures.face_regions(SQUARE, TRIANGLES, {"a": [True]}), "regions"),
        (lambda: figures.range_profile(np.ones((1, 1, 3)), np.arange(4.0)), "signal"),
        # 8 steps of 10 GHz / 7 repeat every 105 mm.
        (
            lambda: figures.range_profile(
                np.ones((1, 1, 8)),
                np.linspace(72e9, 82e9, 8),
                pairs=[(0, 0)],
                limits_mm=(0.0, 300.0),
            ),
            "repeats",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, words):
    with pytest.raises(InputError, match=words):
        call()
