"""What every notebook calls at its start and at its end.

The first code cell of a notebook is tagged ``parameters``; the second calls
:func:`start_chapter`, the last ``chapter.finish()``::

    chapter = rb.start_chapter(profile, output=output, seed=seed, model=model, overrides=overrides)
    chapter.profile        # the validated Profile
    chapter.pipeline       # artefacts of this and of earlier chapters, computed where missing
    chapter.finish()       # provenance
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radarbook import provenance
from radarbook.book.chapters import fields_set_by_papermill, is_checkout
from radarbook.files import PACKAGE
from radarbook.profiles import Profile, get_profile
from radarbook.reports.table import show, table

if TYPE_CHECKING:
    from radarbook.book.trained import Trained
    from radarbook.pipeline import Pipeline


@dataclass(frozen=True)
class OpenChapter:
    """One execution of a notebook: its settings, its artefacts, its clock."""

    profile: Profile
    output: Path
    seed: int
    model: str
    overrides: Mapping[str, Any]
    began: float = field(default_factory=time.perf_counter)

    @cached_property
    def pipeline(self) -> Pipeline:
        """All stages at this profile: ``pipeline.get("dataset")`` and so on."""
        from radarbook.pipeline import Pipeline

        return Pipeline(self.profile, model=self.model, output=self.output, seed=self.seed)

    def trained(self, networks_from: str = "shipped", faces: int = 16) -> Trained:
        """The networks that a chapter evaluates: :func:`radarbook.book.trained.trained`."""
        from radarbook.book.trained import trained

        return trained(self.pipeline, networks_from, faces)

    @property
    def root(self) -> Path:
        """The project's folder."""
        return project_root()

    @property
    def results(self) -> Path:
        """The folder of results that ship with the project, ``data/results``."""
        return self.root / "data" / "results"

    def finish(self) -> None:
        """Show how the numbers above were made: settings, versions, machine, time."""
        show(self.provenance())

    def provenance(self) -> str:
        """The provenance table as Markdown."""
        found = provenance.record()
        machine = found["machine"]
        changed = ", ".join(f"{k} = {v}" for k, v in self.overrides.items()) or "none"
        rows = {
            "profile": f"{self.profile.name} (overrides: {changed})",
            "seed, model": f"{self.seed}, {Path(self.model).name}",
            "library": f"radarbook {found['versions']['radarbook']}, source {found['library']}",
            "versions": ", ".join(
                f"{k} {v}" for k, v in found["versions"].items() if k != "radarbook"
            ),
            "machine": f"{machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory_gb']} GB, accelerator: {machine['accelerator']}",
            "time": f"{time.perf_counter() - self.began:.0f} s in this notebook",
        }
        return table(["made with", ""], list(rows.items()))


def start_chapter(
    profile: str,
    *,
    output: str = "",
    seed: int = 0,
    model: str = "procedural",
    overrides: Mapping[str, Any] | None = None,
) -> OpenChapter:
    """Validate a notebook's parameters and open its chapter.

    ``output`` (empty: ``build/PROFILE``) and ``model`` may be relative to the project's folder,
    wherever the notebook's kernel was started. Profile fields that plain papermill was given, as in
    ``papermill … -p inputs depth``, count like ``overrides`` and go before them. A face model of
    fewer modes than the profile's gets as many coefficients as it has modes.

    Raises :class:`~radarbook.errors.InputError` for an unknown profile, for an unknown or ill-typed
    override, and for a parameter of papermill's that is neither the notebook's nor the profile's.

    Examples
    --------
    >>> chapter = start_chapter("smoke", output="results", overrides={"train": 8})
    >>> chapter.profile.train, chapter.output.name
    (8, 'results')
    """
    from radarbook import figures
    from radarbook.faces.load import held_modes

    figures.use()
    changed = dict(overrides or {}) | fields_set_by_papermill(_executed_cells())
    chosen = get_profile(profile, changed)
    root = project_root()
    if model != "procedural":
        model = str(root / model)
    chosen = chosen.for_modes(*held_modes(model))
    return OpenChapter(chosen, root / (output or Path("build") / profile), seed, model, changed)


def _executed_cells() -> list[str]:
    """Sources of the cells that ran in this notebook so far; empty outside of one."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns.get("In", []))


def project_root() -> Path:
    """The checkout: the working folder, the nearest one above it, or the one of this package."""
    here = Path.cwd()
    places = (here, *here.parents, PACKAGE.parent)
    return next((folder for folder in places if is_checkout(folder)), here)
