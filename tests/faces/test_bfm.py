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
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel

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
    with pytest.raises(InputError, match=r"0 shape modes asked for, expected between 1 and the 6"):
        read_bfm(path, 0, 1)
    with pytest.raises(InputError, match=r"6 expression modes asked for, .* 5 it holds"):
        read_bfm(path, 1, 6)


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
        lengths = stream.uniform(10, 60, size=count)
        return torch.from_numpy((basis * lengths).T.reshape(count, VERTICES, 3)).float()

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
@given(seed=st.integers(0, 2**31), s=st.integers(1, 12), e=st.integers(0, 9))
def test_write_then_read_is_the_identity(tmp_path, seed, s, e):
    model = small_model(seed, s, e)
    write_bfm(tmp_path / "model.h5", model)
    back = read_bfm(tmp_path / "model.h5", s, e)
    for what in ("shape_mean", "expression_mean", "triangles"):
        assert torch.equal(getattr(back, what), getattr(model, what))
    # split into a direction and a variance in float64, and put together again: no bit differs
    for what in ("shape_modes", "expression_modes"):
        assert torch.equal(getattr(back, what), getattr(model, what))
    assert back.fingerprint == model.fingerprint
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


# -- what other writers write -------------------------------------------------------------------


def without_expression(file):
    del file["expression"]


def test_a_file_without_expressions(tmp_path, path):
    model = read_bfm(write(tmp_path / "shape.h5", without_expression))
    assert (model.n_shape, model.n_expression) == (SHAPES, 0)
    assert held_modes(tmp_path / "shape.h5") == (SHAPES, 0)
    assert "shape-only" in model.notes[0]
    whole = read_bfm(path)
    torch.testing.assert_close(model.mean, whole.shape_mean)
    shape = torch.randn(2, SHAPES)
    torch.testing.assert_close(
        model.vertices(shape, torch.zeros(2, 0)),
        whole.vertices(shape, torch.zeros(2, EXPRESSIONS)) - whole.expression_mean,
    )
    with pytest.raises(InputError, match="2 expression modes asked for, expected the 0 it holds"):
        read_bfm(tmp_path / "shape.h5", 2, 2)
    write_bfm(tmp_path / "again.h5", model)
    assert read_bfm(tmp_path / "again.h5").fingerprint == model.fingerprint


def test_statismos_own_layout_with_groups_at_the_root(tmp_path, path):
    def spoil(file):
        for group in ("model", "representer"):
            file.move(f"shape/{group}", group)
        del file["shape"], file["expression"]

    model = read_bfm(write(tmp_path / "root.h5", spoil))
    torch.testing.assert_close(model.shape_modes, read_bfm(path).shape_modes)
    assert model.n_expression == 0


def test_defaults_are_capped_at_what_a_file_holds(path):
    model = load_model(path)
    assert (model.n_shape, model.n_expression) == (SHAPES, EXPRESSIONS)
    few = load_model(path, n_expression=2)
    assert (few.n_shape, few.n_expression) == (SHAPES, 2)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("center.nose.tip 1 {}\nleft.ear 1 90 20 -60\n", {"center.nose.tip": 20}),
        ("center.nose.tip {}", {"center.nose.tip": 20}),
        ("center.nose.tip 0 {}", {}),  # marked invisible
        ("", {}),
    ],
)
@pytest.mark.parametrize("kind", [np.bytes_, str])
def test_landmarks_as_lines(tmp_path, text, wanted, kind):
    def spoil(file):
        point = " ".join(str(float(c)) for c in file["shape/representer/points"][:, 20])
        del file["metadata/landmarks/json"]
        file["metadata/landmarks/text"] = kind(text.format(point))

    model = spoilt(tmp_path, spoil)
    assert dict(model.landmarks) == wanted


@pytest.mark.parametrize(
    ("what", "value", "says"),
    [
        ("text", "nose 1 2\n", "line 1: expected 'name visible x y z', found 'nose 1 2'"),
        ("text", "a 1 0 0 0\nnose x y z", "line 2: expected"),
        ("text", "nose 1 nan 0 0", "three finite numbers"),
        ("text", np.zeros(3), "float64, expected UTF-8 text"),
        ("json", np.bytes_(b"\xff\xfe[]"), "expected UTF-8 text"),
        ("json", np.array([1.5]), "expected UTF-8 text"),
    ],
)
def test_landmarks_that_are_none(tmp_path, what, value, says):
    def spoil(file):
        del file["metadata/landmarks/json"]
        file[f"metadata/landmarks/{what}"] = value

    with pytest.raises(InputError, match=says):
        spoilt(tmp_path, spoil)


