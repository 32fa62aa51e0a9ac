"""The ICT-FaceKit converter: its statistics by themselves, and on the real files where present."""

from __future__ import annotations

import shutil
import tarfile

import h5py
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from radarbook.errors import InputError
from radarbook.faces import ict
from radarbook.faces.bfm import read_bfm
from radarbook.faces.ict import (
    boundary_loops,
    convert_ict,
    principal_modes,
    read_ict,
    sample_activations,
)
from radarbook.faces.rigid import without_rigid_motion

KIT = ("jawOpen", "mouthClose", "mouthSmile_L", "mouthSmile_R", "browDown_L", "browDown_R")


# -- statistics ---------------------------------------------------------------------------------


def test_activations_follow_the_rule():
    values = sample_activations(KIT, 50_000, seed=0)
    assert values.min() == 0
    assert values.max() <= 1
    jaw, close, left, right = values[:, :4].T
    assert (close <= jaw).all()
    assert (close[jaw == 0] == 0).all()
    # a Bernoulli share of 50 000 draws is good to 0.001
    assert (left > 0).mean() == pytest.approx(ict.ACTIVE, abs=0.005)
    assert values[left > 0, 2].mean() == pytest.approx(0.5, abs=0.02)
    assert (left == right)[(left > 0) & (right > 0)].mean() > 0.9
    # correlation = the share drawn together
    assert np.corrcoef(left, right)[0, 1] == pytest.approx(ict.TOGETHER, abs=0.03)
    assert abs(np.corrcoef(left, values[:, 4])[0, 1]) < 0.02


def test_activations_are_seeded():
    first = sample_activations(KIT, 10, seed=3)
    np.testing.assert_array_equal(first, sample_activations(KIT, 10, seed=3))
    assert (first != sample_activations(KIT, 10, seed=4)).any()


def test_mouth_does_not_close_without_a_jaw():
    assert (sample_activations(["mouthClose", "cheekPuff_L"], 500, seed=0)[:, 0] == 0).all()


def test_principal_modes_keep_the_covariance():
    fields = (
        np.random.default_rng(0).normal(size=(4, 30, 3)) * np.array([3, 2, 1, 1])[:, None, None]
    )
    modes = principal_modes(fields)
    flat, wanted = modes.reshape(4, -1), fields.reshape(4, -1)
    np.testing.assert_allclose(flat.T @ flat, wanted.T @ wanted, atol=1e-10)
    gram = flat @ flat.T
    np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-9)
    assert (np.diff(np.diag(gram)) < 0).all()


def test_rigid_motion_is_what_is_removed():
    points = np.random.default_rng(1).normal(size=(50, 3)) * [40, 60, 30] + [0, 0, 90]
    motion = np.array([1.0, 2.0, 3.0]) + np.cross([0.1, -0.2, 0.3], points)
    np.testing.assert_allclose(without_rigid_motion(points, motion), 0, atol=1e-10)
    field = without_rigid_motion(points, np.random.default_rng(2).normal(size=(50, 3)))
    np.testing.assert_allclose(without_rigid_motion(points, field), field, atol=1e-12)


# -- bad folders --------------------------------------------------------------------------------


def test_not_the_kit(tmp_path):
    with pytest.raises(InputError, match=r"no generic_neutral_mesh\.obj"):
        read_ict(tmp_path)


def test_kit_without_expressions(tmp_path):
    text = "v 0 0 0\n" * ict.FACE_VERTICES
    (tmp_path / "generic_neutral_mesh.obj").write_text(text)
    (tmp_path / "identity000.obj").write_text(text)
    with pytest.raises(InputError, match="no expression OBJ"):
        read_ict(tmp_path)
    (tmp_path / "jawOpen.obj").write_text(text)
    with pytest.raises(InputError, match="no face within the crop"):
        read_ict(tmp_path)
    (tmp_path / "generic_neutral_mesh.obj").write_text(text + "f 1 2 99999\n")
    with pytest.raises(InputError, match="out of range"):
        read_ict(tmp_path)
    (tmp_path / "generic_neutral_mesh.obj").write_text("v 0 0 x\n")
    with pytest.raises(InputError, match="not a readable OBJ"):
        read_ict(tmp_path)


