"""Executing the notebooks in order, and building the book from the executed ones.

:func:`run_notebooks` checks every parameter against the notebooks and the profile before anything
runs, executes each notebook with papermill, and skips those whose fingerprint (text, library,
parameters, versions, input files) is that of the last execution. :func:`build_book` stages the
executed notebooks with the pages of ``jupyter_book/`` and builds the book with warnings as errors.
Everything lives under one output folder::

    <output>/notebooks/NN_name.ipynb   executed; NN_name.json says how, when and on what
    <output>/notebooks/NN_name.failed.ipynb   as far as it came, when a cell failed
    <output>/artefacts/                what the notebooks computed and share
    <output>/book/html/index.html      the book
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from radarbook import pairing, provenance
from radarbook.errors import InputError, StoppedError
from radarbook.files import (
    PACKAGE,
    digest,
    disk_errors,
    file_digest,
    source_digest,
    write_json,
    write_text,
)
from radarbook.locks import hold
from radarbook.pages import outside_addresses, strip_outputs
from radarbook.profiles import Profile, get_profile
from radarbook.progress import Progress, write_line
from radarbook.provenance import BUSY_SHARE, processor_share
from radarbook.targets import same_file

#: Parameters that every notebook has; the first three are set by the run itself.
COMMON = ("profile", "output", "overrides", "seed", "model")


class ChapterFailed(RuntimeError):
    """A cell failed. ``notebook`` is readable up to there; ``report`` holds the traceback."""

    def __init__(self, chapter: Chapter, notebook: Path, report: str) -> None:
        see = f"see {notebook}" if notebook.exists() else "its notebook could not be kept"
        super().__init__(f"chapter {chapter.number} ({chapter.name}) failed: {see}")
        self.chapter = chapter
        self.notebook = notebook
        self.report = report


@dataclass(frozen=True)
class Chapter:
    """A notebook's text: where it is and what it lets one change."""

    number: int
    path: Path
    title: str
    defaults: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``01_face_model``."""
        return self.path.stem


@dataclass(frozen=True)
class ChapterRun:
    """What became of a chapter in a run."""

    chapter: Chapter
    notebook: Path
    seconds: float
    skipped: bool


# -- finding and reading notebooks ---------------------------------------------------------------


def find_root() -> Path:
    """The checkout that holds ``notebooks/`` and ``jupyter_book/``."""
    for folder in (PACKAGE.parent, Path.cwd()):
        if (folder / "notebooks").is_dir():
            return folder
    raise InputError(f"notebooks: expected a folder 'notebooks' in {Path.cwd()}, found none")


def find_chapters(root: Path | None = None) -> dict[int, Chapter]:
    """All chapters by number, from ``notebooks/NN_name.md``."""
    folder = (root or find_root()) / "notebooks"
    paths = sorted(folder.glob("[0-9][0-9]_*.md"))
    if not paths:
        raise InputError(f"{folder}: expected notebooks named NN_name.md, found none")
    return {int(path.name[:2]): _read_chapter(path) for path in paths}


def parse_chapters(text: str, known: Sequence[int]) -> list[int]:
    """``"1-3,6"`` as ``[1, 2, 3, 6]``; unknown chapters and other text raise."""
    chosen: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if not found:
            raise InputError(
                f"chapters: expected numbers and ranges as in '1-3,6' of {_listed(known)}, "
                f"found '{_shown(text)}'"
            )
        first = int(found[1])
        last = int(found[2] or first)
        if last < first:
            raise InputError(
                f"chapters: expected a range from low to high, found '{part.strip()}': "
                f"chapters are {_listed(known)}"
            )
        # Only the ends: a range may be as long as a typing error makes it.
        chosen |= set(_known_chapters([first, last], known))
        chosen |= {number for number in known if first <= number <= last}
    return sorted(chosen)


def _known_chapters(chosen: Sequence[int], known: Sequence[int]) -> list[int]:
    """The same numbers, in order and once; raises where one is no chapter or none is chosen."""
    unknown = sorted({n for n in chosen if n not in known})
    if unknown or not chosen:
        found = ", ".join(str(n) for n in unknown[:5]) or "none"
        raise InputError(f"unknown chapter {found}: expected some of {_listed(known)}")
    return sorted(set(chosen))


def _listed(known: Sequence[int]) -> str:
    return ", ".join(str(number) for number in sorted(known))


def _shown(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def _read_chapter(path: Path) -> Chapter:
    notebook = _read_text_notebook(path)
    title = next(
        (
            found[1].strip()
            for cell in notebook.cells
            if cell.cell_type == "markdown"
            and (found := re.search(r"^#\s+(.+)$", cell.source, re.MULTILINE))
        ),
        path.stem,
    )
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise InputError(f"{path}: expected one cell tagged 'parameters', found {len(tagged)}")
    defaults = _read_defaults(path, tagged[0].source)
    missing = [name for name in COMMON if name not in defaults]
    if missing:
        raise InputError(f"{path}: parameters cell: expected {missing[0]!r}, found none")
    return Chapter(int(path.name[:2]), path, title, defaults)


def _read_text_notebook(path: Path) -> Any:
    import jupytext

    return jupytext.read(path)


def _read_defaults(path: Path, source: str) -> dict[str, Any]:
    """Names and literal values assigned in a parameters cell."""
    defaults: dict[str, Any] = {}
    for statement in ast.parse(source).body:
        target = None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign):
            target = statement.target
        if not isinstance(target, ast.Name):
            raise InputError(
                f"{path}: parameters cell: expected 'name = value' lines, "
                f"found '{ast.unparse(statement)}'"
            )
        try:
            defaults[target.id] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
        except ValueError:
            raise InputError(
                f"{path}: parameter '{target.id}': expected a literal value, "
                f"found '{ast.unparse(statement)}'"
            ) from None
    return defaults


# -- parameters ----------------------------------------------------------------------------------


def resolve_parameters(
    chapters: Sequence[Chapter],
    profile: str,
    parameters: Mapping[str, Any],
    every: Sequence[Chapter] = (),
) -> dict[int, dict[str, Any]]:
    """What each chapter is given, checked: ``{chapter number: {name: value}}``.

    A name is looked up in each chapter's parameters cell (its default's type is the parameter's
    type) and then among the profile's fields; the latter reach every chapter in ``overrides``.
    Text is read as the type asks. Raises :class:`~radarbook.errors.InputError` for a name that
    no selected chapter and no profile knows, and for an ill-typed value.
    """
    for name in ("profile", "output", "overrides"):
        if name in parameters:
            raise InputError(f"parameter '{name}' is set by the run: expected other names with -p")
    fields = Profile.model_fields
    shared: dict[str, Any] = {}
    own: dict[int, dict[str, Any]] = {chapter.number: {} for chapter in chapters}
    for name, value in parameters.items():
        takers = [chapter for chapter in chapters if name in chapter.defaults]
        for chapter in takers:
            own[chapter.number][name] = _as_type(name, value, chapter.defaults[name])
        if not takers and name in fields and name != "name":
            shared[name] = value
        elif not takers:
            raise InputError(_unknown_parameter(name, chapters, every))
    checked = get_profile(profile, shared).model_dump(mode="json")
    overrides = {name: checked[name] for name in shared}
    return {
        number: {"profile": profile, "overrides": overrides, **values}
        for number, values in own.items()
    }


def _unknown_parameter(name: str, chapters: Sequence[Chapter], every: Sequence[Chapter]) -> str:
    elsewhere = [str(c.number) for c in every if name in c.defaults]
    if elsewhere:
        return (
            f"parameter '{name}' belongs to chapter {', '.join(elsewhere)}: "
            "expected a parameter of a selected chapter"
        )
    own = sorted({n for c in chapters for n in c.defaults} - {"profile", "output", "overrides"})
    fields = [n for n in Profile.model_fields if n != "name"]
    near = difflib.get_close_matches(name, own + fields, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return (
        f"unknown parameter '{name}'{hint}: expected one of {', '.join(own)} "
        f"or a profile field: {', '.join(fields)}"
    )


def _as_type(name: str, value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``; text from a command line is read as that type."""
    wanted = type(default)
    if default is None:
        return _literal(value) if isinstance(value, str) else value
    result = value
    if isinstance(value, str) and wanted is not str:
        result = {"true": True, "false": False}.get(value.lower(), value)
        result = _literal(value) if isinstance(result, str) else result
    if wanted is float and isinstance(result, int) and not isinstance(result, bool):
        result = float(result)
    if wanted is tuple and isinstance(result, list):
        result = tuple(result)
    if wanted is list and isinstance(result, tuple):
        result = list(result)
    # bool is an int to Python, but not to a reader of a parameters cell.
    if type(result) is not wanted or (wanted is float and not math.isfinite(result)):
        kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        kind = kinds.get(wanted, f"a {wanted.__name__} such as {default!r}")
        raise InputError(f"parameter '{name}': expected {kind}, found {value!r}")
    if isinstance(result, list | tuple) and default:
        inner = {type(item) for item in default}
        if len(inner) == 1:
            return wanted(_as_type(f"{name}[{n}]", v, default[0]) for n, v in enumerate(result))
    return result


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# -- execution -----------------------------------------------------------------------------------


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
    from radarbook.execution import own_kernel

    root = root or find_root()
    known = find_chapters(root)
    if isinstance(chapters, str):
        wanted = parse_chapters(chapters, sorted(known))
    else:
        wanted = _known_chapters(sorted(known) if chapters is None else chapters, sorted(known))
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
    from radarbook.faces.model import load_model

    read = load_model(str(model))
    for note in read.notes:
        print(f"note: {read.name}: {note}", file=sys.stderr)
    return _portable(Path(model), root)


