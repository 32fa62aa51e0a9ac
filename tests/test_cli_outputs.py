"""What commands write: targets that would destroy something, or cannot be written, are refused."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from radarbook import cli
from radarbook.cli import fit
from radarbook.errors import InputError
from radarbook.faces.bfm import write_bfm
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.acceptance import Verdict
from radarbook.fitting.checkpoint import FitFile
from radarbook.fitting.descend import FitState
from radarbook.fitting.reconstruction import Reconstruction
from radarbook.radar.waveform import qar50_waveform
from radarbook.targets import Target, check_targets, same_file
from tests.conftest import Run
from tests.disks import as_ordinary_user, fill, small_disk
from tests.test_cli import ball, one_line
from tests.test_files import names
from tests.test_files import shared_folder as shared_folder


def content(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(run: Run, folder: Path, *arguments: object) -> str:
    """The one line of a command that changes nothing under ``folder``."""
    before = content(folder)
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert content(folder) == before
    return one_line(err)


@pytest.fixture
def signal(tmp_path: Path) -> Path:
    path = tmp_path / "rec.npy"
    np.save(path, np.ones((94, 94, 128), np.complex64))
    return path


# -- outputs and inputs --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["same", "relative", "link", "hard link", "folder link"])
def test_an_input_is_never_overwritten(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "in").mkdir()
    mesh = ball(tmp_path / "in" / "face.ply")
    monkeypatch.chdir(tmp_path)
    other = {
        "same": mesh,
        "relative": Path("in") / ".." / "in" / "face.ply",
        "link": tmp_path / "link.ply",
        "hard link": tmp_path / "hard.ply",
        "folder link": tmp_path / "there" / "face.ply",
    }[way]
    (tmp_path / "link.ply").symlink_to(mesh)
    os.link(mesh, tmp_path / "hard.ply")
    (tmp_path / "there").symlink_to("in")
    # A mesh under the name of a signal: the suffix does not tell them apart.
    named = mesh.rename(tmp_path / "in" / "face.npy") if way == "same" else mesh
    target = named if way == "same" else other
    if way == "same":
        says = refused(run, tmp_path, "simulate", named, "-o", target)
        assert f"--output {target}: would overwrite {named}, which is read (MESH)" in says
    else:
        with pytest.raises(InputError, match=r"would overwrite .*, which is read"):
            check_targets({"--output": Target(target)}, {"MESH": mesh})


def test_every_command_refuses_its_inputs(tmp_path: Path, run: Run, signal: Path) -> None:
    model = tmp_path / "model.h5"
    write_bfm(model, load_model("procedural"))
    weights = tmp_path / "weights.json"
    weights.write_text("{}")
    mesh = ball(tmp_path / "m.ply")
    for name, target in {"rec.h5": signal, "model.ply": model, "face.npy": mesh}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "objects" / "FaceXModel").mkdir(parents=True)
    neutral = tmp_path / "objects" / "FaceXModel" / "generic_neutral_mesh.obj"
    neutral.write_text("v 0 0 0\n")
    (tmp_path / "ict.h5").symlink_to(neutral)
    data = tmp_path / "data"
    data.mkdir()
    (data / "dataset.json").write_text("{}")
    for arguments in (
        ("image", signal, "-o", tmp_path / "rec.h5"),
        ("simulate", mesh, "-o", tmp_path / "face.npy"),
        ("model", "export", model, tmp_path / "model.ply"),
        ("model", "convert-ict", tmp_path / "objects", tmp_path / "ict.h5"),
        ("reconstruct", signal, "--model", model, "-o", tmp_path / "model.ply"),
        ("reconstruct", signal, "-o", tmp_path / "f.ply", "--state", signal),
        ("evaluate", "--data", data, "-o", data / "dataset.json"),
        ("evaluate", "--data", data, "--network", weights, "-o", weights),
    ):
        assert "would overwrite" in refused(run, tmp_path, *arguments), arguments


def test_weights_that_are_read_are_not_trained_over(tmp_path: Path, run: Run) -> None:
    data, before = tmp_path / "data", tmp_path / "encoder"
    data.mkdir()
    before.mkdir()
    (before / "weights.safetensors").write_bytes(b"weights")
    for kind in ("encoder", "renderer"):
        says = refused(run, tmp_path, "train", kind, "--data", data, "-o", data)
        assert "expected another folder than that of the dataset" in says
    common = ("train", "autoencoder", "--data", data, "--encoder", before, "--renderer", before)
    assert "would overwrite" in refused(run, tmp_path, *common, "-o", before)


def test_a_recording_and_what_lies_beside_it(tmp_path: Path, run: Run) -> None:
    radar = tmp_path / "object" / "30" / "radar_72.0_82.0_128"
    (radar / "calibrated_data").mkdir(parents=True)
    (radar / "depth").mkdir()
    np.save(radar / "calibrated_data" / "000000.npy", np.ones((94, 94, 128), np.complex64))
    depth = radar / "depth" / "000000.png"
    depth.write_bytes(b"picture")
    for source in (tmp_path / "object" / "30", radar / "calibrated_data" / "000000.npy"):
        common = ("image", source, "-o", tmp_path / "a.h5", "--png")
        assert f"would overwrite {depth}" in refused(run, tmp_path, *common, depth)


def test_outputs_differ_from_each_other(tmp_path: Path, run: Run, signal: Path) -> None:
    (tmp_path / "a.h5").symlink_to("a.png")
    says = refused(
        run, tmp_path, "image", signal, "-o", tmp_path / "a.h5", "--png", tmp_path / "a.png"
    )
    assert f"--png {tmp_path / 'a.png'}: the same file as --output" in says
    face = tmp_path / "f.ply"
    says = refused(run, tmp_path, "reconstruct", signal, "-o", face, "--state", face)
    assert f"--state {face}: the same file as --output" in says
    void = Path(os.devnull)
    check_targets({"--output": Target(void, (".h5",)), "--png": Target(void, (".png",))})


def test_names_that_differ_in_case_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from radarbook import targets

    assert not same_file(tmp_path / "a.h5", tmp_path / "A.h5")
    monkeypatch.setattr(targets, "_ignores_case", lambda folder: folder == tmp_path)
    assert same_file(tmp_path / "a.h5", tmp_path / "A.h5")


def test_a_project_and_a_folder_of_the_users_are_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radarbook.book.build import build_book
    from radarbook.book.chapters import find_root
    from radarbook.book.execute import run_notebooks

    with pytest.raises(InputError, match="expected another folder than the project's own"):
        run_notebooks("1", "smoke", output=find_root())
    mine = tmp_path / "book" / "source" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("years of work")
    with pytest.raises(InputError, match="expected what an earlier build left"):
        build_book(tmp_path)
    assert mine.exists()


# -- what cannot be written ----------------------------------------------------------------------


def test_targets_of_the_wrong_kind(tmp_path: Path, run: Run, signal: Path) -> None:
    (tmp_path / "folder.ply").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    (tmp_path / "far.ply").symlink_to(tmp_path / "unmounted" / "f.ply")
    mesh = ball(tmp_path / "m.ply")
    fit = ("reconstruct", signal, "-o")
    for arguments, says in (
        ((*fit, tmp_path / "folder.ply"), "expected a file, found a folder"),
        ((*fit, ""), "expected a file, found a folder"),
        ((*fit, tmp_path / "f.npy"), "ending in .ply or .obj or .stl, found '.npy'"),
        ((*fit, tmp_path / "file" / "f.ply"), f"a folder at {tmp_path}/file, found a file"),
        ((*fit, tmp_path / "one"), "Too many levels of symbolic links"),
        ((*fit, tmp_path / "one" / "f.ply"), "Too many levels of symbolic links"),
        ((*fit, tmp_path / "far.ply"), "where it links to"),
        ((*fit, tmp_path / ("x" * 252 + ".ply")), "File name too long"),
        ((*fit, tmp_path / "f.ply", "--state", tmp_path / "folder.ply"), "found a folder"),
        (("image", signal, "-o", tmp_path / "a.npy"), "ending in .h5 or .hdf5, found '.npy'"),
        (("image", signal, "-o", tmp_path / "a.h5", "--png", tmp_path / "a.jpg"), "'.jpg'"),
        (("render", mesh, "-o", tmp_path / "a"), "ending in .h5 or .hdf5, found 'a'"),
        (
            ("simulate", mesh, "-o", tmp_path / "a.ply"),
            "ending in .npy, .h5 or .hdf5 for a signal, found '.ply'",
        ),
        (("model", "build", tmp_path / "a.ply"), "ending in .h5 or .hdf5, found '.ply'"),
        (("model", "export", "procedural", tmp_path / "a.txt"), "found '.txt'"),
        (("generate", "-o", tmp_path / "file", "--count", 1), "expected a folder, found a file"),
        (("run", "--output", tmp_path / "file"), "expected a folder, found a file"),
        (("results", "--output", tmp_path / "file"), "expected a folder, found a file"),
        (("book", "build", "--output", tmp_path / "file"), "expected a folder, found a file"),
        (("book", "build", "--profile", "nosuch"), "unknown profile 'nosuch'"),
        (("evaluate", "--data", tmp_path, "-o", tmp_path / "a.csv"), "ending in .json"),
        (("train", "encoder", "--data", tmp_path, "-o", tmp_path / "file"), "found a file"),
    ):
        assert says in refused(run, tmp_path, *arguments), arguments


def test_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.npy")
        with pytest.raises(InputError, match="expected a file, found a socket"):
            check_targets({"--output": Target(Path("s.npy"), (".npy",))})


def test_places_that_cannot_be_written(shared_folder: Path) -> None:
    (shared_folder / "closed").mkdir(mode=0o555)
    old, mine = shared_folder / "closed" / "old.ply", shared_folder / "closed" / "mine.ply"
    for path, mode in ((old, 0o444), (mine, 0o666)):
        path.write_text("old")
        path.chmod(mode)

    def check() -> None:
        for path, says in (
            (old, "expected to be writable, found read-only"),
            (shared_folder / "closed" / "new.ply", "cannot be written: .*Permission denied"),
            (shared_folder / "closed" / "new" / "new.ply", "cannot be written: .*Permission"),
        ):
            with pytest.raises(InputError, match=f"--output {path}: {says}"):
                check_targets({"--output": Target(path)})
        # Overwritten in place.
        check_targets({"--output": Target(mine)})
        with pytest.raises(InputError, match=r"--output .*closed: cannot be written"):
            check_targets({"--output": Target(shared_folder / "closed", folder=True)})

    as_ordinary_user(check)
    assert old.read_text() == mine.read_text() == "old"
    (shared_folder / "closed").chmod(0o755)


def test_a_full_disk_is_noticed_before_the_work(tmp_path: Path, run: Run, signal: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        fill(disk)
        for option in ("-o", "--state"):
            others = () if option == "-o" else ("-o", tmp_path / "f.ply")
            says = refused(run, tmp_path, "reconstruct", signal, *others, option, disk / "f.ply")
            assert "cannot be written" in says
            assert "No space left on device" in says
        assert names(disk) == ["filler"]


def test_checking_leaves_nothing_behind(tmp_path: Path) -> None:
    check_targets({"-o": Target(tmp_path / "new" / "folder" / "a.h5", (".h5",))})
    check_targets({"-o": Target(tmp_path / "data", folder=True, files=("a", "b"))})
    assert names(tmp_path) == []


# -- what may be written -------------------------------------------------------------------------


def test_devices_pipes_and_standard_output(tmp_path: Path, run: Run) -> None:
    code, out, _ = run("model", "build", os.devnull)
    assert (code, out) == (0, f"wrote {os.devnull}\n")
    # Messages do not mix with what a pipeline gets.
    command = [sys.executable, "-m", "radarbook", "model", "export", "procedural", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "a.ply").write_bytes(done.stdout)
    assert len(trimesh.load_mesh(tmp_path / "a.ply").faces) == len(
        load_model("procedural").triangles
    )
    assert done.stderr.startswith(b"wrote /dev/stdout")
    assert run("model", "info", "procedural")[1].startswith("name")  # and later ones are as ever


def test_a_full_device_is_one_line(run: Run) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    code, _, err = run("model", "build", "/dev/full")
    assert code == 2
    assert one_line(err) == "radarbook: /dev/full: No space left on device\n"


def test_an_earlier_output_is_overwritten(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "folder with space" / "ünï\ncode.ply"
    for seed in ((), ("--seed", 3)):
        assert run("model", "export", "procedural", path, *seed)[0] == 0
    assert names(path.parent) == [path.name]


# -- results that must not be lost ---------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Fits that end at once; meanwhile something happens."""

    def install(meanwhile: Callable[[], None]) -> None:
        def fitted(*_: Any, **__: Any) -> Reconstruction:
            meanwhile()
            ended: Any = SimpleNamespace(
                stopped=False, steps=9, resumed=0, seconds=1.0, converged=torch.ones(1)
            )
            verdict = Verdict(residual=0.5, diffuse=0.1)
            face = FaceParameters.neutral(1)
            return Reconstruction(load_model("procedural"), face, ended, verdict, qar50_waveform())

        monkeypatch.setattr(fit, "_fit_physical", fitted)

    return install


