"""Execution of notebooks and the book around them, on a tiny book of two notebooks."""

from __future__ import annotations

import doctest
import errno
import html
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from radarbook import provenance
from radarbook.book import build, execute
from radarbook.book.chapters import find_chapters, parse_chapters, resolve_parameters
from radarbook.book.execute import ChapterFailed, run_notebooks
from radarbook.book.library import library_packages
from radarbook.book.pages import outside_addresses
from radarbook.errors import InputError, StoppedError
from radarbook.files import PACKAGE
from radarbook.locks import hold

ROOT = Path(__file__).resolve().parents[1]
COMMON = 'profile = "smoke"\noutput = ""\nseed = 0\nmodel = "procedural"\noverrides = {}\n'


def notebook(title: str, parameters: str, *cells: str) -> str:
    """A MyST notebook's text."""
    head = (
        "---\njupytext:\n  text_representation:\n    extension: .md\n    format_name: myst\n"
        "kernelspec:\n  display_name: Python 3\n  language: python\n  name: python3\n---\n\n"
    )
    code = [f"```{{code-cell}} ipython3\n:tags: [parameters]\n\n{COMMON}{parameters}\n```"]
    code += [f"```{{code-cell}} ipython3\n{cell}\n```" for cell in cells]
    return head + f"# {title}\n\n" + "\n\n".join(code) + "\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two chapters; each leaves a mark for every execution, the second can be made to fail."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    count = 'with open("{}.log", "a") as file:\n    file.write("x")'
    (folder / "01_first.md").write_text(
        notebook(
            "First", "count = 3\nrate = 0.5\nnames = ['a']", count.format("first"), "count * 2"
        )
    )
    (folder / "02_second.md").write_text(
        notebook(
            "Second",
            "fail = False",
            count.format("second"),
            'print("before")',
            'if fail:\n    raise KeyError("a cell failed")',
            "import sys\n"
            "from ipykernel.kernelapp import IPKernelApp\n"
            "(sys.executable, IPKernelApp.instance().transport)",
        )
    )
    return tmp_path


def run(root: Path, chapters=None, **keywords):
    return run_notebooks(
        chapters, "smoke", output=root / "out", root=root, progress=False, **keywords
    )


def executions(root: Path, name: str) -> int:
    log = root / f"{name}.log"
    return len(log.read_text()) if log.exists() else 0


# -- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"coun": 3}, "unknown parameter 'coun'.*did you mean 'count'"),
        ({"count": "three"}, "parameter 'count': expected a whole number, found 'three'"),
        ({"count": 3.5}, "parameter 'count'"),
        ({"count": True}, "parameter 'count'"),
        ({"rate": "nan"}, "parameter 'rate'"),
        ({"fail": "maybe"}, "parameter 'fail': expected true or false"),
        ({"names": "[1, 2]"}, r"parameter 'names\[0\]'"),
        ({"train": "many"}, "parameter 'train'"),
        ({"train": 0}, "parameter 'train'"),
        ({"overrides": {}}, "set by the run"),
        ({"model": "nowhere.h5"}, "nowhere.h5"),
    ],
)
def test_bad_parameters_are_refused_before_anything_runs(root, parameters, words):
    with pytest.raises(InputError, match=words):
        run(root, parameters=parameters)
    assert executions(root, "first") == 0
    assert not (root / "out").exists()


def test_unknown_profile_and_chapter_are_refused_before_anything_runs(root):
    with pytest.raises(InputError, match="unknown profile 'huge'"):
        run_notebooks(None, "huge", output=root / "out", root=root, progress=False)
    with pytest.raises(InputError, match="unknown chapter 7"):
        run(root, [1, 7])
    assert executions(root, "first") == 0


def test_parameter_of_a_chapter_that_is_not_selected_is_refused(root):
    with pytest.raises(InputError, match="'fail' belongs to chapter 2"):
        run(root, [1], parameters={"fail": "true"})


def test_text_is_read_as_the_type_of_the_default(root):
    chapters = list(find_chapters(root).values())
    given = {"count": "7", "rate": "2", "names": "['x', 'y']", "fail": "true", "train": "9"}
    values = resolve_parameters(chapters, "smoke", given)
    assert values[1] == {
        "profile": "smoke",
        "overrides": {"train": 9},
        "count": 7,
        "rate": 2.0,
        "names": ["x", "y"],
    }
    assert isinstance(values[1]["rate"], float)
    assert values[2] == {"profile": "smoke", "overrides": {"train": 9}, "fail": True}


