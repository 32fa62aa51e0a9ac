"""Fits of faces that the fit's model may not hold: errors of smoothed power, and of phases.

    python -m benchmarks.outside --model ict_face.h5 --target ict_face.h5 --faces 4 --json FILE
    python -m benchmarks.outside --summary FILE FILE ... --json data/results/outside_ict.json

A target is a random face of ``--target``, with all modes of that model at full width, or with
``--tuning`` wider or narrower by a factor of 0.5 to 1.2; or the surface of a scan, a mesh in the
radar frame in metres (``--target scan.ply``), turned by ``--turn`` degrees of yaw and pitch. Where
a scan holds more than the face, ``--compare`` names the mesh of its face. The signal is that of a
smooth surface with speckle of its own and two reflections, by the library's own simulator; with
``--errors`` the antennas have the nominal errors of gain, phase and position of the simulated
campaign, and there is noise. The fit has all modes of ``--model`` and one run from the mean face.

Each row states, of the face that smoothed power alone gives and of the one that phases give after
it, the distance of the target's surface to the face within 75 mm of the nose tip after alignment
(``radarbook compare``), the normalised residual power, its prediction by the fitted material, and
the share of the face's vertices whose distance to the target along their normal is within the 90 %
interval of the stated deviation (``within``; ``within_model`` without what is stated for shapes
outside the model). ``kept`` names the one that the library gives out. A face of the model itself
has vertex distances, too. Each row is printed and written as it is finished, with the fitted
parameters; the same command continues. With ``--judge FILE`` everything but the parameters is
computed again. The summary has one row for each file.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.datasets.campaign.plan import Instrument
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.evaluation.surfaces import Surface, compare
from radarbook.faces.compare import aligned, closest_on_surface
from radarbook.faces.displacements import vertex_normals
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.mesh import read_mesh
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import rotation_matrix, to_radar
from radarbook.files import write_json
from radarbook.fitting.acceptance import judge
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import (
    mean_face_start,
    physical_renderer,
    reconstruct_through_physics,
    uncertainty_through_physics,
)
from radarbook.fitting.space import ParameterSpace
from radarbook.fitting.uncertainty import NINETY, Uncertainty
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import qar50_waveform
from radarbook.seeds import numpy_stream

#: First index of faces that settings are chosen on, and of the others.
TUNING, TEST = 2_000_300, 1_100_300
RADIUS = 0.075


#: Normalised power of noise and channel errors that a fit is told, with :data:`NOMINAL`.
ERRORS = 0.04


def sampled(model: MorphableModel, index: int, seed: int) -> FaceParameters:
    """One random face of all modes; for tuning, of a width of its own."""
    wide = (1.0, 1.0)
    if index >= TUNING:
        wide = tuple(numpy_stream(seed, "outside/width", index).uniform(0.5, 1.2, 2))
    setting = ParameterDistribution(
        shape_scale=float(wide[0]), expression_scale=float(wide[1]), material=(0.0, 0.4)
    )
    return random_parameters([index], seed, model.n_shape, model.n_expression, config=setting)


def apart(model: MorphableModel, face: FaceParameters, truth: FaceParameters) -> float:
    """Mean distance of the vertices of two faces of one model after rigid alignment, mm."""
    here, there = (
        model.vertices(p.shape.float(), p.expression.float())[0].double().numpy()
        for p in (face, truth)
    )
    return round(float(np.linalg.norm(aligned(here, there) - there, axis=1).mean()), 4)


@dataclass(frozen=True)
class Target:
    """What is recorded: a model's faces or a scan, see above."""

    spec: str
    turn: tuple[float, float] = (0.0, 0.0)
    compare: str | None = None
    errors: bool = False
    steps: int = 128


def read_surface(path: str) -> tuple[Tensor, Tensor]:
    """Vertices (N, 3), m, and triangles (F, 3) of a mesh file."""
    mesh = read_mesh(Path(path))
    vertices = torch.from_numpy(np.asarray(mesh.vertices)).double()
    return vertices, torch.from_numpy(np.asarray(mesh.triangles)).long()