# -- the real files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kit(shared, tmp_path_factory):
    if not (shared / "ict-facekit.tar.gz").is_file():
        pytest.skip("../shared/ict-facekit.tar.gz is not there")
    folder = tmp_path_factory.mktemp("ict")
    with tarfile.open(shared / "ict-facekit.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "ict-facekit"


def part(kit, folder, **factors):
    """A folder of the neutral face and the named files, their coordinates times a factor."""
    for name in ("generic_neutral_mesh", *factors):
        text = (kit / f"FaceXModel/{name}.obj").read_text()
        factor = factors.get(name, 1)
        if factor != 1:
            head = ict.read_obj(kit / f"FaceXModel/{name}.obj").points / ict.MM_PER_CM * factor
            text = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in head)
        (folder / f"{name}.obj").write_text(text)
    shutil.copy(kit / "FaceXModel/vertex_indices.json", folder)
    return folder


def test_a_part_of_the_kit_is_enough(kit, tmp_path):
    model = read_ict(part(kit, tmp_path, identity000=1, jawOpen=1))
    assert (model.n_shape, model.n_expression) == (1, 1)


@pytest.mark.parametrize("factor", [10, 0.1])
def test_a_file_in_another_unit(kit, tmp_path, factor):
    with pytest.raises(InputError, match=r"identity000\.obj: moves .* another unit than"):
        read_ict(part(kit, tmp_path, identity000=factor, jawOpen=1))


def test_an_identity_that_is_the_neutral_face(kit, tmp_path):
    folder = part(kit, tmp_path, jawOpen=1)
    shutil.copy(folder / "generic_neutral_mesh.obj", folder / "identity000.obj")
    with pytest.raises(InputError, match=r"identity000\.obj: moves the face's vertices by 0 mm"):
        read_ict(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"idx_to_landmark_verts": [99999999]}', "\0"])
def test_landmarks_of_another_kind(kit, tmp_path, text):
    folder = part(kit, tmp_path, identity000=1, jawOpen=1)
    (folder / "vertex_indices.json").unlink()
    (folder / "vertex_indices.json").write_text(text)
    with pytest.raises(InputError, match="no landmarks 'idx_to_landmark_verts'"):
        read_ict(folder)


@pytest.fixture(scope="module")
def converted(kit, tmp_path_factory):
    path = tmp_path_factory.mktemp("converted") / "ict.h5"
    return convert_ict(kit, path), path


def test_converted_file_reads_back(converted):
    model, path = converted
    back = read_bfm(path, model.n_shape, model.n_expression)
    assert model.n_shape == 10
    assert model.n_expression == 12
    assert torch.equal(back.shape_modes, model.shape_modes)
    assert back.fingerprint == model.fingerprint
    assert dict(back.landmarks) == dict(model.landmarks)
    assert len(model.landmarks) == 68


def test_modes_are_orthogonal_without_rigid_motion(converted):
    model, _ = converted
    for modes in (model.shape_modes.double(), model.expression_modes.double()):
        flat = modes.reshape(len(modes), -1)
        unit = flat / flat.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, torch.eye(len(modes)).double(), atol=1e-5, rtol=0)
        power = flat.square().sum(dim=1)
        assert (power.diff() <= 1e-6 * power[0]).all()
        assert modes.mean(dim=1).abs().max() < 1e-4


def test_eyes_are_closed_and_only_lips_and_outline_are_open(converted):
    model, _ = converted
    mean = model.mean.numpy()
    loops = boundary_loops(model.triangles.numpy())
    assert len(loops) == 2
    centres = sorted((mean[loop].mean(axis=0) for loop in loops), key=lambda c: c[2])
    assert np.abs([c[0] for c in centres]).max() < 1
    assert centres[1][1] == pytest.approx(-33.6, abs=1)  # the lips
    for pair in ((36, 39), (42, 45)):
        ends = mean[[model.landmarks[f"multipie68.{k}"] for k in pair]]
        middle = ends.mean(axis=0)
        off = np.hypot(mean[:, 0] - middle[0], mean[:, 1] - middle[1])
        assert mean[off.argmin(), 2] > middle[2]  # bulges forward of the corners
    normals = np.cross(
        mean[model.triangles[:, 1]] - mean[model.triangles[:, 0]],
        mean[model.triangles[:, 2]] - mean[model.triangles[:, 0]],
    )
    new = model.triangles.numpy().max(axis=1) >= model.n_vertices - 2 * 169
    assert (normals[new, 2] > 0).mean() > 0.95


