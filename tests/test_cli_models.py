"""Face models on the command line: what a file is, few modes, and models that are confused."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh

from radarbook import cli
from radarbook.faces.bfm import write_bfm
from radarbook.faces.model import load_model
from radarbook.faces.summary import published
from radarbook.profiles import get_profile, written_settings
from radarbook.radar.signal import write_signal
from radarbook.training.checkpoints import shipped
from tests.faces import bfm_file
from tests.fitting.scenes import dome, face, renderer
from tests.test_cli import one_line
from tests.test_pipeline import TINY


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["radarbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call


def rows(text: str) -> dict[str, str]:
    return {line[:13].strip(): line[14:] for line in text.splitlines()}


@pytest.fixture(scope="module")
def shape_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of two shape modes."""
    path = tmp_path_factory.mktemp("models") / "dome.h5"
    model = dome()
    write_bfm(path, replace(model, expression_modes=model.expression_modes[:0]))
    return path


# -- info ----------------------------------------------------------------------------------------


def test_info_of_a_small_file(tmp_path: Path, run: Callable) -> None:
    path = bfm_file.write(tmp_path / "small.h5")
    code, out, _ = run("model", "info", path)
    found = rows(out)
    assert code == 0
    assert found["kind"] == "no published Basel Face Model has so many vertices"
    assert found["units"] == "millimetres"
    assert found["surface"] == "330 cm²"
    # variances 400 / k² over 48 vertices
    assert found["shape"].startswith("standard deviations 2.89, 1.44, 0.96, 0.72, 0.58, … mm")
    assert found["shape"].endswith("all 6: 3.53 mm; the first 6 hold 100% of the variance")
    with h5py.File(path) as file:
        most = np.linalg.norm(file["expression/model/mean"][()].reshape(-1, 3), axis=1).max()
    assert found["expr. mean"].startswith(f"not zero, up to {most:.1f} mm")
    assert found["layout"] == "version 0.9; basis columns of length 1"
    assert found["reference"].endswith(f"up to {5 * 3**0.5:.1f} mm from the shape mean")


@pytest.mark.parametrize(
    ("vertices", "triangles", "name"),
    [
        (27657, 55040, "BFM 2019 face12"),
        (47439, 94464, "BFM 2019 bfm"),
        (58203, 116160, "BFM 2019 fullHead"),
        (28588, 56572, "BFM 2017 face12_nomouth"),
        (53149, 105694, "BFM 2017 bfm_nomouth"),
        (53490, 106466, "BFM 2009"),
        (27657, 55000, "as many vertices as BFM 2019 face12, but that has 55040 triangles"),
        (27656, 55040, "no published Basel Face Model has so many vertices"),
    ],
)
def test_published_variants(vertices: int, triangles: int, name: str) -> None:
    assert published(vertices, triangles) == name


def test_notes_go_to_the_error_stream(tmp_path: Path, run: Callable, shape_only: Path) -> None:
    code, out, err = run("model", "info", shape_only)
    assert code == 0
    assert "note" not in out
    assert "2 of shape, 0 of expression" in out
    assert err.startswith("note: dome.h5: ")
    path = bfm_file.write(tmp_path / "m.h5", lambda file: file.pop("expression"))
    code, _, err = run("model", "export", path, tmp_path / "m.ply", "--seed", 1)
    assert code == 0
    assert "note: m.h5: no expression group: a shape-only model" in err
    assert "note: m.h5: it holds 6 shape and 0 expression modes where 10 and 7 are usual" in err
    assert len(trimesh.load_mesh(tmp_path / "m.ply", process=False).vertices) == bfm_file.VERTICES


# -- few modes, from a dataset to a fit ----------------------------------------------------------


