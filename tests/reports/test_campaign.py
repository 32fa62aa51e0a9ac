"""Tables of the campaign: what is counted, paired and ordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from radarbook.datasets.campaign.folder import Takes
from radarbook.datasets.campaign.plan import EXPRESSIONS, Campaign, Cast
from radarbook.evaluation.campaign import read_predictions
from radarbook.evaluation.metrics import vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.radar.image import RadarImage
from radarbook.reports.campaign import (
    by_networks,
    expression_table,
    fault_costs,
    fault_table,
    kinds,
    people_table,
    predictions,
)

MODEL = load_model("procedural")
PLAN = Campaign(subjects=4, takes=3)


class Knows:
    """A network that predicts the truth."""

    def __init__(self, truth: FaceParameters) -> None:
        self.truth = truth

    def predict(self, image: RadarImage) -> FaceParameters:
        return self.truth


def campaign_takes() -> Takes:
    cast = Cast.of(MODEL, PLAN)
    names = list(PLAN.names())
    truth = FaceParameters.cat([PLAN.face(cast, *name) for name in names])
    flat = torch.zeros(len(names), 2, 2)
    axis = torch.arange(2.0)
    floor = torch.full((len(names),), -20.0)
    return Takes(names, RadarImage(flat, flat, flat > 0, axis, axis, floor), truth, cast)


def test_predictions_hold_what_the_tables_need() -> None:
    takes = campaign_takes()
    own = takes.truth.replace(shape=takes.truth.shape[:, :10])
    found = predictions(takes, PLAN, {"oracle": Knows(own)})
    labels, by = read_predictions(found)
    assert labels.people == 4
    assert np.allclose(by["oracle"][0], by["truth"][0])
    # What the model's own modes leave are the displacements.
    assert 0.2 < np.mean(found["vertex_mm"]["oracle"]) < 2.0
    assert np.mean(found["vertex_mm"]["mean face"]) > np.mean(found["vertex_mm"]["oracle"])
    some = kinds(found)
    assert list(some) == ["head rest", "free", "all"]
    assert some["all"].sum() == 4 * 7 * 3
    assert some["free"].sum() == 4 * 7
    # One of the four subjects has the blanket in the third take.
    assert some["head rest"].sum() == 4 * 7 * 2 - 7
    people = people_table(labels, by, some, samples=50)
    assert "| oracle | all | 1.00 (1.00 to 1.00) |" in people
    assert "0.00 (0.00 to 0.00) | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |" in people
    shown = expression_table(labels, by, some, samples=50)
    # Within one kind of take nothing is repeated unless it is at rest twice: no own templates.
    (free,) = [line for line in shown.splitlines() if line.startswith("| oracle | free")]
    assert free.rstrip().endswith("| – |")
    assert len(EXPRESSIONS) == 7
    assert "chance 0.14" in shown


def test_networks_see_takes_as_they_are_and_gated() -> None:
    """A far body, 15 dB brighter than the face, is taken away; the face is the brightest then."""
    axis = torch.linspace(-0.15, 0.15, 30)
    level, depth = torch.full((1, 30, 30), -15.0), torch.full((1, 30, 30), 0.3)
    level[:, :10], depth[:, :10] = 0.0, 0.4
    deep = RadarImage(level, depth, level > -45, axis, axis, torch.tensor([-45.0]))
    seen: list[RadarImage] = []

    class Watches(Knows):
        def predict(self, image: RadarImage) -> FaceParameters:
            seen.append(image)
            return self.truth

    network = Watches(FaceParameters.neutral(1, n_shape=10, n_expression=7))
    assert list(by_networks(deep, {"one": network})) == ["one", "one, gate"]
    assert all(float(image.dynamic_range_db) == -20.0 for image in seen)
    assert seen[0].mask.all()
    assert float(seen[0].amplitude_db[:, 10:].max()) == -15.0
    assert not seen[1].mask[:, :10].any()
    assert float(seen[1].amplitude_db[seen[1].mask].max()) == 0.0


def test_takes_without_a_fit_are_left_out() -> None:
    takes = campaign_takes()
    own = takes.truth.replace(shape=takes.truth.shape[:, :10].clone())
    own.shape[60:], own.expression[60:] = torch.nan, torch.nan
    found = predictions(takes, PLAN, {}, {"physical fit": own})
    assert found["coefficients"]["physical fit"]["shape"][60] is None
    assert found["vertex_mm"]["physical fit"][60] is None
    labels, by = read_predictions(found)
    shown = people_table(labels, by, {"all": np.ones(len(labels), dtype=bool)}, samples=20)
    assert "| physical fit | all | 1.00 (1.00 to 1.00) |" in shown


def test_vertex_errors_without_displacements_are_the_usual_distances() -> None:
    plan = PLAN.clean()
    cast = Cast.of(MODEL, plan)
    names = list(plan.names())[:3]
    truth = FaceParameters.cat([plan.face(cast, *name) for name in names])
    zero = truth.replace(shape=0 * truth.shape, expression=0 * truth.expression)
    takes = Takes(names, campaign_takes().images, truth, cast)
    found = predictions(takes, plan, {"zero": Knows(zero)})
    wanted = vertex_distances(MODEL, zero, truth).mean(1)
    assert np.allclose(found["vertex_mm"]["zero"], wanted, atol=1e-3)


def rows() -> list[dict[str, Any]]:
    """Faces of very different errors, to which faults add 0.5 and 0.1 mm."""
    draw = np.random.default_rng(0)
    found = []
    for n, base in enumerate(draw.uniform(1, 9, 12)):
        for fault, cost in (("none", 0.0), ("hair", 0.1), ("noise", 0.5)):
            error = base + cost + 0.01 * draw.normal() * (fault != "none")
            found.append(
                {
                    "subject": f"S{n}",
                    "expression": "smile",
                    "fault": fault,
                    "network": "encoder",
                    "vertex_mm": error,
                }
            )
    return found


def test_costs_are_paired_and_ordered() -> None:
    costs = fault_costs(rows(), "vertex_mm", samples=300)["encoder"]
    assert list(costs) == ["noise", "hair", "none"]
    error, added = costs["hair"]
    assert 0.08 < added.low < added.value < added.high < 0.12
    assert error.high - error.low > 1.0
    assert costs["none"][1].value == 0
    lines = fault_table(rows(), samples=50).splitlines()
    assert lines[0] == "| fault | encoder: error (mm) | added (mm) |"
    assert lines[2].startswith("| noise |")
