"""Fits through physics of held-out faces: vertex distance, steps and seconds by start and method.

    python -m benchmarks.fitting --model procedural --faces 4 --start near --json FILE

The target is the physical renderer's raw signal of a random face, without noise; the fit uses the
same physics at few antennas and frequencies. ``near`` starts are wrong by ``--error`` standard
deviations in every coefficient and by some millimetres and degrees in the pose; ``mean`` starts
are the mean face at the image's centroid.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import replace

import torch

from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.model import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.fit import Stage, fit
from radarbook.fitting.methods import MethodName
from radarbook.fitting.reconstruct import (
    NEAR,
    SCHEDULE,
    mean_face_start,
    physical_renderer,
    physical_stages,
)
from radarbook.radar.array import qar50
from radarbook.radar.waveform import qar50_waveform
from radarbook.seeds import torch_stream

#: Gradient steps that take about as long as one step of Levenberg and Marquardt.
GRADIENT_STEPS = 8
FREE = ("shape", "expression", "translation", "rotation")


def perturbed(truth: FaceParameters, error: float, seed: int) -> FaceParameters:
    """A start that is wrong by ``error`` standard deviations, some 1.5 mm and about a degree."""
    k = truth.shape.shape[1], truth.expression.shape[1]
    vector = truth.normalised()
    draw = torch.randn(vector.shape, generator=torch_stream(seed, "fitting/start"))
    scale = torch.zeros(vector.shape[1])
    scale[: sum(k)], scale[sum(k) : sum(k) + 3], scale[sum(k) + 3 : sum(k) + 6] = error, 0.03, 0.1
    return FaceParameters.from_normalised(vector + scale * draw, *k).clamped()


def with_method(stages: list[Stage], method: MethodName) -> list[Stage]:
    """The same stages, followed by another method for about as long."""
    if method == "lm":
        return stages
    rates = {"adam": 0.05, "lbfgs": 1.0}
    return [
        replace(
            stage,
            method=method,
            rate=rates[method],
            steps=GRADIENT_STEPS * stage.steps,
            patience=GRADIENT_STEPS * stage.steps,
        )
        for stage in stages
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--start", choices=("near", "mean"), default="near")
    parser.add_argument("--error", type=float, default=0.4, help="of a near start, σ")
    parser.add_argument("--methods", nargs="+", default=["lm"], choices=("lm", "adam", "lbfgs"))
    parser.add_argument("--antennas", type=int, default=4, help="every so manieth is used")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model)
    renderer = physical_renderer(model, qar50(), qar50_waveform(24), 0.30)
    setting = ParameterDistribution(
        pose_scale=0.2 if chosen.start == "near" else 1.0,
        material=(0.1, 0.1),
        antenna_size=(2e-3, 2e-3),
    )
    schedule = NEAR[:3] if chosen.start == "near" else SCHEDULE
    rows = []
    for method in chosen.methods:
        for face in range(chosen.faces):
            truth = random_parameters(
                [face], chosen.seed, model.n_shape, model.n_expression, config=setting
            )
            with torch.no_grad():
                signal = renderer.signal(truth)
            begin = (
                perturbed(truth, chosen.error, chosen.seed + face)
                if chosen.start == "near"
                else mean_face_start(signal, renderer).to(dtype=torch.float32)
            )
            stages = physical_stages(
                signal,
                renderer,
                schedule=schedule,
                free=FREE,
                antennas=chosen.antennas,
                depth=0.1 if chosen.antennas > 2 else 0.165,
            )
            found = fit(None, None, begin, loss=with_method(stages, method))
            row = {
                "method": method,
                "face": face,
                "start_mm": float(vertex_distances(model, begin, truth).mean()),
                "end_mm": float(vertex_distances(model, found.parameters, truth).mean()),
                "steps": found.steps,
                "seconds": round(found.seconds, 1),
            }
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print("\nmethod  start median  end median  end 90 %  steps  seconds (medians)")
    for method in chosen.methods:
        part = {
            key: torch.tensor([float(row[key]) for row in rows if row["method"] == method])
            for key in ("start_mm", "end_mm", "steps", "seconds")
        }
        print(
            f"{method:6}  {part['start_mm'].median():9.2f} mm  {part['end_mm'].median():7.2f} mm"
            f"  {part['end_mm'].quantile(0.9):5.2f} mm  {part['steps'].median():5.0f}"
            f"  {part['seconds'].median():6.1f}"
        )
    if chosen.json:
        settings = vars(chosen) | {"threads": torch.get_num_threads(), "cpu": platform.processor()}
        write_json(chosen.json, {"settings": settings, "faces": rows})


if __name__ == "__main__":
    main()
