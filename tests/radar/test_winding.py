"""Repair of winding and repetitions: the sound mesh comes back, and what was done is said."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from radarbook.errors import InputError
from radarbook.radar import meshes
from radarbook.radar.winding import repaired


def body(radius=0.05, centre=(0.0, 0.0, 0.35), fineness=2):
    ball = trimesh.creation.icosphere(fineness, radius=radius)
    return np.asarray(ball.vertices) + centre, np.array(ball.faces)


def together(*parts):
    offsets = np.cumsum([0, *(len(points) for points, _ in parts[:-1])])
    faces = [triangles + offset for (_, triangles), offset in zip(parts, offsets, strict=True)]
    return np.concatenate([points for points, _ in parts]), np.concatenate(faces)


def inside_out(part):
    points, triangles = part
    return points, triangles[:, ::-1]


def some_turned(part, share=0.5, seed=0):
    points, triangles = part
    chosen = np.random.default_rng(seed).random(len(triangles)) < share
    return points, np.where(chosen[:, None], triangles[:, ::-1], triangles)


def plate(**options):
    vertices, triangles = meshes.plate((0.02, 0, 0.3), 0.1, 0.08, 0.01, **options)
    return vertices.numpy(), triangles.numpy()


def oriented(triangles):
    """Triangles as a set in which winding counts and the first corner does not."""
    low = triangles.argmin(axis=1)[:, None]
    return {tuple(t) for t in np.take_along_axis(triangles, (low + np.arange(3)) % 3, axis=1)}


def bowl():
    """Half a sphere that opens away from the array: the array sees its outside."""
    points, triangles = body(fineness=3)
    return points, triangles[points[triangles].mean(axis=1)[:, 2] < 0.35]


SOUND = {
    "sphere": body(),
    "plate": plate(),
    "tilted plate": plate(tilt=(0.6, 0.3)),
    "bowl": bowl(),
    "two bodies": together(body(0.03, (-0.05, 0, 0.3)), body(0.04, (0.06, 0, 0.4))),
    "body and plate": together(body(0.03, (0, 0, 0.2)), plate()),
    "body within a body": together(body(), body(0.02)),
    "cavity": together(body(), inside_out(body(0.02))),
    "body within a cavity": together(body(), inside_out(body(0.03)), body(0.02)),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_mesh_stays_as_it_is(name):
    points, triangles = SOUND[name]
    found, notes = repaired(points, triangles)
    np.testing.assert_array_equal(found, triangles)
    assert notes == []


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("fault", ["inside out", "a third turned", "inside out, a third turned"])
@pytest.mark.parametrize("seams", [False, True])
def test_winding_is_restored(name, fault, seams):
    points, triangles = SOUND[name]
    faulty = triangles
    if "inside out" in fault:
        faulty = faulty[:, ::-1]
    if "third" in fault:
        faulty = some_turned((points, faulty), 1 / 3)[1]
    wanted = points[triangles]
    if seams:  # every triangle with corners of its own, as STL and texture seams have them
        points, faulty = points[faulty].reshape(-1, 3), np.arange(faulty.size).reshape(-1, 3)
    found, notes = repaired(points, faulty)
    normals = [np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) for t in (points[found], wanted)]
    np.testing.assert_allclose(*normals, atol=1e-15)
    assert 1 <= len(notes) <= 3
    if fault == "a third turned":
        assert "their winding was not that of their neighbours" in notes[0]


def test_what_is_said():
    assert repaired(*inside_out(body()))[1] == [
        "closed surfaces of 320 triangles had inward normals and were turned outward"
    ]
    [note] = repaired(*inside_out(plate()))[1]
    assert note.startswith("open surfaces of 160 triangles had their normals away from the array")
    [note] = repaired(*some_turned(body(), 0.2))[1]
    count = int((np.random.default_rng(0).random(320) < 0.2).sum())
    assert note.startswith(f"{count} of 320 triangles turned: their winding was not")


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("part", [body(), plate()], ids=["closed", "open"])
def test_repeated_triangles_are_dropped(part, times):
    points, triangles = part
    # Repeated with the same winding but another first corner.
    copies = [np.roll(triangles, shift, axis=1) for shift in range(times)]
    found, notes = repaired(points, np.concatenate(copies))
    np.testing.assert_array_equal(found, triangles)
    dropped = (times - 1) * len(triangles)
    assert notes == [f"{dropped} triangles dropped that the file repeats"]


@pytest.mark.parametrize("order", [1, -1])
def test_two_sided_triangles(order):
    """Of a closed surface with both sides the inner one goes; an open one keeps its back."""
    points, triangles = body()
    found, notes = repaired(points, np.concatenate([triangles, triangles[:, ::-1]][::order]))
    assert oriented(found) == oriented(triangles)
    assert notes[0] == "320 triangles dropped that the file repeats"
    points, triangles = plate()
    both = np.concatenate([triangles, triangles[:, ::-1]][::order])
    found, notes = repaired(points, both)
    np.testing.assert_array_equal(found, both)
    assert notes == []


def test_triangles_without_area_are_dropped():
    points, triangles = body()
    points = np.concatenate([points, [points[0], (points[1] + points[2]) / 2]])
    n = len(points)
    flat = [[0, 0, 1], [0, n - 2, 3], [1, n - 1, 2]]  # an index, a place twice; three in a row
    found, notes = repaired(points, np.concatenate([triangles, flat]))
    np.testing.assert_array_equal(found, triangles)
    assert notes[0] == "3 triangles without area dropped"
    with pytest.raises(InputError, match="none of its 3 triangles has an area"):
        repaired(points, np.array(flat))


def test_edges_of_more_than_two_triangles():
    """Two boxes that share an edge stay right; so does a box with a wall across it."""
    box = trimesh.creation.box((0.04, 0.04, 0.04))
    first = (np.add(box.vertices, (-0.02, -0.02, 0.3)), np.array(box.faces))
    second = (np.add(box.vertices, (0.02, 0.02, 0.3)), np.array(box.faces))
    points, triangles = together(first, second)
    found, notes = repaired(*inside_out((points, triangles)))
    assert oriented(found) == oriented(triangles)
    assert notes[-1].startswith("more than two triangles meet at 1 edge, across which")
    wall = np.array([[-0.04, -0.04, 0.28], [0, 0, 0.28], [0, 0, 0.32], [-0.04, -0.04, 0.32]])
    corner = [int(np.flatnonzero((np.abs(first[0] - w) < 1e-9).all(axis=1))[0]) for w in wall]
    a, b, c, d = corner
    points, triangles = first[0], np.concatenate([first[1], [[a, b, c], [a, c, d]]])
    found, notes = repaired(points, triangles)
    assert oriented(found[:12]) == oriented(first[1])
    assert notes[-1].startswith("more than two triangles meet at")


def test_a_surface_with_one_side_stays():
    """A Möbius strip has no consistent winding: it stays, and that is said."""
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    middle = np.stack([np.cos(turn), np.sin(turn), 0 * turn], 1)
    across = np.cos(turn / 2)[:, None] * middle + np.sin(turn / 2)[:, None] * [0, 0, 1]
    points = np.concatenate([middle - 0.3 * across, middle + 0.3 * across]) * 0.1 + [0, 0, 0.4]
    low, high = np.arange(40), np.arange(40) + 40
    after, above = np.roll(low, -1), np.roll(high, -1)
    after[-1], above[-1] = 40, 0  # joined with half a turn
    triangles = np.concatenate([np.stack([low, after, above], 1), np.stack([low, above, high], 1)])
    found, notes = repaired(points, triangles)
    np.testing.assert_array_equal(found, triangles)
    assert notes[0].startswith("80 triangles form a surface without a consistent winding")


def test_the_part_that_shows_its_back_is_said():
    """A tilted open tube: the array sees the outside of one wall and the inside of the other."""
    tube = trimesh.creation.cylinder(0.03, 0.06, sections=64).subdivide().subdivide().subdivide()
    wall = np.abs(tube.face_normals[:, 2]) < 0.5
    tilt = trimesh.transformations.rotation_matrix(1.0, [0, 1, 0])
    points = np.add(trimesh.transform_points(tube.vertices, tilt), (0, 0, 0.35))
    found, notes = repaired(points, np.array(tube.faces[wall]))
    np.testing.assert_array_equal(found, tube.faces[wall])
    [note] = notes
    share = float(note.partition(" %")[0])
    assert 5 < share < 50
    assert note.endswith("is seen from behind and does not reflect")


def test_winding_of_what_is_hidden_stays():
    """An open surface that the array does not see gives no sign which side is meant."""
    small = plate()[0] * [0.3, 0.3, 1] + [0, 0, 0.1], plate()[1][:, ::-1]
    points, triangles = together(plate(), small)
    found, notes = repaired(points, triangles)
    np.testing.assert_array_equal(found, triangles)
    assert notes == []


def test_a_scanned_head(shared_head):
    """A real scan with texture seams, and the same inside out with a tenth turned round."""
    points, triangles = shared_head
    found, _ = repaired(points, triangles)
    assert len(found) == len(triangles)
    again, _ = repaired(*some_turned(inside_out((points, triangles)), 0.1))
    a, b = (np.cross(*np.diff(points[t], axis=1).transpose(1, 0, 2)) for t in (found, again))
    # Parts that the array does not see, inside mouth and nose, may keep either side.
    assert ((a * b).sum(axis=1) > 0).mean() > 0.999
