"""Many recordings, each fitted once: kept, resumed, skipped, by workers; their table and page."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radarbook.batch import folder as batch
from radarbook.batch.folder import FolderReport, reconstruct_folder
from radarbook.batch.page import write_report
from radarbook.datasets.recordings import Recording, read_recording, write_recording
from radarbook.errors import InputError
from radarbook.faces.bfm import write_bfm
from radarbook.faces.mesh import read_mesh
from radarbook.fitting import frames, tuned
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.reconstruction import reconstruct
from radarbook.fitting.schedule import REFINE
from tests.conftest import Run
from tests.fitting.scenes import dome, face, renderer

#: Two steps of a real fit, and its last stage, whose objective judges the face.
SHORT = (replace(REFINE[0], steps=2), replace(REFINE[3], steps=1))
#: From where the domes are: the search for them is no matter of a folder. Single precision, from
#: which a resumed fit is the same bit for bit.
START = face().to(dtype=torch.float32)
OPTIONS: dict[str, Any] = {"schedule": SHORT, "start": START, "bounces": 1, "progress": False}
HEIGHTS = (0.5, -0.5)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of domes, one of them in a folder below, and two files that are damaged."""
    folder = tmp_path_factory.mktemp("night")
    model = renderer(32)
    for path, height in zip(("first.h5", "second.h5"), HEIGHTS, strict=True):
        with torch.no_grad():
            recorded = model.signal(face((height, 0.2)).to(dtype=torch.float32))[0]
        whole = Recording(recorded, model.array, model.waveform)
        write_recording(folder / path, whole.thinned(32, 1024, 32))
    (folder / "torn.h5").write_bytes(b"torn")
    np.save(folder / "wrong.npy", np.ones((3, 4), np.complex64))
    return folder


@pytest.fixture(scope="module")
def done(night: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FolderReport, list[str]]:
    lines: list[str] = []
    output = tmp_path_factory.mktemp("done") / "faces"
    return reconstruct_folder(night, dome(), output, skipping=lines.append, **OPTIONS), lines


