"""A user's mesh file in front of the array: what is refused, with its likely cause, and notes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.mesh import write_mesh
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar import meshes
from radarbook.radar.scene_file import check_in_image, check_scene, likely_unit, read_scene

GOOD = np.array([[0, 0, 0.3], [0.1, 0, 0.3], [0, 0.1, 0.3]])
FACE = np.array([[0, 2, 1]])


@pytest.mark.parametrize(
    ("vertices", "triangles", "words"),
    [
        (np.zeros((0, 3)), FACE, "found 0 vertices and 1 triangles"),
        (GOOD, np.zeros((0, 3), dtype=int), "found 3 vertices and 0 triangles"),
        (GOOD[:, :2], FACE, r"vertices \(count, 3\)"),
        (np.where(GOOD == 0.1, np.nan, GOOD), FACE, "2 vertices are not finite"),
        (GOOD, FACE + 1, "face index 3 out of range, expected 0 to 2"),
        (GOOD, FACE - 1, "face index -1 out of range"),
        (GOOD, FACE.astype(float), "integer triangles"),
        (GOOD - [0, 0, 0.4], FACE, r"\(z > 0 in the radar frame\), found z from -0.1 to -0.1 m"),
        (GOOD - [0, 0, 0.4], FACE, r"model frame .* is placed by --model-frame 0\.3"),
        (GOOD * 1000, FACE, "found 300 m; read in m, but this looks like mm: pass --units mm$"),
        (GOOD * 100, FACE, "this looks like cm: pass --units cm$"),
        (GOOD * 1e6, FACE, "this looks like um: pass --units um$"),
        (GOOD * 1000 - [0, 0, 400], FACE, "pass --units mm; a mesh in the model frame"),
        (GOOD * 1e-3, FACE, r"found 0\.0003 m$"),
        (GOOD * 1e30, FACE, r"reaches 0\.04 to 10 m from the array, found 3e\+29 m$"),
        (GOOD * [1e-3, 1e-3, 1], FACE, r"of at least 0\.002 m, found 0\.0001 m$"),
    ],
)
def test_refused(vertices, triangles, words):
    with pytest.raises(InputError, match=words) as caught:
        check_scene(vertices, triangles, "scene.ply")
    assert str(caught.value).startswith("scene.ply: ")
    assert "\n" not in str(caught.value)


def test_accepted():
    check_scene(GOOD, FACE)
    check_scene(torch.from_numpy(GOOD), torch.from_numpy(FACE))
    # Vertices of no triangle do not count.
    check_scene(np.concatenate([GOOD, [[0, 0, -1e9]]]), FACE)


HEADS = {"near": (0.25, 0.42), "usual": (0.3, 0.45), "far": (0.5, 0.69), "model frame": (-0.1, 0.1)}


@pytest.mark.parametrize("depths", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("unit", ["m", "cm", "mm", "um"])
@pytest.mark.parametrize("read_in", ["m", "cm", "mm", "um"])
def test_the_likely_unit_of_a_head_is_its_own(depths, unit, read_in):
    scale = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6}
    reach = max(abs(d) for d in depths) / scale[unit]  # in the file
    assert likely_unit(reach * scale[read_in], read_in) == unit


def ball(path, scale=1.0, z=0.35, inward=False):
    mesh = trimesh.creation.icosphere(2, radius=0.05)
    mesh.apply_translation([0, 0, z])
    mesh.apply_scale(scale)
    if inward:
        mesh.invert()
    mesh.export(path)
    return path


@pytest.mark.parametrize(
    ("unit", "scale"), [("m", 1), ("cm", 1e2), ("mm", 1e3), ("um", 1e6), ("µm", 1e6)]
)
def test_a_file_in_its_own_unit(tmp_path, unit, scale):
    (vertices, triangles), notes = read_scene(ball(tmp_path / "a.ply", scale), unit)
    assert notes == []
    assert vertices.dtype == torch.float64
    assert triangles.dtype == torch.int64
    assert vertices[:, 2].min() == pytest.approx(0.3, abs=1e-3)
    body = trimesh.Trimesh(vertices.numpy(), triangles.numpy(), process=False)
    assert body.volume > 0


def test_metres_read_as_millimetres(tmp_path):
    with pytest.raises(InputError, match=r"read in mm, but this looks like m: pass --units m$"):
        read_scene(ball(tmp_path / "a.ply"), "mm")
    with pytest.raises(InputError, match=r"looks like mm: pass --units mm$"):
        read_scene(ball(tmp_path / "a.ply", 1e3), "um", model_frame=0.3)


def test_a_far_scene_is_said(tmp_path):
    _, [note] = read_scene(ball(tmp_path / "a.ply", 1e3), "cm")
    assert note == (
        "the mesh reaches 4 m from the array; if this is wrong, its unit may be mm (--units mm)"
    )


def test_centimetres_read_as_millimetres_are_said(tmp_path):
    _, [note] = read_scene(ball(tmp_path / "a.ply", 1e2, z=0.38), "mm")
    assert note.startswith("the mesh reaches 0.043 m from the array; ")
    assert note.endswith("its unit may be cm (--units cm)")


@pytest.mark.parametrize(("unit", "scale"), [("cm", 1e2), ("mm", 1e3)])
@pytest.mark.parametrize("read_in", ["cm", "mm"])
def test_a_placed_mesh_of_unlikely_size_is_said(tmp_path, unit, scale, read_in):
    path = ball(tmp_path / "a.ply", 2 * scale)
    _, notes = read_scene(path, read_in, model_frame=0.6)
    if read_in == unit:
        assert notes == []
    else:
        [note] = notes
        assert note.startswith(f"the mesh is {'2' if read_in == 'cm' else '0.02'} m in size; ")
        assert note.endswith(f"its unit may be {unit} (--units {unit})")


def test_repair_is_part_of_reading(tmp_path):
    (vertices, triangles), notes = read_scene(ball(tmp_path / "a.ply", inward=True))
    assert trimesh.Trimesh(vertices.numpy(), triangles.numpy(), process=False).volume > 0
    assert notes == ["closed surfaces of 320 triangles had inward normals and were turned outward"]


def test_a_face_of_a_model_is_placed_where_the_renderer_places_it(tmp_path):
    model = load_model("procedural")
    write_mesh(tmp_path / "face.ply", model.mean, model.triangles)
    (vertices, triangles), notes = read_scene(tmp_path / "face.ply", "mm", model_frame=0.31)
    wanted = to_radar(model, FaceParameters.neutral(), 0.31)[0]
    torch.testing.assert_close(vertices, wanted.double(), atol=1e-6, rtol=0)  # float32 mm
    assert torch.equal(triangles, model.triangles)
    assert notes == []
    # In the radar frame the same file shows the array the inside of the face.
    _, [note, *_] = read_scene(tmp_path / "face.ply", "mm")
    assert "turned towards it; the mesh must be in the radar frame (--model-frame" in note


def test_a_plate_beside_the_array_and_one_without_area(tmp_path):
    points = np.array([[0.5, 0.0, 0.3], [0.5, 0.1, 0.3], [0.5, 0.0, 0.4], [0.5, 0.1, 0.4]])
    lid = np.array([[0, 1, 3], [0, 3, 2]])
    write_mesh(tmp_path / "a.ply", points, lid, "m")
    (_, triangles), _ = read_scene(tmp_path / "a.ply")
    assert len(triangles) == 2  # it shows one of its sides, whichever it was
    write_mesh(tmp_path / "b.ply", points[[0, 1, 1, 0]], lid, "m")
    with pytest.raises(InputError, match=r"b\.ply: none of its 2 triangles has an area"):
        read_scene(tmp_path / "b.ply")


IMAGE = (0.3, (0.23, 0.47))


def test_scenes_in_and_beside_the_image():
    inside = meshes.sphere((0, 0, 0.35), 0.05, 0.01)
    assert check_in_image(inside, *IMAGE) == []
    # A wall wider than the image, whose triangles have their corners outside it.
    wall = meshes.plate((0, 0, 0.4), 2.0, 2.0, 2.0)
    assert check_in_image(wall, *IMAGE) == []
    far = meshes.sphere((0, 0, 0.9), 0.05, 0.01)
    with pytest.raises(InputError, match=r"a: nothing that .* depths 0.23 to 0.47 m.*pass --depth"):
        check_in_image(far, *IMAGE, source="a")
    beside = meshes.sphere((0.4, 0, 0.35), 0.05, 0.01)
    with pytest.raises(InputError, match=r"found x 0\.3.*pass --extent$"):
        check_in_image(beside, *IMAGE)
    near = meshes.sphere((0, 0, 0.1), 0.05, 0.01)
    with pytest.raises(InputError, match=r"pass --depth or --model-frame 0\.3 for a mesh in the"):
        check_in_image(near, *IMAGE)
    centimetres = meshes.sphere((0, 0, 3.5), 0.5, 0.1)  # millimetres, read as cm
    with pytest.raises(InputError, match=r"pass --depth or --units mm$"):
        check_in_image(centimetres, *IMAGE, units="cm")
    [note] = check_in_image(meshes.join(inside, meshes.sphere((0, 0, 0.9), 0.1, 0.02)), *IMAGE)
    # Of two balls, one with four times the other's area and farther away, the array sees caps.
    assert 75 < float(note.partition(" %")[0]) < 85
    assert "of the area that faces the array lies outside the image's ±0.15 m and depths" in note