def turned(vertices: Tensor, turn: tuple[float, float], pivot: Tensor) -> Tensor:
    """Points (N, 3) m of the radar frame, turned about a pivot (3,) by yaw and pitch in degrees,
    as :func:`~radarbook.faces.pose.rotation_matrix` counts them."""
    angles = torch.tensor([[*map(math.radians, turn), 0.0]], dtype=torch.float64)
    half_turn = torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)
    matrix = half_turn[:, None] * rotation_matrix(angles)[0] * half_turn
    return (vertices - pivot) @ matrix.T + pivot


def target_of(
    target: Target, index: int, seed: int
) -> tuple[Surface, FaceParameters | None, Tensor]:
    """Surface to compare with, in the radar frame, m, parameters of a face, and the signal
    (1, rx, tx, f)."""
    truth, rest, spec = None, None, target.spec
    if spec != "procedural" and Path(spec).suffix != ".h5":
        vertices, triangles = read_surface(spec)
        face = (vertices, triangles) if target.compare is None else read_surface(target.compare)
        pivot = face[0].mean(0)
        # The surface that distances are of stays frontal: they are measured after alignment.
        surface = Surface(face[0].numpy(), face[1].numpy())
        vertices = turned(vertices, target.turn, pivot)
        material, size = 0.1, 2e-3
    else:
        model = load_model(spec, *held_modes(spec))
        truth = sampled(model, index, seed)
        vertices = to_radar(model, truth.to(dtype=torch.float64), 0.30)[0].double()
        triangles, rest = model.triangles, 1e-3 * model.mean.double()
        material, size = float(truth.material[0]), float(truth.antenna_size[0])
        marks = {name: vertices[n].numpy() for name, n in model.landmarks.items()}
        surface = Surface(vertices.numpy(), triangles.numpy(), marks)
    own = Imperfections()
    if target.errors:
        usual = Instrument()
        own = Imperfections(
            snr_db=usual.snr_db,
            gain_db=usual.gain_db,
            phase=usual.phase,
            position=usual.position,
        )
    with torch.no_grad():
        array, waveform = own.array(qar50(), index), qar50_waveform(target.steps)
        signal = mesh_signal(
            vertices.float(),
            triangles,
            array,
            waveform,
            bounces=2,
            material=material,
            antenna_size=size,
            surface=SmoothSurface.of(vertices, triangles),
            seed=index,
            rest=rest,
        )
        signal = own.apply(signal, array, waveform, index)
    return surface, truth, signal[None]


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
    near = torch.from_numpy(np.isfinite(found.vertex_distances())).nonzero()[:, 0]
    point, _, _ = closest_on_surface(
        found.fit.vertices[near.numpy()], found.scan.vertices, found.scan.triangles
    )
    gap = 1e3 * (torch.from_numpy(point) - vertices[near])
    distance = (gap * normals[near]).sum(1).abs()
    # Alignment removes rigid motion: its share of the deviations, too.
    rigid = torch.cat([normals, torch.linalg.cross(vertices - vertices.mean(0), normals)], 1)[near]
    basis, _ = torch.linalg.qr(rigid)
    for name, one in (("", sure), ("_model", replace(sure, beyond=None))):
        whole = one.normal_covariance(model, 1e3 * vertices, near)
        moved = whole @ basis
        square = whole.diagonal() - 2 * (basis * moved).sum(1)
        square += (basis @ (basis.T @ moved) * basis).sum(1)
        spread = square.clamp(min=0).sqrt()
        out[f"stated{name}_mm"] = round(float(spread.mean()), 4)
        out[f"within{name}"] = round(float((distance <= NINETY * spread).double().mean()), 4)
    return out


