"""Fits through physics of held-out faces: vertex distance, steps and seconds.

    python -m benchmarks.fitting --model procedural --faces 4 --start mean --json FILE

Every parameter that shows in a recording is unknown: shape, expression, position, orientation,
material and antenna size. ``mean`` starts are the mean face at the image's centroid; ``near`` ones
are wrong by ``--error`` standard deviations in every coefficient and by some millimetres and
degrees; ``encoder`` is the prediction of the autoencoder that ships for the procedural face. The
target is the raw signal of a random face by the physical renderer: ``same`` as the fit's, with 128
frequencies and all antennas; ``higher`` with facets of 0.7 mm, two reflections and the
imperfections named in ``NOMINAL``, none of which the fit models; with ``--bounces 2`` it models
the double bounce. One row per face is printed and written as it is finished, with the fitted
normalised parameters, so an interrupted run loses nothing and the next one continues.

With ``--device cuda`` everything but a few small matrices is computed there; ``--processes`` share
the faces, and the card with its memory, among them. For them to compute on it at the same time
instead of taking turns, NVIDIA's MPS must run (``nvidia-cuda-mps-control -d``).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radarbook.datasets.distribution import random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting import tuned
from radarbook.fitting.descend import FitResult
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import mean_face_start, physical_renderer
from radarbook.fitting.restarts import Plan, restarts
from radarbook.fitting.schedule import ENCODED, SCHEDULE, Level
from radarbook.fitting.space import UNKNOWN
from radarbook.fitting.uncertainty import NINETY, uncertainty
from radarbook.profiles import get_profile
from radarbook.radar.array import qar50
from radarbook.radar.image import image_from_volume
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform
from radarbook.seeds import torch_stream
from radarbook.training.checkpoints import shipped
from radarbook.training.tasks import EVALUATION_DB

#: A calibrated array, nominally: noise 30 dB below the signal in each sample, channels right to
#: half a decibel and 5 degrees, antennas to a twentieth of a millimetre.
NOMINAL = Imperfections(snr_db=30.0, gain_db=0.5, phase=0.087, position=5e-5)
#: Beyond every dataset's samples, so no network has seen these faces. Settings of the fit were
#: chosen on faces from 2,000,000 on; some from 1,000,000 were looked at in the course of it.
FIRST = 1_100_000


def perturbed(truth: FaceParameters, error: float, seed: int) -> FaceParameters:
    """A start that is wrong by ``error`` standard deviations, some 1.5 mm and about a degree."""
    k = truth.shape.shape[1], truth.expression.shape[1]
    vector = truth.normalised()
    sample = torch.randn(vector.shape, generator=torch_stream(seed, "fitting/start"))
    scale = torch.zeros(vector.shape[1])
    scale[: sum(k)], scale[sum(k) : sum(k) + 3], scale[sum(k) + 3 : sum(k) + 6] = error, 0.03, 0.1
    return FaceParameters.from_normalised(vector + scale * sample, *k).clamped()


def target_signal(
    model: MorphableModel, fitted: PhysicalRenderer, truth: FaceParameters, kind: str, face: int
) -> Tensor:
    """(1, rx, tx, 128) of one face, rough in its own way: with the same phases on every face, all
    fits would have the same error."""
    if kind == "same":
        return fitted.replace(seed=face).signal(truth)
    settings: dict[str, Any] = {
        "seed": face,
        "array": NOMINAL.array(fitted.array, 0, face),
        "waveform": fitted.waveform,
        "grid": Grid.regular(0.3, 16, 0.23, 0.47, 4),
        "distance": fitted.distance,
    }
    clean = PhysicalRenderer(model, facet_size=7e-4, **settings).signal(truth)
    # The double bounce is weak: facets of 3 mm suffice for it, at a tenth of the time.
    once, twice = (PhysicalRenderer(model, bounces=n, **settings).signal(truth) for n in (1, 2))
    clean = clean + (twice - once)
    # Antennas are already where they are; the rest of the errors is applied to the signal.
    return NOMINAL.apply(clean, fitted.array, fitted.waveform, 0, [face])


def encoder_start(signal: Tensor, renderer: PhysicalRenderer) -> FaceParameters:
    """Prediction of the autoencoder that ships from a recording's image, on its own grid."""
    profile = get_profile("laptop")
    grid = PhysicalRenderer.for_profile(renderer.model, profile).grid
    volume = back_project(signal.to(torch.complex64), renderer.array, renderer.waveform, grid)
    network: Any = shipped("autoencoder", model=renderer.model.to("cpu"), pixels=profile.pixels)
    image = image_from_volume(volume, grid, EVALUATION_DB).to("cpu")
    found: FaceParameters = network.predict(image)
    return found


def fit_face(
    model: MorphableModel, renderer: PhysicalRenderer, chosen: argparse.Namespace, number: int
) -> dict[str, Any]:
    """One row of the table."""
    truth = random_parameters(
        [chosen.first + number], chosen.seed, model.n_shape, model.n_expression
    )
    with torch.no_grad():
        there = truth.to(model.triangles.device)
        signal = target_signal(model, renderer, there, chosen.target, number)
    schedule: Sequence[Level] = SCHEDULE
    if chosen.start == "near":
        begin = perturbed(truth, chosen.error, chosen.seed + number)
        schedule = ENCODED
    began = time.perf_counter()
    if chosen.start == "mean":
        begin = mean_face_start(signal, renderer).to(dtype=torch.float32)
    if chosen.start == "encoder":
        begin = encoder_start(signal, renderer)
        schedule = ENCODED
    plan = physical_plan(signal, renderer, schedule=schedule, runs=chosen.runs)
    found = restarts(plan, begin)
    seconds = time.perf_counter() - began
    model = model.to("cpu")

    def distance(p: FaceParameters) -> float:
        return float(vertex_distances(model, p.to("cpu", torch.float32), truth).mean())

    moved = 1e3 * (found.parameters.translation - truth.translation).norm()
    turned = (found.parameters.rotation - truth.rotation).norm().rad2deg()
    return {
        "face": number,
        "start_mm": round(distance(begin), 4),
        "end_mm": round(distance(found.parameters), 4),
        "position_mm": round(float(moved), 3),
        "orientation_deg": round(float(turned), 3),
        "loss": float(found.losses),
        "steps": found.steps,
        "attempts": found.runs,  # the name in kept results
        "seconds": round(seconds, 1),
        "found": " ".join(f"{float(v):.6f}" for v in found.parameters.normalised()[0]),
        **_intervals(model, plan, signal, found, truth, chosen),
    }


