"""The wheel: what is in it, and that it runs without the checkout around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from radarbook.training.checkpoints import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
#: All that a wheel is built from.
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "radarbook", "data/weights")
BACKEND = Requirement("setuptools>=77")


def isolated(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Python without this checkout, the user's packages and the environment's PYTHON variables."""
    return subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built offline from a copy of the sources, by the backend that the project names."""
    try:
        have = version(BACKEND.name)
    except PackageNotFoundError:
        have = "0"
    if not BACKEND.specifier.contains(have):
        pytest.skip(f"no wheel is built: expected {BACKEND} in this environment, found {have}")
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "project"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    built = isolated(code, copy)
    assert built.returncode == 0, built.stderr
    [path] = folder.glob("radarbook-*.whl")
    return path


def test_it_holds_the_library_its_data_and_nothing_else(wheel):
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    [info] = {name.parts[0] for name in names if name.parts[0].endswith(".dist-info")}
    data = info.replace(".dist-info", ".data")
    assert {name.parts[0] for name in names} == {"radarbook", info, data}
    ours = {
        path.relative_to(ROOT)
        for path in (ROOT / "radarbook").rglob("*")
        if path.suffix in (".py", ".css", ".js", ".typed")
    }
    assert {name for name in names if name.parts[0] == "radarbook"} == ours
    assert Path("radarbook/py.typed") in ours
    weights = Path(data, "data", "share", "radarbook", "weights")
    assert {name.name for name in names if name.is_relative_to(weights)} == {
        f"{kind}.safetensors" for kind in SHIPPED
    }
    assert Path(info, "licenses", "LICENSE") in names
    assert wheel.stat().st_size < 20e6


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "site"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_it_runs_in_an_empty_folder_and_finds_its_weights(unpacked, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(unpacked)!r})
import radarbook as rb
assert rb.__file__.startswith({str(unpacked)!r}), rb.__file__
from radarbook.training import shipped, shipped_path
assert str(shipped_path("encoder")).startswith({str(unpacked)!r}), shipped_path("encoder")
shipped("encoder", model=rb.load_model(), pixels=64)
from importlib.resources import files
assert (files("radarbook.book") / "figures.css").is_file()
from radarbook.cli import main
sys.argv = ["radarbook", "model", "export", "procedural", "face.ply"]
main()
"""
    done = isolated(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "face.ply").stat().st_size > 1e5
    assert os.listdir(tmp_path) == ["face.ply"]


@pytest.mark.parametrize("command", [["run"], ["book", "build"], ["book", "sync"]], ids=" ".join)
def test_a_command_that_needs_the_checkout_says_so_in_one_line(unpacked, tmp_path, command):
    code = f"""
import sys
sys.path.insert(0, {str(unpacked)!r})
from radarbook.cli import main
sys.argv = ["radarbook", *{command!r}]
main()
"""
    done = isolated(code, tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("radarbook: chapters: expected a checkout of the project")
    assert "the installed package holds the library alone" in line
    assert os.listdir(tmp_path) == []
