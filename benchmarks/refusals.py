"""How often bodies that are no faces are refused, and faces.

    python -m benchmarks.refusals --model procedural --other ict_face.h5 --count 25 --json FILE

Spheres, plates, hands and heads without features (:mod:`benchmarks.bodies`) and faces are recorded
by simulation, at random places, sizes, materials and with speckle of their own:

- faces of the fitted model and of ``--other``, with all modes of both at full width, in the range
  of poses that networks are trained with, and turned by up to 25 degrees of yaw and pitch; one face
  in four has a material factor below 0.1;
- heads with ears, hair, neck and shoulders before an imperfect instrument, as in the simulated
  campaign, but of a seed of their own and turned by up to 25 degrees in every third take.

Bodies and faces are smooth surfaces with one reflection, recorded by every second antenna of the
QAR50 and 24 steps; heads are recorded as the campaign's are. The table states how many are refused
(:mod:`radarbook.fitting.recognise`), with 95 % intervals of Wilson, and the seconds of one
decision. ``--tuning`` takes the samples that the statistics and the threshold are chosen on; with
``--statistics`` it prints the statistics of their faces' highlights instead. Each row is written as
it is finished; the same command continues. ``--scan`` states instead the figures of a scanned
face, a mesh in the radar frame in metres, from the front and turned.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from benchmarks.bodies import KINDS, body
from benchmarks.outside import read_surface, turned
from radarbook.datasets.campaign.plan import EXPRESSIONS, Campaign, Cast, Identity, Pose
from radarbook.datasets.campaign.scene import record
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.fitting import tuned
from radarbook.fitting.recognise import distance, highlights, like_a_hand, of_a_face
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.provenance import hardware
from radarbook.radar.array import Array, qar50
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import Waveform, qar50_waveform
from radarbook.threads import alone

#: First index of samples: those that statistics and threshold were chosen on, and the others.
TUNING, TEST = 500, 20_000
#: Share of the faces that the statistics leave out.
TRIMMED = 0.02
#: Yaw and pitch of a scan, degrees.
SCAN_TURNS = (
    (0.0, 0.0),
    (15.0, 0.0),
    (25.0, 0.0),
    (0.0, 15.0),
    (0.0, -15.0),
    (0.0, 25.0),
    (0.0, -25.0),
)
#: Half-widths of yaw, pitch and roll of turned faces, and of heads without a head rest, rad.
TURNED = (math.radians(25.0), math.radians(25.0), math.radians(10.0))


def recorder() -> tuple[Array, Waveform]:
    """Every second antenna of the QAR50, and 24 of its steps."""
    whole = qar50()
    return whole.replace(tx=whole.tx[::2], rx=whole.rx[::2]), qar50_waveform(24)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is recorded: a face of a model, turned or not, or a whole head with it."""

    model: MorphableModel
    turned: bool = False
    head: bool = False


def subjects(models: dict[str, MorphableModel]) -> dict[str, Subject]:
    """By the names of their kinds."""
    found = {f"face of {name}": Subject(model) for name, model in models.items()}
    found |= {f"turned face of {n}": Subject(m, turned=True) for n, m in models.items()}
    return found | {f"head of {n}": Subject(m, head=True) for n, m in models.items()}


def recorded(
    kind: str, index: int, known: dict[str, Subject], array: Array, waveform: Waveform
) -> tuple[Tensor, float, Array, Waveform]:
    """Signal (1, rx, tx, f) of one sample, its material factor, and what recorded it."""
    if kind in known and known[kind].head:
        return _head(known[kind].model, index)
    if kind in known:
        model = known[kind].model
        rough = (0.0, 0.1) if index % 4 == 0 else (0.0, 0.5)
        setting = ParameterDistribution(material=rough)
        if known[kind].turned:
            setting = setting.model_copy(update={"rotation": TURNED})
        face = random_parameters([index], 0, model.n_shape, model.n_expression, config=setting)
        vertices = to_radar(model, face.to(dtype=torch.float64), 0.30)[0].double()
        triangles, material, seed = model.triangles, float(face.material[0]), index
        size = float(face.antenna_size[0])
    else:
        one = body(kind, index)
        vertices, triangles = one.vertices, one.triangles
        material, size, seed = one.material, one.antenna_size, one.seed
    signal = mesh_signal(
        vertices.float(),
        triangles,
        array,
        waveform,
        material=material,
        antenna_size=size,
        surface=SmoothSurface.of(vertices, triangles),
        seed=seed,
    )
    return signal[None], material, array, waveform


