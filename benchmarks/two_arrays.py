"""Fits to the recordings of two arrays around one face, alone and together.

    python -m benchmarks.two_arrays --faces 3 --json data/results/two_arrays_procedural.json

Two QAR50 on a circle about the middle of the volume, at -20 and +20 degrees of azimuth, both turned
towards it. Each face is posed (the model's distribution) and simulated on facets of 0.7 mm, with
speckle, noise and channel errors at the nominal level sampled for each array; nothing is
reflected twice, as double bounce of a moved array is not simulated. Fits begin some 1.5 mm and a
degree off (:func:`benchmarks.fitting.perturbed`) and have seven unknown kinds of parameters:
shape, expression, position, orientation, material, antenna size and each recording's complex gain.
One row per face and fit is printed and written as it is finished; an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import radarbook as rb
from benchmarks.fitting import FIRST, NOMINAL, perturbed
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.reconstruct import physical_renderer, uncertainty_through_physics
from radarbook.fitting.schedule import ENCODED
from radarbook.fitting.uncertainty import NINETY
from radarbook.provenance import hardware
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid

#: m, from each array to the middle of the volume.
DISTANCE = 0.30
#: Descents on smoothed power, then what follows near the truth.
SCHEDULE = ENCODED[2:]


def aside(degrees: float) -> Array:
    """The QAR50 at an azimuth, turned towards the middle of the volume."""
    a = math.radians(degrees)
    turn = torch.tensor(
        [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        dtype=torch.float64,
    )
    middle = torch.tensor([0.0, 0.0, DISTANCE], dtype=torch.float64)
    return rb.qar50().moved(turn, middle - turn @ middle)


def recorded(model: MorphableModel, truth: FaceParameters, array: Array, seed: int) -> rb.Recording:
    """One face by one array, whose errors and speckle are those of ``seed``."""
    waveform = rb.qar50_waveform(128)
    renderer = rb.PhysicalRenderer(
        model,
        array=NOMINAL.array(array, 0, seed),
        waveform=waveform,
        grid=Grid.regular(0.3, 16, 0.23, 0.47, 4),
        distance=DISTANCE,
        facet_size=7e-4,
        seed=seed,
    )
    with torch.no_grad():
        clean = renderer.signal(truth)
    signal = NOMINAL.apply(clean, array, waveform, 0, [seed])[0]
    return rb.Recording(signal.to(torch.complex64), array, waveform)


def fit_row(
    model: MorphableModel,
    recordings: Sequence[rb.Recording],
    truth: FaceParameters,
    start: FaceParameters,
) -> dict[str, Any]:
    """Errors and stated deviation of one fit."""
    began = time.perf_counter()
    result = rb.reconstruct(recordings, model, start=start, schedule=SCHEDULE, bounces=1)
    seconds = time.perf_counter() - began
    found = result.parameters
    renderers = [
        physical_renderer(model, r.array, r.waveform, DISTANCE, bounces=1) for r in recordings
    ]
    sure = uncertainty_through_physics([r.signal for r in recordings], renderers, found)
    k = model.n_shape + model.n_expression
    off = (found.normalised() - truth.normalised())[0, :k].abs().double()
    errors = vertex_distances(model, found.to("cpu", torch.float32), truth)[0]
    moved = (found.translation - truth.translation).norm()
    turned = (found.rotation - truth.rotation).norm().rad2deg()
    return {
        "vertices_mm": round(float(errors.mean()), 4),
        "stated_mm": round(float(sure.vertex_deviation(model).mean()), 4),
        "position_mm": round(1e3 * float(moved), 4),
        "orientation_deg": round(float(turned), 4),
        "inside_90": int((off < NINETY * sure.deviations()[:k]).sum()),
        "coefficients": k,
        "residual": round(result.verdict.residual, 5),
        "seconds": round(seconds, 1),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians over faces, one row for each kind of fit."""
    out = []
    for arrays in dict.fromkeys(row["arrays"] for row in rows):
        mine = [row for row in rows if row["arrays"] == arrays]
        names = ("vertices_mm", "stated_mm", "position_mm", "orientation_deg", "seconds")
        medians = {name: round(statistics.median(row[name] for row in mine), 4) for name in names}
        inside = sum(row["inside_90"] for row in mine) / sum(row["coefficients"] for row in mine)
        out.append({"arrays": arrays, "faces": len(mine), **medians, "inside_90": round(inside, 3)})
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=3)
    parser.add_argument("--first", type=int, default=FIRST, help="number of the first face")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--degrees", type=float, nargs=2, default=(-20.0, 20.0))
    parser.add_argument("--error", type=float, default=0.3, help="of starts, standard deviations")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = rb.load_model("procedural")
    arrays = {f"{degrees:+g}": aside(degrees) for degrees in chosen.degrees}
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.is_file():
        rows = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"]
    known = {(row["face"], row["arrays"]) for row in rows}
    for number in range(chosen.first, chosen.first + chosen.faces):
        truth = rb.random_parameters([number], chosen.seed, model.n_shape, model.n_expression)
        start = perturbed(truth, chosen.error, chosen.seed + number)
        recordings = {
            name: recorded(model, truth, array, 2 * number + n)
            for n, (name, array) in enumerate(arrays.items())
        }
        for together in (*((name,) for name in arrays), tuple(arrays)):
            label = " and ".join(together)
            if (number, label) in known:
                continue
            mine = [recordings[name] for name in together]
            rows.append({"face": number, "arrays": label, **fit_row(model, mine, truth, start)})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            if chosen.json:
                kept = {"hardware": hardware(), "summary": summary(rows), "rows": rows}
                write_json(chosen.json, kept)
    for line in summary(rows):
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
