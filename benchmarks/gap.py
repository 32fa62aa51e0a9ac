"""The gap between bare faces and takes of the campaign, and what closes it.

    python -m benchmarks.gap --json data/results/campaign_gap_procedural.json

Everything is made in ``--folder`` and kept, so that an interrupted run continues: scenes for
training (:mod:`radarbook.training.scenes`), images of the campaign's takes and of its single faults
(:mod:`benchmarks.faults`), and the networks:

* ``randomised``: the shipped encoder, trained further on mixed scenes; ``gated randomised`` the
  same on gated images;
* ``adapted``: each of two halves of the people is predicted by a network that has seen the other
  half's takes without their truth, with the contrast between takes, the image loss, or both;
* ``matched``: amplitudes of takes mapped to the statistics of the training images;
* ``optimised``: 60 steps through the learned renderer from the adapted prediction.

The gate's numbers were chosen before, on scenes alone, by

    python -m benchmarks.gap --tune

Errors are mean vertex distances without pose, displacements included, with 95 % intervals by
person.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.faults import CONDITIONS, base_campaign, campaign_of
from radarbook.datasets.campaign.folder import Name, Takes, file_name, joined, take_image
from radarbook.datasets.campaign.plan import EXPRESSIONS, Campaign, Cast
from radarbook.datasets.campaign.scene import record, subject_name
from radarbook.datasets.distribution import random_parameters
from radarbook.evaluation.campaign import Labels, agreement, expressions
from radarbook.evaluation.metrics import vertex_distances
from radarbook.evaluation.verification import Interval
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.fitting.learned import reconstruct_through_learned
from radarbook.networks.encoder import Encoder
from radarbook.profiles import get_profile
from radarbook.provenance import hardware
from radarbook.radar.face_gate import FaceGate, seen_by_networks
from radarbook.radar.image import RadarImage, load_image, save_image
from radarbook.radar.renderer import Predictor
from radarbook.reports.campaign import fault_table, gap_table, optimised_table, vertex_errors
from radarbook.threads import alone
from radarbook.training.adaptation import AmplitudeMatch, adapt_encoder
from radarbook.training.checkpoints import load_encoder, load_renderer, shipped_path
from radarbook.training.data import ResidentSamples
from radarbook.training.facts import ModelFacts
from radarbook.training.loop import Settings
from radarbook.training.scenes import Scenes, TrainingFaces, make_scenes
from radarbook.training.tasks import EVALUATION_DB, fine_tune_encoder

#: What a gate may be: tried on scenes for training by ``--tune``.
GATES = [
    FaceGate(share, 0.03, behind, half)
    for share, behind, half in itertools.product(
        (0.02, 0.05, 0.1, 0.2),
        (0.03, 0.04, 0.05, 0.06),
        ((0.08, 0.11), (0.09, 0.12), (0.10, 0.13)),
    )
]
PROFILE = get_profile("laptop")
#: Mixed scenes, and faces of the learned renderer among scenes, in a training set.
MIXED, IMAGINED = 2000, 2000
SETTINGS = Settings(12, 32, 5e-4)
ADAPTING = Settings(60, 32, 2e-4)
#: (image loss, contrast) of each adaptation.
ADAPTATIONS = {"contrast": (0.0, 0.1), "image loss": (3.0, 0.0), "both": (3.0, 0.1)}


# -- images --------------------------------------------------------------------------------------


def made(path: Path, plan: Campaign, cast: Cast, name: Name) -> RadarImage:
    """The image of a take down to :data:`DEEP_DB`, from its file once there is one."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(divided=1):
            save_image(path, take_image(record(plan, cast, *name), PROFILE))
    return load_image(path)


def takes_of(
    folder: Path, plan: Campaign, model: MorphableModel, names: Iterable[Name], minutes: float
) -> Takes:
    """Images and truth of takes, those that are missing made first, as many as the time allows."""
    cast, began = Cast.of(model, plan), time.monotonic()
    kept, images = [], []
    for name in names:
        path = folder / f"{file_name(name)}.h5"
        if path.exists() or time.monotonic() - began < 60 * minutes:
            images.append(made(path, plan, cast, name))
            kept.append(name)
    truth = FaceParameters.cat([plan.face(cast, *name) for name in kept])
    return Takes(kept, joined(images), truth, cast)


# -- training sets -------------------------------------------------------------------------------


