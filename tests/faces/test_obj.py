"""OBJ files as other programs write them: the surface, or the line that is wrong."""

from __future__ import annotations

import codecs

import numpy as np
import pytest
import trimesh

from radarbook.errors import InputError
from radarbook.faces.mesh import read_mesh

BOX = trimesh.creation.box((0.1, 0.1, 0.02))
BOX.apply_translation([0, 0, 0.3])


def box_text(*, first=1, gap=" ", after="", face=lambda i: str(i)):
    vertices = [gap.join(["v", *(f"{x:.6f}" for x in v)]) + after for v in BOX.vertices]
    faces = [gap.join(["f", *(face(i + first) for i in f)]) + after for f in BOX.faces]
    return "\n".join([*vertices, "vt 0 0", "vt 1 0", "vt 0 1", "vn 0 0 1", *faces]) + "\n"


GOOD = {
    "plain": box_text(),
    "tabs": box_text(gap="\t"),
    "inline comments": "# made by nobody\n" + box_text(after=" # 1 2 3"),
    "comment ends in a backslash": "# C:\\models\\\n" + box_text(),
    "relative": box_text(first=-8),
    "relative, with texture and normal": box_text(first=-8, face=lambda i: f"{i}/-1/-1"),
    "texture": box_text(face=lambda i: f"{i}/1"),
    "normal": box_text(face=lambda i: f"{i}//1"),
    "texture out of range": box_text(face=lambda i: f"{i}/99/77"),
    "continued": box_text().replace(" ", " \\\n "),
    "continued to the end": box_text().rstrip() + " \\",
    "no last line end": box_text().rstrip(),
    "groups": "mtllib none.mtl\no box\ng a b\nusemtl red\ns off\n" + box_text() + "l 1 2\np 1\n",
    "colours": box_text().replace("v ", "v ").replace("0000\nv", "0000 0.5 0.5 0.5\nv"),
    "indented": "  " + box_text().replace("\n", "\n  "),
    "faces first": "\n".join(sorted(box_text().splitlines(), key=lambda line: line[0])),
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize(
    ("mark", "encoding", "line_end"),
    [
        (b"", "utf-8", "\n"),
        (codecs.BOM_UTF8, "utf-8", "\r\n"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "\r"),
    ],
    ids=["utf-8", "mark, CRLF", "utf-16, CR"],
)
def test_the_same_box(tmp_path, text, mark, encoding, line_end):
    path = tmp_path / "box.OBJ"
    path.write_bytes(mark + text.replace("\n", line_end).encode(encoding))
    mesh = read_mesh(path)
    assert mesh.vertices.shape == (8, 3)
    np.testing.assert_array_equal(mesh.triangles, BOX.faces)
    area = trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).area
    assert area == pytest.approx(0.028, rel=1e-9)


def test_polygons_of_any_size_mixed(tmp_path):
    path = tmp_path / "a.obj"
    corners = "v 0 0 1\nv 1 0 1\nv 1 1 1\nv 0 1 1\nv .5 2 1\n"
    path.write_text(corners + "f 1 2 3 4\nf 4 3 5\nf 1 2 3 5 4\n")
    mesh = read_mesh(path)
    assert mesh.triangles.shape == (6, 3)
    assert trimesh.Trimesh(mesh.vertices, mesh.triangles, process=False).area == 3.0


def test_names_may_be_in_any_encoding(tmp_path):
    path = tmp_path / "a.obj"
    path.write_bytes("o Gesichtsfläche\n".encode("latin-1") + box_text().encode())
    assert len(read_mesh(path).triangles) == 12


VERTICES = "v 0 0 1\nv 1 0 1\n\nv 0 1 1\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (box_text(first=0), r"line 13: face index 0, but OBJ indices count from 1.*add 1 to every"),
        (VERTICES + "f 1 2 9\n", "line 5: face index 9 out of range, expected 1 to 3"),
        (VERTICES + "f 1 \\\n2 9\n", "line 5: face index 9"),
        (VERTICES + "f -1 -2 -4\n", "line 5: relative face index -4 out of range, 3 vertices"),
        (VERTICES + "f 1 2\n", "line 5: expected a face of 3 or more vertices, found 'f 1 2'"),
        (VERTICES + "f 1 2 c\n", "line 5: expected a face 'f' with vertex indices"),
        (VERTICES + "f 1.0 2.0 3.0\n", "line 5: expected a face 'f' with vertex indices"),
        ("v 0 0\n", "line 1: expected a vertex 'v x y z', found 'v 0 0'"),
        ("v 0,5 0 1,0\n", "line 1: expected a vertex"),
        (VERTICES, "found 3 vertices and 0 triangles"),
        (VERTICES.replace("1 0 1", "1 0 nan") + "f 1 2 3\n", "1 vertices are not finite"),
        ("\0\1\2" * 100, "expected text, found binary data"),
        ("# nothing\n", "0 vertices"),
    ],
)  # fmt: skip
def test_bad_lines_are_named(tmp_path, text, says):
    path = tmp_path / "a.obj"
    path.write_text(text)
    with pytest.raises(InputError, match=says) as caught:
        read_mesh(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
