"""Facets seen edge-on: the estimated error of their interpolation, and what is summed exactly."""

from __future__ import annotations

import pytest
import torch

from radarbook.radar import cells, grazing
from radarbook.radar.array import qar50
from radarbook.radar.meshes import sphere
from radarbook.radar.pieces import Pieces
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import qar50_waveform

ARRAY = qar50().subset(tx=torch.arange(0, 94, 2), rx=torch.arange(0, 94, 2))
WAVEFORM = qar50_waveform(9)


def _ball() -> tuple[torch.Tensor, torch.Tensor, Pieces]:
    points, triangles = sphere((0.01, -0.02, 0.33), 0.05, 4e-3)
    seen = visibility(points, triangles, ARRAY)
    return points, triangles, Pieces.of(points, triangles, ARRAY, visibility=seen)


def test_the_estimate_is_the_error_of_the_skeleton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the rough part, whose facets have phases of their own, so that energies add up. The
    estimate takes amplitudes at one frequency: within a factor of 1.5 in amplitude."""
    points, triangles, pieces = _ball()
    errors: list[torch.Tensor] = []
    real = grazing._error

    def noted(*args: object) -> torch.Tensor:
        errors.append(real(*args))  # type: ignore[arg-type]
        return errors[-1]

    monkeypatch.setattr(grazing, "_error", noted)
    monkeypatch.setattr(grazing, "BOUND", 1.0)  # nothing is exact
    found, wanted = (
        simulate(points, triangles, ARRAY, WAVEFORM, pieces=pieces, material=1.0, method=way)
        for way in ("cells", "direct")
    )
    ratio = float((errors[0].sum().sqrt()) / (found - wanted).norm())
    assert 1 / 1.5 < ratio < 1.5


def test_edge_on_facets_alone_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rougher, the more; the others are lit by every group of antennas or by none of it."""
    points, triangles, pieces = _ball()
    chosen: list[torch.Tensor] = []
    real = grazing.exact_pieces

    def noted(*args: object) -> torch.Tensor:
        chosen.append(real(*args))  # type: ignore[arg-type]
        return chosen[-1]

    monkeypatch.setattr(cells, "exact_pieces", noted)
    for material in (0.0, 0.3, 0.8):
        simulate(
            points, triangles, ARRAY, WAVEFORM, pieces=pieces, material=material, method="cells"
        )
    counts = [len(some) for some in chosen]
    assert counts == sorted(counts)
    assert 0 < counts[-1] < len(pieces) / 2
    facets = pieces.facets(points)
    heights = torch.cat([ARRAY.tx, ARRAY.rx]) @ facets.normal.T - (
        facets.normal * facets.centre
    ).sum(1)
    lit = heights > 0
    assert bool((lit.any(0) & ~lit.all(0))[chosen[-1]].all())
