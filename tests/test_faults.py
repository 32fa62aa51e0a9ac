"""The benchmark of faults: rows that can be paired, and a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import faults
from radarbook.datasets.recordings import Recording
from radarbook.radar.array import qar50
from radarbook.radar.image import RadarImage
from radarbook.radar.waveform import qar50_waveform


def test_rows_are_of_takes_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[tuple[object, ...]] = []

    def fake(campaign: object, cast: object, *name: object) -> Recording:
        made.append(name)
        return Recording(torch.full((94, 94, 2), 1j), qar50(), qar50_waveform(2))

    def picture(recording: Recording, profile: object) -> RadarImage:
        level, axis = torch.full((1, 64, 64), -10.0), torch.linspace(-0.15, 0.15, 64)
        return RadarImage(level, level / -30, level < 0, axis, axis, torch.tensor([-20.0]))

    monkeypatch.setattr(faults, "record", fake)
    monkeypatch.setattr(faults, "take_image", picture)
    monkeypatch.setattr(faults, "CONDITIONS", ("none", "blanket", "all"))
    given = ["--subjects", "2", "--json", str(tmp_path / "faults.json")]
    faults.main(given)
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert len(rows) == 2 * 3 * 4
    assert {row["expression"] for row in rows} == {"smile"}
    assert {row["subject"] for row in rows} == {"S01", "S02"}
    assert "| fault | encoder: error (mm) | added (mm) |" in capsys.readouterr().out
    count = len(made)
    faults.main(given)
    assert len(made) == count == 6


def test_a_condition_has_its_faults_alone() -> None:
    base = faults.base_campaign(4)
    assert base.covered(3, 0) is not None
    assert faults.campaign_of("all but the blanket", base).covered(3, 0) is None
    assert faults.campaign_of("all but the blanket", base).hair == base.hair
    assert faults.campaign_of("none", base) == base.clean()
