"""radarbook campaign: what it writes and refuses; takes cost nothing here."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from radarbook.datasets.campaign import folder
from radarbook.datasets.recordings import Recording
from radarbook.radar.array import qar50
from radarbook.radar.image import RadarImage
from radarbook.radar.waveform import qar50_waveform
from tests.conftest import Run


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(campaign: object, cast: object, *name: object) -> Recording:
        return Recording(torch.full((94, 94, 2), 1j), qar50(), qar50_waveform(2))

    def picture(recording: Recording, profile: object) -> RadarImage:
        stream = torch.Generator().manual_seed(0)
        depth = 0.3 + 0.05 * torch.rand(1, 64, 64, generator=stream)
        axis, level = torch.linspace(-0.15, 0.15, 64), torch.full((1, 64, 64), -10.0)
        return RadarImage(level, depth, depth > 0, axis, axis, torch.tensor([-20.0]))

    monkeypatch.setattr(folder, "record", fake)
    monkeypatch.setattr(folder, "take_image", picture)


@pytest.fixture
def run(run: Run) -> Run:
    return partial(run, "campaign")


def test_it_makes_predictions_and_tables(tmp_path: Path, run: Run) -> None:
    target, results = tmp_path / "campaign", tmp_path / "campaign.json"
    given = ("-o", target, "--subjects", 2, "--takes", 1, "--results", results)
    code, out, _ = run(*given)
    assert code == 0
    assert "14 takes made, 0 were there" in out
    # Equal images say nothing of who it is.
    assert "| autoencoder | head rest |" in out
    found = json.loads(results.read_text())
    assert len(found["takes"]) == 14
    assert set(found["coefficients"]) == {
        "truth",
        "encoder",
        "encoder, gate",
        "autoencoder",
        "autoencoder, gate",
    }
    code, out, _ = run(*given)
    assert (code, "0 takes made, 14 were there" in out) == (0, True)


def test_bad_input_is_one_line(tmp_path: Path, run: Run) -> None:
    code, _, err = run("-o", tmp_path / "c", "--results", tmp_path / "c.txt")
    assert (code, err.count("\n")) == (2, 1)
    assert "--results" in err
    assert not (tmp_path / "c").exists()
    code, _, err = run("-o", tmp_path / "c", "--network", tmp_path / "none")
    assert (code, err.count("\n")) == (2, 1)
    assert "no such file" in err
