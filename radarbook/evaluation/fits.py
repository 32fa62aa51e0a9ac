"""What fits through physics reached, from the files that ``benchmarks.fitting`` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from radarbook.errors import InputError

#: Of a file's name: ``fitting_TARGET_MODEL.json``.
TARGETS = ("same", "fuller")


def fit_rows(folder: Path) -> list[list[str]]:
    """A row for each file ``fitting_same_*.json`` and ``fitting_fuller_*.json`` in ``folder``.

    Model, target, number of faces, mean vertex distance at the start (mm), median at the end (mm),
    distance that nine tenths of the faces stay below (mm), share of the coefficients whose 90 %
    interval holds the truth, median seconds a face. Raises
    :class:`~radarbook.errors.InputError` naming a file that is not such a file.
    """
    rows = []
    for target in TARGETS:
        for path in sorted(folder.glob(f"fitting_{target}_*.json")):
            try:
                kept = json.loads(path.read_text(encoding="utf-8"))
                faces, model = kept["faces"], str(kept["settings"]["model"])
                start, end, seconds = (
                    np.array([float(face[key]) for face in faces])
                    for key in ("start_mm", "end_mm", "seconds")
                )
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}: expected the figures of benchmarks.fitting, found {error!r}"
                ) from None
            inside = [
                face["inside_90"] / face["coefficients"] for face in faces if "inside_90" in face
            ]
            rows.append(
                [
                    model.removesuffix("_face"),
                    target,
                    str(len(faces)),
                    f"{start.mean():.2f}",
                    f"{np.median(end):.2f}",
                    f"{np.quantile(end, 0.9):.2f}",
                    f"{np.mean(inside):.0%}" if inside else "–",
                    f"{np.median(seconds):.0f}",
                ]
            )
    return rows
