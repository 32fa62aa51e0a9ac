"""What a fit through physics is made of: levels, runs, and what each may move."""

from __future__ import annotations

import torch

from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.methods import CycleSearch, LevenbergMarquardt, OrientationSearch, PoseSearch
from radarbook.fitting.plan import physical_plan
from radarbook.fitting.restarts import Plan
from radarbook.fitting.schedule import DESCENT, REFINE, SCHEDULE, usual_schedule
from radarbook.fitting.space import UNKNOWN
from tests.fitting.scenes import face, renderer


def _plan(free: tuple[str, ...] = UNKNOWN, of: FaceParameters | None = None) -> Plan:
    physical, of = renderer(), of or face((0.5, -0.5), 0.3)
    with torch.no_grad():
        signal = physical.signal(of.to(dtype=torch.float32))
    return physical_plan(signal, physical, free=free, runs=3)


def test_runs_begin_with_the_orientation_and_after_the_second_with_poses_about_it() -> None:
    plan = _plan()
    begins = [run[0] for run in plan.runs]
    assert [stage.name for stage in begins] == [
        "orientation",
        "orientation, run 2",
        "orientation, run 3",
    ]
    assert all(isinstance(stage.method, OrientationSearch) for stage in begins)
    assert all(set(stage.free) == {"translation", "rotation"} for stage in begins)
    assert [isinstance(run[1].method, PoseSearch) for run in plan.runs] == [False, False, True]
    assert set(plan.runs[2][1].free) == {"translation", "rotation"}
    assert [stage.name for stage in plan.runs[0]] == [
        level.name for level in SCHEDULE[:-2] if not level.searches_pose
    ]
    # A run ends with the cycles of all its phases; what comes after is done once.
    assert all(isinstance(run[-1].method, CycleSearch) for run in plan.runs)
    assert [stage.name for stage in plan.last] == ["phase, all pixels", "phase, exact Jacobian"]
    assert all(isinstance(stage.method, LevenbergMarquardt) for stage in plan.last)
    # Each run has samples of its own.
    assert [run[-1].method.seeded(9) == run[-1].method for run in plan.runs] == [False] * 3
    assert len({run[-1].method for run in plan.runs}) == 3


def test_a_face_hardly_anyone_has_is_not_accepted() -> None:
    # Three coefficients: a sum of squares of 16.3 is one in a thousand's.
    usual, rare = face((2.0, -2.0), 2.0, material=0.05), face((2.5, -2.5), 2.5, material=0.05)
    nothing = torch.zeros(1, dtype=torch.float64)
    # Each in its own recording, so that everything else suggests that it is correct.
    for one in (usual, rare):
        plan = _plan(of=one)
        assert plan.accept is not None
        assert plan.same is not None
        assert bool(plan.accept(one, nothing, nothing > 0)) == (one is usual)
        assert bool(plan.same(one, one)) == (one is usual)
        assert not bool(plan.same(one, face((-1.0, 0.0), material=0.05)))


def test_a_near_start_is_judged_but_has_one_run() -> None:
    physical = renderer()
    with torch.no_grad():
        signal = physical.signal(face((0.5, -0.5), 0.3).to(dtype=torch.float32))
    plan = physical_plan(signal, physical, schedule=REFINE)
    assert [stage.name for stage in plan.stages] == [level.name for level in REFINE]
    assert len(plan.runs) == 1
    assert len(plan.last) == 2
    assert plan.accept is not None
    # A descent alone does not distinguish a wrong minimum from the correct one.
    plan = physical_plan(signal, physical, schedule=DESCENT)
    assert plan.accept is None
    assert not plan.last


def test_of_many_modes_the_leading_ones_come_first() -> None:
    assert usual_schedule(17) == SCHEDULE
    many = usual_schedule(120)
    # Poses and ensembles are of leading modes; where all move, the prior follows the residual.
    assert all((level.modes is None) == (level.independent is not None) for level in many)
    assert [level.modes is None for level in many] == sorted(level.modes is None for level in many)
    # No level needs a rendering per mode.
    assert all(level.fidelity != "exact" for level in many)
    # Independent residuals grow as the smoothing gets finer, and phases have most.
    counts = [level.independent for level in many if level.independent is not None]
    assert counts == sorted(counts)


def test_a_known_pose_is_not_searched_for() -> None:
    plan = _plan(("shape", "expression", "material"))
    assert [run[0].name for run in plan.runs] == [
        "ensemble of 1 σ",
        "ensemble of 1 σ, run 2",
        "ensemble of 1 σ, run 3",
    ]
    assert all(stage.free for stage in plan.stages)
    # Phases do not determine the material.
    assert "material" not in plan.stages[-1].free
