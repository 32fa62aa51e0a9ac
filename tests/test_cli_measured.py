"""Recordings of any radar on the command line: described, inspected, calibrated."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from radarbook.datasets.recordings import write_recording
from radarbook.radar.image import load_image
from tests.conftest import Run
from tests.datasets.test_described import FREQUENCIES, POINTS, product, write_antennas
from tests.datasets.test_recording_checks import head
from tests.test_cli import one_line

STATED = ("--array", "array.csv", "--units", "mm", "--frequencies", 62, 69, 7)
STATED = (*STATED, "--frequency-unit", "GHz")


def test_image_of_an_array_stated_by_options(tmp_path: Path, run: Run, monkeypatch) -> None:
    """The same picture as from our own layout, whatever the order of the axes."""
    monkeypatch.chdir(tmp_path)
    write_antennas(Path("array.csv"))
    np.save("s.npy", product().transpose(1, 0, 2).conj())
    small = ("--pixels", 8, "--extent", 0.1, "--depth", 0.28, 0.36)
    code, _, err = run(
        "image", "s.npy", *STATED, "--order", "tx,rx,f", "--conjugate", "-o", "a.h5", *small
    )
    assert code == 0, err
    from radarbook.datasets.recordings import describe_array, read_recording

    description = describe_array("array.csv", "rx, tx, f", (62e9, 69e9, 7), units="mm")
    np.save("t.npy", product())
    recording = read_recording("t.npy", description=description)
    write_recording("t.h5", recording)
    assert run("image", "t.h5", "-o", "b.h5", *small)[0] == 0
    first, second = load_image("a.h5"), load_image("b.h5")
    assert torch.equal(first.amplitude_db, second.amplitude_db)
    assert first.amplitude_db.std() > 1


def test_what_is_missing_is_named(tmp_path: Path, run: Run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_antennas(Path("array.csv"))
    np.save("s.npy", product())
    for left_out in ("--array", "--frequencies"):
        options = list(STATED)
        place = options.index(left_out)
        del options[place : place + (4 if left_out == "--frequencies" else 2)]
        code, _, err = run("image", "s.npy", *options, "--order", "rx,tx,f", "-o", "a.h5")
        assert code == 2
        assert f"{left_out}: expected together with" in one_line(err)
    code, _, err = run("image", "s.npy", *STATED, "--order", "rx,tx", "-o", "a.h5")
    assert code == 2
    assert "--order: signal.axes: expected an axis f" in one_line(err)
    code, _, err = run("image", "s.npy", *STATED, "--order", "tx,rx,f", "-o", "a.h5")
    assert code == 2
    assert "expected 5 antennas, the length of the axis rx in (rx 5," not in one_line(err)
    assert "antennas: expected" in one_line(err)
    code, _, err = run("image", "s.npy", "--describe", "gone.toml", "-o", "a.h5")
    assert code == 2
    assert "gone.toml: no such file" in one_line(err)
    code, _, err = run("image", "s.npy", "--describe", "array.csv", "-o", "a.h5", "--shot", "x")
    assert code == 2
    assert "array.csv: expected TOML" in one_line(err)
    assert not Path("a.h5").exists()


def test_a_plane_and_an_empty_scene(tmp_path: Path, run: Run, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_antennas(Path("array.csv"))
    room = np.random.default_rng(0).normal(size=(5, 4, 7)) * (3 + 1j)
    np.save("s.npy", product() + room)
    np.save("empty.npy", room)
    np.save("plain.npy", product())
    how = (*STATED, "--order", "rx,tx,f", "--plane", 0.3, "--extent", 0.1, "--pixels", 16)
    assert run("image", "s.npy", *how, "--background", "empty.npy", "-o", "a.h5")[0] == 0
    assert run("image", "plain.npy", *how, "-o", "b.h5")[0] == 0
    first, second = load_image("a.h5"), load_image("b.h5")
    assert bool((first.depth == np.float32(0.3)).all())
    # The room is rounded to single precision before it is subtracted.
    assert torch.allclose(first.amplitude_db, second.amplitude_db, atol=1e-4)


def test_a_folder_of_descriptions_has_one_for_each_recording(
    tmp_path: Path, run: Run, monkeypatch
) -> None:
    """Two arrays, each at its place; the empty scene has the description of the recording."""
    monkeypatch.chdir(tmp_path)
    write_antennas(Path("array.csv"))
    Path("poses").mkdir()
    text = '[signal]\naxes = "rx, tx, f"\n[frequencies]\nstart = 62\nstop = 69\nunit = "GHz"\n'
    text += '[antennas]\nfile = "array.csv"\nunit = "mm"\n[pose]\norigin = '
    for name, place in (("left", -0.5), ("right", 0.5)):
        np.save(f"{name}.npy", product())
        Path(f"poses/{name}.toml").write_text(f"{text}[{place}, 0, 0]\n")
    np.save("empty.npy", np.full((5, 4, 7), 1e-3 + 0j))
    for name, sign in (("left", "-"), ("right", "")):
        how = ("--describe", "poses", "--background", "empty.npy", "--stand-off", 0.3)
        code, out, err = run("recording", "info", f"{name}.npy", *how)
        assert (code, err) == (0, "")
        assert re.search(rf"mm: x {sign}[45]\d\d to {sign}[45]\d\d, ", out)
    code, _, err = run("recording", "info", "empty.npy", "--describe", "poses")
    assert code == 2
    assert "empty.toml: no such file" in one_line(err)


def test_info_says_what_is_there(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "s.h5"
    recording = head(0.28)
    recording = replace(recording, signal=recording.signal.clone())
    recording.signal[:, 7] = 0
    write_recording(path, recording)
    code, out, err = run("recording", "info", path, "--stand-off", 0.3)
    assert (code, err) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines() if line.startswith("note"))
    assert "1 of 94 transmitters is dead" in lines["note"]
    assert "(94, 94, 128) = (rx, tx, frequency)" in out
    assert "72 to 82 GHz, 128 steps of 78.74 MHz" in out
    assert "unambiguous range   1.9 m" in out
    assert "range resolution    15 mm, c/2B" in out
    # sinc is a half at ±0.6034: of λ over the sum of both sides' spread of sines.
    sines = 2 * (0.0705 / np.hypot(0.0705, 0.3) + 0.069 / np.hypot(0.069, 0.3))
    wanted = 1.207 * 299.792458 / 77 / sines
    found = float(out.split("resolution in x     ")[1].split(" mm")[0])
    assert abs(found / wanted - 1) < 0.03
    assert "peak power: right" in out
    nearest = float(out.split("range profile       ")[1].split(" m")[0])
    assert 0.27 < nearest < 0.42


def test_calibration_of_a_corner_is_applied(tmp_path: Path, run: Run, monkeypatch) -> None:
    """Delay and channel phases of one recording, taken out of another."""
    monkeypatch.chdir(tmp_path)
    write_antennas(Path("array.csv"))
    random = np.random.default_rng(1)
    error = np.exp(2j * np.pi * (random.uniform(size=(5, 1, 1)) + random.uniform(size=(1, 4, 1))))
    error = error * np.exp(-2j * np.pi * FREQUENCIES * 0.11e-9)
    from tests.datasets.test_described import RX, TX, measured

    monkeypatch.setattr("tests.datasets.test_described.POINTS", POINTS[:1])
    corner = measured(np.tile(TX, (5, 1)), np.repeat(RX, 4, 0), FREQUENCIES).reshape(5, 4, 7)
    np.save("corner.npy", corner * error)
    np.save("s.npy", product() * error)
    np.save("plain.npy", product())
    how = (*STATED, "--order", "rx,tx,f")
    code, out, err = run("calibrate", "corner.npy", *how, "--corner", *POINTS[0, :3], "-o", "c.h5")
    assert code == 0, err
    assert "delay            0.1100" in out
    small = ("--pixels", 16, "--extent", 0.1, "--depth", 0.26, 0.36)
    assert run("image", "s.npy", *how, *small, "--calibration", "c.h5", "-o", "a.h5")[0] == 0
    assert run("image", "plain.npy", *how, *small, "-o", "b.h5")[0] == 0
    first, second = load_image("a.h5"), load_image("b.h5")
    # Single precision, and a peak that is refined to 1e-6 of its width.
    assert torch.allclose(first.amplitude_db, second.amplitude_db, atol=0.01)
    code, _, err = run("calibrate", "corner.npy", *how, "-o", "d.h5")
    assert code == 2
    assert "--plate, --corner: expected one of them" in one_line(err)
