"""The command line: thin, each command one call into the library.

Torch and the other packages are imported inside the commands, so that ``--help`` and the message
for a typing error appear at once.
"""

from __future__ import annotations

from radarbook.cli import book, campaign, fit, learning, models, radar, recordings, surfaces
from radarbook.cli.app import app, main

__all__ = [
    "app",
    "book",
    "campaign",
    "fit",
    "learning",
    "main",
    "models",
    "radar",
    "recordings",
    "surfaces",
]
