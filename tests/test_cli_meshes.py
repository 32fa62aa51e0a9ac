"""`simulate` and `render` with meshes as users have them: notes, occlusion, reflections."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import trimesh

from radarbook.faces.mesh import write_mesh
from radarbook.radar import meshes
from tests.test_cli import one_line

FEW = ("--frequencies", 2)
#: float32 rounding of 1e-7 m in the file turns phases by 1e-3 at most.
SAME = 2e-3


def simulated(run: Callable, path: Path, *options: object) -> tuple[np.ndarray, str]:
    output = path.with_suffix(".npy")
    code, out, err = run("simulate", path, "-o", output, *FEW, *options)
    assert code == 0, err
    wrote = f"wrote {output}: complex64 (94, 94, 2) = (rx, tx, f)"
    beside = f"; frequencies in {output.with_suffix('.frequencies.json')}"
    assert out == f"{wrote}{beside}\n"
    signal = np.load(output)
    return (signal["signal"] if isinstance(signal, np.lib.npyio.NpzFile) else signal), err


def apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles = meshes.sphere((0, 0, 0.35), 0.05, 0.006)
    return vertices.numpy(), triangles.numpy()


def test_faulty_winding_gives_the_sound_signal(tmp_path: Path, run: Callable, ball) -> None:
    vertices, triangles = ball
    write_mesh(tmp_path / "sound.ply", vertices, triangles, "m")
    wanted, err = simulated(run, tmp_path / "sound.ply")
    assert err == ""
    half = triangles.copy()
    half[::2] = half[::2, ::-1]
    faults = {
        "inward": (triangles[:, ::-1], "had inward normals and were turned outward"),
        "half": (half, "their winding was not that of their neighbours"),
        "twice": (np.concatenate([triangles, triangles]), "dropped that the file repeats"),
        "flat": (np.concatenate([triangles, [[0, 0, 1]]]), "1 triangle without area dropped"),
    }
    for name, (faulty, says) in faults.items():
        path = tmp_path / f"{name}.ply"
        write_mesh(path, vertices, faulty, "m")
        found, err = simulated(run, path, "--material", 0)
        if name == "inward":
            wanted, _ = simulated(run, tmp_path / "sound.ply", "--material", 0)
        assert apart(found, wanted) < SAME, name
        assert one_line(err).startswith(f"note: {path}: ")
        assert says in err


def test_a_plate_seen_from_behind(tmp_path: Path, run: Callable) -> None:
    vertices, triangles = meshes.plate((0, 0, 0.3), 0.05, 0.05, 0.01)
    write_mesh(tmp_path / "front.ply", vertices, triangles, "m")
    write_mesh(tmp_path / "back.ply", vertices, triangles.flip(1), "m")
    wanted, _ = simulated(run, tmp_path / "front.ply", "--material", 0)
    found, err = simulated(run, tmp_path / "back.ply", "--material", 0)
    assert apart(found, wanted) < SAME
    assert "were turned towards it" in one_line(err)


def test_the_same_scene_in_every_format_and_unit(tmp_path: Path, run: Callable, ball) -> None:
    vertices, triangles = ball
    body = trimesh.Trimesh(vertices, triangles, process=False)
    body.export(tmp_path / "m.ply")
    wanted, _ = simulated(run, tmp_path / "m.ply", "--material", 0)
    for name, unit, scale in (
        ("cm.OBJ", "cm", 1e2),
        ("um.PLY", "µm", 1e6),
        ("mm.Stl", "mm", 1e3),
    ):
        scaled = trimesh.Trimesh(scale * vertices, triangles, process=False)
        scaled.export(tmp_path / name, file_type=name[-3:].lower())
        found, err = simulated(run, tmp_path / name, "--units", unit, "--material", 0)
        assert err == ""
        # The ball's distance of 0.35 m as float32, or 8 decimals: 3e-8 m, and STL's corners merge.
        assert apart(found, wanted) < SAME, name


def test_a_million_unused_vertices(tmp_path: Path, run: Callable, ball) -> None:
    vertices, triangles = ball
    write_mesh(tmp_path / "few.ply", vertices, triangles, "m")
    write_mesh(
        tmp_path / "many.ply", np.concatenate([vertices, np.full((10**6, 3), -7.0)]), triangles, "m"
    )
    wanted, _ = simulated(run, tmp_path / "few.ply")
    found, err = simulated(run, tmp_path / "many.ply")
    assert err == ""
    assert apart(found, wanted) < SAME


def test_an_exported_face_is_placed(tmp_path: Path, run: Callable) -> None:
    path = tmp_path / "face.ply"
    assert run("model", "export", "procedural", path)[0] == 0
    code, _, err = run("render", path, "-o", tmp_path / "i.h5")
    assert code == 2
    assert "pass --units mm" in one_line(err)
    code, _, err = run("render", path, "-o", tmp_path / "i.h5", "--units", "mm")
    assert code == 2
    assert "--model-frame 0.3" in err.splitlines()[-1]
    assert not (tmp_path / "i.h5").exists()
    _, err = simulated(run, path, "--units", "mm", "--model-frame", 0.3)
    assert err == ""


def test_render_refuses_a_scene_outside_its_image(tmp_path: Path, run: Callable, ball) -> None:
    write_mesh(tmp_path / "a.ply", ball[0] + [0, 0, 0.5], ball[1], "m")
    code, _, err = run("render", tmp_path / "a.ply", "-o", tmp_path / "i.h5")
    assert code == 2
    assert "z 0.8" in one_line(err)
    assert "pass --depth" in err
    assert not (tmp_path / "i.h5").exists()


def test_a_mesh_that_the_array_sees_edge_on(tmp_path: Path, run: Callable) -> None:
    points = np.array([[-0.05, 0, 0.3], [0.05, 0, 0.3], [0.05, 0, 0.4], [-0.05, 0, 0.4]])
    write_mesh(tmp_path / "edge.ply", points, np.array([[0, 1, 2], [0, 2, 3]]), "m")
    code, _, err = run("simulate", tmp_path / "edge.ply", "-o", tmp_path / "s.npy", *FEW)
    assert code == 2
    assert "edge.ply: the mesh reflects nothing to the array" in one_line(err)
    assert not (tmp_path / "s.npy").exists()


def test_what_is_hidden_does_not_reflect(tmp_path: Path, run: Callable) -> None:
    """A ball before a wall, the wall's shadowed part found by geometry (see tests/radar)."""
    near = meshes.sphere((0, 0, 0.28), 0.04, 0.004)
    wall = meshes.plate((0, 0, 0.45), 0.2, 0.2, 0.004)
    vertices, triangles = meshes.join(near, wall)
    write_mesh(tmp_path / "both.ply", vertices, triangles, "m")
    write_mesh(tmp_path / "ball.ply", *near, "m")
    hidden, err = simulated(run, tmp_path / "both.ply")
    assert err == ""
    open_, _ = simulated(run, tmp_path / "both.ply", "--no-occlusion")
    assert apart(hidden, open_) > 0.3
    # Of a ball alone no antenna sees less of the lit part: within the facets along the rim.
    alone, _ = simulated(run, tmp_path / "ball.ply")
    free, _ = simulated(run, tmp_path / "ball.ply", "--no-occlusion")
    assert apart(alone, free) < 0.05


