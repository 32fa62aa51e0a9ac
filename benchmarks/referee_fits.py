"""Fits of the referee's recordings, everything unknown, compared with their truth.

    python -m benchmarks.referee --faces 3 --variants clean wall -o DIR
    python -m benchmarks.referee_fits DIR --json fits.json

Every recording in DIR is fitted through physics with the library's defaults. The procedural model
has its refined mesh (:mod:`radarbook.faces.refined`); errors are of the even mesh's vertices. What
is left out with ``--without``:

===========  =======================================================================
refined      the procedural model has its even mesh, which bridges the groove between the lips
smooth       facets are flat
double       one reflection only is modelled
gate         the recording holds the fit's own few frequencies alone, so that nothing
             can be gated
===========  =======================================================================

With ``--start truth`` a fit is the last two stages alone, from the truth: it ends in the minimum
next to the truth, in a quarter of the time, and says nothing about the search for it.

One row per recording is printed and written as it is finished; an interrupted run continues, and
a later one adds faces to the same file. A file of another model, of other settings of the referee
or of another ``--without`` or ``--noise`` is refused. The summary has one line per variant and
class of material: medians over faces of the mean vertex error, normalised residual power and
seconds; what nine tenths of the faces stay below; how many were accepted, how many are wrong
(:data:`WRONG`), and how many of these were accepted; the share of coefficients and of vertices
inside their 90 % intervals (of all faces, accepted or not). A vertex is inside if its distance is
below the 90 % quantile of its stated distribution, see :func:`vertices_inside`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import radarbook as rb
from radarbook.errors import InputError
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.refined import refined_procedural_model
from radarbook.files import write_json
from radarbook.fitting.acceptance import judge
from radarbook.fitting.decimation import decimate
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import (
    mean_face_start,
    physical_renderer,
    reconstruct_through_physics,
    uncertainty_through_physics,
)
from radarbook.fitting.schedule import REFINE
from radarbook.fitting.uncertainty import NINETY, Uncertainty
from radarbook.provenance import hardware
from radarbook.radar.channel_errors import ChannelErrors

#: mm: a fit with a larger mean error should not be accepted.
WRONG = 0.5
LEFT_OUT = ("refined", "smooth", "double", "gate")


def vertices_inside(
    sure: Uncertainty, model: MorphableModel, errors: Tensor, samples: int = 400
) -> Tensor:
    """(N,) bool: whether each vertex's distance (N,) mm from the truth is below the 90 % quantile
    of its distances under the stated covariance, from ``samples`` of it."""
    modes = torch.cat([model.shape_modes, model.expression_modes]).double()
    mine = sure.columns < len(modes)
    covariance = sure.covariance[mine][:, mine]
    values, vectors = torch.linalg.eigh(covariance)
    stream = torch.Generator().manual_seed(0)
    white = torch.randn(samples, len(values), generator=stream, dtype=torch.float64)
    moves = white * values.clamp(min=0).sqrt() @ vectors.T
    far = torch.stack(
        [torch.einsum("k,knx->nx", m, modes[sure.columns[mine]]).norm(dim=1) for m in moves]
    )
    return errors.double() <= far.quantile(0.9, dim=0)


def fit_recording(
    path: Path,
    model: MorphableModel,
    distance: float,
    without: Sequence[str],
    noise: float = 0.0,
    start: str = "mean",
    gains: bool = False,
) -> dict[str, Any]:
    """One row of the table. ``noise``: normalised power of noise and channel errors that an
    accepted face may leave."""
    recording = rb.read_recording(path)
    number, variant = path.stem.split("_")
    told = json.loads((path.parent / f"{number}.json").read_text(encoding="utf-8"))
    modes = model.n_shape, model.n_expression
    truth = FaceParameters.from_normalised(torch.tensor([told["normalised"]]), *modes)
    signal, array, waveform = recording.signal[None], recording.array, recording.waveform
    if "gate" in without:
        steps = decimate(array, waveform).steps
        signal, waveform = signal[..., steps], rb.Waveform(waveform.frequencies[steps])
    fitted = model
    if model.name == "procedural" and "refined" not in without:
        fitted = refined_procedural_model().truncated(model.n_shape, model.n_expression)
    usual = physical_renderer(fitted, array, waveform, distance)
    renderer = usual.replace(
        smooth="smooth" not in without,
        bounces=1 if "double" in without else usual.bounces,
        channels=ChannelErrors() if gains else None,
    )
    begin = mean_face_start(signal, renderer)
    began = time.perf_counter()
    fit = reconstruct_through_physics(
        signal,
        array,
        waveform,
        fitted,
        distance=distance,
        renderer=renderer,
        noise=noise,
        start=truth if start == "truth" else None,
        schedule=REFINE[-2:] if start == "truth" else None,
    )
    seconds = time.perf_counter() - began
    found = fit.parameters
    verdict = judge(final_objective([signal], [renderer]), found, agreed=fit.agreed, noise=noise)[0]
    sure = uncertainty_through_physics(signal, renderer, found)
    k = sum(modes)
    off = (found.normalised() - truth.normalised())[0, :k].abs().double()
    errors = vertex_distances(model, found.to("cpu", torch.float32), truth)[0]
    inside = vertices_inside(sure, model, errors)
    moved = 1e3 * (found.translation - truth.translation).norm()
    return {
        "face": int(number),
        "variant": variant,
        "error_mm": round(float(errors.mean()), 4),
        "start_mm": round(1e3 * float((begin.translation - truth.translation).norm()), 1),
        "position_mm": round(float(moved), 3),
        "accepted": verdict.accepted,
        "residual": round(verdict.residual, 5),
        "diffuse": round(verdict.diffuse, 5),
        "highlight_residual": round(verdict.highlight_residual, 5),
        "highlight_diffuse": round(verdict.highlight_diffuse, 5),
        "agreed": verdict.agreed,
        "material": round(float(found.rendering[0, 1]), 3),
        "true_material": round(told["material"], 3),
        "smoothed_mm": None
        if fit.smoothed is None
        else round(_error(model, fit.smoothed, truth), 4),
        "stated_mm": round(float(sure.vertex_deviation(model).mean()), 4),
        "inside_90": int((off < NINETY * sure.deviations()[:k]).sum()),
        "coefficients": k,
        "vertices_inside_90": round(float(inside.double().mean()), 4),
        "seconds": round(seconds, 1),
        "found": [round(v, 5) for v in found.normalised()[0].tolist()],
    }


def _error(model: MorphableModel, found: FaceParameters, truth: FaceParameters) -> float:
    return float(vertex_distances(model, found.to("cpu", torch.float32), truth)[0].mean())


#: Classes of material: name, least, less than.
CLASSES = (("any", 0.0, 9.0), ("smooth", 0.0, 0.1), ("middle", 0.1, 0.3), ("rough", 0.3, 9.0))


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per variant and class of material (:data:`CLASSES`) that has faces."""
    out = []
    variants = dict.fromkeys(row["variant"] for row in rows)
    for variant, (name, least, less) in product(variants, CLASSES):
        mine = [
            row
            for row in rows
            if row["variant"] == variant and least <= row["true_material"] < less
        ]
        if not mine:
            continue

        def column(key: str, some: list[dict[str, Any]] = mine) -> Any:
            return np.array([float(row[key]) for row in some])

        out.append(
            {
                "variant": variant,
                "material": name,
                "faces": len(mine),
                "median_mm": round(float(np.median(column("error_mm"))), 4),
                "ninety_mm": round(float(np.quantile(column("error_mm"), 0.9)), 4),
                "accepted": int(column("accepted").sum()),
                "wrong": int((column("error_mm") > WRONG).sum()),
                "wrong_accepted": int(
                    ((column("error_mm") > WRONG) & (column("accepted") > 0)).sum()
                ),
                "residual": round(float(np.median(column("residual"))), 5),
                "inside_90": round(
                    float(column("inside_90").sum() / column("coefficients").sum()), 3
                ),
                "vertices_inside_90": round(float(column("vertices_inside_90").mean()), 3),
                "seconds": round(float(np.median(column("seconds"))), 1),
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
    parser.add_argument("--variants", nargs="+", help="those alone")
    parser.add_argument("--faces", type=int, nargs="+", help="numbers of those alone")
    parser.add_argument("--without", nargs="+", choices=LEFT_OUT, default=[])
    parser.add_argument("--start", choices=("mean", "truth"), default="mean")
    parser.add_argument("--gains", action="store_true", help="of antennas are unknown")
    parser.add_argument("--noise", type=float, default=0.0, help="normalised power, stated")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = rb.load_model(chosen.model, *chosen.modes)
    kept: dict[str, Any] = {"rows": []}
    if chosen.json and chosen.json.is_file():
        kept = json.loads(chosen.json.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = kept["rows"]
    known = {(row["face"], row["variant"]) for row in rows}
    for path in sorted(chosen.folder.glob("*_*.h5"), key=lambda p: p.stem.split("_")[::-1]):
        number, variant = path.stem.split("_")
        told = json.loads((path.parent / f"{number}.json").read_text(encoding="utf-8"))
        same = {
            "model": Path(chosen.model).stem,
            "without": chosen.without,
            "noise": chosen.noise,
            "start": chosen.start,
            "gains": chosen.gains,
            "referee": told["settings"],
        }
        for key, value in same.items():
            found = kept.get("settings", same).get(key)
            if found != value:
                raise InputError(f"{chosen.json}: expected {key} {value}, found {found}")
        if (int(number), variant) in known:
            continue
        if (chosen.variants and variant not in chosen.variants) or (
            chosen.faces and int(number) not in chosen.faces
        ):
            continue
        row = fit_recording(
            path,
            model,
            chosen.distance,
            chosen.without,
            chosen.noise,
            chosen.start,
            chosen.gains,
        )
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
        if chosen.json:
            settings = same | {"threads": torch.get_num_threads(), "on": hardware()}
            write_json(chosen.json, {"settings": settings, "summary": summary(rows), "rows": rows})
    for line in summary(rows):
        print("  ".join(f"{key} {value}" for key, value in line.items()))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