def kept_json(folder: Path) -> dict[str, dict[str, Any]]:
    """What was kept of each recording, without what a clock decides."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    for one in found.values():
        one["face"].pop("seconds")
        one["face"].pop("text")
        one["face"].pop("reason")
    return found


def test_each_recording_is_fitted_and_damaged_ones_are_named(
    done: tuple[FolderReport, list[str]], night: Path
) -> None:
    report, lines = done
    assert list(report.faces) == ["first", "second"]
    assert (report.made, report.kept) == (2, 0)
    assert [path.name for path in report.skipped] == ["torn.h5", "wrong.npy"]
    assert len(lines) == 2
    for line, name in zip(lines, ("torn.h5", "wrong.npy"), strict=True):
        assert line.startswith(f"{night / name}: ")
        assert "\n" not in line
    # What is kept is what a fit of that recording alone finds.
    options = {name: value for name, value in OPTIONS.items() if name != "progress"}
    alone = reconstruct(read_recording(night / "second.h5"), dome(), **options)
    second = report.faces["second"]
    assert second.residual == alone.verdict.residual
    assert second.value("shape 1") == float(alone.parameters.shape[0, 0])
    assert second.value("yaw") == pytest.approx(float(alone.parameters.rotation[0, 0].rad2deg()))
    mesh = read_mesh(report.files("second").path(".ply"), "mm")
    assert np.allclose(1e3 * mesh.vertices, alone.vertices().numpy(), atol=1e-4)
    if alone.uncertainty is not None:
        (z,) = (one for one in second.parameters if one.name == "z")
        column = alone.uncertainty.columns.tolist().index(2 + 1 + 2)
        # A normalised unit is 50 mm.
        stated = 50 * float(alone.uncertainty.deviations()[column])
        assert z.deviation == pytest.approx(stated)


def test_the_same_command_fits_nothing_again(
    done: tuple[FolderReport, list[str]], night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(batch, "fit_one", refused)
    report = done[0]
    again = reconstruct_folder(night, dome(), report.folder, **OPTIONS)
    assert (again.made, again.kept) == (0, 2)
    assert again.faces == report.faces


def test_what_changed_is_fitted_again(
    done: tuple[FolderReport, list[str]],
    night: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "fit_one", lambda recording, *_: "not today")

    def waits(output: Path, **options: Any) -> list[str]:
        report = reconstruct_folder(night, dome(), output, **OPTIONS | options)
        return [path.stem for path, why in report.skipped.items() if why == "not today"]

    output = tmp_path / "faces"
    subprocess.run(["cp", "-r", done[0].folder, output], check=True)
    assert waits(output) == []
    assert waits(output, noise=0.01) == ["first", "second"]
    assert waits(output, read=lambda path: read_recording(path).without_delay(1e-11)) == [
        "first",
        "second",
    ]
    (output / "second.face.png").unlink()
    assert waits(output) == ["second"]
    (output / "first.json").write_text("{")
    assert waits(output) == ["first", "second"]
    monkeypatch.setattr(batch, "source_digest", lambda *_: "other")
    assert waits(done[0].folder) == ["first", "second"]
    # A refused fit replaces nothing.
    assert (done[0].folder / "first.json").exists()


def test_table_and_page(done: tuple[FolderReport, list[str]]) -> None:
    report = done[0]
    table, page = write_report(report)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == ["first", "second", "torn", "wrong"]
    assert rows[2]["status"] == rows[3]["status"] == "skipped"
    first = report.faces["first"]
    assert float(rows[0]["shape 1 (σ)"]) == pytest.approx(first.value("shape 1"), rel=1e-5)
    assert float(rows[0]["residual"]) == pytest.approx(first.residual, rel=1e-5)
    text = page.read_text()
    assert text.count("<section") == 2
    assert text.count("data:image/png;base64,") == 4
    assert "torn.h5" in text
    # Nothing is loaded from elsewhere, and nothing runs.
    without = re.sub(r'"data:image/png;base64,[^"]*"', '""', text)
    assert not re.search(r"https?://|<script|<link|url\(|@import", without)


def test_names_of_results_differ(tmp_path: Path) -> None:
    day = [tmp_path / "a" / "one.npy", tmp_path / "b" / "one.npy", tmp_path / "b" / "two.npy"]
    assert list(batch._named(day[1:])) == ["one", "two"]
    assert list(batch._named([tmp_path / "x.npy", tmp_path / "x.h5"])) == ["x.npy", "x.h5"]
    names = list(batch._named(day))
    assert len(set(names)) == 3
    assert names[0].endswith("a_one.npy")


def test_an_interrupted_fit_is_resumed_within_a_recording(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: Any
) -> None:
    output = tmp_path / "faces"

    def interrupted(*_: Any) -> torch.Tensor:
        raise KeyboardInterrupt

    source = night / "first.h5"
    with monkeypatch.context() as during:
        # At the beginning of the second stage.
        during.setattr(PhaseObjective, "jacobian", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reconstruct_folder(source, dome(), output, **OPTIONS)
    (state,) = output.glob(".first.*.state")
    assert not (output / "first.json").exists()
    resumed: list[int] = []
    whole = batch.reconstruct

    def watched(*arguments: Any, **options: Any) -> Any:
        result = whole(*arguments, **options)
        resumed.append(result.fit.resumed)
        return result

    monkeypatch.setattr(batch, "reconstruct", watched)
    reconstruct_folder(source, dome(), output, **OPTIONS)
    assert resumed[0] > 0
    assert not state.exists()
    found, wanted = kept_json(output)["first"], kept_json(done[0].folder)["first"]
    assert found["face"] == wanted["face"]


def test_workers_find_the_same_faces_after_a_kill(night: Path, tmp_path: Path, done: Any) -> None:
    """The first of two processes is killed when one recording is finished."""
    output, script = tmp_path / "faces", tmp_path / "run.py"
    script.write_text(
        "from tests.batch.test_folder import OPTIONS, dome, reconstruct_folder\n"
        "if __name__ == '__main__':\n"
        f"    reconstruct_folder({str(night)!r}, dome(), {str(output)!r}, workers=1, **OPTIONS)\n"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (output / "first.json").exists():
        assert run.poll() is None, "ended before its first recording"
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    report = reconstruct_folder(night, dome(), output, **OPTIONS)
    assert report.kept >= 1
    assert report.made + report.kept == 2
    assert kept_json(output) == kept_json(done[0].folder)


@pytest.fixture
def run(run: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(batch, "reconstruct", partial(reconstruct, schedule=SHORT, start=START))
    monkeypatch.setattr(tuned, "BOUNCES", 1)
    return partial(run, "reconstruct")


def test_the_command(
    night: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bfm(tmp_path / "dome.h5", dome())
    output = tmp_path / "faces"
    common = ("--model", tmp_path / "dome.h5", "--modes", 2, 1, "-o", output)
    code, out, err = run(night, *common)
    assert code == 1
    assert f"skipped: {night / 'torn.h5'}: " in err
    assert "| first |" in out
    assert f"{output}: 2 fitted, 0 were there, " in out
    assert (output / "report.html").exists()
    code, out, _ = run("--each", night / "first.h5", night / "second.h5", *common)
    assert code == 0
    assert f"{output}: 0 fitted, 2 were there, " in out
    # As frames of one person, which they are not: the shape is common, whatever that leaves.
    monkeypatch.setattr(frames, "_uncertainties", lambda *_: [])
    monkeypatch.setattr(frames, "agreeing", lambda *_: [True, True])
    code, out, _ = run("--frames", night / "first.h5", night / "second.h5", *common)
    assert code == 0
    assert "2 frames of one shape, " in out
    with open(output / "together" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == ["first", "second"]
    assert rows[0]["shape 1 (σ)"] == rows[1]["shape 1 (σ)"]
    assert rows[0]["expression 1 (σ)"] != rows[1]["expression 1 (σ)"]
    assert {path.name for path in (output / "together").glob("*.ply")} == {
        "first.ply", "second.ply", "identity.ply",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("first.h5", "--workers", 2, "-o", "out"), "--workers: expected with --each or a folder"),
        ((".", "-o", "face.ply"), "--output face.ply: expected a folder for several faces"),
        (("--each", "first.h5", "-o", "out", "--state", "s"), "--state: expected one face"),
        (("--each", "first.h5", "-o", "out", "--through", "learned"), "--each: expected with"),
        (
            (".", "-o", "out", "--workers", 2, "--scheduler", "tcp://a:1"),
            "expected --workers or --scheduler, found both",
        ),
        (
            ("--frames", "first.h5", "-o", "out", "--fit-delay"),
            "--fit-delay: expected without --frames, found both",
        ),
        (("--each", "absent.npy", "-o", "out"), "skipped: absent.npy: no such file or folder"),
    ],
)
def test_what_does_not_fit_is_one_line(
    arguments: tuple[object, ...],
    says: str,
    night: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in night.glob("first.h5"):
        (tmp_path / path.name).symlink_to(path)
    code, _, err = run(*arguments)
    assert code == (1 if "skipped" in says else 2)
    assert says in err
    assert "Traceback" not in err


def test_an_unknown_option_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"options: expected some of .*noise.*, found 'nois'"):
        reconstruct_folder(tmp_path, dome(), tmp_path / "out", nois=0.1)
    with pytest.raises(InputError, match="expected recordings, found none"):
        reconstruct_folder([], dome(), tmp_path / "out")
