"""Fits through a blanket: known, ignored, and its thickness and permittivity among the unknowns.

    python -m benchmarks.covered_fit --model procedural --faces 4 --json FILE

The target is the raw signal of a random face by the physical renderer through cotton, with 128
frequencies, all antennas and the face's own speckle. The fits begin with the mean face at the
image's centroid, everything unknown. ``known`` has the layer in its physics, ``ignored`` has none,
and ``unknown`` looks for thickness and permittivity, from what ``ignored`` found and a permittivity
that is wrong by ``--wrong``. Each row says how far the face is from the truth, its position
along z by itself.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.fitting import FIRST, target_signal
from radarbook.datasets.distribution import random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.layer_fit import fit_layer
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import mean_face_start, physical_renderer
from radarbook.fitting.restarts import restarts
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform

#: Cotton, as in chapter 2, before the nearest nose.
COTTON = 1.6 - 0.05j
DISTANCE = 0.2


def fit_face(
    model: MorphableModel, bare: PhysicalRenderer, chosen: argparse.Namespace, number: int
) -> list[dict[str, Any]]:
    """Three rows of the table."""
    truth = random_parameters(
        [chosen.first + number], chosen.seed, model.n_shape, model.n_expression
    )
    cotton = Layer(DISTANCE, chosen.thickness, COTTON)
    covered = bare.replace(layer=cotton)
    with torch.no_grad():
        signal = target_signal(model, covered, truth, "same", number)
    rows: list[dict[str, Any]] = []

    def row(kind: str, found: FaceParameters, loss: float, began: float, **more: Any) -> None:
        distance = vertex_distances(model, found.to(dtype=torch.float32), truth).mean()
        off = 1e3 * (found.translation - truth.translation)[0]
        rows.append(
            {
                "face": number,
                "layer": kind,
                "end_mm": round(float(distance), 4),
                "across_mm": round(float(off[:2].norm()), 3),
                "behind_mm": round(float(off[2]), 3),
                "loss": loss,
                "seconds": round(time.perf_counter() - began, 1),
                **more,
            }
        )

    results = {}
    for kind, renderer in (("known", covered), ("ignored", bare)):
        began = time.perf_counter()
        start = mean_face_start(signal, renderer).to(dtype=torch.float32)
        results[kind] = restarts(physical_plan(signal, renderer), start)
        row(kind, results[kind].parameters, float(results[kind].losses[0]), began)
    began = time.perf_counter()
    assumed = Layer(DISTANCE, 0.0, COTTON * (1 + chosen.wrong))
    found = fit_layer(
        signal, bare, assumed, results["ignored"].parameters, thickest=2.5 * chosen.thickness
    )
    delays = [1e3 * layer.delay(bare.waveform) for layer in (found.layer, cotton)]
    row(
        "unknown",
        found.parameters,
        found.loss,
        began,
        delay_mm=round(delays[0], 3),
        true_delay_mm=round(delays[1], 3),
        thickness_mm=round(1e3 * float(found.layer.thickness), 3),
        permittivity=round(complex(torch.as_tensor(found.layer.permittivity)).real, 3),
    )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--thickness", type=float, default=3e-3, help="of the blanket, m")
    parser.add_argument("--wrong", type=float, default=0.1, help="error of the permittivity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=FIRST, help="index of the first random face")
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model, 10, 7)
    bare = physical_renderer(model, qar50(), qar50_waveform(128), 0.30, bounces=1)
    settings = vars(chosen) | {"model": Path(chosen.model).stem, "hardware": hardware()}
    settings["load"] = os.getloadavg()[0]
    settings.pop("json")
    rows: list[dict[str, Any]] = []
    for number in range(chosen.faces):
        for row in fit_face(model, bare, chosen, number):
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "faces": rows})
    for kind in ("known", "ignored", "unknown"):
        mine = [row for row in rows if row["layer"] == kind]
        distance, behind = (
            torch.tensor([row[key] for row in mine]).quantile(0.5)
            for key in ("end_mm", "behind_mm")
        )
        print(f"{kind}: median {distance:.3f} mm, {behind:+.3f} mm along z")


if __name__ == "__main__":
    main()
