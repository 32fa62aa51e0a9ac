"""Results side by side: one column a file, never two profiles in a table."""

from __future__ import annotations

import pytest

from radarbook.errors import InputError
from radarbook.reports.comparison import (
    Results,
    recipes_compared,
    results_page,
    shipped_results,
    side_by_side,
)
from radarbook.reports.results import MEAN_FACE, result_row, write_results

MEAN = [4.0, 4.5, 3.5, 4.0]


def write(folder, name, model, recipe, errors, *, profile="laptop", mean=MEAN, **about):
    """A results file: the mean face's errors, and those of networks by (method, input)."""

    def row(method, inputs, each):
        vertex = sum(each) / len(each)
        summary = {"vertex_mm": vertex, "vertex_median_mm": vertex, "vertex_area_mm": vertex}
        summary |= {"scan_mm": vertex, "vertex_interval_mm": [vertex, vertex]}
        summary |= {"l2_shape": 0.5, "l2_expression": 0.5, "l2_total": 0.5}
        summary |= {"faces": len(each), "vertex_faces_mm": each}
        made = {"command": f"radarbook run of {name}", "profile": profile, "where": "a machine"}
        return result_row(method, inputs, summary, seconds=60.0, **made)

    rows = [row(MEAN_FACE, "–", mean)]
    rows += [row(*key, each) for key, each in errors.items()]
    about = {"model": model, "recipe": recipe} | about
    write_results(folder / f"{name}.json", rows, {k: v for k, v in about.items() if v is not None})


OURS = {("encoder", "both"): [2.0, 2.2, 1.8, 2.0], ("autoencoder", "both"): [1.6, 1.8, 1.4, 1.6]}
THEIRS = {("encoder", "both"): [3.0, 3.3, 2.9, 3.1], ("autoencoder", "both"): [1.6, 1.7, 1.5, 1.6]}


@pytest.fixture
def folder(tmp_path):
    """The default model, a scanned one, and that again with the paper's recipe; other files too."""
    write(tmp_path, "laptop_scan_paper_recipe", "scan", "paper", THEIRS)
    write(tmp_path, "laptop_scan", "scan.h5", "fast", OURS)
    default = {("encoder", "depth"): [1.0] * 4}
    write(
        tmp_path,
        "laptop_procedural",
        "procedural",
        "fast",
        default,
        training_faces=2000,
        networks={"encoder": "medium"},
        epochs={"autoencoder": 9, "encoder": 30, "renderer": 20},
        note="Made at night.",
    )
    (tmp_path / "learning_choices.json").write_text("{}")
    return tmp_path


def test_a_column_for_each_file_the_default_model_and_our_recipe_first(folder):
    lines = side_by_side(shipped_results(folder)["laptop"]).splitlines()
    assert lines[0] == (
        "| method | input | paper | procedural, laptop, fast recipe | scan, laptop, fast recipe "
        "| scan, laptop, paper's recipe |"
    )
    assert "| baseline, mean face | – | 1.00 | 1.00 | 1.00 | 1.00 |" in lines
    # each to its own mean face, and what a file does not have is left open
    assert f"| encoder | amplitude + depth | {2.82 / 4.42:.2f} | – | 0.50 | 0.77 |" in lines
    assert f"| encoder | depth | {2.77 / 4.42:.2f} | 0.25 | – | – |" in lines


def test_a_missing_file_is_a_column_less(folder):
    (folder / "laptop_scan.json").unlink()
    header = side_by_side(shipped_results(folder)["laptop"]).splitlines()[0]
    assert header.endswith("| procedural, laptop, fast recipe | scan, laptop, paper's recipe |")
    assert "| compared with |" in results_page(folder)
    assert "| paper's recipe | 4 |" not in results_page(folder)
    for path in folder.glob("laptop_*.json"):
        path.unlink()
    with pytest.raises(InputError, match="expected results such as"):
        results_page(folder)


def test_the_page_says_of_each_what_it_is_and_what_follows(folder):
    page = results_page(folder)
    assert page.startswith("### Profile laptop\n\n| method | input | paper |")
    for title in (
        "procedural, laptop, fast recipe",
        "scan, laptop, fast recipe",
        "scan, laptop, paper's recipe",
    ):
        assert f"#### {title}\n" in page
    settings = "| procedural, laptop, fast recipe | 4 | 2,000 | `medium` | – | 30 | 20 | 9 |"
    assert settings in page
    assert "\n\nMade at night.\n\n" in page
    assert (
        "| autoencoder on amplitude and depth | encoder on amplitude and depth | 4 | 1.60 | 2.00 "
        "| 0.40 | 0.40 to 0.40 |"
    ) in page
    assert "profile `laptop`, `radarbook run of laptop_scan_paper_recipe`, on a machine" in page
    assert "1.0 min" in page


def test_recipes_are_compared_face_by_face(folder):
    compared = recipes_compared(shipped_results(folder)["laptop"])
    *_, encoder, autoencoder = compared.splitlines()
    assert encoder.startswith(
        "| fast recipe, encoder on amplitude and depth | paper's recipe | 4 | 2.00 | 3.08 | 1.08 |"
    )
    # the autoencoders of the two differ by chance alone: the interval holds zero
    assert autoencoder.endswith("| paper's recipe | 4 | 1.60 | 1.60 | 0.00 | -0.07 to 0.08 |")
    assert compared.strip() in results_page(folder)


def test_recipes_on_other_faces_are_not_compared(tmp_path):
    write(tmp_path, "laptop_scan", "scan", "fast", OURS)
    write(tmp_path, "laptop_scan_paper_recipe", "scan", "paper", THEIRS, mean=[4.0, 4.0, 4.0, 4.0])
    write(tmp_path, "laptop_other_paper_recipe", "other", "paper", THEIRS)
    write(tmp_path, "laptop_old", "scan", None, THEIRS)
    assert recipes_compared(shipped_results(tmp_path)["laptop"]) == ""


def test_profiles_get_tables_of_their_own(folder):
    write(folder, "paper_scan", "scan", "fast", OURS, profile="paper")
    write(folder, "paper_scan_plain", "scan", "paper", THEIRS, profile="paper")
    found = shipped_results(folder)
    # at profile paper the paper's recipe is the profile's own
    assert [r.recipe for r in found["paper"]] == ["paper", "fast"]
    with pytest.raises(InputError, match="those of one profile, found laptop, paper"):
        side_by_side([*found["laptop"], *found["paper"]])
    page = results_page(folder)
    assert page.index("### Profile laptop") < page.index("### Profile paper")


def test_a_file_of_two_profiles_or_of_another_is_refused(tmp_path):
    write(tmp_path, "laptop_scan", "scan", "fast", OURS, profile="paper")
    with pytest.raises(InputError, match="expected rows of profile laptop, found paper"):
        shipped_results(tmp_path)
    mixed = Results.read(tmp_path / "laptop_scan.json").rows
    mixed[1]["profile"] = "smoke"
    write_results(tmp_path / "laptop_scan.json", mixed, {"model": "scan"})
    with pytest.raises(InputError, match="expected rows of one profile, found paper, smoke"):
        Results.read(tmp_path / "laptop_scan.json")
