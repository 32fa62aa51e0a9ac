"""What a result was made with: versions, machine, and the library's own fingerprint."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
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

    memory = 0
    if hasattr(os, "sysconf"):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gb": round(memory / 1e9, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.machine()}",
    }


def hardware() -> str:
    """The machine a number is measured on, in words: processor or GPU, cores, torch version."""
    import torch

    found = machine()
    where = found["accelerator"] if torch.cuda.is_available() else found["processor"]
    return f"{where}, {found['cores']} CPU cores, torch {torch.__version__}"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))(0))


#: Below this :func:`processor_share` measured times are unreliable.
BUSY_SHARE = 0.75


def processor_share(seconds: float = 0.2) -> float:
    """Share of the usable cores' time that this process gets now, measured by using it all.

    Each core is given ``seconds`` of work; 1 on an idle machine, about a half with one other busy
    process per core. Unlike a load average this exists on every system, and it counts neither this
    process's own work before nor processes that wait for a disk.
    """

    def work(_: int) -> float:
        end, used = time.perf_counter() + seconds, time.thread_time()
        while time.perf_counter() < end:
            hashlib.pbkdf2_hmac("sha256", b"share", b"of the processor", 2000)
        return time.thread_time() - used

    cores = usable_cores()
    began = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        used = sum(pool.map(work, range(cores)))
    return min(1.0, used / (cores * (time.perf_counter() - began)))


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
