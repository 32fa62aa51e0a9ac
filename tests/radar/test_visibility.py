"""Occlusion: a plate in front of another, both ways to see it, and a face."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar import meshes
from radarbook.radar.array import Array, qar50
from radarbook.radar.pieces import group_columns, outermost
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import group_centres, visibility
from radarbook.radar.waveform import Waveform, qar50_waveform


def test_groups_are_the_columns_and_rows(array):
    centres = group_centres(array) * 1e3
    assert centres.shape == (4, 3)
    # Columns' ends are moved out by 1.5 mm, which moves their mean by 0.06 mm.
    wanted = [[-70.5, 0, 0], [70.5, 0, 0], [0, -70.5, 0], [0, 70.5, 0]]
    assert torch.allclose(centres, torch.tensor(wanted, dtype=torch.float64), atol=0.1)


@pytest.mark.parametrize("way", ["embree", "buffer"])
def test_plate_hides_what_lies_in_its_shadow(array, way):
    """Two plates, 0.2 and 0.4 m away: from a point 70.5 mm beside the axis, the near one's ±20 mm
    throw a shadow from 70.5 - 40 = 30.5 mm to 110.5 mm on the other side."""
    near = meshes.plate((0, 0, 0.2), 0.04, 0.04, 0.002)
    far = meshes.plate((0, 0, 0.4), 0.3, 0.3, 0.004)
    vertices, triangles = meshes.join(near, far)
    seen = visibility(vertices, triangles, array, way=way)
    assert seen.shape == (len(triangles), 4)
    behind = slice(len(near[1]), None)
    middle = vertices[triangles[behind]].mean(1)
    assert (seen[: len(near[1])] == 1).all()
    for group, (axis, side) in enumerate([(0, -1), (0, 1), (1, -1), (1, 1)]):
        along, across = middle[:, axis] * -side, middle[:, 1 - axis]
        shadow = (along > 0.0305) & (along < 0.1105) & (across.abs() < 0.04)
        rim = (along - 0.0305).abs().minimum((along - 0.1105).abs()) < 3e-3
        rim |= (across.abs() - 0.04).abs() < 3e-3  # the width of a facet, or of a pixel
        assert torch.equal(seen[behind, group][~rim] == 0, shadow[~rim])


def test_both_ways_agree_on_a_face(ict_face, array):
    vertices, triangles = ict_face
    cast, drawn = (visibility(vertices, triangles, array, way=w) for w in ("embree", "buffer"))
    # Facets along the rims of shadows differ: the buffer's pixels are a millimetre wide.
    assert (cast == drawn).float().mean() > 0.975
    # Something is hidden, most of the front is not.
    assert 0.6 < cast.mean() < 0.95


@pytest.mark.parametrize("way", ["embree", "buffer"])
@pytest.mark.parametrize("memory", [1, 2**30])
def test_batch_equals_loop(array, way, memory):
    """Whatever the budget; the meshes differ in place, size and what they hide."""
    near = meshes.plate((0.01, 0, 0.2), 0.04, 0.03, 0.004)
    vertices, triangles = meshes.join(near, meshes.sphere((0, 0.02, 0.35), 0.06, 0.012))
    batch = torch.stack([vertices, 1.1 * vertices, vertices + torch.tensor([0.1, 0, 0.05])])
    together = visibility(batch, triangles, array, way=way, memory=memory)
    assert together.shape == (3, len(triangles), 4)
    for b in range(3):
        alone = visibility(batch[b], triangles, array, way=way)
        assert torch.equal(together[b], alone)
    assert not torch.equal(together[0], together[2])


def test_bad_input(array):
    vertices, triangles = meshes.plate((0, 0, 0.3), 0.05, 0.05, 0.02)
    with pytest.raises(InputError, match="way"):
        visibility(vertices, triangles, array, way="guess")


def test_a_ball_before_a_wall(array):
    """The signal with occlusion equals that of the scene without the wall's hidden part.

    Which facets of the wall the ball hides follows from the distance of straight lines to the
    ball's centre. Each pair of a transmitter and a receiver group has a shadow of its own, so that
    every block of the signal is simulated with the facets that both groups see, and without
    occlusion. Facets along the shadow's rim are decided for polyhedron and sphere differently:
    0.35 % of the signal are found, 2 % allowed. The hidden part is half of the signal.
    """
    waveform, centre, radius = qar50_waveform(2), torch.tensor([0.0, 0.0, 0.3]).double(), 0.04
    ball, wall = (
        meshes.sphere((0, 0, 0.3), radius, 3e-3),
        meshes.plate((0, 0, 0.45), 0.24, 0.24, 3e-3),
    )
    vertices, triangles = meshes.join(ball, wall)
    found = mesh_signal(vertices, triangles, array, waveform)
    open_ = mesh_signal(vertices, triangles, array, waveform, occlusion=False)
    groups = group_centres(array)
    line = vertices[triangles[len(ball[1]) :]].mean(1)[:, None] - groups
    along = ((centre - groups) * line).sum(-1) / line.square().sum(-1)
    hidden = (groups + along[..., None] * line - centre).norm(dim=-1) < radius
    tx, rx = group_columns(array)
    wanted = torch.zeros_like(found)
    for i in tx.unique():
        for j in rx.unique():
            rest = ~(hidden[:, i] | hidden[:, j])
            seen = torch.cat([torch.ones(len(ball[1]), dtype=torch.bool), rest])
            signal = mesh_signal(vertices, triangles[seen], array, waveform, occlusion=False)
            block = (rx == j)[:, None] & (tx == i)
            wanted[block] = signal[block]
    assert (found - wanted).norm() < 0.02 * wanted.norm()
    assert (open_ - wanted).norm() > 0.4 * wanted.norm()


def test_a_wide_aperture_has_several_shadows() -> None:
    """A ball before a plate, seen by a raster of 0.4 m: shadows per part of the aperture against
    those of each antenna. With one shadow for all the coherence is 0.9."""
    ball = meshes.sphere((0.0, 0.0, 0.25), radius=0.03, facet=4e-3)
    plate = meshes.plate((0.0, 0.0, 0.32), 0.12, 0.12, facet=4e-3)
    vertices = torch.cat([ball[0], plate[0]]).double()
    triangles = torch.cat([ball[1], plate[1] + len(ball[0])])
    side = torch.linspace(-0.2, 0.2, 10, dtype=torch.float64)
    places = torch.cartesian_prod(side, side)
    array = Array.monostatic(torch.cat([places, torch.zeros(100, 1, dtype=torch.float64)], 1))
    waveform = Waveform(torch.linspace(24e9, 30e9, 4, dtype=torch.float64))
    seen = visibility(vertices, triangles, array)
    assert seen.shape[1] > 8

    def signal(array, seen):
        return simulate(vertices.float(), triangles, array, waveform, visibility=seen)

    def coherence(one, other):
        return float((one.conj() * other).sum().abs() / (one.norm() * other.norm()))

    each = [array.subset(channels=torch.arange(100) == n) for n in range(100)]
    each = [Array.monostatic(one.tx[one.pairs[:, 0]]) for one in each]
    wanted = torch.cat([signal(one, visibility(vertices, triangles, one)) for one in each])
    assert coherence(signal(array, seen), wanted) > 0.98
    tx, rx = group_columns(array)
    middle = seen[:, [tx[45], rx[45]]][:, [0] * (1 + int(tx.max())) + [1] * (1 + int(tx.max()))]
    assert coherence(signal(array, middle), wanted) < 0.97


def test_the_groups_of_the_qar50_are_its_lines() -> None:
    tx, rx = group_columns(qar50())
    assert tx.bincount().tolist() == [47, 47]
    assert rx.bincount().tolist() == [0, 0, 47, 47]


def test_the_outermost_antennas_are_the_farthest_in_every_direction() -> None:
    """In space, on a plane that is turned, on a line, and in one point: to rounding."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    turned = torch.linalg.qr(normal(3, 3))[0]
    flat = torch.cat([qar50().tx, qar50().rx])
    directions = normal(2000, 3)
    for antennas, count in (
        (normal(60, 3), None),
        (flat, 8),
        (flat @ turned, 8),
        (normal(30, 1) @ normal(1, 3), 2),
        (torch.ones(5, 3, dtype=torch.float64), None),
        (normal(2, 3), 2),
    ):
        some = outermost(antennas)
        farthest = (directions @ antennas.T).amax(1)
        torch.testing.assert_close((directions @ some.T).amax(1), farthest, rtol=0, atol=1e-14)
        assert count is None or len(some) == count
