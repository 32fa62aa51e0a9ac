"""Tables as Markdown."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from radarbook.errors import InputError
from radarbook.reports.table import table


def test_table_writes_numbers_and_missing_values():
    lines = table(["m", "v"], [["a", 0.12345], ["b", None]]).splitlines()
    assert lines == ["| m | v |", "| --- | ---: |", "| a | 0.123 |", "| b | – |"]


def test_a_rounded_zero_has_no_sign():
    assert table(["a", "b"], [["x", -0.001]], decimals=2).splitlines()[-1] == "| x | 0.00 |"


def test_a_column_of_words_is_aligned_to_the_left():
    assert "| --- | --- | ---: |" in table(["a", "b", "c"], [["x", "y", 1], ["x", 2, "−3 dB"]])


def test_bars_stay_within_their_cell():
    page = MarkdownIt("gfm-like", {"linkify": False}).render(table(["|x|", "y"], [["a|b", 1.0]]))
    assert page.count("<th") - page.count("<thead") == 2
    assert "<th>|x|</th>" in page
    assert "<td>a|b</td>" in page


def test_a_row_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"rows\[0\]: expected 1 cells, found 2"):
        table(["a"], [["x", "y"]])
