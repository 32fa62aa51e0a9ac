"""Fits through the learned renderer of held-out faces: image loss and vertex distance.

    python -m benchmarks.learned_fit --faces 20 --json data/results/fitting_learned_procedural.json

The target is the image of a random face by the physical renderer at the profile's grid, clipped at
-20 dB. From the encoder's and from the autoencoder's prediction, ``reconstruct_through_learned``
follows the image loss; ``--anchor 0`` leaves out what holds it to the prediction. The networks are
those that ship, for the procedural face at profile laptop, or with ``--networks profile`` those of
a run of ``--profile`` in ``--output``, trained first where they are missing. One row a face and
start is printed and written as it is finished, so an interrupted run loses nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from radarbook.datasets.distribution import random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.learned import reconstruct_through_learned
from radarbook.fitting.objectives import ImageObjective
from radarbook.pipeline import Pipeline
from radarbook.provenance import hardware
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import PhysicalRenderer, Predictor, Renderer
from radarbook.training.augmentation import with_dynamic_range
from radarbook.training.checkpoints import shipped
from radarbook.training.tasks import EVALUATION_DB

#: Beyond every dataset's samples, so no network has seen these faces. What was chosen in the
#: method was chosen on faces from 2,000,000.
FIRST = 1_000_000
STARTS = ("encoder", "autoencoder")


def target(physical: PhysicalRenderer, number: int, seed: int) -> tuple[FaceParameters, RadarImage]:
    """One face and its image, as the evaluation of networks sees it."""
    model = physical.model
    sampled = random_parameters([number], seed, model.n_shape, model.n_expression)
    rendering = sampled.rendering.clone()
    rendering[:, 0] = EVALUATION_DB
    with torch.no_grad():
        image = physical.render(sampled.replace(rendering=rendering))
    return with_dynamic_range(sampled, image.to(dtype=torch.float32), EVALUATION_DB)


def fit_face(
    model: MorphableModel,
    encoder: Predictor,
    learned: Renderer,
    truth: FaceParameters,
    image: RadarImage,
    steps: int,
    anchor: float,
) -> dict[str, Any]:
    """Before and after of one fit."""
    began = time.perf_counter()
    found = reconstruct_through_learned(image, encoder, learned, steps, anchor=anchor)
    seconds = time.perf_counter() - began
    objective = ImageObjective(target=image, renderer=learned)
    row: dict[str, Any] = {}
    for name, parameters in (("start", found.at(0)), ("end", found.parameters)):
        distance = vertex_distances(model, parameters.to(dtype=torch.float32), truth).mean()
        row[f"{name}_mm"] = round(float(distance), 4)
        row[f"{name}_loss"] = float(objective.image_losses(parameters))
    return row | {"steps": found.steps, "seconds": round(seconds, 2)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over faces, how often the loss fell, and the change's standard error."""

    def column(name: str) -> Tensor:
        return torch.tensor([float(row[name]) for row in rows], dtype=torch.float64)

    change = column("end_mm") - column("start_mm")
    return {
        "faces": len(rows),
        "loss_fell": float((column("end_loss") < column("start_loss")).double().mean()),
        "distance_fell": float((change < 0).double().mean()),
        "change_mm": float(change.mean()),
        "change_error_mm": float(change.std() / len(rows) ** 0.5) if len(rows) > 1 else None,
    } | {
        name: float(column(name).mean())
        for name in ("start_mm", "end_mm", "start_loss", "end_loss", "seconds")
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=20)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first face")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--anchor", type=float, default=1.0, help="0: the image loss alone")
    parser.add_argument("--networks", choices=("shipped", "profile"), default="shipped")
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--output", help="of the run whose networks are taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    pipeline = Pipeline(chosen.profile, chosen.model, chosen.output, chosen.seed)
    model, physical = pipeline.model, pipeline.physical
    networks: dict[str, Any] = {
        kind: shipped(kind, model=model, pixels=pipeline.profile.pixels)
        if chosen.networks == "shipped"
        else pipeline.get(kind if kind == "renderer" else f"{kind}/both")
        for kind in (*STARTS, "renderer")
    }
    settings = {
        name: getattr(chosen, name)
        for name in ("first", "steps", "anchor", "networks", "profile", "seed")
    } | {
        "model": model.name,
        "target": "physical renderer at the profile's grid, -20 dB",
        "hardware": hardware(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }
    rows: list[dict[str, Any]] = []
    for number in range(chosen.faces):
        truth, image = target(physical, chosen.first + number, chosen.seed)
        for kind in STARTS:
            row = fit_face(
                model,
                networks[kind],
                networks["renderer"],
                truth,
                image,
                chosen.steps,
                chosen.anchor,
            )
            rows.append({"face": number, "start": kind} | row)
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        found = {kind: summary([r for r in rows if r["start"] == kind]) for kind in STARTS}
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "summary": found, "faces": rows})
    for kind in STARTS:
        print(
            "{kind}: image loss {start_loss:.5f} -> {end_loss:.5f}, fell on {loss_fell:.0%}; "
            "vertex distance {start_mm:.3f} -> {end_mm:.3f} mm, fell on {distance_fell:.0%} of "
            "{faces} faces; {seconds:.1f} s a face".format(kind=kind, **found[kind])
        )


if __name__ == "__main__":
    main()
