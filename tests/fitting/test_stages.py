"""What a fit through physics is made of: levels, attempts, and what each may move."""

from __future__ import annotations

import torch

from radarbook.fitting.fit import UNKNOWN, Stage
from radarbook.fitting.reconstruct import DESCENT, NEAR, SCHEDULE, physical_stages
from tests.fitting.scenes import face, renderer


def _stages(free: tuple[str, ...] = UNKNOWN) -> list[Stage]:
    physical = renderer()
    with torch.no_grad():
        signal = physical.signal(face((0.5, -0.5), 0.3).to(dtype=torch.float32))
    return physical_stages(signal, physical, free=free, attempts=3)


def test_attempts_after_the_second_begin_with_the_pose() -> None:
    stages = _stages()
    *begins, ends = [i for i, stage in enumerate(stages) if stage.again is not None]
    assert stages[ends].concludes
    assert [stages[i].name for i in begins] == ["1 σ, attempt 2", "pose, attempt 3"]
    assert stages[begins[1]].method == "search"
    assert set(stages[begins[1]].free or ()) == {"translation", "rotation"}
    assert [stage.name for stage in stages[: begins[0]]] == [
        level.name for level in SCHEDULE[:-2] if level.method != "search"
    ]
    # An attempt ends with the cycles of all its phases; what comes after is done once.
    assert stages[begins[0] - 1].method == "ambiguity"
    assert [stage.concludes for stage in stages] == [False] * (len(stages) - 2) + [True, False]
    assert [stage.method for stage in stages[-2:]] == ["lm", "lm"]
    # Each attempt has draws of its own.
    assert [stages[i].seed for i in (0, *begins)] == [0, 1, 2]


def test_no_attempt_is_believed_that_ends_with_a_face_hardly_anyone_has() -> None:
    stages = [stage for stage in _stages() if stage.again is not None]
    # Three coefficients: a sum of squares of 16.3 is one in a thousand's.
    usual, rare = face((2.0, -2.0), 2.0, material=0.05), face((2.5, -2.5), 2.5, material=0.05)
    nothing = torch.zeros(1, dtype=torch.float64)
    for stage in stages:
        assert stage.again is not None
        assert stage.alike is not None
        assert bool(stage.again(usual, nothing))
        assert bool(stage.alike(usual, usual))
        assert not bool(stage.alike(usual, face((-1.0, 0.0), material=0.05)))
        assert not bool(stage.again(rare, nothing))
        assert not bool(stage.alike(rare, rare))


def test_a_near_start_is_judged_but_not_tried_again() -> None:
    physical = renderer()
    with torch.no_grad():
        signal = physical.signal(face((0.5, -0.5), 0.3).to(dtype=torch.float32))
    stages = physical_stages(signal, physical, schedule=NEAR)
    assert [stage.name for stage in stages] == [level.name for level in NEAR]
    assert [stage.again is not None for stage in stages] == [stage.concludes for stage in stages]
    assert [stage.concludes for stage in stages] == [False, False, False, True, False]
    # Downhill alone, nothing tells a wrong minimum from the right one.
    stages = physical_stages(signal, physical, schedule=DESCENT)
    assert not any(stage.concludes or stage.again for stage in stages)


def test_a_known_pose_is_not_searched_for() -> None:
    stages = _stages(("shape", "expression", "material"))
    begins = [stage for stage in stages if stage.again is not None and not stage.concludes]
    assert [stage.name for stage in begins] == ["1 σ, attempt 2", "1 σ, attempt 3"]
    assert all(stage.free for stage in stages)
    # Phases say nothing of the material that power has not said.
    assert "material" not in (stages[-1].free or ())
