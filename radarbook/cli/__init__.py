"""The command line: thin, each command one call into the library.

Imports of torch and of the rooms happen inside the commands, so that ``--help`` and a typing
error answer at once.
"""

from __future__ import annotations

from radarbook.cli import book, fit, learning, models, radar
from radarbook.cli.app import app, main

__all__ = ["app", "book", "fit", "learning", "main", "models", "radar"]
