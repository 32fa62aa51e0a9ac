"""PLY files as other programs write them: mixed polygons, strips, byte orders, files cut short."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import trimesh

from radarbook.errors import InputError
from radarbook.faces.mesh import read_mesh, write_mesh

POINTS = [(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1), (0.5, 2, 1)]
FORMATS = ["ascii", "binary_little_endian", "binary_big_endian"]


class File:
    """Writes a PLY file row by row, in any of the three formats."""

    def __init__(self, form):
        self.form, self.order = form, ">" if form.endswith("big_endian") else "<"
        self.header, self.body = ["ply", f"format {form} 1.0", "comment by a test"], []

    def element(self, name, rows, *properties):
        self.header.append(f"element {name} {rows}")
        self.header += [f"property {text}" for text in properties]
        return self

    def row(self, code, *values):
        if self.form == "ascii":
            self.body.append((" ".join(str(v) for v in values) + "\n").encode())
        else:
            self.body.append(struct.pack(self.order + code, *values))
        return self

    def vertices(self, points=POINTS, code="f", kind="float"):
        self.element("vertex", len(points), *(f"{kind} {axis}" for axis in "xyz"))
        for point in points:
            self.row(3 * code, *point)
        return self

    def bytes(self):
        return "\n".join([*self.header, "end_header\n"]).encode() + b"".join(self.body)


def read(tmp_path, data):
    path = tmp_path / "a.PLY"
    path.write_bytes(data if isinstance(data, bytes) else data.bytes())
    mesh = read_mesh(path)
    area = trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).area
    return mesh, area


@pytest.mark.parametrize("form", FORMATS)
def test_mixed_polygons(tmp_path, form):
    file = File(form).vertices().element("face", 3, "list uchar int vertex_indices")
    file.row("B4i", 4, 0, 1, 2, 3).row("B3i", 3, 3, 2, 4).row("B5i", 5, 0, 1, 2, 4, 3)
    mesh, area = read(tmp_path, file)
    assert len(mesh.vertices) == 5
    assert len(mesh.triangles) == 6
    assert area == pytest.approx(3.0)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("kind", "code"), [("uint", "I"), ("int32", "i"), ("ushort", "H"), ("uchar", "B")]
)
def test_index_types(tmp_path, form, kind, code):
    file = File(form).vertices(code="d", kind="double")
    file.element("face", 2, f"list uint8 {kind} vertex_index")
    for corners in ((0, 1, 2), (0, 2, 3)):
        file.row(f"B3{code}", 3, *corners)
    mesh, area = read(tmp_path, file)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert area == 1.0


@pytest.mark.parametrize("form", FORMATS)
def test_other_elements_and_properties_are_passed_over(tmp_path, form):
    file = File(form)
    file.element("camera", 1, "float view", "list uchar float lens").row("fB2f", 7, 2, 1, 2)
    file.element("vertex", 5, "uchar red", "float z", "double x", "list uchar int near", "float y")
    for k, (x, y, z) in enumerate(POINTS):
        file.row(f"BfdB{k}if", 9, z, x, k, *range(k), y)
    file.element("edge", 0, "int vertex1", "int vertex2")
    file.element(
        "face", 2, "uchar flag", "list uchar int vertex_indices", "list uchar float texcoord"
    )
    for corners in ((0, 1, 2, 3), (3, 2, 4)):
        n = len(corners)
        file.row(f"BB{n}iB{2 * n}f", 1, n, *corners, 2 * n, *([0.5] * 2 * n))
    file.element("multi_texture", 1, "int id").row("i", 3)
    mesh, area = read(tmp_path, file)
    np.testing.assert_array_equal(mesh.vertices, POINTS)
    assert area == 1.5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("kind", "restart"), [("int", -1), ("uint", 2**32 - 1)])
def test_strips(tmp_path, form, kind, restart):
    """Two strips in one list, and a list of its own: 2 x 2, 1 and 1 triangles, all wound alike."""
    points = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 2, 1), (1, 2, 1)]
    file = File(form).vertices(points)
    file.element("tristrips", 2, f"list int {kind} vertex_indices")
    first = [0, 1, 2, 3, restart, 2, 3, 4]
    code = "I" if kind == "uint" else "i"
    file.row(f"i8{code}", 8, *first).row(f"i4{code}", 4, 4, 3, 5, 5)
    mesh, area = read(tmp_path, file)
    assert mesh.triangles.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 3, 5]]
    assert area == 2.0
    a, b, c = (mesh.vertices[mesh.triangles[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()


@pytest.mark.parametrize("form", FORMATS)
def test_header_with_other_line_ends(tmp_path, form):
    file = File(form).vertices().element("face", 1, "list uchar int vertex_indices")
    head, _, body = file.row("B3i", 3, 0, 1, 2).bytes().partition(b"end_header\n")
    data = head.replace(b"\n", b"\r\n") + b"end_header\r\n" + body
    assert read(tmp_path, data)[1] == 0.5


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("mixed", [True, False])
def test_every_cut_is_noticed(tmp_path, form, mixed):
    file = File(form).vertices().element("face", 2, "list uchar int vertex_indices")
    file.row("B4i", 4, 0, 1, 2, 3) if mixed else file.row("B3i", 3, 0, 1, 2)
    whole = file.row("B3i", 3, 3, 2, 4).bytes()
    body = whole.index(b"end_header\n") + len(b"end_header\n")
    step = 7 if form == "ascii" else 1
    for length in range(body, len(whole) - 1, step):
        with pytest.raises(InputError, match=r"the file ends early: .* of element '(vertex|face)'"):
            read(tmp_path, whole[:length].rstrip() if form == "ascii" else whole[:length])
    with pytest.raises(InputError, match="header has no end_header"):
        read(tmp_path, whole[: body - 20])


def test_a_large_file_cut_short(tmp_path):
    ball = trimesh.creation.icosphere(4, radius=0.05)
    write_mesh(tmp_path / "ball.ply", ball.vertices, ball.faces, "m")
    data = (tmp_path / "ball.ply").read_bytes()
    says = "its header counts 5120 of element 'face', 5112 are there"
    with pytest.raises(InputError, match=says):
        read(tmp_path, data[:-100])
    assert len(read(tmp_path, data)[0].triangles) == 5120


FACE = "element face 1\nproperty list uchar int vertex_indices\n"
HEAD = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
Z = "property float z\n"
BODY = "end_header\n0 0 1\n1 0 1\n0 1 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + Z + FACE + BODY + "3 0 1 7\n", "face index 7 out of range, expected 0 to 2"),
        (HEAD + Z + FACE + BODY + "3 0 1 -1\n", "face index -1 out of range"),
        (HEAD + Z + FACE + BODY + "3 0 1 1.5\n", "expected whole numbers"),
        (HEAD + Z + FACE + BODY + "2 0 1\n", r"face 0 \(from 0\) has 2 vertices"),
        (HEAD + Z + FACE + BODY + "-3 0 1 2\n", "a list of length -3"),
        (HEAD + Z + FACE + BODY + "3 0 1 2\n3 0 1 2\n", "4 values follow the last element"),
        (HEAD + Z + FACE + BODY + "3 0 one 2\n", "expected numbers after the header"),
        (HEAD + Z + BODY, "found 3 vertices and 0 triangles"),
        (HEAD + FACE + BODY.replace(" 1\n", "\n") + "3 0 1 2\n", "found none with z"),
        (HEAD + "property quad z\n" + FACE + BODY, "header line not understood: 'property quad z'"),
        (HEAD.replace("ascii", "middle_endian") + BODY, "header line not understood: 'format"),
        (HEAD.replace("format ascii 1.0\n", "") + Z + FACE + BODY, "expected a format line"),
        (HEAD.replace("vertex 3", "vertex -3") + Z + FACE + BODY, "not understood: 'element"),
        ("ply\nproperty float x\nend_header\n", "not understood: 'property float x'"),
        ("this is no mesh", "not a PLY file"),
    ],
)
def test_bad_files(tmp_path, text, says):
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path, text.encode())
    assert str(caught.value).startswith(f"{tmp_path / 'a.PLY'}: ")
    assert "\n" not in str(caught.value)


def test_binary_data_after_the_last_element(tmp_path):
    file = File("binary_little_endian").vertices()
    data = file.element("face", 1, "list uchar int vertex_indices").row("B3i", 3, 0, 1, 2).bytes()
    assert read(tmp_path, data + b"\r\n\0")[1] == 0.5
    with pytest.raises(InputError, match="13 bytes follow the last element"):
        read(tmp_path, data + struct.pack("<B3i", 3, 0, 2, 3))
