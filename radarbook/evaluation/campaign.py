"""What predicted coefficients say of people and their expressions: the paper's analysis, whole.

The true coefficients of measured faces are unknown. It can be tested whether predictions of one
person agree with each other more than with those of others, and whether expressions are found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radarbook.errors import InputError
from radarbook.evaluation.verification import (
    SAMPLES,
    Interval,
    Real,
    bootstrap,
    equal_error_rate,
    nearest_template,
    pairs_of,
    rank_one,
    share_by_person,
)

#: The expression that a person is known by.
NEUTRAL = "neutral"


@dataclass(frozen=True, eq=False)
class Labels:
    """Of B takes: who, showing what, and which repetition of it.

    Attributes
    ----------
    person, expression : (B,) str
    take : (B,) int
        From 0 for each person's expression.

    Examples
    --------
    >>> Labels.of(["A", "A", "B"], ["neutral", "neutral", "neutral"]).take.tolist()
    [0, 1, 0]
    """

    person: NDArray[np.str_]
    expression: NDArray[np.str_]
    take: NDArray[np.int64]

    @classmethod
    def of(
        cls, person: Sequence[str], expression: Sequence[str], take: Sequence[int] | None = None
    ) -> Labels:
        """``take`` None: repetitions are counted in their order."""
        if take is None:
            seen: dict[tuple[str, str], int] = {}
            take = []
            for pair in zip(person, expression, strict=True):
                take.append(seen.get(pair, 0))
                seen[pair] = take[-1] + 1
        if not len(person) == len(expression) == len(take):
            raise InputError("labels: expected a person, an expression and a number for each take")
        return cls(np.array(person), np.array(expression), np.array(take, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.person)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Labels:
        return Labels(self.person[chosen], self.expression[chosen], self.take[chosen])

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(np.unique(self.person))

    def numbers(self) -> NDArray[np.int64]:
        """(B,) number of each take's person, from 0."""
        found: NDArray[np.int64] = np.unique(self.person, return_inverse=True)[1]
        return found


def agreement(
    coefficients: ArrayLike, labels: Labels, *, samples: int = SAMPLES
) -> dict[str, Interval | None]:
    """Do predicted shapes (B, K) of one person agree?

    ``same`` and ``others`` are mean cosines of pairs of one person and of two, ``apart`` their
    difference, ``equal_error`` the equal error rate of verification by the cosine,
    ``rank_one`` the share of takes whose most similar *neutral first* take is that of their own
    person, and ``nearer`` the share of takes that are more similar to their own person's takes, on
    average, than to those of others. Intervals are by person; None: labels lack what it takes.

    What all predictions have in common, right or wrong, is taken out first: their mean, which
    needs no label.
    """
    values = _centred(coefficients)
    who, people = labels.numbers(), labels.people
    pairs = pairs_of(values, who)
    if people < 2 or not pairs.same.any():
        return dict.fromkeys(("same", "others", "apart", "equal_error", "rank_one", "nearer"))

    def interval(of: Any) -> Interval:
        return bootstrap(of, people, samples=samples)

    known = (labels.expression == NEUTRAL) & (labels.take == labels.take.min())
    ranked = None
    if np.array_equal(np.sort(who[known]), np.arange(people)) and not known.all():
        ranked = share_by_person(*rank_one(values, who, known), people, samples=samples)
    return {
        "same": interval(lambda drawn: pairs.mean(True, drawn)),
        "others": interval(lambda drawn: pairs.mean(False, drawn)),
        "apart": interval(lambda drawn: pairs.mean(True, drawn) - pairs.mean(False, drawn)),
        "equal_error": interval(lambda drawn: equal_error_rate(pairs, drawn)),
        "rank_one": ranked,
        "nearer": share_by_person(_nearer(values, who), who, people, samples=samples),
    }


def expressions(
    coefficients: ArrayLike, labels: Labels, *, samples: int = SAMPLES
) -> dict[str, Interval | None]:
    """Are expressions found in predicted coefficients (B, K)?

    ``same`` and ``others`` are mean cosines of pairs of *different people* with one expression and
    with two; ``general`` is the share of takes whose expression is that of the nearest mean of
    all other people's, ``own`` of the nearest mean of the same person's other repetitions: a
    classifier made for one person, on the same predictions. Chance of both is one over the number
    of expressions. Intervals and None as in :func:`agreement`.
    """
    values = _centred(coefficients)
    who, people = labels.numbers(), labels.people
    if people < 2:
        return dict.fromkeys(("same", "others", "general", "own"))
    what = np.unique(labels.expression, return_inverse=True)[1]
    pairs = pairs_of(values, who)
    i, j = np.triu_indices(len(who), 1)
    alike = what[i] == what[j]

    def mean(chosen: NDArray[np.bool_]) -> Interval | None:
        some = pairs.some(chosen & ~pairs.same)
        if not len(some.score):
            return None
        return bootstrap(lambda drawn: some.mean(False, drawn), people, samples=samples)

    def found(own: bool) -> Interval | None:
        right = nearest_template(values, what, who, labels.take, own=own)
        if not np.isfinite(right).any():
            return None
        return share_by_person(right, who, people, samples=samples)

    return {
        "same": mean(alike),
        "others": mean(~alike),
        "general": found(False),
        "own": found(True),
    }


def difference(
    one: ArrayLike, other: ArrayLike, person: ArrayLike, *, samples: int = SAMPLES
) -> Interval:
    """Mean of ``one - other`` (B,), paired by take, with an interval by person.

    Two methods differ only if it leaves out zero: intervals of their own may overlap and yet do so.
    """
    values = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    who = np.unique(np.asarray(person), return_inverse=True)[1]
    return share_by_person(values, who, int(who.max()) + 1, samples=samples)


def read_predictions(about: Mapping[str, Any]) -> tuple[Labels, dict[str, tuple[Real, Real]]]:
    """Labels, and shape and expression (B, K) by method, of a file of ``radarbook campaign``.

    ``truth`` is one of the methods where the file has it.
    """
    rows = about["takes"]
    labels = Labels.of(
        [row["subject"] for row in rows],
        [row["expression"] for row in rows],
        [row["take"] for row in rows],
    )
    found = {
        name: (_numbers(one["shape"]), _numbers(one["expression"]))
        for name, one in about["coefficients"].items()
    }
    return labels, found


def _numbers(lines: Sequence[str | None]) -> Real:
    """(B, K) of a line of numbers for each take; NaN where there is none."""
    rows = [None if line is None else [float(v) for v in line.split()] for line in lines]
    width = max(len(row) for row in rows if row is not None)
    return np.array([[np.nan] * width if row is None else row for row in rows])


def _centred(coefficients: ArrayLike) -> Real:
    values = np.asarray(coefficients, dtype=np.float64)
    return np.asarray(values - values.mean(axis=0))


def _nearer(values: Real, who: NDArray[np.int64]) -> NDArray[np.float64]:
    """(B,) 1 where a take's mean cosine is larger with its own person's other takes; NaN-free."""
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    cosine = unit @ unit.T
    own = who[:, None] == who
    others = ~own
    np.fill_diagonal(own, False)
    count = np.maximum(own.sum(1), 1), np.maximum(others.sum(1), 1)
    mine, theirs = (cosine * own).sum(1) / count[0], (cosine * others).sum(1) / count[1]
    return (mine > theirs).astype(float)
