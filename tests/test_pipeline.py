"""Stages: made once, read back, made again when something they depend on has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from radarbook import pipeline as module
from radarbook.errors import InputError
from radarbook.pipeline import Pipeline

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
    assert all(first.have(name) for name in first.names())
    assert len(first.get("dataset")["train"]) == 4
    assert len(first.history("encoder/both").rows) == 1

    def never(*_: object) -> None:
        raise AssertionError("made again")

    for name in ("generate_from_settings", "train_encoder", "train_renderer", "train_autoencoder"):
        monkeypatch.setattr(module, name, never)
    assert tiny(tmp_path).get("results") == rows


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


def test_a_change_of_source_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny(tmp_path).fingerprint("renderer")
    monkeypatch.setattr(module, "source_digest", lambda *rooms: "other source")
    assert tiny(tmp_path).fingerprint("renderer") != before


@pytest.mark.parametrize("name", ["networks", "encoder", "dataset/both", "encoder/colour"])
def test_unknown_artefacts(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name.split("/")[0]):
        tiny(tmp_path).get(name)