def _intervals(
    model: MorphableModel,
    plan: Plan,
    signal: Tensor,
    found: FitResult,
    truth: FaceParameters,
    chosen: argparse.Namespace,
) -> dict[str, Any]:
    """How many of the coefficients' 90 % intervals hold the truth, and the stated deviation."""
    if not chosen.intervals:
        return {}
    objective = plan.stages[-1].objective
    assert isinstance(objective, PhaseObjective)
    names = tuple(name for name in UNKNOWN if name != "material")
    part = objective.recorded(signal)
    sure = uncertainty(objective, part, found.parameters.to(dtype=torch.float64), free=names)
    k = model.n_shape + model.n_expression
    off = (found.parameters.normalised() - truth.normalised())[0, :k].abs().double()
    inside = off < NINETY * sure.deviations()[:k]
    stated = sure.vertex_deviation(model)
    error = vertex_distances(model, found.parameters.to(dtype=torch.float32), truth)[0]
    return {
        "inside_90": int(inside.sum()),
        "coefficients": k,
        "stated_mm": round(float(stated.mean()), 4),
        "rms_mm": round(float(error.square().mean().sqrt()), 4),
    }


def fit_faces(chosen: argparse.Namespace, numbers: range, threads: int) -> Iterator[dict[str, Any]]:
    """Their rows, in order, from this process or from several."""
    if chosen.processes < 2:
        _begin(chosen, threads)
        yield from map(_fit_face, numbers)
        return
    with ProcessPoolExecutor(
        chosen.processes, get_context("spawn"), initializer=_begin, initargs=(chosen, threads)
    ) as pool:
        yield from pool.map(_fit_face, numbers)


#: What a process fits with, and how.
_given: dict[str, Any] = {}


def _begin(chosen: argparse.Namespace, threads: int) -> None:
    torch.set_num_threads(threads)
    if torch.device(chosen.device).type == "cuda" and chosen.processes > 1:
        # What one of them keeps for later is not there for the others.
        torch.cuda.set_per_process_memory_fraction(0.95 / chosen.processes)
    model = load_model(chosen.model, 10, 7).to(chosen.device)
    renderer = physical_renderer(model, qar50(), qar50_waveform(128), 0.30, bounces=chosen.bounces)
    _given.update(model=model, renderer=renderer, chosen=chosen)


def _fit_face(number: int) -> dict[str, Any]:
    return fit_face(number=number, **_given)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--start", choices=("near", "mean", "encoder"), default="mean")
    parser.add_argument("--target", choices=("same", "higher"), default="same")
    parser.add_argument(
        "--bounces", type=int, default=1, help="reflections of a path that the fit models"
    )
    parser.add_argument("--error", type=float, default=0.4, help="of a near start, σ")
    parser.add_argument("--runs", type=int, default=tuned.RUNS)
    parser.add_argument("--intervals", action="store_true", help="calibration of the uncertainty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=FIRST, help="index of the first random face")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="that share the faces")
    parser.add_argument("--json")
    chosen = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    device = torch.device(chosen.device)
    settings = vars(chosen) | {
        "model": Path(chosen.model).stem,
        "threads": max(1, torch.get_num_threads() // chosen.processes),
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
        "smooth": PhysicalRenderer.smooth,
    }
    settings.pop("device")
    on = "one thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    if device.type == "cuda":
        settings["device"] = torch.cuda.get_device_name(device)
        on = settings["device"].removeprefix("NVIDIA ")
    if chosen.processes > 1:
        on = f"{on}, {chosen.processes} at once"
    settings.pop("json")
    if chosen.json and Path(chosen.json).is_file():
        rows = json.loads(Path(chosen.json).read_text())["faces"]
    began = time.perf_counter()
    for row in fit_faces(chosen, range(len(rows), chosen.faces), settings["threads"]):
        if not rows:
            began = time.perf_counter() - row["seconds"]  # without starting processes
        rows.append(row | {"on": on})
        settings["wall_seconds"] = round(time.perf_counter() - began, 1)
        print("  ".join(f"{k} {v}" for k, v in row.items() if k != "found"), flush=True)
        if chosen.json:
            write_json(chosen.json, {"settings": settings, "faces": rows})
    column = {
        key: torch.tensor([float(row[key]) for row in rows])
        for key in ("start_mm", "end_mm", "seconds")
    }
    middle = {key: float(values.quantile(0.5)) for key, values in column.items()}
    print(
        f"median {middle['start_mm']:.2f} -> {middle['end_mm']:.3f} mm, "
        f"90 % below {float(column['end_mm'].quantile(0.9)):.3f} mm, "
        f"{middle['seconds']:.1f} s a face, {settings.get('wall_seconds', 0)} s in this run"
    )


if __name__ == "__main__":
    main()