def training_set(
    scenes: Scenes, gate: FaceGate | None, seed: int
) -> tuple[ResidentSamples, ResidentSamples]:
    """Training and validation samples: every tenth scene is for validation, as it is and bare.

    Training has scenes with other people's surroundings, faces of the learned renderer in scenes,
    and bare faces of both kinds.
    """
    held = torch.arange(len(scenes)) % 10 == 0
    train, validation = scenes.part(~held), scenes.part(held)
    generator = torch.Generator().manual_seed(seed)
    parts = [train.mixed(MIXED, generator), (train.parameters, train.bare())]
    learned = load_renderer(shipped_path("renderer"))
    modes = train.parameters.shape.shape[1], train.parameters.expression.shape[1]
    faces = random_parameters(range(IMAGINED), seed, *modes)
    deep = faces.rendering.clone()
    deep[:, 0] = -30.0
    with torch.no_grad():
        for some in torch.arange(IMAGINED).split(400):
            images = learned.render(faces.replace(rendering=deep)[some])
            parts.append(train.around(faces[some], images, generator))
            parts.append((faces[some[::4]], images[::4]))
    whole = [
        (validation.parameters, validation.whole()),
        (validation.parameters, validation.bare()),
    ]
    about = [len(scenes), seed, MIXED, IMAGINED, None if gate is None else repr(gate)]
    return samples(parts, gate, about), samples(whole, gate, about)


def samples(
    parts: Sequence[tuple[FaceParameters, RadarImage]], gate: FaceGate | None, about: Any
) -> ResidentSamples:
    """All parts as one data set."""
    images = joined([image for _, image in parts])
    return ResidentSamples(
        FaceParameters.cat([faces for faces, _ in parts]), gated(images, gate), about
    )


def gated(images: RadarImage, gate: FaceGate | None) -> RadarImage:
    """Images through a gate, or as they are."""
    return images if gate is None else gate(images)


# -- the gate's numbers --------------------------------------------------------------------------


def tune(scenes: Scenes, model: MorphableModel) -> list[dict[str, Any]]:
    """The shipped encoder's error on scenes and on bare faces by gate, best first."""
    encoder = load_encoder(shipped_path("encoder"))
    kinds = {"scenes": scenes.whole(), "bare": scenes.bare()}
    rows = []
    for gate in (None, *GATES):
        row: dict[str, Any] = {"gate": repr(gate)}
        for kind, images in kinds.items():
            found = encoder.predict(seen_by_networks(images, gate))
            row[kind] = float(vertex_distances(model, found, scenes.parameters).mean())
        rows.append(row)
    return sorted(rows, key=lambda row: row["scenes"] + row["bare"])


# -- networks ------------------------------------------------------------------------------------


def halves(takes: Takes) -> list[tuple[Tensor, Tensor]]:
    """Takes to adapt to and takes to predict: of odd and even people, and the reverse."""
    odd = torch.tensor([subject % 2 for subject, _, _ in takes.names], dtype=torch.bool)
    return [
        (odd.nonzero()[:, 0], (~odd).nonzero()[:, 0]),
        ((~odd).nonzero()[:, 0], odd.nonzero()[:, 0]),
    ]


def adapted(
    encoder: Encoder,
    takes: Takes,
    images: RadarImage,
    sets: tuple[ResidentSamples, ResidentSamples],
    weights: tuple[float, float],
    folder: Path,
    model: MorphableModel,
) -> tuple[list[Encoder], float]:
    """A network for each of the two halves, and the seconds of both trainings."""
    seconds = 0.0
    person = torch.tensor([subject for subject, _, _ in takes.names])
    networks = []
    for number, (some, _) in enumerate(halves(takes)):
        network, history = adapt_encoder(
            encoder,
            load_renderer(shipped_path("renderer")),
            *sets,
            images[some],
            person[some],
            ADAPTING,
            folder / f"half {number}",
            facts=ModelFacts.of(model),
            image_weight=weights[0],
            contrast_weight=weights[1],
        )
        networks.append(network)
        seconds += sum(history.column("seconds"))
    return networks, seconds


def by_half(networks: Sequence[Encoder], takes: Takes, images: RadarImage) -> FaceParameters:
    """Each half predicted by the network that has not seen it."""
    found: list[FaceParameters | None] = [None] * len(takes.names)
    for network, (_, held) in zip(networks, halves(takes), strict=True):
        some = network.predict(images[held])
        for n, index in enumerate(held.tolist()):
            found[index] = some[n : n + 1]
    return FaceParameters.cat([one for one in found if one is not None])


