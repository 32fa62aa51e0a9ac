"""Face models on the command line: what a file is, few modes, and models that are confused."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh
from torch import nn

from radarbook.errors import InputError
from radarbook.faces.bfm import write_bfm
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.summary import published
from radarbook.fitting import reconstruction
from radarbook.fitting.decimation import decimate
from radarbook.fitting.descend import descend
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.schedule import REFINE
from radarbook.fitting.uncertainty import uncertainty
from radarbook.networks import encoder as module
from radarbook.networks.channels import channel_names
from radarbook.pipeline import Pipeline
from radarbook.profiles import get_profile, written_settings
from radarbook.training.checkpoints import shipped
from tests.faces import bfm_file
from tests.fitting.scenes import dome, face, renderer
from tests.test_cli import one_line
from tests.test_pipeline import TINY


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
    # variances 400 / k² over 48 vertices
    assert found["shape"].startswith("standard deviations 2.89, 1.44, 0.96, 0.72, 0.58, … mm")
    assert found["shape"].endswith("all 6: 3.53 mm; the first 6 hold 100% of the variance")
    with h5py.File(path) as file:
        expression = file["expression/model/mean"][()].reshape(-1, 3)
        neutral = file["shape/model/mean"][()].reshape(-1, 3) + expression
    most = np.linalg.norm(expression, axis=1).max()
    area = trimesh.Trimesh(neutral, bfm_file.cap()[1], process=False).area
    assert found["surface"] == f"{area / 100:.0f} cm²"
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
    assert (code, err) == (0, "")
    assert "2 of shape, 0 of expression" in out
    path = bfm_file.write(tmp_path / "m.h5", lambda file: file.pop("expression"))
    code, out, err = run("model", "info", path)
    assert (code, "note" in out) == (0, False)
    assert "shape-only" in one_line(err)
    code, _, err = run("model", "export", path, tmp_path / "m.ply", "--seed", 1)
    assert code == 0
    assert "note: m.h5: no expression group: a shape-only model" in err
    assert (
        "note: m.h5: 6 shape and 0 expression modes are used, as it holds fewer than 10 + 7" in err
    )
    assert len(trimesh.load_mesh(tmp_path / "m.ply", process=False).vertices) == bfm_file.VERTICES


# -- few modes, from a dataset to a fit ----------------------------------------------------------


@pytest.fixture(scope="module")
def learned(shape_only: Path, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Dataset, networks and errors of a model of two shape modes."""
    folder = tmp_path_factory.mktemp("learned")
    pipeline = Pipeline("smoke", str(shape_only), folder, overrides=TINY)
    pipeline.get("results")
    return pipeline


def test_the_whole_pipeline_without_expressions(learned: Pipeline) -> None:
    results = learned.folder("results") / "results.json"
    content = json.loads(results.read_text())["rows"]
    assert len(content) == 4
    for row in content:
        assert "l2_expression" not in row
        assert row["vertex_mm"] > 0
        assert row["regions_mm"] == {}


def test_evaluate_refuses_another_model_of_the_same_size(
    learned: Pipeline, shape_only: Path, tmp_path: Path, run: Callable
) -> None:
    other = tmp_path / "other.h5"
    shutil.copy(shape_only, other)
    with h5py.File(other, "r+") as file:
        file["shape/model/pcaVariance"][...] *= 0.5
    data = next(path.parent for path in learned.folder("dataset").rglob("index.h5"))
    common = ("evaluate", "--data", data, "-o", tmp_path / "r.json")
    code, _, err = run(*common, "--model", other)
    assert code == 2
    assert "face model: the images are of the model" in err.splitlines()[-1]
    assert load_model(other).fingerprint in err
    assert not (tmp_path / "r.json").exists()

    weights = next(learned.folder("encoder/both").rglob("weights.safetensors"))
    code, out, _ = run(*common, "--model", shape_only, "--network", weights)
    assert code == 0
    cells = [line.split("|")[4].strip() for line in out.splitlines() if line.startswith("|")]
    assert cells == ["L2 expression", "---:", "–", "–", "–"]


def test_generate_without_expressions(shape_only: Path, tmp_path: Path, run: Callable) -> None:
    tiny = {name: value for name, value in TINY.items() if name != "inputs"}
    settings = ("--profile", "smoke", *shlex.split(written_settings(tiny)))
    command = ("generate", "-o", tmp_path / "data", "--model", shape_only, *settings)
    code, _, err = run(*command, "--dry-run")
    assert code == 0
    assert "2 shape and 0 expression modes are used, as it holds fewer" in err
    # asked for by name, it is refused
    code, _, err = run(*command, "-p", "n_shape=3")
    assert code == 2
    assert "3 shape modes asked for, expected between 1 and the 2 it holds" in err


