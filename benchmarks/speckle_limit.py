"""How far speckle alone moves a fit, and whether other samples, weights or priors lower it.

    python -m benchmarks.speckle_limit --face 0 --antennas 2 --depth 0.12

The recording is the fit's own coherent signal of a tuning face with independent realisations of the
face's diffuse reflection: no physics is wrong in it. For each realisation one Gauss-Newton step
from the truth, with the Jacobian of the fit's last objective, tells to first order where the
minimum lies. One row per weighting of the pixels and strength of the prior on coefficients: mean
and 90 % quantile over realisations of the mean vertex distance, mm. Weights are the fit's own
(``usual``), or the inverse root of the predicted diffuse power plus a floor, which is that share of
its maximum. The prior is the fit's own times a factor.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import radarbook as rb
from benchmarks.referee.faces import DRAWS
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters
from radarbook.files import write_json
from radarbook.fitting import tuned
from radarbook.fitting.decimation import decimate
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.fitting.schedule import SCHEDULE
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.fitting.uncertainty import slopes
from radarbook.provenance import hardware

DISTANCE = 0.30
PRIORS = (0.0, 1.0, 6.0, 12.0, 30.0)


def displacements(
    model: rb.MorphableModel,
    truth: FaceParameters,
    *,
    antennas: int,
    depth: float,
    draws: int,
    floors: Sequence[float | None],
) -> list[dict[str, Any]]:
    """Rows of the table; ``floors`` holds the floor of each weighting, None: the fit's own."""
    sweep = rb.qar50_waveform(128)
    kept = decimate(rb.qar50(), sweep, antennas=antennas, depth=depth)
    few = rb.Waveform(sweep.frequencies[kept.steps])
    usual = physical_renderer(model, kept.antennas(rb.qar50()), few, DISTANCE).replace(bounces=1)
    there, material = truth.to(dtype=torch.float64), float(truth.material)
    centre = there.translation.float() + torch.tensor([0.0, 0.0, DISTANCE])
    first = usual.replace(seed=1).signal(truth)
    plan = physical_plan(
        first, usual, schedule=SCHEDULE[-1:], antennas=1, depth=depth, centres=centre
    )
    objective: Any = plan.stages[-1].objective
    target = objective.targets[0]
    coherent = objective.physics.signal(truth)[0]
    speckle = [material * s for s in objective.physics.speckle_samples(truth, draws)]
    predicted = material**2 * objective.diffuse_power(truth, target)[0].clamp(min=0)
    space = ParameterSpace.of(there, VISIBLE_POSE)
    columns = space.columns([name for name in UNKNOWN if name != "material"])
    vector = there.normalised()[0]
    rows = []
    for floor in floors:
        weights = target.weights
        if floor is not None:
            weights = (predicted + floor * predicted.max()).rsqrt()
        mine = target.focus.profiles(coherent) * weights
        weights, mine = weights / mine.norm(), mine / mine.norm()
        clean = replace(target, weights=weights, profiles=mine)
        problem = Problem(objective=replace(objective, targets=(clean,)), space=space, free=columns)
        residual, jacobian = slopes(OneFace.of(problem, 0, vector))
        data = len(residual) - objective.priors
        unknown, prior = jacobian[:data], jacobian[data:]
        found: dict[float, list[float]] = {factor: [] for factor in PRIORS}
        for one in speckle:
            wanted = target.focus.profiles(coherent + one) * weights
            gain = (mine.conj() * wanted).sum()
            left = torch.view_as_real(wanted / gain - mine).flatten().double()
            # Of a recording as strong as a fit's: the prior weighs against its whole power.
            share = 1 / float(1 + left.square().sum())
            for factor, distances in found.items():
                hessian = share * unknown.T @ unknown + factor * prior.T @ prior
                slope = share * unknown.T @ left + factor * prior.T @ residual[data:]
                step = -torch.linalg.solve(hessian, slope)
                end = space.unpack(vector.index_add(0, columns, step[: len(columns)])[None])
                away = vertex_distances(model, end.to("cpu", torch.float32), truth)[0]
                distances.append(float(away.mean()))
        rows += [
            {
                "weights": "usual" if floor is None else f"diffuse, floor {floor}",
                "prior": factor,
                "mean_mm": round(float(np.mean(distances)), 3),
                "ninety_mm": round(float(np.quantile(distances, 0.9)), 3),
            }
            for factor, distances in found.items()
        ]
    size = {"transmitters": coherent.shape[1], "frequencies": coherent.shape[2]}
    return [{"material": round(material, 3), **size, "draws": draws, **row} for row in rows]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--face", type=int, default=0, help="number of a tuning face")
    parser.add_argument("--antennas", type=int, default=tuned.ANTENNAS, help="one of how many")
    parser.add_argument("--depth", type=float, default=tuned.DEPTH, help="m, of the frequencies")
    parser.add_argument("--draws", type=int, default=12, help="realisations of speckle")
    parser.add_argument("--floors", type=float, nargs="*", default=[0.03])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    draw = DRAWS["tuning"]
    truth = rb.random_parameters([draw.first + chosen.face], draw.seed, 10, 7)
    with torch.no_grad():
        rows = displacements(
            rb.load_model("procedural", 10, 7),
            truth,
            antennas=chosen.antennas,
            depth=chosen.depth,
            draws=chosen.draws,
            floors=[None, *chosen.floors],
        )
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if chosen.json:
        settings = {"model": "procedural", "face": chosen.face, "on": hardware()}
        write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
