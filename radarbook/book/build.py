"""Build of the book from the executed notebooks.

:func:`build_book` stages the executed notebooks with the pages of ``jupyter_book/`` and builds
``<output>/book/html/index.html`` with warnings as errors.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radarbook import provenance
from radarbook.book.chapters import Chapter, find_chapters, find_root, read_text_notebook
from radarbook.book.execute import read_record
from radarbook.book.library import api_page, library_packages
from radarbook.book.pages import outside_addresses, strip_outputs
from radarbook.errors import InputError, StoppedError
from radarbook.files import digest, file_digest, source_digest
from radarbook.provenance import BUSY_SHARE

#: Processes that read and write pages, at most: each holds all of the book's pages.
_JOBS = 4


def build_book(
    output: str | os.PathLike[str] = "build/smoke",
    root: Path | None = None,
    force: bool = False,
    *,
    repository: str | None = None,
    single_page: bool = False,
) -> Path:
    """Build ``<output>/book/html`` from the executed notebooks; returns its ``index.html``.

    With ``single_page`` it is ``<output>/book/print``, one page to print:
    chapters, results and reference pages, with pictures instead of interactive figures and
    without the pages on the library.

    ``repository``, ``https://github.com/OWNER/NAME``, is the address that the pages link to:
    source, issues, and the notebooks opened on Binder or Colab. The project's own files do not
    state it, so that a fork links to itself; without it the pages have no such links.

    Chapters that were not executed appear with their text and code, without outputs and with a
    note. Sphinx warnings are errors, and so is whatever a page would fetch from another server. The
    finished folder replaces the old one in one step, and
    when nothing changed since it was built it is left as it is.

    Raises :class:`~radarbook.errors.InputError` for another ``repository``, and ``RuntimeError``
    with Sphinx's messages when the build fails.
    """
    root = root or find_root()
    if repository is not None:
        check_repository(repository)
    base = Path(output).resolve() / "book"
    html = base / ("print" if single_page else "html")
    source = base / "source"
    pages = [path.name for path in (root / "jupyter_book").iterdir()]
    for place, ours in ((source, pages), (html, [".fingerprint", "index.html"])):
        found = {path.name for path in place.iterdir()} if place.is_dir() else set()
        if found and found.isdisjoint(ours):
            raise InputError(f"{place}: expected what an earlier build left, found other files")
    shutil.rmtree(source, ignore_errors=True)
    stage(source, Path(output).resolve() / "notebooks", root)
    if repository is not None:
        _link(source / "_config.yml", repository)
    if single_page:
        _leave_out_the_library(source)
        _leave_out_folded_code(source / "notebooks")
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
        _sphinx(source, fresh, Path(folder) / "doctrees", "singlehtml" if single_page else "html")
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


#: The part of the contents with the pages on the library, which are not printed.
LIBRARY_PART = "The library"
_REPOSITORY = re.compile(r"https://github\.com/[\w-]+/[\w.-]*\w")


def check_repository(address: str) -> None:
    """Raise :class:`~radarbook.errors.InputError` unless an address is a repository on GitHub."""
    if not _REPOSITORY.fullmatch(address):
        raise InputError(f"repository: expected https://github.com/OWNER/NAME, found '{address}'")


def _link(config: Path, repository: str) -> None:
    """Let the pages link to the project's repository, and chapters to Binder and Colab.

    The notebooks of the repository lie where the pages lie in the book, ``notebooks/NN_name``.
    """
    import yaml

    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["repository"] = {"url": repository, "branch": "main", "path_to_book": ""}
    settings["html"] |= {"use_repository_button": True, "use_issues_button": True}
    settings["launch_buttons"] |= {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    }
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")


#: Jupyter Book's command, run by this interpreter whatever is on the path.
_JUPYTER_BOOK = "from jupyter_book.cli.main import main; main()"


def _leave_out_the_library(source: Path) -> None:
    """Take the part on the library out of the contents, but for the bibliography.

    What other pages say about it stays as words without a link.
    """
    import yaml

    contents = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    if parts := contents.get("parts"):
        for part in parts:
            if part["caption"] == LIBRARY_PART:
                part["caption"] = "Sources"
                part["chapters"] = [c for c in part["chapters"] if c["file"] == "bibliography"]
        (source / "_toc.yml").write_text(yaml.safe_dump(contents), encoding="utf-8")
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["suppress_warnings"] += ["ref.doc", "ref.ref", "myst.xref_missing"]
    (source / "_config.yml").write_text(
        yaml.safe_dump(config, allow_unicode=True), encoding="utf-8"
    )


def _leave_out_folded_code(notebooks: Path) -> None:
    """Take out the code that a page shows on a click: paper has none."""
    import nbformat

    for path in notebooks.glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            tags = cell.metadata.get("tags", [])
            cell.metadata["tags"] = ["remove-input" if t == "hide-input" else t for t in tags]
        nbformat.write(notebook, path)


def _sphinx(source: Path, html: Path, doctrees: Path, builder: str = "html") -> None:
    """Jupyter Book's configuration of these pages, built by Sphinx with warnings as errors."""
    # One more than work: Sphinx counts the process that waits for the others.
    jobs = str(1 + min(_JOBS, provenance.usable_cores()))
    flags = ["-W", "--keep-going", "-q", "-j", jobs, "-b", builder, "-d", str(doctrees)]
    configure = [sys.executable, "-c", _JUPYTER_BOOK, "config", "sphinx", str(source)]
    build = [sys.executable, "-m", "sphinx", *flags, str(source), str(html)]
    _call(configure)
    unused = ("sphinx_thebe", "sphinx_comments", "sphinx_jupyterbook_latex")
    _without_extensions(source / "conf.py", unused)
    _call(build)


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the book could not be built:\n{done.stdout}\n{done.stderr}")


