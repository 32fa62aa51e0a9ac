"""A fit on disk: it goes on bit for bit, and what is not it is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.checkpoint import FitFile, load_fit, save_fit, tensor_digest
from radarbook.fitting.descend import FitResult, FitState, Record, Stage, descend
from radarbook.fitting.fit import fit
from radarbook.fitting.methods import (
    LBFGS,
    Adam,
    Ensemble,
    LevenbergMarquardt,
    Method,
    OrientationSearch,
    PoseSearch,
)
from radarbook.fitting.objectives import ImageObjective
from radarbook.fitting.reconstruct import reconstruct_through_physics
from radarbook.fitting.schedule import REFINE, Level
from radarbook.radar.image import RadarImage
from radarbook.training.checkpoints import save_tensors
from tests.fitting.scenes import Blob, face, renderer

TRUTH = face((1.0, 0.0), 0.0, (0.02, -0.01, 0.015))
TARGET = Blob().render(TRUTH)
ABOUT = {"model": "blob", "schedule": {"1": {"smoothing": (0.1, 0.2), "size": float("inf")}}}


METHODS = (
    Adam(),
    LBFGS(),
    LevenbergMarquardt(),
    Ensemble(),
    PoseSearch(),
    OrientationSearch(samples=8, tried=2),
)


class Cut:
    """Interrupts a fit after so many steps."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, record: Record) -> bool:
        self.left -= 1
        return self.left > 0


def same(ours: FitResult, theirs: FitResult) -> None:
    assert ours.steps == theirs.steps
    assert ours.reason == theirs.reason
    for a, b in zip(ours.history, theirs.history, strict=True):
        assert a.stage == b.stage
        assert torch.equal(a.losses, b.losses)
        assert torch.equal(a.vectors, b.vectors)
    assert torch.equal(ours.losses, theirs.losses)
    assert torch.equal(ours.diverged, theirs.diverged)
    assert torch.equal(ours.parameters.normalised(), theirs.parameters.normalised())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("after", [1, 3, 6])
def test_every_method_goes_on_bit_for_bit(method: Method, after: int, tmp_path: Path) -> None:
    """Also into a second stage, which starts anew."""
    objective = ImageObjective(target=TARGET, renderer=Blob())
    stages = [
        Stage(objective=objective, steps=5, method=method, free=("shape", "translation")),
        Stage(objective=objective, steps=4, method=method, free=("translation",)),
    ]
    whole = descend(stages, face())
    cut = descend(stages, face(), callback=Cut(after))
    assert cut.reason == "interrupted"
    save_fit(tmp_path / "state", cut.state, ABOUT)
    state = load_fit(tmp_path / "state", ABOUT)
    rest = descend(stages, face(), resume=state)
    assert rest.resumed == cut.steps > 0
    same(rest, whole)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_ctrl_c_within_a_step_loses_that_step_alone(method: Method, tmp_path: Path) -> None:
    class Interrupted(Blob):
        looks = 0

        def render(self, parameters: FaceParameters) -> RadarImage:
            self.looks += 1
            if self.looks == 8:
                raise KeyboardInterrupt
            return super().render(parameters)

    options: dict[str, Any] = {"free": ("shape", "translation"), "method": method, "steps": 9}
    whole = fit(TARGET, Blob(), face(), **options)
    cut = fit(TARGET, Interrupted(), face(), **options)
    assert cut.reason == "interrupted"
    save_fit(tmp_path / "state", cut.state, ABOUT)
    options["resume"] = load_fit(tmp_path / "state", ABOUT)
    same(fit(TARGET, Blob(), face(), **options), whole)


def test_ctrl_c_before_the_first_step_is_over_changes_nothing() -> None:
    class Never(Blob):
        def render(self, parameters: FaceParameters) -> RadarImage:
            raise KeyboardInterrupt

    result = fit(TARGET, Never(), face())
    assert result.reason == "interrupted"
    assert result.steps == 0
    assert torch.equal(result.parameters.normalised(), face().normalised())


def test_a_batch_of_faces_with_one_finished(tmp_path: Path) -> None:
    faces = FaceParameters.cat([TRUTH, face()])
    target = Blob().render(FaceParameters.cat([TRUTH, face((-0.5, 0.0), 0.0, (-0.03, 0.02, 0.0))]))
    for method in (Adam(), LevenbergMarquardt()):
        options: dict[str, Any] = {"method": method, "steps": 12, "patience": 3}
        whole = fit(target, Blob(), faces, **options)
        cut = fit(target, Blob(), faces, callback=Cut(5), **options)
        save_fit(tmp_path / "state", cut.state, ABOUT)
        same(
            fit(target, Blob(), faces, resume=load_fit(tmp_path / "state", ABOUT), **options), whole
        )


def test_a_finished_fit_gives_its_result_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "free": ("translation",),
        "method": LevenbergMarquardt(),
        "steps": 30,
    }
    whole = fit(TARGET, Blob(), face(), **options)
    save_fit(tmp_path / "state", whole.state, ABOUT)
    again = fit(TARGET, Blob(), face(), resume=load_fit(tmp_path / "state", ABOUT), **options)
    assert again.resumed == again.steps
    same(again, whole)


