"""Signals of arrays that are moved or measure pairs, through the simulation of a product array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.clusters import neighbours
from radarbook.radar.facet_sum import ForwardProblem
from radarbook.radar.kernels import channels as kernels
from radarbook.radar.kernels import launch
from radarbook.radar.pieces import Pieces
from radarbook.radar.waveform import Waveform

#: Pairs of neighbouring antennas that are simulated together, as all of their transmitters with all
#: of their receivers: waves are computed once an antenna, and some products are not needed.
_TOGETHER = 32
#: Facets answer towards the middle of pairs whose transmitters, and whose receivers, fit a box of
#: this diagonal, m, a quarter of the QAR50's width, and how many they are at most.
_EXTENT, _MOST = 0.04, 256


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
    it. Of others, a compiled kernel computes both legs pair by pair
    (:mod:`radarbook.radar.kernels.channels`) where it applies; else, neighbours are simulated
    together as a product. A facet's response is taken towards the middle of neighbours, not of the
    whole aperture, which may be wide.
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
    if array.is_nearly_product:
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
    positions = array.tx[tx].detach().cpu(), array.rx[rx].detach().cpu()
    if _in_one_kernel(vertices, waveform, options, array):
        size, material = (
            torch.as_tensor(options[name]).to(vertices).reshape(1)
            for name in ("antenna_size", "material")
        )
        problem = ForwardProblem(
            shared, shared.points(vertices)[None], array, waveform, options["permittivity"],
            material, size,
        )  # fmt: skip
        with torch.no_grad():
            return kernels.signal(problem, _near_groups(*positions))
    order = neighbours(*positions).to(tx.device)
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


def _in_one_kernel(
    vertices: Tensor, waveform: Waveform, options: Mapping[str, Any], array: Array
) -> bool:
    """Whether the compiled kernel of pairs gives what is asked for."""
    if options["method"] not in (None, "kernels") or options["layer"] is not None:
        return False
    differentiated = torch.is_grad_enabled() and any(
        isinstance(value, Tensor) and value.requires_grad
        for value in (vertices, array.tx, array.rx, options["material"], options["antenna_size"])
    )
    lacking = launch.missing(vertices.dtype, waveform)
    return not differentiated and lacking is None and vertices.device.type == "cpu"


def _near_groups(tx: Tensor, rx: Tensor) -> list[Tensor]:
    """Numbers of pairs, of antennas at ``tx`` and ``rx`` (P, 3), by groups of neighbours whose
    antennas lie within :data:`_EXTENT`, at most :data:`_MOST` each."""
    order = neighbours(tx, rx)
    places = torch.cat([tx, rx], 1)[order]
    waiting, groups = [slice(0, len(order))], []
    while waiting:
        part = waiting.pop()
        some = places[part]
        extent = (some.amax(0) - some.amin(0)).reshape(2, 3).norm(dim=1).max()
        count = part.stop - part.start
        if count > 1 and (count > _MOST or float(extent) > _EXTENT):
            half = part.start + count // 2
            waiting += [slice(half, part.stop), slice(part.start, half)]
        else:
            groups.append(order[part])
    return groups


def _of_mesh(value: Any, number: int) -> Any:
    """An option of one mesh of a batch."""
    if isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim == 1):
        return value[number] if len(value) > 1 else value[0]
    if hasattr(value, "echo"):  # a layer, whose parameters may be one a mesh
        return value[number : number + 1]
    return value