def _portable(path: Path, root: Path) -> str:
    """A path as seen from the project's folder, so that no page names a machine."""
    return Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()


def _fingerprint(chapter: Chapter, values: Mapping[str, Any], root: Path) -> str:
    """All that decides a chapter's outputs; upstream artefacts follow from the same things."""
    texts = [v for v in {**chapter.defaults, **values}.values() if isinstance(v, str) and v]
    files = [p for p in sorted({root / text for text in texts}) if p.is_file()]
    return digest(
        {
            "notebook": file_digest(chapter.path),
            "library": source_digest(),
            "parameters": {k: repr(v) for k, v in sorted(values.items())},
            "files": [(p.name, file_digest(p)) for p in files],
            "versions": provenance.versions(),
        }
    )


def _execute(
    chapter: Chapter,
    values: Mapping[str, Any],
    final: Path,
    root: Path,
    progress: bool,
) -> float:
    """Execute one notebook into ``final``; returns seconds. Nothing half-done gets that name."""
    import nbformat

    from radarbook.execution import KernelDied, execute

    partial = final.with_suffix(".partial.ipynb")
    failed = final.with_suffix(".failed.ipynb")
    failed.unlink(missing_ok=True)
    started = time.perf_counter()
    advice = f"the same command goes on with chapter {chapter.number} when there is space"
    with disk_errors(final.parent, advice), tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / partial.name
        notebook = _read_text_notebook(chapter.path)
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