def _head(model: MorphableModel, index: int) -> tuple[Tensor, float, Array, Waveform]:
    """One subject of a campaign that no other campaign shares, in one expression and take."""
    campaign = Campaign(
        seed=20_261,
        identity=Identity(material=(0.0, 0.4)),
        pose=Pose(turned_turn=TURNED),
        blanket=None,
    )
    cast = _cast(model, campaign)
    names = list(EXPRESSIONS)
    expression, take = names[index % len(names)], index % 3
    recording = record(campaign, cast, index, expression, take)
    rough = float(campaign.face(cast, index, expression, take).material[0])
    return recording.signal[None], rough, recording.array, recording.waveform


def scanned(path: str, fitted: MorphableModel, array: Array, waveform: Waveform) -> str:
    """A line for each orientation and material of a scan without speckle and with."""
    vertices, triangles = read_surface(path)
    renderer = physical_renderer(fitted, array, waveform, 0.30, bounces=1)
    lines = ["yaw pitch  material  distance  hand  refused"]
    for material in (0.0, 0.2):
        for turn in SCAN_TURNS:
            points = turned(vertices, turn, vertices.mean(0))
            signal = mesh_signal(
                points.float(),
                triangles,
                array,
                waveform,
                material=material,
                antenna_size=2e-3,
                surface=SmoothSurface.of(points, triangles),
                seed=0,
            )
            found = highlights(signal[None], renderer)
            assert found is not None
            lines.append(
                f"{turn[0]:3.0f} {turn[1]:5.0f}  {material:8.1f}  {found.distance:8.1f}  "
                f"{found.like_a_hand:+.1f}  {not found.of_a_face}"
            )
    return "\n".join(lines)


_CASTS: dict[str, Cast] = {}


def _cast(model: MorphableModel, campaign: Campaign) -> Cast:
    if model.name not in _CASTS:
        _CASTS[model.name] = Cast.of(model, campaign)
    return _CASTS[model.name]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per kind."""
    lines = [
        f"{'kind':<24}{'samples':>8}{'refused':>9}{'share':>8}  95 % interval   distances; hand"
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        refused = sum(row["refused"] for row in mine)
        between = binomtest(refused, len(mine)).proportion_ci(method="wilson")
        distances = sorted(row["distance"] for row in mine)
        hands = sorted(row["hand"] for row in mine)
        lines.append(
            f"{kind:<24}{len(mine):>8}{refused:>9}{refused / len(mine):>8.0%}  "
            f"{between.low:.0%} to {between.high:.0%}".ljust(66)
            + f"{distances[0]:.0f} to {distances[-1]:.0f}, "
            f"median {distances[len(distances) // 2]:.0f}; {hands[0]:+.1f} to {hands[-1]:+.1f}"
        )
    seconds = sorted(row["seconds"] for row in rows)
    lines.append(f"seconds of one decision: median {seconds[len(seconds) // 2]:.1f}")
    return "\n".join(lines)


def trimmed(every: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (K,) and covariance (K, K) of vectors (N, K), without those farthest from the others."""
    found = every
    for _ in range(4):
        far = squared(every, found.mean(0), torch.cov(found.T))
        found = every[far <= far.quantile(1 - TRIMMED)]
    return found.mean(0), torch.cov(found.T)


