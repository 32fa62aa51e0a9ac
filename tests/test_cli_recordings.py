"""Recordings on the command line: what the tool writes it reads, and what a user is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh

from radarbook.datasets.recordings import Recording, read_recording, write_recording
from radarbook.radar.array import qar50
from radarbook.radar.image import load_image
from radarbook.radar.volume import load_volume
from radarbook.radar.waveform import qar50_waveform
from tests.datasets.test_recording_checks import conjugated, head
from tests.test_cli import ball, one_line

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--pixels", 8, "--extent", 0.1)


def small(frequencies: int = 24) -> Recording:
    """The echo of a head, of as many frequencies as simulate and image use in these tests."""
    return head(0.28, frequencies)


@pytest.mark.parametrize("name", ["s.npy", "s.H5"])
def test_image_reads_what_simulate_writes(tmp_path: Path, run: Run, name: str) -> None:
    mesh, signal, image = ball(tmp_path / "ball.ply"), tmp_path / name, tmp_path / "i.h5"
    code, out, err = run("simulate", mesh, "--frequencies", 24, "-o", signal)
    assert (code, err) == (0, "")
    beside = tmp_path / "s.frequencies.json"
    assert beside.exists() == name.lower().endswith(".npy")
    assert (f"; frequencies in {beside}" in out) == beside.exists()
    recording = read_recording(signal)
    assert torch.equal(recording.waveform.frequencies, qar50_waveform(24).frequencies)
    assert recording.notes == ()
    code, _, err = run("image", signal, "-o", image, "--pixels", 40, "--extent", 0.1)
    assert (code, err) == (0, "")
    picture = load_image(image)
    row, column = divmod(int(picture.amplitude_db.argmax()), 40)
    x, y = picture.x[column].double(), picture.y[row].double()
    surface = 0.35 - (0.05**2 - x**2 - y**2).sqrt()
    assert abs(float(picture.depth[0, row, column] - surface)) < 1e-3


@pytest.mark.parametrize("name", ["s", "s.mat", "s.npz", "s.json"])
def test_other_names_of_a_signal_are_refused_before_the_simulation(
    tmp_path: Path, run: Run, name: str
) -> None:
    # The mesh is not even there.
    code, _, err = run("simulate", tmp_path / "gone.ply", "-o", tmp_path / name)
    assert code == 2
    assert "expected a name ending in .npy, .h5 or .hdf5" in one_line(err)
    assert list(tmp_path.iterdir()) == []


def test_frequencies_of_a_foreign_npy_are_stated(tmp_path: Path, run: Run) -> None:
    signal, image = tmp_path / "s.npy", tmp_path / "i.h5"
    np.save(signal, small().signal.numpy())
    for command in (("image",), ("reconstruct",)):
        output = image if command == ("image",) else tmp_path / "f.ply"
        code, _, err = run(*command, signal, "-o", output)
        assert code == 2
        assert "--frequencies START STOP COUNT" in one_line(err)
        code, _, err = run(*command, signal, "-o", output, "--frequencies", 72, 82, 24)
        assert code == 2
        assert "found 72 to 82, likely in GHz" in one_line(err)
        code, _, err = run(*command, signal, "-o", output, "--frequencies", 82, 72, 24)
        assert code == 2
        assert "expected START < STOP" in one_line(err)
        assert not output.exists()
    given = ("--frequencies", 72, 82, 24, "--frequency-unit", "GHz")
    code, _, err = run("image", signal, "-o", image, *SMALL, *given)
    assert (code, err) == (0, "")
    write_recording(tmp_path / "same.h5", small())
    assert run("image", tmp_path / "same.h5", "-o", tmp_path / "same_image.h5", *SMALL)[0] == 0
    a, b = load_image(image), load_image(tmp_path / "same_image.h5")
    assert torch.equal(a.amplitude_db, b.amplitude_db)


def test_units_of_a_foreign_file(tmp_path: Path, run: Run) -> None:
    path, image, plain = tmp_path / "s.h5", tmp_path / "i.h5", tmp_path / "plain.h5"
    write_recording(path, small())
    assert run("image", path, "-o", plain, *SMALL)[0] == 0
    with h5py.File(path, "r+") as file:
        for name, factor in (("tx", 1e3), ("rx", 1e3), ("frequency", 1e-9)):
            file[name][...] *= factor
            del file[name].attrs["unit"]
    code, _, err = run("image", path, "-o", image, *SMALL)
    assert code == 2
    assert "--frequency-unit GHz" in one_line(err)
    code, _, err = run("image", path, "-o", image, *SMALL, "--frequency-unit", "GHz")
    assert code == 2
    assert "--units mm" in one_line(err)
    assert not image.exists()
    units = ("--frequency-unit", "GHz", "--units", "mm")
    assert run("image", path, "-o", image, *SMALL, *units)[0] == 0
    a, b = load_image(image).amplitude_db, load_image(plain).amplitude_db
    assert float((a - b).abs().max()) < 1e-2  # dB; mm and GHz round the last bit


def test_faults_are_notes_one_line_each(tmp_path: Path, run: Run) -> None:
    sound = head(0.28)
    signal = conjugated(sound).signal.clone()
    signal[5] = 0
    path, image = tmp_path / "s.npy", tmp_path / "i.h5"
    np.save(path, signal.numpy())
    code, _, err = run("image", path, "-o", image, *SMALL)
    assert code == 0
    lines = err.splitlines()
    assert all(line.startswith("note: ") for line in lines)
    assert "1 of 94 receivers is dead" in lines[0]
    assert "I and Q are likely swapped; --conjugate" in lines[1]
    assert "the strongest echo is at -0." in lines[2]
    assert len(lines) == 3
    code, _, err = run("image", path, "-o", image, *SMALL, "--conjugate")
    assert code == 0
    assert "receiver" in one_line(err)


@pytest.mark.parametrize("depth", [(0.2, "inf"), ("nan", 0.4), (230, 470), (0.4, 0.2), (0, 0.4)])
def test_depths_that_are_none_are_refused(
    tmp_path: Path, run: Run, depth: tuple[object, object]
) -> None:
    path, image = tmp_path / "s.h5", tmp_path / "i.h5"
    write_recording(path, small())
    code, _, err = run("image", path, "-o", image, *SMALL, "--depth", *depth)
    assert code == 2
    assert "--depth: expected 0 < NEAR < FAR metres" in one_line(err)
    assert not image.exists()


def test_zeros_are_refused(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "s.npy"
    np.save(path, np.zeros((94, 94, 128), np.complex64))
    for command, output in (("image", "i.h5"), ("reconstruct", "f.ply")):
        code, _, err = run(command, path, "-o", tmp_path / output)
        assert code == 2
        assert "s.npy: expected a signal, found zeros only" in one_line(err)
        assert not (tmp_path / output).exists()


def test_a_target_outside_the_depths_is_said(tmp_path: Path, run: Run) -> None:
    write_recording(tmp_path / "s.h5", Recording(head(0.8).signal, qar50(), qar50_waveform()))
    code, _, err = run("image", tmp_path / "s.h5", "-o", tmp_path / "i.h5", *SMALL)
    assert code == 0
    assert "outside the depths 0.23 to 0.47 m" in one_line(err)
    assert "--depth NEAR FAR" in err
    depth = ("--depth", 0.75, 1.0)
    code, _, err = run("image", tmp_path / "s.h5", "-o", tmp_path / "i.h5", *SMALL, *depth)
    assert (code, err) == (0, "")


def test_options_of_a_recording_are_refused_with_an_image(tmp_path: Path, run: Run) -> None:
    write_recording(tmp_path / "s.h5", small())
    image, face = tmp_path / "i.h5", tmp_path / "f.ply"
    assert run("image", tmp_path / "s.h5", "-o", image, *SMALL)[0] == 0
    for option in (
        ("--conjugate",),
        ("--units", "mm"),
        ("--frequencies", 72e9, 82e9, 24),
        ("--describe", "radar.toml"),
        ("--coupling", 0.1),
        ("--background", "mean"),
    ):
        code, _, err = run("reconstruct", image, "-o", face, "--through", "learned", *option)
        assert code == 2
        assert f"{option[0]}: expected with a recording, found the image" in one_line(err)
    assert not face.exists()


def test_image_writes_volume_points_and_projections(tmp_path: Path, run: Run) -> None:
    """All of one ball: the strongest voxel, the strongest point and the image's peak are the same
    place."""
    mesh, signal = ball(tmp_path / "ball.ply"), tmp_path / "s.npy"
    assert run("simulate", mesh, "--frequencies", 24, "-o", signal)[0] == 0
    names = "i.h5", "v.h5", "p.ply", "v.png", "i.png"
    image, volume, points, views, picture = (tmp_path / name for name in names)
    code, out, err = run(
        "image", signal, "-o", image, "--pixels", 20, "--extent", 0.1, "--volume", volume,
        "--points", points, "--projections", views, "--png", picture,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert all(f"wrote {path}" in out for path in (image, volume, points, views, picture))
    values, grid = load_volume(volume)
    z, y, x = np.unravel_index(int(values.abs().argmax()), grid.shape)
    cloud = trimesh.load(points)
    level = np.ravel(cloud.metadata["_ply_raw"]["vertex"]["data"]["amplitude_db"])
    place = [float(grid.x[x]), float(grid.y[y]), float(grid.z[z])]
    np.testing.assert_allclose(cloud.vertices[level.argmax()], place, atol=1e-6)
    assert level.min() >= -20
    assert views.read_bytes()[:4] == b"\x89PNG"
    code, _, err = run("image", signal, "-o", image, "--points", tmp_path / "p.obj")
    assert code == 2
    assert "--points" in err
