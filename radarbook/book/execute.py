"""Execution of the notebooks in order.

:func:`run_notebooks` checks every parameter against the notebooks and the profile before anything
runs, executes each notebook with papermill, and skips those whose fingerprint (text, library,
parameters, versions, input files) is that of the last execution. Under one output folder::

    <output>/notebooks/NN_name.ipynb   executed; NN_name.json says how, when and on what
    <output>/notebooks/NN_name.failed.ipynb   as far as it came, when a cell failed
    <output>/artefacts/                what the notebooks computed and share
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radarbook import provenance
from radarbook.book import pairing
from radarbook.book.chapters import (
    Chapter,
    find_chapters,
    find_root,
    known_chapters,
    parse_chapters,
    read_text_notebook,
    resolve_parameters,
)
from radarbook.errors import InputError, StoppedError
from radarbook.files import digest, disk_errors, file_digest, source_digest, write_json, write_text
from radarbook.locks import hold
from radarbook.progress import Progress, write_line
from radarbook.provenance import BUSY_SHARE, processor_share
from radarbook.targets import same_file


class ChapterFailed(RuntimeError):
    """A cell failed. ``notebook`` is readable up to there; ``report`` holds the traceback."""

    def __init__(self, chapter: Chapter, notebook: Path, report: str) -> None:
        see = f"see {notebook}" if notebook.exists() else "its notebook could not be kept"
        super().__init__(f"chapter {chapter.number} ({chapter.name}) failed: {see}")
        self.chapter = chapter
        self.notebook = notebook
        self.report = report


@dataclass(frozen=True)
class ChapterRun:
    """What became of a chapter in a run."""

    chapter: Chapter
    notebook: Path
    seconds: float
    skipped: bool


def run_notebooks(
    chapters: str | Sequence[int] | None = None,
    profile: str = "smoke",
    parameters: Mapping[str, Any] | None = None,
    output: str | os.PathLike[str] | None = None,
    force: bool = False,
    *,
    progress: bool = True,
    root: Path | None = None,
) -> list[ChapterRun]:
    """Execute chapters in order into ``<output>/notebooks``; unchanged ones are skipped.

    Parameters
    ----------
    chapters
        Numbers, text such as ``"1-3,6"``, or None for all.
    parameters
        Chapters' parameters and profile fields by name; text values are read as their types.
    output
        Folder of results, by default ``build/PROFILE``.
    force
        Execute also what is unchanged.
    progress
        Show a bar over chapters and one over the cells of the running chapter.
    root
        The folder that holds ``notebooks/`` (default: the checkout).

    Raises
    ------
    InputError
        Before anything runs: unknown chapter, profile or parameter, ill-typed value, model file
        that cannot be read, another run in the same folder.
    ChapterFailed
        A cell failed; the notebook as far as it came is ``<output>/notebooks/NN_name.failed.ipynb``
        and nothing stands under the final name that was not there before.
    StoppedError
        A chapter's kernel was killed; what is finished is kept.
    """
    from radarbook.book.kernel import own_kernel

    root = root or find_root()
    known = find_chapters(root)
    if isinstance(chapters, str):
        wanted = parse_chapters(chapters, sorted(known))
    else:
        wanted = known_chapters(sorted(known) if chapters is None else chapters, sorted(known))
    selected = [known[number] for number in wanted]
    given = dict(parameters or {})
    if given.get("model", "procedural") != "procedural":
        given["model"] = _checked_model(given["model"], root)
    resolved = resolve_parameters(selected, profile, given, list(known.values()))
    output = Path(output) if output else Path("build") / profile
    folder = output.resolve() / "notebooks"
    if same_file(folder, root / "notebooks"):
        raise InputError(f"output: expected another folder than the project's own, found {output}")
    folder.mkdir(parents=True, exist_ok=True)
    for chapter in selected:
        if line := pairing.warning(chapter.path):
            write_line(f"radarbook: {line}")
    runs: list[ChapterRun] = []
    busy = False
    bar = Progress(len(selected), "chapters", "chapter", shown=progress)
    with hold(output.resolve()), bar, own_kernel():
        for chapter in selected:
            values = resolved[chapter.number] | {"output": _portable(output, root)}
            mark = _fingerprint(chapter, values, root)
            final = folder / f"{chapter.name}.ipynb"
            past = read_record(final)
            if not force and past.get("fingerprint") == mark and final.exists():
                run = ChapterRun(chapter, final, float(past["seconds"]), skipped=True)
            else:
                share = processor_share()
                seconds = _execute(chapter, values, final, root, progress)
                share = min(share, processor_share())
                _write_record(chapter, final, values, mark, seconds, share)
                run = ChapterRun(chapter, final, seconds, skipped=False)
                if share < BUSY_SHARE and not busy:
                    busy = True
                    write_line(_busy_line(share))
            runs.append(run)
            if progress:
                state = "unchanged" if run.skipped else f"{run.seconds:.0f} s"
                write_line(f"{chapter.name}: {state}")
            bar.update()
    return runs


def _busy_line(share: float) -> str:
    return (
        f"radarbook: other processes use this machine (a fixed piece of work got {share:.0%} of "
        "the processors): times on the status page are marked as unreliable"
    )


def _checked_model(model: Any, root: Path) -> str:
    """Read the model file before the first notebook does, so that a bad one stops the run."""
    from radarbook.faces.load import load_model

    read = load_model(str(model))
    for note in read.notes:
        print(f"note: {read.name}: {note}", file=sys.stderr)
    return _portable(Path(model), root)


def _portable(path: Path, root: Path) -> str:
    """A path as seen from the project's folder, so that no page names a machine."""
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()


