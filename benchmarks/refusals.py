"""How often bodies that are no faces are refused, and faces.

    python -m benchmarks.refusals --model procedural --other ict_face.h5 --count 100 --json FILE

Spheres, plates, hands and heads without features (:mod:`benchmarks.bodies`) and faces, those of
the fitted model and those of ``--other`` with all modes of both at full width, at random places,
sizes, tilts, materials and with speckle of their own, are simulated for the QAR50 (every second of
its antennas and 24 steps of its band) as smooth surfaces with one reflection. The table states how
many are refused (:mod:`radarbook.fitting.recognise`), with 95 % intervals of Wilson, and the
seconds of one decision. ``--tuning`` takes the samples that the threshold was chosen on; with
``--statistics`` it prints the mean and the root of the inverse covariance of their faces'
highlights instead. Each row is written as it is finished; the same command continues.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor

from benchmarks.bodies import KINDS, body
from radarbook.datasets.distribution import random_parameters
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.fitting import tuned
from radarbook.fitting.recognise import distance, highlights
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.provenance import hardware
from radarbook.radar.array import Array, qar50
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import Waveform, qar50_waveform
from radarbook.threads import alone

#: First index of samples: those that the threshold was chosen on, and the others.
TUNING, TEST = 500, 10_000
#: Share of the faces that the statistics leave out.
TRIMMED = 0.05


def recorder() -> tuple[Array, Waveform]:
    """Every second antenna of the QAR50, and 24 of its steps."""
    whole = qar50()
    return whole.replace(tx=whole.tx[::2], rx=whole.rx[::2]), qar50_waveform(24)


def recorded(
    kind: str, index: int, models: dict[str, MorphableModel], array: Array, waveform: Waveform
) -> tuple[Tensor, float]:
    """Signal (1, rx, tx, f) of one sample, and its material factor."""
    if kind in models:
        model = models[kind]
        face = random_parameters([index], 0, model.n_shape, model.n_expression)
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
    return signal[None], material


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per kind."""
    lines = [f"{'kind':<24}{'samples':>8}{'refused':>9}{'share':>8}  95 % interval   distances"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = [row for row in rows if row["kind"] == kind]
        refused = sum(row["refused"] for row in mine)
        between = binomtest(refused, len(mine)).proportion_ci(method="wilson")
        distances = sorted(row["distance"] for row in mine)
        lines.append(
            f"{kind:<24}{len(mine):>8}{refused:>9}{refused / len(mine):>8.0%}  "
            f"{between.low:.0%} to {between.high:.0%}".ljust(66)
            + f"{distances[0]:.0f} to {distances[-1]:.0f}, "
            f"median {distances[len(distances) // 2]:.0f}"
        )
    seconds = sorted(row["seconds"] for row in rows)
    lines.append(f"seconds of one decision: median {seconds[len(seconds) // 2]:.1f}")
    return "\n".join(lines)


def statistics(rows: Sequence[dict[str, Any]]) -> str:
    """Mean and root of the inverse covariance of the faces, as the library has them; without the
    twentieth of them that is farthest from the others."""
    faces = [row["highlights"] for row in rows if row["kind"] not in KINDS]
    every = torch.tensor(faces, dtype=torch.float64)
    found = every
    for _ in range(4):
        apart = every - found.mean(0)
        far = torch.einsum("nk,kl,nl->n", apart, torch.linalg.inv(torch.cov(found.T)), apart)
        found = every[far <= far.quantile(1 - TRIMMED)]
    root = torch.linalg.cholesky(torch.linalg.inv(torch.cov(found.T)), upper=True)
    mean = [round(v, 4) for v in found.mean(0).tolist()]
    return f"{len(faces)} faces\n{mean}\n{[[round(v, 3) for v in r] for r in root.tolist()]}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="procedural", help="whose faces are fitted")
    parser.add_argument("--other", help="another model, whose faces are targets, too")
    parser.add_argument("--count", type=int, default=100, help="samples of each kind")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--statistics", action="store_true")
    parser.add_argument("--only", nargs="+", help="some kinds")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end after so many")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    array, waveform = recorder()
    model = load_model(chosen.model)
    renderer = physical_renderer(model, array, waveform, 0.30, bounces=1)
    names = [chosen.model] + ([chosen.other] if chosen.other else [])
    models = {f"face of {Path(name).stem}": load_model(name, *held_modes(name)) for name in names}
    first = TUNING if chosen.tuning else TEST
    settings = {"model": Path(chosen.model).stem, "first": first, "hardware": hardware()}
    rows: list[dict[str, Any]] = []
    if chosen.json and chosen.json.exists():
        rows = json.loads(chosen.json.read_text(encoding="utf-8"))["rows"]
    done = {(row["kind"], row["index"]) for row in rows}
    end = time.perf_counter() + chosen.seconds
    for index in range(first, first + chosen.count):
        for kind in chosen.only or [*KINDS, *models]:
            if (kind, index) in done or time.perf_counter() > end:
                continue
            with torch.no_grad(), alone():
                signal, material = recorded(kind, index, models, array, waveform)
                began = time.perf_counter()
                found = highlights(signal, renderer)
                assert found is not None
            rows.append(
                {
                    "kind": kind,
                    "index": index,
                    "material": round(material, 3),
                    "distance": round(found.distance, 2),
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
            row["distance"] = distance(torch.tensor(row["highlights"], dtype=torch.float64))
            row["refused"] = row["distance"] >= tuned.NO_FACE_HIGHLIGHTS
        print(table(rows))


if __name__ == "__main__":
    main()
