"""Fits of a face model to a recording, through physics or a learned renderer.

Modules are imported when they are first used: ``rb.fitting.NAME``.
"""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from radarbook.lazy import submodules

    __getattr__ = submodules(__name__, __path__)