# -- results -------------------------------------------------------------------------------------


class Results:
    """Vertex errors by method and take, and what was measured once; written as they come."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, about
        if path.exists():
            kept = json.loads(path.read_text(encoding="utf-8"))
            same = all(kept.get(key) == json.loads(json.dumps(v)) for key, v in about.items())
            self.about = kept if same else about | {"hardware": hardware()}
        else:
            self.about = about | {"hardware": hardware()}
        self.about.setdefault("methods", {})

    def has(self, method: str) -> bool:
        """Whether a method is measured."""
        return method in self.about["methods"]

    def add(self, method: str, takes: Takes, found: FaceParameters, **more: Any) -> None:
        """One method's errors and what its coefficients say of people; ``more`` is kept too."""
        errors = vertex_errors(takes, found).tolist()
        own = takes.truth.shape[:, : takes.cast.own]
        labels = labels_of(takes)
        people = agreement(found.shape.numpy(), labels)
        shown = expressions(found.expression.numpy(), labels)
        self.about["methods"][method] = {
            "vertex_mm": [round(float(v), 3) for v in errors],
            "shape_l2": round(float((found.shape - own).square().mean()), 3),
            "people": {key: rounded(people[key]) for key in ("nearer", "equal_error", "rank_one")},
            "expressions": {key: rounded(shown[key]) for key in ("general", "own")},
            **more,
        }
        print(f"{method}: {np.mean(errors):.2f} mm", flush=True)
        write_json(self.path, self.about)


def rounded(value: Interval | None) -> list[float] | None:
    """Value, low and high."""
    return None if value is None else value.rounded(3)


def labels_of(takes: Takes) -> Labels:
    """Who shows what."""
    return Labels.of(
        [subject_name(subject) for subject, _, _ in takes.names],
        [expression for _, expression, _ in takes.names],
        [take for _, _, take in takes.names],
    )