# -- the book ------------------------------------------------------------------------------------


def build_book(
    output: str | os.PathLike[str] = "build/smoke", root: Path | None = None, force: bool = False
) -> Path:
    """Build ``<output>/book/html`` from the executed notebooks; returns its ``index.html``.

    Chapters that were not executed appear with their text and code, without outputs and with a
    note. Sphinx warnings are errors, and so is whatever a page would fetch from another server. The
    finished folder replaces the old one in one step, and
    when nothing changed since it was built it is left as it is. Raises ``RuntimeError`` with
    Sphinx's messages when the build fails.
    """
    root = root or find_root()
    base = Path(output).resolve() / "book"
    html = base / "html"
    source = base / "source"
    pages = [path.name for path in (root / "jupyter_book").iterdir()]
    for place, ours in ((source, pages), (html, [".fingerprint", "index.html"])):
        found = {path.name for path in place.iterdir()} if place.is_dir() else set()
        if found and found.isdisjoint(ours):
            raise InputError(f"{place}: expected what an earlier build left, found other files")
    shutil.rmtree(source, ignore_errors=True)
    stage(source, Path(output).resolve() / "notebooks", root)
    mark = digest(
        {
            "pages": [
                (str(p.relative_to(source)), file_digest(p))
                for p in sorted(source.rglob("*"))
                if p.is_file()
            ],
            "library": source_digest(),
            "versions": provenance.versions(),
        }
    )
    done = html / ".fingerprint"
    if not force and done.exists() and done.read_text() == mark:
        return html / "index.html"
    with tempfile.TemporaryDirectory(dir=base, prefix=".build-") as folder:
        fresh = Path(folder) / "html"
        _sphinx(source, fresh, Path(folder) / "doctrees")
        if outside := outside_addresses(fresh):
            page, asked = next(iter(outside.items()))
            raise StoppedError(
                f"{len(outside)} pages of the book would ask other servers, the first {page} for "
                f"{', '.join(asked[:3])}: expected nothing but files of the book"
            )
        (fresh / ".fingerprint").write_text(mark)
        old = Path(folder) / "old"
        if html.exists():
            html.replace(old)
        fresh.replace(html)
    return html / "index.html"


