"""``radarbook reconstruct --state``: a fit through physics that is taken up again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from radarbook import cli
from radarbook.faces.bfm import write_bfm
from radarbook.faces.mesh import read_mesh
from radarbook.fitting import reconstruct
from radarbook.fitting.reconstruct import NEAR
from radarbook.radar.signal import write_signal
from tests.fitting.scenes import dome, face, renderer
from tests.test_cli import one_line

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, with a schedule of five steps: a newcomer's takes minutes."""
    short = (replace(NEAR[0], steps=3), replace(NEAR[1], steps=2))
    whole = reconstruct.reconstruct_through_physics
    monkeypatch.setattr(reconstruct, "reconstruct_through_physics", partial(whole, schedule=short))

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["radarbook", "reconstruct", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


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
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1)
    code, out, _ = run(*common, "-o", tmp_path / "whole.ply")
    assert code == 0
    assert "steps in" in out

    code, out, _ = run(*common, "-o", first, "--optimize", 2, "--state", state)
    assert code == 0
    assert "going on" not in out
    assert f"stopped at --optimize's limit; the same command goes on from {state}" in out
    assert first.exists()

    # Ctrl-C, in the middle of a step.
    steps = 0
    jacobian = reconstruct.PowerObjective.jacobian

    def interrupted(*arguments: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise KeyboardInterrupt
        return jacobian(*arguments)

    with monkeypatch.context() as during:
        during.setattr(reconstruct.PowerObjective, "jacobian", interrupted)
        code, out, _ = run(*common, "-o", first, "--state", state)
    assert code == 0
    assert f"going on from {state}" in out
    assert f"interrupted; the same command goes on from {state}" in out

    code, out, _ = run(*common, "-o", second, "--state", state)
    assert code == 0
    assert f"going on from {state}" in out
    assert ", 2 of them before: " in out
    # As if it had never been interrupted.
    found = read_mesh(second, "mm").vertices
    assert np.array_equal(found, read_mesh(tmp_path / "whole.ply", "mm").vertices)
    assert not np.array_equal(found, read_mesh(first, "mm").vertices)

    again = tmp_path / "again.ply"
    code, out, _ = run(*common, "-o", again, "--state", state)
    assert code == 0
    assert f"{state} was finished, nothing is left to do but to write the face" in out
    assert np.array_equal(read_mesh(again, "mm").vertices, found)

    # The state is of two and one mode.
    code, _, err = run(*common[:3], "--modes", 1, 1, "-o", tmp_path / "other.ply", "--state", state)
    assert code == 2
    assert "the state of another fit: model: expected" in one_line(err)
    assert not (tmp_path / "other.ply").exists()


def test_what_is_no_state_is_one_clear_line(
    recorded: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    model, signal = recorded
    common: tuple[Any, ...] = (signal, "--model", model, "--modes", 2, 1, "-o", tmp_path / "f.ply")
    cut = tmp_path / "cut.state"
    cut.write_bytes(b"half")
    for state, says in ((cut, "cut.state: expected a safetensors file"), (tmp_path, "a folder")):
        code, _, err = run(*common, "--state", state)
        assert code == 2
        assert says in one_line(err)
    code, _, err = run(*common, "--state", cut, "--through", "learned")
    assert code == 2
    assert "--state: expected with --through physical" in one_line(err)
    assert not (tmp_path / "f.ply").exists()
