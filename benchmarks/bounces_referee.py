"""Two reflections beside the independent referee's double integral: power and coherence.

    python -m benchmarks.bounces_referee --scene SCENE --spacing 1.6e-3 --json FILE

SCENE is ``ball-and-plate``, ``procedural`` or a model's file, whose mean face stands at 0.30 m.
One frequency, every eighth antenna of the QAR50, smooth skin, both polarisations.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bounces import coherence
from benchmarks.referee import Body, Referee
from benchmarks.referee.faces import smooth_face
from benchmarks.referee.surface import Shape, ellipsoid
from benchmarks.referee.surface import plate as smooth_plate
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.provenance import hardware
from radarbook.radar.array import qar50
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.meshes import SceneMesh, join, plate, sphere
from radarbook.radar.polarisation import Polarisation
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform

POLARISATIONS = {"vertical": Polarisation.linear(90), "horizontal": Polarisation.linear(0)}
FREQUENCY = 77e9


def ball_and_plate() -> tuple[SceneMesh, list[Shape]]:
    """A ball of 30 mm and, at 45° next to it, a plate of 60 mm."""
    radius, side, root = 0.015, 0.06, 0.5**0.5
    ball, place = (0.0, 0.0, 0.30), (0.035, 0.0, 0.30)
    mesh = join(sphere(ball, radius, 1.5e-3), plate(place, side, side, 2e-3, tilt=(np.pi / 4, 0.0)))
    mirror = smooth_plate(
        np.array(place), side * np.array([-root, 0.0, root]), np.array([0.0, side, 0.0])
    )
    return mesh, [ellipsoid(np.array(ball), np.full(3, radius)), mirror]


def scene_of(name: str) -> tuple[SceneMesh, list[Shape]]:
    """Mesh and smooth surfaces of the same bodies."""
    if name == "ball-and-plate":
        return ball_and_plate()
    model = load_model(name)
    face = FaceParameters.neutral(1)
    mesh = to_radar(model, face, 0.30)[0].double(), model.triangles
    return mesh, [smooth_face(model, face, 0.30)]


def measure(scene: str, spacing: float, patch_size: float) -> dict[str, Any]:
    """Figures of both polarisations."""
    mesh, shapes = scene_of(scene)
    every = torch.arange(0, 94, 8)
    array = qar50().subset(tx=every, rx=every)
    waveform = Waveform(torch.tensor([FREQUENCY], dtype=torch.float64))
    seen = visibility(*mesh, array)
    once = simulate(*mesh, array, waveform, visibility=seen, material=0.0)
    result: dict[str, Any] = {"scene": scene, "spacing": spacing, "patch_size": patch_size}
    bodies = [Body(shape, material=0.0) for shape in shapes]
    for name, polarisation in POLARISATIONS.items():
        mine = multiple_bounces(
            *mesh, array, waveform, visibility=seen, polarisation=polarisation,
            patch_size=patch_size,
        )  # fmt: skip
        referee = Referee(
            spacing=1e-3,
            second_spacing=spacing,
            polarisations=(polarisation.tx, polarisation.rx),
        )
        parts = referee.parts(bodies, array.tx.numpy(), array.rx.numpy(), np.array([FREQUENCY]))
        other, first = (torch.from_numpy(parts[p]) for p in ("second", "coherent"))
        result[name] = {
            "power": float(mine.norm() / once.norm()) ** 2,
            "referee_power": float(other.norm() / first.norm()) ** 2,
            "power_over_referee": float(mine.norm() / other.norm()) ** 2,
            "coherence": coherence(mine.to(other.dtype), other),
            "first_coherence": coherence(once.to(first.dtype), first),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--scene", default="ball-and-plate")
    parser.add_argument("--spacing", type=float, default=1.6e-3, help="referee's points, m")
    parser.add_argument("--patch-size", type=float, default=2.5e-3, help="library's patches, m")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(chosen.scene, chosen.spacing, chosen.patch_size)
    for name in ("vertical", "horizontal"):
        print(name, {key: round(value, 4) for key, value in result[name].items()})
    if chosen.json is not None:
        write_json(chosen.json, {"hardware": hardware(), **result})


if __name__ == "__main__":
    main()