#: Jupyter Book's command, run by this interpreter whatever is on the path.
_JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def _sphinx(source: Path, html: Path, doctrees: Path) -> None:
    """Jupyter Book's configuration of these pages, built by Sphinx with warnings as errors."""
    flags = ["-W", "--keep-going", "-q", "-d", str(doctrees)]
    configure = [sys.executable, "-c", _JUPYTER_BOOK, "config", "sphinx", str(source)]
    build = [sys.executable, "-m", "sphinx", *flags, str(source), str(html)]
    _call(configure)
    _without_extensions(source / "conf.py", ("sphinx_thebe", "sphinx_comments"))
    _call(build)


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the book could not be built:\n{done.stdout}\n{done.stderr}")


def _without_extensions(conf: Path, names: Sequence[str]) -> None:
    """Take extensions out that would load scripts from elsewhere (and log errors offline)."""
    text = conf.read_text(encoding="utf-8")
    for name in names:
        text = text.replace(f"'{name}', ", "")
    conf.write_text(text, encoding="utf-8")


def stage(source: Path, executed: Path, root: Path) -> None:
    """Lay out the book's sources: pages, executed notebooks, and the status page."""
    import nbformat

    shutil.copytree(root / "jupyter_book", source)
    _fill_results(source / "reproduction.md", root / "data" / "results")
    (source / "notebooks").mkdir()
    rows = []
    for chapter in find_chapters(root).values():
        path = executed / f"{chapter.name}.ipynb"
        record = read_record(path)
        if record and path.exists():
            notebook = nbformat.read(path, as_version=4)
            stale = record["source"] != file_digest(chapter.path)
            note = _STALE if stale else ""
        else:
            notebook, note = _read_text_notebook(chapter.path), _NOT_EXECUTED
        if note:
            first = next(c for c in notebook.cells if c.cell_type == "markdown")
            head, _, rest = first.source.partition("\n")
            first.source = f"{head}\n\n{note}\n{rest}"
        strip_outputs(notebook)
        for number, cell in enumerate(notebook.cells):
            cell["id"] = f"cell-{number}"  # or text notebooks would get random ones each time
        nbformat.write(notebook, source / "notebooks" / f"{chapter.name}.ipynb")
        rows.append(_status_row(chapter, record, note))
    (source / "status.md").write_text(_status_page(rows), encoding="utf-8")
    for number, (room, modules) in enumerate(library_rooms().items(), start=1):
        page = source / "api" / f"{number:02}_{room}.md"
        page.write_text(_api_page(room, modules), encoding="utf-8")


