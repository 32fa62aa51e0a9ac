"""What curved facets are worth to a fit: minima next to the truth of smooth targets.

    python -m benchmarks.smooth_fits --model MODEL --faces 3 --json FILE

A target is the signal of the referee's cubic patches through a tuning face's vertices, nine flat
parts per triangle, material 0.1, with speckle of its own; the surface is no part of the library,
the sum is. Curved and flat fits start from the truth, with the last stages of the schedule: where
they end is their own minimum. One row per fit is printed and written as it is finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from benchmarks.referee.faces import DRAWS
from benchmarks.referee.surface import Patches, _divided
from benchmarks.referee_fits import vertices_inside
from radarbook.datasets.distribution import random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.fitting.acceptance import judge
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import (
    physical_renderer,
    reconstruct_through_physics,
    uncertainty_through_physics,
)
from radarbook.fitting.schedule import REFINE
from radarbook.fitting.uncertainty import NINETY
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.renderer import PhysicalRenderer, mesh_signal
from radarbook.radar.waveform import qar50_waveform

MATERIAL = 0.1
_PARTS = 3


def smooth_target(model: MorphableModel, truth: FaceParameters, seed: int) -> torch.Tensor:
    """(1, rx, tx, 128) of a face whose skin is smooth between its vertices."""
    vertices = to_radar(model, truth.to(dtype=torch.float64), 0.30)[0].double().numpy()
    triangles = model.triangles.numpy()
    control = Patches(vertices, triangles)._control(vertices[triangles])
    fine, parts = (torch.from_numpy(a) for a in _divided(control, _PARTS))
    with torch.no_grad():
        return mesh_signal(
            fine.float(),
            parts,
            qar50(),
            qar50_waveform(128),
            material=MATERIAL,
            antenna_size=float(truth.rendering[0, 2]),
            seed=seed,
        )[None]


def fit(signal: torch.Tensor, renderer: PhysicalRenderer, truth: FaceParameters) -> dict[str, Any]:
    """One row of the table."""
    model = renderer.model
    found = reconstruct_through_physics(
        signal,
        renderer.array,
        renderer.waveform,
        model,
        start=truth.to(dtype=torch.float64),
        schedule=REFINE,
        runs=1,
        renderer=renderer,
    ).parameters
    verdict = judge(final_objective([signal], [renderer]), found)[0]
    sure = uncertainty_through_physics(signal, renderer, found)
    k = model.n_shape + model.n_expression
    off = (found.normalised() - truth.normalised())[0, :k].abs().double()
    errors = vertex_distances(model, found.to("cpu", torch.float32), truth)[0]
    inside = vertices_inside(sure, model, errors)
    return {
        "error_mm": round(float(errors.mean()), 4),
        "inside_90": int((off < NINETY * sure.deviations()[:k]).sum()),
        "coefficients": k,
        "vertices_inside_90": round(float(inside.double().mean()), 4),
        "stated_mm": round(float(sure.vertex_deviation(model).mean()), 4),
        "accepted": verdict.accepted,
        "residual": round(verdict.residual, 5),
        "diffuse": round(verdict.diffuse, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    model = load_model(chosen.model, 10, 7)
    draw, rows = DRAWS["tuning"], []
    for number, index in enumerate(draw.indices(chosen.faces)):
        truth = random_parameters([index], draw.seed, 10, 7)
        rendering = truth.rendering.clone()
        rendering[:, 1] = MATERIAL
        truth = truth.replace(rendering=rendering)
        signal = smooth_target(model, truth, 100 + number)
        renderer = physical_renderer(model, qar50(), qar50_waveform(128), 0.30, bounces=1)
        for smooth in (True, False):
            row = fit(signal, renderer.replace(smooth=smooth), truth)
            rows.append({"face": number, "smooth": smooth, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if chosen.json:
                settings = {"model": Path(chosen.model).stem, "on": hardware()}
                write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
