"""Side of a square hole in a panel by several rules: plates of the referee, and the measured panel.

    python -m benchmarks.hole --recordings ../shared/recordings

The plates have holes of 80 and 60 mm at 90 mm before a raster at 24 GHz. "Half amplitude" is
:func:`radarbook.evaluation.hole_side`. "Outermost edge" takes, on each side, the outermost place
where the complex image, averaged along the middle third of the side, changes at least half as fast
as anywhere on that side. Its image is first smoothed by a Gaussian.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmarks.referee.simulator import Body, Referee
from benchmarks.referee.surface import plate
from radarbook.datasets.recordings import read_recording
from radarbook.evaluation import hole_side
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.waveform import Waveform

_RANGE, PIXEL, _PIXELS = 0.09, 1e-3, 160
#: Half width within which edges are searched for, pixels.
_WITHIN = 55


def plane(x: float = 0.0, y: float = 0.0) -> Grid:
    """The panel's plane around (x, y), m."""
    side = (torch.arange(_PIXELS, dtype=torch.float64) - (_PIXELS - 1) / 2) * PIXEL
    return Grid(side + x, side + y, torch.tensor([_RANGE]))


def simulated_hole(side: float, out: float = 0.12, count: int = 41) -> Tensor:
    """(N, N) image of the referee's plate with a hole of ``side`` m."""
    half = side / 2
    parts = [
        (-out, out, half, out),
        (-out, out, -out, -half),
        (-out, -half, -half, half),
        (half, out, -half, half),
    ]
    bodies = [
        Body(
            plate(
                np.array([(a + b) / 2, (c + d) / 2, _RANGE]),
                np.array([0, d - c, 0]),
                np.array([b - a, 0, 0]),
            ),
            material=0.0,
            permittivity=None,
        )
        for a, b, c, d in parts
    ]
    referee = Referee(antenna_size=0.012, spacing=2.5e-3, shadows=False)
    waveform = Waveform(torch.tensor([24.2e9], dtype=torch.float64))
    line = torch.linspace(-0.1, 0.1, count, dtype=torch.float64)
    places = torch.cartesian_prod(line, line)
    places = torch.cat([places, torch.zeros(len(places), 1, dtype=torch.float64)], 1)
    # The plate and the raster are symmetric in x and in y: a quarter of the places is enough.
    half_way = (count + 1) // 2
    rows = places.reshape(count, count, 3).numpy()[:half_way, :half_way]
    signals = [referee.signal(bodies, row, row, waveform.frequencies.numpy()) for row in rows]
    quarter = torch.from_numpy(np.stack([np.diagonal(s).T for s in signals]))
    fold = torch.minimum(torch.arange(count), count - 1 - torch.arange(count))
    signal = quarter[fold][:, fold].flatten(0, 1)
    return back_project(signal, Array.monostatic(places), waveform, plane())[0]


def smoothed(image: Tensor, pixels: float) -> NDArray[np.complex128]:
    values = image.to(torch.complex128).numpy()
    if pixels == 0:
        return values
    parts = (gaussian_filter(part, pixels, mode="nearest") for part in (values.real, values.imag))
    real, imaginary = parts
    return real + 1j * imaginary


def outermost(image: NDArray[np.complex128], share: float = 0.5) -> float:
    """Side, m, between the outermost edges."""
    count = len(image)
    third = slice(count // 2 - count // 6, count // 2 + count // 6)
    lengths = []
    for profile in (image[third].mean(0), image[:, third].mean(1)):
        length = 0.0
        for side in (profile, profile[::-1]):
            steep = np.abs(np.diff(side))[count // 2 : count // 2 + _WITHIN]
            inner = (steep[1:-1] >= steep[:-2]) & (steep[1:-1] > steep[2:])
            inner &= steep[1:-1] >= share * steep.max()
            length += float(inner.nonzero()[0][-1] + 2) if inner.any() else math.nan
        lengths.append(length)
    return math.sqrt(math.prod(lengths)) * PIXEL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=Path, help="folder of panel_24ghz.npy")
    arguments = parser.parse_args()
    images = {f"simulated, {1e3 * s:.0f} mm": simulated_hole(s) for s in (0.08, 0.06)}
    if arguments.recordings:
        root = Path(__file__).parents[1]
        panel = read_recording(
            arguments.recordings / "panel_24ghz.npy",
            description=root / "data" / "descriptions" / "panel_24ghz.toml",
        )
        grid = plane(-0.070, 0.005)
        images["measured"] = back_project(panel.signal, panel.array, panel.waveform, grid)[0]
    print("side (mm)         half amplitude   outermost edge, smoothed by 0, 3, 4, 5 mm")
    for name, image in images.items():
        edges = "  ".join(f"{1e3 * outermost(smoothed(image, n)):5.0f}" for n in (0, 3, 4, 5))
        print(f"{name:17s} {1e3 * hole_side(image, PIXEL):14.1f}   {edges}")


if __name__ == "__main__":
    main()
