"""Tables of fits of the referee's recordings grow over several runs and mix no settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import referee_fits
from radarbook.errors import InputError


def _row(path: Path, *_: Any) -> dict[str, Any]:
    number, variant = path.stem.split("_")
    return {
        "face": int(number), "variant": variant, "error_mm": 0.1 * (1 + int(number)), "seconds": 5,
        "accepted": True, "residual": 0.1, "inside_90": 15, "coefficients": 17,
        "vertices_inside_90": 0.9, "true_material": 0.2 * (1 + int(number)),
    }  # fmt: skip


def _folder(path: Path, faces: int, draw: str = "test") -> Path:
    path.mkdir(exist_ok=True)
    for number in range(faces):
        (path / f"{number:03d}.json").write_text(json.dumps({"settings": {"draw": draw}}))
        (path / f"{number:03d}_full.h5").write_bytes(b"")
    return path


def test_a_table_grows_and_refuses_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(referee_fits, "fit_recording", _row)
    table = tmp_path / "table.json"
    options = ["--json", str(table)]
    referee_fits.main([str(_folder(tmp_path / "one", 1)), *options])
    # A face that was fitted is not fitted again: its row is still this one.
    kept = json.loads(table.read_text())
    kept["rows"][0]["error_mm"] = 0.7
    table.write_text(json.dumps(kept))
    folder = str(_folder(tmp_path / "one", 3))
    referee_fits.main([folder, *options])
    found = json.loads(table.read_text())
    assert [row["error_mm"] for row in found["rows"]] == pytest.approx([0.7, 0.2, 0.3])
    assert found["summary"][0]["faces"] == 3
    assert found["summary"][0]["median_mm"] == pytest.approx(0.3)
    # Classes of material that have a face: 0.2, and 0.4 and 0.6.
    assert [(row["material"], row["faces"]) for row in found["summary"]] == [
        ("any", 3), ("middle", 1), ("rough", 2),
    ]  # fmt: skip
    assert found["summary"][0]["wrong"] == found["summary"][0]["wrong_accepted"] == 1
    before = table.read_bytes()
    other = str(_folder(tmp_path / "two", 5, draw="tuning"))
    for arguments, named in (
        ([other], "referee"),
        ([folder, "--without", "double"], "without"),
        ([folder, "--noise", "0.03"], "noise"),
    ):
        with pytest.raises(InputError, match=f"expected {named} .*, found"):
            referee_fits.main([*arguments, *options])
    assert table.read_bytes() == before
