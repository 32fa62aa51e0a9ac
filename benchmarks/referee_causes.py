"""What moves a fit of the referee's recordings, one cause at a time.

    python -m benchmarks.referee_causes --model procedural --faces 0 --json FILE

A tuning face is simulated by the referee at the antennas and frequencies that a fit uses. At the
truth, two things are computed for each cause: the normalised residual power of the fit's last
objective, and the mean distance of vertices from the truth after one Gauss-Newton step, with the
Jacobian of that very objective. For errors that are small it is where the minimum lies, and no fit
from afar is needed. Each target is the coherent first reflection of the smooth surface
(``surface``) with one thing added to it, or one thing left out of the fit:

===============  ==================================================================================
surface          nothing: cubic patches through the vertices of the face's mesh
formula          the formula of the procedural model instead, finer than its mesh
diffuse          the diffuse reflection of the face's material; ``own diffuse`` is the same with the
                 signal of the library instead of the referee's, so no part of it is an error
channels         gains and phases of a nominal instrument; ``positions`` its antennas' positions
flat             nothing; the fit has flat facets
second, once     the second reflection; the fit has one reflection only
second           the second reflection; the fit has two, as usual
all              the face's own surface, diffuse reflection, the second reflection, and all errors
                 of a nominal instrument: gains, phases, positions, noise
…, gains fitted  the same; every transmitter and receiver has a gain and a phase that are unknown
                 (:mod:`radarbook.fitting.channel_gains`)
===============  ==================================================================================

With ``--refined`` the fit has the procedural model on its refined mesh
(:mod:`radarbook.faces.refined`), and ``surface`` is the smooth surface through that mesh; rows of
both go to files of their own. ``--antennas`` and ``--depth`` state the samples that the fit keeps:
one of how many antennas, and the depth in m over which the kept frequencies are unambiguous.

Rows are written as they are finished, and an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import radarbook as rb
from benchmarks.referee import Body, Referee
from benchmarks.referee.campaign import NOMINAL
from benchmarks.referee.faces import DRAWS, smooth_face
from benchmarks.referee.instrument import Instrument
from benchmarks.referee.scattering import Complex
from benchmarks.referee.surface import Patches
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.faces.refined import refined_procedural_model
from radarbook.files import write_json
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import judge
from radarbook.fitting.decimation import decimate
from radarbook.fitting.methods import Problem
from radarbook.fitting.methods.levenberg import OneFace
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.fitting.schedule import SCHEDULE
from radarbook.fitting.space import UNKNOWN, ParameterSpace
from radarbook.fitting.uncertainty import slopes
from radarbook.provenance import hardware
from radarbook.radar.channel_errors import ChannelErrors
from radarbook.radar.renderer import PhysicalRenderer

DISTANCE = 0.30


def targets(
    model: rb.MorphableModel,
    truth: FaceParameters,
    usual: PhysicalRenderer,
    seed: int,
    spacing: float,
) -> dict[str, tuple[Callable[[], Complex], dict[str, Any]]]:
    """By cause: the target's signal (rx, tx, f), when called, and options of the fit's renderer."""
    material, size = (float(v) for v in truth.rendering[0, 1:])
    tx, rx = (x.double().numpy() for x in (usual.array.tx, usual.array.rx))
    frequencies = usual.waveform.frequencies.double().numpy()
    referee = Referee(antenna_size=size, spacing=spacing, seed=seed, single=True)
    vertices = to_radar(model, truth.to(dtype=torch.float64), DISTANCE)[0].double().numpy()
    shape = Patches(vertices, model.triangles.numpy().astype(np.int64))
    instrument = Instrument(position=NOMINAL.position, seed=seed)

    @cache
    def parts() -> dict[str, Complex]:
        return referee.parts([Body(shape, material)], tx, rx, frequencies)

    @cache
    def second() -> Complex:
        twice = referee.replace(second_spacing=2 * spacing)
        return twice.parts([Body(shape, material)], tx, rx, frequencies)["second"]

    def surface() -> Complex:
        return parts()["coherent"]

    def formula() -> Complex:
        body = Body(smooth_face(model, truth, DISTANCE), material)
        return referee.parts([body], tx, rx, frequencies)["coherent"]

    def own() -> Complex:
        signal = usual.replace(bounces=1, seed=seed % 2**31).signal(truth)
        return np.asarray(signal[0].numpy(), dtype=np.complex128)

    def channels() -> Complex:
        errors = Instrument(gain_db=NOMINAL.gain_db, phase=NOMINAL.phase, seed=seed)
        return errors.applied(surface(), tx, rx, frequencies)

    def positions() -> Complex:
        moved = instrument.positions(tx, rx)
        return referee.parts([Body(shape, material)], *moved, frequencies)["coherent"]

    @cache
    def everything() -> Complex:
        moved = instrument.positions(tx, rx)
        body = Body(smooth_face(model, truth, DISTANCE), material)
        whole = referee.replace(second_spacing=2 * spacing)
        clean = sum(whole.parts([body], *moved, frequencies).values())
        errors = Instrument(**(vars(NOMINAL) | {"seed": seed}))
        return errors.applied(np.asarray(clean), *moved, frequencies)

    once: dict[str, Any] = {"bounces": 1}
    found: dict[str, tuple[Callable[[], Complex], dict[str, Any]]] = {
        "surface": (surface, once),
        "diffuse": (lambda: surface() + parts()["diffuse"], once),
        "own diffuse": (own, once),
        "channels": (channels, once),
        "positions": (positions, once),
        "flat": (surface, once | {"smooth": False}),
        "second, once": (lambda: surface() + second(), once),
        "second": (lambda: surface() + second(), {}),
        "all": (everything, {}),
    }
    for cause in ("channels", "positions", "diffuse", "all"):
        signal, options = found[cause]
        fitted = options | {"channels": ChannelErrors()}
        found[f"{cause}, gains fitted"] = signal, fitted
    if model.name.startswith("procedural"):
        found["formula"] = (formula, once)
    return found


def displaced(signal: Complex, renderer: PhysicalRenderer, truth: FaceParameters) -> dict[str, Any]:
    """Residual at the truth, and where the minimum is to first order: one row of the table."""
    there = truth.to(dtype=torch.float64)
    centre = there.translation.float() + torch.tensor([0.0, 0.0, DISTANCE])
    whole = torch.from_numpy(signal.astype(np.complex64))[None]
    # The antennas are those that a fit keeps, so none are left out again.
    plan = physical_plan(whole, renderer, schedule=SCHEDULE[-1:], antennas=1, centres=centre)
    objective: Any = plan.stages[-1].objective
    verdict = judge(objective, there)[0]
    space = ParameterSpace.of(there, VISIBLE_POSE)
    columns = space.columns([name for name in UNKNOWN if name != "material"])
    vector = there.normalised()[0]
    residual, jacobian = slopes(
        OneFace.of(Problem(objective=objective, space=space, free=columns), 0, vector)
    )
    data = len(residual) - objective.priors
    # The prior's own pull is no error of the physics: its residual is left out, its weight is not.
    unknown = jacobian[:data]
    weight = jacobian[data:].T @ jacobian[data:]
    step = -torch.linalg.solve(unknown.T @ unknown + weight, unknown.T @ residual[:data])
    left = float((residual[:data] + unknown @ step).square().sum())
    end = space.unpack(vector.index_add(0, columns, step[: len(columns)])[None])
    model = renderer.model
    # Distances are of the even mesh: a refined one has most of its vertices at lids and lips.
    errors = vertex_distances(model, end.to("cpu", torch.float32), truth)[0][: model.posed_by]
    return {
        "residual": round(verdict.residual, 5),
        "diffuse": round(verdict.diffuse, 5),
        "highlight_residual": round(verdict.highlight_residual, 5),
        "highlight_diffuse": round(verdict.highlight_diffuse, 5),
        "residual_after": round(left, 5),
        "displacement_mm": round(float(errors.mean()), 4),
        "position_mm": round(1e3 * float((end.translation - there.translation).norm()), 4),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, nargs="+", default=[0], help="numbers of tuning faces")
    parser.add_argument("--causes", nargs="+", help="those alone")
    parser.add_argument(
        "--spacing", type=float, default=8e-4, help="m, twice for the second bounce"
    )
    parser.add_argument("--refined", action="store_true", help="mesh of the procedural model")
    parser.add_argument("--antennas", type=int, default=tuned.ANTENNAS)
    parser.add_argument("--depth", type=float, default=tuned.DEPTH, help="m")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = refined_procedural_model() if chosen.refined else rb.load_model(chosen.model, 10, 7)
    kept = decimate(
        rb.qar50(), rb.qar50_waveform(128), antennas=chosen.antennas, depth=chosen.depth
    )
    waveform = rb.Waveform(rb.qar50_waveform(128).frequencies[kept.steps])
    usual = physical_renderer(model, kept.antennas(rb.qar50()), waveform, DISTANCE)
    settings = {
        "model": model.name if chosen.refined else Path(chosen.model).stem,
        "draw": "tuning",
        "spacing": chosen.spacing,
        "antennas": chosen.antennas,
        "depth": chosen.depth,
    }
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.is_file():
        rows = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"]
    draw = DRAWS["tuning"]
    for number in chosen.faces:
        index = draw.first + number
        truth = rb.random_parameters([index], draw.seed, 10, 7)
        for cause, (signal, options) in targets(model, truth, usual, index, chosen.spacing).items():
            done = any((row["face"], row["cause"]) == (number, cause) for row in rows)
            if done or (chosen.causes and cause not in chosen.causes):
                continue
            with torch.no_grad():
                row = displaced(signal(), usual.replace(**options), truth)
            material = round(float(truth.material), 3)
            rows.append({"face": number, "cause": cause, "material": material, **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if chosen.json:
                write_json(chosen.json, {"settings": settings | {"on": hardware()}, "rows": rows})


if __name__ == "__main__":
    main()