def test_a_face_whose_folder_is_gone_is_written_elsewhere(
    tmp_path: Path, run: Run, signal: Path, quick: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def meanwhile() -> None:
        (tmp_path / "there").rmdir()
        (tmp_path / "there").write_text("a file now")

    quick(meanwhile)
    target = tmp_path / "there" / "face.ply"
    code, out, err = run("reconstruct", signal, "-o", target)
    assert code == 2
    assert one_line(err).endswith(f"written to {tmp_path / 'here' / 'face.ply'} instead\n")
    assert str(target) in err
    assert "translation" in out  # the pose is in no file
    assert "wrote" not in out
    assert len(trimesh.load_mesh(tmp_path / "here" / "face.ply").vertices) > 1000


def test_a_face_on_a_disk_that_is_full_by_then(
    tmp_path: Path, run: Run, signal: Path, quick: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with small_disk(tmp_path / "disk", 64) as disk:
        quick(lambda: fill(disk) and None)
        code, _, err = run("reconstruct", signal, "-o", disk / "face.ply")
        assert code == 2
        assert f"{disk}/face.ply: No space left on device; written to" in one_line(err)
        assert names(disk) == ["filler"]
    assert (tmp_path / "face.ply").exists()


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "fit.state")


def test_a_state_that_cannot_be_kept_does_not_end_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radarbook.fitting import checkpoint

    state = FitState.at(FaceParameters.neutral(1))
    kept = FitFile(tmp_path / "fit.state", {}, every=0)
    kept.keep(state)
    whole = kept.path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(checkpoint, "save_fit", full_disk)
        with pytest.warns(UserWarning, match="No space left on device: the state could not be"):
            kept.keep(state)
        kept.keep(state)  # said once
        assert kept.failed
    assert kept.path.read_bytes() == whole
    kept.keep(state)
    assert kept.failed is None


def test_a_table_is_shown_where_its_file_cannot_be_written(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from radarbook.datasets import storage
    from radarbook.evaluation import metrics
    from radarbook.reports import results

    class Samples:
        settings = {"n_shape": 2, "n_expression": 1}  # noqa: RUF012

    monkeypatch.setattr(storage, "FaceDataset", lambda *_, **__: Samples())
    monkeypatch.setattr(metrics, "baselines", lambda *_, **__: {"mean": {}, "random": {}})
    monkeypatch.setattr(results, "result_row", lambda name, *_, **__: {"name": name})
    monkeypatch.setattr(results, "markdown_table", lambda rows: f"{len(rows)} rows")
    monkeypatch.setattr(results, "write_results", full_disk)
    code, out, err = run("evaluate", "--data", tmp_path, "-o", tmp_path / "results.json")
    assert (code, out) == (2, "2 rows\n")
    assert "No space left on device" in one_line(err)


# -- other ends of a command ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (MemoryError(), 2, "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), 2, "memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), 2, "not enough memory"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "a\nb"), 2, "a b: Disk quota exceeded"),
        (KeyboardInterrupt(), 130, "radarbook: interrupted"),
    ],
)
def test_ends_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, says: str
) -> None:
    from radarbook.faces import bfm

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(bfm, "write_bfm", fail)
    code, _, err = run("model", "build", os.devnull)
    assert code == status
    assert says in one_line(err)


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from radarbook.faces import bfm

    def fail(*_: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(bfm, "write_bfm", fail)
    monkeypatch.setattr(sys, "argv", ["radarbook", "model", "build", os.devnull])
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main()


@pytest.mark.parametrize("name", ["pipe", "full"])
def test_an_output_that_takes_no_more(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """``radarbook info | head -1`` ends without a word; a full disk is said."""
    if name == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        if not Path("/dev/full").exists():
            pytest.skip("there is no /dev/full here")
        writer = os.open("/dev/full", os.O_WRONLY)
    before = sys.stdout
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", closefd=False))
    code, _, err = run("model", "info", "procedural")
    assert err == ("" if name == "pipe" else "radarbook: No space left on device\n")
    assert code == (1 if name == "pipe" else 2)
    monkeypatch.setattr(sys, "stdout", before)
    os.close(writer)