def fitted(
    model: MorphableModel, of: Target, index: int, seed: int, *, runs: int = 1
) -> dict[str, Any]:
    """One row of the table."""
    signal = target_of(of, index, seed)[2]
    noise = ERRORS if of.errors else 0.0
    renderer = physical_renderer(model, qar50(), qar50_waveform(of.steps), 0.30)
    began = time.perf_counter()
    result = reconstruct_through_physics(
        signal, renderer.array, renderer.waveform, model, runs=runs, renderer=renderer, noise=noise
    )
    seconds = time.perf_counter() - began
    smoothed = result.smoothed
    assert smoothed is not None
    faces = {"power": smoothed, "phase": result.parameters}
    kept = {
        name: {"parameters": [round(v, 5) for v in face.normalised()[0].tolist()]}
        for name, face in faces.items()
    }
    return judged({"index": index, "seconds": round(seconds, 1)} | kept, model, of, seed)


def judged(row: dict[str, Any], model: MorphableModel, of: Target, seed: int) -> dict[str, Any]:
    """A row of fitted faces with everything that follows from them."""
    index = row["index"]
    target, truth, signal = target_of(of, index, seed)
    noise = ERRORS if of.errors else 0.0
    renderer = physical_renderer(model, qar50(), qar50_waveform(of.steps), 0.30)
    out: dict[str, Any] = {"index": index, "seconds": row["seconds"]}
    start = mean_face_start(signal, renderer)
    out["mean_face"] = of_face(model, start, target, None)
    out["kept"] = "phase"
    phases = final_objective(signal, renderer)
    space = ParameterSpace(model.n_shape, model.n_expression)
    for name in ("power", "phase"):
        vector = torch.tensor([row[name]["parameters"]], dtype=torch.float64)
        face = space.unpack(vector)
        verdict = judge(phases, face, noise=noise)[0]
        smoothed = name == "power"
        if not smoothed and not verdict.phases_fit and phases.prior_follows:
            out["kept"] = "power"
        sure = None
        if phases.prior_follows:
            sure = uncertainty_through_physics(signal, renderer, face, smoothed=smoothed)
            sure = sure if verdict.accepted else sure.outside()
        mine = of_face(model, face, target, sure)
        mine |= {
            "residual": round(verdict.residual, 5),
            "predicted": round(verdict.predicted, 5),
            "highlight_residual": round(verdict.highlight_residual, 5),
            "highlight_predicted": round(verdict.highlight_diffuse, 5),
            "accepted": verdict.accepted,
            "parameters": row[name]["parameters"],
        }
        out[name] = mine
        if truth is not None and truth.shape.shape[1] == model.n_shape:
            mine["vertex_mm"] = apart(model, face, truth)
            out["mean_face"]["vertex_mm"] = apart(model, start, truth)
    if truth is not None:
        out["material"] = round(float(truth.material[0]), 3)
    return out


