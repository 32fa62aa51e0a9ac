"""Losses, starts and methods of fits through physics, side by side.

    python -m benchmarks.methods --faces 3 --json data/results/fitting_methods.json

The target is the raw signal of a random face by the physical renderer, with 128 frequencies, all
antennas and the face's own speckle; all but the material's part in phases is unknown. Starts are
wrong in every coefficient and in the pose (``benchmarks.fitting``), the same one for every method
of a face. One row a fit is printed and written as it is finished, and the next run goes on from
there; the table says median and 90 % over the faces.

``power`` is log power and mean depth of range profiles, smoothed by 7 and 3 mm; ``coarse to fine``
takes 14 and 7, then 7 and 3, then 3 and 0 mm; ``phase`` the complex range profiles; method
``ambiguity`` searches among their minima first. Seconds are of steps alone.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.fitting import FIRST, perturbed, target_signal
from radarbook.datasets.distribution import random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.descend import descend
from radarbook.fitting.methods import LBFGS, Adam, LevenbergMarquardt, Method
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.fitting.schedule import DESCENT, ENCODED, REFINE, Level
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform

#: Starts, by the error of their coefficients in standard deviations.
FAR, CLOSE = 0.4, 0.1
_POWER = [level for level in ENCODED if level.name == "7 and 3 mm"]
_FINER = [level for level in ENCODED if level.smoothing and not level.samples_faces]
_PHASE = [DESCENT[-1]]


@dataclass(frozen=True)
class Contender:
    """One row of the table; ``starts`` fits in one batch, of which the lowest loss counts.

    ``optimizer`` and ``steps`` take the place of the levels' own; ``method`` is its name in the
    table.
    """

    loss: str
    levels: Sequence[Level]
    error: float
    method: str
    optimizer: Method | None = None
    steps: int | None = None
    starts: int = 1


CONTENDERS = (
    Contender("power", _POWER, FAR, "adam", Adam(), 80),
    Contender("power", _POWER, FAR, "lbfgs", LBFGS(), 25),
    Contender("power", _POWER, FAR, "lm", LevenbergMarquardt(), 12),
    Contender("power", _POWER, FAR, "lm", LevenbergMarquardt(), 12, starts=4),
    Contender("phase", _PHASE, FAR, "lm", LevenbergMarquardt(), 12),
    Contender("phase", _PHASE, CLOSE, "adam", Adam(rate=0.01), 80),
    Contender("phase", _PHASE, CLOSE, "lbfgs", LBFGS(), 25),
    Contender("phase", _PHASE, CLOSE, "lm", LevenbergMarquardt(), 12),
    Contender("power, coarse to fine", _FINER, FAR, "lm"),
    Contender("power, coarse to fine, then phase", [*_FINER, *DESCENT[1:]], FAR, "lm"),
    Contender("power, coarse to fine, then phase", [*_FINER, *REFINE[1:]], FAR, "lm, ambiguity"),
)


def fit_face(
    model: MorphableModel,
    renderer: PhysicalRenderer,
    chosen: argparse.Namespace,
    number: int,
    contender: Contender,
) -> dict[str, Any]:
    truth = random_parameters(
        [chosen.first + number], chosen.seed, model.n_shape, model.n_expression
    )
    with torch.no_grad():
        signal = target_signal(model, renderer, truth, "same", number)
    starts = [
        perturbed(truth, contender.error, chosen.seed + number + 1000 * n)
        for n in range(contender.starts)
    ]
    copies = signal.expand(len(starts), -1, -1, -1)
    stages = physical_plan(copies, renderer, schedule=contender.levels).stages
    if contender.optimizer is not None and contender.steps is not None:
        method, steps = contender.optimizer, contender.steps
        stages = tuple(replace(s, method=method, steps=steps, patience=steps) for s in stages)
    found = descend(stages, FaceParameters.cat(starts))
    best = int(found.losses.argmin())

    def distance(p: FaceParameters) -> float:
        return round(float(vertex_distances(model, p.to(dtype=torch.float32), truth).mean()), 4)

    return {
        "face": number,
        "loss": contender.loss,
        "error": contender.error,
        "method": contender.method,
        "starts": contender.starts,
        "start_mm": distance(starts[0]),
        "end_mm": distance(found.parameters[best]),
        "steps": found.steps,
        "seconds": round(found.seconds, 1),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the faces: one row a contender, in the order of the first face's rows."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kind = tuple(row[key] for key in ("loss", "error", "method", "starts"))
        kinds.setdefault(kind, []).append(row)
    out = []
    for (loss, error, method, starts), mine in kinds.items():
        column = {
            key: torch.tensor([float(row[key]) for row in mine])
            for key in ("start_mm", "end_mm", "steps", "seconds")
        }
        out.append(
            {
                "loss": loss,
                "error": error,
                "method": method,
                "starts": starts,
                "faces": len(mine),
                "start_mm": round(float(column["start_mm"].mean()), 2),
                "median_mm": round(float(column["end_mm"].quantile(0.5)), 3),
                "ninety_mm": round(float(column["end_mm"].quantile(0.9)), 3),
                "steps": int(column["steps"].quantile(0.5)),
                "seconds": round(float(column["seconds"].quantile(0.5)), 1),
            }
        )
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=FIRST, help="index of the first random face")
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model, 10, 7)
    renderer = physical_renderer(model, qar50(), qar50_waveform(128), 0.30, bounces=1)
    settings = vars(chosen) | {"model": Path(chosen.model).stem, "hardware": hardware()}
    settings |= {"threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    settings.pop("json")
    rows: list[dict[str, Any]] = []
    if chosen.json and Path(chosen.json).is_file():
        rows = json.loads(Path(chosen.json).read_text())["rows"]
    fits = [(number, contender) for number in range(chosen.faces) for contender in CONTENDERS]
    for number, contender in fits[len(rows) :]:
        rows.append(fit_face(model, renderer, chosen, number, contender))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "summary": summary(rows), "rows": rows})
    for line in summary(rows):
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
