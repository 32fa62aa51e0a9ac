"""The signal of pairs of antennas: both legs of all facets, pair by pair, in one compiled kernel.

Where every receiver measures with every transmitter, waves are computed once per antenna and
multiplied (:mod:`radarbook.radar.kernels.launch`). A list of pairs, a raster of one antenna, has no
such products: here a pair's two legs are one path, whose length is float64, since a transmitter may
be a kilometre away, and whose phase is brought to one turn before it becomes float32.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from radarbook.radar.array import Array
from radarbook.radar.facet_sum import ForwardProblem
from radarbook.radar.kernels.launch import Samples, radiators_on_cpu
from radarbook.radar.pieces import Pieces
from radarbook.threads import divide

#: Scattering lengths that a pass over the pairs reads, at most: they stay in a core's cache.
_LENGTHS = 32_768
#: Facets of a pass, at least: one block of the kernel.
_FEWEST = 64


def signal(problem: ForwardProblem, groups: list[Tensor]) -> Tensor:
    """(P, f) complex64 of one mesh on a CPU without a layer, float32 vertices and equal frequency
    steps; not differentiable.

    ``problem.array`` has pairs, of which ``groups`` are numbers: each pair is in one of them.
    Facets answer towards the middle of a group, not of the whole aperture, which may be wide.
    """
    array, pieces = problem.array, problem.pieces.to(torch.float32)
    tx, rx = array.every_pair().cpu().unbind(1)
    problem = replace(problem, pieces=pieces)
    seen, columns = _seen(pieces, tx, rx)
    out = torch.zeros(len(tx), len(problem.waveform), dtype=torch.complex64)

    def group(n: int) -> Tensor:
        some = groups[n]
        part = replace(problem, array=_antennas_of(array, tx[some], rx[some]))
        return _group(part, seen, columns[some])

    for some, values in zip(groups, divide(group, len(groups)), strict=True):
        out[some] = values
    return out


def _antennas_of(array: Array, tx: Tensor, rx: Tensor) -> Array:
    """The antennas of pairs, one of each side per pair."""
    numbers = torch.arange(len(tx))
    return array.replace(
        tx=array.tx.detach().cpu()[tx],
        rx=array.rx.detach().cpu()[rx],
        pairs=torch.stack([numbers, numbers], 1),
    )


def _seen(pieces: Pieces, tx: Tensor, rx: Tensor) -> tuple[Tensor | None, Tensor]:
    """(G, N) how groups of antennas see the pieces, and (P, 2) the group of each pair's two."""
    if pieces.seen is None or pieces.columns is None:
        return None, torch.zeros(len(tx), 2, dtype=torch.int64)
    by_tx, by_rx = (column.cpu() for column in pieces.columns)
    return pieces.seen.T.contiguous(), torch.stack([by_tx[tx], by_rx[rx]], 1)


def _group(problem: ForwardProblem, seen: Tensor | None, columns: Tensor) -> Tensor:
    """(P, f) of the pairs of one group."""
    from radarbook.radar.kernels.cpu import pairs_kernel  # compiles, which takes seconds at first

    samples, array, pieces = Samples.of(problem), problem.array, problem.pieces
    vertices, material = problem.vertices[0], float(problem.material[0])
    if pieces.phase is None or material == 0:
        made = radiators_on_cpu(vertices, pieces, samples.response, material)
        centre, normal, lengths = made
    else:
        f = pieces.facets(vertices)
        centre, normal = f.centre, f.normal
        lengths = samples.lengths(f, pieces, problem.material.float())[:, 0]
    first, step, steps = samples.places
    count = max(_FEWEST, _LENGTHS // steps)
    size = np.float32(float(problem.size[0]) / samples.wavelength)
    out = torch.zeros(len(columns), steps, 2)
    planes = torch.view_as_real(lengths.resolve_conj()).movedim(-1, 1)  # (f, 2, N)
    for start in range(0, len(centre), count):
        some = slice(start, start + count)
        pairs_kernel(
            centre[some].T.contiguous().numpy(),
            normal[some].T.contiguous().numpy(),
            array.tx.contiguous().numpy(),
            array.rx.contiguous().numpy(),
            size,
            np.zeros((0, 0), np.float32) if seen is None else seen[:, some].contiguous().numpy(),
            columns.numpy(),
            seen is not None,
            planes[..., some].contiguous().numpy(),
            first / (2 * math.pi),
            step / (2 * math.pi),
            out.numpy(),
        )
    return torch.view_as_complex(out)
