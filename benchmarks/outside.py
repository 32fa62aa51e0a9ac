"""Fits of faces that the fit's model may not hold: errors of smoothed power, and of phases.

    python -m benchmarks.outside --model ict_face.h5 --target ict_face.h5 --faces 4 --json FILE

A target is a random face of ``--target``, with all modes of that model, its shape and expression
wider or narrower by a factor of 0.5 to 1.2 of its own; or the surface of a scan, a mesh in the
radar frame in metres (``--target scan.ply``). Its signal is that of a smooth surface with speckle
of its own and two reflections; the fit has all modes of ``--model`` and one run from the mean face.

Each row states, of the face that smoothed power alone gives and of the one that phases give after
it, the distance of the target's surface to the face within 75 mm of the nose tip after alignment
(``radarbook compare``), the normalised residual power, its prediction by the fitted material, and
the share of the face's vertices whose distance to the target along their normal is within the 90 %
interval of the stated deviation. A face of the model itself has vertex distances, too. Each row is
printed and written as it is finished, with the fitted parameters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.evaluation.surfaces import Surface, compare
from radarbook.faces.compare import aligned, closest_on_surface
from radarbook.faces.displacements import vertex_normals
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.mesh import read_mesh
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.fitting.acceptance import judge
from radarbook.fitting.plan import final_objective, physical_plan
from radarbook.fitting.reconstruct import (
    mean_face_start,
    physical_renderer,
    reconstruct_through_physics,
)
from radarbook.fitting.schedule import usual_schedule
from radarbook.fitting.space import UNKNOWN
from radarbook.fitting.uncertainty import Uncertainty, uncertainty
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import qar50_waveform
from radarbook.seeds import numpy_stream

#: Factors of the deviations of 90 % intervals for which the share of vertices is stated.
FACTORS = (1.0, 1.25, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0)
#: First index of faces that settings are chosen on, and of the others.
TUNING, TEST = 2_000_300, 1_100_300
RADIUS = 0.075


def sampled(model: MorphableModel, index: int, seed: int) -> FaceParameters:
    """One random face of all modes, of a width of its own."""
    wide = numpy_stream(seed, "outside/width", index).uniform(0.5, 1.2, 2)
    setting = ParameterDistribution(
        shape_scale=float(wide[0]), expression_scale=float(wide[1]), material=(0.0, 0.4)
    )
    return random_parameters([index], seed, model.n_shape, model.n_expression, config=setting)


def target_of(spec: str, index: int, seed: int) -> tuple[Surface, FaceParameters | None, Tensor]:
    """Surface in the radar frame, m, parameters of a face, and the signal (1, rx, tx, 128)."""
    truth, rest = None, None
    if spec != "procedural" and Path(spec).suffix != ".h5":
        mesh = read_mesh(Path(spec))
        vertices = torch.from_numpy(np.asarray(mesh.vertices)).double()
        triangles = torch.from_numpy(np.asarray(mesh.triangles)).long()
        material, size = 0.1, 2e-3
    else:
        model = load_model(spec, *held_modes(spec))
        truth = sampled(model, index, seed)
        vertices = to_radar(model, truth.to(dtype=torch.float64), 0.30)[0].double()
        triangles, rest = model.triangles, 1e-3 * model.mean.double()
        material, size = float(truth.material[0]), float(truth.antenna_size[0])
    with torch.no_grad():
        signal = mesh_signal(
            vertices.float(),
            triangles,
            qar50(),
            qar50_waveform(128),
            bounces=2,
            material=material,
            antenna_size=size,
            surface=SmoothSurface.of(vertices, triangles),
            seed=index,
            rest=rest,
        )
    return Surface(vertices.numpy(), triangles.numpy()), truth, signal[None]


def upright(surface: Surface) -> Surface:
    """In a frame like a model's: x to the subject's left, z out of the nose; m."""
    turn = np.diag([-1.0, 1.0, -1.0])
    return surface.moved(turn, np.array([0.0, 0.0, 0.30]))


def of_face(
    model: MorphableModel, face: FaceParameters, target: Surface, sure: Uncertainty | None
) -> dict[str, Any]:
    """Distances to a target in the model's frame, and shares of vertices within intervals."""
    found = compare(Surface.of_face(model, face), upright(target), radius=RADIUS)
    row = found.scan_to_fit.summary()
    out: dict[str, Any] = {
        "median_mm": round(row["median"], 4),
        "mean_mm": round(row["mean"], 4),
        "ninety_mm": round(row["90 %"], 4),
    }
    if sure is None:
        return out
    vertices = torch.from_numpy(found.fit.vertices)
    normals = vertex_normals(vertices, model.triangles)
    modes = torch.cat([model.shape_modes, model.expression_modes]).double()
    mine = sure.columns < len(modes)
    along = torch.einsum("knx,nx->nk", modes[sure.columns[mine]], normals)
    # Alignment removes rigid motion: its share of the deviations, too.
    held = torch.from_numpy(np.isfinite(found.vertex_distances()))
    near = held.nonzero()[:, 0]
    rigid = torch.cat([normals, torch.linalg.cross(vertices - vertices.mean(0), normals)], 1)[near]
    basis, _ = torch.linalg.qr(rigid)
    mode = along[near] - basis @ (basis.T @ along[near])

    def spread(factor: float) -> Tensor:
        matrix = widened(sure, len(modes), factor)[mine][:, mine]
        return torch.einsum("nk,kl,nl->n", mode, matrix, mode).clamp(min=0).sqrt()

    point, _, _ = closest_on_surface(
        found.fit.vertices[near.numpy()], found.scan.vertices, found.scan.triangles
    )
    gap = 1e3 * (torch.from_numpy(point) - vertices[near])
    distance = (gap * normals[near]).sum(1).abs()
    out["stated_mm"] = {str(f): round(float(spread(f).mean()), 4) for f in FACTORS}
    out["within"] = {
        str(f): round(float((distance <= 1.645 * spread(f)).double().mean()), 4) for f in FACTORS
    }
    return out


