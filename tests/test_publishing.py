"""Workflows and the environments of Binder and conda: pinned, minimal, of things that exist."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import typer
import yaml
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from radarbook.book import colab
from radarbook.book.chapters import find_chapters
from radarbook.cli import app
from radarbook.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: Jobs that may write, and what; both have no step that executes code of the project.
MAY_WRITE = {"publish": {"pages", "id-token"}, "colab": {"contents"}}
MAKEFILE = (ROOT / "Makefile").read_text()


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


def jobs(path: Path) -> dict[str, Any]:
    return read(path)["jobs"]


def lines(path: Path) -> list[str]:
    """Every command line of a workflow's steps, continued lines as one."""
    texts = [step["run"] for job in jobs(path).values() for step in job["steps"] if "run" in step]
    return [line for text in texts for line in text.replace("\\\n", " ").splitlines() if line]


def command(words: list[str]) -> tuple[Any, list[str]]:
    """The command of the application that words name, and the words after it."""
    found: Any = typer.main.get_command(app)
    rest = list(words)
    while getattr(found, "commands", None):
        if not rest or rest[0] not in found.commands:
            raise LookupError(f"radarbook has no command {' '.join(words)}")
        found = found.commands[rest.pop(0)]
    return found, rest


def unknown(path: Path) -> list[str]:
    """Make targets, make variables, and radarbook commands and options that do not exist."""
    wrong = []
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.M))
    variables = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, flags=re.M))
    for line in lines(path):
        program, *words = shlex.split(line)
        if program == "make":
            given = {word.partition("=")[0] for word in words if "=" in word}
            asked = {word for word in words if "=" not in word}
            wrong += sorted((asked - targets) | (given - variables))
        elif Path(program).name == "radarbook":
            try:
                found, rest = command(words)
            except LookupError as error:
                wrong.append(str(error))
                continue
            options = {option for p in found.params for option in (*p.opts, *p.secondary_opts)}
            wrong += [word for word in rest if word.startswith("-") and word not in options]
    return wrong


