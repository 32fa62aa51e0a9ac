"""The tables of fits through physics are those of the files."""

import json
from pathlib import Path
from typing import Any

import pytest

from radarbook.errors import InputError
from radarbook.reports.fits import (
    cause_rows,
    fit_rows,
    found_layer_rows,
    frame_rows,
    layer_rows,
    method_rows,
    mode_means,
    outside_rows,
    referee_tables,
)


def _write(folder: Path, name: str, ends: list[float], **more: int) -> None:
    faces = [
        {"start_mm": 4.0, "end_mm": end, "seconds": 50 + i} | more for i, end in enumerate(ends)
    ]
    text = json.dumps({"settings": {"model": "ict_face"}, "faces": faces})
    (folder / name).write_text(text)


def test_rows_are_medians_and_quantiles_of_the_faces(tmp_path: Path) -> None:
    _write(tmp_path, "fitting_higher_ict.json", [0.1, 0.3, 2.0], inside_90=14, coefficients=20)
    _write(tmp_path, "fitting_same_ict.json", [0.1])
    (tmp_path / "laptop_ict.json").write_text("{}")
    same, higher = fit_rows(tmp_path)
    assert same == [
        "ict",
        "same, flat facets",
        "mean face",
        "1",
        "4.00",
        "0.10",
        "0.10",
        "–",
        "50",
        "one thread",
    ]
    # Nine tenths: 0.8 of the way from the second of three to the third.
    assert higher[:5] == ["ict", "higher fidelity, flat facets", "mean face", "3", "4.00"]
    assert higher[5:] == ["0.30", "1.66", "70%", "51", "one thread"]


def test_seconds_of_two_machines_are_not_mixed(tmp_path: Path) -> None:
    _write(tmp_path, "fitting_same_ict.json", [0.1, 0.2, 0.3])
    path = tmp_path / "fitting_same_ict.json"
    kept = json.loads(path.read_text())
    kept["faces"][0] |= {"on": "a card", "seconds": 1.5}
    path.write_text(json.dumps(kept))
    (row,) = fit_rows(tmp_path)
    assert row[5:] == ["0.20", "0.28", "–", "1.5; 52", "a card; one thread"]


def test_fits_that_reckon_with_reflections_say_so(tmp_path: Path) -> None:
    _write(tmp_path, "fitting_higher_ict.json", [0.2])
    _write(tmp_path, "fitting_higher_ict_reflections.json", [0.1])
    path = tmp_path / "fitting_higher_ict_reflections.json"
    kept = json.loads(path.read_text())
    kept["settings"] |= {"bounces": 2, "smooth": True}
    path.write_text(json.dumps(kept))
    assert [row[1] for row in fit_rows(tmp_path)] == [
        "higher fidelity, flat facets",
        "higher fidelity, double bounce fitted",
    ]


def test_another_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fitting_same_x.json").write_text('{"faces": []}')
    with pytest.raises(InputError, match=r"fitting_same_x.json: expected the figures of"):
        fit_rows(tmp_path)
    assert fit_rows(tmp_path / "nothing") == []


def _kept(folder: Path, **lists: object) -> Path:
    path = folder / "kept.json"
    path.write_text(json.dumps({"settings": {"model": "ict_face"}} | lists))
    return path


def test_modes_are_means_over_the_faces_that_were_asked(tmp_path: Path) -> None:
    rows = [
        {"face": n, "shape": 10, "expression": 7, "question": "same", "stated_mm": 0.1 * (n + 1)}
        | {"spread_mm": 5.0, "known": 17}
        for n in range(3)
    ]
    rows.append(
        {"face": 0, "shape": 5, "expression": 7, "question": "fit", "end_mm": 0.5}
        | {"left_out_mm": 0.7, "loss": 0.1}
    )
    few, more = mode_means(_kept(tmp_path, rows=rows))
    assert (more["shape"], more["expression"], more["faces"]) == (10, 7, 3)
    assert more["same_stated_mm"] == pytest.approx(0.2)
    assert more["fit_end_mm"] is None
    assert (few["shape"], few["fit_end_mm"], few["same_known"]) == (5, 0.5, None)


def test_methods_and_layers_are_tables(tmp_path: Path) -> None:
    summary = {"loss": "phase", "method": "lm", "starts": 4, "faces": 3, "start_mm": 0.5}
    summary |= {"median_mm": 0.1234, "ninety_mm": 0.3, "steps": 12, "seconds": 9.6}
    assert method_rows(_kept(tmp_path, summary=[summary])) == [
        ["phase", "lm", "4", "0.50", "0.12", "0.30", "12", "10"]
    ]
    faces = [
        {"layer": way, "end_mm": 0.1 * n, "across_mm": 0.2, "behind_mm": 0.9 * n, "seconds": 60}
        for way in ("known", "ignored")
        for n in range(3)
    ]
    assert layer_rows(_kept(tmp_path, faces=faces))[1] == [
        "ignored", "3", "0.10", "0.20", "+0.90", "60",
    ]  # fmt: skip


def test_layers_that_were_found_are_told_by_what_stayed_unexplained(tmp_path: Path) -> None:
    faces = [
        {
            "layer": "unknown",
            "end_mm": 0.1,
            "loss": loss,
            "thickness_mm": 3.0 + off,
            "permittivity": 1.6 - off / 10,
            "delay_mm": 0.9 - off,
            "true_delay_mm": 0.9,
        }
        for loss, off in ((0.3, 1.0), (0.002, 0.1), (0.04, -0.2), (0.01, 0.0))
    ]
    faces.append(faces[0] | {"layer": "known", "loss": 0.1})
    assert found_layer_rows(_kept(tmp_path, faces=faces)) == [
        [
            "0% to 5%", "3", "3.00 (2.80 to 3.10)", "1.60 (1.59 to 1.62)",
            "+0.00 (-0.10 to +0.20)",
        ],
        [
            "20% to 100%", "1", "4.00 (4.00 to 4.00)", "1.50 (1.50 to 1.50)",
            "-1.00 (-1.00 to -1.00)",
        ],
    ]  # fmt: skip
    del faces[0]["delay_mm"]
    with pytest.raises(InputError, match=r"expected thickness_mm, .* found an older file"):
        found_layer_rows(_kept(tmp_path, faces=faces))


