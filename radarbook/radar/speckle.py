"""Speckle: the random phases of the diffuse reflection, as a field on the surface.

The diffuse reflection of rough skin is white on the surface: the field that an area A scatters is
an integral over it, of power in proportion to A (book, :ref:`physics`, section 2). Here the body at
rest is divided into cubes of :data:`CELL`, far below a wavelength, and each has a phase of its own,
from a hash of its place and a seed. A facet takes the phase of the cube that its centre lies in.

So the phases depend on places alone: neither on the order of triangles and corners nor on their
number. They stay with the body as it moves and changes shape, as long as ``rest`` is given. Facets
that are much smaller than a cube add up to the integral of one field, however they are divided.
Larger ones, as usual, have independent phases: another division of the same surface is another
realisation of the same statistics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.seeds import stream_key

#: Side of the cubes, m: an eighth of the QAR50's wavelength.
CELL = 5e-4
#: Multipliers of the hash (splitmix64, Steele and others 2014), as signed 64-bit numbers.
_STEP, _FIRST, _SECOND = (
    value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def cell_phases(places: Tensor, seeds: Sequence[int], mesh: Tensor | None = None) -> Tensor:
    """(P,) phases in radians, 0 to 2π, float64, of the cells that places (P, 3) m lie in.

    Parameters
    ----------
    places : Tensor (P, 3), float64, m
        On the body at rest.
    seeds : sequence of int
        One for all, or one per mesh.
    mesh : Tensor (P,), optional
        The mesh that each place is on; None: the first.

    Equal bits on every processor. Not differentiable.

    Examples
    --------
    >>> places = torch.tensor([[0.0, 0.0, 0.3], [1e-4, 1e-4, 0.3001], [0.0, 0.01, 0.3]])
    >>> one, same_cell, other = cell_phases(places, [0]).tolist()
    >>> one == same_cell, one == other
    (True, False)
    """
    # No plane of a mesh at round coordinates is a wall between two cells.
    cell = (places.detach().double() / CELL + 0.3137).floor().long()
    keys = torch.tensor([stream_key(seed, "radar/speckle") for seed in seeds], device=cell.device)
    state = keys[torch.zeros_like(cell[:, 0]) if mesh is None or len(keys) == 1 else mesh]
    for axis in cell.unbind(1):
        state = _mixed(state + axis * _STEP)
    # 53 bits are a float64 from 0 to 1.
    share = ((state >> 11) & (2**53 - 1)).double() / 2**53
    return 2 * math.pi * share


def _mixed(state: Tensor) -> Tensor:
    """Of 64-bit numbers; products wrap."""
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        state = (state ^ _shifted(state, shift)) * factor
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """To the right, with zeros from the left: torch's own repeats the sign."""
    return (state >> bits) & (2 ** (64 - bits) - 1)


def seeds_of(seed: int | Sequence[int], meshes: int) -> list[int]:
    """One seed for all meshes, or one of each; raises :class:`~radarbook.errors.InputError` for
    another number."""
    seeds = [seed] if isinstance(seed, int) else [int(one) for one in seed]
    if len(seeds) not in (1, meshes):
        raise InputError(f"seed: expected one, or one per mesh ({meshes}), found {len(seeds)}")
    return seeds
