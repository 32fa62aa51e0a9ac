"""The weights that come with the project: they load, they fit, and they err as they say."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch

from radarbook import cli
from radarbook.datasets.distribution import random_parameters
from radarbook.errors import InputError
from radarbook.evaluation.metrics import mean_face, vertex_distances
from radarbook.faces.load import load_model
from radarbook.faces.mesh import read_mesh
from radarbook.profiles import get_profile
from radarbook.radar.image import save_image
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.training.checkpoints import SHIPPED, read_about, shipped, shipped_path
from radarbook.training.losses import image_loss

MODEL = load_model("procedural")
FACES = 10


@pytest.fixture(scope="module")
def fresh():
    """Faces that no dataset of the project's seed holds, and their physical images at -20 dB."""
    truth = random_parameters(range(FACES), seed=20_221)
    rendering = truth.rendering.clone()
    rendering[:, 0] = -20.0
    truth = truth.replace(rendering=rendering)
    renderer = PhysicalRenderer.for_profile(MODEL, get_profile("laptop"))
    with torch.no_grad():
        images = [renderer.render(truth[n]) for n in range(FACES)]
    return truth, images


@pytest.mark.parametrize("kind", ["encoder", "autoencoder"])
def test_fresh_faces_err_as_stated(kind, fresh):
    """The mean of a few faces against the stated mean: within five standard errors, from the
    spread that is stated too (a false alarm in a million). And better than the mean
    face, on these very faces."""
    truth, images = fresh
    stated = read_about(shipped_path(kind))["test"]
    network = shipped(kind, model=MODEL, pixels=64)
    errors, blank = [], []
    for n, image in enumerate(images):
        found = network.predict(image)
        errors.append(float(vertex_distances(MODEL, found, truth[n]).mean()))
        blank.append(float(vertex_distances(MODEL, mean_face(truth[n]), truth[n]).mean()))
    measured = sum(errors) / FACES
    allowed = 5 * stated["vertex_deviation_mm"] / math.sqrt(FACES)
    assert abs(measured - stated["vertex_mm"]) < allowed
    # the tolerance itself tells it from a network that learned nothing
    assert allowed < stated["mean_face_vertex_mm"] - stated["vertex_mm"]
    assert measured < sum(blank) / FACES


def test_the_renderer_draws_these_faces_better_than_other_faces(fresh):
    truth, images = fresh
    renderer = shipped("renderer")
    own = other = 0.0
    with torch.no_grad():
        for n, image in enumerate(images):
            wrong = truth[(n + 1) % FACES].replace(
                translation=truth[n].translation, rotation=truth[n].rotation
            )
            own += float(image_loss(*renderer(truth[n].normalised()), image))
            other += float(image_loss(*renderer(wrong.normalised()), image))
    assert own < other


def test_all_together_are_small():
    assert sum(shipped_path(kind).stat().st_size for kind in SHIPPED) < 30e6


def test_the_renderer_ships_once():
    """The autoencoder's own file is its encoder; what it draws with is the renderer's file."""
    encoder, autoencoder = (
        shipped_path(kind).stat().st_size for kind in ("encoder", "autoencoder")
    )
    assert autoencoder < 1.01 * encoder
    drawing = shipped("renderer").state_dict()
    for name, value in shipped("autoencoder").renderer.state_dict().items():
        assert torch.equal(value, drawing[name]), name


def test_what_they_were_not_trained_on_is_refused():
    with pytest.raises(InputError, match="images of 64 x 64 pixels, found 48 x 48"):
        shipped("encoder", pixels=48)
    other = MODEL.truncated(9, 7)
    with pytest.raises(InputError, match="trained on the face model procedural"):
        shipped("autoencoder", model=other)
    with pytest.raises(InputError, match="expected encoder, renderer, autoencoder, found 'face'"):
        shipped("face")


def test_reconstruct_needs_no_weights_of_ones_own(fresh, tmp_path, monkeypatch, capsys):
    """The command writes the very face that the shipped autoencoder sees in the image; an image
    of another size is refused in one line."""
    images = fresh[1]

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["radarbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr()

    save_image(tmp_path / "image.h5", images[0])
    where = tmp_path / "face.ply"
    code, _ = run("reconstruct", tmp_path / "image.h5", "-o", where, "--through", "learned")
    assert code == 0
    found = shipped("autoencoder").predict(images[0])
    expected = MODEL.vertices(found.shape, found.expression)[0]
    written = read_mesh(where, "mm").vertices
    # the file holds float32 millimetres, read back in metres
    assert torch.allclose(1e3 * torch.from_numpy(written).float(), expected, atol=1e-3)

    small = replace(
        images[0],
        **{n: getattr(images[0], n)[:, :48, :48] for n in ("amplitude_db", "depth", "mask")},
        x=images[0].x[:48],
        y=images[0].y[:48],
    )
    save_image(tmp_path / "small.h5", small)
    code, out = run("reconstruct", tmp_path / "small.h5", "-o", where, "--through", "learned")
    assert code == 2
    assert "trained on images of 64 x 64 pixels, found 48 x 48" in out.err
