"""STL files, binary and ASCII, whole and cut short."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from radarbook.errors import InputError
from radarbook.faces.mesh import read_mesh

BOX = trimesh.creation.box((0.1, 0.1, 0.02))


def data(kind):
    blob = BOX.export(file_type="stl_ascii" if kind == "ascii" else "stl")
    blob = blob.encode() if isinstance(blob, str) else blob
    # Some writers begin the binary header with the word that an ASCII file begins with.
    return b"solid box" + blob[9:] if kind == "binary, called solid" else blob


KINDS = ["ascii", "binary", "binary, called solid"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_box(tmp_path, kind):
    for tail in (b"", b"\n") if kind == "ascii" else (b"", b"\0\0"):
        (tmp_path / "a.STL").write_bytes(data(kind) + tail)
        mesh = read_mesh(tmp_path / "a.STL")
        assert mesh.vertices.shape == (8, 3)
        np.testing.assert_allclose(
            mesh.vertices[mesh.triangles], BOX.vertices[BOX.faces], atol=1e-8
        )


def test_ascii_of_several_solids_and_other_letters(tmp_path):
    text = data("ascii").decode().upper().replace("\n", "\r\n\t")
    (tmp_path / "a.stl").write_text(text + text)
    mesh = read_mesh(tmp_path / "a.stl")
    assert mesh.vertices.shape == (8, 3)
    assert mesh.triangles.shape == (24, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95, "one byte"])
def test_cut_short(tmp_path, kind, part):
    whole = data(kind).rstrip() if kind == "ascii" else data(kind)
    length = len(whole) - 1 if part == "one byte" else int(part * len(whole))
    (tmp_path / "a.stl").write_bytes(whole[:length])
    with pytest.raises(InputError, match=r"a\.stl: the file ends early"):
        read_mesh(tmp_path / "a.stl")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"tiny", "ends early: 4 bytes, an STL header has 84"),
        (data("binary") + b"\1" * 50, "its header counts 12 triangles, but 13 are there"),
        (data("binary")[:80] + b"\0" * 4, "0 vertices"),
        (data("ascii").replace(b"vertex", b"vertex x", 1), "three numbers after 'vertex'"),
        (data("ascii").replace(b"vertex", b"point", 1), "expected 3 vertices for each facet"),
        (b"\x1f\x8b\x08rest", "gzip-compressed data: decompress the file first"),
        (b"", "the file is empty"),
    ],
)
def test_bad_files(tmp_path, content, says):
    (tmp_path / "a.stl").write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_mesh(tmp_path / "a.stl")
