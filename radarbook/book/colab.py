"""Copies of the chapters for Colab, which opens a single notebook without the project around it.

The project's own notebooks say nothing of Colab: a cell for it would run in every local session and
would have to hold the project's address. The published copies have that cell.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from radarbook.book.chapters import find_chapters, find_root, read_text_notebook
from radarbook.files import write_text

#: Dependencies of the project that a chapter does not import: those that execute chapters and build
#: the book; and torch and ipykernel, which Colab has in builds of its own that must stay.
NOT_ON_COLAB = (
    "torch",
    "ipykernel",
    "nbclient",
    "papermill",
    "jupyterlab",
    "jupyter-book",
    "jupytext",
    "latex2mathml",
    "ziamath",
)
#: The branch that holds the copies.
BRANCH = "colab"
_PLACE = "/content/radarbook"
_CELL = f"""\
# Colab opens one file: this fetches the project around it, and the packages that Colab lacks.
!git clone --quiet {{repository}} {_PLACE}
!git -C {_PLACE} checkout --quiet {{revision}}
%pip install --quiet {{packages}}
%cd {_PLACE}/notebooks
import sys

sys.path.insert(0, "{_PLACE}")"""


def colab_notebooks(
    folder: Path, repository: str, revision: str, root: Path | None = None
) -> list[Path]:
    """Write each chapter to ``folder/notebooks``, behind a cell that fetches the project.

    Parameters
    ----------
    folder : Path
        Becomes the content of the branch :data:`BRANCH`.
    repository, revision : str
        Address and commit of the project that the chapters are of; the cell fetches exactly that.
    root : Path, optional
        The checkout.

    Returns
    -------
    list of Path
        The notebooks, ``NN_name.ipynb``, without outputs.
    """
    import nbformat

    root = root or find_root()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [text for text in project["dependencies"] if _name(text) not in NOT_ON_COLAB]
    cell = _CELL.format(
        repository=repository,
        revision=revision,
        packages=" ".join(f'"{text}"' for text in wanted),
    )
    written = []
    for chapter in find_chapters(root).values():
        notebook = read_text_notebook(chapter.path)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(cell, id="colab"))
        for number, other in enumerate(notebook.cells[1:]):
            other["id"] = f"cell-{number}"
        written.append(folder / "notebooks" / f"{chapter.name}.ipynb")
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        write_text(written[-1], nbformat.writes(notebook) + "\n")
    return written


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower()
