"""The library's packages in order, and their pages of the API reference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from radarbook.files import PACKAGE

#: The library's packages, in order; a package imports only from packages above it.
PACKAGES = (
    "base",
    "faces",
    "radar",
    "datasets",
    "networks",
    "training",
    "evaluation",
    "figures",
    "reports",
    "fitting",
    "batch",
    "book",
    "top",
)
#: Modules that every package may use.
BASE = (
    "errors",
    "seeds",
    "files",
    "targets",
    "threads",
    "hdf5",
    "npy",
    "lazy",
    "locks",
    "processes",
    "profiles",
    "progress",
    "provenance",
    "cluster",
)


def library_packages() -> dict[str, list[str]]:
    """The library's public modules by package, as dotted names, as found in the source."""

    def public(folder: Path, files: str = "**/*.py") -> list[str]:
        found = [p.relative_to(folder) for p in folder.glob(files) if not p.stem.startswith("_")]
        return sorted(".".join(p.with_suffix("").parts) for p in found)

    packages = {"base": [f"radarbook.{name}" for name in BASE]}
    for name in PACKAGES[1:-1]:
        packages[name] = [f"radarbook.{name}.{module}" for module in public(PACKAGE / name)]
    packages["top"] = [f"radarbook.{name}" for name in public(PACKAGE, "*.py") if name not in BASE]
    packages["top"] += [f"radarbook.cli.{name}" for name in public(PACKAGE / "cli")]
    return packages


def api_page(package: str, modules: Sequence[str]) -> str:
    """The page of the API reference of one package, as Markdown."""
    title = {"base": "Base modules", "top": "Pipeline and command line"}.get(package, package)
    parts = [f"# {title}\n"]
    for module in modules:
        parts.append(
            f"## {module}\n\n```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n```\n"
        )
    return "\n".join(parts)
