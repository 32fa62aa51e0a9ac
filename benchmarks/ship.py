"""What ships of a run: its table, and for the default face model its weights in half precision.

``python -m benchmarks.ship [--profile laptop] [--model procedural] [--output build/laptop]
[-p name=value …]`` takes the pipeline's artefacts (computing what is missing) and writes
``data/results/PROFILE_MODEL.json``. Where the recipe is not the profile's own, the file's name ends
in it (``laptop_ict_paper_recipe.json``); other overrides want a ``--name`` of their own. With
``--weights``, encoder, renderer and autoencoder go to ``data/weights``: their error is measured
again after rounding and kept in their headers, and the autoencoder's file leaves out the renderer
that ships with it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from radarbook.errors import InputError
from radarbook.evaluation.metrics import evaluate
from radarbook.evaluation.rendering import evaluate_renderer
from radarbook.files import PACKAGE
from radarbook.pipeline import Pipeline
from radarbook.profiles import PROFILES, Profile, read_settings
from radarbook.provenance import hardware
from radarbook.reports.results import MEAN_FACE, read_results, write_results
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
    paths = {kind: DATA / "weights" / f"{kind}.safetensors" for kind in SHIPPED}
    for kind, path in paths.items():
        network = pipeline.get("renderer" if kind == "renderer" else f"{kind}/both")
        # The renderer is written before the autoencoder, which then need not hold it once more.
        other = paths["renderer"] if kind == "autoencoder" else None
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
        save_weights(path, network, half=True, about=about, renderer=other)
        if kind == "renderer":
            error = evaluate_renderer(load_renderer(path), test)
        else:
            row = evaluate(load_predictor(path), test, pipeline.model, seed=pipeline.seed)
            error = stated_error(row, mean_face)
        about["test"] = error
        save_weights(path, network, half=True, about=about, renderer=other)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {read_about(path)['test']}")


def results_name(profile: Profile, model: str) -> str:
    """The stem of a results file: profile, face model, and the recipe if it is another's.

    Raises :class:`InputError` for overrides that the name would not tell: such results would
    replace those of the profile as it stands.
    """
    name = f"{profile.name}_{Path(model).stem.removesuffix('_face')}"
    if profile.recipe != PROFILES[profile.name].recipe:
        return f"{name}_{profile.recipe}_recipe"
    if profile.overrides:
        changed = ", ".join(profile.overrides)
        raise InputError(f"overrides of {changed}: expected --name for their results, found none")
    return name


def main() -> None:
    """Write what ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--output")
    parser.add_argument("-p", dest="settings", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--name", help="the results file's, without its suffix")
    parser.add_argument("--weights", action="store_true")
    parser.add_argument("--note", default="")
    arguments = parser.parse_args()
    try:
        pipeline = Pipeline(
            arguments.profile,
            arguments.model,
            arguments.output,
            overrides=read_settings(arguments.settings),
        )
        name = arguments.name or results_name(pipeline.profile, arguments.model)
        if arguments.weights and pipeline.profile.overrides:
            raise InputError("--weights: expected a profile as it stands, found overrides")
    except InputError as error:
        parser.error(str(error))
    rows = pipeline.get("results")
    _, about = read_results(pipeline.folder("results") / "results.json")
    if arguments.note:
        about["note"] = arguments.note
    write_results(DATA / "results" / f"{name}.json", rows, about)
    if arguments.weights:
        ship_weights(pipeline, rows, pipeline.command("3-5"))


if __name__ == "__main__":
    main()
