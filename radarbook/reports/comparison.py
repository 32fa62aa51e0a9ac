"""Results that ship, side by side: the page of the book that compares them with the paper's.

A file ``PROFILE_MODEL….json`` in ``data/results`` is one column: one face model, one profile, one
recipe. Columns of a table are of one profile; what is not there is a column less.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from radarbook.errors import InputError
from radarbook.profiles import PROFILES
from radarbook.reports.findings import (
    comparison_table,
    errors_by_network,
    findings_table,
    named,
)
from radarbook.reports.results import (
    MEAN_FACE,
    PAPER_RESULTS,
    markdown_table,
    millimetre_table,
    paper_row,
    provenance_lines,
    read_results,
    shown,
    with_ratios,
)
from radarbook.reports.table import table

#: What a column's recipe is called.
_RECIPES = {"fast": "fast recipe", "paper": "paper's recipe"}


@dataclass(frozen=True)
class Results:
    """The rows of one ``results.json``, all of one profile, and its note."""

    rows: list[dict[str, Any]]
    about: dict[str, Any]

    @classmethod
    def read(cls, path: str | os.PathLike[str], profile: str | None = None) -> Results:
        """From a file. Raises :class:`InputError` if it mixes profiles, or is of another than
        ``profile``: a ratio of one profile to the mean face of another says nothing."""
        rows, about = read_results(path)
        profiles = sorted({row["profile"] for row in rows})
        if len(profiles) != 1 or profile not in (None, profiles[0]):
            wanted = f"profile {profile}" if profile else "one profile"
            raise InputError(f"{path}: expected rows of {wanted}, found {', '.join(profiles)}")
        return cls(with_ratios(rows), about)

    @property
    def profile(self) -> str:
        """Name of the profile."""
        return str(self.rows[0]["profile"])

    @property
    def model(self) -> str:
        """Name of the face model; of a file, without its suffix."""
        return Path(str(self.about["model"])).stem

    @property
    def recipe(self) -> str | None:
        """``fast`` or ``paper``; None in a file that does not say."""
        return self.about.get("recipe")

    @property
    def title(self) -> str:
        """Face model, profile and recipe."""
        words = [self.model, self.profile]
        if self.recipe is not None:
            words.append(_named_recipe(self))
        return ", ".join(words)

    @property
    def errors(self) -> dict[tuple[str, str], torch.Tensor]:
        """(faces,) vertex distances in mm by method and input."""
        return errors_by_network(self.rows)


def shipped_results(folder: str | os.PathLike[str]) -> dict[str, list[Results]]:
    """All results of learning in a folder by profile: the default face model and the profile's
    own recipe first. Raises :class:`InputError` if there are none."""
    found: dict[str, list[Results]] = {}
    for profile, settings in PROFILES.items():
        results = [Results.read(path, profile) for path in Path(folder).glob(f"{profile}_*.json")]
        if results:
            found[profile] = sorted(
                results,
                key=lambda r: (
                    r.model != "procedural",
                    r.model,
                    r.recipe not in (None, settings.recipe),
                    r.recipe or "",
                ),
            )
    if not found:
        raise InputError(f"{folder}: expected results such as laptop_procedural.json, found none")
    return found


def side_by_side(results: Sequence[Results]) -> str:
    """Markdown: the paper's ratios to its mean face next to those of each of ``results``.

    One column each, headed by its :attr:`~Results.title`. Raises :class:`InputError` if they are
    of several profiles.
    """
    profiles = sorted({r.profile for r in results})
    if len(profiles) > 1:
        raise InputError(f"results: expected those of one profile, found {', '.join(profiles)}")
    columns = [
        {(row["method"], row["input"]): row["vertex_ratio"] for row in r.rows} for r in results
    ]
    cells = []
    for method, inputs, *_ in PAPER_RESULTS:
        published = paper_row(method, inputs)
        ours = [ratios.get((method, inputs)) for ratios in columns]
        cells.append(
            [
                method,
                shown(inputs),
                f"{published['vertex_ratio']:.2f}" if published else "–",
                *("–" if ratio is None else f"{ratio:.2f}" for ratio in ours),
            ]
        )
    return table(["method", "input", "paper", *(r.title for r in results)], cells)


def settings_table(results: Sequence[Results]) -> str:
    """Markdown: what each of ``results`` was trained on: faces, networks and scheduled epochs."""
    kinds = ("encoder", "renderer", "autoencoder")
    header = ["results", "test faces", "training faces", *kinds[:2]]
    header += [f"epochs of the {kind}" for kind in kinds]
    rows = []
    for r in results:
        networks, epochs = r.about.get("networks", {}), r.about.get("epochs", {})
        trained = r.about.get("training_faces")
        rows.append(
            [r.title, str(r.rows[0]["faces"]), None if trained is None else f"{trained:,}"]
            + [f"`{networks[kind]}`" if kind in networks else None for kind in kinds[:2]]
            + [str(epochs[kind]) if kind in epochs else None for kind in kinds]
        )
    return table(header, rows)


def recipes_compared(results: Sequence[Results]) -> str:
    """Markdown: a table of two recipes on one face model, face by face; empty if there are none.

    It has a row for each network that both have. Only recipes that were tested on the very same
    faces are compared.
    """
    pairs = []
    for number, ours in enumerate(results):
        for theirs in results[number + 1 :]:
            if None in (ours.recipe, theirs.recipe) or ours.recipe == theirs.recipe:
                continue
            mine, others = ours.errors, theirs.errors
            # Whatever was trained, the mean face has the same error on the same faces.
            same_faces = torch.equal(mine[MEAN_FACE, "–"], others[MEAN_FACE, "–"])
            if ours.model != theirs.model or not same_faces:
                continue
            pairs += [
                (
                    f"{_named_recipe(ours)}, {kind} on {named(inputs)}",
                    error,
                    _named_recipe(theirs),
                    others[kind, inputs],
                )
                for (kind, inputs), error in mine.items()
                if inputs != "–" and (kind, inputs) in others
            ]
    return comparison_table(pairs) if pairs else ""


def results_page(folder: str | os.PathLike[str]) -> str:
    """Markdown of all ``PROFILE_MODEL….json`` results of learning in a folder, for the book."""
    parts = []
    for profile, results in shipped_results(folder).items():
        parts += [f"### Profile {profile}", side_by_side(results), settings_table(results)]
        parts.append(recipes_compared(results))
        for r in results:
            parts += [f"#### {r.title}", r.about.get("note", "")]
            parts += [markdown_table(r.rows), millimetre_table(r.rows), findings_table(r.rows)]
            parts.append(provenance_lines(r.rows))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _named_recipe(results: Results) -> str:
    recipe = str(results.recipe)
    return _RECIPES.get(recipe, recipe)
