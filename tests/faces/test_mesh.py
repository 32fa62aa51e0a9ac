"""Mesh files: round trips, units, and each kind of bad file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import binary_dilation

import radarbook as rb
from radarbook.errors import InputError
from radarbook.faces.mesh import coarser, read_mesh, welded, write_mesh

SQUARE = np.array([[0, 0, 300], [100, 0, 300], [100, 100, 310], [0, 100, 300.0]])
FACES = np.array([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl"])
@pytest.mark.parametrize("units", ["mm", "m"])
def test_write_then_read(tmp_path, suffix, units):
    path = tmp_path / f"a{suffix}"
    write_mesh(path, torch.from_numpy(SQUARE), torch.from_numpy(FACES), units)
    mesh = read_mesh(path, units)
    scale = 1e-3 if units == "mm" else 1.0
    # STL keeps corners, not vertices: compare triangles. Files are float32 or 8 decimals.
    np.testing.assert_allclose(mesh.vertices[mesh.triangles], scale * SQUARE[FACES], rtol=1e-6)
    assert len(mesh.vertices) == 4
    assert f"units {units}".encode() in path.read_bytes()


@pytest.mark.parametrize("suffix", [".ply", ".obj"])
def test_others_can_read_what_we_write(tmp_path, suffix):
    write_mesh(tmp_path / f"a{suffix}", SQUARE, FACES)
    mesh = trimesh.load_mesh(tmp_path / f"a{suffix}", process=False)
    assert mesh.area == pytest.approx(trimesh.Trimesh(SQUARE, FACES).area, rel=1e-6)


def test_quads_become_triangles(tmp_path):
    path = tmp_path / "quad.obj"
    path.write_text("v 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\nf 1 2 3 4\n")
    assert read_mesh(path).triangles.shape == (2, 3)


def ply(vertices, faces):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(map(str, v)) for v in vertices] + [f"3 {a} {b} {c}" for a, b, c in faces]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.ply", ply([(0, 0, 1), (1, 0, 1), (0, 1, "nan")], [(0, 1, 2)]), "1 vertices are not"),
        ("a.ply", ply([(0, 0, 1), (1, 0, 1), (0, 1, 1)], [(0, 1, 7)]), "index 7 out of range"),
        ("a.obj", "v 0 0 1\nv 1 0 1\nv 0 1 1\nf 1 2 9\n", "a.obj"),
        ("a.ply", "", "a.ply"),
        ("a.obj", "# nothing\n", "a.obj"),
        ("a.ply", ply([(0, 0, 1), (1, 0, 1), (0, 1, 1)], []), "0 triangles"),
        ("a.ply", "this is no mesh", "not a PLY file"),
        ("a.ply", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer: fetch"),
        ("a.ply", "PK\x03\x04", "a zip archive: decompress it first"),
        ("a.txt", "hello", "expected a mesh as .ply, .obj, .stl"),
    ],
)
def test_bad_files(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        read_mesh(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_file_and_unknown_units(tmp_path):
    with pytest.raises(InputError, match="mesh file not found"):
        read_mesh(tmp_path / "a.ply")
    (tmp_path / "folder.ply").mkdir()
    with pytest.raises(InputError, match="mesh file is no file"):
        read_mesh(tmp_path / "folder.ply")
    with pytest.raises(InputError, match="expected m, cm, mm, um, µm, μm, found 'inch'"):
        read_mesh(tmp_path / "a.ply", "inch")


@pytest.mark.parametrize(
    ("units", "metres"),
    [("m", 1), ("cm", 1e-2), ("mm", 1e-3), ("um", 1e-6), ("µm", 1e-6), ("μm", 1e-6)],
)
def test_units(tmp_path, units, metres):
    path = tmp_path / "a.ply"
    path.write_text(ply(SQUARE, FACES))
    np.testing.assert_allclose(read_mesh(path, units).vertices, metres * SQUARE)


def test_units_that_the_file_states(tmp_path):
    for suffix in (".ply", ".obj", ".stl"):
        path = tmp_path / f"a{suffix}"
        write_mesh(path, SQUARE, FACES, "mm")
        with pytest.raises(InputError, match="states units mm, but it is read in m: pass --units"):
            read_mesh(path)


def test_unused_vertices_stay(tmp_path):
    path = tmp_path / "a.ply"
    path.write_text(ply([*SQUARE, *SQUARE, (1e9, 0, 0)], FACES))
    assert len(read_mesh(path).vertices) == 9


def test_welded():
    points = np.array([[1.0, 0, 0], [0, 0, 1], [-0.0, 0, 1], [1, 0, 0], [1, 0, 1e-300]])
    distinct, number = welded(points)
    np.testing.assert_array_equal(distinct[number], points)
    assert len(distinct) == 3
    assert number[0] == number[3] != number[4]
    assert number[1] == number[2]


def test_nothing_bad_is_written(tmp_path):
    with pytest.raises(InputError, match="index 5 out of range"):
        write_mesh(tmp_path / "a.ply", SQUARE, FACES + 2)
    with pytest.raises(InputError, match="ending in"):
        write_mesh(tmp_path / "a.xyz", SQUARE, FACES)
    for name, count in (("a.obj", len(SQUARE)), ("a.ply", len(SQUARE) - 1)):
        with pytest.raises(InputError, match="values of 'deviation', one for each vertex, found"):
            write_mesh(tmp_path / name, SQUARE, FACES, values={"deviation": np.ones(count)})
    assert list(tmp_path.iterdir()) == []


def test_values_are_properties_of_ply_vertices(tmp_path):
    values = np.linspace(0, 1, len(SQUARE))
    write_mesh(tmp_path / "a.ply", SQUARE, FACES, values={"deviation": torch.from_numpy(values)})
    assert b"\nproperty float deviation\n" in (tmp_path / "a.ply").read_bytes()
    np.testing.assert_allclose(read_mesh(tmp_path / "a.ply", "mm").vertices, 1e-3 * SQUARE)
    loaded = trimesh.load_mesh(tmp_path / "a.ply", process=False)
    found = loaded.metadata["_ply_raw"]["vertex"]["data"]["deviation"]
    np.testing.assert_allclose(np.ravel(found), values, atol=1e-6)


def test_coarser_mesh_keeps_vertices_and_shape():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=80)
    kept, triangles = coarser(ball.vertices, ball.faces, 12.0)
    small = trimesh.Trimesh(ball.vertices[kept], triangles, process=False)
    assert len(kept) < len(ball.vertices) / 3
    assert len(np.unique(kept)) == len(kept)
    # chords of a ball of 80 mm: 12 mm cubes lose a per cent of the area
    assert small.area == pytest.approx(ball.area, rel=0.03)
    outwards = (small.face_normals * small.triangles_center).sum(axis=1) > 0
    assert outwards.all()


@pytest.mark.parametrize("size", [3.0, 5.0, 7.0])
def test_coarser_face_has_no_hole_and_no_fold(size):
    model = rb.load_model()
    mean = model.mean.numpy()
    kept, triangles = coarser(mean, model.triangles, size)
    small = trimesh.Trimesh(mean[kept], triangles, process=False)
    # Seen from the front, wherever the face is (and not at its rim) a ray meets the coarse one.
    whole = trimesh.Trimesh(mean, model.triangles.numpy(), process=False)
    x, y = np.meshgrid(np.arange(-80, 80, 1.7), np.arange(-110, 110, 1.7))
    rays = np.stack([x.ravel(), y.ravel(), np.full(x.size, 500.0)], axis=1)
    down = np.broadcast_to([0.0, 0.0, -1.0], rays.shape)
    hit = whole.ray.intersects_any(rays, down).reshape(x.shape)
    steps = int(np.ceil(size / 1.7)) + 1
    inside = ~binary_dilation(~hit, iterations=steps)
    met = small.ray.intersects_any(rays, down).reshape(x.shape)
    assert inside.sum() > 2000
    assert met[inside].all()
    # Folds have faced away from the viewer; what does now is the inner side of nostrils and lips.
    before = whole.area_faces[whole.face_normals[:, 2] < 0].sum() / whole.area
    after = small.area_faces[small.face_normals[:, 2] < 0].sum() / small.area
    assert after < before + 0.001  # 0.003 to 0.008 more with the folds
