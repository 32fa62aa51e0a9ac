"""Smooth displacements as further modes: their covariance, what they leave to the model, signs."""

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.bfm import read_bfm, write_bfm
from radarbook.faces.compare import vertex_areas
from radarbook.faces.displacements import Displacements, vertex_normals, with_displacements
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel

PRIOR = Displacements(lengths=(40.0, 15.0), deviations=(0.8, 0.4), left_over=0.05)


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    """A dome of 900 vertices with two modes of millimetres and one of a micrometre."""
    side = torch.linspace(-60, 60, 30)
    y, x = torch.meshgrid(side, side, indexing="ij")
    x, y = x.flatten(), y.flatten()
    mean = torch.stack([x, y, -(x**2 + y**2) / 120], dim=1)
    bump = torch.exp(-(x**2 + y**2) / 800)
    heights = torch.stack([3.0 * bump, 2.0 * bump * x / 20, 1e-3 * bump * y / 20])
    modes = torch.stack([0 * heights, 0 * heights, heights], dim=2)
    corner = (torch.arange(29)[:, None] * 30 + torch.arange(29)).flatten()
    a, b, c, d = corner, corner + 1, corner + 30, corner + 31
    triangles = torch.cat([torch.stack([a, b, d], 1), torch.stack([a, d, c], 1)])
    return MorphableModel("dome", mean, torch.zeros_like(mean), modes[:1], modes[1:], triangles)


@pytest.fixture(scope="module")
def richer(model: MorphableModel) -> MorphableModel:
    return with_displacements(model, PRIOR)


def _along(model: MorphableModel, modes: torch.Tensor) -> np.ndarray:
    """(K, N) along the normals, weighted by the root of the share of the area."""
    mean = model.mean.double()
    weights = vertex_areas(mean, model.triangles)
    along = (modes.double() * vertex_normals(mean, model.triangles)).sum(-1)
    return (along * (weights / weights.sum()).sqrt()).numpy()


def _rigid(model: MorphableModel) -> torch.Tensor:
    arms = model.mean.double() - model.mean.double().mean(0)
    axes = torch.eye(3, dtype=torch.float64)
    turns = [torch.linalg.cross(axis.expand_as(arms), arms) for axis in axes]
    return torch.stack([*(axis.expand_as(arms) for axis in axes), *turns])


def _projector(model: MorphableModel) -> np.ndarray:
    """Off rigid motions and the two strong modes of the dome."""
    rows = np.concatenate([_along(model, _rigid(model)), _along(model, model.shape_modes[:1])])
    rows = np.concatenate([rows, _along(model, model.expression_modes[:1])])
    basis = np.linalg.qr(rows.T)[0]
    return np.eye(rows.shape[1]) - basis @ basis.T


def test_the_models_own_modes_and_their_order_stay(
    model: MorphableModel, richer: MorphableModel
) -> None:
    assert torch.equal(richer.shape_modes[:1], model.shape_modes)
    assert torch.equal(richer.expression_modes, model.expression_modes)
    assert torch.equal(richer.mean, model.mean)
    assert richer.n_shape > 20
    sizes = np.linalg.norm(_along(richer, richer.shape_modes[1:]), axis=1)
    assert (np.diff(sizes) <= 1e-6).all()


def test_the_covariance_is_the_kernels_off_what_is_projected_out(
    model: MorphableModel, richer: MorphableModel
) -> None:
    """The kernel of all pairs of vertices, projected in float64, is the reference; what lacks is
    positive and within the stated share."""
    mean = model.mean.double()
    normals = vertex_normals(mean, model.triangles).numpy()
    weights = vertex_areas(mean, model.triangles).numpy()
    root = np.sqrt(weights / weights.sum())
    kernel = PRIOR.kernel(mean.numpy(), normals, mean.numpy(), normals)
    off = _projector(model)
    wanted = off @ (kernel * root * root[:, None]) @ off
    modes = _along(model, richer.shape_modes[1:])
    lacking = np.linalg.eigvalsh(wanted - modes.T @ modes)
    assert 0 < lacking.sum() < PRIOR.left_over * np.trace(wanted)
    # Modes are rounded to 1e-4 mm; the largest has 0.5 mm.
    assert lacking.min() > -1e-4
    # One mode fewer would leave more than the share, or nearly: the factor takes a tenth of it.
    fewer = modes[:-1]
    assert np.trace(wanted - fewer.T @ fewer) > 0.6 * PRIOR.left_over * np.trace(wanted)


