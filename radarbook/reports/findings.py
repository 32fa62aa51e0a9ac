"""What follows from numbers: is one error smaller than another, and how sure is that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.evaluation.metrics import bootstrap_interval
from radarbook.reports.results import MEAN_FACE
from radarbook.reports.table import table

#: A network of a table: its method and its input.
Key = tuple[str, str]


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
    difference, low, high = _difference(errors, others, seed)
    means = f"{float(errors.mean()):.3g} against {float(others.mean()):.3g} {unit}".strip()
    gap = f"{abs(difference):.2g} {unit}".strip()
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
    errors = errors_by_network(rows)
    found = []
    for key, other in _pairs(errors):
        same = "mean face" if other[0] == MEAN_FACE else other[0]
        than = f"that on {other[1]}" if key[0] == other[0] else f"the {same}"
        found.append(verdict(f"the {_called(key)}", errors[key], than, errors[other]))
    return [sentence[0].upper() + sentence[1:] for sentence in found]


def findings_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the comparisons of :func:`from_results` as a table."""
    errors = errors_by_network(rows)
    return comparison_table(
        [
            (_called(key), errors[key], _called(other), errors[other])
            for key, other in _pairs(errors)
        ]
    )


def comparison_table(compared: Sequence[tuple[str, Tensor, str, Tensor]], *, seed: int = 0) -> str:
    """Markdown: pairs of errors (B,) of the same faces in mm, one row per pair.

    Each pair is a name, its errors, another name and that one's errors. *Lower by* is the mean of
    the differences face by face, with their 95 % bootstrap interval; a negative number means a
    larger error. The difference is not chance where the interval excludes zero. Raises
    :class:`~radarbook.errors.InputError` if two errors are not of the same faces.

    Examples
    --------
    >>> errors = torch.tensor([2.0, 2.2, 1.8, 2.0])
    >>> compared = comparison_table([("encoder", errors, "mean face", errors + 1)])
    >>> print(compared.splitlines()[-1])
    | encoder | mean face | 4 | 2.00 | 3.00 | 1.00 | 1.00 to 1.00 |
    """
    cells = []
    for name, errors, other, others in compared:
        difference, low, high = _difference(errors, others, seed)
        cells.append(
            [
                name,
                other,
                str(len(errors)),
                float(errors.mean()),
                float(others.mean()),
                difference,
                f"{low:.2f} to {high:.2f}",
            ]
        )
    header = ["network", "compared with", "faces", "error (mm)", "other error (mm)"]
    return table([*header, "lower by (mm)", "95 % interval"], cells, decimals=2)


def _difference(errors: Tensor, others: Tensor, seed: int) -> tuple[float, float, float]:
    """By how much ``errors`` are lower, face by face: mean and 95 % bootstrap interval."""
    if errors.shape != others.shape or errors.ndim != 1:
        raise InputError(
            f"verdict: expected two errors of the same faces, found {tuple(errors.shape)} "
            f"and {tuple(others.shape)}"
        )
    difference = others - errors
    return float(difference.mean()), *bootstrap_interval(difference, seed=seed)


def errors_by_network(rows: Sequence[Mapping[str, Any]]) -> dict[Key, Tensor]:
    """(faces,) vertex distances in mm by method and input."""
    return {(r["method"], r["input"]): torch.tensor(r["vertex_faces_mm"]) for r in rows}


def _pairs(errors: Mapping[Key, Tensor]) -> list[tuple[Key, Key]]:
    """Which two are compared: each network with the mean face, and so on."""
    pairs: list[tuple[Key, Key]] = [(key, (MEAN_FACE, "–")) for key in errors if key[1] != "–"]
    inputs = ("amplitude", "depth", "both")
    pairs += [(("autoencoder", of), ("encoder", of)) for of in inputs]
    pairs += [((kind, "depth"), (kind, "amplitude")) for kind in ("encoder", "autoencoder")]
    return [pair for pair in pairs if set(pair) <= errors.keys()]


def _called(key: Key) -> str:
    return "mean face" if key[0] == MEAN_FACE else f"{key[0]} on {named(key[1])}"


def named(inputs: str) -> str:
    """``both`` in words."""
    return {"both": "amplitude and depth"}.get(inputs, inputs)
