"""Files that are read without an error and are wrong: each is refused with its likely cause, or
noted. Spoilt from the procedural model, whose file raises nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces import plausible
from radarbook.faces.bfm import read_bfm, write_bfm
from radarbook.faces.load import load_model
from radarbook.faces.winding import unified

from .bfm_file import cap, replace, write

CELLS, MEAN = "shape/representer/cells", "shape/model/mean"
PARTS = ("shape", "expression")


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("good") / "model.h5"
    write_bfm(path, load_model("procedural"))
    return path


def read(good: Path, tmp_path: Path, *spoil):
    path = Path(shutil.copy(good, tmp_path / "spoilt.h5"))
    with h5py.File(path, "r+") as file:
        for change in spoil:
            change(file)
    return read_bfm(path, 4, 3)


def scaled(what: str, factor: float, *parts: str):
    """Multiplies a dataset of the shape, the expression or both."""

    def change(file):
        for part in parts or PARTS:
            replace(f"{part}/model/{what}", lambda v: v * factor)(file)

    return change


def planar(values: np.ndarray) -> np.ndarray:
    """All x, all y, all z along the first axis instead of x0 y0 z0 x1."""
    return values.reshape(-1, 3, *values.shape[1:]).swapaxes(0, 1).reshape(values.shape)


def test_good_files_raise_no_doubt(good, shared):
    for path in (good, shared / "models/ict_face.h5"):
        assert load_model(path).notes == ()


def test_the_fixture_is_too_small_to_be_doubted(tmp_path):
    """48 vertices with random modes: nothing is said of their smoothness."""
    assert read_bfm(write(tmp_path / "small.h5"), 6, 5).notes == ()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (replace(MEAN, planar), r"all x, all y, all z \(a surface of [\d,]{6,} cm² .* 356 cm² reo"),
        (replace("shape/model/pcaBasis", planar), r"rows of shape/model/pcaBasis are all x"),
        (replace("expression/model/pcaBasis", planar), r"rows of expression/model/pcaBasis"),
        (
            replace("shape/model/pcaBasis", np.transpose),
            r"\(10, 45087\), expected \(45087, modes\): it is transposed",
        ),
        (scaled("pcaVariance", 1e-6), "by 0.0045 mm .*, expected 0.7 to 40 mm: variances in m²"),
        (scaled("pcaVariance", 1e6), "variances in µm²"),
        (scaled("pcaVariance", 1e-2), "variances in cm²"),
        (
            lambda file: [replace(f"{p}/model/pcaVariance", np.sqrt)(file) for p in PARTS],
            "standard deviations in place of variances",
        ),
        (scaled("mean", 1e-3), r"0\.1816 long, expected 60 to 600 mm \(is it in metres"),
        (scaled("mean", 1e3), "micrometres, as BFM 2009"),
        (scaled("mean", 0.0), "is 0 long.*the mean's displacement from it"),
        (
            replace("shape/model/pcaBasis", lambda v: v[:, [0, 1, 2, 1, 4, 5, 6, 7, 8, 9]]),
            r"columns 1 and 3 of shape/model/pcaBasis are the same mode \(cosine 1\.000\)",
        ),
    ],
)
def test_certain_errors_are_refused(good, tmp_path, spoil, says):
    with pytest.raises(InputError, match=says):
        read(good, tmp_path, spoil)


def test_cells_counted_from_one_on_a_cropped_mesh(good, tmp_path):
    """The last vertex is unused, so no index is out of range; the area gives it away."""

    def spoil(file):
        cells = file[CELLS][()]
        last = file[MEAN].size // 3 - 1
        replace(CELLS, lambda _: cells[:, (cells != last).all(axis=0)] + 1)(file)

    with pytest.raises(InputError, match=r"from 1 \(a surface of 6\d\d cm² as it is, 356 cm²"):
        read(good, tmp_path, spoil)


def test_cells_of_another_mesh(good, tmp_path):
    shuffle = np.random.default_rng(0).permutation
    with pytest.raises(InputError, match="are of another mesh, or the vertices are in another"):
        read(good, tmp_path, replace(CELLS, lambda v: shuffle(v.reshape(-1)).reshape(v.shape)))


@pytest.mark.parametrize(
    ("axis", "says"),
    [(0, r"\+x to the subject's left"), (1, r"\+y up"), (2, r"\+z out of the nose")],
)
def test_another_frame(good, tmp_path, axis, says):
    """Mirrored in one axis; the file's own landmarks say so."""
    flip = np.ones(3)
    flip[axis] = -1

    def spoil(file):
        for name in (MEAN, "expression/model/mean"):
            replace(name, lambda v: (v.reshape(-1, 3) * flip).reshape(-1))(file)

    with pytest.raises(InputError, match=f"expected {says}, but the landmark"):
        read(good, tmp_path, spoil)


# -- what is doubtful is read and noted ----------------------------------------------------------


