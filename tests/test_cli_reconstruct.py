"""``radarbook reconstruct`` through physics: taken up again, and behind a layer."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from radarbook.datasets.recordings import Recording, write_recording
from radarbook.faces.bfm import write_bfm
from radarbook.faces.mesh import read_mesh
from radarbook.fitting import checkpoint, reconstruction
from radarbook.fitting.objectives import PowerObjective
from radarbook.fitting.schedule import REFINE
from radarbook.radar.array import qar50
from radarbook.radar.calibration import Calibration
from radarbook.radar.layer import Layer
from radarbook.radar.signal import write_signal
from radarbook.radar.waveform import qar50_waveform
from tests.conftest import Run
from tests.fitting.scenes import aside, dome, face, renderer
from tests.test_cli import one_line

ACCEPTED = (
    r"face accepted: normalised residual power [0-9.]+ %, predicted from the fitted material "
    r"and the stated noise [0-9.]+ %\n"
)


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, with a schedule of six steps: a newcomer's takes minutes."""
    short = tuple(replace(REFINE[i], steps=steps) for i, steps in ((0, 3), (1, 2), (3, 1)))
    whole = reconstruction.reconstruct
    monkeypatch.setattr(reconstruction, "reconstruct", partial(whole, schedule=short))
    return partial(run, "reconstruct")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model file, and the recording of one of its faces, small ones both."""
    folder = tmp_path_factory.mktemp("recorded")
    write_bfm(folder / "dome.h5", dome())
    with torch.no_grad():
        signal = renderer(128).signal(face((0.5, -0.5)).to(dtype=torch.float32))[0]
    write_signal(folder / "signal.npy", signal.numpy())
    return folder / "dome.h5", folder / "signal.npy"


def test_a_fit_is_taken_up_again_until_it_is_finished(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, signal = recorded
    state, first, second = tmp_path / "fit.state", tmp_path / "1.ply", tmp_path / "2.ply"
    # A fit of six steps leaves a little more than its material predicts.
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1, "--noise", 0.05)
    code, out, _ = run(*common, "-o", tmp_path / "whole.ply")
    assert code == 0
    assert "steps in" in out
    # First whether the face is accepted; then its deviations, for the eye and in the file.
    assert re.match(ACCEPTED, out)
    # Six at most: a stage ends where a step gains nothing.
    whole = re.search(r"\n([4-6]) steps in [0-9]+ s: (not )?converged", out)
    assert whole
    mean, most = map(
        float, re.findall(r"vertex ([0-9.]+) mm on average, at most ([0-9.]+) mm", out)[0]
    )
    data = trimesh.load_mesh(tmp_path / "whole.ply", process=False).metadata["_ply_raw"]["vertex"]
    deviation = np.ravel(data["data"]["deviation"])
    assert len(deviation) == data["length"]
    assert (deviation.mean(), deviation.max()) == pytest.approx((mean, most), abs=0.006)

    code, out, _ = run(*common, "-o", first, "--optimize", 2, "--state", state)
    assert code == 0
    assert "resuming" not in out
    # Its residual is stated, and that it is not judged before the fit is finished.
    assert re.match(
        rf"2 steps in [0-9]+ s: stopped at the limit of steps; the same command resumes from "
        rf"{re.escape(str(state))}\nnormalised residual power [0-9.]+ %, predicted from the fitted "
        r"material and the stated noise [0-9.]+ %; not judged, since the fit is not finished\n",
        out,
    )
    assert "deviation" not in out
    assert first.exists()

    # Ctrl-C, in the middle of a step.
    steps = 0
    jacobian = PowerObjective.jacobian

    def interrupted(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return jacobian(*arguments)

    with monkeypatch.context() as during:
        during.setattr(PowerObjective, "jacobian", interrupted)
        code, out, _ = run(*common, "-o", first, "--state", state)
    assert code == 0
    assert f"resuming from {state}\n2 steps in " in out
    assert f", 2 of them before: interrupted; the same command resumes from {state}" in out

    code, out, _ = run(*common, "-o", second, "--state", state)
    assert code == 0
    assert f"resuming from {state}" in out
    assert ", 2 of them before: " in out
    # As if it had never been interrupted.
    found = read_mesh(second, "mm").vertices
    assert np.array_equal(found, read_mesh(tmp_path / "whole.ply", "mm").vertices)
    assert not np.array_equal(found, read_mesh(first, "mm").vertices)

    again = tmp_path / "again.ply"
    code, out, _ = run(*common, "-o", again, "--state", state)
    assert code == 0
    assert re.search(
        rf"{whole[1]} of them before: {re.escape(str(state))} was finished; (not )?conv", out
    )
    assert np.array_equal(read_mesh(again, "mm").vertices, found)

    # The state is of two and one mode.
    code, _, err = run(*common[:3], "--modes", 1, 1, "-o", tmp_path / "other.ply", "--state", state)
    assert code == 2
    assert "the state of another fit: model: expected" in one_line(err)
    # And of a fit that includes second reflections.
    other = ("-o", tmp_path / "other.ply", "--state", state)
    assert run(*common, *other, "--bounces", 2)[0] == 0
    (tmp_path / "other.ply").unlink()
    code, _, err = run(*common, *other, "--bounces", 1)
    assert code == 2
    assert "the state of another fit: bounces: expected 1" in one_line(err)
    assert not (tmp_path / "other.ply").exists()


def test_a_full_disk_under_the_state_does_not_cost_the_face(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, signal = recorded
    state, path = tmp_path / "fit.state", tmp_path / "face.ply"

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(state))

    monkeypatch.setattr(checkpoint, "save_fit", full)
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1, "--optimize", 1)
    code, out, err = run(*common, "-o", path, "--state", state)
    assert code == 0
    assert f"its state could not be kept in {state}" in out
    assert "the same command resumes" not in out
    said = f"radarbook: {state}: No space left on device: the state could not be kept; the fit"
    assert err.count(said) == 1
    assert path.exists()
    assert not state.exists()


def test_displacements_are_further_modes_of_the_fitted_model(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    """A state names the model that it is of: with displacements it is another one."""
    model, signal = recorded
    state = tmp_path / "fit.state"
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1, "--optimize", 1)
    common = (*common, "-o", tmp_path / "face.ply", "--state", state)
    code, _, err = run(*common, "--displacements")
    assert code == 0, err
    assert state.exists()
    code, _, err = run(*common)
    assert code == 2
    assert str(state) in err


def test_what_is_no_state_is_one_clear_line(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, signal = recorded
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1, "-o", tmp_path / "f.ply")
    cut = tmp_path / "cut.state"
    cut.write_bytes(b"half")
    for state, says in (
        (cut, "cut.state: expected a whole safetensors file"),
        (tmp_path, "a folder"),
    ):
        code, _, err = run(*common, "--state", state)
        assert code == 2
        assert says in one_line(err)
    code, _, err = run(*common, "--state", cut, "--through", "learned")
    assert code == 2
    assert "--state: expected with --through physical" in one_line(err)
    assert not (tmp_path / "f.ply").exists()


def test_a_described_recording_is_the_same_fit(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    """In another order of axes, conjugated, with antennas in a table in mm: by options, and by a
    description; and with a calibration that removes nothing."""
    model, signal = recorded
    array, delay = qar50(), 0.2e-9
    rows = [
        ",".join(["antenna", "x", "y", "z"]),
        *(f"{n},{','.join(map(repr, p))}" for n, side in (("tx", array.tx), ("rx", array.rx))
          for p in (1e3 * side).tolist()),
    ]  # fmt: skip
    (tmp_path / "array.csv").write_text("\n".join(rows))
    f = qar50_waveform(128).frequencies
    late = np.load(signal) * np.exp(-2j * np.pi * f.numpy() * delay)
    np.save(tmp_path / "other.npy", late.transpose(2, 1, 0).conj())
    Calibration(delay, torch.ones(94, 94, dtype=torch.complex128)).save(tmp_path / "c.h5")
    (tmp_path / "radar.toml").write_text(
        f"""
        [signal]
        axes = "f, tx, rx"
        conjugate = true
        [frequencies]
        start = {float(f[0])!r}
        stop = {float(f[-1])!r}
        [antennas]
        file = "array.csv"
        unit = "mm"
        """
    )
    common = ("--model", model, "--modes", 2, 1, "-o", tmp_path / "face.ply", "--optimize", 0)
    stated = ("--array", tmp_path / "array.csv", "--units", "mm", "--order", "f,tx,rx")
    stated = (*stated, "--frequencies", float(f[0]), float(f[-1]), 128, "--conjugate")
    told = []
    for source, how in (
        (signal, ()),
        (tmp_path / "other.npy", stated),
        (tmp_path / "other.npy", ("--describe", tmp_path / "radar.toml")),
    ):
        more = ("--calibration", tmp_path / "c.h5") if how else ()
        code, out, err = run(source, *common, *how, *more)
        assert code == 0, err
        told.append([float(n) for n in re.findall(r"[-+0-9.]+(?= %| mm | degrees)", out)])
    # A delay is removed in single precision, 1e-7 of each sample: the last digit printed.
    assert told[1] == pytest.approx(told[0], abs=0.11)
    assert told[2] == pytest.approx(told[0], abs=0.11)


BLANKET = Layer(0.25, 3e-3, 1.6 - 0.03j)
OPTION = ("--layer", 0.25, 3e-3, "1.6-0.03j")


@pytest.fixture(scope="module")
def covered(recorded: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same face's recording behind a blanket; smooth, so that it tells what layer it is."""
    path = tmp_path_factory.mktemp("covered") / "signal.npy"
    smooth = face((0.5, -0.5), material=0.0).to(dtype=torch.float32)
    with torch.no_grad():
        signal = renderer(128, BLANKET).signal(smooth)[0]
    write_signal(path, signal.numpy())
    return path


