"""Verification and identification: laws with closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from radarbook.errors import InputError
from radarbook.evaluation.verification import (
    ScoredPairs,
    bootstrap,
    equal_error_rate,
    nearest_template,
    pairs_of,
    rank_one,
    roc,
    share_by_person,
)

DRAW = np.random.default_rng(3)


def scores(genuine: np.ndarray, impostor: np.ndarray) -> ScoredPairs:
    """Pairs of given scores, each of people of their own."""
    count = len(genuine) + len(impostor)
    same = np.arange(count) < len(genuine)
    first = np.arange(count)
    return ScoredPairs(np.concatenate([genuine, impostor]), same, first, np.where(same, first, 0))


@pytest.mark.parametrize("apart", [0.0, 1.0, 2.5])
def test_normal_scores_have_the_error_rate_of_the_formula(apart: float) -> None:
    found = equal_error_rate(scores(DRAW.normal(apart, 1, 40_000), DRAW.normal(0, 1, 60_000)))
    assert found == pytest.approx(norm.cdf(-apart / 2), abs=0.006)


def test_equal_scores_say_nothing() -> None:
    assert equal_error_rate(scores(np.ones(5), np.ones(9))) == pytest.approx(0.5)


def test_the_curve_is_that_of_counting() -> None:
    genuine, impostor = DRAW.normal(0.5, 1, 30), DRAW.normal(0, 1, 50)
    false, true = roc(scores(genuine, impostor))
    assert (np.diff(false) >= 0).all()
    assert (np.diff(true) >= 0).all()
    for threshold in np.quantile(impostor, [0.2, 0.7]):
        wanted = (impostor >= threshold).mean(), (genuine >= threshold).mean()
        assert min(np.hypot(false - wanted[0], true - wanted[1])) < 1e-12


def test_a_person_drawn_twice_counts_as_two_that_are_not_compared() -> None:
    who = np.repeat(np.arange(4), 3)
    takes = DRAW.normal(size=(12, 5)) + 1.5 * np.repeat(DRAW.normal(size=(4, 5)), 3, axis=0)
    drawn = np.array([2.0, 1.0, 0.0, 1.0])
    # By hand: copies of person 0 are two people, and the pairs between the two are left out.
    copies = np.concatenate([takes[:6], takes[:3], takes[9:]])
    names = np.array([0] * 3 + [1] * 3 + [2] * 3 + [3] * 3)
    every = pairs_of(copies, names)
    twin = (every.first == 0) & (every.second == 2)
    wanted = equal_error_rate(every.some(~twin))
    assert equal_error_rate(pairs_of(takes, who), drawn) == pytest.approx(wanted)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    inside = 0
    for trial in range(200):
        draw = np.random.default_rng(trial)
        person = np.repeat(np.arange(20), 4)
        values = np.repeat(draw.normal(size=20), 4) + 0.3 * draw.normal(size=80)
        found = share_by_person(values, person, 20, samples=200, seed=trial)
        inside += found.low <= 0 <= found.high
    # 95 %, less what a percentile interval of twenty people lacks.
    assert 0.87 <= inside / 200 <= 0.98


def test_takes_that_repeat_do_not_narrow_an_interval() -> None:
    values = DRAW.normal(size=15)
    once = share_by_person(values, np.arange(15), 15)
    often = share_by_person(np.repeat(values, 10), np.repeat(np.arange(15), 10), 15)
    assert often.high - often.low == pytest.approx(once.high - once.low)


def test_coefficients_that_say_nothing_are_identified_by_chance() -> None:
    people, takes, labels = 12, 30, 7
    who = np.repeat(np.arange(people), takes)
    known = np.arange(len(who)) % takes == 0
    right, probes = rank_one(DRAW.normal(size=(len(who), 10)), who, known)
    assert len(right) == len(probes) == people * (takes - 1)
    assert right.mean() == pytest.approx(1 / people, abs=0.05)
    what = np.tile(np.arange(labels), people * 9)
    person = np.repeat(np.arange(people), labels * 9)
    number = np.tile(np.repeat(np.arange(9), labels), people)
    for own in (True, False):
        found = nearest_template(DRAW.normal(size=(len(what), 7)), what, person, number, own=own)
        assert found.mean() == pytest.approx(1 / labels, abs=0.045)


def test_what_is_separate_is_always_found() -> None:
    who, what = np.repeat(np.arange(5), 14), np.tile(np.arange(7), 10)
    number = np.tile(np.repeat([0, 1], 7), 5)
    code = np.eye(5)[who] + 0.01 * DRAW.normal(size=(70, 5))
    known = (what == 0) & (number == 0)
    assert rank_one(code, who, known)[0].all()
    assert equal_error_rate(pairs_of(code, who)) == 0
    shown = np.eye(7)[what]
    assert nearest_template(shown, what, who, number, own=False).all()
    # Everybody has expressions of their own: only a classifier made for one person knows them.
    private = np.eye(7)[(what + who) % 7]
    assert nearest_template(private, what, who, number, own=True).all()
    assert not nearest_template(private, what, who, number, own=False).any()
    once = number == 0
    unknown = nearest_template(shown[once], what[once], who[once], number[once], own=True)
    assert np.isnan(unknown).all()
    assert share_by_person([1.0, np.nan, 0.0, 0.0], [0, 0, 1, 1], 2).value == pytest.approx(1 / 3)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="two people or more"):
        bootstrap(lambda drawn: 0.0, 1)
    with pytest.raises(InputError, match="one take of each person"):
        rank_one(np.eye(3), [0, 0, 1], [True, True, True])
    with pytest.raises(InputError, match=r"expected \(B, K\)"):
        pairs_of(np.eye(3), [0, 1])
