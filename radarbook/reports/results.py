"""The results table: our rows and the paper's, as ratios to each one's mean-face baseline."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from radarbook.errors import InputError
from radarbook.files import write_json
from radarbook.provenance import hardware
from radarbook.reports.table import table

#: (method, input, L2 shape, L2 expression, L2 total, vertex distance in mm) as published by
#: Bräutigam et al. 2025, arXiv 2412.02403, table of results.
PAPER_RESULTS: tuple[tuple[str, str, float, float, float, float], ...] = (
    ("baseline, mean face", "–", 0.991, 1.000, 0.808, 4.42),
    ("baseline, random face", "–", 2.012, 2.059, 1.648, 6.28),
    ("encoder", "amplitude", 0.840, 0.921, 0.655, 3.47),
    ("encoder", "depth", 0.740, 0.910, 0.608, 2.77),
    ("encoder", "both", 0.735, 0.885, 0.598, 2.82),
    ("autoencoder", "amplitude", 0.770, 0.815, 0.594, 3.29),
    ("autoencoder", "depth", 0.634, 0.850, 0.544, 2.56),
    ("autoencoder", "both", 0.640, 0.820, 0.539, 2.61),
)
MEAN_FACE, RANDOM_FACE = PAPER_RESULTS[0][0], PAPER_RESULTS[1][0]
_MEASURES = ("l2_shape", "l2_expression", "l2_total", "vertex_mm")


def shown(inputs: str) -> str:
    """An input as tables name it."""
    return {"both": "amplitude + depth"}.get(inputs, inputs)


def paper_row(method: str, inputs: str) -> dict[str, Any] | None:
    """The paper's row of a method and its input, with the ratio to its mean face; else None.

    Examples
    --------
    >>> paper_row("autoencoder", "depth")["vertex_mm"]
    2.56
    """
    mean = PAPER_RESULTS[0][-1]
    for name, of, *values in PAPER_RESULTS:
        if (name, of) == (method, inputs):
            row: dict[str, Any] = dict(zip(_MEASURES, values, strict=True))
            return row | {"vertex_ratio": values[-1] / mean}
    return None


def result_row(
    method: str,
    inputs: str,
    summary: Mapping[str, Any],
    *,
    command: str,
    profile: str,
    seconds: float | None,
    where: str | None = None,
) -> dict[str, Any]:
    """One row of ``results.json``: a summary of errors with its provenance.

    ``command`` makes the row again; ``seconds`` is the training's time (None: nothing trained);
    ``where`` the hardware (by default, this machine).
    """
    return {
        "method": method,
        "input": inputs,
        **summary,
        "command": command,
        "profile": profile,
        "hardware": where or hardware(),
        "seconds": seconds,
    }


def with_ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``vertex_ratio``: vertex distance over that of the mean face among them."""
    means = [row["vertex_mm"] for row in rows if row["method"] == MEAN_FACE]
    if len(means) != 1:
        raise InputError(f"results: expected one row '{MEAN_FACE}', found {len(means)}")
    return [dict(row) | {"vertex_ratio": row["vertex_mm"] / means[0]} for row in rows]


def write_results(
    path: str | os.PathLike[str],
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write ``results.json`` atomically: ``{"about": …, "rows": […]}``, ratios included."""
    write_json(path, {"about": dict(about or {}), "rows": with_ratios(rows)})


def read_results(path: str | os.PathLike[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and note of a ``results.json``; :class:`InputError` if it is not one."""
    content = read_kept(path)
    try:
        return content["rows"], content["about"]
    except KeyError:
        raise InputError(f"{path}: expected a results.json, found something else") from None


def read_kept(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a kept result of any benchmark; :class:`InputError` if it is not one.

    Examples
    --------
    >>> write_json("kept.json", {"median_mm": 0.1})
    >>> read_kept("kept.json")
    {'median_mm': 0.1}
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except ValueError:
        raise InputError(f"{path}: expected a results.json, found something else") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a results.json, found something else")
    return content


def table_cells(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table: ours, the paper's vertex distance and both ratios."""
    header = [
        "method",
        "input",
        "L2 shape",
        "L2 expression",
        "L2 total",
        "vertex (mm)",
        "95 % interval",
        "ratio to mean face",
        "paper: L2 shape",
        "paper: L2 expression",
        "paper: L2 total",
        "paper: vertex (mm)",
        "paper: ratio",
    ]
    cells = []
    for row in with_ratios(rows):
        low, high = row["vertex_interval_mm"]
        published = paper_row(row["method"], row["input"])
        cells.append(
            [
                row["method"],
                shown(row["input"]),
                # A model without expressions has no error of them.
                *(f"{row[m]:.3f}" if m in row else "–" for m in _MEASURES[:3]),
                f"{row['vertex_mm']:.2f}",
                f"{low:.2f} – {high:.2f}",
                f"{row['vertex_ratio']:.2f}",
                *(f"{published[m]:.3f}" if published else "–" for m in _MEASURES[:3]),
                f"{published['vertex_mm']:.2f}" if published else "–",
                f"{published['vertex_ratio']:.2f}" if published else "–",
            ]
        )
    return header, cells


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as Markdown."""
    return table(*table_cells(rows))


def millimetre_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: every measure in millimetres of each row, with the time its training took."""
    measures = {
        "vertices": "vertex_mm",
        "median": "vertex_median_mm",
        "area-weighted": "vertex_area_mm",
        "68 landmarks": "landmarks_mm",
        "scan to surface": "scan_mm",
    }
    header = [
        "method",
        "input",
        *(f"{name} (mm)" for name in measures),
        "95 % interval",
        "training",
    ]
    cells = []
    for row in rows:
        low, high = row["vertex_interval_mm"]
        cells.append(
            [
                row["method"],
                shown(row["input"]),
                *(f"{row[key]:.2f}" if key in row else "–" for key in measures.values()),
                f"{low:.2f} – {high:.2f}",
                "–" if row["seconds"] is None else f"{row['seconds'] / 60:.1f} min",
            ]
        )
    return table(header, cells)


def provenance_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: command, profile and hardware of rows, each distinct set once."""
    seen = dict.fromkeys((row["command"], row["profile"], row["hardware"]) for row in rows)
    return "\n".join(
        f"- profile `{profile}`, `{command}`, on {where}" for command, profile, where in seen
    )
