"""The chapters: found and read from ``notebooks/``, their parameters checked.

A notebook ``NN_name.md`` is a chapter. One cell is tagged ``parameters`` and holds ``name = value``
lines; a run may replace the values, and no others (:func:`resolve_parameters`).
"""

from __future__ import annotations

import ast
import difflib
import io
import itertools
import math
import re
import tokenize
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radarbook.errors import InputError
from radarbook.files import PACKAGE
from radarbook.profiles import Profile, get_profile

#: Parameters that every notebook has; the first three are set by the run itself.
COMMON = ("profile", "output", "overrides", "seed", "model")


@dataclass(frozen=True)
class Chapter:
    """A notebook's text: where it is and what it lets one change.

    ``defaults`` are the values of its parameters cell by name, ``meanings`` the comments behind
    them (empty where there is none).
    """

    number: int
    path: Path
    title: str
    defaults: Mapping[str, Any]
    meanings: Mapping[str, str]

    @property
    def name(self) -> str:
        """``01_face_model``."""
        return self.path.stem


# -- finding and reading notebooks ---------------------------------------------------------------


def is_checkout(folder: Path) -> bool:
    """Whether a folder holds the project, which is more than the package: the chapters."""
    return any((folder / "notebooks").glob("[0-9][0-9]_*.md"))


def find_root() -> Path:
    """The checkout that holds ``notebooks/`` and ``jupyter_book/``: around the package, or the
    working folder.

    Raises :class:`~radarbook.errors.InputError` where neither is one, as with an installed package.
    """
    for folder in (PACKAGE.parent, Path.cwd()):
        if is_checkout(folder):
            return folder
    raise InputError(
        f"chapters: expected a checkout of the project, with its folder 'notebooks', in "
        f"{Path.cwd()}, found none; the installed package holds the library alone"
    )


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
        chosen |= set(known_chapters([first, last], known))
        chosen |= {number for number in known if first <= number <= last}
    return sorted(chosen)


def known_chapters(chosen: Sequence[int], known: Sequence[int]) -> list[int]:
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
    notebook = read_text_notebook(path)
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
    meanings = _read_comments(tagged[0].source)
    return Chapter(int(path.name[:2]), path, title, defaults, meanings)


def read_text_notebook(path: Path) -> Any:
    """A notebook's ``.md`` file as an nbformat notebook, without outputs."""
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


def _read_comments(source: str) -> dict[str, str]:
    """The comment behind each ``name = value`` of a parameters cell."""
    names = {
        node.lineno: ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
    }
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    return {name: comments.get(line, "").lstrip("# ") for line, name in names.items()}


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
    return _neither_parameter_nor_field(name, {n for c in chapters for n in c.defaults})


def _neither_parameter_nor_field(name: str, names: Collection[str]) -> str:
    own = sorted(set(names) - {"profile", "output", "overrides"})
    fields = [n for n in Profile.model_fields if n != "name"]
    near = difflib.get_close_matches(name, own + fields, n=1)
    hint = f" (did you mean '{near[0]}'?)" if near else ""
    return (
        f"unknown parameter '{name}'{hint}: expected one of {', '.join(own)} "
        f"or a profile field: {', '.join(fields)}"
    )


def fields_set_by_papermill(cells: Sequence[str]) -> dict[str, Any]:
    r"""Profile fields that papermill was given for the running notebook.

    papermill writes what it is given into a cell of its own, headed ``# Parameters``, below the
    parameters cell, whether or not the notebook has such a parameter. Profile fields among it are
    for :func:`~radarbook.book.notebook.start_chapter`.

    Parameters
    ----------
    cells : sequence of str
        Sources of the cells executed so far, in order. Without a cell of papermill the result is
        empty.

    Raises
    ------
    InputError
        For a name that is neither in the parameters cell nor a profile field.

    Examples
    --------
    >>> fields_set_by_papermill(["seed = 0", '# Parameters\nseed = 3\ninputs = "depth"\n'])
    {'inputs': 'depth'}
    """
    for before, cell in itertools.pairwise(cells):
        if cell.startswith("# Parameters\n"):
            own = _read_defaults(Path("notebook"), before)
            given = _read_defaults(Path("notebook"), cell)
            fields = {name: value for name, value in given.items() if name not in own}
            for name in fields:
                if name not in Profile.model_fields or name == "name":
                    raise InputError(_neither_parameter_nor_field(name, own))
            return fields
    return {}


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
