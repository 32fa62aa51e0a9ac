"""What a result was made with: versions, machine, and the library's own fingerprint."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from radarbook.files import source_digest

#: Packages whose version can change a number or a picture.
PACKAGES = ("radarbook", "torch", "numpy", "scipy", "h5py", "trimesh", "embreex", "plotly")


def versions() -> dict[str, str]:
    """Installed versions of Python and of the packages that make the numbers."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def machine() -> dict[str, Any]:
    """Processor, usable cores, memory (GB) and accelerator of this machine."""
    import torch

    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0)
    memory = 0
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": len(usable),
        "memory_gb": round(memory / 1e9, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def record() -> dict[str, Any]:
    """Everything above in one JSON-able dictionary, with the library's source fingerprint."""
    return {"versions": versions(), "machine": machine(), "library": source_digest()}
