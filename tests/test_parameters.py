"""Parameters: the page made from the cells, plain papermill, and the sweeps that the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import nbformat
import papermill
import pytest

from radarbook.book.build import FIELDS_HERE, PARAMETERS_HERE, fill_pages
from radarbook.book.chapters import (
    COMMON,
    fields_set_by_papermill,
    find_chapters,
    parse_chapters,
    resolve_parameters,
)
from radarbook.book.kernel import own_kernel
from radarbook.book.notebook import project_root
from radarbook.book.parameters import fields_of_profiles, parameters_of_chapters
from radarbook.errors import InputError
from radarbook.profiles import PROFILES, Profile, get_profile, read_settings

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "jupyter_book" / "parameters.md"
CHAPTERS = find_chapters(ROOT)


def rows(markdown: str) -> list[list[str]]:
    """Cells of a table's rows, without its head."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# -- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=lambda c: c.name)
def test_every_parameter_has_a_meaning_and_the_common_ones_have_the_same(chapter):
    assert all(chapter.meanings[name] for name in chapter.defaults)
    for name in COMMON:
        assert chapter.meanings[name] == CHAPTERS[1].meanings[name]


def test_the_table_has_each_parameter_of_each_chapter_with_its_default():
    found = rows(parameters_of_chapters(list(CHAPTERS.values())))
    seen = set()
    for name, default, kind, meaning, where in found:
        numbers = CHAPTERS if where == "all" else map(int, re.findall(r"\[(\d+)\]", where))
        for number in numbers:
            chapter = CHAPTERS[number]
            plain = name.strip("`")
            assert default == f"`{chapter.defaults[plain]!r}`"
            assert kind == f"`{type(chapter.defaults[plain]).__name__}`"
            assert meaning == chapter.meanings[plain]
            assert (number, plain) not in seen
            seen.add((number, plain))
    assert seen == {(n, name) for n, chapter in CHAPTERS.items() for name in chapter.defaults}
    assert [row[0].strip("`") for row in found[: len(COMMON)]] == [
        name for name in CHAPTERS[1].defaults if name in COMMON
    ]


def test_every_field_of_a_profile_has_a_meaning_and_its_values():
    found = {row[0].strip("`"): row[1:] for row in rows(fields_of_profiles())}
    assert set(found) == set(Profile.model_fields) - {"name"}
    assert all(row[1] for row in found.values())
    assert found["frequencies"][2:] == [str(p.frequencies) for p in PROFILES.values()]
    assert found["inputs"][0] == "some of `amplitude`, `depth`, `both`"


def test_a_parameter_without_a_comment_is_refused(tmp_path):
    (tmp_path / "notebooks").mkdir()
    text = (ROOT / "notebooks" / "08_differentiable_physics.md").read_text()
    silent = re.sub(r"^face = 2 .*$", "face = 2", text, flags=re.M)
    assert silent != text
    (tmp_path / "notebooks" / "08_silent.md").write_text(silent)
    with pytest.raises(InputError, match="parameter 'face': expected a comment"):
        parameters_of_chapters(list(find_chapters(tmp_path).values()))


def test_the_build_fills_the_page(tmp_path):
    page = tmp_path / "parameters.md"
    page.write_text(PAGE.read_text())
    fill_pages(tmp_path, ROOT)
    text = page.read_text()
    assert PARAMETERS_HERE not in text
    assert FIELDS_HERE not in text
    assert parameters_of_chapters(list(CHAPTERS.values())) in text
    assert "file: parameters" in (ROOT / "jupyter_book" / "_toc.yml").read_text()


# -- plain papermill -----------------------------------------------------------------------------


def beginning(folder: Path, *cells: str) -> Path:
    """Chapter 3's own notebook as far as its start, followed by other cells."""
    notebook = nbformat.read(ROOT / "notebooks" / "03_encoder.ipynb", as_version=4)
    code = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    start = next(n for n in code if "rb.start_chapter" in notebook.cells[n].source)
    notebook.cells = notebook.cells[: start + 1]
    [line] = re.findall(r"^chapter = .*$", notebook.cells[start].source, flags=re.M)
    notebook.cells[start].source = line
    imports = notebook.cells[code[1]]
    assert imports.source.startswith("import torch")
    imports.source = "import radarbook as rb"
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    path = folder / "in.ipynb"
    nbformat.write(notebook, path)
    return path


def test_papermill_sets_profile_fields_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = beginning(
        tmp_path, "print(chapter.profile.inputs, chapter.profile.name, chapter.overrides)"
    )
    with own_kernel():
        papermill.execute_notebook(
            path,
            tmp_path / "out.ipynb",
            {"profile": "laptop", "inputs": "depth"},
            progress_bar=False,
        )
        executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
        [output] = executed.cells[-1].outputs
        assert output.text == "('depth',) laptop {'inputs': 'depth'}\n"
        # The library's folder is that of the project, wherever papermill was started.
        assert project_root() == ROOT


def test_fields_of_papermill_are_those_the_notebook_lacks():
    cells = ["", "seed = 0\nface = 2", "# Parameters\nface = 3\npixels = 32\ninputs = ['depth']\n"]
    assert fields_set_by_papermill(cells) == {"pixels": 32, "inputs": ["depth"]}
    assert fields_set_by_papermill(cells[:2]) == {}
    for given, words in (("name = 'x'", "'name'"), ("input = 'depth'", "'input'.*'inputs'")):
        with pytest.raises(InputError, match=f"unknown parameter {words}"):
            fields_set_by_papermill([*cells[:2], f"# Parameters\n{given}"])


# -- sweeps --------------------------------------------------------------------------------------


def test_the_sweep_of_the_page_runs_and_its_errors_fall(monkeypatch):
    import radarbook as rb

    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [lines] = [block for block in blocks if "rendering_errors" in block]
    small = lines.replace("range(4)", "range(1)").replace("128", "24")
    small = small.replace("(6, 12, 18, 24, 48)", "(6, 18)")
    assert small.count("range(1)") == small.count("=24)") == small.count("(6, 18)") == 1
    smoke = get_profile("smoke", {"pixels": 24})
    monkeypatch.setattr(rb, "get_profile", lambda name, changes: smoke.model_copy(update=changes))
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(small, str(PAGE), "exec"), {})
    coarse, fine = rows(said.getvalue())
    assert [coarse[0], fine[0]] == ["6", "18"]
    assert float(fine[1]) < float(coarse[1])
    assert float(fine[3]) > float(coarse[3])


def test_commands_of_the_page_have_parameters_that_are_taken():
    text = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL))
    commands = [shlex.split(line.strip(), comments=True) for line in text.splitlines()]
    runs = [words for words in commands if words[:1] == ["radarbook"]]
    assert [words[1] for words in runs] == ["run", "run", "results"]
    for words in runs:
        given = [words[n + 1] for n, word in enumerate(words) if word == "-p"]
        settings = read_settings(
            text.replace("$seed", "1").replace("$train", "500") for text in given
        )
        profile = words[words.index("--profile") + 1]
        if words[1] == "results":
            get_profile(profile, settings)
            continue
        numbers = parse_chapters(words[words.index("--chapters") + 1], sorted(CHAPTERS))
        taken = resolve_parameters([CHAPTERS[n] for n in numbers], profile, settings)
        assert len(taken) == len(numbers)
    [paper] = [words for words in commands if words[:1] == ["papermill"]]
    assert (ROOT / paper[1]).is_file()
