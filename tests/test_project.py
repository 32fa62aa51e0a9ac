"""The project's own files: pinned packages, paired notebooks, parameters, the two commands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from importlib.metadata import requires
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from radarbook.book.chapters import COMMON, find_chapters
from radarbook.book.library import BASE, PACKAGES
from radarbook.book.pairing import differences
from radarbook.files import PACKAGE
from radarbook.profiles import Profile

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def name_of(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9_.-]", requirement)[0].lower().replace("_", "-")


# -- pinned packages -----------------------------------------------------------------------------


def test_constraints_pin_exact_public_versions_with_torch_first():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins[0] == "torch==2.13.0"
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*", pin), pin
    assert len(PINS) == len(pins)


def test_every_direct_dependency_is_pinned_within_its_range():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["dev"] + extras["browser"]
    pins = {name_of(name): version for name, version in PINS.items()}
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[name_of(requirement.name)]), text


def test_dependencies_of_dependencies_are_pinned():
    from packaging.requirements import Requirement

    pins = {name_of(name) for name in PINS}
    for package in ("plotly", "papermill", "jupyter-book", "anywidget", "ziamath", "monai"):
        for text in requires(package) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert name_of(requirement.name) in pins | {"torch"}, (package, text)


def test_conda_environment_installs_the_same_set():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    [pip] = [part["pip"] for part in parts if isinstance(part, dict)]
    assert any("constraints.txt" in line for line in pip)
    assert any(".[dev]" in line for line in pip)


# -- notebooks -----------------------------------------------------------------------------------


def troubles(text: Path) -> list[str]:
    """What a notebook's two files do not say alike, and outputs that should not be committed."""
    found = [f"{line}: run `make sync`" for line in differences(text)]
    path = text.with_suffix(".ipynb")
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells if path.exists() else []):
        if cell.get("outputs") or cell.get("execution_count"):
            found.append(f"{path.name}: cell {number} holds outputs: keep them out of the source")
    return found


def test_there_are_notebooks_and_none_without_its_pair():
    assert NOTEBOOKS
    pairs = {p.stem for p in (ROOT / "notebooks").glob("*.ipynb")}
    assert pairs == {p.stem for p in NOTEBOOKS}


@pytest.mark.parametrize("text", NOTEBOOKS, ids=lambda p: p.stem)
def test_pair_says_the_same(text):
    assert troubles(text) == []


def test_pair_check_sees_a_difference(tmp_path):
    cell = nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["a"]})
    notebook = nbformat.v4.new_notebook(cells=[cell])
    jupytext.write(notebook, tmp_path / "01_a.md", fmt="md:myst")
    assert troubles(tmp_path / "01_a.md") == ["01_a.ipynb is missing: run `make sync`"]
    nbformat.write(notebook, tmp_path / "01_a.ipynb")
    assert troubles(tmp_path / "01_a.md") == []
    cell["source"], cell["execution_count"] = "1 + 2", 1
    nbformat.write(notebook, tmp_path / "01_a.ipynb")
    assert len(troubles(tmp_path / "01_a.md")) == 2


@pytest.mark.parametrize("chapter", find_chapters(ROOT).values(), ids=lambda c: c.name)
def test_parameters_are_the_common_ones_and_hide_no_profile_field(chapter):
    assert set(COMMON) <= set(chapter.defaults)
    assert not set(chapter.defaults) & set(Profile.model_fields)
    assert chapter.defaults["profile"] == "smoke"
    assert chapter.defaults["overrides"] == {}


# -- commands ------------------------------------------------------------------------------------


def make(*targets: str, **environment: str) -> str:
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *targets],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return done.stdout


def test_make_run_sets_up_runs_and_builds_in_this_order():
    text = re.sub(" +", " ", make("run", "PROFILE=laptop"))
    places = [
        text.index(part)
        for part in (
            "-c constraints.txt torch",
            "-e '.[dev]'",
            ".venv/bin/radarbook run --profile laptop",
            ".venv/bin/radarbook book build",
        )
    ]
    # torch alone comes first, so that nothing else decides its build.
    assert places == sorted(places)


def test_torch_alone_comes_from_an_index_of_its_own():
    """The pins of torch's own dependencies are not to be had from an index of torch's builds."""
    index = "--no-deps --index-url https://example.org/cpu"
    text = re.sub(" +", " ", make("setup", TORCH_INDEX="https://example.org/cpu"))
    assert text.count("--index-url") == 1
    assert f"-c constraints.txt {index} torch" in text
    assert "--no-deps" not in make("setup", TORCH_INDEX="")


def test_the_book_is_told_its_repository():
    address = "https://github.com/someone/radarbook"
    assert f"--repository {address}" in make("run", REPOSITORY=address)
    assert "--repository" not in make("run")


def test_uv_is_used_when_present_and_told_where_wheels_lie(tmp_path):
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    text = make("setup", PATH=path, PIP_FIND_LINKS="/wheels")
    assert "uv pip install" in text
    assert '--find-links "/wheels"' in text


def test_shell_scripts_parse():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


# -- packages ------------------------------------------------------------------------------------


#: A package or module imports only from those before it.
ORDER = (BASE, *((name,) for name in PACKAGES[1:-2]), ("pipeline",), ("book",))


@pytest.mark.parametrize("package", [name for level in ORDER for name in level])
def test_a_package_imports_only_from_packages_above_it(package):
    level = next(n for n, names in enumerate(ORDER) if package in names)
    allowed = {name for names in ORDER[: level + 1] for name in names}
    place = PACKAGE / package
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("radarbook"):
                parts = (node.module or "").split(".")
                names = parts[1:2] or [alias.name for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name.split(".")[1] for a in node.names if "radarbook." in a.name]
            for name in names:
                assert name in allowed, f"{path.relative_to(PACKAGE)} imports {name}"


#: What may stand at the top of the repository.
TOP = {
    ".ci", ".github", ".gitignore", "CITATION.cff", "LICENSE", "Makefile", "README.md",
    "benchmarks", "binder", "constraints.txt", "data", "environment.yml", "jupyter_book",
    "notebooks", "pyproject.toml", "radarbook", "tests",
}  # fmt: skip


def test_cited_equations_stand_on_the_physics_page():
    """Code and decisions cite (P2.3), whose label there is ``eq-2-3``."""
    page = (ROOT / "jupyter_book" / "physics.md").read_text()
    there = {f"P{a}.{b}" for a, b in re.findall(r"\$\$ \(eq-(\d+)-(\d+[a-z]?)\)", page)}
    cited, without_page = {}, []
    for folder in ("radarbook", "benchmarks", "tests", "jupyter_book"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md"):
                text = path.read_text()
                cited |= dict.fromkeys(re.findall(r"\((P\d+\.\d+[a-z]?)\)", text), path)
                without_page += re.findall(r"Eqs?\. \(\d+\.\d+[a-z]?\)", text)
    assert len(there) > 40
    assert {number: path for number, path in cited.items() if number not in there} == {}
    assert without_page == []


def test_no_output_is_committed():
    """Examples write into the folder where they run."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {Path(name).parts[0] for name in listed.stdout.split()} <= TOP


def test_committed_files_name_no_machine():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ".yml", ".cff", ".ipynb", ""}:
            text = path.read_text(errors="replace") if path.is_file() else ""
            assert "/home/" not in text.replace('"/home/"', ""), name