def test_mixed_winding_is_turned(good, tmp_path):
    wanted = read_bfm(good, 4, 3)
    some = np.random.default_rng(1).uniform(size=len(wanted.triangles)) < 0.3

    def spoil(file):
        replace(CELLS, lambda v: np.where(some, v[::-1], v))(file)

    model = read(good, tmp_path, spoil)
    assert model.notes == (
        f"{some.sum()} of {len(some)} triangles are wound against the others: turned",
    )
    a, b, c = (model.mean[model.triangles[:, k]] for k in range(3))
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).float().mean() > 0.9
    assert torch.equal(model.triangles.sort(dim=1).values, wanted.triangles.sort(dim=1).values)


def test_flipped_winding_is_turned(good, tmp_path):
    model = read(good, tmp_path, replace(CELLS, lambda v: v[::-1]))
    assert "face into the head" in model.notes[0]
    assert len(model.notes) == 1
    assert model.fingerprint == read_bfm(good, 4, 3).fingerprint


def test_repeated_and_collapsed_triangles_are_left_out(good, tmp_path):
    def change(cells):
        return np.concatenate([cells, cells[:, :5], [[7], [7], [8]]], axis=1)

    model = read(good, tmp_path, replace(CELLS, change))
    assert model.notes[0].startswith("6 of 29654 triangles are repeated or have a corner twice")
    assert len(model.triangles) == 29648


def test_slanted_modes_are_used_as_they_are(good, tmp_path):
    """The model is the same whether or not its modes are orthogonal."""

    def change(basis):
        basis[:, 1] = 0.6 * basis[:, 0] + 0.8 * basis[:, 1]
        return basis

    model = read(good, tmp_path, replace("shape/model/pcaBasis", change))
    assert (
        "columns 0 and 1 of shape/model/pcaBasis are not orthogonal (cosine 0.60)" in model.notes[0]
    )
    plain = read_bfm(good, 4, 3)
    unit = [m / m.norm() for m in plain.shape_modes]
    wanted = (0.6 * unit[0] + 0.8 * unit[1]) * plain.shape_modes[1].norm()
    torch.testing.assert_close(model.shape_modes[1], wanted, rtol=1e-4, atol=1e-4)


def test_weak_expressions_are_noted(good, tmp_path):
    model = read(good, tmp_path, scaled("pcaVariance", 1e-2, "expression"))
    assert "expression/model/pcaVariance moves a vertex by 0.22 mm" in model.notes[0]


def test_a_shape_mode_among_the_expressions(good, tmp_path):
    def spoil(file):
        first = file["shape/model/pcaBasis"][:, 0]
        replace("expression/model/pcaBasis", lambda v: np.c_[v[:, 0], first, v[:, 2:]])(file)

    assert "shape mode 0 and expression mode 1 are the same" in str(
        read(good, tmp_path, spoil).notes
    )


def test_variances_in_ascending_order(good, tmp_path):
    def spoil(file):
        replace("shape/model/pcaVariance", lambda v: np.r_[np.full(10, 100.0), 3e5])(file)
        replace("shape/model/pcaBasis", lambda v: np.c_[np.eye(len(v), 1), v])(file)

    assert "not in descending order" in read(good, tmp_path, spoil).notes[0]


def test_the_official_writers_shape_only_file(shared):
    """1,529 vertices of white noise on a real mean: read, and said to be noise."""
    path = shared / "models/random-l4.h5"
    if not path.is_file():
        pytest.skip("../shared/models/random-l4.h5 is not there")
    model = load_model(path)
    assert (model.n_vertices, model.n_shape, model.n_expression) == (1529, 10, 0)
    assert len(model.landmarks) == 60
    assert plausible.surface_area(model.mean.numpy(), model.triangles.numpy()) / 100 == (
        pytest.approx(1354, abs=1)
    )
    assert any("as noise does" in note for note in model.notes)
    assert any("shape-only" in note for note in model.notes)
    nose = model.mean[model.landmarks["center.nose.tip"]]
    assert (model.mean[:, 2].max() - nose[2]) < 3  # the nose tip is the foremost point


# -- parts ---------------------------------------------------------------------------------------


def test_winding_of_each_piece_and_of_a_surface_without_sense():
    _, triangles = cap()
    pieces = np.concatenate([triangles, triangles[:, ::-1] + triangles.max() + 1])
    mixed = pieces.copy()
    mixed[[3, 80]] = mixed[[3, 80]][:, ::-1]
    result, turned, orientable = unified(mixed)
    np.testing.assert_array_equal(result, pieces)  # each piece keeps the sense of its majority
    assert (turned.nonzero()[0].tolist(), orientable) == ([3, 80], True)
    strip = np.array([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4], [4, 5, 1], [5, 0, 1]])
    result, turned, orientable = unified(strip)
    assert not orientable
    assert not turned.any()
    np.testing.assert_array_equal(result, strip)


def test_roughness_is_one_for_noise_and_near_zero_for_a_smooth_mode():
    model = load_model("procedural")
    triangles = model.triangles.numpy()
    noise = np.random.default_rng(0).normal(size=(model.n_vertices, 3, 2))
    assert plausible.roughness(noise, triangles) == pytest.approx(1, abs=0.02)
    smooth = model.shape_modes[:3].permute(1, 2, 0).double().numpy()
    assert plausible.roughness(smooth, triangles) < 0.01
