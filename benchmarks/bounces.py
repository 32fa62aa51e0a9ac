"""Two reflections of a head: seconds, power, reciprocity and distance to the converged sum.

    python -m benchmarks.bounces --model procedural --steps 9 128 --json FILE

The converged sum has smaller patches (``--fine``, 1.5 mm) and few antennas and frequencies. The
double integral point by point, which shares no code with the library, is in
``tests/radar/double_integral.py``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform


def coherence(a: Tensor, b: Tensor) -> float:
    """|aᴴ b| over both norms."""
    return float((a.conj() * b).sum().abs() / (a.norm() * b.norm()))


def measure(model: str, steps: list[int], fine: float) -> dict[str, Any]:
    """Figures of one mean head at 0.30 m."""
    face = load_model(model)
    mesh = to_radar(face, FaceParameters.neutral(1), 0.30)[0], face.triangles
    array = qar50()
    seen = visibility(*mesh, array)
    multiple_bounces(*mesh, array, qar50_waveform(2), visibility=seen)  # compiles
    seconds = {}
    for count in steps:
        start = time.perf_counter()
        multiple_bounces(*mesh, array, qar50_waveform(count), visibility=seen)
        seconds[str(count)] = time.perf_counter() - start
    every = torch.arange(0, 94, 8)
    few = array.subset(tx=every, rx=every)
    waveform = Waveform(qar50_waveform(128).frequencies[[0, 127]])
    seen = visibility(*mesh, few)
    found = multiple_bounces(*mesh, few, waveform, visibility=seen)
    back = multiple_bounces(
        *mesh, few.swapped(), waveform, visibility=visibility(*mesh, few.swapped())
    )
    converged = multiple_bounces(*mesh, few, waveform, visibility=seen, patch_size=fine)
    once = simulate(*mesh, few, waveform, visibility=seen)
    return {
        "model": model,
        "triangles": len(face.triangles),
        "seconds": seconds,
        "power": float(found.norm() / once.norm()) ** 2,
        "converged_power": float(converged.norm() / once.norm()) ** 2,
        "coherence_with_converged": coherence(found, converged),
        "reciprocity": coherence(found, back.transpose(0, 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--steps", type=int, nargs="+", default=[9])
    parser.add_argument("--fine", type=float, default=1.5e-3, help="smaller patches, m")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(chosen.model, chosen.steps, chosen.fine)
    for name, value in result.items():
        print(f"{name:25} {value}")
    if chosen.json is not None:
        write_json(chosen.json, {"hardware": hardware(), **result})


if __name__ == "__main__":
    main()
