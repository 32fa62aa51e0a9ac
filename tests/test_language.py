"""The book's language: short sentences in the words of the field (tests/prose.py has the rules)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.prose import MOST_WORDS, faults, sentences

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "jupyter_book").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.md")),
]
#: Pages that are not yet held to the rules. The list only shrinks.
NOT_YET: frozenset[str] = frozenset(
    {
        "intro.md",
        "01_face_model.md",
        "02_physical_rendering.md",
        "03_encoder.md",
        "04_learned_renderer.md",
        "05_autoencoder.md",
        "08_differentiable_physics.md",
    }
)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in NOT_YET], ids=lambda p: p.name)
def test_page_keeps_the_rules_of_language(page):
    assert faults(page.read_text(encoding="utf-8")) == []


def test_the_list_of_exceptions_names_pages_that_exist():
    assert {page.name for page in PAGES} >= NOT_YET


def test_a_long_sentence_a_retired_word_and_a_riddle_are_found():
    long = "The fit " + "and the face " * 12 + "end."
    page = f"# Title\n\nShort. {long} More.\n\nThe phase foretells it.\n\n"
    page += "Who knows it can answer well then.\n"
    assert [fault.split(":")[0] for fault in faults(page)] == [
        "39 words",
        "'foretells' (predicts)",
        "begins with Who",
    ]


def test_code_formulas_and_cells_are_no_words_of_a_sentence():
    words = " ".join(["word"] * (MOST_WORDS + 5))
    page = f"```python\n{words}.\n```\n\nText `{words}` and ${'a+' * 50}b$ end.\n\n"
    page += f"| {words[:60]} | {words[:60]} |\n"
    assert faults(page) == []
    assert sentences("See Eq. 6.3 of 0.5 mm. Then stop.") == [
        "See Eq· 6.3 of 0.5 mm.",
        "Then stop.",
    ]


def test_references_to_figures_name_figures_that_the_chapter_makes():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        asked = set(re.findall(r"\{numref\}`(fig-[\w-]+)`", text))
        assert asked <= set(re.findall(r'name="(fig-[\w-]+)"', text)), page.name


def test_every_entry_of_the_bibliography_is_cited():
    entries = re.findall(
        r"^@\w+\{(\w+),", (ROOT / "jupyter_book" / "references.bib").read_text(), re.M
    )
    pages = [*PAGES, *(ROOT / "jupyter_book" / "decisions").glob("*.md")]
    cited: set[str] = set()
    for page in pages:
        for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text(encoding="utf-8")):
            cited |= {key.strip() for key in keys.split(",")}
    assert cited == set(entries)
