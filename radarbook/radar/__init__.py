"""Radar physics: arrays, scattering, simulation, imaging and recordings' signals.

Modules are imported when they are first used: ``rb.radar.NAME``.
"""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from radarbook.lazy import submodules

    __getattr__ = submodules(__name__, __path__)
