"""What ships of a run: its table, and for the default face model its weights in half precision.

``python -m benchmarks.ship [--profile laptop] [--model procedural] [--output build/laptop]``
takes the pipeline's artefacts (computing what is missing), writes
``data/results/PROFILE_MODEL.json`` and, with ``--weights``, encoder, renderer and autoencoder to
``data/weights``, whose error is measured anew after rounding and kept in their headers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from radarbook.evaluation.drawing import evaluate_renderer
from radarbook.evaluation.metrics import evaluate
from radarbook.evaluation.tables import MEAN_FACE, hardware, read_results, write_results
from radarbook.files import PACKAGE
from radarbook.pipeline import Pipeline
from radarbook.training.checkpoints import (
    SHIPPED,
    load_predictor,
    load_renderer,
    read_about,
    save_weights,
)

DATA = PACKAGE.parent / "data"


def stated_error(row: dict[str, Any], mean_face: dict[str, Any]) -> dict[str, Any]:
    """What a weights file says of itself: errors on the test split, in mm, and their spread."""
    return {
        "faces": row["faces"],
        "vertex_mm": row["vertex_mm"],
        "vertex_deviation_mm": float(torch.tensor(row["vertex_faces_mm"]).std()),
        "landmarks_mm": row.get("landmarks_mm"),
        "scan_mm": row["scan_mm"],
        "mean_face_vertex_mm": mean_face["vertex_mm"],
    }


def ship_weights(pipeline: Pipeline, rows: list[dict[str, Any]], command: str) -> None:
    """Round, write, read back, measure, and write again with the measured error in the header."""
    test = pipeline.get("dataset")["test"]
    mean_face = next(row for row in rows if row["method"] == MEAN_FACE)
    for kind in SHIPPED:
        network = pipeline.get("renderer" if kind == "renderer" else f"{kind}/both")
        path = DATA / "weights" / f"{kind}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {
            "kind": kind,
            "inputs": "both",
            "model": pipeline.model.name,
            "model_fingerprint": pipeline.model.fingerprint,
            "profile": pipeline.profile.name,
            "training_faces": len(pipeline.get("dataset")["train"]),
            "command": command,
            "hardware": hardware(),
            "licence": "MIT",
        }
        save_weights(path, network, half=True, about=about)
        if kind == "renderer":
            error = evaluate_renderer(load_renderer(path), test)
        else:
            row = evaluate(load_predictor(path), test, pipeline.model, seed=pipeline.seed)
            error = stated_error(row, mean_face)
        save_weights(path, network, half=True, about=about | {"test": error})
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {read_about(path)['test']}")


def main() -> None:
    """Write what ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--output")
    parser.add_argument("--weights", action="store_true")
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    pipeline = Pipeline(arguments.profile, arguments.model, arguments.output)
    rows = pipeline.get("results")
    _, about = read_results(pipeline.folder("results") / "results.json")
    if arguments.note:
        about["note"] = arguments.note
    name = Path(arguments.model).stem.removesuffix("_face")
    write_results(DATA / "results" / f"{pipeline.profile.name}_{name}.json", rows, about)
    if arguments.weights:
        ship_weights(pipeline, rows, f"radarbook run --profile {pipeline.profile.name}")


if __name__ == "__main__":
    main()
