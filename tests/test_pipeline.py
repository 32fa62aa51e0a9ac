"""Stages: made once, read back, made again when something they depend on has changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import torch

from radarbook import pipeline as module
from radarbook.book.trained import trained
from radarbook.datasets.distribution import random_parameters
from radarbook.errors import InputError
from radarbook.evaluation.metrics import predict, vertex_distances
from radarbook.pipeline import Pipeline
from radarbook.profiles import get_profile, read_settings
from radarbook.reports.results import read_results
from radarbook.training.checkpoints import read_about, shipped_path

TINY = {
    "pixels": 16,
    "depth_planes": 4,
    "frequencies": 2,
    "train": 4,
    "validation": 2,
    "test": 2,
    "inputs": ("both",),
    "encoder_epochs": 1,
    "renderer_epochs": 1,
    "autoencoder_epochs": 1,
}


def tiny(folder: Path, **changes: object) -> Pipeline:
    return Pipeline("smoke", output=folder, overrides=TINY | changes)


def test_the_whole_road_then_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tiny(tmp_path)
    assert not first.have("results")
    rows = first.get("results")
    assert [row["method"] for row in rows] == [
        "baseline, mean face",
        "baseline, random face",
        "encoder",
        "autoencoder",
    ]
    assert {row["command"] for row in rows} == {first.command("3-5")}
    _, about = read_results(first.folder("results") / "results.json")
    assert about["recipe"] == "fast"
    assert about["epochs"] == {"encoder": 1, "renderer": 1, "autoencoder": 1}
    assert all(first.have(name) for name in first.names())
    assert len(first.get("dataset")["train"]) == 4
    assert len(first.history("encoder/both").rows) == 1

    def never(*_: object) -> None:
        raise AssertionError("made again")

    for name in ("generate_from_settings", "train_encoder", "train_renderer", "train_autoencoder"):
        monkeypatch.setattr(module, name, never)
    assert tiny(tmp_path).get("results") == rows


def test_several_processes_make_what_one_makes(tmp_path: Path) -> None:
    alone, shared = tiny(tmp_path / "alone"), tiny(tmp_path / "shared")
    torch.set_num_threads(1)  # as each of several processes has; another number rounds otherwise
    alone.prepare()
    shared.prepare(processes=2)
    assert all(shared.have(name) for name in shared.names())

    def figures(pipeline: Pipeline) -> list[dict[str, object]]:
        return [row | {"seconds": 0} for row in pipeline.get("results")]

    # To the last bit: a network's course does not depend on what else is trained.
    assert figures(shared) == figures(alone)


def test_an_error_in_another_process_is_raised(tmp_path: Path) -> None:
    missing = Pipeline("smoke", str(tmp_path / "no.h5"), tmp_path, overrides=TINY)
    with pytest.raises(InputError, match=r"no\.h5"):
        missing.prepare(processes=2)


def test_fingerprints_follow_what_a_stage_depends_on(tmp_path: Path) -> None:
    base = tiny(tmp_path)
    longer = tiny(tmp_path, encoder_epochs=2)
    finer = tiny(tmp_path, frequencies=3)
    # A schedule changes its own stage and those after it, not the data before it.
    assert longer.fingerprint("dataset") == base.fingerprint("dataset")
    assert longer.fingerprint("renderer") == base.fingerprint("renderer")
    for name in ("encoder/both", "autoencoder/both", "results"):
        assert longer.fingerprint(name) != base.fingerprint(name)
    # The physics changes everything.
    for name in base.names():
        assert finer.fingerprint(name) != base.fingerprint(name)
    seeded = Pipeline("smoke", output=tmp_path, seed=1, overrides=TINY)
    assert seeded.fingerprint("dataset") != base.fingerprint("dataset")


def test_the_command_says_all_that_differs_from_the_profile(tmp_path: Path) -> None:
    """And what it says is read back as the very same settings; paths stay at home."""
    assert Pipeline("laptop").command("3") == "radarbook run --profile laptop --chapters 3"
    changes = {"recipe": "paper", "encoder_rate": 1e-2, "inputs": ("depth", "both")}
    made = Pipeline(
        "laptop",
        str(tmp_path / "a face.h5"),
        seed=3,
        # as the profile has it, and what no artefact depends on: neither is said
        overrides=changes | {"train": 2000, "fit_steps": 7},
    )
    words = shlex.split(made.command("3-5"))
    assert words[:6] == ["radarbook", "run", "--profile", "laptop", "--chapters", "3-5"]
    assert words[6::2] == ["-p"] * (len(words[6:]) // 2)
    given = read_settings(words[7::2])
    assert given.pop("model") == "a face.h5"
    assert given.pop("seed") == "3"
    assert given.keys() == changes.keys()
    assert get_profile("laptop", given) == get_profile("laptop", changes)


def test_the_recipe_leaves_the_images_alone(tmp_path: Path) -> None:
    ours, theirs = tiny(tmp_path), tiny(tmp_path, recipe="paper", encoder_rate=1e-2)
    assert ours.folder("dataset") == theirs.folder("dataset")
    for name in ("encoder/both", "renderer", "autoencoder/both", "results"):
        assert ours.folder(name) != theirs.folder(name)


def test_inputs_are_read_from_a_command_line() -> None:
    assert get_profile("smoke", {"inputs": "both"}).inputs == ("both",)
    assert get_profile("smoke", {"inputs": "depth, both"}).inputs == ("depth", "both")
    with pytest.raises(InputError, match=r"'inputs\.1': .*found 'smell'"):
        get_profile("smoke", {"inputs": "both,smell"})
    with pytest.raises(InputError, match="'inputs'"):
        get_profile("smoke", {"inputs": ()})


def test_a_change_of_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny(tmp_path).fingerprint("renderer")
    monkeypatch.setattr(module, "source_digest", lambda *rooms: "other source")
    assert tiny(tmp_path).fingerprint("renderer") != before


@pytest.mark.parametrize("name", ["networks", "encoder", "dataset/both", "encoder/colour"])
def test_unknown_artefacts(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name.split("/")[0]):
        tiny(tmp_path).get(name)


def test_shipped_networks_see_the_first_test_faces_of_their_own_profile(tmp_path: Path) -> None:
    found = trained(tiny(tmp_path), faces=1)
    assert found.shipped
    assert (len(found.test), found.settings.pixels, found.inputs) == (1, 64, "both")
    first = random_parameters([0], 0)
    assert torch.equal(found.test.parameters.shape, first.shape)
    stated = read_about(shipped_path("encoder"))
    assert stated["command"] in str(found)
    # One face of 200 whose mean error and spread the file states: within four deviations.
    guess, truth = predict(found.encoder, found.test)
    error = float(vertex_distances(found.model, guess, truth).mean())
    test = stated["test"]
    assert abs(error - test["vertex_mm"]) < 4 * test["vertex_deviation_mm"]


def test_own_networks_are_evaluated_where_asked_and_for_another_number_of_modes(
    tmp_path: Path,
) -> None:
    for pipeline, source in (
        (tiny(tmp_path), "profile"),
        (tiny(tmp_path, n_shape=3), "shipped"),
    ):
        found = trained(pipeline, source)
        assert not found.shipped
        assert len(found.test) == TINY["test"]
        assert found.command == pipeline.command("3-5")


def test_a_pipeline_with_the_same_images_serves_as_it_is(tmp_path: Path) -> None:
    own = tiny(tmp_path)
    assert own.for_test_faces(own.profile, 2) is own
    assert own.for_test_faces(own.profile, 3).profile.test == 3
    other = own.for_test_faces(get_profile("laptop"), 2)
    assert (other.profile.pixels, other.profile.test, other.output) == (64, 2, own.output)