def _fingerprint(chapter: Chapter, values: Mapping[str, Any], root: Path) -> str:
    """All that decides a chapter's outputs; upstream artefacts follow from the same things."""
    given = {**chapter.defaults, **values}
    texts = {v for name, v in given.items() if name != "output" and isinstance(v, str) and v}
    inputs = sorted(root / text for text in texts)
    files = [p for p in inputs if p.is_file()]
    return digest(
        {
            "notebook": file_digest(chapter.path),
            "library": source_digest(),
            "parameters": {k: repr(v) for k, v in sorted(values.items())},
            "files": [(p.name, file_digest(p)) for p in files],
            "folders": [_listing(p) for p in inputs if p.is_dir()],
            "versions": provenance.versions(),
        }
    )


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of each file of a folder, which may hold gigabytes of recordings."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    found = [(p.relative_to(folder).as_posix(), p.stat()) for p in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in found]


def _execute(
    chapter: Chapter,
    values: Mapping[str, Any],
    final: Path,
    root: Path,
    progress: bool,
) -> float:
    """Execute one notebook into ``final``; returns seconds. Nothing half-done gets that name."""
    import nbformat

    from radarbook.book.kernel import KernelDied, execute

    partial = final.with_suffix(".partial.ipynb")
    failed = final.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    started = time.perf_counter()
    advice = f"the same command goes on with chapter {chapter.number} when there is space"
    with disk_errors(final.parent, advice), tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / partial.name
        notebook = read_text_notebook(chapter.path)
        nbformat.write(notebook, source)  # papermill reads no .md
        # One more cell: papermill adds the one with the parameters.
        cells = len(notebook.cells) + 1
        bar = Progress(cells, chapter.name, "cell", shown=progress, leave=False)
        try:
            with bar:
                execute(source, partial, values, root, bar)
        except BaseException as error:
            _keep_whole(partial, failed)
            if isinstance(error, OSError) or not isinstance(error, Exception):
                raise  # interrupted or not written: the notebook stays readable, the error goes on
            if isinstance(error, KernelDied):
                raise StoppedError(
                    f"chapter {chapter.number} ({chapter.name}): {error}, often because memory ran "
                    f"out: see {failed}; finished chapters are kept, the same command goes on"
                ) from None
            raise ChapterFailed(chapter, failed, str(error)) from error
        notebook = nbformat.read(partial, as_version=4)
        # papermill notes absolute paths of this machine; the record next to it has the rest.
        notebook.metadata.pop("papermill", None)
        for cell in notebook.cells:
            cell.metadata.pop("papermill", None)
        try:
            write_text(final, nbformat.writes(notebook) + "\n")
        finally:
            partial.unlink()
    return time.perf_counter() - started


def _keep_whole(partial: Path, failed: Path) -> None:
    """Rename what papermill has written; a notebook that was cut by a full disk is removed."""
    import nbformat

    try:
        nbformat.read(partial, as_version=4)
    except (OSError, ValueError):  # absent, cut, or no notebook
        partial.unlink(missing_ok=True)
    else:
        partial.replace(failed)


def _record_path(notebook: Path) -> Path:
    return notebook.with_suffix(".json")


def read_record(notebook: Path) -> dict[str, Any]:
    """What was recorded of a notebook's last whole execution; empty when there was none."""
    try:
        record: dict[str, Any] = json.loads(_record_path(notebook).read_text())
    except (OSError, ValueError):
        return {}
    return record


def _write_record(
    chapter: Chapter,
    notebook: Path,
    values: Mapping[str, Any],
    mark: str,
    seconds: float,
    share: float,
) -> None:
    write_json(
        _record_path(notebook),
        {
            "chapter": chapter.number,
            "title": chapter.title,
            "fingerprint": mark,
            "source": file_digest(chapter.path),
            "profile": values["profile"],
            "parameters": {k: v for k, v in values.items() if k != "profile"},
            "seconds": round(seconds, 1),
            "processor_share": round(share, 2),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            **provenance.record(),
        },
    )
