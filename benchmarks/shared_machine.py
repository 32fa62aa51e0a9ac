"""Times on an idle machine and next to other busy programs.

    python -m benchmarks.shared_machine [--json FILE] [--busy N] [--skip fit chapter] [--repeats N]

Simulates and images a face (12 762 triangles where the ICT model is at hand, the procedural face
otherwise; 64 pixels, 24 planes), fits one face through physics, and executes chapter 2 with plain
papermill. Each is timed with nothing else running and then with ``N`` processes that compute
without pause, by default one per core. With one such process per core, a program has half of the
machine at best: the ratio cannot fall below 2 where all cores are used.

Printed are medians in seconds and their ratios. The first run of each warms up and is not counted,
except for the fit and the chapter, which run once in each state.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.renderer import ICT, STEPS, grid_of
from radarbook.datasets.distribution import random_parameters
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.files import write_json
from radarbook.fitting.reconstruct import reconstruct_through_physics
from radarbook.provenance import hardware
from radarbook.radar.imaging import back_project
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform

ROOT = Path(__file__).resolve().parents[1]
CHAPTER = ROOT / "notebooks" / "02_physical_rendering.ipynb"


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Inside the block, ``processes`` other processes compute without pause."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        time.sleep(0.5 if others else 0.0)  # until they run
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall-clock time of ``work``; a single run is not preceded by another."""
    times = []
    if repeats > 1:
        work()
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def tasks(skip: list[str], repeats: int, folder: Path) -> dict[str, tuple[Callable[[], Any], int]]:
    """The timed work, and how often it is repeated."""
    model = load_model(str(ICT), 10, 7) if ICT.is_file() else load_model("procedural")
    renderer = PhysicalRenderer(model, grid=grid_of(64), waveform=qar50_waveform(STEPS))
    face = random_parameters([0], 0, 10, 7)
    signal = renderer.signal(face)[0]

    def image() -> None:
        back_project(signal, renderer.array, renderer.waveform, renderer.grid)

    found: dict[str, tuple[Callable[[], Any], int]] = {
        "simulate": (lambda: renderer.signal(face), repeats),
        "image": (image, repeats),
    }
    if "fit" not in skip:
        found["fit"] = (_fit(load_model("procedural")), 1)
    if "chapter" not in skip:
        found["chapter 2"] = (lambda: _chapter(folder), 1)
    return found


def _fit(model: MorphableModel) -> Callable[[], Any]:
    """A fit of one face, everything unknown; compiled code is ready before it is timed."""
    renderer = PhysicalRenderer(model, grid=grid_of(64), waveform=qar50_waveform(128))
    recording = renderer.signal(random_parameters([0], 0, 10, 7))[0]

    def fit(steps: int | None = None) -> Any:
        return reconstruct_through_physics(
            recording, renderer.array, renderer.waveform, model, steps=steps
        )

    fit(1)
    return fit


def _chapter(folder: Path) -> None:
    """Chapter 2 by plain papermill, with a folder of results of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        executed = Path(place) / "executed.ipynb"
        command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(CHAPTER)]
        command += [str(executed), "-p", "profile", "smoke", "-p", "output", place]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n\n")[0])
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--skip", nargs="*", choices=["fit", "chapter"], default=[])
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    rows = []
    print(f"{torch.get_num_threads()} threads, {given.busy} busy processes")
    print(f"{'':<12} {'idle s':>8} {'busy s':>8} {'ratio':>6}")
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for name, (work, repeats) in tasks(given.skip, given.repeats, Path(folder)).items():
            idle = median_seconds(work, repeats)
            with busy(given.busy):
                shared = median_seconds(work, repeats)
            row = {"task": name, "idle": idle, "busy": shared, "ratio": shared / idle}
            rows.append(row)
            print(f"{name:<12} {idle:8.3f} {shared:8.3f} {shared / idle:6.2f}", flush=True)
    if given.json is not None:
        settings = {"threads": torch.get_num_threads(), "busy": given.busy, "on": hardware()}
        write_json(given.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