def test_empty_landmarks_and_landmarks_off_the_mesh(tmp_path):
    name = "metadata/landmarks/json"
    assert dict(spoilt(tmp_path, replace(name, lambda _: np.bytes_(b"[]"))).landmarks) == {}
    (tmp_path / "bad.h5").unlink()
    metres = json.dumps([{"id": "center.nose.tip", "coordinates": [0.0, 0.1, 5.0]}])
    model = spoilt(tmp_path, replace(name, lambda _: metres))
    assert dict(model.landmarks) == {}
    assert "none of its 1 landmarks lies on the reference mesh" in model.notes[0]


def test_big_endian_compressed_and_double(tmp_path, path):
    def spoil(file):
        for part in ("shape", "expression"):
            for what in ("mean", "pcaBasis", "pcaVariance"):
                name = f"{part}/model/{what}"
                value = file[name][()].astype(">f8" if what != "mean" else ">f4")
                del file[name]
                file.create_dataset(name, data=value, compression="gzip")
        replace("shape/representer/cells", lambda v: v.astype(">u4"))(file)

    model, plain = spoilt(tmp_path, spoil), read_bfm(path, 2, 2)
    torch.testing.assert_close(model.shape_modes, plain.shape_modes)
    assert torch.equal(model.triangles, plain.triangles)
    assert torch.equal(model.mean, plain.mean)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: [f.pop("shape"), f.create_group("v_template")], "this is FLAME"),
        (lambda f: [f.pop("shape"), f.create_group("shapeMU")], "this is BFM 2009"),
        (lambda f: f.pop("shape"), "found expression, metadata, version"),
        (
            replace("shape/model/pcaVariance", lambda v: v[:-1]),
            "pcaBasis has 6 columns and shape/model/pcaVariance 5 values",
        ),
        (replace("shape/representer/cells", lambda v: v.astype("S")), "expected integers"),
        (replace("shape/representer/cells", lambda v: v * np.nan), "expected integers"),
        (replace("shape/representer/cells", lambda v: v - 1), "refers to vertex -1, expected 0"),
        (
            lambda f: f.create_dataset("metadata/regions/eyes", data=np.zeros((4, 4))),
            "metadata/regions/eyes is float64",
        ),
        (
            lambda f: [f.pop("shape/model/mean"), f.create_group("shape/model/mean")],
            "no dataset 'shape/model/mean'",
        ),
    ],
)
def test_other_structures(tmp_path, spoil, says):
    with pytest.raises(InputError, match=says):
        spoilt(tmp_path, spoil)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_cut_files(tmp_path, path, share):
    whole = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"cut\.h5: damaged"):
        load_model(tmp_path / "cut.h5")


def test_a_damaged_chunk_names_the_dataset(tmp_path):
    """The file opens; its compressed basis cannot be unpacked."""

    def spoil(file):
        name = "shape/model/pcaBasis"
        value = file[name][()]
        del file[name]
        file.create_dataset(name, data=value, compression="gzip", chunks=value.shape)

    path = write(tmp_path / "bad.h5", spoil)
    with h5py.File(path) as file:
        chunk = file["shape/model/pcaBasis"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\x00" * chunk.size
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"bad\.h5: 'shape/model/pcaBasis' cannot be read"):
        read_bfm(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GIF89a" + bytes(50), "a GIF image"),
        (b"PK\x03\x04" + bytes(50), r"a ZIP archive, as NumPy's \.npz"),
        (b"\x80\x04\x95" + bytes(50), "a pickle, which is never read"),
        (b"\x1f\x8b" + bytes(50), "compressed by gzip"),
        (b"<!DOCTYPE html>", "a web page"),
    ],
)
def test_other_files_under_the_name(tmp_path, content, says):
    (tmp_path / "m.h5").write_bytes(content)
    with pytest.raises(InputError, match=says):
        load_model(tmp_path / "m.h5")