def widened(sure: Uncertainty, coefficients: int, factor: float) -> Tensor:
    """(K, K) covariance with residuals of a deviation so many times larger; the prior's precision
    of coefficients, 1, stays."""
    prior = torch.diag((sure.columns < coefficients).double())
    data = torch.linalg.inv(sure.covariance) - prior
    return torch.linalg.inv(data / factor**2 + prior)


def fitted(
    model: MorphableModel, spec: str, index: int, seed: int, *, runs: int = 1
) -> dict[str, Any]:
    """One row of the table."""
    target, truth, signal = target_of(spec, index, seed)
    renderer = physical_renderer(model, qar50(), qar50_waveform(128), 0.30)
    schedule = usual_schedule(model.n_shape + model.n_expression)
    began = time.perf_counter()
    result = reconstruct_through_physics(
        signal, renderer.array, renderer.waveform, model, runs=runs, renderer=renderer
    )
    seconds = time.perf_counter() - began
    powers = [n for n, level in enumerate(schedule) if level.smoothing]
    names = {level.name for level in (schedule[n] for n in powers)}
    steps = [n for n, r in enumerate(result.history) if result.stages[r.stage] in names]
    faces = {"power": result.at(steps[-1]), "phase": result.parameters}
    phases = final_objective(signal, renderer)
    last = physical_plan(signal, renderer, schedule=[schedule[powers[-1]]])
    power = last.stages[0].objective
    free = tuple(name for name in UNKNOWN if name != "material")
    row: dict[str, Any] = {"index": index, "seconds": round(seconds, 1)}
    start = mean_face_start(signal, renderer)
    row["mean_face"] = of_face(model, start, target, None)
    for name, face in faces.items():
        verdict = judge(phases, face)[0]
        sure = None
        if phases.prior_follows:
            objective: Any = power if name == "power" else phases
            part = objective.recorded(signal)
            sure = uncertainty(objective, part, face, free=free, wider=1.0)
        mine = of_face(model, face, target, sure)
        mine |= {
            "residual": round(verdict.residual, 5),
            "predicted": round(verdict.predicted, 5),
            "highlight_residual": round(verdict.highlight_residual, 5),
            "highlight_predicted": round(verdict.highlight_diffuse, 5),
            "accepted": verdict.accepted,
            "coherence": round(float(phases.coherence(faces["power"], face)), 4),
            "parameters": [round(v, 5) for v in face.normalised()[0].tolist()],
        }
        if truth is not None and truth.shape.shape[1] == model.n_shape:
            there = model.vertices(truth.shape, truth.expression)[0].double().numpy()
            here = model.vertices(face.shape.float(), face.expression.float())[0].double().numpy()
            apart = np.linalg.norm(aligned(here, there) - there, axis=1)
            mine["vertex_mm"] = round(float(apart.mean()), 4)
        row[name] = mine
    if truth is not None:
        row["material"] = round(float(truth.material[0]), 3)
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True, help="that is fitted")
    parser.add_argument("--target", required=True, help="model of the faces, or a scan")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--first", type=int, default=TEST, help="index of the first random face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=1, help="of a fit, at most")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model, *held_modes(chosen.model))
    settings = {
        "model": Path(chosen.model).stem,
        "target": Path(chosen.target).stem,
        "modes": [model.n_shape, model.n_expression],
        "first": chosen.first,
        "seed": chosen.seed,
        "runs": chosen.runs,
        "hardware": hardware(),
    }
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.exists():
        kept = json.loads(chosen.json.read_text(encoding="utf-8"))
        rows = kept["rows"] if kept["settings"] == settings else []
    for index in range(chosen.first + len(rows), chosen.first + chosen.faces):
        rows.append(fitted(model, chosen.target, index, chosen.seed, runs=chosen.runs))
        shown = {k: v for k, v in rows[-1].items() if not isinstance(v, dict)}
        for name in ("mean_face", "power", "phase"):
            mine = rows[-1][name]
            shown |= {f"{name} {k}": v for k, v in mine.items() if k != "parameters"}
        print("  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