#: Where the reproduction page takes the tables made from ``data/results``.
RESULTS_HERE = "<!-- the tables of data/results -->"


def _fill_results(page: Path, results: Path) -> None:
    """Put the tables of the shipped results where the page asks for them."""
    from radarbook.evaluation.comparison import results_page

    if page.is_file() and RESULTS_HERE in (text := page.read_text(encoding="utf-8")):
        page.write_text(text.replace(RESULTS_HERE, results_page(results)), encoding="utf-8")


#: The library's packages, in order; a package imports only from packages above it.
ROOMS = (
    "ground",
    "faces",
    "radar",
    "datasets",
    "networks",
    "training",
    "evaluation",
    "fitting",
    "figures",
    "top",
)
_GROUND = (
    "errors",
    "seeds",
    "files",
    "targets",
    "threads",
    "hdf5",
    "npy",
    "locks",
    "processes",
    "profiles",
    "progress",
    "provenance",
)


def library_rooms() -> dict[str, list[str]]:
    """The library's public modules by package, as dotted names, as found in the source."""

    def public(folder: Path, files: str = "*.py") -> list[str]:
        found = [p.relative_to(folder) for p in folder.glob(files) if not p.stem.startswith("_")]
        return sorted(".".join(p.with_suffix("").parts) for p in found)

    single = public(PACKAGE)
    rooms = {room: [f"radarbook.{room}"] for room in ROOMS}
    rooms["ground"] = [f"radarbook.{name}" for name in _GROUND]
    rooms["top"] = [f"radarbook.{name}" for name in single if name not in _GROUND]
    rooms["top"] += [f"radarbook.cli.{name}" for name in public(PACKAGE / "cli")]
    for room in ROOMS[1:-1]:
        rooms[room] = [f"radarbook.{room}.{name}" for name in public(PACKAGE / room, "**/*.py")]
    return rooms


def _api_page(room: str, modules: Sequence[str]) -> str:
    title = {"ground": "Base modules", "top": "Pipeline, book, command line"}.get(room, room)
    parts = [f"# {title}\n"]
    for module in modules:
        parts.append(
            f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
        )
    return "\n".join(parts)


_NOT_EXECUTED = """```{note}
This chapter has not been executed yet: it is shown without its results.
```
"""
_STALE = """```{warning}
This chapter's text changed after it was executed: run it again to see its results.
```
"""


def _status_row(chapter: Chapter, record: Mapping[str, Any], note: str) -> str:
    title = f"[{chapter.title}](notebooks/{chapter.name}.ipynb)"
    if not record or note == _NOT_EXECUTED:
        return f"| {title} | not executed | | | | |"
    machine, parts = record["machine"], record["versions"]
    given = record["parameters"]
    changed = {**given.get("overrides", {})} | {
        k: v for k, v in given.items() if k not in ("output", "overrides")
    }
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    if machine["accelerator"] != "none":
        hardware += f", {machine['accelerator']}"
    busy = " on a busy machine" if record.get("processor_share", 1.0) < BUSY_SHARE else ""
    return (
        f"| {title} | {record['profile']}"
        + "".join(f", {k} = {v}" for k, v in changed.items())
        + f" | {record['seconds']:.0f} s{busy} | {record['finished'][:16].replace('T', ' ')} UTC"
        + f" | {hardware} | python {parts['python']}, torch {parts['torch']} |"
    )


def _status_page(rows: Sequence[str]) -> str:
    head = """# Status

When each chapter was last executed, at which profile, on what, and how long it took. This page is
written by the run itself. On a busy machine other processes took a good part of the processors,
and a time says little.

| chapter | profile and changes | time | finished | machine | versions |
|---|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n"
