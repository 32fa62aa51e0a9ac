"""Speckle is a field on the surface: of places, not of triangles; its power is that of the area."""

from __future__ import annotations

import math

import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar import meshes
from radarbook.radar.array import qar50
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.simulate import simulate
from radarbook.radar.speckle import CELL, cell_phases
from radarbook.radar.waveform import qar50_waveform
from tests.fitting.scenes import face, renderer

ARRAY = qar50().subset(tx=torch.arange(0, 94, 12), rx=torch.arange(0, 94, 12))
WAVEFORM = qar50_waveform(3)
#: Phases of two places with seeds 7 and 8.
KNOWN = [2.1245718751720126, 5.1545914001952235]
ROUGH = {"material": 1.0, "method": "direct"}


def _relative(a, b):
    return float((a - b).norm() / b.norm())


def _power(x):
    return float(x.abs().square().mean())


def test_phases_are_uniform_and_independent():
    """Means of 200,000 phasors are below 5/√200,000 (one in 10¹¹ is not)."""
    stream = torch.Generator().manual_seed(3)
    places = 0.3 * torch.rand(200_000, 3, generator=stream, dtype=torch.float64)
    bound = 5 / math.sqrt(200_000)
    one = cell_phases(places, [0])
    assert float(one.min()) >= 0
    assert float(one.max()) < 2 * math.pi
    for turns in (1, 2, 3):
        assert abs(torch.exp(1j * turns * one).mean()) < bound
    moves = torch.tensor([[CELL, 0, 0], [0, CELL, 0], [0, 0, CELL], [CELL, -CELL, 0]])
    others = [cell_phases(places, [1]), *(cell_phases(places + m, [0]) for m in moves)]
    for other in others:
        assert abs(torch.exp(1j * (one - other)).mean()) < bound


def test_phases_are_the_same_everywhere():
    """Numbers of this hash, so that another processor or library version is noticed."""
    places = torch.tensor([[0.0, 0.0, 0.3], [0.01, -0.02, 0.33]], dtype=torch.float64)
    found = cell_phases(places, [7, 8], torch.tensor([0, 1]))
    assert found.tolist() == pytest.approx(KNOWN, abs=1e-12)


def test_neither_order_of_triangles_nor_of_corners_matters():
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.33), 0.03, 4e-3)
    signal = simulate(vertices, triangles, ARRAY, WAVEFORM, **ROUGH)
    stream = torch.Generator().manual_seed(0)
    order = torch.randperm(len(triangles), generator=stream)
    turned = simulate(vertices, triangles[order].roll(1, 1), ARRAY, WAVEFORM, **ROUGH)
    assert _relative(turned, signal) < 1e-9
    number = torch.randperm(len(vertices), generator=stream)
    place = torch.empty_like(vertices)
    place[number] = vertices
    renumbered = simulate(place, number[triangles], ARRAY, WAVEFORM, **ROUGH)
    assert _relative(renumbered, signal) < 1e-9
    assert _relative(simulate(vertices, triangles, ARRAY, WAVEFORM, seed=1, **ROUGH), signal) > 1


def test_facets_smaller_than_a_cell_add_up_to_one_field():
    """A plate of 12 mm in triangles of a quarter and an eighth of a cell, of two patterns."""
    fine = [
        meshes.plate((0.0, 0.0, 0.3), 0.012, 0.012, CELL / 4),
        meshes.plate((0.0, 0.0, 0.3), 0.012, 0.012, CELL / 7),
    ]
    one, two = (simulate(*mesh, ARRAY, WAVEFORM, **ROUGH) for mesh in fine)
    # Facets that lie across the walls of cells count wholly to one: a few per cent.
    assert _relative(one, two) < 0.05
    coarse = simulate(*meshes.plate((0.0, 0.0, 0.3), 0.012, 0.012, 2e-3), ARRAY, WAVEFORM, **ROUGH)
    assert _relative(coarse, two) > 0.7  # of facets that are larger, another realisation


@pytest.mark.parametrize("facet", [3e-3, CELL / 4])
def test_power_is_that_of_the_area(facet):
    """|Γ|² A/π, of facets larger and smaller than a cell: the mean of many seeds, within five
    standard errors of exponential powers that are independent from seed to seed."""
    one = qar50().subset(tx=torch.tensor([23]), rx=torch.tensor([23]))
    side = 0.015 if facet > CELL else 0.004
    mesh = meshes.plate((0.0, 0.0, 0.3), side, side, facet)
    tx, rx = one.tx[0], one.rx[0]
    centre = torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    d = [(centre - a).norm() for a in (tx, rx)]
    cosines = [0.3 / float(x) for x in d]
    seeds = range(200)
    found = [
        _power(simulate(*mesh, one, WAVEFORM, seed=s, permittivity=None, antenna_size=0.0, **ROUGH))
        for s in seeds
    ]
    wanted = side**2 / math.pi * math.prod(cosines) / float(d[0] * d[1]) ** 2
    mean = sum(found) / len(found)
    assert abs(mean / wanted - 1) < 5 / math.sqrt(len(found))


def test_speckle_moves_with_a_face_and_is_each_sample_s_own():
    physical = renderer(3)
    assert isinstance(physical, PhysicalRenderer)
    p = face((0.5, -0.5), 0.3, material=1.0)
    alone = [physical.replace(seed=n).signal(p)[0] for n in (4, 9)]
    both = physical.signal(type(p).cat([p, p]), seeds=[4, 9])
    for one, of_two in zip(alone, both, strict=True):
        assert _relative(of_two, one) < 1e-5  # in the model's single precision
    assert _relative(alone[0], alone[1]) > 1
    # A twentieth of a millimetre is a tenth of a cell: the phases stay, but for those of the path.
    near = face((0.5, -0.5), 0.3, (0.0, 0.0, 5e-5), material=1.0)
    assert _relative(physical.replace(seed=4).signal(near)[0], alone[0]) < 0.3
    with pytest.raises(InputError, match=r"seed: expected one, or one per mesh \(1\), found 2"):
        physical.signal(p, seeds=[1, 2])


def test_arrays_see_the_same_speckle():
    """A moved array simulates in its own frame; the body stays what it is."""
    vertices, triangles = meshes.sphere((0.0, 0.0, 0.33), 0.03, 4e-3)
    turn = torch.eye(3, dtype=torch.float64)
    moved = ARRAY.moved(turn, torch.tensor([1e-5, 0.0, 0.0], dtype=torch.float64))
    here, there = (simulate(vertices, triangles, a, WAVEFORM, **ROUGH) for a in (ARRAY, moved))
    assert _relative(there, here) < 0.05
