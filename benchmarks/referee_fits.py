"""Fits of the referee's recordings, everything unknown, compared with their truth.

    python -m benchmarks.referee --faces 3 --variants clean wall -o DIR
    python -m benchmarks.referee_fits DIR --json fits.json

Every recording in DIR is fitted by :func:`radarbook.reconstruct` with its defaults. One row per
recording is printed and written as it is finished; an interrupted run continues. The summary has
one line per variant: medians over faces of the mean vertex error, normalised residual power and
seconds, how many faces were accepted, and the share of coefficients inside their 90 % intervals
(of all faces, accepted or not).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import radarbook as rb
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.reconstruct import physical_renderer, uncertainty_through_physics


def fit_recording(path: Path, model: MorphableModel, distance: float) -> dict[str, Any]:
    """One row of the table."""
    recording = rb.read_recording(path)
    number, variant = path.stem.split("_")
    told = json.loads((path.parent / f"{number}.json").read_text(encoding="utf-8"))
    modes = model.n_shape, model.n_expression
    truth = FaceParameters.from_normalised(torch.tensor([told["normalised"]]), *modes)
    began = time.perf_counter()
    result = rb.reconstruct(recording, model, distance=distance)
    seconds = time.perf_counter() - began
    found = result.parameters
    renderer = physical_renderer(model, recording.array, recording.waveform, distance)
    sure = uncertainty_through_physics(recording.signal, renderer, found)
    k = sum(modes)
    off = (found.normalised() - truth.normalised())[0, :k].abs().double()
    errors = vertex_distances(model, found.to("cpu", torch.float32), truth)[0]
    moved = 1e3 * (found.translation - truth.translation).norm()
    return {
        "face": int(number),
        "variant": variant,
        "error_mm": round(float(errors.mean()), 4),
        "position_mm": round(float(moved), 3),
        "accepted": result.accepted,
        "residual": round(result.verdict.residual, 5),
        "diffuse": round(result.verdict.diffuse, 5),
        "material": round(float(found.rendering[0, 1]), 3),
        "true_material": round(told["material"], 3),
        "inside_90": int((off < 1.645 * sure.deviations()[:k]).sum()),
        "coefficients": k,
        "seconds": round(seconds, 1),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant."""
    out = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]

        def median(key: str, some: list[dict[str, Any]] = mine) -> float:
            return round(float(torch.tensor([row[key] for row in some]).median()), 4)

        inside = sum(row["inside_90"] for row in mine)
        out.append(
            {
                "variant": variant,
                "faces": len(mine),
                "median_mm": median("error_mm"),
                "accepted": sum(row["accepted"] for row in mine),
                "residual": median("residual"),
                "inside_90": round(inside / sum(row["coefficients"] for row in mine), 3),
                "seconds": median("seconds"),
            }
        )
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--modes", type=int, nargs=2, default=(10, 7), help="shape, expression")
    parser.add_argument("--distance", type=float, default=0.30)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = rb.load_model(chosen.model, *chosen.modes)
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.is_file():
        rows = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"]
    known = {(row["face"], row["variant"]) for row in rows}
    for path in sorted(chosen.folder.glob("*_*.h5"), key=lambda p: p.stem.split("_")[::-1]):
        number, variant = path.stem.split("_")
        if (int(number), variant) in known:
            continue
        rows.append(fit_recording(path, model, chosen.distance))
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if chosen.json:
            write_json(chosen.json, {"summary": summary(rows), "rows": rows})
    for line in summary(rows):
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    main()
