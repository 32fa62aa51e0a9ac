"""Instruction sets that the numerical libraries use in this environment, for the log of a test run.

``python -m tests.rounding`` prints one line per library. With ``--portable`` it fails unless each
library uses what ``make test-portable`` asks for: sums are then rounded otherwise than usual.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

#: One operation of each library; the environment makes MKL, oneDNN and OpenBLAS say what they use.
PROBE = """
import numpy, torch
from numba.core.registry import cpu_target
square = numpy.eye(64)
square @ square
torch.set_num_threads(1)
torch.eye(64) @ torch.eye(64)
torch.nn.functional.conv2d(torch.ones(2, 8, 16, 16), torch.ones(8, 8, 3, 3))
print("ATen capability:", torch.backends.cpu.get_cpu_capability())
print("Numba target:", cpu_target.target_context.codegen().magic_tuple()[1])
print("NumPy X86_V3:", numpy._core._multiarray_umath.__cpu_features__.get("X86_V3", False))
"""
SAYS = {"MKL_VERBOSE": "1", "ONEDNN_VERBOSE": "1", "OPENBLAS_VERBOSE": "2"}
#: Name, what the library prints, and what it prints under ``make test-portable``. OpenBLAS is not
#: checked: its kernels are left as they are where the environment has chosen them already.
LIBRARIES = (
    ("torch (ATen)", r"ATen capability: (\S+)", "DEFAULT"),
    ("MKL", r"MKL_VERBOSE \w+\(.*CNR:(\S+)", "COMPATIBLE"),
    ("oneDNN", r"info,cpu,isa:(.+)", "Intel SSE4.1"),
    ("Numba", r"Numba target: (\S+)", "generic"),
    ("NumPy's AVX2", r"NumPy X86_V3: (\S+)", "False"),
    ("OpenBLAS", r"Core: (\S+)", None),
)


def used() -> dict[str, str]:
    """What each library uses; ``-`` for one that says nothing (another processor or build)."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=os.environ | SAYS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    found = {name: re.search(pattern, done.stdout) for name, pattern, _ in LIBRARIES}
    return {name: match[1].strip() if match else "-" for name, match in found.items()}


def main() -> int:
    lines = used()
    for name, value in lines.items():
        print(f"{name}: {value}")
    if "--portable" not in sys.argv[1:]:
        return 0
    wrong = [
        f"{name}: expected {wanted}, found {lines[name]}"
        for name, _, wanted in LIBRARIES
        if wanted is not None and lines[name] not in (wanted, "-")
    ]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
