"""How far the library's simulator and the referee agree on the same faces.

    python -m benchmarks.referee_coherence --model procedural --faces 2

Smooth skin (m = 0), every eighth transmitter and twelfth receiver of the QAR50, three frequencies.
Coherence is |⟨a, b⟩| / (|a| |b|) over all samples, gain ⟨referee, library⟩ / |referee|². ``mesh``
names the referee's sum over the mesh's flat triangles instead of the smooth surface: what differs
then is the summation, the obliquity and the shadows, not the surface. The last column is the power
of the second reflection over that of the first, in the referee.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch

import radarbook as rb
from benchmarks.referee import Body, Referee
from benchmarks.referee.campaign import SECOND_SPACING, qar50_positions
from benchmarks.referee.faces import DRAWS, smooth_face
from benchmarks.referee.scattering import Complex
from benchmarks.referee.surface import Patches
from radarbook.radar.renderer import mesh_signal

#: rad: every edge is a crease, so triangles stay flat.
FLAT = 0.0


def agreement(ours: Complex, wanted: Complex) -> tuple[float, float]:
    """Coherence, and modulus of the gain."""
    product = float(abs(np.vdot(wanted, ours)))
    power = float(np.vdot(wanted, wanted).real)
    return product / float(np.sqrt(power) * np.linalg.norm(ours)), product / power


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--spacing", type=float, default=5e-4)
    chosen = parser.parse_args(arguments)
    model = rb.load_model(chosen.model, 10, 7)
    tx, rx = qar50_positions()
    tx, rx = tx[::8], rx[::12]
    array = rb.Array(torch.from_numpy(tx), torch.from_numpy(rx))
    waveform = rb.Waveform(torch.tensor([72e9, 77e9, 82e9], dtype=torch.float64))
    frequencies = waveform.frequencies.numpy()
    draw = DRAWS["tuning"]
    for number, index in enumerate(draw.indices(chosen.faces)):
        truth = rb.random_parameters([index], draw.seed, 10, 7)
        size = float(truth.rendering[0, 2])
        shape = smooth_face(model, truth, 0.30)
        vertices = rb.to_radar(model, truth, 0.30)[0].double()
        flat = Patches(vertices.numpy(), model.triangles.numpy(), crease=FLAT)
        referee = Referee(antenna_size=size, spacing=chosen.spacing)
        mesh = referee.signal([Body(flat, 0.0)], tx, rx, frequencies)
        parts = referee.replace(second_spacing=SECOND_SPACING).parts(
            [Body(shape, 0.0)], tx, rx, frequencies
        )
        smooth, second = parts["coherent"], parts["second"]
        once, twice = (
            mesh_signal(
                vertices, model.triangles, array, waveform, bounces=n, antenna_size=size
            ).numpy()
            for n in (1, 2)
        )
        rows = {
            "smooth": agreement(once, smooth),
            "mesh": agreement(once, mesh),
            "second": agreement(twice - once, second),
        }
        text = "  ".join(f"{k} {c:.4f} (gain {g:.3f})" for k, (c, g) in rows.items())
        share = (np.linalg.norm(second) / np.linalg.norm(smooth)) ** 2
        print(f"face {number}: {text}  second/first {100 * share:.2f} %", flush=True)


if __name__ == "__main__":
    main()
