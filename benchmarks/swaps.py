"""Two swapped antennas of a side in recordings of simulated faces: how many are named.

    python -m benchmarks.swaps --model procedural shared/models/ict_face.h5

Each face is a model's mean, turned by up to 11 degrees and moved by up to 15 mm, with a roughness
of 0 to 0.6, before the QAR50 with 48 frequencies. Noise has a quarter of the signal's power. Of
each recording the antennas are left as they are, and then two receivers and two transmitters are
swapped at random.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.datasets.recordings.swaps import swapped_antennas
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar.array import qar50
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import qar50_waveform

#: Share of the signal's amplitude in noise, largest turn (radians) and movement (m).
_NOISE, _TURN, _MOVE = 0.5, 0.2, 0.015


def face_signal(model: MorphableModel, random: torch.Generator) -> Tensor:
    """(rx, tx, f) of a turned and moved mean face, with noise."""
    array, waveform = qar50(), qar50_waveform(48)
    neutral = FaceParameters.neutral(n_shape=model.n_shape, n_expression=model.n_expression)
    points = to_radar(model, neutral, 0.30)[0].detach().float()
    angle = 2 * _TURN * (torch.rand(1, generator=random).item() - 0.5)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    centre = torch.tensor([0.0, 0.0, 0.36])
    shift = 2 * _MOVE * (torch.rand(3, generator=random) - 0.5)
    points = (points - centre) @ turn.T + centre + shift
    material = 0.6 * torch.rand(1, generator=random).item()
    seen = visibility(points, model.triangles, array)
    with torch.no_grad():
        clean = simulate(
            points, model.triangles, array, waveform, material=material, visibility=seen
        )
    noise = torch.randn(clean.shape, dtype=torch.complex64, generator=random)
    return clean + _NOISE * clean.abs().square().mean().sqrt() * noise


def swapped(count: int, random: torch.Generator) -> tuple[Tensor, tuple[int, int]]:
    """An order (count,) with two numbers exchanged, and which."""
    i, j = sorted(torch.randperm(count, generator=random)[:2].tolist())
    order = torch.arange(count)
    order[i], order[j] = j, i
    return order, (i, j)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=["procedural"], help="face models, in turn")
    parser.add_argument("--faces", type=int, default=10)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    models = [load_model(name) for name in arguments.model]
    random = torch.Generator().manual_seed(arguments.seed)
    array, waveform = qar50(), qar50_waveform(48)
    right = wrong = false = 0
    for n in range(arguments.faces):
        signal = face_signal(models[n % len(models)], random)
        false += len(swapped_antennas(Recording(signal, array, waveform)))
        (rx, first), (tx, second) = (swapped(94, random) for _ in range(2))
        found = set(swapped_antennas(Recording(signal[rx][:, tx], array, waveform)))
        truth = {("rx", *first), ("tx", *second)}
        right, wrong = right + len(found & truth), wrong + len(found - truth)
        print(f"face {n}: swapped {sorted(truth)}, named {sorted(found)}", flush=True)
    print(f"{right} of {2 * arguments.faces} named, {wrong} others; {false} where none is swapped")


if __name__ == "__main__":
    main()
