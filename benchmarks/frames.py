"""Several frames of one person: fits with a common shape against fits frame by frame.

    python -m benchmarks.frames --subjects 5 --frames 7 --json FILE

A subject's frames share the coefficients of shape, material and antenna size; expression,
position and orientation are sampled for each frame independently. The targets are ``higher`` ones
of :mod:`benchmarks.fitting`: facets of 0.7 mm, two reflections and ``NOMINAL`` imperfections, with
128 frequencies and all antennas. One radar records a subject: errors of channels and antenna
positions are the same in its frames, noise and speckle are independent.

Each frame is first fitted by itself from the mean face at the image's centroid; the joint fit
begins with what these fits found. Errors are mean vertex distances, mm: of identity (the
coefficients of shape alone, on the neutral face) and of the face with its expression. A subject's
row is written when it is finished, and each frame's when its own fit is; an interrupted run loses
nothing, and the next one continues.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import NOMINAL
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.recordings import Recording
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.frames import reconstruct_frames
from radarbook.fitting.reconstruction import reconstruct
from radarbook.fitting.uncertainty import NINETY
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.waveform import qar50_waveform

#: Number of the first subject: beyond those of every dataset and of every other benchmark.
FIRST = 200_000


def true_frames(
    subject: int, frames: int, seed: int, n_shape: int, n_expression: int
) -> FaceParameters:
    """(frames) of one subject."""
    several = ParameterDistribution(images_per_face=frames)
    first = (FIRST + subject) * frames
    faces = random_parameters(
        range(first, first + frames), seed, n_shape, n_expression, config=several
    )
    return faces.replace(rendering=faces.rendering[:1].expand(frames, -1))


def recorded(model: MorphableModel, truth: FaceParameters, subject: int, frame: int) -> Recording:
    """One frame (1), as the radar of its subject records it."""
    array, waveform = qar50(), qar50_waveform(128)
    number = 1000 * subject + frame
    settings: dict[str, Any] = {
        "seed": number,
        "array": NOMINAL.array(array, 0, subject),
        "waveform": waveform,
        "grid": Grid.regular(0.3, 16, 0.23, 0.47, 4),
        "distance": 0.30,
    }
    with torch.no_grad():
        signal = PhysicalRenderer(model, facet_size=7e-4, **settings).signal(truth)
        # As in benchmarks.fitting: facets of 3 mm suffice for the double bounce.
        once, twice = (PhysicalRenderer(model, bounces=n, **settings).signal(truth) for n in (1, 2))
        signal = signal + (twice - once)
        channels = replace(NOMINAL, snr_db=None)
        signal = channels.apply(signal, array, waveform, 0, [subject])
        noise = Imperfections(snr_db=NOMINAL.snr_db)
        signal = noise.apply(signal, array, waveform, 0, [number])
    return Recording(signal[0], array, waveform)


def errors(model: MorphableModel, found: FaceParameters, truth: FaceParameters) -> dict[str, float]:
    """Mean vertex distances, mm, of one face (1)."""
    found = found.to(dtype=torch.float32)

    def distance(one: FaceParameters, other: FaceParameters) -> float:
        return round(float(vertex_distances(model, one, other).mean()), 4)

    plain = [p.replace(expression=torch.zeros_like(p.expression)) for p in (found, truth)]
    return {"identity_mm": distance(*plain), "face_mm": distance(found, truth)}


def fit_alone(recording: Recording, model: MorphableModel, truth: FaceParameters) -> dict[str, Any]:
    """The row of one frame, fitted by itself."""
    began = time.perf_counter()
    result = reconstruct(recording, model)
    return {
        **errors(model, result.parameters, truth),
        "accepted": result.accepted,
        "residual": round(result.verdict.residual, 5),
        "predicted": round(result.verdict.predicted, 5),
        "seconds": round(time.perf_counter() - began, 1),
        "found": written(result.parameters.normalised()[0]),
    }


def fit_together(
    recordings: Sequence[Recording],
    model: MorphableModel,
    truth: FaceParameters,
    rows: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """The row of a subject's joint fit, which begins with the frames' own ones."""
    vectors = torch.tensor([[float(v) for v in row["found"].split()] for row in rows])
    starts = FaceParameters.from_normalised(vectors, model.n_shape, model.n_expression)
    began = time.perf_counter()
    found = reconstruct_frames(recordings, model, starts)
    seconds = time.perf_counter() - began
    each = [errors(model, found.parameters[n], truth[n]) for n in range(len(truth))]
    sure = found.uncertainties[0].deviations()[: model.n_shape]
    off = (found.parameters.shape[0] - truth.shape[0]).abs().double()
    return {
        "identity_mm": each[0]["identity_mm"],
        "faces_mm": [one["face_mm"] for one in each],
        "agreed": list(found.joined),
        "accepted": list(found.accepted),
        "shape_inside_90": int((off < NINETY * sure).sum()),
        "steps": found.steps,
        "seconds": round(seconds, 1),
        "found": [written(row) for row in found.parameters.normalised()],
    }


def written(values: Tensor) -> str:
    return " ".join(f"{float(v):.6f}" for v in values)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--subjects", type=int, default=5)
    parser.add_argument("--frames", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--join", type=int, help="only the first so many frames of each subject")
    parser.add_argument("--only", type=int, help="this subject alone")
    parser.add_argument("--json", required=True)
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model, 10, 7)
    settings = {
        "model": Path(chosen.model).stem,
        "frames": chosen.frames,
        "seed": chosen.seed,
        "first": FIRST,
        "threads": torch.get_num_threads(),
        "hardware": hardware(),
        "load": os.getloadavg()[0],
    }
    path = Path(chosen.json)
    kept = json.loads(path.read_text()) if path.is_file() else {"subjects": {}}
    for subject in [chosen.only] if chosen.only is not None else range(chosen.subjects):
        row = kept["subjects"].setdefault(str(subject), {"alone": []})
        truth = true_frames(subject, chosen.frames, chosen.seed, model.n_shape, model.n_expression)
        for frame in range(len(row["alone"]), chosen.join or chosen.frames):
            recording = recorded(model, truth[frame], subject, frame)
            row["alone"].append(fit_alone(recording, model, truth[frame]))
            write_json(path, {"settings": settings, **kept})
            shown = {k: v for k, v in row["alone"][-1].items() if k != "found"}
            print(subject, frame, shown, flush=True)
        if "together" not in row:
            count = len(row["alone"])
            recordings = [recorded(model, truth[n], subject, n) for n in range(count)]
            row["together"] = fit_together(recordings, model, truth[:count], row["alone"])
            write_json(path, {"settings": settings, **kept})
            shown = {k: v for k, v in row["together"].items() if k != "found"}
            print(subject, "together", shown, flush=True)
    print(summary(kept["subjects"]))


def summary(subjects: dict[str, Any]) -> str:
    """Median errors of all finished subjects, and the share of the frames' own that is left."""
    rows = [row for row in subjects.values() if "together" in row]
    lines = []
    for name, own, joint in (
        ("identity", "identity_mm", lambda row: [row["identity_mm"]]),
        ("face", "face_mm", lambda row: row["faces_mm"]),
    ):
        before = torch.tensor([one[own] for row in rows for one in row["alone"]])
        after = torch.tensor([value for row in rows for value in joint(row["together"])])
        lines.append(
            f"{name}: alone mean {float(before.mean()):.3f} median {float(before.median()):.3f} mm,"
            f" together mean {float(after.mean()):.3f} median {float(after.median()):.3f} mm,"
            f" ratio of means {float(after.mean() / before.mean()):.2f}"
        )
    return "\n".join([f"{len(rows)} subjects", *lines]) if rows else "no subject is finished"


if __name__ == "__main__":
    main()