@pytest.fixture(scope="module")
def common(kit, shared):
    """Vertices of the head that the independent conversion has too, and that conversion's modes."""
    head = ict.read_obj(kit / "FaceXModel/generic_neutral_mesh.obj").points
    with h5py.File(shared / "models/ict_face.h5") as file:
        theirs = file["shape/model/mean"][()].reshape(-1, 3)
        distance, index = cKDTree(head[: ict.FACE_VERTICES]).query(theirs)
        same = distance < 0.01
        modes = {}
        for part in ("shape", "expression"):
            basis = file[f"{part}/model/pcaBasis"][()].astype(float)
            basis *= np.sqrt(file[f"{part}/model/pcaVariance"][()])
            modes[part] = basis.T.reshape(len(basis.T), -1, 3)[:, same]
    assert same.sum() > 5000
    return head, index[same], modes


def explain(kit, common, part, names):
    """Coefficients (standard deviations) of the independent conversion that make each of the
    kit's files, and the share of the file's displacement they explain, rigid motion free."""
    head, index, modes = common
    points = head[index]
    moved = [ict.read_obj(kit / f"FaceXModel/{name}.obj").points for name in names]
    fields = np.array([(one - head)[index].ravel() for one in moved])
    rigid = [np.broadcast_to(axis, points.shape) for axis in np.eye(3)]
    rigid += [np.cross(axis, points) / 100 for axis in np.eye(3)]
    columns = np.concatenate([modes[part], rigid]).reshape(len(modes[part]) + 6, -1)
    solution = np.linalg.solve(columns @ columns.T, columns @ fields.T).T
    rest = fields - solution @ columns
    share = 1 - (rest**2).sum(axis=1) / (fields**2).sum(axis=1)
    return solution[:, : len(modes[part])], share


@pytest.fixture(scope="module")
def identities(kit, common):
    coefficients, share = explain(kit, common, "shape", [f"identity{k:03d}" for k in range(10)])
    assert share.min() > 0.999
    return coefficients


def test_identities_agree_with_an_independent_conversion(identities):
    """Each identity file is one standard deviation there too, and they are uncorrelated: the same
    covariance on the same set of modes, within 10 %."""
    np.testing.assert_allclose(identities @ identities.T, np.eye(10), atol=0.1)


def test_distances_agree_with_an_independent_conversion(converted, common, identities):
    """Mean-face distance of the ten identities: ours, and the same identities through theirs."""
    model, _ = converted
    modes = common[2]["shape"]
    drawn = np.random.default_rng(0).normal(size=(200, 10))
    flat = (drawn @ identities) @ modes.reshape(len(modes), -1)
    theirs = np.linalg.norm(flat.reshape(len(drawn), -1, 3), axis=2).mean()
    zeros = torch.zeros(200, model.n_expression)
    faces = model.vertices(torch.from_numpy(drawn).float(), zeros)
    ours = (faces - model.mean).norm(dim=2).mean()
    assert float(ours) == pytest.approx(theirs, rel=0.1)


def test_activations_agree_with_an_independent_conversion(kit, common):
    """A blendshape's standard deviation there, the others held: that of our rule within 10 %."""
    names = ["jawOpen", "mouthPucker", "cheekPuff_L", "cheekPuff_R"]
    theirs, share = explain(kit, common, "expression", names)
    assert share.min() > 0.99
    values = sample_activations(names, 100_000, seed=0)
    precision = np.linalg.inv(np.cov(values, rowvar=False))
    # both sides together count as one, since rules may part them differently
    for row, at in ((theirs[0], [0]), (theirs[1], [1]), (theirs[2] + theirs[3], [2, 3])):
        ours = 1 / np.sqrt(precision[np.ix_(at, at)].sum())
        assert 1 / np.linalg.norm(row) == pytest.approx(ours, rel=0.1)
