"""Pairs of notebooks: which file was edited is decided by content, and no edit is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import jupytext
import pytest

from radarbook.book.pairing import RECORD, differences, sync, warning
from radarbook.errors import InputError

ROOT = Path(__file__).resolve().parents[1]


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs that agree, without git."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", folder)
    for name in ("01_first", "02_second"):
        notebook = jupytext.reads("# Title\n\n```{code-cell}\n1 + 1\n```\n", "md:myst")
        jupytext.write(notebook, folder / f"{name}.md", fmt="md:myst")
        jupytext.write(notebook, folder / f"{name}.ipynb")
    return folder


def commit(folder: Path) -> None:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")


def edit(path: Path, new: str) -> None:
    """Replace the code, whatever it was, and make the *other* file the newer one."""
    text = path.read_text()
    old = next(code for code in ("1 + 1", "2 + 2", "3 + 3") if code in text)
    path.write_text(text.replace(old, new))
    other = path.with_suffix(".ipynb" if path.suffix == ".md" else ".md")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    os.utime(other)


def code(path: Path) -> str:
    return jupytext.read(path).cells[-1].source


@pytest.mark.parametrize("known", ["commit", "record"])
@pytest.mark.parametrize("kind", ["md", "ipynb"])
def test_the_edited_file_wins_whichever_is_newer(folder, known, kind):
    if known == "commit":
        if shutil.which("git") is None:
            pytest.skip("no git")
        commit(folder)
    else:
        assert sync(folder) == []
        assert (folder / RECORD).exists()
    edited = folder / f"01_first.{kind}"
    edit(edited, "2 + 2")
    [done] = sync(folder)
    assert done.edited == edited
    assert code(folder / "01_first.md") == code(folder / "01_first.ipynb") == "2 + 2"
    assert differences(folder / "01_first.md") == []
    # The second edit after a commit is seen too: what was last equal is recorded.
    edit(folder / "01_first.md", "3 + 3")
    sync(folder)
    assert code(folder / "01_first.ipynb") == "3 + 3"


def test_two_edits_are_refused_and_other_pairs_are_brought_together(folder):
    sync(folder)
    edit(folder / "01_first.md", "2 + 2")
    edit(folder / "01_first.ipynb", "3 + 3")
    edit(folder / "02_second.md", "2 + 2")
    with pytest.raises(InputError, match=r"01_first: both \.md and \.ipynb were edited"):
        sync(folder)
    assert (code(folder / "01_first.md"), code(folder / "01_first.ipynb")) == ("2 + 2", "3 + 3")
    assert code(folder / "02_second.ipynb") == "2 + 2"
    sync(folder, keep="ipynb", chapters=[1])
    assert code(folder / "01_first.md") == "3 + 3"


def test_without_a_common_state_nothing_is_guessed(folder):
    edit(folder / "01_first.md", "2 + 2")
    with pytest.raises(InputError, match="no common state is known"):
        sync(folder)
    assert code(folder / "01_first.ipynb") == "1 + 1"


def test_going_back_to_what_is_committed_is_not_taken_for_the_older_state(folder):
    if shutil.which("git") is None:
        pytest.skip("no git")
    commit(folder)
    edit(folder / "01_first.md", "2 + 2")
    sync(folder)
    git(folder, "checkout", "01_first.md")
    with pytest.raises(InputError, match="01_first"):
        sync(folder)


def test_a_missing_file_is_written(folder):
    (folder / "01_first.ipynb").unlink()
    assert warning(folder / "01_first.md") is None
    sync(folder)
    assert differences(folder / "01_first.md") == []


def test_a_damaged_file_is_named(folder):
    sync(folder)
    path = folder / "01_first.ipynb"
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match=r"01_first\.ipynb: expected a notebook"):
        sync(folder)
    assert "cannot be compared" in str(warning(folder / "01_first.md"))


def test_the_warning_says_which_file_is_executed(folder):
    assert warning(folder / "01_first.md") is None
    edit(folder / "01_first.ipynb", "2 + 2")
    assert warning(folder / "01_first.md") == (
        "01_first.ipynb differs from 01_first.md: 01_first.md is executed; "
        "`radarbook book sync` brings the two together without losing an edit"
    )
