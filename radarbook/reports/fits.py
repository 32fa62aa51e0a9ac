"""Results of fits through physics, from the files of their benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from radarbook.errors import InputError

#: Targets by the part of a file's name: ``fitting_TARGET_MODEL.json``.
TARGETS = {"same": "same", "higher": "higher fidelity"}
#: What a start is called.
_STARTS = {"mean": "mean face", "encoder": "autoencoder", "near": "truth, disturbed"}


def fit_rows(folder: Path) -> list[list[str]]:
    """A row for each file ``fitting_same_*.json`` and ``fitting_higher_*.json`` in ``folder``.

    Model, target, whether the fits model the double bounce and whether target and fit were of flat
    facets (made before smooth faces were the default), their start, number of faces, mean vertex
    distance at the start (mm), median at the end (mm), distance that nine tenths of the faces stay
    below (mm), share of the coefficients whose 90 % interval holds the truth, median seconds per
    face, and the machine; of several machines one after the other.
    Raises :class:`~radarbook.errors.InputError` naming a file that is not such a file.
    """
    rows = []
    for target, named in TARGETS.items():
        for path in sorted(folder.glob(f"fitting_{target}_*.json")):
            kept = _read(path, "fitting", "faces", ("start_mm", "end_mm", "seconds"))
            faces = kept["faces"]
            start, end = (_column(faces, key) for key in ("start_mm", "end_mm"))
            usual = kept["settings"].get("device", "one thread")
            bounces = int(kept["settings"].get("bounces", 1))
            modelled = ", double bounce fitted" if bounces > 1 else ""
            if not kept["settings"].get("smooth", False):
                modelled += ", flat facets"
            taken: dict[str, list[float]] = {}
            for face, seconds in zip(faces, _column(faces, "seconds"), strict=True):
                taken.setdefault(str(face.get("on", usual)), []).append(seconds)
            medians = [float(np.median(seconds)) for seconds in taken.values()]
            inside = [
                face["inside_90"] / face["coefficients"] for face in faces if "inside_90" in face
            ]
            rows.append(
                [
                    str(kept["settings"].get("model")).removesuffix("_face"),
                    named + modelled,
                    _STARTS.get(kept["settings"].get("start", "mean"), "–"),
                    str(len(faces)),
                    f"{start.mean():.2f}",
                    f"{np.median(end):.2f}",
                    f"{np.quantile(end, 0.9):.2f}",
                    f"{np.mean(inside):.0%}" if inside else "–",
                    "; ".join(f"{value:.{0 if value >= 10 else 1}f}" for value in medians),
                    "; ".join(taken),
                ]
            )
    return rows


def outside_rows(path: Path) -> list[list[Any]]:
    """A row for each target in a file of fits of faces that the fit's model did not make.

    Target, modes of the fit, number of faces, distance of the mean face (mm), mean, median and
    90 % distance of the fit (mm; None where it is not known), normalised residual power, and how
    many faces were accepted. Distances are after rigid alignment. Raises as :func:`fit_rows`.
    """
    keys = "target", "fit", "faces", "mean_face_mm", "mean_mm", "residual", "accepted"
    rows = _read(path, "outside", "rows", keys)["rows"]
    return [
        [
            str(row["target"]),
            str(row["fit"]),
            str(row["faces"]),
            float(row["mean_face_mm"]),
            float(row["mean_mm"]),
            row.get("median_mm"),
            row.get("ninety_mm"),
            None if row["residual"] is None else f"{float(row['residual']):.0%}",
            f"{row['accepted']} of {row['faces']}",
        ]
        for row in rows
    ]


#: Questions of ``benchmarks.modes`` and what each answers.
_ANSWERS = {
    "same": ("stated_mm", "spread_mm", "known"),
    "higher": ("stated_mm", "spread_mm", "known"),
    "fit": ("end_mm", "left_out_mm", "loss"),
}


def mode_means(path: Path) -> list[dict[str, float | None]]:
    """Means over the faces of a file of ``benchmarks.modes``: one dictionary per number of modes.

    Keys: ``shape``, ``expression``, ``faces``, and for each question and answer of the benchmark
    ``QUESTION_ANSWER``, None where it was not asked. Raises
    :class:`~radarbook.errors.InputError` as :func:`fit_rows`.
    """
    rows = _read(path, "modes", "rows", ("shape", "expression", "face", "question"))["rows"]
    out: list[dict[str, float | None]] = []
    for shape, expression in sorted({(row["shape"], row["expression"]) for row in rows}):
        mine = [row for row in rows if (row["shape"], row["expression"]) == (shape, expression)]
        means: dict[str, float | None] = {
            "shape": shape,
            "expression": expression,
            "faces": len({row["face"] for row in mine}),
        }
        for question, answers in _ANSWERS.items():
            asked = [row for row in mine if row["question"] == question]
            for answer in answers:
                means[f"{question}_{answer}"] = (
                    float(_column(asked, answer).mean()) if asked else None
                )
        out.append(means)
    return out


def method_rows(path: Path) -> list[list[str]]:
    """A row for each contender of a file of ``benchmarks.methods``.

    Loss, method, starts in the batch, mean vertex distance of the starts (mm), median at the end
    and what nine tenths stay below (mm), steps, seconds (medians). Raises as :func:`fit_rows`.
    """
    keys = "loss", "method", "starts", "start_mm", "median_mm", "ninety_mm", "steps", "seconds"
    summary = _read(path, "methods", "summary", keys)["summary"]
    return [
        [
            str(row["loss"]),
            str(row["method"]),
            str(row["starts"]),
            f"{row['start_mm']:.2f}",
            f"{row['median_mm']:.2f}",
            f"{row['ninety_mm']:.2f}",
            str(row["steps"]),
            f"{row['seconds']:.0f}",
        ]
        for row in summary
    ]


def frame_rows(path: Path) -> list[list[str]]:
    """A row for each subject of a file of ``benchmarks.frames`` that is finished.

    Subject, number of frames, frames whose own fits agreed; mean vertex distance (mm) of the face
    without expression, mean and largest of the frames' own fits, and of the joint fit; and of the
    faces with expression, mean of the frames' own fits and of the joint fit. Raises as
    :func:`fit_rows`.
    """
    try:
        subjects = json.loads(path.read_text(encoding="utf-8"))["subjects"]
        rows = []
        for name, subject in subjects.items():
            if "together" not in subject:
                continue
            own, joint = subject["alone"], subject["together"]
            identity, face = (_column(own, key) for key in ("identity_mm", "face_mm"))
            rows.append(
                [
                    name,
                    str(len(own)),
                    str(sum(joint["agreed"])),
                    f"{identity.mean():.3f}",
                    f"{identity.max():.3f}",
                    f"{joint['identity_mm']:.3f}",
                    f"{face.mean():.3f}",
                    f"{np.mean(joint['faces_mm']):.3f}",
                ]
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the figures of benchmarks.frames, found {error!r}"
        ) from None
    return rows


def layer_rows(path: Path) -> list[list[str]]:
    """A row for each way to treat the layer in a file of ``benchmarks.covered_fit``.

    The way, number of faces, median vertex distance (mm), median position error across and along
    z (mm, positive behind the truth), median seconds. Raises as :func:`fit_rows`.
    """
    keys = "layer", "end_mm", "across_mm", "behind_mm", "seconds"
    faces = _read(path, "covered_fit", "faces", keys)["faces"]
    rows = []
    for way in dict.fromkeys(face["layer"] for face in faces):
        mine = [face for face in faces if face["layer"] == way]
        end, across, behind, seconds = (float(np.median(_column(mine, key))) for key in keys[1:])
        rows.append(
            [
                way,
                str(len(mine)),
                f"{end:.2f}",
                f"{across:.2f}",
                f"{behind:+z.2f}",
                f"{seconds:.0f}",
            ]
        )
    return rows


#: Ranges of normalised residual power, which divide smooth faces from rough ones.
_SHARES = (0.0, 0.05, 0.2, 1.0)


def found_layer_rows(path: Path) -> list[list[str]]:
    """Fitted layers in a file of ``benchmarks.covered_fit``, where they were unknown.

    A row for each range of normalised residual power, with its number of faces; of
    thickness (mm), permittivity (real part) and the delay's error (mm) the median, lowest and
    highest. Raises as :func:`fit_rows`.
    """
    keys = "layer", "loss", "end_mm"
    faces = _read(path, "covered_fit", "faces", keys)["faces"]
    found = [face for face in faces if face["layer"] == "unknown"]
    asked = "thickness_mm", "permittivity", "delay_mm", "true_delay_mm"
    if not all(key in face for face in found for key in asked):
        raise InputError(
            f"{path}: expected {', '.join(asked)} of layers that were unknown, found an older file"
        )
    rows = []
    for low, high in pairwise(_SHARES):
        mine = [face for face in found if low <= face["loss"] < high]
        if not mine:
            continue
        delay = _column(mine, "delay_mm") - _column(mine, "true_delay_mm")
        rows.append(
            [
                f"{low:.0%} to {high:.0%}",
                str(len(mine)),
                _spread(_column(mine, "thickness_mm"), ".2f"),
                _spread(_column(mine, "permittivity"), ".2f"),
                _spread(delay, "+.2f"),
            ]
        )
    return rows


#: What a fit models unless it is left out, by the benchmark's name.
_LEFT_OUT = {
    "refined": "groove of the lips",
    "smooth": "curved facets",
    "double": "double bounce",
    "gate": "range gate",
}


#: Classes of the material factor.
_MATERIALS = {"smooth": "below 0.1", "middle": "0.1 to 0.3", "rough": "from 0.3"}


def referee_tables(folder: Path) -> dict[str, list[list[str]]]:
    """Tables of the files ``referee_*.json`` of ``benchmarks.referee_fits`` in ``folder``.

    One for each file and variant of the referee. Its title names the face model, whether the faces
    are tuning or test faces, the variant, and how the fit differs from the default from the mean
    face. A row for each range of the material factor: that range, number of faces, median vertex
    distance (mm), distance that nine tenths stay below (mm), accepted faces, how many of those with
    errors above 0.5 mm were accepted, shares of coefficients and of vertices inside their 90 %
    intervals, median normalised residual power, and median seconds. Raises
    :class:`~radarbook.errors.InputError` as :func:`fit_rows`.
    """
    keys = (
        "variant", "material", "faces", "median_mm", "ninety_mm", "accepted", "wrong",
        "wrong_accepted", "inside_90", "vertices_inside_90", "residual", "seconds",
    )  # fmt: skip
    tables: dict[str, list[list[str]]] = {}
    for path in sorted(folder.glob("referee_*.json")):
        kept = _read(path, "referee_fits", "summary", keys)
        settings = kept["settings"]
        model = str(settings.get("model")).removesuffix("_face")
        faces = str(settings.get("referee", {}).get("draw", "–"))
        for row in kept["summary"]:
            title = f"{model}, {faces} faces, scene {row['variant']}; fit: {_fit_of(settings)}"
            tables.setdefault(title, []).append(
                [
                    _MATERIALS.get(row["material"], str(row["material"])),
                    str(row["faces"]),
                    f"{row['median_mm']:.2f}",
                    f"{row['ninety_mm']:.2f}",
                    f"{row['accepted']} of {row['faces']}",
                    f"{row['wrong_accepted']} of {row['wrong']}",
                    f"{row['inside_90']:.0%}",
                    f"{row['vertices_inside_90']:.0%}",
                    f"{row['residual']:.3f}",
                    f"{row['seconds']:.0f}",
                ]
            )
    return tables


def _fit_of(settings: Mapping[str, Any]) -> str:
    """How a fit differs from the default one, in words."""
    parts = [f"without {_LEFT_OUT.get(name, name)}" for name in settings.get("without", [])]
    if settings.get("gains"):
        parts.append("gains of antennas unknown")
    if settings.get("noise"):
        parts.append(f"noise of {settings['noise']:g} stated")
    if settings.get("start") == "truth":
        parts.append("from the truth")
    return ", ".join(parts) or "default"


#: Causes of ``benchmarks.referee_causes``: what is in the target besides the coherent first
#: reflection of the smooth surface, and what is special about the fit.
_CAUSES = {
    "surface": ("nothing", "–"),
    "flat": ("nothing", "flat facets"),
    "formula": ("the formula instead of the mesh's smooth surface", "–"),
    "channels": ("gains and phases of channels", "–"),
    "channels, gains fitted": ("gains and phases of channels", "with a gain for each antenna"),
    "positions": ("positions of antennas", "–"),
    "positions, gains fitted": ("positions of antennas", "with a gain for each antenna"),
    "second, once": ("double bounce", "first bounce alone"),
    "second": ("double bounce", "with double bounce"),
    "diffuse": ("diffuse reflection", "–"),
    "diffuse, gains fitted": ("diffuse reflection", "with a gain for each antenna"),
    "own diffuse": ("diffuse reflection, all by the library", "–"),
}


def cause_rows(folder: Path) -> list[list[str]]:
    """A row for each cause in each file ``causes_*.json`` of ``benchmarks.referee_causes``.

    Model, what the target has in addition, what is special about the fit, number of faces, and
    medians over the faces of the normalised residual power at the truth, of the mean distance of
    vertices that it moves the minimum by (mm), and of the position's (mm). Raises
    :class:`~radarbook.errors.InputError` as :func:`fit_rows`.
    """
    keys = "cause", "residual", "displacement_mm", "position_mm"
    rows = []
    for path in sorted(folder.glob("causes_*.json")):
        kept = _read(path, "referee_causes", "rows", keys)
        model = str(kept["settings"].get("model")).removesuffix("_face")
        for cause, words in _CAUSES.items():
            mine = [row for row in kept["rows"] if row["cause"] == cause]
            if mine:
                figures = [float(np.median(_column(mine, key))) for key in keys[1:]]
                texts = [f"{figures[0]:.3f}", *(f"{value:.2f}" for value in figures[1:])]
                rows.append([model, *words, str(len(mine)), *texts])
    return rows


def _spread(values: np.ndarray, form: str) -> str:
    """Median, lowest and highest."""
    middle, low, high = (format(float(v), form) for v in np.quantile(values, [0.5, 0.0, 1.0]))
    return f"{middle} ({low} to {high})"


def _read(path: Path, benchmark: str, rows: str, keys: Sequence[str]) -> dict[str, Any]:
    """A benchmark's file; its list ``rows`` holds dictionaries with ``keys``."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        kept["settings"].get("model")
        for row in kept[rows]:
            for key in keys:
                row[key]
        kept[rows][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected the figures of benchmarks.{benchmark}, found {error!r}"
        ) from None
    return dict(kept)


def _column(rows: Sequence[dict[str, Any]], key: str) -> np.ndarray:
    return np.array([float(row[key]) for row in rows])
