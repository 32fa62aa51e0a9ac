"""What one kernel makes of a fit's signals: compared with tensor operations one by one, in one run.

    python -m benchmarks.waves --model procedural --faces 26 --json FILE

The signals of a face and of versions of it that are moved a little, as a Jacobian asks for them,
by :class:`~radarbook.fitting.forward.ReducedPhysics`: of all facets, bare and behind a blanket,
without steep ones, and of the mesh as it is. Seconds are medians of ``--rounds``; rounds of both
ways take turns, so that another program slows both.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from radarbook.datasets.distribution import random_parameters
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.decimation import decimate
from radarbook.fitting.forward import STEEP, STEEPEST, ReducedPhysics
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer
from radarbook.radar.waveform import qar50_waveform

#: Three millimetres of cotton, as in chapter 2.
BLANKET = Layer(0.2, 3e-3, 1.6 - 0.05j)


def moved(face: FaceParameters, count: int) -> FaceParameters:
    """``count`` faces, one parameter after the other moved by a thousandth of its range."""
    k = face.shape.shape[1], face.expression.shape[1]
    vector = face.normalised().repeat(count, 1)
    index = torch.arange(1, count)
    vector[index, (index - 1) % vector.shape[1]] += 1e-3
    return FaceParameters.from_normalised(vector, *k)


def seconds(reduced: ReducedPhysics, faces: FaceParameters) -> float:
    """Of one call; the face's pieces are known from the one before."""
    began = time.perf_counter()
    reduced.signal(faces, like=faces[0]).sum().item()
    return time.perf_counter() - began


def operations() -> AbstractContextManager[Any]:
    """Signals are made by tensor operations meanwhile."""
    return patch.object(launch, "available", lambda device: False)


@torch.no_grad()
def measured(reduced: ReducedPhysics, faces: FaceParameters, rounds: int) -> dict[str, Any]:
    """One row: median seconds of both ways, their ratio, and how far the signals are apart."""
    signals, times = [], []
    ways: list[Callable[[], AbstractContextManager[Any]]] = [nullcontext, operations]
    for way in ways:
        with way():
            signals.append(reduced.signal(faces, like=faces[0]))
    for _ in range(rounds):
        pair = []
        for way in ways:
            with way():
                pair.append(seconds(reduced, faces))
        times.append(pair)
    kernel, steps = (statistics.median(column) for column in zip(*times, strict=True))
    apart = (signals[0] - signals[1]).norm() / signals[1].norm()
    return {
        "kernel_s": round(kernel, 4),
        "operations_s": round(steps, 4),
        "ratio": round(statistics.median(b / a for a, b in times), 2),
        "apart": float(f"{float(apart):.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--faces", type=int, default=26)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = load_model(chosen.model).to(chosen.device)
    physical = physical_renderer(model, qar50(), qar50_waveform(128), 0.3, bounces=1)
    decimation = decimate(physical.array, physical.waveform)
    whole = ReducedPhysics(physical, decimation)
    if not launch.available(whole.device):
        parser.error(f"no kernel for {chosen.device}: Triton is not installed")
    covered = physical.replace(layer=BLANKET)
    one = random_parameters([0], 0, model.n_shape, model.n_expression)
    faces = moved(one, chosen.faces)
    rows = []
    for name, reduced in {
        "all facets": whole,
        "the same, covered": ReducedPhysics(covered, decimation),
        "without steep ones": whole.tilted(STEEP),
        "the mesh as it is": ReducedPhysics(
            physical, decimation, facet_size=math.inf, tilts=STEEPEST, coarse=True
        ),
    }.items():
        row = {"facets": name, **measured(reduced, faces, chosen.rounds)}
        rows.append(row)
        print(
            f"{name:20s} kernel {row['kernel_s']:7.3f} s, one by one {row['operations_s']:7.3f} s, "
            f"ratio {row['ratio']:.2f}, {row['apart']:.0e} apart"
        )
    if chosen.json is not None:
        settings = {"model": chosen.model, "faces": chosen.faces, "threads": chosen.threads}
        settings |= {"on": hardware(), "load": round(os.getloadavg()[0], 2)}
        write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
