"""Scenes for training: other people than the campaign's, and sums of their volumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from radarbook.datasets.campaign.plan import Campaign, Cast
from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.profiles import get_profile
from radarbook.radar.array import qar50
from radarbook.radar.face_gate import DEEP_DB
from radarbook.radar.image import RadarImage
from radarbook.radar.imaging import Grid
from radarbook.radar.waveform import qar50_waveform
from radarbook.training import scenes as module
from radarbook.training.scenes import Scenes, TrainingFaces, make_scenes, shifted

MODEL = load_model("procedural")
FACES = TrainingFaces(subjects=40)
STEP = 0.005


def two_scenes() -> Scenes:
    """Two faces of one voxel, 2 pixels apart in x and one plane in z; the rest lies below each."""
    grid = Grid.regular(0.16, 32, 0.28, 0.44, 33)
    face, rest = torch.zeros(2, 2, 33, 32, 32, 2, dtype=torch.float16)
    face[0, 8, 20, 14, 0] = face[1, 9, 20, 16, 0] = 1.0
    rest[0, 18, 6, 14, 0] = rest[1, 19, 6, 16, 0] = 2.0
    faces = FaceParameters.neutral(2, n_shape=3, n_expression=2)
    place = torch.tensor([[0.0, 0.0, 0.0], [2 * STEP, 0.0, STEP]])
    return Scenes(faces.replace(translation=place), face, rest, grid)


def test_faces_for_training_are_not_those_of_the_campaign() -> None:
    campaign, cast = Campaign(), Cast.of(MODEL, FACES)
    assert FACES.seed != campaign.seed
    found = torch.cat([FACES.face(cast, *name).expression for name in FACES.names()])
    assert 0.7 < float(found.std()) < 1.3
    assert float(torch.corrcoef(found.T).triu(1).abs().mean()) < 0.25
    assert len({tuple(FACES.face(cast, *name).shape[0].tolist()) for name in FACES.names()}) == 40


def test_faults_come_together_and_one_without_another() -> None:
    plans = [FACES.of(number) for number in range(40)]
    for part in ("foam", "hair"):
        assert 0 < sum(getattr(plan, part) is None for plan in plans) < 40
    assert all(plan.body is not None and plan.blanket is None for plan in plans)
    assert len({FACES.recorded_by(number) for number in range(40)}) == module.INSTRUMENTS


def test_a_whole_scene_is_the_sum_of_its_parts() -> None:
    image = two_scenes().whole()
    # The rest is twice as strong as the face.
    assert float(image.amplitude_db[0, 6, 14]) == pytest.approx(0.0, abs=0.01)
    assert float(image.amplitude_db[0, 20, 14]) == pytest.approx(-6.02, abs=0.01)
    bare = two_scenes().bare()
    assert int(bare.mask[1].sum()) == 1
    assert bool(bare.mask[1, 20, 16])


def test_what_surrounds_another_person_moves_to_the_face() -> None:
    faces, images = two_scenes().mixed(12, torch.Generator().manual_seed(0))
    for place, mask, depth in zip(faces.translation, images.mask, images.depth, strict=True):
        second = bool(place[0] > 0)
        x = 16 if second else 14
        assert mask.nonzero().tolist() == [[6, x], [20, x]]
        assert float(depth[6, x] - depth[20, x]) == pytest.approx(10 * STEP, abs=2e-4)


def test_a_learned_face_is_moved_into_a_scene() -> None:
    scenes = two_scenes().part(torch.tensor([1]))
    face = FaceParameters.neutral(1, n_shape=3, n_expression=2)
    amplitude, depth = torch.full((1, 32, 32), DEEP_DB), torch.full((1, 32, 32), 0.32)
    amplitude[0, 20, 14] = 0.0
    axis = scenes.grid.x.float()
    bare = RadarImage(amplitude, depth, amplitude > DEEP_DB, axis, axis, torch.tensor([DEEP_DB]))
    faces, images = scenes.around(face, bare, torch.Generator().manual_seed(0))
    assert faces.translation[0].tolist() == pytest.approx([2 * STEP, 0.0, STEP])
    assert images.mask[0].nonzero().tolist() == [[6, 16], [20, 16]]
    assert float(images.depth[0, 20, 16]) == pytest.approx(0.32 + STEP)
    assert float(images.amplitude_db.max()) == 0.0


def test_shifts_repeat_the_border() -> None:
    ramp = torch.arange(4)
    assert shifted(ramp, [-1]).tolist() == [1, 2, 3, 3]
    assert shifted(ramp[:, None] + ramp, [1, 0])[0].tolist() == [0, 1, 2, 3]


def test_a_folder_is_finished_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def fake(campaign: object, cast: object, subject: int, *rest: object) -> object:
        made.append(subject)
        whole = torch.full((94, 94, 2), 2j)
        return Recording(whole, qar50(), qar50_waveform(2)), whole / 2

    def volume(signal: torch.Tensor, *rest: object) -> torch.Tensor:
        return signal.mean((1, 2, 3))[:, None, None, None] * torch.ones(33, 64, 64)

    monkeypatch.setattr(module, "record_parts", fake)
    monkeypatch.setattr(module, "back_project", volume)
    few, profile = TrainingFaces(subjects=3), get_profile("laptop")
    with pytest.raises(InputError, match="expected scenes, found none"):
        Scenes.read(tmp_path, few, MODEL, profile)
    for _ in make_scenes(tmp_path, few, MODEL, profile):
        break
    assert list(make_scenes(tmp_path, few, MODEL, profile)) == [1, 2]
    assert made == [0, 1, 2]
    scenes = Scenes.read(tmp_path, few, MODEL, profile)
    assert len(scenes) == 3
    assert scenes.parameters.shape.shape[1] == MODEL.n_shape
    assert scenes.whole().depth.shape == (3, 64, 64)
    other = TrainingFaces(subjects=3, seed=1)
    with pytest.raises(InputError, match="expected a scene of seed 1"):
        Scenes.read(tmp_path, other, MODEL, profile)
