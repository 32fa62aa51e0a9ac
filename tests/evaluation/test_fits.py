"""The table of fits through physics is that of the files."""

import json
from pathlib import Path

import pytest

from radarbook.errors import InputError
from radarbook.evaluation.fits import fit_rows


def _write(folder: Path, name: str, ends: list[float], **more: int) -> None:
    faces = [
        {"start_mm": 4.0, "end_mm": end, "seconds": 50 + i} | more for i, end in enumerate(ends)
    ]
    text = json.dumps({"settings": {"model": "ict_face"}, "faces": faces})
    (folder / name).write_text(text)


def test_rows_are_medians_and_quantiles_of_the_faces(tmp_path: Path) -> None:
    _write(tmp_path, "fitting_fuller_ict.json", [0.1, 0.3, 2.0], inside_90=14, coefficients=20)
    _write(tmp_path, "fitting_same_ict.json", [0.1])
    (tmp_path / "laptop_ict.json").write_text("{}")
    same, fuller = fit_rows(tmp_path)
    assert same == ["ict", "same", "1", "4.00", "0.10", "0.10", "–", "50"]
    # Nine tenths: 0.8 of the way from the second of three to the third.
    assert fuller == ["ict", "fuller", "3", "4.00", "0.30", "1.66", "70%", "51"]


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fitting_same_x.json").write_text('{"faces": []}')
    with pytest.raises(InputError, match=r"fitting_same_x.json: expected the figures of"):
        fit_rows(tmp_path)
    assert fit_rows(tmp_path / "nothing") == []