def fault_rows(
    folder: Path,
    subjects: int,
    conditions: Sequence[str],
    model: MorphableModel,
    networks: Mapping[str, tuple[Predictor, FaceGate | None]],
    minutes: float,
) -> list[dict[str, Any]]:
    """Vertex errors of each network under each fault, one smile of each person."""
    base = base_campaign(subjects)
    rows: list[dict[str, Any]] = []
    for condition in conditions:
        plan = campaign_of(condition, base)
        names = [(subject, "smile", 0) for subject in range(subjects)]
        missing = not all((folder / condition / f"{file_name(n)}.h5").exists() for n in names)
        if missing and minutes <= 0:
            continue
        began = time.monotonic()
        takes = takes_of(folder / condition, plan, model, names, 1e9)
        minutes -= (time.monotonic() - began) / 60
        for name, (network, gate) in networks.items():
            errors = vertex_errors(takes, network.predict(seen_by_networks(takes.images, gate)))
            rows += [
                {
                    "subject": subject_name(subject),
                    "expression": "smile",
                    "fault": condition,
                    "network": name,
                    "vertex_mm": round(float(error), 3),
                }
                for (subject, _, _), error in zip(takes.names, errors, strict=True)
            ]
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("build/gap"))
    parser.add_argument("--scenes", type=int, default=200, help="scenes for training")
    parser.add_argument("--subjects", type=int, default=12)
    parser.add_argument("--takes", type=int, default=3)
    parser.add_argument("--expressions", nargs="+", choices=tuple(EXPRESSIONS), default=None)
    parser.add_argument("--faults", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--minutes", type=float, default=1e9, help="of each simulation")
    parser.add_argument("--tune", action="store_true", help="the gate's numbers alone")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    model = load_model("procedural")
    faces, folder = TrainingFaces(subjects=chosen.scenes), chosen.folder
    began = time.monotonic()
    for number in make_scenes(folder / "scenes", faces, model, PROFILE):
        print(f"scene {number}", flush=True)
        if time.monotonic() - began > 60 * chosen.minutes:
            break
    scenes = Scenes.read(folder / "scenes", faces, model, PROFILE)
    if chosen.tune:
        for row in tune(scenes, model):
            print(f"{row['scenes']:.3f} {row['bare']:.3f} {row['gate']}")
        return
    if chosen.json is None:
        parser.error("--json: expected a file for the results, found none")
    plan = Campaign(subjects=chosen.subjects, takes=chosen.takes)
    wanted = chosen.expressions or list(EXPRESSIONS)
    names = [name for name in plan.names() if name[1] in wanted]
    takes = takes_of(folder / "takes", plan, model, names, chosen.minutes)
    gate, shipped = FaceGate(), load_encoder(shipped_path("encoder"))
    results = Results(
        chosen.json,
        {
            "campaign": plan.settings(),
            "takes": [file_name(name) for name in takes.names],
            "scenes": len(scenes),
            "training": {"mixed": MIXED, "imagined": IMAGINED, "settings": asdict(SETTINGS)},
            "gate": repr(gate),
        },
    )
    images = {
        True: seen_by_networks(takes.images, gate),
        False: seen_by_networks(takes.images, None),
    }

    def measured(method: str, find: Callable[[], FaceParameters], **more: Any) -> None:
        if not results.has(method):
            results.add(method, takes, find(), **more)

    own = takes.truth.replace(shape=0 * takes.truth.shape[:, : takes.cast.own])
    measured("mean face", lambda: own.replace(expression=0 * own.expression))
    measured("shipped", lambda: shipped.predict(images[False]))
    measured("shipped, gate", lambda: shipped.predict(images[True]))
    networks: dict[str, tuple[Predictor, FaceGate | None]] = {
        "shipped": (shipped, None),
        "shipped, gate": (shipped, gate),
    }

    def randomised(with_gate: bool) -> tuple[Encoder, tuple[ResidentSamples, ResidentSamples]]:
        method = "randomised, gate" if with_gate else "randomised"
        sets = training_set(scenes, gate if with_gate else None, faces.seed)
        network, history = fine_tune_encoder(
            shipped, *sets, SETTINGS, folder / f"{method}, {len(scenes)} scenes", model=model
        )
        networks[method] = network, gate if with_gate else None
        seconds = round(sum(history.column("seconds")), 1)
        measured(method, lambda: network.predict(images[with_gate]), seconds=seconds)
        return network, sets

    trained, sets = randomised(True)
    randomised(False)
    match = matching(sets[0], images[True])
    measured("shipped, gate, matched", lambda: shipped.predict(match(images[True])))
    measured("randomised, gate, matched", lambda: trained.predict(match(images[True])))
    for name, weights in ADAPTATIONS.items():
        method = f"adapted, {name}"
        place = folder / f"{method}, {len(takes.names)} takes, {len(scenes)} scenes"
        pair, seconds = adapted(trained, takes, images[True], sets, weights, place, model)
        measured(
            method,
            lambda pair=pair: by_half(pair, takes, images[True]),  # type: ignore[misc]
            seconds=round(seconds, 1),
        )
    optimised(results, takes, images[True], pair)
    results.about["faults"] = fault_rows(
        folder / "faults", chosen.subjects, chosen.faults, model, networks, chosen.minutes
    )
    write_json(chosen.json, results.about)
    print(gap_table(results.about))
    print(optimised_table(results.about["optimised"]))
    if results.about["faults"]:
        print(fault_table(results.about["faults"]))


def matching(source: ResidentSamples, images: RadarImage) -> AmplitudeMatch:
    """From the takes' amplitudes to those of the training images, both as networks see them."""
    return AmplitudeMatch.of(images, source.image.with_dynamic_range(EVALUATION_DB))


def optimised(
    results: Results, takes: Takes, images: RadarImage, networks: Sequence[Encoder]
) -> None:
    """Smiles in the head rest through the learned renderer, from what adapted networks predict."""
    if "optimised" in results.about:
        return
    learned, rows = load_renderer(shipped_path("renderer")), []
    for network, (_, held) in zip(networks, halves(takes), strict=True):
        for n in held.tolist():
            name = takes.names[n]
            if name[1] != "smile" or name[2] != 0:
                continue
            began = time.perf_counter()
            found = reconstruct_through_learned(images[n], network, learned, 60)
            seconds = round(time.perf_counter() - began, 1)
            one = Takes([name], images[n], takes.truth[n : n + 1], takes.cast)
            faces = found.at(0), found.parameters
            both = [float(vertex_errors(one, face.to(dtype=torch.float32))[0]) for face in faces]
            before, after = (round(value, 3) for value in both)
            rows.append(
                {
                    "take": file_name(name),
                    "before_mm": before,
                    "after_mm": after,
                    "seconds": seconds,
                }
            )
    results.about["optimised"] = rows
    write_json(results.path, results.about)


if __name__ == "__main__":
    main()