def test_there_are_workflows():
    assert {path.stem for path in WORKFLOWS} == {"book", "gpu"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_actions_are_pinned_to_commits_with_their_version(path):
    uses = re.findall(r"uses: *(.+)$", path.read_text(), flags=re.M)
    assert uses
    for use in uses:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use


def test_one_action_has_one_version_in_all_workflows():
    found = [
        use for path in WORKFLOWS for use in re.findall(r"uses: *(.+)$", path.read_text(), re.M)
    ]
    by_action: dict[str, set[str]] = {}
    for use in found:
        by_action.setdefault(use.partition("@")[0], set()).add(use)
    assert all(len(versions) == 1 for versions in by_action.values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_permissions_are_stated_and_only_publishing_may_write(path):
    whole = read(path)
    assert whole["permissions"] == {"contents": "read"}
    assert "concurrency" in whole
    for name, job in whole["jobs"].items():
        assert job["timeout-minutes"] > 0
        writes = {what for what, how in job.get("permissions", {}).items() if how != "read"}
        assert writes == MAY_WRITE.get(name, set())
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_targets_commands_and_options_exist(path):
    assert unknown(path) == []


def test_what_does_not_exist_is_found(tmp_path):
    steps = [
        {"run": "make tests SPEED=1 PROFILE=smoke"},
        {"run": ".venv/bin/radarbook run --profil x\nradarbook bok build"},
    ]
    path = tmp_path / "bad.yml"
    path.write_text(yaml.safe_dump({"jobs": {"a": {"steps": steps}}}))
    assert unknown(path) == ["SPEED", "tests", "--profil", "radarbook has no command bok build"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_no_expression_becomes_part_of_a_script(path):
    """Text that someone else may choose reaches a script through its environment."""
    assert not [line for line in lines(path) if "${{" in line]


def test_the_book_is_published_after_every_check_and_from_main_alone():
    every = jobs(ROOT / ".github" / "workflows" / "book.yml")
    publish, colab = every.pop("publish"), every.pop("colab")
    assert set(publish["needs"]) == set(every)
    assert colab["needs"] == "publish"
    for job in (publish, colab):
        uses = " ".join(step.get("uses", "") for step in job["steps"])
        assert "checkout" not in uses
    assert "github.ref == 'refs/heads/main'" in publish["if"]
    done = {
        line.split()[1] for line in lines(ROOT / ".github/workflows/book.yml") if "make" in line
    }
    assert done >= {"setup", "lint", "pairing", "test", "run"}
    [upload] = [s for s in every["book"]["steps"] if "upload-pages" in s.get("uses", "")]
    assert upload["with"]["path"] == "build/smoke/book/html"


def test_the_gpu_runner_is_started_by_hand_alone():
    whole = read(ROOT / ".github" / "workflows" / "gpu.yml")
    start = whole[True]  # YAML 1.1 reads the key "on" as true
    assert set(start) == {"workflow_dispatch"}
    assert {"laptop", "paper"} <= set(start["workflow_dispatch"]["inputs"]["profile"]["options"])
    assert "self-hosted" in jobs(ROOT / ".github" / "workflows" / "gpu.yml")["book"]["runs-on"]


# -- copies for Colab ----------------------------------------------------------------------------


def test_copies_for_colab_are_the_chapters_behind_a_cell_that_fetches_the_project(tmp_path):
    address, revision = "https://github.com/someone/radarbook", "0123456789" * 4
    paths = colab.colab_notebooks(tmp_path, address, revision)
    assert [path.stem for path in paths] == [c.name for c in find_chapters(ROOT).values()]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for path in paths:
        first, *rest = nbformat.read(path, as_version=4).cells
        nbformat.validate(nbformat.read(path, as_version=4))
        assert f"git clone --quiet {address} " in first.source
        assert f"checkout --quiet {revision}" in first.source
        [packages] = re.findall(r"%pip install --quiet (.*)", first.source)
        named = shlex.split(packages)
        left = [text for text in project["dependencies"] if text not in named]
        assert len(named) + len(colab.NOT_ON_COLAB) == len(project["dependencies"])
        assert {re.split("[^a-z0-9-]", text)[0] for text in left} == set(colab.NOT_ON_COLAB)
        source = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
        assert [(c.cell_type, c.source) for c in rest] == [
            (c.cell_type, c.source) for c in source.cells
        ]
    assert "google" not in (ROOT / "notebooks" / "01_face_model.ipynb").read_text()


def test_chapters_import_and_start_without_what_colab_is_not_given(tmp_path):
    imports = set()
    for path in (ROOT / "notebooks").glob("0*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            nodes = ast.walk(ast.parse(cell.source)) if cell.cell_type == "code" else ()
            imports |= {ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)}
    absent = {name.replace("-", "_") for name in colab.NOT_ON_COLAB} - {"torch"}
    code = "\n".join(
        [
            "import sys",
            f"sys.modules.update(dict.fromkeys({sorted(absent)!r}))  # importing them fails",
            f"sys.path.insert(0, {str(ROOT)!r})",
            *sorted(imports),
            "import radarbook as rb",
            "chapter = rb.start_chapter('smoke', output='results')",
            "rb.load_model()",
            "figures.show(figures.curves({'a': [1, 2]}), alt='a line', caption='A line.')",
            "chapter.provenance()",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--repository", "github.com/a/b", "--revision", "a" * 40], "repository: expected https"),
        (["--repository", "https://github.com/a/b", "--revision", "main"], "--revision: expected"),
    ],
)
def test_copies_for_colab_of_no_commit_are_refused(tmp_path, given, words):
    ran = CliRunner().invoke(app, ["book", "colab", "-o", str(tmp_path / "c"), *given])
    assert isinstance(ran.exception, InputError)
    assert str(ran.exception).startswith(words)
    assert not (tmp_path / "c").exists()


# -- environments --------------------------------------------------------------------------------


def test_binder_installs_the_pinned_packages_and_the_project():
    folder = ROOT / "binder"
    wanted = [
        line
        for line in (folder / "requirements.txt").read_text().splitlines()
        if not line.startswith("#")
    ]
    [constraint] = [line.split()[1] for line in wanted if line.startswith("--constraint")]
    assert (folder / constraint).resolve() == ROOT / "constraints.txt"
    assert [line for line in wanted if not line.startswith("--")] == ["torch"]
    assert "--editable ." in wanted


def test_pythons_of_all_environments_are_ones_that_the_project_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    taken = SpecifierSet(project["requires-python"])
    conda = read(ROOT / "environment.yml")["dependencies"]
    [python] = [part for part in conda if isinstance(part, str) and part.startswith("python")]
    ranges = SpecifierSet(python.removeprefix("python"))
    minors = [f"3.{minor}" for minor in range(5, 20)]
    assert all(taken.contains(minor) for minor in minors if ranges.contains(minor))
    binder = (ROOT / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    tested = {
        step["with"]["python-version"]
        for job in jobs(ROOT / ".github" / "workflows" / "book.yml").values()
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    }
    assert all(ranges.contains(version) for version in {binder, *tested})
    assert binder in tested