def _depth(out: str) -> float:
    """mm, of the translation that a fit prints."""
    return float(out.split("translation")[1].split()[2])


def test_a_fit_behind_a_blanket_knows_it(
    recorded: tuple[Path, Path], covered: Path, tmp_path: Path, run: Run
) -> None:
    """Ignored, the blanket puts the face back by its delay, (sqrt(1.6) - 1) 3 mm = 0.8 mm."""
    common = (covered, "--model", recorded[0], "--modes", 2, 1, "-o", tmp_path / "face.ply")
    code, ignored, _ = run(*common)
    assert code == 0
    code, known, _ = run(*common, *OPTION)
    assert code == 0
    assert abs(_depth(known)) < 0.11
    assert _depth(ignored) - _depth(known) == pytest.approx(0.8, abs=0.15)


def test_a_layer_is_fitted(
    recorded: tuple[Path, Path], covered: Path, tmp_path: Path, run: Run
) -> None:
    common = (covered, "--model", recorded[0], "--modes", 2, 1, "-o", tmp_path / "face.ply")
    code, out, _ = run(*common, "--layer", 0.25, 2e-3, "1.7-0.03j", "--thickest", 5e-3)
    assert code == 0
    found = re.search(
        r"\nlayer ([0-9.]+) mm thick, permittivity ([0-9.]+)-[0-9.]+j, of [0-9]+ tried; "
        r"it delays by ([0-9.]+) mm\n(equally likely: a thickness of [0-9., ]+ mm\n)?",
        out,
    )
    assert found is not None
    thick, permittivity, delay = map(float, found.groups()[:3])
    assert thick == pytest.approx(3.0, abs=0.2)
    assert permittivity == pytest.approx(1.6, abs=0.08)
    assert delay == pytest.approx(BLANKET.delay(qar50_waveform(128)) * 1e3, abs=0.1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--layer", 0.25, 3e-3, "cotton"), "--layer: expected a permittivity such as"),
        (("--layer", 0.25, -1, "1.5"), "layer thickness: expected metres ≥ 0"),
        (("--layer", 0.35, 3e-3, "1.5"), "layer: expected in front of the face"),
        (("--thickest", 5e-3), "thickest: expected together with a layer"),
        ((*OPTION, "--thickest", -1), "thickest: expected metres above 0, found -1"),
        ((*OPTION, "--thickest", "nan"), "thickest: expected metres above 0, found nan"),
        ((*OPTION, "--thickest", 5), "thickest: expected a layer in front of the face, at most"),
        ((*OPTION, "--thickest", 5e-3, "--fit-delay"), "fit of a delay: expected a layer whose"),
        (("--delay", 30), "delay: expected seconds between"),
        (("--delay", 1e-10, "--through", "learned"), "--delay: expected with --through physical"),
        (("--fit-delay", "--through", "learned"), "--fit-delay: expected with --through physical"),
        (
            ("--displacements", "--through", "learned"),
            "--displacements: expected with --through physical",
        ),
        (("--strict", "--through", "learned"), "--strict: expected with --through physical"),
        ((*OPTION, "--through", "learned"), "--layer: expected with --through physical"),
        (("--bounces", 2, "--through", "learned"), "--bounces: expected with --through physical"),
        (
            ("--polarisation", "horizontal", "--through", "learned"),
            "--polarisation: expected with --through physical",
        ),
        (("--channels", "--through", "learned"), "--channels: expected with --through physical"),
        (("--through", "learned"), "--modes: expected with --through physical"),
        (("--encoder", "a.safetensors"), "--encoder: expected with --through learned"),
        (("--renderer", "a.safetensors"), "--renderer: expected with --through learned"),
        (("--no-face-gate",), "--face-gate: expected with --through learned"),
    ],
)
def test_what_cannot_be_between_or_counted_is_refused(
    options: tuple[Any, ...],
    expected: str,
    recorded: tuple[Path, Path],
    covered: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    output = tmp_path / "face.ply"
    code, _, err = run(covered, "--model", recorded[0], "--modes", 2, 1, "-o", output, *options)
    assert code != 0
    assert expected in one_line(err)
    assert not output.exists()


def test_a_delay_is_removed_first(recorded: tuple[Path, Path], tmp_path: Path, run: Run) -> None:
    """30 mm of cable are 0.1 ns: left in, the face lies 15 mm too far back."""
    model, signal = recorded
    whole = np.load(signal)
    phase = 2 * np.pi * qar50_waveform(128).frequencies.numpy() * 1e-10
    write_signal(tmp_path / "late.npy", (whole * np.exp(-1j * phase)).astype(np.complex64))
    common = ("--model", model, "--modes", 2, 1, "-o", tmp_path / "face.ply")
    code, plain, _ = run(signal, *common)
    assert code == 0
    code, removed, _ = run(tmp_path / "late.npy", *common, "--delay", 1e-10)
    assert code == 0
    assert "\ndelay of 0.1000 ns removed: +15.0 mm of range\n" in removed
    assert _depth(removed) == pytest.approx(_depth(plain), abs=0.11)


def test_strict_refuses_a_face_that_is_not_accepted(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, signal = recorded
    common = ("--model", model, "--modes", 2, 1, "-o", tmp_path / "face.ply")
    # The phases of two thirds of the receivers are wrong: no face explains it, by a wide margin (a
    # half leaves an excess of 0.60, which is the limit).
    broken = np.load(signal)
    wrong = np.arange(len(broken)) % 3 > 0
    broken[wrong] *= np.exp(1j * np.arange(wrong.sum()) ** 2)[:, None, None]
    write_signal(tmp_path / "broken.npy", broken.astype(np.complex64))
    code, out, _ = run(tmp_path / "broken.npy", *common)
    assert code == 0
    assert out.startswith("no face found: the residual is too high")
    assert "\nnot accepted: no deviation is stated\n" in out
    assert "deviation of each vertex" not in out
    vertex = trimesh.load_mesh(tmp_path / "face.ply", process=False).metadata["_ply_raw"]["vertex"]
    assert "deviation" not in vertex["properties"]
    (tmp_path / "face.ply").unlink()
    code, _, err = run(tmp_path / "broken.npy", *common, "--strict")
    assert code == 1
    assert "radarbook: --strict: no face found: the residual is too high" in one_line(err)
    code, _, err = run(signal, *common, "--optimize", 0, "--strict")
    assert code == 1
    assert "not accepted: 0 steps in 0 s: stopped at the limit of steps" in one_line(err)
    assert not (tmp_path / "face.ply").exists()
    code, out, _ = run(signal, *common, "--strict", "--noise", 0.05)
    assert code == 0
    assert re.match(ACCEPTED, out)
    assert (tmp_path / "face.ply").exists()


def test_recordings_of_several_arrays_are_fitted_together(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    """Their poses are in the files; a file without one may be an oversight."""
    model, single = recorded
    face_of = face((0.5, -0.5))
    files = []
    for number, degrees in enumerate((-20, 20)):
        moved = renderer(64).replace(array=aside(degrees))
        with torch.no_grad():
            signal = (1 + 2j * number) * moved.signal(face_of.to(dtype=torch.float32))[0]
        files.append(tmp_path / f"{number}.h5")
        write_recording(files[-1], Recording(signal, moved.array, moved.waveform))
    common = "--model", model, "--modes", 2, 1, "--noise", 0.05, "-o", tmp_path / "face.ply"
    code, out, err = run(*files, *common)
    assert code == 0
    assert "2 recordings were fitted together" in out
    assert "one pose" not in err
    truth = dome().vertices(face_of.shape.float(), face_of.expression.float())[0]
    found = read_mesh(tmp_path / "face.ply", "mm").vertices
    assert float(np.linalg.norm(found - 1e-3 * truth.numpy(), axis=1).mean()) < 2e-4
    code, out, err = run(single, single, *common, "--optimize", 0)
    assert code == 0
    assert "note: recordings of one pose are fitted as several shots" in err
    code, out, err = run(*files, *common, "--through", "learned")
    assert code == 2
    assert "expected one file with --through learned, found 2" in one_line(err)
    code, out, err = run(*files, *common, "--fit-delay")
    assert code == 2
    assert "fit of a delay: expected one recording, found 2" in one_line(err)
