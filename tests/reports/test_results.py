"""The results table: rows, ratios, the paper's figures."""

from __future__ import annotations

import pytest

from radarbook.errors import InputError
from radarbook.evaluation.metrics import baselines, evaluate
from radarbook.networks.encoder import Encoder
from radarbook.provenance import hardware
from radarbook.reports.results import (
    MEAN_FACE,
    markdown_table,
    paper_row,
    read_results,
    result_row,
    with_ratios,
    write_results,
)
from tests.evaluation.test_metrics import MODEL
from tests.training.toys import toy_samples


def rows():
    samples = toy_samples(10, 16, seed=6)
    base = baselines(samples, MODEL)
    common = {"command": "radarbook run", "profile": "smoke", "where": "a machine"}
    network = evaluate(Encoder("both", "small", 3, 2, 16), samples, MODEL)
    return [
        result_row(MEAN_FACE, "–", base["mean"], seconds=None, **common),
        result_row("encoder", "both", network, seconds=1.5, **common),
    ]


def test_results_come_back_with_ratios(tmp_path):
    written = rows()
    write_results(tmp_path / "results.json", written, {"model": "toy"})
    back, about = read_results(tmp_path / "results.json")
    assert about == {"model": "toy"}
    assert back[0]["vertex_ratio"] == 1
    assert back[1]["vertex_ratio"] == pytest.approx(
        written[1]["vertex_mm"] / written[0]["vertex_mm"]
    )
    for row in back:
        assert {"command", "profile", "hardware", "seconds"} <= row.keys()


def test_the_paper_stands_beside():
    assert paper_row("autoencoder", "depth")["vertex_ratio"] == pytest.approx(2.56 / 4.42)
    assert paper_row("autoencoder", "smell") is None
    text = markdown_table(rows())
    assert "| encoder | amplitude + depth |" in text
    assert "2.82" in text


def test_without_a_mean_face_there_is_no_ratio():
    with pytest.raises(InputError, match=r"expected one row 'baseline, mean face', found 0"):
        with_ratios(rows()[1:])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_results(tmp_path / "no.json")
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(InputError, match=r"expected a results\.json"):
        read_results(tmp_path / "x.json")


def test_hardware_is_named():
    assert "CPU cores, torch" in hardware()
