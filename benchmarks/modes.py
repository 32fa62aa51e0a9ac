"""How many modes of a face one radar image determines.

    python -m benchmarks.modes --model FILE --faces 2 --json data/results/fitting_modes.json

For a face model with many modes, two questions for each number of shape and expression modes:

``stated``  the face and the fit have these modes: how far off the fit must be, by its own stated
            uncertainty at the truth, for the target *same* (speckle of the face's own material) and
            *higher* (see ``benchmarks.fitting``; all residual power counts). ``known`` are
            the coefficients that are then known to better than half of what they spread.
``fit``     the face has all modes of the largest set, the fit only these: how far off it ends, from
            the face's own coefficients (nearest start), against what the modes left out amount to.
``mean``    the same from the mean face at the image's centroid, with all restarts; only where
            ``--questions`` names it, as the many modes take a quarter of an hour a face.

One row a face and question is printed and written as it is finished.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import FIRST, target_signal
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import mean_face_start, physical_renderer
from radarbook.fitting.restarts import restarts
from radarbook.fitting.schedule import DESCENT
from radarbook.fitting.space import UNKNOWN
from radarbook.fitting.uncertainty import uncertainty
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform

#: Numbers of shape and expression modes.
SETS = ((10, 7), (30, 20), (50, 20), (80, 20), (80, 40))
#: Those whose fits are made, which takes minutes for the largest.
FITTED = {"fit": ((10, 7), (30, 20), (80, 40)), "mean": ((80, 40),)}
QUESTIONS = ("same", "higher", "fit", "mean")
MATERIAL = 0.1


def sampled(index: int, seed: int, modes: tuple[int, int]) -> FaceParameters:
    """One random face of these many modes; the first coefficients are those of fewer modes."""
    setting = ParameterDistribution(material=(MATERIAL, MATERIAL))
    return random_parameters([index], seed, *modes, config=setting)


def setup(name: str, modes: tuple[int, int]) -> tuple[MorphableModel, PhysicalRenderer]:
    model = load_model(name, *modes)
    return model, physical_renderer(model, qar50(), qar50_waveform(128), 0.30, bounces=1)


def stated(
    chosen: argparse.Namespace, number: int, modes: tuple[int, int], kind: str
) -> dict[str, Any]:
    """The uncertainty at the truth."""
    model, renderer = setup(chosen.model, modes)
    truth = sampled(chosen.first + number, chosen.seed, modes)
    with torch.no_grad():
        signal = target_signal(model, renderer, truth, kind, number)
    objective, part = _last(signal, renderer)
    names = tuple(name for name in UNKNOWN if name != "material")
    sure = uncertainty(
        objective,
        part,
        truth.to(dtype=torch.float64),
        None if kind == "higher" else 0.0,
        free=names,
    )
    basis = torch.cat([model.shape_modes, model.expression_modes]).double()
    return {
        "stated_mm": round(float(sure.vertex_deviation(model).square().mean().sqrt()), 4),
        "spread_mm": round(float(basis.square().sum((0, 2)).mean().sqrt()), 4),
        "known": int((sure.deviations()[: sum(modes)] < 0.5).sum()),
    }


def fitted(
    chosen: argparse.Namespace, number: int, modes: tuple[int, int], question: str
) -> dict[str, Any]:
    """A fit with these modes of a face that has all."""
    whole, physical = setup(chosen.model, SETS[-1])
    truth = sampled(chosen.first + number, chosen.seed, SETS[-1])
    with torch.no_grad():
        signal = target_signal(whole, physical, truth, "same", number)
    model, renderer = setup(chosen.model, modes)
    start = best = sampled(chosen.first + number, chosen.seed, modes)
    plan = physical_plan(signal, renderer, schedule=DESCENT)
    if question == "mean":
        start = mean_face_start(signal, renderer).to(dtype=torch.float32)
        plan = physical_plan(signal, renderer)
    found = restarts(plan, start)

    def off(p: FaceParameters) -> float:
        mine = model.vertices(p.shape.float(), p.expression.float())
        true = whole.vertices(truth.shape, truth.expression)
        return round(float((mine - true).norm(dim=-1).mean()), 4)

    return {
        "left_out_mm": off(best),
        "start_mm": off(start),
        "end_mm": off(found.parameters),
        "own_mm": round(
            float(vertex_distances(model, found.parameters.to(dtype=torch.float32), best).mean()),
            4,
        ),
        "loss": float(found.losses),
    }


def _last(signal: Tensor, renderer: PhysicalRenderer) -> tuple[PhaseObjective, Tensor]:
    objective = physical_plan(signal, renderer, schedule=DESCENT[-1:]).stages[0].objective
    assert isinstance(objective, PhaseObjective)
    return objective, objective.recorded(signal)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="with 80 shape and 40 expression modes")
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=FIRST, help="index of the first random face")
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=QUESTIONS[:3])
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    settings = vars(chosen) | {
        "model": Path(chosen.model).stem,
        "material": MATERIAL,
        "hardware": hardware(),
        "load": os.getloadavg()[0],
    }
    settings.pop("json")
    for number in range(chosen.faces):
        for modes in SETS:
            for question in chosen.questions:
                if modes not in FITTED.get(question, SETS):
                    continue
                began = time.perf_counter()
                if question in FITTED:
                    answer = fitted(chosen, number, modes, question)
                else:
                    answer = stated(chosen, number, modes, question)
                row: dict[str, Any] = {"face": number, "shape": modes[0], "expression": modes[1]}
                row |= {"question": question} | answer
                row["seconds"] = round(time.perf_counter() - began, 1)
                rows.append(row)
                print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
                if chosen.json:
                    write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