@pytest.fixture(scope="module")
def learned(shape_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset, networks and errors of a model of two shape modes."""
    from radarbook.pipeline import Pipeline

    folder = tmp_path_factory.mktemp("learned")
    pipeline = Pipeline("smoke", str(shape_only), folder, overrides=TINY)
    pipeline.get("results")
    return pipeline.folder("dataset")


def test_the_whole_pipeline_without_expressions(learned: Path) -> None:
    results = next(learned.parent.glob("results-*")) / "results.json"
    content = json.loads(results.read_text())["rows"]
    assert len(content) == 4
    for row in content:
        assert "l2_expression" not in row
        assert row["vertex_mm"] > 0
        assert row["regions_mm"] == {}


def test_evaluate_refuses_another_model_of_the_same_size(
    learned: Path, shape_only: Path, tmp_path: Path, run: Callable
) -> None:
    other = tmp_path / "other.h5"
    shutil.copy(shape_only, other)
    with h5py.File(other, "r+") as file:
        file["shape/model/pcaVariance"][...] *= 0.5
    common = ("evaluate", "--data", learned, "-o", tmp_path / "r.json")
    code, _, err = run(*common, "--model", other)
    assert code == 2
    assert "face model: the images are of the model" in err.splitlines()[-1]
    assert load_model(other).fingerprint in err
    assert not (tmp_path / "r.json").exists()

    weights = next(learned.parent.glob("encoder-both-*"))
    code, out, _ = run(*common, "--model", shape_only, "--network", weights)
    assert code == 0
    assert out.splitlines()[-1].split("|")[4].strip() == "–"  # no error of expressions


def test_generate_and_train_without_expressions(
    shape_only: Path, tmp_path: Path, run: Callable
) -> None:
    tiny = {name: value for name, value in TINY.items() if name != "inputs"}
    settings = ("--profile", "smoke", *shlex.split(written_settings(tiny)))
    data = tmp_path / "data"
    code, _, err = run("generate", "-o", data, "--model", shape_only, "--count", 6, *settings)
    assert code == 0
    assert "it holds 2 shape and 0 expression modes" in err
    command = ("train", "encoder", "--data", data, "-o", tmp_path / "e", *settings)
    assert run(*command, "--model", shape_only)[0] == 0
    # asked for by name, it is refused
    code, _, err = run(
        "generate", "-o", tmp_path / "more", "--model", shape_only, *settings, "-p", "n_shape=3"
    )
    assert code == 2
    assert "3 shape modes asked for, expected between 1 and the 2 it holds" in err


def test_a_fit_without_expressions(shape_only: Path, tmp_path: Path, run: Callable) -> None:
    model = load_model(shape_only)
    truth = face((0.5, -0.5)).to(dtype=torch.float32)
    truth = truth.replace(expression=truth.expression[:, :0])
    with torch.no_grad():
        signal = renderer(128, model=model).signal(truth)[0]
    write_signal(tmp_path / "s.npy", signal.numpy())
    output = tmp_path / "f.ply"
    command = ("reconstruct", tmp_path / "s.npy", "-o", output, "--model", shape_only)
    code, _, err = run(*command, "--optimize", 1, "--bounces", 1)
    assert code == 0, err
    assert "it holds 2 shape and 0 expression modes" in err
    assert len(trimesh.load_mesh(output, process=False).vertices) == model.n_vertices
    code, _, err = run(*command, "--modes", 2, 1)
    assert code == 2
    assert "1 expression modes asked for, expected the 0 it holds" in one_line(err)


def test_every_network_has_no_output_for_no_expressions() -> None:
    from radarbook.networks.encoder import Encoder

    encoder = Encoder("both", "paper", n_shape=2, n_expression=0, pixels=64).eval()
    assert not any("expression" in name for name in encoder.state_dict())


# -- the file of the procedural face -------------------------------------------------------------


def test_a_built_model_is_the_one_that_the_shipped_weights_know(
    tmp_path: Path, run: Callable
) -> None:
    assert run("model", "build", tmp_path / "m.h5")[0] == 0
    model = load_model(tmp_path / "m.h5")
    for kind in ("encoder", "renderer", "autoencoder"):
        shipped(kind, model=model)
    assert model.fingerprint == load_model("procedural").fingerprint
    profile = get_profile("smoke")
    assert profile.for_model(str(tmp_path / "m.h5")) == profile
