"""Statements claim what the numbers bear, and no more."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.evaluation.metrics import error_by, explained_variance, mean_face
from radarbook.faces.parameters import parameter_names
from radarbook.reports.findings import findings_table, from_results, verdict
from tests.training.toys import toy_parameters


def noise(count, seed):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_a_steady_difference_is_claimed_though_faces_vary_more():
    hard = 3 + noise(50, 0)
    assert verdict("A", hard, "B", hard + 0.1 + 0.05 * noise(50, 1)).startswith(
        "A is better than B"
    )
    assert verdict("B", hard + 0.2, "A", hard).startswith("B is worse than A by 0.2 mm")


def test_chance_is_not_claimed():
    text = verdict("A", 3 + noise(10, 0), "B", 3 + noise(10, 1))
    assert "cannot be distinguished" in text
    assert "10 faces" in text


def test_errors_of_other_faces_are_refused():
    with pytest.raises(InputError, match="same faces"):
        verdict("A", noise(3, 0), "B", noise(4, 0))


def test_explained_variance():
    truth = toy_parameters(500, seed=0)
    assert all(v == pytest.approx(1) for v in explained_variance(truth, truth).values())
    # the population's mean instead of these 500 faces' own: 1/500 of the variance, a few times
    assert all(
        abs(v) < 0.02 for v in list(explained_variance(mean_face(truth), truth).values())[:11]
    )
    assert list(explained_variance(truth, truth)) == parameter_names(3, 2)


def test_constant_parameters_have_no_variance_to_explain():
    truth = toy_parameters(5, seed=0)
    still = truth.replace(translation=torch.zeros(5, 3))
    assert not {"x", "y", "z"} & explained_variance(truth, still).keys()


def test_groups_by_value():
    values = torch.tensor([4.0, 1, 3, 2])
    x, y = error_by(values, values**2, bins=2)
    assert x == [1.5, 3.5]
    assert y == [2.5, 12.5]


def test_findings_of_a_table_compare_the_same_faces():
    """A millimetre between methods, on faces that differ by centimetres."""
    faces = 10 * torch.rand(100, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(4, 100, generator=torch.Generator().manual_seed(1))

    def row(method, inputs, offset, n):
        errors = (faces + offset + noise[n]).tolist()
        return {"method": method, "input": inputs, "vertex_faces_mm": errors}

    rows = [
        row("baseline, mean face", "–", 3.0, 0),
        row("encoder", "depth", 1.0, 1),
        row("autoencoder", "depth", 0.0, 2),
        row("autoencoder", "amplitude", 0.0, 3),
    ]
    said = from_results(rows)
    assert [s.split(" by ")[0].split(" (")[0] for s in said] == [
        "The encoder on depth is better than the mean face",
        "The autoencoder on depth is better than the mean face",
        "The autoencoder on amplitude is better than the mean face",
        "The autoencoder on depth is better than the encoder",
        "The autoencoder on depth and that on amplitude cannot be distinguished here",
    ]
    # the table has the same comparisons, and its intervals exclude zero where a sentence claims
    lines = [line.strip("| ").split(" | ") for line in findings_table(rows).splitlines()[2:]]
    assert [line[:2] for line in lines] == [
        ["encoder on depth", "mean face"],
        ["autoencoder on depth", "mean face"],
        ["autoencoder on amplitude", "mean face"],
        ["autoencoder on depth", "encoder on depth"],
        ["autoencoder on depth", "autoencoder on amplitude"],
    ]
    assert [float(line[-1].split(" to ")[0]) > 0 for line in lines] == [True] * 4 + [False]
