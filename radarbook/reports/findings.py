"""Statements that follow from numbers: is one error smaller than another, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.evaluation.metrics import bootstrap_interval
from radarbook.reports.results import MEAN_FACE


def verdict(
    name: str, errors: Tensor, other: str, others: Tensor, *, unit: str = "mm", seed: int = 0
) -> str:
    """One sentence comparing two errors (B,) of the same faces.

    The differences are taken face by face, so that what makes a face hard for both cancels; a
    difference is claimed only where its 95 % bootstrap interval excludes zero.

    Examples
    --------
    >>> errors = torch.linspace(0.2, 0.4, 20)
    >>> verdict("The fit", errors, "the mean face", errors + 1.0)
    'The fit is better than the mean face by 1 mm (0.3 against 1.3 mm, 20 faces).'
    """
    if errors.shape != others.shape or errors.ndim != 1:
        raise InputError(
            f"verdict: expected two errors of the same faces, found {tuple(errors.shape)} "
            f"and {tuple(others.shape)}"
        )
    difference = others - errors
    low, high = bootstrap_interval(difference, seed=seed)
    means = f"{float(errors.mean()):.3g} against {float(others.mean()):.3g} {unit}".strip()
    gap = f"{abs(float(difference.mean())):.2g} {unit}".strip()
    count = f"{len(errors)} faces"
    if low > 0:
        return f"{name} is better than {other} by {gap} ({means}, {count})."
    if high < 0:
        return f"{name} is worse than {other} by {gap} ({means}, {count})."
    return f"{name} and {other} cannot be distinguished here ({means}, {count})."


def from_results(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The paper's findings as verdicts on the rows of a ``results.json``, face by face.

    Is every row better than the mean face; does the autoencoder beat the encoder on each input;
    does depth beat amplitude.
    """
    errors = {(r["method"], r["input"]): torch.tensor(r["vertex_faces_mm"]) for r in rows}
    mean = errors[MEAN_FACE, "–"]
    found = [
        verdict(f"the {kind} on {named(inputs)}", value, "the mean face", mean)
        for (kind, inputs), value in errors.items()
        if inputs != "–"
    ]
    for inputs in ("amplitude", "depth", "both"):
        if {("autoencoder", inputs), ("encoder", inputs)} <= errors.keys():
            found.append(
                verdict(
                    f"the autoencoder on {named(inputs)}",
                    errors["autoencoder", inputs],
                    "the encoder",
                    errors["encoder", inputs],
                )
            )
    for kind in ("encoder", "autoencoder"):
        if {(kind, "depth"), (kind, "amplitude")} <= errors.keys():
            found.append(
                verdict(
                    f"the {kind} on depth",
                    errors[kind, "depth"],
                    "that on amplitude",
                    errors[kind, "amplitude"],
                )
            )
    return [sentence[0].upper() + sentence[1:] for sentence in found]


def named(inputs: str) -> str:
    """``both`` in words."""
    return {"both": "amplitude and depth"}.get(inputs, inputs)
