"""The campaign's tables: people and expressions in predictions, and what each fault costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from radarbook.datasets.campaign.folder import Takes
from radarbook.datasets.campaign.plan import Campaign
from radarbook.datasets.campaign.scene import subject_name
from radarbook.evaluation.campaign import Labels, agreement, difference, expressions
from radarbook.evaluation.verification import SAMPLES, Interval, Real, share_by_person
from radarbook.faces.parameters import FaceParameters
from radarbook.radar.face_gate import FaceGate, seen_by_networks
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Predictor
from radarbook.reports.table import table

#: Shape and expression (B, K) by the name of a method.
Coefficients = Mapping[str, tuple[Real, Real]]
#: Takes (B,) bool by the name of their kind.
Kinds = Mapping[str, NDArray[np.bool_]]


def predictions(
    takes: Takes,
    campaign: Campaign,
    networks: Mapping[str, Predictor],
    fits: Mapping[str, FaceParameters] | None = None,
) -> dict[str, Any]:
    """Everything that the analysis needs, JSON-able and small: three decimals, a line per take.

    Every network predicts takes as they are and, as ``NAME, gate``, through the gate around the
    face (:class:`~radarbook.radar.face_gate.FaceGate`). ``fits`` are faces (B) that were found
    otherwise, NaN where a take has none.

    ``coefficients`` has the truth (of the model's own modes, without displacements) and every
    prediction, shape and expression of each take; ``vertex_mm`` the mean distance of the predicted
    face from the true one, displacements included, without pose, and that of the mean face.
    """
    rows = [
        {
            "subject": subject_name(subject),
            "expression": expression,
            "take": take,
            "head_rest": not campaign.without_rest(take),
            "blanket": campaign.covered(subject, take) is not None,
        }
        for subject, expression, take in takes.names
    ]
    found = by_networks(takes.images, networks) | dict(fits or {})
    own = takes.truth.replace(shape=takes.truth.shape[:, : takes.cast.own])
    neutral = own.replace(shape=0 * own.shape, expression=0 * own.expression)
    return {
        "campaign": campaign.settings(),
        "takes": rows,
        "coefficients": {
            name: {"shape": _lines(one.shape), "expression": _lines(one.expression)}
            for name, one in {"truth": own, **found}.items()
        },
        "vertex_mm": {
            name: _listed(vertex_errors(takes, one))
            for name, one in {"mean face": neutral, **found}.items()
        },
    }


def by_networks(images: RadarImage, networks: Mapping[str, Predictor]) -> dict[str, FaceParameters]:
    """Faces (B) of deep images by each network, as they are and, as ``NAME, gate``, gated."""
    views = {
        name: seen_by_networks(images, gate)
        for name, gate in (("{}", None), ("{}, gate", FaceGate()))
    }
    return {
        view.format(name): network.predict(seen)
        for name, network in networks.items()
        for view, seen in views.items()
    }


def vertex_errors(takes: Takes, found: FaceParameters) -> Tensor:
    """(B,) mm: mean distance of vertices from the true ones, displacements included, no pose."""
    whole, truth = takes.cast.model, takes.truth
    small = whole.truncated(found.shape.shape[1], found.expression.shape[1])
    errors = [
        small.vertices(mine.shape, mine.expression) - whole.vertices(true.shape, true.expression)
        for mine, true in ((found[n : n + 1], truth[n : n + 1]) for n in range(len(truth)))
    ]
    return found.shape.new_tensor([float(error.norm(dim=2).mean()) for error in errors])


def kinds(about: Mapping[str, Any]) -> Kinds:
    """Takes of a file of predictions by kind: at rest in the head rest, free, and all of them.

    Takes through a blanket are among all alone.
    """
    rows = about["takes"]
    rest, blanket = (np.array([row[name] for row in rows]) for name in ("head_rest", "blanket"))
    found = {"head rest": rest & ~blanket, "free": ~rest, "all": np.ones(len(rows), dtype=bool)}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def people_table(
    labels: Labels, found: Coefficients, some: Kinds, *, samples: int = SAMPLES
) -> str:
    """Shape: cosines, verification, identification; 95 % intervals by person."""
    keys = ("same", "others", "equal_error", "rank_one", "nearer")
    rows = []
    for kind, chosen in some.items():
        for name, (shape, _) in found.items():
            mine = chosen & np.isfinite(shape).all(axis=1)
            one = agreement(shape[mine], labels[mine], samples=samples)
            rows.append([name, kind, *(_cell(one[key]) for key in keys)])
    heads = ["shape by", "takes", "cosine, same person", "other people", "equal error rate"]
    heads += [f"rank 1 (chance {1 / labels.people:.2f})", "nearer to own takes"]
    return table(heads, rows)


def expression_table(
    labels: Labels, found: Coefficients, some: Kinds, *, samples: int = SAMPLES
) -> str:
    """Expressions: cosines between people, identification; 95 % intervals by person."""
    keys = ("same", "others", "general", "own")
    chance = f"(chance {1 / len(np.unique(labels.expression)):.2f})"
    rows = []
    for kind, chosen in some.items():
        for name, (_, shown) in found.items():
            mine = chosen & np.isfinite(shown).all(axis=1)
            one = expressions(shown[mine], labels[mine], samples=samples)
            rows.append([name, kind, *(_cell(one[key]) for key in keys)])
    heads = ["expression by", "takes", "cosine, same expression", "other expression"]
    heads += [f"identified {chance}", f"person known {chance}"]
    return table(heads, rows)


def fault_costs(
    rows: Sequence[Mapping[str, Any]], measure: str, *, samples: int = SAMPLES
) -> dict[str, dict[str, tuple[Interval, Interval]]]:
    """By network, then by fault: the error, and what the fault adds to that of clean takes.

    ``rows`` are those of ``python -m benchmarks.faults``, ``measure`` one of their errors.
    Differences are paired by take, intervals by person, faults by falling cost.
    """
    found: dict[str, dict[str, tuple[Interval, Interval]]] = {}
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        clean = {_take(row): float(row[measure]) for row in mine if row["fault"] == "none"}
        costs = {}
        for fault in dict.fromkeys(row["fault"] for row in mine):
            here = [row for row in mine if row["fault"] == fault and _take(row) in clean]
            who = np.unique([row["subject"] for row in here], return_inverse=True)[1]
            values = [float(row[measure]) for row in here]
            before = [clean[_take(row)] for row in here]
            error = share_by_person(values, who, int(who.max()) + 1, samples=samples)
            costs[fault] = error, difference(values, before, who, samples=samples)
        order = sorted(costs, key=lambda fault: -costs[fault][1].value)
        found[network] = {fault: costs[fault] for fault in order}
    return found


def fault_table(rows: Sequence[Mapping[str, Any]], *, samples: int = SAMPLES) -> str:
    """What each fault costs, in mm of the vertex error; 95 % intervals by person."""
    costs = fault_costs(rows, "vertex_mm", samples=samples)
    first = next(iter(costs.values()))
    heads = ["fault"]
    for network in costs:
        heads += [f"{network}: error (mm)", "added (mm)"]
    lines = []
    for fault in first:
        cells = [str(part) for one in costs.values() for part in one[fault]]
        lines.append([fault, *cells])
    return table(heads, lines)


def gap_table(about: Mapping[str, Any], *, samples: int = SAMPLES) -> str:
    """Methods that close the gap, of a file by ``python -m benchmarks.gap``.

    The vertex error, its difference from the shipped network's, and what the coefficients say of
    people and expressions; 95 % intervals by person, methods by falling error.
    """
    methods = about["methods"]
    person = [name.split("_")[0] for name in about["takes"]]
    who = np.unique(person, return_inverse=True)[1]
    shipped = methods["shipped"]["vertex_mm"]
    rows = []
    for name, one in sorted(methods.items(), key=lambda item: -np.mean(item[1]["vertex_mm"])):
        errors = one["vertex_mm"]
        found = share_by_person(errors, who, int(who.max()) + 1, samples=samples)
        change = difference(errors, shipped, person, samples=samples)
        kept = [
            one["people"]["nearer"],
            one["people"]["equal_error"],
            one["expressions"]["general"],
        ]
        if name == "mean face":  # it says the same of everybody
            kept = [None] * len(kept)
        cells = [None if value is None else str(Interval(*value)) for value in kept]
        rows.append(
            [
                name,
                str(found),
                None if name == "shipped" else str(change),
                *cells,
                f"{one['seconds']:.0f}" if one.get("seconds") is not None else None,
            ]
        )
    heads = ["network", "vertex error (mm)", "minus shipped (mm)", "nearer to own takes"]
    heads += ["equal error rate", "expressions identified", "training (s)"]
    return table(heads, rows)


def optimised_table(rows: Sequence[Mapping[str, Any]], *, samples: int = SAMPLES) -> str:
    """Test-time optimisation of single takes, of a file by ``python -m benchmarks.gap``."""
    person = [row["take"].split("_")[0] for row in rows]
    who = np.unique(person, return_inverse=True)[1]
    both = [[row[key] for row in rows] for key in ("before_mm", "after_mm")]
    cells = [str(share_by_person(one, who, int(who.max()) + 1, samples=samples)) for one in both]
    change = difference(both[1], both[0], person, samples=samples)
    nearer = int((np.array(both[1]) < np.array(both[0])).sum())
    seconds = f"{np.mean([row['seconds'] for row in rows]):.1f}"
    heads = ["before (mm)", "after (mm)", "after minus before (mm)", "nearer", "seconds per take"]
    return table(heads, [[*cells, str(change), f"{nearer} of {len(rows)}", seconds]])


def _take(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["subject"], row["expression"]


def _cell(value: Interval | None) -> str | None:
    return None if value is None else str(value)


def _listed(values: Tensor) -> list[float | None]:
    """Three decimals; None where a value is not known."""
    found = [float(value) for value in values]
    return [round(value, 3) if np.isfinite(value) else None for value in found]


def _lines(values: Tensor) -> list[str | None]:
    """A line of numbers for each take, which is a third of the size of as many JSON lists."""
    rows = values.double().tolist()
    return [
        " ".join(f"{v:.3f}" for v in row) if all(map(np.isfinite, row)) else None for row in rows
    ]
