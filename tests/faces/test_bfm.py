"""Files in Basel Face Model layout: what is read, what is written, and every known trap."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from radarbook.errors import InputError
from radarbook.faces.bfm import held_modes, read_bfm, write_bfm
from radarbook.faces.model import MorphableModel, load_model

from .bfm_file import EXPRESSIONS, SHAPES, VERTICES, cap, replace, write


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("bfm") / "small.h5")


def spoilt(tmp_path, spoil, n_shape=2, n_expression=2):
    return read_bfm(write(tmp_path / "bad.h5", spoil), n_shape, n_expression)


# -- reading ------------------------------------------------------------------------------------


def test_neutral_face_is_the_sum_of_both_means(path):
    model = read_bfm(path, 2, 2)
    with h5py.File(path) as file:
        shape = file["shape/model/mean"][()].reshape(-1, 3)
        expression = file["expression/model/mean"][()].reshape(-1, 3)
    assert np.abs(expression).max() > 1  # the trap: it is not zero
    np.testing.assert_array_equal(model.shape_mean, shape)
    np.testing.assert_array_equal(model.expression_mean, expression)
    torch.testing.assert_close(model.mean, torch.from_numpy(shape + expression))
    zero = torch.zeros(1, 2)
    torch.testing.assert_close(model.vertices(zero, zero)[0], model.mean)


def test_vertices_are_mean_plus_basis_times_deviation(path):
    """Against the layout's own formula, written out with the file's interleaved columns."""
    model = read_bfm(path, SHAPES, EXPRESSIONS)
    shape, expression = torch.randn(3, SHAPES), torch.randn(3, EXPRESSIONS)
    with h5py.File(path) as file:
        wanted = np.zeros((3, 3 * VERTICES))
        for part, value in (("shape", shape), ("expression", expression)):
            group = file[f"{part}/model"]
            scaled = group["pcaBasis"][()] * np.sqrt(group["pcaVariance"][()].astype(float))
            wanted += group["mean"][()] + value.double().numpy() @ scaled.T
    got = model.vertices(shape, expression).reshape(3, -1)
    # float32 sums of a dozen terms of order 100 mm
    np.testing.assert_allclose(got, wanted, atol=2e-4)


def test_landmarks_lie_on_the_reference_mesh_and_far_ones_are_left_out(path):
    assert dict(read_bfm(path, 1, 1).landmarks) == {"center.nose.tip": 20}


def test_held_modes(path):
    assert held_modes(path) == (SHAPES, EXPRESSIONS)


@pytest.mark.parametrize("kind", ["uint16", "int64", "float64", "uint32"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("flipped", [False, True])
def test_cells_in_any_type_and_orientation(tmp_path, kind, transposed, flipped):
    def change(cells):
        cells = cells[::-1] if flipped else cells
        return (cells.T if transposed else cells).astype(kind)

    model = spoilt(tmp_path, replace("shape/representer/cells", change))
    assert model.triangles.dtype == torch.int64
    a, b, c = (model.mean[model.triangles[:, k]] for k in range(3))
    normals = torch.linalg.cross(b - a, c - a)
    assert (normals[:, 2] > 0).all()  # outwards, whichever way the file wound them


@pytest.mark.parametrize(
    "stored",
    [
        {"nose": [0, 0, 0]},
        {"nose": {"coordinates": [0, 0, 0]}},
        [{"id": "nose", "coordinates": [0, 0, 0]}],
        [{"id": "nose", "index": 20}],
        {"nose": 20},
    ],
)
@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("kind", ["S", "U"])
def test_landmarks_as_list_or_dictionary_bytes_or_text(tmp_path, stored, scalar, kind):
    def spoil(file):
        points = file["shape/representer/points"][()].T
        text = json.dumps(stored).replace("[0, 0, 0]", str([float(c) for c in points[20]]))
        del file["metadata/landmarks/json"]
        value = np.bytes_(text) if kind == "S" else text
        file["metadata/landmarks/json"] = value if scalar else np.array([text], "S")

    assert dict(spoilt(tmp_path, spoil).landmarks) == {"nose": 20}


def test_no_landmarks_at_all(tmp_path):
    model = spoilt(tmp_path, lambda file: file.pop("metadata"))
    assert dict(model.landmarks) == {}
    assert dict(model.regions) == {}


def test_version_08_basis_is_normalised(path, tmp_path):
    """Its columns carry the standard deviation: read naively, modes would be up to 20 x longer."""

    def spoil(file):
        for part in ("shape", "expression"):
            deviation = np.sqrt(file[f"{part}/model/pcaVariance"][()])
            replace(f"{part}/model/pcaBasis", lambda basis, d=deviation: basis * d)(file)
        replace("version/minorVersion", lambda _: 8)(file)

    old, new = spoilt(tmp_path, spoil, SHAPES, EXPRESSIONS), read_bfm(path, SHAPES, EXPRESSIONS)
    torch.testing.assert_close(old.shape_modes, new.shape_modes)
    torch.testing.assert_close(old.expression_modes, new.expression_modes)


def test_only_the_first_modes_are_read(path, tmp_path):
    """The columns asked for, and no others: NaN in the rest goes unseen."""

    def spoil(file):
        file["shape/model/pcaBasis"][:, 2:] = np.nan

    torch.testing.assert_close(
        spoilt(tmp_path, spoil).shape_modes, read_bfm(path, 2, 2).shape_modes
    )


# -- bad files ----------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5: model file not found"):
        load_model(tmp_path / "none.h5")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"hello", "not an HDF5 file$"), (b"MATLAB 5.0 MAT-file" + bytes(200), "BFM 2009")],
)
def test_not_hdf5(tmp_path, content, says):
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_model(tmp_path / "m.h5")


@pytest.mark.parametrize(
    "name",
    [
        "shape/model/mean",
        "shape/model/pcaBasis",
        "expression/model/pcaVariance",
        "expression/model/mean",
        "shape/representer/cells",
        "shape/representer/points",
    ],
)
def test_missing_dataset_is_named(tmp_path, name):
    with pytest.raises(InputError, match=f"no dataset '{name}'"):
        spoilt(tmp_path, lambda file: file.pop(name))


@pytest.mark.parametrize(
    ("factor", "says"), [(1e3, "micrometres, as BFM 2009"), (1e-3, "metres"), (0.1, "centimetres")]
)
def test_other_units(tmp_path, factor, says):
    with pytest.raises(InputError, match=f"expected 60 to 600 mm .*{says}"):
        spoilt(tmp_path, replace("shape/model/mean", lambda mean: mean * factor))


def test_mixed_variants_are_named(tmp_path):
    def spoil(file):
        n = 28588  # BFM 2017 face12_nomouth
        replace("expression/model/mean", lambda _: np.zeros(3 * n, np.float32))(file)
        replace("expression/model/pcaBasis", lambda _: np.eye(3 * n, 5, dtype=np.float32))(file)

    with pytest.raises(InputError, match=r"28588 vertices \(BFM 2017 face12_nomouth\).*mixed"):
        spoilt(tmp_path, spoil)


def test_reference_mesh_of_another_size(tmp_path):
    with pytest.raises(InputError, match=r"points has 40 vertices.*48 vertices.*mixed"):
        spoilt(tmp_path, replace("shape/representer/points", lambda p: p[:, :40]))


def test_more_modes_than_held(path):
    with pytest.raises(InputError, match=r"7 shape modes asked for, .* 6 it holds"):
        read_bfm(path, 7, 1)
    with pytest.raises(InputError, match="0 expression modes"):
        read_bfm(path, 1, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda cells: cells + 1, "counts from 1"),
        (lambda cells: cells + 27656 - cells.max(), r"27657 vertices \(BFM 2019 face12\)"),
        (lambda cells: cells + 0.5, "expected integers"),
        (lambda cells: cells.ravel(), r"expected \(3, triangles\)"),
    ],
)
def test_bad_cells(tmp_path, change, says):
    with pytest.raises(InputError, match=says):
        spoilt(tmp_path, replace("shape/representer/cells", change))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("shape/model/mean", lambda v: np.where(np.arange(v.size) == 5, np.nan, v), "not finite"),
        ("shape/model/mean", lambda v: v[:-1], "3 per vertex"),
        ("shape/model/pcaBasis", lambda v: v.T, r"expected \(144, modes\)"),
        ("shape/model/pcaBasis", lambda v: 3 * v, "expected 1 or, in files of version 0.8"),
        ("shape/model/pcaVariance", lambda v: -v, "negative"),
        ("shape/model/mean", lambda v: v.astype("S"), "expected numbers"),
    ],
)
def test_bad_numbers(tmp_path, name, change, says):
    with pytest.raises(InputError, match=says):
        spoilt(tmp_path, replace(name, change))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no json", "not a JSON list"),
        ("[1, 2]", "not a JSON list"),
        ('[{"id": "nose"}]', "not a JSON list"),
        ('[{"id": "nose", "coordinates": [1, 2]}]', "three finite numbers"),
        ('[{"id": "nose", "index": 48}]', "expected 0 to 47"),
    ],
)
def test_landmarks_of_another_kind(tmp_path, text, says):
    with pytest.raises(InputError, match=says):
        spoilt(tmp_path, replace("metadata/landmarks/json", lambda _: np.bytes_(text)))


# -- writing ------------------------------------------------------------------------------------


def small_model(seed: int, n_shape: int, n_expression: int) -> MorphableModel:
    stream = np.random.default_rng(seed)
    mean, triangles = cap()

    def modes(count):
        basis, _ = np.linalg.qr(stream.normal(size=(3 * VERTICES, count)))
        lengths = stream.uniform(1, 300, size=count)
        return torch.from_numpy((basis * lengths).T.reshape(count, -1, 3)).float()

    shift = torch.from_numpy(stream.normal(size=mean.shape)).float()
    return MorphableModel(
        name="random",
        shape_mean=torch.from_numpy(mean).float(),
        expression_mean=shift,
        shape_modes=modes(n_shape),
        expression_modes=modes(n_expression),
        triangles=torch.from_numpy(triangles),
        landmarks={"nose": int(stream.integers(VERTICES)), "chin": 3},
        regions={"eyes": torch.from_numpy(stream.uniform(size=VERTICES) < 0.5)},
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), s=st.integers(1, 12), e=st.integers(1, 9))
def test_write_then_read_is_the_identity(tmp_path, seed, s, e):
    model = small_model(seed, s, e)
    write_bfm(tmp_path / "model.h5", model)
    back = read_bfm(tmp_path / "model.h5", s, e)
    for what in ("shape_mean", "expression_mean", "triangles"):
        assert torch.equal(getattr(back, what), getattr(model, what))
    # split into a float32 direction and variance, and put together again
    for what in ("shape_modes", "expression_modes"):
        torch.testing.assert_close(getattr(back, what), getattr(model, what), rtol=1e-6, atol=1e-5)
    assert dict(back.landmarks) == dict(model.landmarks)
    assert torch.equal(back.regions["eyes"], model.regions["eyes"])


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), s=st.integers(1, 12))
def test_written_basis_is_orthonormal_and_in_the_layout(tmp_path, seed, s):
    write_bfm(tmp_path / "model.h5", small_model(seed, s, 2))
    with h5py.File(tmp_path / "model.h5") as file:
        basis = file["shape/model/pcaBasis"][()].astype(float)
        np.testing.assert_allclose(basis.T @ basis, np.eye(s), atol=1e-6)
        assert file["shape/representer/points"].shape == (3, VERTICES)
        assert file["shape/representer/cells"].shape[0] == 3
        records = json.loads(file["metadata/landmarks/json"][0])
        assert {"id", "coordinates"} <= set(records[0])


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(RuntimeError):
        write_bfm(tmp_path / "model.h5", small_model(0, 2, 2))
    assert list(tmp_path.iterdir()) == []


def test_the_open_real_model_reads(shared: Path):
    """An independent conversion of ICT-FaceKit: the baselines its card states, 4.22 and 6.06 mm."""
    model = load_model(shared / "models/ict_face.h5")
    assert (model.n_vertices, len(model.triangles)) == (6489, 12762)
    assert len(model.landmarks) == 68
    assert set(model.regions) == {"eyes", "nose", "mouth", "forehead", "cheeks", "chin"}
    stream = torch.Generator().manual_seed(0)
    shape, expression = (torch.randn(2000, k, generator=stream) for k in (10, 7))
    faces = model.vertices(shape, expression)
    distance = (faces - model.mean).norm(dim=2).mean()
    between = (faces[:1000] - faces[1000:]).norm(dim=2).mean()
    # Monte-Carlo error over 2000 faces is about 0.03 mm, and the card rounds
    assert distance == pytest.approx(4.22, abs=0.12)
    assert between == pytest.approx(6.06, abs=0.15)
