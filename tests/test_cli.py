"""The command line: what it writes, and one clear line with exit status 2 for bad input."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import trimesh

from radarbook import cli
from radarbook.faces.bfm import write_bfm
from radarbook.faces.load import load_model
from radarbook.profiles import written_settings
from radarbook.radar.waveform import qar50_waveform
from tests.test_pipeline import TINY


def one_line(text: str) -> str:
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


def ball(path: Path, *, scale: float = 1.0, z: float = 0.35) -> Path:
    mesh = trimesh.creation.icosphere(3, radius=0.05)
    mesh.apply_translation([0, 0, z])
    mesh.apply_scale(scale)
    mesh.export(path)
    return path


# -- what it makes -------------------------------------------------------------------------------


def test_from_no_data_to_the_table(tmp_path: Path, run: Callable) -> None:
    settings = shlex.split(written_settings(TINY))
    code, out, _ = run("results", "--profile", "smoke", "--output", tmp_path, *settings)
    assert code == 0
    *table, path = out.strip().splitlines()
    rows = [line.split("|")[1].strip() for line in table if line.startswith("|")]
    assert rows[2:] == [
        "baseline, mean face",
        "baseline, random face",
        "encoder",
        "autoencoder",
    ]
    assert Path(path).is_file()


def test_a_sphere_goes_through_simulate_and_image(tmp_path: Path, run: Callable) -> None:
    mesh, signal, image = ball(tmp_path / "ball.ply"), tmp_path / "s.npy", tmp_path / "i.h5"
    assert run("simulate", mesh, "-o", signal)[0] == 0
    recorded = np.load(signal, allow_pickle=False)
    assert recorded.shape == (94, 94, 128)
    assert recorded.dtype == np.complex64
    depth = ("--depth", "0.28", "0.34")
    assert run("image", signal, "-o", image, "--pixels", 40, "--extent", 0.1, *depth)[0] == 0
    with h5py.File(image) as file:
        amplitude, z = file["amplitude_db"][()], file["depth"][()]
        x, y, mask = file["x"][()], file["y"][()], file["mask"][()]
    row, column = np.unravel_index(amplitude.argmax(), amplitude.shape)
    # The surface under the brightest pixel; within 1 mm, the bar for a sphere's depth.
    surface = 0.35 - np.sqrt(0.05**2 - x[column] ** 2 - y[row] ** 2)
    assert abs(z[row, column] - surface) < 1e-3
    assert mask[row, column]
    assert not mask[0, 0]


def test_units_of_a_mesh(tmp_path: Path, run: Callable) -> None:
    metres, millimetres = ball(tmp_path / "m.ply"), ball(tmp_path / "mm.ply", scale=1e3)
    few = ("--frequencies", 2)
    assert run("simulate", metres, "-o", tmp_path / "m.npy", *few)[0] == 0
    assert run("simulate", millimetres, "--units", "mm", "-o", tmp_path / "mm.npy", *few)[0] == 0
    a, b = np.load(tmp_path / "m.npy"), np.load(tmp_path / "mm.npy")
    # Only the PLY file's float32 coordinates differ: 2e-8 m, a phase of 1e-4 rad.
    assert np.abs(a - b).max() < 1e-3 * np.abs(a).max()


def test_a_mesh_under_a_blanket(tmp_path: Path, run: Callable) -> None:
    """A layer of no thickness is not there; one of 3 mm turns the phase by its delay both ways."""
    mesh, few = ball(tmp_path / "m.ply"), ("--frequencies", 2)
    signals = []
    for name, layer in {
        "bare": (),
        "none": ("--layer", 0.25, 0, "2.0"),
        "blanket": ("--layer", 0.25, 3e-3, "2.0"),
    }.items():
        assert run("simulate", mesh, "-o", tmp_path / f"{name}.npy", *few, *layer)[0] == 0
        signals.append(np.load(tmp_path / f"{name}.npy"))
    bare, none, blanket = signals
    assert np.abs(none - bare).max() < 1e-5 * np.abs(bare).max()
    middle = np.vdot(bare[..., 0], blanket[..., 0])
    turn = -2 * qar50_waveform(2).wavenumbers[0].item() * (2**0.5 - 1) * 3e-3
    # The ball is straight ahead; slanting legs and ripple between the sides leave tenths.
    assert abs(np.angle(middle * np.exp(-1j * turn))) < 0.4
    assert run("simulate", mesh, "-o", tmp_path / "x.npy", *few, "--layer", 0.4, 0.01, "2")[0] != 0


def test_model_commands(tmp_path: Path, run: Callable) -> None:
    built, exported = tmp_path / "model.h5", tmp_path / "face.ply"
    assert run("model", "build", built)[0] == 0
    code, text, _ = run("model", "info", built)
    assert code == 0
    assert "10 of shape, 7 of expression" in text
    assert "the procedural face, as built by this library's code" in text
    assert load_model(built).fingerprint == load_model("procedural").fingerprint
    assert run("model", "export", built, exported, "--seed", 3)[0] == 0
    mesh = trimesh.load_mesh(exported, process=False)
    assert len(mesh.faces) == len(load_model("procedural").triangles)
    assert 120 < np.ptp(mesh.vertices[:, 0]) < 220  # millimetres: the breadth of a face


def test_info_names_every_profile(run: Callable) -> None:
    code, text, _ = run("info")
    assert code == 0
    for word in ("smoke", "laptop", "paper", "torch", "device"):
        assert word in text


# -- bad input -----------------------------------------------------------------------------------


def hdf5_without_bfm(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["something"] = np.zeros(3)
    return path


def micrometres(path: Path) -> Path:
    write_bfm(path, load_model("procedural"))
    with h5py.File(path, "r+") as file:
        file["shape/model/mean"][...] *= 1000
    return path


def text_file(path: Path) -> Path:
    path.write_text("not a model\n")
    return path


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("gone.h5", lambda path: path, "gone.h5"),
        ("text.h5", text_file, "HDF5"),
        ("empty.h5", hdf5_without_bfm, "shape/"),
        ("micro.h5", micrometres, "mm"),
    ],
)
def test_bad_model_files(
    tmp_path: Path, run: Callable, name: str, make: Callable, says: str
) -> None:
    path = make(tmp_path / name)
    for command in (
        ("model", "info", path),
        ("model", "export", path, tmp_path / "out.ply"),
        ("generate", "-o", tmp_path / "data", "--model", path, "--profile", "smoke"),
        ("run", "--chapters", "1", "-p", f"model={path}", "--output", tmp_path / "out"),
    ):
        code, _, err = run(*command)
        assert code == 2, command
        assert says in one_line(err)
        assert name in err
    assert not (tmp_path / "out.ply").exists()


def ply(path: Path, vertices: str, faces: str) -> Path:
    n, m = len(vertices.splitlines()), len(faces.splitlines())
    path.write_text(
        f"ply\nformat ascii 1.0\nelement vertex {n}\nproperty float x\nproperty float y\n"
        f"property float z\nelement face {m}\nproperty list uchar int vertex_indices\nend_header\n"
        + "".join(f"{line}\n" for line in (*vertices.splitlines(), *faces.splitlines()))
    )
    return path


TRIANGLE = "0 0 0.3\n0.01 0 0.3\n0 0.01 0.3"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path, "not found"),
        (lambda path: ply(path, "", ""), "0 vertices"),
        (lambda path: ply(path, TRIANGLE.replace("0.01 0 ", "nan 0 "), "3 0 1 2"), "finite"),
        (lambda path: ply(path, TRIANGLE, "3 0 1 7"), "7"),
        (lambda path: ply(path, TRIANGLE.replace("0.3", "-0.3"), "3 0 1 2"), "z"),
        (lambda path: ball(path, scale=1e3), "--units mm"),
    ],
    ids=["missing", "empty", "nan", "index out of range", "behind the radar", "millimetres"],
)
def test_bad_meshes(tmp_path: Path, run: Callable, make: Callable, says: str) -> None:
    path = make(tmp_path / "scene.ply")
    for command, output in (("simulate", "out.npy"), ("render", "out.h5")):
        code, _, err = run(command, path, "-o", tmp_path / output)
        assert code == 2
        assert says in one_line(err)
        assert "scene.ply" in err
        assert not (tmp_path / output).exists()


@pytest.mark.parametrize(
    ("signal", "says"),
    [
        (np.zeros((94, 94, 64), np.complex64), "(94, 94, 128)"),
        (np.zeros((94, 94, 128), np.float32), "complex"),
        (np.full((94, 94, 128), np.nan, np.complex64), "finite"),
    ],
    ids=["shape", "dtype", "nan"],
)
def test_bad_recordings(tmp_path: Path, run: Callable, signal: np.ndarray, says: str) -> None:
    path = tmp_path / "recording.npy"
    np.save(path, signal)
    for command, output in (("image", "out.h5"), ("reconstruct", "out.ply")):
        code, _, err = run(command, path, "-o", tmp_path / output)
        assert code == 2
        assert says in one_line(err)
        assert "recording.npy" in err
        assert not (tmp_path / output).exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--profile", "huge"), "smoke, laptop, paper"),
        (("run", "--chapters", "1-99"), "99"),
        (("run", "-p", "pixles=64"), "pixles"),
        (("run", "-p", "pixels=many"), "pixels"),
        (("run", "-p", "pixels"), "NAME=VALUE"),
        (("generate", "-o", "data", "-p", "nothing=1"), "nothing"),
        (("generate", "-o", "data", "--workers", 1, "--scheduler", "tcp://x"), "both"),
        (("evaluate", "--data", "gone", "-o", "r.json"), "gone"),
    ],
)
def test_bad_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable, arguments: tuple, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*arguments)
    assert code == 2
    assert says in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_debug_keeps_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["radarbook", "--debug", "model", "info", "gone.h5"])
    with pytest.raises(ValueError, match=r"gone\.h5"):
        cli.main()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch",), "No such command 'nosuch'; radarbook --help"),
        (("--nosuch",), "--nosuch"),
        (("simulate",), "radarbook simulate --help"),
        (("simulate", "m.ply", "-o", "a.npy", "--units", "furlong"), "'furlong'"),
        (("render", "m.ply", "-o", "a.h5", "--material", 2), "--material"),
        (("model", "nosuch"), "'nosuch'; radarbook model --help"),
    ],
)
def test_wrong_arguments_are_one_line(
    run: Callable, arguments: tuple[object, ...], words: str
) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in one_line(err)


def test_a_group_without_a_command_shows_its_help(run: Callable) -> None:
    code, out, err = run("model")
    assert code == 2
    assert "convert-ict" in out + err