def test_reconstruct_takes_the_modes_that_there_are(
    shape_only: Path, tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[MorphableModel] = []

    def only_asked(_: object, model: MorphableModel, **__: object) -> None:
        asked.append(model)
        raise InputError("enough")

    monkeypatch.setattr(reconstruction, "reconstruct", only_asked)
    np.save(tmp_path / "s.npy", np.ones((94, 94, 128), np.complex64))
    command = ("reconstruct", tmp_path / "s.npy", "-o", tmp_path / "f.ply", "--model", shape_only)
    code, _, err = run(*command)
    assert code == 2
    assert "2 shape and 0 expression modes are fitted, all that it holds" in err
    assert [(model.n_shape, model.n_expression) for model in asked] == [(2, 0)]
    code, _, err = run(*command, "--modes", 2, 1)
    assert code == 2
    assert "1 expression modes asked for, expected the 0 it holds" in one_line(err)


def test_reconstruct_fits_all_modes_of_a_model(
    tmp_path: Path, run: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def only_asked(_: object, model: MorphableModel, **__: object) -> None:
        asked.append((model.n_shape, model.n_expression))
        raise InputError("enough")

    monkeypatch.setattr(reconstruction, "reconstruct", only_asked)
    small = dome()
    x, y = (small.mean[:, :2] / small.mean[:, :2].abs().amax(0)).T
    powers = [x**i * y**j for i in range(4) for j in range(3)]
    many = torch.zeros(12, len(x), 3)
    many[:, :, 2] = 50 * torch.linalg.qr(torch.stack(powers, dim=1)).Q.T
    many /= torch.arange(1.0, 13.0)[:, None, None]
    write_bfm(tmp_path / "many.h5", replace(small, shape_modes=many))
    np.save(tmp_path / "s.npy", np.ones((94, 94, 128), np.complex64))
    given = ("reconstruct", tmp_path / "s.npy", "-o", tmp_path / "f.ply")
    given += ("--model", tmp_path / "many.h5")
    _, _, err = run(*given)
    assert "12 shape and 1 expression modes are fitted, all that it holds" in err
    run(*given, "--modes", 10, 1)
    assert asked == [(12, 1), (10, 1)]


def test_a_fit_without_expressions() -> None:
    """From half a deviation off back to the face, with a stated deviation of each vertex."""
    small = dome(10)
    model = replace(small, expression_modes=small.expression_modes[:0])
    physical = renderer(model=model)
    truth = face((0.5, -0.5), material=0.0)
    truth = truth.replace(expression=truth.expression[:, :0])
    with torch.no_grad():
        signal = physical.signal(truth.to(dtype=torch.float32))
    free = ("shape", "translation")
    plan = physical_plan(
        signal,
        physical,
        schedule=[replace(REFINE[-1], prior=1e-5, steps=2)],
        free=free,
        centres=torch.tensor([[0.0, 0.0, 0.31]]),
    )
    start = truth.replace(shape=truth.shape + 0.1)
    found = descend(plan.stages, start).parameters
    assert found.expression.shape == (1, 0)
    assert found.normalised().shape == (1, 2 + 0 + 9)
    assert (found.shape - truth.shape).abs().max() < 0.05
    objective = plan.stages[0].objective
    assert isinstance(objective, PhaseObjective)
    decimated = decimate(physical.array, physical.waveform)(signal)
    sure = uncertainty(objective, decimated, found, 1e-3, free=free, samples=6)
    deviation = sure.vertex_deviation(physical.model)
    assert deviation.shape == (physical.model.n_vertices,)
    assert 0 < float(deviation.max()) < 5


def test_the_papers_encoder_has_no_network_for_no_expressions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def linear(_: int, channels: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * 64 * 64, outputs))

    monkeypatch.setattr(module, "resnet", linear)
    encoder = module.Encoder("both", "paper", n_shape=2, n_expression=0).eval()
    assert not any("expression" in name for name in encoder.state_dict())
    channels = len(channel_names("both", paper=True))
    assert encoder(torch.zeros(1, channels, 64, 64)).shape == (1, 2 + 0 + 9)


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
    assert profile.for_modes(model.n_shape, model.n_expression) == profile
