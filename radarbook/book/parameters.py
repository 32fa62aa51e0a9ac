"""The page of parameters, made from the parameters cells of the chapters and from the profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from radarbook.book.chapters import COMMON, Chapter
from radarbook.errors import InputError
from radarbook.profiles import PROFILES, Profile
from radarbook.reports.table import table


def parameters_of_chapters(chapters: Sequence[Chapter]) -> str:
    """A table of every parameter: name, default, type, meaning, and the chapters that have it.

    The parameters that all chapters have come first. A name that means or defaults to something
    else in another chapter has a row for each. Raises :class:`~radarbook.errors.InputError` for a
    parameter whose cell says nothing about it.
    """
    rows: dict[tuple[str, str, str, str], list[Chapter]] = {}
    for chapter in chapters:
        for name, default in chapter.defaults.items():
            if not chapter.meanings[name]:
                raise InputError(
                    f"{chapter.path}: parameter '{name}': expected a comment behind its value "
                    "that says what it means, found none"
                )
            row = (name, _code(default), f"`{type(default).__name__}`", chapter.meanings[name])
            rows.setdefault(row, []).append(chapter)
    first = sorted(rows, key=lambda row: row[0] not in COMMON)  # stable: otherwise as they come
    return table(
        ["parameter", "default", "type", "meaning", "chapters"],
        [
            (_code(name, plain=True), default, kind, meaning, _links(rows[row], len(chapters)))
            for row in first
            for name, default, kind, meaning in [row]
        ],
    )


def fields_of_profiles() -> str:
    """A table of the profile's fields: name, type, meaning, and the value at each profile."""
    values = {name: profile.model_dump() for name, profile in PROFILES.items()}
    return table(
        ["field", "type", "meaning", *PROFILES],
        [
            (
                _code(name, plain=True),
                _kind(field.annotation),
                field.description or "",
                *(_shown(given[name]) for given in values.values()),
            )
            for name, field in Profile.model_fields.items()
            if name != "name"
        ],
    )


def _links(having: Sequence[Chapter], every: int) -> str:
    if len(having) == every:
        return "all"
    return ", ".join(f"[{c.number}](notebooks/{c.name}.ipynb)" for c in having)


def _code(value: Any, *, plain: bool = False) -> str:
    return f"`{value}`" if plain else f"`{value!r}`"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _kind(annotation: Any) -> str:
    """A field's type in words: a name, or the texts that are allowed."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{text}`" for text in inside)
    if origin is tuple:
        return f"some of {_kind(inside[0])}"
    return f"`{annotation.__name__}`"
