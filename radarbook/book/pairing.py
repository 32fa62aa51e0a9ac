"""The two files of each notebook: detection of the edited one, and update of the other.

A notebook is ``NN_name.md`` (reviewed, executed) and ``NN_name.ipynb`` (opened). Times of files do
not show edits: a checkout, or saving without a change, sets them too. So the content decides: the
file that still has the last common content is the older one. The last common content is the
committed one (git's HEAD), or the one recorded when both were last equal.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from radarbook.errors import InputError
from radarbook.files import digest, write_json

Kind = Literal["md", "ipynb"]

#: Digests of the content of each pair when its files were last equal, next to the notebooks.
RECORD = ".pairs.json"


@dataclass(frozen=True)
class Synced:
    """A pair that was brought together: the file that was edited, and the one written from it."""

    edited: Path
    written: Path


def pairs(folder: Path) -> list[Path]:
    """The text files (``.md``) of a folder's pairs, also those that are missing."""
    found = [p for kind in ("md", "ipynb") for p in folder.glob(f"[0-9][0-9]_*.{kind}")]
    return sorted({path.with_suffix(".md") for path in found})


def differences(text: Path) -> list[str]:
    """Differences between a notebook's two files: cells, their kinds, sources and tags."""
    path = text.with_suffix(".ipynb")
    for one in (text, path):
        if not one.exists():
            return [f"{one.name} is missing"]
    first, second = _cells(text), _cells(path)
    found = []
    if len(first) != len(second):
        found.append(f"{text.name}: {len(first)} cells, {path.name}: {len(second)}")
    for number, (a, b) in enumerate(zip(first, second, strict=False)):
        found += [
            f"{path.name}: cell {number}: {what} differs"
            for what, mine, other in zip(("kind", "source", "tags"), a, b, strict=True)
            if mine != other
        ]
    return found


def warning(text: Path) -> str | None:
    """One line if a notebook's ``.ipynb`` differs from the ``.md`` that is executed, or None."""
    path = text.with_suffix(".ipynb")
    if not path.exists():
        return None
    try:
        if not differences(text):
            return None
        why = f"differs from {text.name}"
    except InputError as error:
        why = f"cannot be compared with {text.name} ({error})"
    return (
        f"{path.name} {why}: {text.name} is executed; "
        "`radarbook book sync` brings the two together without losing an edit"
    )


def sync(
    folder: Path, keep: Kind | None = None, chapters: Sequence[int] | None = None
) -> list[Synced]:
    """Bring each pair of ``folder`` together, from the file that was edited.

    Parameters
    ----------
    folder : Path
        With ``NN_name.md`` and ``NN_name.ipynb``.
    keep : {"md", "ipynb"}, optional
        The file to keep if both were edited; without it that is an error.
    chapters : sequence of int, optional
        Only these.

    Returns the pairs that were changed. Raises :class:`InputError` naming the pairs of which both
    files were edited, or no common state is known; all other pairs are brought together first.
    """
    done: list[Synced] = []
    undecided: list[Path] = []
    record = _read_record(folder)
    for text in pairs(folder):
        if chapters is not None and int(text.name[:2]) not in chapters:
            continue
        edited = _edited(text, record.get(text.stem))
        if edited == "both" and keep is None:
            undecided.append(text)
            continue
        if edited == "both" and keep is not None:
            edited = keep
        if edited != "neither":
            source = text.with_suffix(f".{edited}")
            other = text.with_suffix(".ipynb" if edited == "md" else ".md")
            _write(source, other)
            done.append(Synced(source, other))
        record[text.stem] = _said(text)
    if record != _read_record(folder):
        write_json(folder / RECORD, record)
    if undecided:
        names = ", ".join(text.stem for text in undecided)
        raise InputError(
            f"{folder}: {names}: both .md and .ipynb were edited since they last agreed, or no "
            "common state is known: expected one edited file; keep one with "
            "`radarbook book sync --keep md` or `--keep ipynb` (--chapters N for one notebook), "
            "or merge them by hand"
        )
    return done


def _edited(text: Path, recorded: str | None) -> Kind | Literal["both", "neither"]:
    """The file of a pair whose content differs from the last common content."""
    path = text.with_suffix(".ipynb")
    if not path.exists():
        return "md"
    if not text.exists():
        return "ipynb"
    if not differences(text):
        return "neither"
    known = {recorded, _committed(text)} - {None}
    old = {kind: _said(text.with_suffix(f".{kind}")) in known for kind in ("md", "ipynb")}
    if old["md"] != old["ipynb"]:
        return "ipynb" if old["md"] else "md"
    return "both"


# -- content of a file ---------------------------------------------------------------------------


def _cells(path: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, source and tags of each cell."""
    import jupytext

    try:
        return _parts(jupytext.read(path))
    except Exception as error:  # half a file, no JSON, other versions: jupytext raises many kinds
        why = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected a notebook, cannot read it ({why})") from None


def _parts(notebook: Any) -> list[tuple[str, str, list[str]]]:
    return [
        (cell.cell_type, cell.source.strip(), list(cell.metadata.get("tags", [])))
        for cell in notebook.cells
    ]


def _said(path: Path) -> str:
    return digest(_cells(path))


def _committed(text: Path) -> str | None:
    """Digest of both files' content in git's HEAD; None if they differ there, or without git."""
    import jupytext

    said = []
    for kind, form in (("md", "md:myst"), ("ipynb", "ipynb")):
        name = text.with_suffix(f".{kind}").name
        try:
            done = subprocess.run(
                ["git", "show", f"HEAD:./{name}"], cwd=text.parent, capture_output=True, check=False
            )
        except OSError:  # no git
            return None
        if done.returncode:
            return None
        content = io.StringIO(done.stdout.decode("utf-8", "replace"))
        try:
            said.append(digest(_parts(jupytext.read(content, fmt=form))))
        except Exception:  # as in _cells: what is committed there is no notebook
            return None
    return said[0] if said[0] == said[1] else None


def _read_record(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(source: Path, other: Path) -> None:
    """Write ``other`` from ``source`` by jupytext, which keeps outputs and its own metadata."""
    import jupytext.cli

    # jupytext takes the newer file.
    now = time.time()
    os.utime(source, (now, now))
    if other.exists():
        os.utime(other, (now - 60, now - 60))
    status = jupytext.cli.jupytext(["--quiet", "--sync", str(source)])
    if status or differences(source.with_suffix(".md")):
        raise InputError(f"{other}: jupytext could not write it from {source.name}")
