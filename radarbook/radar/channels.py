"""Signals of arrays that are moved or measure pairs, through the simulation of a product array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.clusters import neighbours
from radarbook.radar.pieces import Pieces
from radarbook.radar.waveform import Waveform

#: Pairs of neighbouring antennas that are simulated together, as all of their transmitters with all
#: of their receivers: waves are computed once an antenna, and some products are not needed.
_TOGETHER = 32
#: Part of all products from which on an array with pairs is simulated as a product.
_DENSE = 0.2


def simulate_channels(
    simulate: Callable[..., Tensor],
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    pieces: Pieces | None,
    visibility: Tensor | None,
    **options: Any,
) -> Tensor:
    """:func:`~radarbook.radar.simulate.simulate` of an array that is moved, has pairs, or both.

    A moved array is simulated in its own frame. Pairs that are most of a product are taken from
    it; of others, neighbours are simulated together. A facet's response is then taken towards
    the middle of those neighbours, not of the whole aperture, which may be wide.
    """
    if options["rest"] is None and options["seed"] is not None and vertices.ndim == 2:
        options["rest"] = vertices  # the same speckle for every array, wherever that is
    if array.is_moved:
        if options.get("layer") is not None:
            raise InputError(
                "layer: expected an array that is not moved; a layer is parallel to it"
            )
        return simulate(
            array.to_own(vertices), triangles, array.own(), waveform,
            pieces=pieces, visibility=visibility, **options,
        )  # fmt: skip
    product, (tx, rx) = array.replace(pairs=None), array.every_pair().unbind(1)
    if len(tx) >= _DENSE * len(array.tx) * len(array.rx):
        whole = simulate(
            vertices, triangles, product, waveform,
            pieces=pieces, visibility=visibility, **options,
        )  # fmt: skip
        return whole[..., rx, tx, :]
    if vertices.ndim == 3:
        every = [
            simulate_channels(
                simulate, mesh, triangles, array, waveform, pieces=pieces,
                visibility=visibility if visibility is None or visibility.ndim == 2
                else visibility[n],
                **{name: _of_mesh(value, n) for name, value in options.items()},
            )
            for n, mesh in enumerate(vertices)
        ]  # fmt: skip
        return torch.stack(every)
    shared = pieces or Pieces.of(
        vertices, triangles, product, visibility=visibility,
        facet_size=options["facet_size"], surface=options["surface"], near=False,
        seed=options["seed"], rest=options["rest"], memory=options["memory"],
    )  # fmt: skip
    order = neighbours(array.tx[tx].detach().cpu(), array.rx[rx].detach().cpu()).to(tx.device)
    parts = []
    for some in order.split(_TOGETHER):
        mine_tx, place_tx = tx[some].unique(return_inverse=True)
        mine_rx, place_rx = rx[some].unique(return_inverse=True)
        part = shared
        if shared.columns is not None:
            of_tx, of_rx = (column.to(mine_tx.device) for column in shared.columns)
            part = replace(shared, columns=(of_tx[mine_tx], of_rx[mine_rx]))
        few = product.subset(tx=mine_tx, rx=mine_rx)
        signal = simulate(
            vertices, triangles, few, waveform, pieces=part, visibility=None, **options
        )
        parts.append(signal[place_rx, place_tx])
    return torch.cat(parts)[order.argsort()]


def _of_mesh(value: Any, number: int) -> Any:
    """An option of one mesh of a batch."""
    if isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim == 1):
        return value[number] if len(value) > 1 else value[0]
    if hasattr(value, "echo"):  # a layer, whose parameters may be one a mesh
        return value[number : number + 1]
    return value
