"""Who is it, and what is shown: verification, identification, and intervals by subject.

Pure functions of coefficients and labels. Takes of one person are not independent, so intervals
come from resampling *people*: each is drawn as often as in a sample with replacement. A person
drawn twice is not compared with itself: a pair of two people counts as often as both were drawn,
a pair of one person's takes as often as that person was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from radarbook.errors import InputError

Real = NDArray[np.float64]
#: Resamples of an interval.
SAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval (of another level if it was asked for).

    Examples
    --------
    >>> str(Interval(0.25, 0.2, 0.3125))
    '0.25 (0.20 to 0.31)'
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:z.2f} ({self.low:z.2f} to {self.high:z.2f})"

    def rounded(self, decimals: int = 4) -> list[float]:
        """Value, low and high, for a JSON file."""
        return [round(v, decimals) for v in (self.value, self.low, self.high)]


def bootstrap(
    statistic: Callable[[Real], float],
    people: int,
    *,
    samples: int = SAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic over people resampled with replacement.

    Parameters
    ----------
    statistic
        From how often each person was drawn, (people,) float64, to a number; all ones give the
        value itself. Resamples where it is not finite (two equal people, say) are left out.
    people, samples : int
    level, seed
        Of the interval and of the draws.

    Raises :class:`~radarbook.errors.InputError` for fewer than two people. The interval is too
    narrow by about a factor √(1 - 1/people), as every bootstrap of few: 4 % for twelve.

    Examples
    --------
    >>> heights = np.array([1.0, 2.0, 3.0, 4.0])
    >>> found = bootstrap(lambda drawn: float(np.average(heights, weights=drawn)), 4)
    >>> found.value, 1.0 <= found.low < 2.5 < found.high <= 4.0
    (2.5, True)
    """
    if people < 2:
        raise InputError(f"bootstrap: expected two people or more, found {people}")
    draw = np.random.default_rng(seed)
    counts = draw.multinomial(people, np.full(people, 1 / people), samples).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.array([statistic(one) for one in counts])
        value = statistic(np.ones(people))
    kept = found[np.isfinite(found)]
    if not len(kept):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Similarities of pairs of takes, each pair once.

    Attributes
    ----------
    score : (P,) float64
        Cosine.
    same : (P,) bool
        Whether both are of one person.
    first, second : (P,) int
        Numbers of the two people.
    """

    score: Real
    same: NDArray[np.bool_]
    first: NDArray[np.int64]
    second: NDArray[np.int64]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """(P,) pairs by falling score."""
        return np.argsort(-self.score, kind="stable")

    def weights(self, drawn: Real) -> Real:
        """(P,) how often each pair counts where people were ``drawn`` so often."""
        return np.where(self.same, drawn[self.first], drawn[self.first] * drawn[self.second])

    def mean(self, same: bool, drawn: Real) -> float:
        """Mean score of pairs of one person, or of two; NaN without any."""
        mine = self.same if same else ~self.same
        weights = self.weights(drawn)[mine]
        total = float(weights.sum())
        return float(weights @ self.score[mine] / total) if total else float("nan")

    def some(self, chosen: NDArray[np.bool_]) -> ScoredPairs:
        """The pairs ``chosen`` (P,)."""
        return ScoredPairs(
            self.score[chosen], self.same[chosen], self.first[chosen], self.second[chosen]
        )


def pairs_of(coefficients: ArrayLike, person: Sequence[int] | NDArray[Any]) -> ScoredPairs:
    """All pairs of B takes by the cosines of their coefficients (B, K).

    ``person`` (B,) is each take's person, numbered from 0. Raises
    :class:`~radarbook.errors.InputError` where the numbers of takes differ.

    Examples
    --------
    >>> pairs = pairs_of([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [0, 0, 1])
    >>> pairs.score.tolist(), pairs.same.tolist()
    ([1.0, 0.0, 0.0], [True, False, False])
    """
    values, who = np.asarray(coefficients, dtype=np.float64), np.asarray(person, dtype=np.int64)
    if values.ndim != 2 or len(values) != len(who):
        raise InputError(
            f"coefficients: expected (B, K) for B = {len(who)} takes, found {values.shape}"
        )
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    i, j = np.triu_indices(len(who), 1)
    return ScoredPairs((unit @ unit.T)[i, j], who[i] == who[j], who[i], who[j])


def roc(pairs: ScoredPairs, drawn: Real | None = None) -> tuple[Real, Real]:
    """False and true acceptance rates (T,), as the threshold falls: both from 0 to 1.

    A pair is accepted as one person if its score is at or above the threshold. ``drawn`` as in
    :meth:`ScoredPairs.weights`. NaN where there are no pairs of one kind.

    Examples
    --------
    >>> false, true = roc(pairs_of([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [0, 0, 1]))
    >>> false.tolist(), true.tolist()
    ([0.0, 0.0, 1.0], [0.0, 1.0, 1.0])
    """
    people = 1 + int(max(pairs.first.max(), pairs.second.max()))
    weights = pairs.weights(np.ones(people) if drawn is None else drawn)
    order = pairs.order
    score, same = pairs.score[order], pairs.same[order]
    true = np.cumsum(weights[order] * same)
    false = np.cumsum(weights[order] * ~same)
    # Equal scores pass a threshold together.
    last = np.append(np.diff(score) != 0, True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            np.concatenate([[0.0], false[last] / false[-1]]),
            np.concatenate([[0.0], true[last] / true[-1]]),
        )


def equal_error_rate(pairs: ScoredPairs, drawn: Real | None = None) -> float:
    """Where as many pairs of one person are refused as pairs of two are accepted: 0 to 1.

    Between two thresholds the curve is taken as straight. Scores that say nothing give 0.5; of
    normal scores of equal deviation whose means are d deviations apart, Φ(-d/2). NaN where there
    are no pairs of one kind.

    Examples
    --------
    >>> equal_error_rate(pairs_of([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], [0, 0, 1]))
    0.0
    """
    false, true = roc(pairs, drawn)
    gap = false - (1 - true)
    if not np.isfinite(gap).all():
        return float("nan")
    after = int(np.argmax(gap >= 0))
    if after == 0:
        return float(false[0])
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(false[before] + share * (false[after] - false[before]))


def rank_one(
    coefficients: ArrayLike, person: ArrayLike, gallery: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each probe is most similar to the gallery's take of its own person.

    Parameters
    ----------
    coefficients : (B, K)
    person : (B,) int
    gallery : (B,) bool
        Takes that are known, one for each person; all others are probes.

    Returns (P,) bool and the probes' people (P,). Chance is one over the number of people. Raises
    :class:`~radarbook.errors.InputError` if the gallery has not one take of each person.

    Examples
    --------
    >>> takes = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]
    >>> rank_one(takes, [0, 1, 0], [True, True, False])[0].tolist()
    [True]
    """
    values, who = np.asarray(coefficients, dtype=np.float64), np.asarray(person)
    known = np.asarray(gallery, dtype=bool)
    if len(set(who[known])) != known.sum() or set(who[known]) != set(who):
        raise InputError("gallery: expected one take of each person")
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    best = (unit[~known] @ unit[known].T).argmax(axis=1)
    return who[known][best] == who[~known], who[~known]


def nearest_template(
    coefficients: ArrayLike,
    label: ArrayLike,
    person: ArrayLike,
    take: ArrayLike,
    *,
    own: bool,
) -> Real:
    """Whether the mean of its own label is nearest to each take, among the means of all labels:
    1 or 0, and NaN for a take that has not every label to be compared with.

    Parameters
    ----------
    coefficients : (B, K)
    label, person, take : (B,)
        What is shown, by whom, and the number of the repetition.
    own : bool
        True: means are of the same person's other repetitions, a classifier made for one person.
        False: of all other people, one for everybody.

    A take is never part of the means that it is compared with. Chance is one over the number of
    labels.

    Examples
    --------
    >>> takes = [[0.0], [1.0], [0.1], [1.1]]
    >>> nearest_template(takes, [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 0], own=False).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    values = np.asarray(coefficients, dtype=np.float64)
    labels, who, number = (np.asarray(v) for v in (label, person, take))
    known = np.unique(labels)
    right = np.full(len(values), np.nan)
    for p in np.unique(who):
        for n in np.unique(number[who == p]) if own else (None,):
            mine = who == p if n is None else (who == p) & (number == n)
            others = (who == p) & (number != n) if own else who != p
            groups = [others & (labels == one) for one in known]
            if not all(group.any() for group in groups):
                continue
            means = np.stack([values[group].mean(axis=0) for group in groups])
            far = np.linalg.norm(values[mine][:, None] - means, axis=2)
            right[mine] = known[far.argmin(axis=1)] == labels[mine]
    return right


def share_by_person(right: ArrayLike, person: ArrayLike, people: int, **options: Any) -> Interval:
    """Share of takes that are ``right`` (B,), or mean of any values, with an interval by person.

    NaN is left out; ``options`` as in :func:`bootstrap`.

    Examples
    --------
    >>> share_by_person([True, False, True, True], [0, 0, 1, 1], 2).value
    0.75
    """
    values, who = np.asarray(right, dtype=np.float64), np.asarray(person)
    known = np.isfinite(values)
    total = np.bincount(who[known], values[known], people)
    count = np.bincount(who[known], minlength=people)

    def mean(drawn: Real) -> float:
        return float((drawn * total).sum() / (drawn * count).sum())

    return bootstrap(mean, people, **options)
