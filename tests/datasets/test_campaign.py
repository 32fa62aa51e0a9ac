"""The simulated campaign: what its takes are of, what radiates, and its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from radarbook.datasets.campaign import folder as folders
from radarbook.datasets.campaign.folder import file_name, image_path, make, read, take_path
from radarbook.datasets.campaign.plan import EXPRESSIONS, FAULTS, Campaign, Cast
from radarbook.datasets.campaign.scene import bodies, record
from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.procedural import EXPRESSION_MODES
from radarbook.radar.array import qar50
from radarbook.radar.image import RadarImage
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import qar50_waveform

MODEL = load_model("procedural")
CAMPAIGN = Campaign()
CAST = Cast.of(MODEL, CAMPAIGN)


def test_expressions_name_modes_of_the_model() -> None:
    names = {mode.name for mode in EXPRESSION_MODES}
    assert len(EXPRESSIONS) == 7
    assert all(set(parts) <= names for parts in EXPRESSIONS.values())


def test_a_campaign_is_extended_without_a_change_to_what_is_there() -> None:
    small, large = Campaign(subjects=3, takes=1), Campaign(subjects=30, takes=5)
    assert small.settings() == large.settings()
    assert set(small.names()) < set(large.names())
    one, other = (c.face(CAST, 2, "smile", 0) for c in (small, large))
    assert torch.equal(one.normalised(), other.normalised())


def test_a_person_keeps_the_shape_and_no_take_is_repeated() -> None:
    faces = [CAMPAIGN.face(CAST, 4, e, t) for e in EXPRESSIONS for t in range(3)]
    assert all(torch.equal(face.shape, faces[0].shape) for face in faces)
    assert len({tuple(face.expression[0].tolist()) for face in faces}) == len(faces)
    assert not torch.equal(CAMPAIGN.face(CAST, 5, "smile", 0).shape, faces[0].shape)


def test_expressions_are_not_those_of_training() -> None:
    """A named expression moves its own modes by more than all others together."""
    faces = [CAMPAIGN.face(CAST, s, "brows raised", 0).expression[0] for s in range(30)]
    mean = torch.stack(faces).mean(0)
    names = [mode.name for mode in EXPRESSION_MODES]
    assert int(mean.argmax()) == names.index("brow raise")
    assert mean.max() > 1.5


def test_a_head_rest_holds_a_head() -> None:
    rest = [CAMPAIGN.face(CAST, s, e, 0).rotation[0] for s in range(12) for e in EXPRESSIONS]
    free = [CAMPAIGN.face(CAST, s, e, 1).rotation[0] for s in range(12) for e in EXPRESSIONS]
    assert torch.stack(free).std(0).min() > 1.2 * torch.stack(rest).std(0).max()


def test_one_fault_is_one_fault() -> None:
    clean = CAMPAIGN.clean()
    for fault in FAULTS:
        settings = CAMPAIGN.only(fault).settings()
        changed = [name for name, value in clean.settings().items() if settings[name] != value]
        assert len(changed) == 1, fault
        if changed == ["instrument"]:
            one, other = clean.settings()["instrument"], settings["instrument"]
            assert sum(one[name] != other[name] for name in one) == 1
    with pytest.raises(InputError, match="expected one of noise, gain"):
        CAMPAIGN.only("rain")


def test_bodies_face_the_array_and_hide_each_other() -> None:
    haired = next(s for s in range(12) if (CAMPAIGN.hairline(s) or 0) > 5)
    face = CAMPAIGN.face(CAST, haired, "neutral", 0)
    things = bodies(CAMPAIGN, CAST, face, haired)
    joined = torch.cat([one.vertices for one in things])
    first = np.cumsum([0, *(len(one.vertices) for one in things[:-1])]).tolist()
    triangles = torch.cat([one.triangles + n for one, n in zip(things, first, strict=True)])
    seen = visibility(joined, triangles, qar50()).split([len(one.triangles) for one in things])
    for one, mine in zip(things, seen, strict=True):
        assert mine.amax(1).mean() > 0.1, one.material
    alone = visibility(things[0].vertices, things[0].triangles, qar50())
    hidden = alone.amax(1) > seen[0].amax(1)
    middle = things[0].vertices[things[0].triangles].mean(1)
    # Brows and hair hide skin above the eyes alone.
    assert 0.02 < hidden.float().mean() < 0.3
    assert middle[hidden, 1].min() > middle[:, 1].median()
    assert all(one.vertices[:, 2].min() > 0.2 for one in things)


def test_a_recording_says_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few frequencies: the same take twice is the same, another instrument is not."""
    few = replace(CAMPAIGN, step=64, foam=None, body=None, identity=replace(CAMPAIGN.identity))
    one, again = (record(few, CAST, 0, "smile", 0) for _ in range(2))
    assert torch.equal(one.signal, again.signal)
    assert one.signal.shape == (94, 94, 2)
    assert one.meta["subject"] == "S01"
    assert one.meta["simulated"] is True
    noise = record(replace(few, instrument=few.clean().instrument), CAST, 0, "smile", 0)
    change = (one.signal - noise.signal).abs().square().mean() / noise.signal.abs().square().mean()
    assert 0.005 < float(change) < 0.3


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes that cost nothing; returns the names of those that are made."""
    made: list[str] = []

    def fake(campaign: Campaign, cast: Cast, *name: int) -> Recording:
        made.append(file_name(name))  # type: ignore[arg-type]
        return Recording(
            torch.full((94, 94, 2), len(made) * 1j), qar50(), qar50_waveform(2), {"take": name[2]}
        )

    def picture(recording: Recording, profile: object) -> RadarImage:
        flat, axis = torch.zeros(1, 4, 4), torch.arange(4.0)
        return RadarImage(flat, flat, flat > 0, axis, axis, torch.tensor([-20.0]))

    monkeypatch.setattr(folders, "record", fake)
    monkeypatch.setattr(folders, "take_image", picture)
    return made


def test_a_folder_is_made_once_extended_and_resumed(tmp_path: Path, quick: list[str]) -> None:
    plan = Campaign(subjects=2, takes=1)
    first = make(tmp_path, plan, progress=False)
    assert (first.made, first.kept) == (14, 0)
    assert make(tmp_path, plan, progress=False).made == 0
    image_path(tmp_path, (1, "smile", 0)).unlink()  # as if killed before it was finished
    (tmp_path / "takes" / ".S01_smile_1.h5.x.tmp").write_bytes(b"half")
    again = make(tmp_path, plan, progress=False)
    assert (again.made, quick[-1]) == (1, "S02_smile_1")
    assert [p.name for p in (tmp_path / "takes").glob(".*")] == []
    assert make(tmp_path, Campaign(subjects=3, takes=2), progress=False).made == 28
    takes = read(tmp_path, plan)
    assert len(takes.images) == len(takes.names) == len(takes.truth) == 14
    assert take_path(tmp_path, (2, "lips pressed", 1)).name == "S03_lips-pressed_2.h5"


def test_another_campaign_is_refused(tmp_path: Path, quick: list[str]) -> None:
    plan = Campaign(subjects=2, takes=1)
    make(tmp_path, plan, progress=False)
    with pytest.raises(InputError, match=r"campaign\.seed is 20260 there, 5 asked"):
        make(tmp_path, replace(plan, seed=5), progress=False)
    with pytest.raises(InputError, match="14 of 28 takes are missing"):
        read(tmp_path, Campaign(subjects=2, takes=2))
    with pytest.raises(InputError, match=r"found no campaign\.json"):
        read(tmp_path / "elsewhere", plan)
    about = json.loads((tmp_path / "campaign.json").read_text())
    (tmp_path / "campaign.json").write_text(json.dumps(about | {"code": "other"}))
    with pytest.raises(InputError, match="code is other there"):
        make(tmp_path, plan, progress=False)


@pytest.mark.parametrize("name", ["subjects", "takes", "step"])
def test_a_campaign_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"expected {name} ≥ 1"):
        replace(CAMPAIGN, **{name: 0})
