"""Targets near the array: one direction stands for all antennas in a piece of a facet."""

from __future__ import annotations

import pytest
import torch

from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.pieces import Pieces
from radarbook.radar.simulate import simulate
from radarbook.radar.waveform import qar50_waveform

ARRAY = qar50().subset(tx=torch.arange(0, 94, 6), rx=torch.arange(0, 94, 6))


def _rippled(distance: float) -> meshes.Mesh:
    """A plate with ripples as of skin, in triangles with edges of 2.1 to 3.0 mm."""
    vertices, triangles = meshes.plate((0.0, 0.0, distance), 0.04, 0.04, 0.0021, tilt=(0.1, 0.05))
    ripple = 0.002 * torch.cos(vertices[:, 0] / 0.01) * torch.cos(vertices[:, 1] / 0.012)
    return vertices + ripple[:, None] * torch.tensor([0.0, 0.0, 1.0]), triangles


# At 0.3 m as large as it was: to halve pieces there would cost a face four times as much.
@pytest.mark.parametrize(
    ("distance", "bound"), [(0.3, 0.035), (0.2, 0.02), (0.1, 0.02), (0.05, 0.02)]
)
def test_error_of_near_targets(distance, bound):
    """Against pieces so small that every antenna's own direction is the same."""
    vertices, triangles = _rippled(distance)
    waveform = qar50_waveform(2)
    edge = Pieces.of(vertices, triangles, ARRAY, facet_size=1.0, near=False).edge
    options = {"antenna_size": 0.0, "method": "direct"}
    signals = [
        simulate(vertices, triangles, ARRAY, waveform, pieces=pieces, **options)
        for pieces in (
            Pieces.of(vertices, triangles, ARRAY),
            Pieces.of(vertices, triangles, ARRAY, facet_size=edge / 16, near=False),
        )
    ]
    assert (signals[0] - signals[1]).norm() < bound * signals[1].norm()


def test_a_face_costs_what_it_did_and_one_antenna_needs_no_smaller_pieces():
    vertices, triangles = _rippled(0.32)
    assert len(Pieces.of(vertices, triangles, ARRAY)) == len(
        Pieces.of(vertices, triangles, ARRAY, near=False)
    )
    vertices, triangles = _rippled(0.05)
    one = Array(torch.zeros(1, 3), torch.zeros(1, 3))
    assert len(Pieces.of(vertices, triangles, one)) == len(
        Pieces.of(vertices, triangles, one, near=False)
    )
    assert len(Pieces.of(vertices, triangles, ARRAY)) > 4 * len(
        Pieces.of(vertices, triangles, ARRAY, near=False)
    )
