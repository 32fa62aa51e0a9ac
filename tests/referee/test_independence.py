"""The referee computes nothing with the library's simulator or fit."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import benchmarks.referee
import radarbook

FOLDER = Path(benchmarks.referee.__file__).parent
ROOTS = {"benchmarks": FOLDER.parent, "radarbook": Path(radarbook.__file__).parent}
#: Writes files: takes the containers of a recording, and nothing that computes a signal.
WRITER = FOLDER / "campaign.py"
FORBIDDEN = ("radarbook.radar", "radarbook.fitting")


def imported(path: Path) -> set[str]:
    """Modules that a file names in its imports, wherever they stand in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def file_of(module: str) -> Path | None:
    root, *parts = module.split(".")
    if root not in ROOTS:
        return None
    base = ROOTS[root].joinpath(*parts)
    return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)


def reached(path: Path) -> set[str]:
    """All modules of ours that a file imports, directly or through others."""
    seen: set[str] = set()
    todo = imported(path)
    while todo:
        module = todo.pop()
        place = file_of(module)
        if place is None or module in seen:
            continue
        seen.add(module)
        parent = module.rpartition(".")[0]
        todo |= imported(place) | ({parent} if parent not in ("radarbook", "") else set())
    return seen


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(FOLDER.glob("*.py")) if p.stem not in ("campaign", "__main__")],
    ids=lambda p: p.stem,
)
def test_physics_reaches_no_other_simulator(path: Path) -> None:
    wrong = [m for m in reached(path) if m.startswith(FORBIDDEN)]
    assert not wrong


def test_the_writer_takes_containers_alone() -> None:
    named = {m for m in imported(WRITER) if m.startswith(FORBIDDEN)}
    assert named == {
        *("radarbook.radar.array", "radarbook.radar.array.Array"),
        *("radarbook.radar.waveform", "radarbook.radar.waveform.Waveform"),
    }


def test_the_search_finds_what_is_there() -> None:
    assert "radarbook.radar.simulate" in reached(FOLDER.parent / "renderer.py")
    assert "radarbook.faces.sculpture" in reached(FOLDER / "faces.py")
