"""The book's language: short sentences in the words of the field (tests/prose.py has the rules)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.prose import MOST_WORDS, captions, faults, sentences

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "jupyter_book").glob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_page_keeps_the_rules_of_language(page):
    assert faults(page.read_text(encoding="utf-8")) == []


def test_a_long_sentence_a_retired_word_and_a_riddle_are_found():
    long = "The fit " + "and the face " * 12 + "end."
    page = f"# Title\n\nShort. {long} More.\n\nThe phase foretells it.\n\n"
    page += "Who knows it can answer well then.\n"
    assert [fault.split(":")[0] for fault in faults(page)] == [
        "39 words",
        "'foretells' (predicts)",
        "begins with Who",
    ]


def test_captions_and_alternative_texts_in_code_cells_are_read():
    cell = """```{code-cell} ipython3
:tags: [hide-input]

%matplotlib inline
figures.show(plot, alt="Two faces.", caption="The fit foretells " f"{error:.1f} mm. "
    "Eq. 6.3 holds.", name="fig-drawn")
print("Who draws this is told apart.")
```
"""
    assert captions(cell) == ["Two faces.", "The fit foretells VALUE mm. Eq. 6.3 holds."]
    assert [fault.split(":")[0] for fault in faults(f"Text.\n\n{cell}")] == [
        "'foretells' (predicts)"
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


def test_references_to_figures_name_figures_that_the_book_makes():
    texts = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    made = [
        name
        for text in texts.values()
        for name in re.findall(r'(?:name="|^:name: )(fig-[\w-]+)', text, re.M)
    ]
    assert len(made) == len(set(made))
    for page, text in texts.items():
        asked = set(re.findall(r"\{numref\}`(fig-[\w-]+)`", text))
        assert asked <= set(made), page


def test_figures_of_a_page_say_what_is_seen():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shown = len(re.findall(r"^ *figures\.show\(", text, re.M))
        described = len(re.findall(r"\balt=", text))
        assert shown == described, page.name


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
