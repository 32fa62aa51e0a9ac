"""Tables as Markdown: a page shows text that one can select and search, not a picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from radarbook.errors import InputError

_NUMBER = re.compile(r"[-+−–±]?\d|–$")


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, decimals: int = 3, title: str = ""
) -> str:
    """A table as Markdown, with a title above it if there is one.

    Floats are written with ``decimals`` digits after the point, a zero without a sign, None as a
    dash. A column of numbers, other than the first, is aligned to the right. Raises
    :class:`~radarbook.errors.InputError` if a row has not one cell for each column.

    Examples
    --------
    >>> print(table(["face", "error (mm)"], [["first", 0.46], ["second", None]], decimals=1))
    | face | error (mm) |
    | --- | ---: |
    | first | 0.5 |
    | second | – |
    """
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise InputError(f"rows[{number}]: expected {len(columns)} cells, found {len(row)}")
    cells = [[_text(value, decimals) for value in row] for row in rows]
    numeric = [n > 0 and all(_NUMBER.match(row[n]) for row in cells) for n in range(len(columns))]
    rule = ["---:" if right else "---" for right in numeric]
    head = f"**{title}**\n\n" if title else ""
    lines = [[_escaped(name) for name in columns], rule, *cells]
    return head + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def show(markdown: str) -> None:
    """Display Markdown in the running notebook."""
    from IPython.display import Markdown, display

    display(Markdown(markdown))


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return "–"
    return f"{value:z.{decimals}f}" if isinstance(value, float) else _escaped(str(value))


def _escaped(text: str) -> str:
    """A bar would end the cell."""
    return text.replace("|", r"\|")