@pytest.mark.parametrize("text", ["1-2", "1,2", " 2, 1 "])
def test_chapters_are_read_from_text(text):
    assert parse_chapters(text, [1, 2, 3]) == [1, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found ''"),
        ("a", "found 'a'"),
        ("1-", "found '1-'"),
        ("1,,2", "found '1,,2'"),
        ("1;2", "found '1;2'"),
        ("٣", "found '٣'"),
        ("1" * 5000, "found '1{40}…'"),
        ("2-1", "from low to high, found '2-1'"),
        ("0", "unknown chapter 0"),
        ("4", "unknown chapter 4"),
        ("1-999999999", "unknown chapter 999999999"),
    ],
)
def test_bad_chapters_are_refused_in_one_line_that_names_the_known_ones(text, words):
    with pytest.raises(InputError, match=words) as error:
        parse_chapters(text, [1, 2, 3])
    assert "1, 2, 3" in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("line", "words"),
    [("x = open('f')", "literal"), ("import os", "name = value"), ("x, y = 1, 2", "name = value")],
)
def test_parameters_cell_must_be_plain(root, line, words):
    (root / "notebooks" / "01_first.md").write_text(notebook("First", line))
    with pytest.raises(InputError, match=words):
        find_chapters(root)


# -- execution -----------------------------------------------------------------------------------


def test_run_then_skip_then_run_what_changed(root):
    first = run(root)
    assert [r.skipped for r in first] == [False, False]
    done = nbformat.read(first[0].notebook, as_version=4)
    assert done.cells[-1].outputs[0].data["text/plain"] == "6"
    record = json.loads(first[0].notebook.with_suffix(".json").read_text())
    assert record["profile"] == "smoke"
    assert record["seconds"] > 0
    assert {"torch", "python"} <= set(record["versions"])

    assert [r.skipped for r in run(root)] == [True, True]
    # A parameter of one chapter runs that one again, and its result is the new one.
    changed = run(root, parameters={"count": "5"})
    assert [r.skipped for r in changed] == [False, True]
    done = nbformat.read(changed[0].notebook, as_version=4)
    assert done.cells[-1].outputs[0].data["text/plain"] == "10"
    # So does its text.
    path = root / "notebooks" / "02_second.md"
    path.write_text(path.read_text().replace("before", "earlier"))
    assert [r.skipped for r in run(root, parameters={"count": "5"})] == [True, False]
    assert (executions(root, "first"), executions(root, "second")) == (2, 2)
    # Executed notebooks name no folder of this machine.
    assert str(root) not in first[0].notebook.read_text()


def test_a_file_added_to_a_folder_of_inputs_runs_again(root):
    text = notebook("Third", 'where = "inputs"', "1")
    (root / "notebooks" / "03_third.md").write_text(text)
    assert [run(root, [3])[0].skipped for _ in range(2)] == [False, True]
    (root / "inputs" / "below").mkdir(parents=True)
    (root / "inputs" / "below" / "a.npy").write_bytes(b"1")
    assert [run(root, [3])[0].skipped for _ in range(2)] == [False, True]


def test_library_change_runs_again(root, monkeypatch):
    run(root, [1])
    monkeypatch.setattr(execute, "source_digest", lambda *packages: "other")
    assert [r.skipped for r in run(root, [1])] == [False]


def test_kernel_is_this_interpreter_and_takes_no_port(root):
    import sys

    [done] = run(root, [2])
    cell = nbformat.read(done.notebook, as_version=4).cells[-1]
    assert cell.outputs[0].data["text/plain"] == repr((sys.executable, "ipc"))


def test_failing_cell_leaves_a_readable_partial_and_no_final(root):
    with pytest.raises(ChapterFailed, match="chapter 2") as failure:
        run(root, parameters={"fail": "true"})
    assert "a cell failed" in failure.value.report
    partial = failure.value.notebook
    assert partial.name == "02_second.failed.ipynb"
    cells = nbformat.read(partial, as_version=4).cells
    texts = [o.get("text", "") for c in cells for o in c.get("outputs", [])]
    assert "before\n" in texts
    left = sorted(p.name for p in partial.parent.iterdir())
    assert left == ["01_first.ipynb", "01_first.json", "02_second.failed.ipynb"]
    # Once it goes through, the trace of the failure is gone.
    run(root)
    assert not partial.exists()