@pytest.mark.parametrize("read", [mode_means, method_rows, layer_rows, found_layer_rows])
def test_a_file_of_another_kind_is_named(read: Any, tmp_path: Path) -> None:
    for text in ("{", '{"settings": {}, "rows": [{}], "summary": [{}], "faces": [{}]}'):
        path = tmp_path / "other.json"
        path.write_text(text)
        with pytest.raises(InputError, match=r"other.json: expected the figures of benchmarks\."):
            read(path)
    with pytest.raises(InputError, match=r"none\.json"):
        read(tmp_path / "none.json")


def test_rows_outside_the_model_keep_what_is_not_known_apart(tmp_path: Path) -> None:
    row = {"target": "head", "fit": "10 + 7", "faces": 2, "mean_face_mm": 2.3, "mean_mm": 1.8}
    path = tmp_path / "outside_ict.json"
    rows = [row | {"residual": 0.56, "accepted": 1}, row | {"residual": None, "accepted": 0}]
    path.write_text(json.dumps({"settings": {}, "rows": rows}))
    first, second = outside_rows(path)
    assert first == ["head", "10 + 7", "2", 2.3, 1.8, None, None, "56%", "1 of 2"]
    assert second[7:] == [None, "0 of 2"]
    path.write_text(json.dumps({"settings": {}, "rows": [row]}))
    with pytest.raises(InputError, match=r"outside_ict\.json: expected the figures"):
        outside_rows(path)


def test_causes_are_medians_over_the_faces(tmp_path: Path) -> None:
    rows = [
        {"cause": cause, "face": n, "residual": r, "displacement_mm": d, "position_mm": 0.1}
        for cause, n, r, d in (
            ("diffuse", 0, 0.2, 0.4), ("flat", 0, 0.01, 0.3),
            ("diffuse", 1, 0.4, 0.5), ("diffuse", 2, 0.1, 0.1),
        )
    ]  # fmt: skip
    path = tmp_path / "causes_ict.json"
    path.write_text(json.dumps({"settings": {"model": "ict_face"}, "rows": rows}))
    assert cause_rows(tmp_path) == [
        ["ict", "nothing", "flat facets", "1", "0.010", "0.30", "0.10"],
        ["ict", "diffuse reflection", "–", "3", "0.200", "0.40", "0.10"],
    ]
    del rows[0]["displacement_mm"]
    path.write_text(json.dumps({"settings": {}, "rows": rows}))
    with pytest.raises(InputError, match=r"causes_ict.json: expected the figures of"):
        cause_rows(tmp_path)


def test_the_referee_s_tables_say_how_the_fit_differs(tmp_path: Path) -> None:
    row = {
        "variant": "full", "faces": 4, "median_mm": 0.214, "ninety_mm": 0.5, "accepted": 3,
        "inside_90": 0.841, "vertices_inside_90": 0.9, "residual": 0.0312, "seconds": 81.4,
        "material": "smooth", "wrong": 2, "wrong_accepted": 1,
    }  # fmt: skip
    named = {"model": "ict_face", "referee": {"draw": "test"}}
    path = tmp_path / "referee_ict_test.json"
    numbers = ["4", "0.21", "0.50", "3 of 4", "1 of 2", "84%", "90%", "0.031", "81"]
    rows = [row, row | {"material": "any"}, row | {"variant": "alone"}]
    for settings, said in (
        ({"without": ["smooth", "gate"]}, "without curved facets, without range gate"),
        ({"gains": True, "noise": 0.025}, "gains of antennas unknown, noise of 0.025 stated"),
        ({"start": "truth"}, "from the truth"),
        ({"gains": False, "noise": 0.0, "without": [], "start": "mean"}, "default"),
    ):
        path.write_text(json.dumps({"settings": named | settings, "summary": rows}))
        assert referee_tables(tmp_path) == {
            f"ict, test faces, scene full; fit: {said}": [
                ["below 0.1", *numbers],
                ["any", *numbers],
            ],
            f"ict, test faces, scene alone; fit: {said}": [["below 0.1", *numbers]],
        }
    path.write_text(json.dumps({"settings": settings, "summary": [{"variant": "full"}]}))
    with pytest.raises(InputError, match=r"referee_ict_test.json: expected the figures of"):
        referee_tables(tmp_path)


def test_frames_of_a_subject_are_compared_with_their_joint_fit(tmp_path: Path) -> None:
    alone = [{"identity_mm": 0.1, "face_mm": 0.2}, {"identity_mm": 0.3, "face_mm": 0.2}]
    together = {"identity_mm": 0.05, "faces_mm": [0.1, 0.12], "agreed": [True, False]}
    subjects = {"0": {"alone": alone, "together": together}, "1": {"alone": alone[:1]}}
    path = tmp_path / "fitting_frames_ict.json"
    path.write_text(json.dumps({"settings": {}, "subjects": subjects}))
    wanted = ["0", "2", "1", "0.200", "0.300", "0.050", "0.200", "0.110"]
    assert frame_rows(path) == [wanted]
    path.write_text("{}")
    with pytest.raises(InputError, match=r"expected the figures of benchmarks\.frames"):
        frame_rows(path)
