"""Face models: geometry, parameters, poses, and files of meshes.

Modules are imported when they are first used: ``rb.faces.NAME``.
"""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from radarbook.lazy import submodules

    __getattr__ = submodules(__name__, __path__)