def test_samples_have_the_kernels_covariance_at_two_points(
    model: MorphableModel, richer: MorphableModel
) -> None:
    """Monte Carlo through `vertices`: 4000 faces, a covariance is known to some 3 % of the
    variance; what is projected out and left over lowers it by up to the difference of traces."""
    stream = torch.Generator().manual_seed(0)
    coefficients = torch.randn(4000, richer.n_shape, generator=stream)
    coefficients[:, :1] = 0
    faces = richer.vertices(coefficients, torch.zeros(4000, 2)) - richer.mean
    normals = vertex_normals(model.mean, model.triangles)
    points = torch.tensor([12 * 30 + 6, 12 * 30 + 8, 3 * 30 + 25])
    moved = (faces[:, points] * normals[points]).sum(-1).double()
    sampled = (moved.T @ moved / 4000).numpy()
    modes = (richer.shape_modes[1:, points] * normals[points]).sum(-1).double().numpy()
    assert np.abs(sampled - modes.T @ modes).max() < 0.05 * sampled.max()
    # Neighbours at 8 mm move alike, points across the dome do not.
    correlation = sampled / np.sqrt(np.outer(np.diag(sampled), np.diag(sampled)))
    assert correlation[0, 1] > 0.6
    assert abs(correlation[0, 2]) < 0.3


def test_modes_are_orthogonal_and_leave_strong_modes_and_rigid_motions_alone(
    model: MorphableModel, richer: MorphableModel
) -> None:
    modes = _along(model, richer.shape_modes[1:])
    gram = modes @ modes.T
    off = gram - np.diag(np.diag(gram))
    # Rounding to 1e-4 mm, over 900 vertices and modes of up to 0.5 mm.
    assert np.abs(off).max() < 2e-5
    for known in (_rigid(model), model.shape_modes[:1], model.expression_modes[:1]):
        rows = _along(model, known)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        assert np.abs(rows @ modes.T).max() < 2e-5
    # The third mode of the dome is of a micrometre: displacements go on moving faces that way.
    weak = _along(model, model.expression_modes[1:])
    assert np.linalg.norm(modes @ weak.T / np.linalg.norm(weak)) > 0.05


def test_displacements_are_along_the_normals_and_differentiable(
    model: MorphableModel, richer: MorphableModel
) -> None:
    normals = vertex_normals(model.mean, model.triangles)
    modes = richer.shape_modes[1:]
    along = (modes * normals).sum(-1, keepdim=True) * normals
    assert (modes - along).abs().max() < 2e-4  # rounded
    more = richer.to(dtype=torch.float64)
    shape = torch.zeros(1, richer.n_shape, dtype=torch.float64, requires_grad=True)
    vertices = more.vertices(shape, torch.zeros(1, 2, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(vertices[0, 400, 2], shape)
    assert torch.allclose(gradient[0], more.shape_modes[:, 400, 2])


def test_a_symmetric_face_has_the_same_modes_in_another_precision_and_order_of_sums(
    model: MorphableModel, richer: MorphableModel
) -> None:
    """Mirror images make equal pivots and pairs of equal entries; rounding must not choose.
    Vertices moved by a billionth of a millimetre stand for another processor's last bits."""
    stream = torch.Generator().manual_seed(1)
    shaken = model.to(dtype=torch.float64)
    noise = torch.randn(model.mean.shape, generator=stream, dtype=torch.float64)
    mean = shaken.shape_mean + 1e-9 * noise
    again = with_displacements(
        MorphableModel(
            "dome",
            mean,
            shaken.expression_mean,
            shaken.shape_modes,
            shaken.expression_modes,
            model.triangles,
        ),
        PRIOR,
    )
    assert again.n_shape == richer.n_shape
    # Pairs of modes whose variances differ by rounding alone may turn in their plane: all that
    # they span is compared, and single modes where neighbours differ by a hundredth.
    one, other = (_along(model, m.shape_modes[1:]) for m in (richer, again))
    assert np.abs(one.T @ one - other.T @ other).max() < 1e-6
    sizes = np.linalg.norm(one, axis=1)
    gap = np.minimum(np.r_[np.inf, -np.diff(sizes)], np.r_[-np.diff(sizes), 0]) > 0.01 * sizes
    assert gap.sum() > 5
    assert np.abs(one - other)[gap].max() < 1e-5


def test_saved_and_read_again_it_is_the_same_model(richer: MorphableModel, tmp_path) -> None:
    write_bfm(tmp_path / "richer.h5", richer)
    back = read_bfm(tmp_path / "richer.h5", richer.n_shape, richer.n_expression)
    assert back.fingerprint == richer.fingerprint


def test_computed_twice_it_is_the_same_model() -> None:
    model = load_model()
    one, other = (with_displacements(model, PRIOR) for _ in range(2))
    assert one.fingerprint == other.fingerprint != model.fingerprint
    assert one.shape_modes.dtype == model.shape_modes.dtype


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lengths": (10.0,), "deviations": (1.0, 2.0)}, "a deviation for each length"),
        ({"lengths": (0.0,), "deviations": (1.0,)}, "positive lengths"),
        ({"lengths": (10.0,), "deviations": (float("nan"),)}, "positive deviations"),
        ({"left_over": 1.0}, "left-over share"),
    ],
)
def test_bad_priors_are_refused(options: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Displacements(**options)