def test_memory_layout_is_kept(tmp_path: Path) -> None:
    """A transposed matrix times another may round otherwise than a plain one."""
    matrix = torch.arange(12.0).reshape(3, 4).T
    state = FitState.at(face())
    plain = fit(TARGET, Blob(), face(), steps=3, callback=Cut(2)).state
    assert plain.within is not None
    state.within = replace(
        plain.within, method={"matrix": matrix, "row": matrix[0], "n": {0: (1,)}}
    )
    save_fit(tmp_path / "state", state, ABOUT)
    within = load_fit(tmp_path / "state", ABOUT).within
    assert within is not None
    assert within.method is not None
    assert torch.equal(within.method["matrix"], matrix)
    assert within.method["matrix"].stride() == matrix.stride()
    assert torch.equal(within.method["row"], matrix[0])
    assert within.method["n"] == {0: (1,)}


def test_what_has_no_file_format_is_a_defect_not_half_a_file(tmp_path: Path) -> None:
    state = fit(TARGET, Blob(), face(), steps=3, callback=Cut(2)).state
    assert state.within is not None
    state.within.method = {"stream": torch.Generator()}
    with pytest.raises(TypeError, match="is a Generator, which has no file format"):
        save_fit(tmp_path / "state", state, ABOUT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("about", "says"),
    [
        ({**ABOUT, "model": "face"}, "another fit: model: expected face, found blob"),
        (
            {**ABOUT, "schedule": {"1": {"smoothing": (0.1, 0.3), "size": float("inf")}}},
            r"schedule\.1\.smoothing: expected \[0\.1, 0\.3\], found \[0\.1, 0\.2\]",
        ),
        ({**ABOUT, "schedule": {}}, r"schedule\.1: expected nothing"),
    ],
    ids=["model", "smoothing", "stages"],
)
def test_another_problems_state_is_refused(about: dict, says: str, tmp_path: Path) -> None:
    save_fit(tmp_path / "state", FitState.at(face()), ABOUT)
    assert torch.equal(load_fit(tmp_path / "state", ABOUT).vectors, face().normalised())
    with pytest.raises(InputError, match=says):
        load_fit(tmp_path / "state", about)


def test_the_file_may_be_read_as_any_other(tmp_path: Path) -> None:
    save_fit(tmp_path / "state", FitState.at(face()), ABOUT)
    (tmp_path / "other").touch()
    assert (tmp_path / "state").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_is_no_state_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "state"
    save_fit(path, fit(TARGET, Blob(), face(), steps=3, callback=Cut(2)).state, ABOUT)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="expected a whole safetensors file") as error:
            load_fit(path, ABOUT)
        assert "\n" not in str(error.value)
    save_tensors(path, {"a": torch.zeros(1)}, {"kind": "encoder"})
    with pytest.raises(InputError, match="expected the state of a fit, found encoder"):
        load_fit(path, ABOUT)
    save_tensors(path, {"a": torch.zeros(1)}, {"kind": "fit", "format": 99})
    with pytest.raises(InputError, match="in format 5, found format 99"):
        load_fit(path, ABOUT)
    with pytest.raises(InputError, match="no such file"):
        load_fit(tmp_path / "gone", ABOUT)
    with pytest.raises(InputError, match="found a folder"):
        FitFile(tmp_path, ABOUT)


def test_digests_tell_values_shapes_and_types_apart() -> None:
    a = torch.arange(6.0)
    assert tensor_digest(a) == tensor_digest(torch.arange(12.0)[:6])
    others = [a.double(), a.reshape(2, 3), a + 1, a.reshape(2, 3).T]
    assert len({tensor_digest(x) for x in [a, *others]}) == 5


@pytest.mark.slow
def test_a_killed_fit_through_physics_goes_on_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed: the file as it was in the third stage is all that is left."""
    physical = renderer()
    truth = face((0.4, -0.3), 0.3, (0.002, -0.001, 0.003))
    signal = physical.signal(truth.to(dtype=torch.float32))[0]
    cycles = replace(REFINE[1], steps=2)
    first = Level("ensemble", smoothing=(0.0068,), method=Ensemble(width=0.2), steps=2)
    schedule = (first, replace(REFINE[0], steps=3), cycles)
    options: dict[str, Any] = {
        "schedule": schedule,
        "start": face(),
        "free": ("shape", "expression", "translation"),
    }
    arguments = (signal, physical.array, physical.waveform, physical.model)
    path, copy = tmp_path / "state", tmp_path / "copy"
    every = FitFile.__init__.__defaults__
    assert every == (10.0,)
    monkeypatch.setattr(FitFile.__init__, "__defaults__", (0.0,))

    def kept(record: Record) -> None:
        # In the search among minima, which has seen some by then.
        if record.stage == 2 and not copy.exists():
            copy.write_bytes(path.read_bytes())

    whole = reconstruct_through_physics(*arguments, **options, state_file=path, callback=kept)
    rest = reconstruct_through_physics(*arguments, **options, state_file=copy)
    assert 0 < rest.resumed <= rest.steps
    same(rest, whole)
    finished = reconstruct_through_physics(*arguments, **options, state_file=path)
    assert finished.resumed == finished.steps
    same(finished, whole)
    other = (2 * signal, *arguments[1:])
    with pytest.raises(InputError, match="another fit: signal: expected"):
        reconstruct_through_physics(*other, **options, state_file=path)
    options["schedule"] = (schedule[0], replace(schedule[1], smoothing=(0.005,)), cycles)
    with pytest.raises(InputError, match=r"schedule\.2\.smoothing: expected \[0\.005\]"):
        reconstruct_through_physics(*arguments, **options, state_file=path)
    with pytest.raises(InputError, match="expected resume or state_file, found both"):
        reconstruct_through_physics(*arguments, **options, state_file=path, resume=rest.state)
