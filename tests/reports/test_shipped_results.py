"""The tables that ship: whole, of one profile, and on the book's page."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ship import results_name
from radarbook.book.build import RESULTS_HERE, fill_pages
from radarbook.errors import InputError
from radarbook.profiles import get_profile, read_settings
from radarbook.reports.comparison import Results, shipped_results, side_by_side
from radarbook.reports.findings import from_results
from radarbook.reports.fits import fit_rows
from radarbook.reports.results import MEAN_FACE, PAPER_RESULTS, read_results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "data" / "results"
FILES = [path for name in ("laptop", "large") for path in sorted(RESULTS.glob(f"{name}_*.json"))]


def test_the_default_model_has_a_table():
    assert "laptop_procedural.json" in [path.name for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_table_says_how_it_was_made_and_its_means_are_those_of_its_faces(path):
    rows, about = read_results(path)
    assert {(r["method"], r["input"]) for r in rows} <= {row[:2] for row in PAPER_RESULTS}
    assert about["split"] == "test"
    name = path.stem.partition("_")[0]
    for row in rows:
        assert row["profile"] == name
        assert row["command"]
        assert row["hardware"]
        each = row["vertex_faces_mm"]
        assert len(each) == row["faces"] == get_profile(name).test
        # written to four digits
        assert row["vertex_mm"] == pytest.approx(sum(each) / len(each), abs=1e-4)
    assert about["findings"] == from_results(rows)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_table_of_another_recipe_or_model_says_so_in_its_command(path):
    rows, about = read_results(path)
    assert {"recipe", "networks", "epochs"} <= about.keys()
    (command,) = {row["command"] for row in rows}
    assert ("-p model=" in command) == (about["model"] != "procedural")
    assert ("-p recipe=paper" in command) == (about["recipe"] == "paper")
    assert path.stem.endswith("_paper_recipe") == (about["recipe"] == "paper")
    # what the command gives is what the note says
    given = read_settings(shlex.split(command.partition("--chapters 3-5")[2].replace("-p ", " ")))
    given.pop("model", None)
    profile = get_profile(path.stem.partition("_")[0], given)
    kinds = ("encoder", "renderer", "autoencoder")
    assert about["epochs"] == {kind: getattr(profile, f"{kind}_epochs") for kind in kinds}
    assert {row["input"] for row in rows} - {"–"} == set(profile.inputs)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_the_page_says_in_words_is_in_the_tables(path):
    """Every network beats the mean face; the fast recipe's autoencoder halves its error, and with
    10,000 images leaves a quarter."""
    results = Results.read(path)
    ratios = {(row["method"], row["input"]): row["vertex_ratio"] for row in results.rows}
    assert all(ratio < 1 for (_, inputs), ratio in ratios.items() if inputs != "–")
    if results.profile == "large":
        assert round(ratios["autoencoder", "both"], 2) == 0.26
    elif results.recipe == "fast":
        assert ratios["autoencoder", "both"] < 0.5
    else:
        assert round(ratios["autoencoder", "both"], 2) == 0.62


def test_the_page_takes_the_tables(tmp_path):
    page = tmp_path / "reproduction.md"
    page.write_text(f"# Before\n\n{RESULTS_HERE}\n\nAfter\n")
    fill_pages(tmp_path, ROOT)
    text = page.read_text()
    assert text.startswith("# Before\n\n### Profile laptop\n\n| method | input | paper |")
    assert text.endswith("After\n")
    assert side_by_side(shipped_results(ROOT / "data" / "results")["laptop"]) in text
    assert RESULTS_HERE in (ROOT / "jupyter_book" / "reproduction.md").read_text()


def test_results_of_overrides_get_a_name_of_their_own():
    model = "somewhere/ict_face.h5"
    assert results_name(get_profile("laptop"), model) == "laptop_ict"
    theirs = get_profile("laptop", {"recipe": "paper", "encoder_epochs": 2})
    assert results_name(theirs, model) == "laptop_ict_paper_recipe"
    assert results_name(get_profile("paper"), "procedural") == "paper_procedural"
    with pytest.raises(InputError, match="overrides of encoder_epochs: expected --name"):
        results_name(get_profile("laptop", {"encoder_epochs": 2}), model)


def test_the_readme_states_the_results_that_ship():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in fit_rows(RESULTS):
        _, target, _, faces, start, median, ninety, *_ = row
        if target.startswith("same") or "double bounce fitted" in target:
            assert f"| {faces} | {start} | {median} | {ninety} |" in readme, row
    for name in ("large_procedural", "laptop_procedural", "laptop_ict"):
        rows, _ = read_results(RESULTS / f"{name}.json")
        mean = next(row for row in rows if row["method"] == MEAN_FACE)["vertex_mm"]
        best = next(r for r in rows if (r["method"], r["input"]) == ("autoencoder", "both"))
        faces = np.array(best["vertex_faces_mm"])
        stated = [mean, best["vertex_mm"], np.median(faces), np.quantile(faces, 0.9)]
        assert f"| {len(faces):,} | " + " | ".join(f"{v:.2f}" for v in stated) + " |" in readme
