"""What a fit through physics is made of: levels, runs, and what each may move."""

from __future__ import annotations

import torch

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.fit import UNKNOWN, Stage
from radarbook.fitting.reconstruct import DESCENT, NEAR, SCHEDULE, physical_stages
from tests.fitting.scenes import face, renderer


def _stages(free: tuple[str, ...] = UNKNOWN, of: FaceParameters | None = None) -> list[Stage]:
    physical, of = renderer(), of or face((0.5, -0.5), 0.3)
    with torch.no_grad():
        signal = physical.signal(of.to(dtype=torch.float32))
    return physical_stages(signal, physical, free=free, runs=3)


def test_runs_after_the_second_begin_with_the_pose() -> None:
    stages = _stages()
    *begins, ends = [i for i, stage in enumerate(stages) if stage.accept is not None]
    assert stages[ends].concludes
    assert [stages[i].name for i in begins] == ["1 σ, run 2", "pose, run 3"]
    assert stages[begins[1]].method == "search"
    assert set(stages[begins[1]].free or ()) == {"translation", "rotation"}
    assert [stage.name for stage in stages[: begins[0]]] == [
        level.name for level in SCHEDULE[:-2] if level.method != "search"
    ]
    # A run ends with the cycles of all its phases; what comes after is done once.
    assert stages[begins[0] - 1].method == "ambiguity"
    assert [stage.concludes for stage in stages] == [False] * (len(stages) - 2) + [True, False]
    assert [stage.method for stage in stages[-2:]] == ["lm", "lm"]
    # Each run has draws of its own.
    assert [stages[i].seed for i in (0, *begins)] == [0, 1, 2]


def test_a_face_hardly_anyone_has_is_not_accepted() -> None:
    # Three coefficients: a sum of squares of 16.3 is one in a thousand's.
    usual, rare = face((2.0, -2.0), 2.0, material=0.05), face((2.5, -2.5), 2.5, material=0.05)
    nothing = torch.zeros(1, dtype=torch.float64)
    # Each in its own recording, so that all but this speaks for it.
    for one in (usual, rare):
        for stage in _stages(of=one):
            if stage.accept is None:
                continue
            assert stage.alike is not None
            assert bool(stage.accept(one, nothing, nothing > 0)) == (one is usual)
            assert bool(stage.alike(one, one)) == (one is usual)
            assert not bool(stage.alike(one, face((-1.0, 0.0), material=0.05)))


def test_a_near_start_is_judged_but_has_one_run() -> None:
    physical = renderer()
    with torch.no_grad():
        signal = physical.signal(face((0.5, -0.5), 0.3).to(dtype=torch.float32))
    stages = physical_stages(signal, physical, schedule=NEAR)
    assert [stage.name for stage in stages] == [level.name for level in NEAR]
    assert [stage.accept is not None for stage in stages] == [stage.concludes for stage in stages]
    assert [stage.concludes for stage in stages] == [False, False, False, True, False]
    # Downhill alone, nothing tells a wrong minimum from the right one.
    stages = physical_stages(signal, physical, schedule=DESCENT)
    assert not any(stage.concludes or stage.accept for stage in stages)


def test_a_known_pose_is_not_searched_for() -> None:
    stages = _stages(("shape", "expression", "material"))
    begins = [stage for stage in stages if stage.accept is not None and not stage.concludes]
    assert [stage.name for stage in begins] == ["1 σ, run 2", "1 σ, run 3"]
    assert all(stage.free for stage in stages)
    # Phases say nothing of the material that power has not said.
    assert "material" not in (stages[-1].free or ())
