"""What each fault of a recording costs networks, one at a time and all together.

    python -m benchmarks.faults --json data/results/campaign_faults_procedural.json

People, expressions and poses are those of the simulated campaign
(:mod:`radarbook.datasets.campaign.plan`), in its head rest. ``none`` are faces of the model before
a perfect radar; then each fault alone, all of them without the blanket, and all. Here every
subject meets an instrument of its own errors, so that intervals by person hold these as well, and
the blanket covers everybody. Networks see images as they are and, as ``NAME, gate``, through the
gate around the face. Rows are written as they are finished; an interrupted run continues.
Errors: mean squares of shape and expression coefficients, mean vertex distance without pose,
displacements included, and distance of the translation.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from radarbook.datasets.campaign.folder import Takes, take_image
from radarbook.datasets.campaign.plan import EXPRESSIONS, FAULTS, Campaign, Cast
from radarbook.datasets.campaign.scene import record, subject_name
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.files import write_json
from radarbook.profiles import get_profile
from radarbook.provenance import hardware
from radarbook.radar.renderer import Predictor
from radarbook.reports.campaign import by_networks, fault_table, vertex_errors
from radarbook.threads import alone
from radarbook.training.checkpoints import load_predictor, shipped_path

NETWORKS = ("encoder", "autoencoder")
CONDITIONS = ("none", *FAULTS, "all but the blanket", "all")


def campaign_of(condition: str, base: Campaign) -> Campaign:
    """The campaign of one of :data:`CONDITIONS`."""
    if condition == "none":
        return base.clean()
    if condition == "all":
        return base
    return replace(base, blanket=None) if condition.startswith("all but") else base.only(condition)


def base_campaign(subjects: int) -> Campaign:
    """Own instruments and a blanket for everybody."""
    plan = Campaign(subjects=subjects, takes=1)
    assert plan.blanket is not None
    return replace(
        plan,
        instrument=replace(plan.instrument, each=True),
        blanket=replace(plan.blanket, every=1, take=0),
    )


def measured(
    condition: str,
    base: Campaign,
    casts: Mapping[bool, Cast],
    networks: Mapping[str, Predictor],
    subject: int,
    expression: str,
) -> list[dict[str, Any]]:
    """A row for each network without and with the gate, of one take."""
    plan = campaign_of(condition, base)
    cast = casts[plan.identity.displacements is not None]
    with alone(divided=1):
        image = take_image(record(plan, cast, subject, expression, 0), get_profile("laptop"))
    truth = plan.face(cast, subject, expression, 0)
    takes = Takes([(subject, expression, 0)], image, truth, cast)
    rows = []
    for name, found in by_networks(image, networks).items():
        errors = {
            "shape_l2": (found.shape - truth.shape[:, : cast.own]).square().mean(),
            "expression_l2": (found.expression - truth.expression).square().mean(),
            "vertex_mm": vertex_errors(takes, found)[0],
            "translation_mm": 1e3 * (found.translation - truth.translation).norm(),
        }
        rows.append(
            {
                "subject": subject_name(subject),
                "expression": expression,
                "fault": condition,
                "network": name,
                **{key: round(float(value), 3) for key, value in errors.items()},
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--expressions", nargs="+", choices=tuple(EXPRESSIONS), default=["smile"])
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    base = base_campaign(chosen.subjects)
    about: dict[str, Any] = {"campaign": base.settings(), "hardware": hardware(), "rows": []}
    if chosen.json.exists():
        kept = json.loads(chosen.json.read_text(encoding="utf-8"))
        if kept["campaign"] != json.loads(json.dumps(about["campaign"])):
            raise InputError(f"{chosen.json}: of another campaign; use a new file")
        about = kept
    model = load_model("procedural")
    casts = {True: Cast.of(model, base), False: Cast.of(model, base.clean())}
    networks = {name: load_predictor(shipped_path(name)) for name in NETWORKS}
    done = {(row["fault"], row["subject"], row["expression"]) for row in about["rows"]}
    for expression in chosen.expressions:
        for subject in range(chosen.subjects):
            for condition in CONDITIONS:
                if (condition, subject_name(subject), expression) not in done:
                    about["rows"] += measured(condition, base, casts, networks, subject, expression)
                    write_json(chosen.json, about)
            print(f"{expression}, {subject_name(subject)}", flush=True)
    print(fault_table(about["rows"]))


if __name__ == "__main__":
    main()
