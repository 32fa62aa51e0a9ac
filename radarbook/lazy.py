"""Modules of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType


def submodules(package: str, path: list[str]) -> Callable[[str], ModuleType]:
    """The ``__getattr__`` of a package: its modules by name.

    Parameters
    ----------
    package, path
        The package's ``__name__`` and ``__path__``.

    Examples
    --------
    >>> import radarbook as rb
    >>> rb.faces.pose.__name__  # nothing but radarbook was imported before
    'radarbook.faces.pose'
    """

    def module(name: str) -> ModuleType:
        if not name.startswith("_") and any(m.name == name for m in pkgutil.iter_modules(path)):
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return module