def summary(paths: Sequence[Path]) -> dict[str, Any]:
    """One row for each file of fits: medians over its faces, and what nine tenths stay below."""
    rows = []
    for path in paths:
        file = json.loads(path.read_text(encoding="utf-8"))
        about, faces = file["settings"], file["rows"]
        kept = [row[row["kept"]] for row in faces]
        medians = np.array([mine["median_mm"] for mine in kept])
        means = np.array([row["mean_face"]["median_mm"] for row in faces])
        within = [mine["within"] for mine in kept if "within" in mine]
        of_model = [mine["within_model"] for mine in kept if "within_model" in mine]
        vertices = [
            (m["vertex_mm"], r["mean_face"]["vertex_mm"])
            for r, m in zip(faces, kept, strict=True)
            if "vertex_mm" in m
        ]
        target = about["target"]
        if any(about["turn"]):
            target += ", yaw {:.0f}°, pitch {:.0f}°".format(*about["turn"])
        row = {
            "target": target + (" (whole head)" if about["compare"] else ""),
            "fit": f"{about['model']}, {about['modes'][0]} + {about['modes'][1]}",
            "faces": len(faces),
            "mean_face_mm": float(np.median(means)),
            "mean_mm": float(np.median([mine["mean_mm"] for mine in kept])),
            "median_mm": float(np.median(medians)),
            "ninety_mm": float(np.quantile(medians, 0.9)) if len(faces) > 4 else None,
            "ratio": float(np.median(medians / means)),
            "within_90": float(np.mean(within)) if within else None,
            "within_90_model": float(np.mean(of_model)) if of_model else None,
            "residual": float(np.median([mine["residual"] for mine in kept])),
            "accepted": sum(mine["accepted"] for mine in kept),
            "smoothed": sum(row["kept"] == "power" for row in faces),
            "seconds": float(np.median([row["seconds"] for row in faces])),
            "errors": about["errors"],
        }
        if vertices:
            found, mean = np.array(vertices).T
            row |= {
                "vertex_mm": float(np.median(found)),
                "vertex_ninety_mm": float(np.quantile(found, 0.9)),
                "mean_face_vertex_mm": float(np.median(mean)),
            }
        rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
    settings = {
        "distance": "median over the target's surface within 75 mm of the nose tip, after rigid "
        "alignment; median and 90 % over faces",
        "signals": "radarbook.simulate of smooth surfaces with speckle, two reflections",
        "hardware": hardware(),
    }
    return {"settings": settings, "rows": rows}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", help="that is fitted")
    parser.add_argument("--target", help="model of the faces, or a scan")
    parser.add_argument("--turn", type=float, nargs=2, default=(0.0, 0.0), help="of a scan")
    parser.add_argument("--compare", help="mesh of the face of a scan that holds more")
    parser.add_argument("--errors", action="store_true", help="of channels, and noise")
    parser.add_argument("--steps", type=int, default=128, help="of the recorded band")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modes", type=int, nargs=2, help="of the fit; all without it")
    parser.add_argument("--runs", type=int, default=1, help="of a fit, at most")
    parser.add_argument("--judge", type=Path, nargs="+", help="files of fits, to be judged again")
    parser.add_argument("--summary", type=Path, nargs="+", help="files of fits")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    if chosen.summary:
        found = summary(chosen.summary)
        for row in found["rows"]:
            print("  ".join(f"{key} {value}" for key, value in row.items()))
        if chosen.json:
            write_json(chosen.json, found)
        return
    if not (chosen.model and chosen.target):
        parser.error("--model and --target are needed, or --summary")
    model = load_model(chosen.model, *(chosen.modes or held_modes(chosen.model)))
    target = Target(chosen.target, tuple(chosen.turn), chosen.compare, chosen.errors, chosen.steps)
    for path in chosen.judge or ():
        file = json.loads(path.read_text(encoding="utf-8"))
        again = [judged(row, model, target, file["settings"]["seed"]) for row in file["rows"]]
        write_json(path, {"settings": file["settings"], "rows": again})
    if chosen.judge:
        return
    first = TUNING if chosen.tuning else TEST
    settings = {
        "model": Path(chosen.model).stem,
        "target": Path(chosen.target).stem,
        "turn": list(chosen.turn),
        "compare": None if chosen.compare is None else Path(chosen.compare).stem,
        "errors": chosen.errors,
        "steps": chosen.steps,
        "modes": [model.n_shape, model.n_expression],
        "first": first,
        "seed": chosen.seed,
        "runs": chosen.runs,
        "hardware": hardware(),
    }
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.exists():
        kept = json.loads(chosen.json.read_text(encoding="utf-8"))
        rows = kept["rows"] if kept["settings"] == settings else []
    for index in range(first + len(rows), first + chosen.faces):
        rows.append(fitted(model, target, index, chosen.seed, runs=chosen.runs))
        shown = {k: v for k, v in rows[-1].items() if not isinstance(v, dict)}
        for name in ("mean_face", "power", "phase"):
            mine = rows[-1][name]
            shown |= {f"{name} {k}": v for k, v in mine.items() if k != "parameters"}
        print("  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