def _without_extensions(conf: Path, names: Sequence[str]) -> None:
    """Take extensions out: those that would load scripts from elsewhere (and log errors offline),
    and the one for LaTeX, with which Sphinx would read one page at a time."""
    text = conf.read_text(encoding="utf-8")
    for name in names:
        text = text.replace(f"'{name}', ", "")
    conf.write_text(text, encoding="utf-8")


def stage(source: Path, executed: Path, root: Path) -> None:
    """Lay out the book's sources: pages, executed notebooks, and the status page."""
    import nbformat

    shutil.copytree(root / "jupyter_book", source)
    fill_pages(source, root)
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
            notebook, note = read_text_notebook(chapter.path), _NOT_EXECUTED
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
    for number, (package, modules) in enumerate(library_packages().items(), start=1):
        page = source / "api" / f"{number:02}_{package}.md"
        page.write_text(api_page(package, modules), encoding="utf-8")


#: Where pages take what the build makes: the tables of ``data/results``, of the parameters cells,
#: of the profiles, and of the commands.
RESULTS_HERE = "<!-- the tables of data/results -->"
PARAMETERS_HERE = "<!-- the parameters of the chapters -->"
FIELDS_HERE = "<!-- the fields of the profiles -->"
COMMANDS_HERE = "<!-- the commands and their options -->"


def fill_pages(source: Path, root: Path) -> None:
    """Put what is made from data and from chapters where a page asks for it."""
    from radarbook.book.parameters import fields_of_profiles, parameters_of_chapters
    from radarbook.reports.comparison import results_page

    made = {
        RESULTS_HERE: lambda: results_page(root / "data" / "results"),
        PARAMETERS_HERE: lambda: parameters_of_chapters(list(find_chapters(root).values())),
        FIELDS_HERE: fields_of_profiles,
        COMMANDS_HERE: _commands,
    }
    for page in source.glob("*.md"):
        before = text = page.read_text(encoding="utf-8")
        for mark, make in made.items():
            if mark in text:
                text = text.replace(mark, make())
        if text != before:
            page.write_text(text, encoding="utf-8")


def _commands() -> str:
    """What the command line states about itself. It is asked as a program: it imports the book."""
    ask = [sys.executable, "-m", "radarbook.cli.reference"]
    said = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(ask, capture_output=True, check=False, encoding="utf-8", env=said)
    if done.returncode:
        raise RuntimeError(f"the command line could not be described:\n{done.stderr}")
    return done.stdout


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
