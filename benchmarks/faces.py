"""Loading and evaluating face models: ``python -m benchmarks.faces [--json FILE]``.

- Loading 10 + 7 modes of a file as large as BFM 2019 face12 (27 657 vertices, 199 + 100 modes,
  which this makes), in a fresh process: seconds, and how much its
  memory grows at most (Linux).
- ``vertices()`` of 1 000 faces compared with the bare matrix product of the same sizes: a ratio.
- Building the procedural model.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch

from radarbook.faces.bfm import write_bfm
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.procedural import procedural_model
from radarbook.files import write_json

VERTICES, SHAPES, EXPRESSIONS = 27_657, 199, 100

LOAD = """
import json, re, sys, time
from pathlib import Path
import torch
import radarbook.faces.bfm
from radarbook.faces.load import load_model

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
before = status("VmRSS")
start = time.perf_counter()
load_model(sys.argv[1], 10, 7)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak_growth_mb": status("VmHWM") - before}))
"""


def full_size_file(path: Path) -> None:
    """A file of BFM 2019 face12's size: its bases are random unit columns, which reads the same."""
    side = int(np.ceil(np.sqrt(VERTICES)))
    y, x = np.divmod(np.arange(VERTICES), side)
    mean = np.stack([x - side / 2.0, y - side / 2.0, 0.0 * x], axis=1).astype(np.float32)
    corner = np.arange(VERTICES - side - 1)
    triangles = np.stack([corner, corner + 1, corner + side], axis=1)
    zeros = torch.zeros(VERTICES, 3)
    small = MorphableModel(
        "full",
        torch.from_numpy(mean),
        zeros,
        torch.ones(1, VERTICES, 3),
        torch.ones(1, VERTICES, 3),
        torch.from_numpy(triangles),
    )
    write_bfm(path, small)
    stream = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        for part, count in (("shape", SHAPES), ("expression", EXPRESSIONS)):
            basis = stream.standard_normal((3 * VERTICES, count), dtype=np.float32)
            basis /= np.linalg.norm(basis, axis=0)
            for name, value in (
                ("pcaBasis", basis),
                ("pcaVariance", np.linspace(9e4, 1, count, dtype=np.float32)),
            ):
                del file[f"{part}/model/{name}"]
                file[f"{part}/model/{name}"] = value


def best(action: Callable[[], object], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def measure() -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "full.h5"
        full_size_file(path)
        found["file_mb"] = path.stat().st_size / 2**20
        run = subprocess.run(
            [sys.executable, "-c", LOAD, str(path)], capture_output=True, text=True, check=True
        )
        found |= {f"load_{key}": value for key, value in json.loads(run.stdout).items()}
        model = load_model(path, 10, 7)
    shape, expression = torch.randn(1000, 10), torch.randn(1000, 7)
    coefficients = torch.cat([shape, expression], dim=1)
    matrix = torch.randn(17, 3 * VERTICES)
    found["vertices_s"] = best(lambda: model.vertices(shape, expression))
    found["bare_product_s"] = best(lambda: coefficients @ matrix)
    found["vertices_ratio"] = found["vertices_s"] / found["bare_product_s"]

    def build() -> None:
        procedural_model.cache_clear()
        procedural_model()

    found["procedural_build_s"] = best(build)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    found = measure()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    for name, value in found.items():
        print(f"{name:<22} {value:10.3f}")
    if arguments.json:
        write_json(arguments.json, found)


if __name__ == "__main__":
    main()
