"""The README's picture: a radar image, and a face on its way from the mean face to the truth.

python -m benchmarks.picture jupyter_book/images/readme.png

The fit is chapter 7's, from the same start at the same profile, so the picture shows what the
chapter computes.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from radarbook import figures
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.evaluation.metrics import vertex_distances
from radarbook.figures.images import NOTHING, OUTLINE
from radarbook.figures.static import png
from radarbook.files import atomic_path
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.reconstruct import mean_face_start
from radarbook.fitting.restarts import restarts
from radarbook.pipeline import Pipeline

FACE = 1


def main() -> None:
    """Fit one face through physics and plot it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pipeline = Pipeline("smoke", seed=arguments.seed)
    model, physical = pipeline.model, pipeline.physical
    k = (model.n_shape, model.n_expression)
    setting = ParameterDistribution(pose_scale=0.5, material=(0.1, 0.1), antenna_size=(2e-3, 2e-3))
    true = random_parameters([FACE], arguments.seed, *k, config=setting)
    with torch.no_grad():
        signal = physical.signal(true)
    start = mean_face_start(signal, physical).to(dtype=torch.float32)
    found = restarts(physical_plan(signal, physical), start, progress=True)
    with torch.no_grad():
        image = Pipeline("laptop", seed=arguments.seed).physical.render(true)
    fitted = found.parameters.to(dtype=torch.float32)
    shown = {"mean face": start, "fit": fitted, "truth": true}
    errors = {n: float(vertex_distances(model, p, true).mean()) for n, p in shown.items()}
    row = figures.faces_row(
        [model.vertices(p.shape, p.expression)[0] for p in shown.values()],
        model.triangles,
        [n if n == "truth" else f"{n}: {error:.2f} mm off" for n, error in errors.items()],
    )
    canvas, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=[1, 2.2])
    x, y = (1e3 * axis.numpy() for axis in (image.x, image.y))
    # As in the book: empty below the dynamic range, cropped to the face, its outline over it.
    level = np.ma.masked_array(image.amplitude_db[0].numpy(), ~image.mask[0].numpy())
    floor = float(image.dynamic_range_db[0])
    picture = left.pcolormesh(x, y, level, cmap="inferno", vmin=floor, vmax=0.0)
    edge = 1e3 * figures.face_outlines(model, true, physical.distance)[0].outline
    left.plot(*edge.T, color=OUTLINE, linewidth=1.5)
    (right_end, low), (left_end, high) = edge.min(0) - 12, edge.max(0) + 12
    left.set_xlim(left_end, right_end)  # as the radar sees it
    left.set_ylim(low, high)
    left.set_facecolor(NOTHING)
    left.set(xlabel="x (mm)", ylabel="y (mm)", title="radar image", aspect="equal")
    canvas.colorbar(picture, ax=left, label="amplitude (dB)", fraction=0.046)
    right.imshow(plt.imread(io.BytesIO(png(row))))
    right.axis("off")
    print(", ".join(f"{name}: {error:.3f} mm" for name, error in errors.items()))
    canvas.tight_layout()
    with atomic_path(arguments.output) as temporary:
        canvas.savefig(temporary, dpi=132, facecolor="white")


if __name__ == "__main__":
    main()