def squared(vectors: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """(N,) squared Mahalanobis distances of vectors (N, K)."""
    apart = vectors - mean
    return torch.einsum("nk,kl,nl->n", apart, torch.linalg.inv(covariance), apart)


def discriminant(mean: Tensor, covariance: Tensor, others: Tensor) -> tuple[Tensor, float]:
    """Slope (K,) and offset of Fisher's linear discriminant between faces of a mean and covariance
    and ``others`` (N, K), with the mean of both covariances."""
    apart = others.mean(0) - mean
    slope = torch.linalg.solve((covariance + torch.cov(others.T)) / 2, apart)
    slope = slope / (slope @ apart).sqrt()
    return slope, float(slope @ (others.mean(0) + mean) / 2)


def statistics(rows: Sequence[dict[str, Any]]) -> str:
    """What the library has of the faces: mean and root of the inverse covariance, without those
    farthest from the others; and of the hands: the discriminant from faces. Below it how many of
    these samples would be refused, each left out of the statistics in turn."""
    vectors = torch.tensor([row["highlights"] for row in rows], dtype=torch.float64)
    faces = torch.tensor([row["kind"] not in KINDS for row in rows])
    hands = torch.tensor([row["kind"] == "hand" for row in rows])

    def found(kept: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        mean, covariance = trimmed(vectors[faces & kept])
        return mean, covariance, *discriminant(mean, covariance, vectors[hands & kept])

    every = torch.ones(len(rows), dtype=torch.bool)
    mean, covariance, slope, offset = found(every)
    root = torch.linalg.cholesky(torch.linalg.inv(covariance), upper=True)
    lines = [
        f"{int(faces.sum())} faces, {int(hands.sum())} hands",
        str([round(v, 4) for v in mean.tolist()]),
        str([[round(v, 3) for v in row] for row in root.tolist()]),
        f"{[round(v, 4) for v in slope.tolist()]}, {offset:.4f}",
    ]
    for n, row in enumerate(rows):
        one = every.clone()
        one[n] = False
        mean, covariance, slope, offset = found(one)
        row["distance"] = float(squared(vectors[n : n + 1], mean, covariance)[0])
        row["hand"] = float(slope @ vectors[n]) - offset
        near = row["distance"] < tuned.NO_FACE_HIGHLIGHTS
        row["refused"] = not (near and row["hand"] < tuned.HAND_HIGHLIGHTS_LIMIT)
    return "\n".join([*lines, table(rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="procedural", help="whose faces are fitted")
    parser.add_argument("--other", help="another model, whose faces are targets, too")
    parser.add_argument("--count", type=int, default=100, help="samples of each kind")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--statistics", action="store_true")
    parser.add_argument("--only", nargs="+", help="some kinds")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--scan", help="a mesh whose figures are stated instead")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    array, waveform = recorder()
    if chosen.scan:
        with torch.no_grad(), alone():
            print(scanned(chosen.scan, load_model(chosen.model), array, waveform))
        return
    names = [chosen.model] + ([chosen.other] if chosen.other else [])
    known = subjects({Path(name).stem: load_model(name, *held_modes(name)) for name in names})
    fitted = load_model(chosen.model)
    first = TUNING if chosen.tuning else TEST
    settings = {"model": Path(chosen.model).stem, "first": first, "hardware": hardware()}
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.exists():
        rows = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"]
    done = {(row["kind"], row["index"]) for row in rows}
    end = time.perf_counter() + chosen.seconds
    for index in range(first, first + chosen.count):
        for kind in chosen.only or [*KINDS, *known]:
            if (kind, index) in done or time.perf_counter() > end:
                continue
            with torch.no_grad(), alone():
                signal, material, its, steps = recorded(kind, index, known, array, waveform)
                renderer = physical_renderer(fitted, its, steps, 0.30, bounces=1)
                began = time.perf_counter()
                found = highlights(signal, renderer)
                assert found is not None
            rows.append(
                {
                    "kind": kind,
                    "index": index,
                    "material": round(material, 3),
                    "distance": round(found.distance, 2),
                    "hand": round(found.like_a_hand, 2),
                    "highlights": [round(v, 4) for v in found.vector().tolist()],
                    "refused": not found.of_a_face,
                    "seconds": round(time.perf_counter() - began, 2),
                }
            )
            if chosen.json:
                write_json(chosen.json, {"settings": settings, "rows": rows})
    if chosen.statistics:
        print(statistics(rows))
    else:
        for row in rows:
            vector = torch.tensor(row["highlights"], dtype=torch.float64)
            row["distance"], row["hand"] = distance(vector), like_a_hand(vector)
            row["refused"] = not of_a_face(vector)
        print(table(rows))


if __name__ == "__main__":
    main()