def test_a_full_disk_leaves_no_cut_notebook(root, monkeypatch):
    """papermill writes as it goes, and what it could not finish is no notebook."""
    from papermill.iorw import LocalHandler

    written, count = LocalHandler.write, 0

    def fills_up(self, buffer, path):
        nonlocal count
        count += 1
        if count == 2:
            written(self, buffer[: len(buffer) // 2], path)
        if count >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(self, buffer, path)

    with monkeypatch.context() as full:
        full.setattr(LocalHandler, "write", fills_up)
        says = "No space left on device; the same command goes on with chapter 1"
        with pytest.raises(InputError, match=says):
            run(root)
    assert list((root / "out" / "notebooks").iterdir()) == []
    assert [r.skipped for r in run(root)] == [False, False]


def test_a_killed_kernel_is_one_line_and_finished_chapters_are_kept(root, capfd):
    path = root / "notebooks" / "02_second.md"
    whole = path.read_text()
    path.write_text(whole.replace('print("before")', "import os; os.kill(os.getpid(), 9)"))
    with pytest.raises(StoppedError, match=r"chapter 2 \(02_second\): its kernel died in") as end:
        run(root)
    assert "cell 5 (Kernel died), often because memory ran out" in str(end.value)
    assert "02_second.failed.ipynb" in str(end.value)
    assert "\n" not in str(end.value)
    path.write_text(whole)
    assert [r.skipped for r in run(root)] == [True, False]
    assert "Traceback" not in capfd.readouterr().err


def test_two_runs_in_one_folder_are_one_too_many(root):
    with (
        hold(root / "out"),
        pytest.raises(InputError, match="another run is writing"),
    ):
        run(root)
    assert executions(root, "first") == 0


def test_a_notebook_that_differs_from_its_text_is_noticed(root, capfd):
    import jupytext

    path = root / "notebooks" / "01_first.md"
    jupytext.write(jupytext.read(path), path.with_suffix(".ipynb"))
    run(root, [1])
    assert "differs" not in capfd.readouterr().err
    notebook = path.with_suffix(".ipynb")
    notebook.write_text(notebook.read_text().replace("count * 2", "count * 9"))
    [again] = run(root, [1])
    assert again.skipped
    assert "01_first.ipynb differs from 01_first.md: 01_first.md is executed" in (
        capfd.readouterr().err
    )


def test_times_on_a_busy_machine_are_marked(root, monkeypatch, capfd, tmp_path):
    pages(root)
    monkeypatch.setattr(execute, "processor_share", lambda: 0.5)
    run(root, [1])
    said = capfd.readouterr().err
    assert said.count("other processes use this machine (a fixed piece of work got 50% of") == 1
    monkeypatch.setattr(execute, "processor_share", lambda: 0.97)
    run(root, [2])
    assert "other processes" not in capfd.readouterr().err
    build.stage(tmp_path / "staged", root / "out" / "notebooks", root)
    first, second = (tmp_path / "staged" / "status.md").read_text().splitlines()[-2:]
    assert " s on a busy machine |" in first
    assert "on a busy machine" not in second


def test_share_of_the_processors_is_measured():
    share = provenance.processor_share(0.02)
    assert 0 < share <= 1


def test_interrupted_run_picks_up_where_it_was(root):
    with pytest.raises(ChapterFailed):
        run(root, parameters={"fail": "true"})
    again = run(root, parameters={"fail": "false"})
    assert [r.skipped for r in again] == [True, False]


# -- the book ------------------------------------------------------------------------------------


INTRO = """# Intro

$$ a = \\frac{1}{2} $$ (eq-a)

See {eq}`eq-a`.
"""


def pages(root: Path) -> None:
    """The smallest book: two pages and the chapters, in the project's own configuration."""
    folder = root / "jupyter_book"
    (folder / "api").mkdir(parents=True)
    (folder / "_config.yml").write_text((ROOT / "jupyter_book" / "_config.yml").read_text())
    (folder / "references.bib").write_text("")
    (folder / "images").mkdir()
    shutil.copy(ROOT / "jupyter_book" / "images" / "favicon.svg", folder / "images")
    (folder / "intro.md").write_text(
        "# Intro\n\n$$ a = \\frac{1}{2} $$ (eq-a)\n\nSee {eq}`eq-a`.\n\n"
        "$$ b = 2 $$ (eq-2-3)\n\nSee {eq}`eq-2-3`, {numref}`fig-line` and {numref}`fig-absent`.\n"
    )
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: intro\nchapters:\n- glob: notebooks/*\n- file: status\n"
    )


FIGURE_CELL = (
    "import ipywidgets\n"
    "from tqdm.auto import tqdm\n"
    "from radarbook import figures, progress\n"
    "for _ in tqdm(range(2)):\n"
    "    pass\n"
    "for _ in progress.Progress(range(3), 'work that is shown'):\n"
    "    pass\n"
    "display(ipywidgets.IntSlider())\n"
    "line = figures.curves({'a': [1, 2, 4]})\n"
    "figures.show(line, alt='a line', caption='A line.', name='fig-line')\n"
    "figures.use()\n"
    "figures.curves({'b': [3, 2]})"
)


def test_book_shows_what_was_executed_and_says_what_was_not(root):
    pages(root)
    equation = "\n$$ c = 3 $$ (eq-c)\n"
    (root / "notebooks" / "01_first.md").write_text(notebook("First", "", FIGURE_CELL) + equation)
    run(root, [1])
    address = "https://github.com/someone/radarbook"
    index = build.build_book(root / "out", root=root, repository=address)
    html = index.parent
    first = (html / "notebooks" / "01_first.html").read_text()
    assert first.count('class="radarbook-figure') == 2
    assert first.count('class="radarbook-spec"') == 2
    # Behind each figure a picture; plotly loaded once, from the book itself.
    assert len(re.findall(r'<img[^>]*src="\.\./_images/[0-9a-f]+\.png"', first)) == 2
    assert len(re.findall(r"<script[^>]*plotly\.min\.js", first)) == 1
    assert (html / "_static" / "plotly.min.js").stat().st_size > 1e6
    intro = (html / "intro.html").read_text()
    assert "<mfrac>" in intro
    # Equations have their page's letter or chapter before their number; figures their chapter.
    assert re.findall(r'eqno">\((.*?)\)<', intro) == ["I1", "I2.3"]
    assert re.findall(r'eqno">\((.*?)\)<', first) == ["1.1"]
    words = re.sub(r"<[^>]+>", "", intro)
    assert "See (I2.3), Figure 1.1 and the figure." in words
    assert re.search(r'caption-number">Figure 1\.1 ?</span>.*A line\.', first)
    assert first.count("A line.") == 2  # in the code and below the figure
    assert "plotly" not in intro
    # No page asks another host for a script, a style, a font or a picture, though the chapter was
    # executed with widgets; and none shows progress.
    assert outside_addresses(html) == {}
    executed = (root / "out" / "notebooks" / "01_first.ipynb").read_text()
    for there, not_there in (
        ("vnd.jupyter.widget-view+json", "vnd.jupyter.widget"),
        ("work that is shown: 3 of 3", "work that is shown: 3 of 3"),
    ):
        assert there in executed
        assert not_there not in first
    second = (html / "notebooks" / "02_second.html").read_text()
    assert "has not been executed yet" in second
    status = (html / "status.html").read_text()
    assert "smoke" in status
    assert "not executed" in status

    # Chapters open on Binder where the repository has them, and on Colab as copies.
    copies = "https://colab.research.google.com/github/someone/radarbook/blob/colab/notebooks/"
    assert f'href="{copies}01_first.ipynb"' in first
    there = "https://mybinder.org/v2/gh/someone/radarbook/main?urlpath=lab/tree/notebooks/"
    assert f'href="{there}01_first.ipynb"' in first
    assert "mybinder" not in intro
    assert f'href="{address}"' in intro

    stamp = index.stat().st_mtime_ns
    assert build.build_book(root / "out", root=root, repository=address) == index
    assert index.stat().st_mtime_ns == stamp  # unchanged: not built again
    assert [p.name for p in (root / "out" / "book").iterdir() if p.name.startswith(".")] == []


def test_single_page_has_all_chapters_and_pictures_alone(root):
    pages(root)
    toc = root / "jupyter_book" / "_toc.yml"
    toc.write_text(
        "format: jb-book\nroot: intro\nparts:\n- caption: Chapters\n  chapters:\n"
        "  - file: notebooks/01_first\n  - file: notebooks/02_second\n"
        f"- caption: {build.LIBRARY_PART}\n  chapters:\n  - file: map\n  - file: bibliography\n"
    )
    (root / "jupyter_book" / "map.md").write_text("# Map of the library\n")
    (root / "jupyter_book" / "bibliography.md").write_text("# Sources\n\nAs in {doc}`map`.\n")
    folded = ':tags: [hide-input]\n\nprint("a result")'
    (root / "notebooks" / "01_first.md").write_text(notebook("First", "", FIGURE_CELL, folded))
    run(root, [1])
    index = build.build_book(root / "out", root=root, single_page=True)
    assert index == root / "out" / "book" / "print" / "index.html"
    page = (index.parent / "intro.html").read_text()
    words = re.sub(r"<[^>]+>", "", page)
    for there in ("Intro", "First", "Second", "has not been executed yet", "As in"):
        assert there in words
    assert "Map of the library" not in words
    assert "a result" in words
    assert 'print("a result")' not in html.unescape(words)
    assert re.search(r'caption-number">Figure 1\.1 ?</span>.*A line\.', page)
    assert "See (I2.3), Figure 1.1 and the figure." in words
    # To be printed: every figure is its picture, loaded at once, and no script makes another.
    assert len(re.findall(r'<img[^>]*src="_images/[0-9a-f]+\.png"', page)) == 2
    assert 'loading="lazy"' not in page
    assert "plotly" not in page.replace("import plotly", "")
    assert outside_addresses(index.parent) == {}


@pytest.mark.parametrize("address", ["", "https://github.com/someone", "git@github.com:a/b.git"])
def test_an_address_that_is_no_repository_is_refused(root, address):
    with pytest.raises(InputError, match="repository: expected https://github"):
        build.build_book(root / "out", root=root, repository=address)
    assert not (root / "out").exists()


def test_the_contents_have_the_part_that_is_not_printed():
    import yaml

    contents = yaml.safe_load((ROOT / "jupyter_book" / "_toc.yml").read_text())
    [library] = [part for part in contents["parts"] if part["caption"] == build.LIBRARY_PART]
    assert "bibliography" in [chapter["file"] for chapter in library["chapters"]]


def test_stale_chapter_says_so(root, tmp_path):
    pages(root)
    run(root, [1])
    path = root / "notebooks" / "01_first.md"
    path.write_text(path.read_text() + "\nMore text.\n")
    build.stage(tmp_path / "staged", root / "out" / "notebooks", root)
    staged = nbformat.read(tmp_path / "staged" / "notebooks" / "01_first.ipynb", as_version=4)
    assert "changed after it was executed" in staged.cells[0].source


def test_warning_fails_the_build_and_keeps_the_old_book(root):
    pages(root)
    old = root / "out" / "book" / "html"
    old.mkdir(parents=True)
    (old / "index.html").write_text("old")
    (root / "jupyter_book" / "intro.md").write_text("# Intro\n\nSee {eq}`eq-nowhere`.\n")
    with pytest.raises(RuntimeError, match="eq-nowhere"):
        build.build_book(root / "out", root=root)
    assert (old / "index.html").read_text() == "old"


def test_a_page_that_asks_another_server_fails_the_build_and_keeps_the_old_book(root, monkeypatch):
    def sphinx(source: Path, html: Path, doctrees: Path, builder: str) -> None:
        html.mkdir()
        (html / "intro.html").write_text('<script src="https://example.org/a"></script>')

    pages(root)
    old = root / "out" / "book" / "html"
    old.mkdir(parents=True)
    (old / "index.html").write_text("old")
    monkeypatch.setattr(build, "_sphinx", sphinx)
    with pytest.raises(StoppedError, match=r"intro\.html for https://example\.org/a: expected"):
        build.build_book(root / "out", root=root)
    assert (old / "index.html").read_text() == "old"


def test_api_reference_names_every_public_module():
    listed = {name for modules in library_packages().values() for name in modules}
    there = {
        ".".join(["radarbook", *p.relative_to(PACKAGE).with_suffix("").parts])
        for p in PACKAGE.rglob("*.py")
        if not p.stem.startswith("_")
    }
    assert listed == there


def test_worked_signs_of_the_conventions_page_are_what_the_library_does():
    text = (ROOT / "jupyter_book" / "conventions.md").read_text()
    found = doctest.DocTestParser().get_doctest(text, {}, "conventions", None, None)
    assert len(found.examples) >= 10
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
        found, out=report.append
    )
    assert result.failed == 0, "".join(report)