def test_a_corner_reflects_by_three_bounces(tmp_path: Path, run: Callable) -> None:
    write_mesh(tmp_path / "corner.ply", *meshes.corner((0, 0, 0.4), 0.05, 0.006), "m")
    power = []
    for bounces in (1, 2, 3):
        signal, _ = simulated(run, tmp_path / "corner.ply", "--bounces", bounces)
        power.append(np.linalg.norm(signal))
    # The axis of a corner sees three reflections, next to nothing with fewer.
    assert power[2] > 3 * power[0]
    assert power[2] > 2 * power[1]
    corner = tmp_path / "corner.ply"
    # One reflection has no polarisation; several have, and vertical is the default.
    across = [
        simulated(run, corner, "--bounces", n, "--polarisation", "horizontal")[0] for n in (1, 2)
    ]
    usual = [simulated(run, corner, "--bounces", n)[0] for n in (1, 2)]
    assert np.array_equal(across[0], usual[0])
    assert apart(across[1] - usual[0], usual[1] - usual[0]) > 0.1
    output = tmp_path / "x.npy"
    assert run("simulate", corner, "-o", output, "--bounces", 0)[0] == 2
    assert run("simulate", corner, "-o", output, "--polarisation", "diagonal")[0] == 2
    assert not output.exists()
