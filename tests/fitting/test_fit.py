"""Fitting: it finds what is there, keeps what is fixed, stops, resumes, and says when it fails."""

import math
from dataclasses import replace
from typing import Any, Self

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.fitting.descend import Stage, descend
from radarbook.fitting.fit import fit
from radarbook.fitting.learned import (
    encoder_anchor,
    encoder_deviation,
    independent_share,
    reconstruct_through_learned,
)
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
from radarbook.fitting.start import CoarseImager, centroid, mean_face_at
from radarbook.radar.image import RadarImage
from radarbook.seeds import torch_stream
from tests.fitting.scenes import Blob, face, renderer

TRUTH = FaceParameters.cat(
    [face((1.0, 0.0), 0.0, (0.02, -0.01, 0.015)), face((-0.5, 0.0), 0.0, (-0.03, 0.02, 0.0))]
)
START = FaceParameters.cat([face(), face()])


@pytest.mark.parametrize(("method", "steps"), [(Adam(), 200), (LevenbergMarquardt(), 30)])
def test_image_fit_finds_the_blob(method: Method, steps: int) -> None:
    result = fit(
        Blob().render(TRUTH),
        Blob(),
        START,
        free=("shape", "translation"),
        method=method,
        steps=steps,
        patience=steps,
    )
    off = (result.parameters.translation - TRUTH.translation).abs()
    assert off.max() < 1e-3
    assert (result.parameters.shape - TRUTH.shape)[:, 0].abs().max() < 0.1
    assert not result.diverged.any()
    # What is not free has not moved, what the image does not show neither.
    assert torch.equal(result.parameters.rotation, START.rotation)
    assert torch.equal(result.parameters.rendering, START.rendering)
    assert result.history[-1].losses.shape == (2,)


class Synthetic:
    """An objective without a renderer."""

    faces, priors, noise, one_thread = 1, 0, 0.02, True

    def residuals(self, parameters: FaceParameters) -> torch.Tensor:
        raise NotImplementedError

    def jacobian(
        self, parameters: FaceParameters, moved: FaceParameters, face: int
    ) -> torch.Tensor:
        return self.residuals(FaceParameters.cat([parameters, moved]))

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        return self


class Washboard(Synthetic):
    """A residual linear in the first coefficient, and one that ripples: forty local minima."""

    def residuals(self, parameters: FaceParameters) -> torch.Tensor:
        off = parameters.shape[:, :1].double() - 1.3
        return torch.cat([0.3 * off, 0.15 * (1 - torch.cos(40 * off))], dim=1)


def test_an_ensemble_goes_over_ripples_that_stop_gauss_newton() -> None:
    free, start = ("shape",), face((-1.5, 0.0))
    plain = Stage(objective=Washboard(), method=LevenbergMarquardt(), steps=40, free=free)
    stuck = descend([plain], start)
    assert (stuck.parameters.shape[0, 0] - 1.3).abs() > 0.3
    ensembles = [
        Stage(objective=Washboard(), method=Ensemble(width=width), steps=4, free=free)
        for width in (1.0, 0.3, 0.1)
    ]
    last = replace(plain, steps=20)
    found = descend([*ensembles, last], start)
    # The ripple's own period is 0.16: the ensembles bring the fit into the right one.
    assert (found.parameters.shape[0, 0] - 1.3).abs() < 1e-3
    again = descend([*ensembles, last], start)
    assert torch.equal(found.parameters.shape, again.parameters.shape)


class Terraces(Synthetic):
    """A residual linear in the first coefficient, and terraces whose heights differ by chance."""

    def __init__(self, pitch: float, terrace: torch.Tensor | None = None) -> None:
        self.pitch, self.terrace = pitch, terrace

    def _on(self, parameters: FaceParameters) -> torch.Tensor:
        own = torch.floor(40 * parameters.shape[:, :1].double())
        return own if self.terrace is None else self.terrace

    def residuals(self, parameters: FaceParameters) -> torch.Tensor:
        off = parameters.shape[:, :1].double() - 1.3
        height = 0.3 * torch.sin(self.pitch * self._on(parameters) ** 2)
        return torch.cat([off, height.expand_as(off)], dim=1)

    def jacobian(
        self, parameters: FaceParameters, moved: FaceParameters, face: int
    ) -> torch.Tensor:
        # As through physics: versions of a face are on its terrace.
        near = Terraces(self.pitch, self._on(parameters))
        return near.residuals(FaceParameters.cat([parameters, moved]))

    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        return type(self)(self.pitch, self._on(parameters))


class Jumping(Terraces):
    def frozen_at(self, parameters: FaceParameters, face: int) -> Self:
        return self


def test_levenberg_marquardt_is_not_stopped_by_jumps_of_the_loss() -> None:
    def off(objective: Terraces) -> float:
        stage = Stage(
            objective=objective, method=LevenbergMarquardt(), steps=8, free=("shape",), patience=8
        )
        found = descend([stage], face((1.02, 0.0)))
        return float((found.history[-1].vectors[0, 0] - 1.3).abs())

    pitches = (2.2, 2.8, 4.0, 4.9, 7.0, 7.9)
    assert max(off(Terraces(pitch)) for pitch in pitches) < 1e-3
    # Evaluated with all its jumps, each of these has a terrace that nothing seems better than.
    assert min(off(Jumping(pitch)) for pitch in pitches) > 0.02


def test_a_search_moves_the_pose_alone_and_never_for_the_worse() -> None:
    truth, start = face((0.0, 0.0), 0.0, (0.03, -0.02, 0.0)), face()
    target = Blob().render(truth)
    found = fit(
        target, Blob(), start, method=PoseSearch(), steps=4, patience=4,
        free=("shape", "translation", "rotation"),
    )  # fmt: skip
    losses = torch.stack([record.losses for record in found.history])
    assert (losses.diff(dim=0) <= 0).all()
    assert torch.equal(found.parameters.shape, start.shape)
    assert torch.equal(found.parameters.rendering, start.rendering)
    before, after = (
        (p.translation - truth.translation)[0, :2].norm() for p in (start, found.parameters)
    )
    # Nearly 200 draws in two dimensions that show, the last of them 2 mm wide.
    assert after < 0.2 * before
    again = fit(
        target, Blob(), start, method=PoseSearch(), steps=4, patience=4,
        free=("shape", "translation", "rotation"),
    )  # fmt: skip
    assert torch.equal(again.parameters.translation, found.parameters.translation)


class Turned(Synthetic):
    """Highlights of a turned face: every 12 degrees of yaw and pitch some seem to fit."""

    pose = torch.tensor([math.radians(24.0), math.radians(-19.0), 0.0], dtype=torch.float64)

    def residuals(self, parameters: FaceParameters) -> torch.Tensor:
        off = (parameters.rotation.double() - self.pose) / math.radians(12.0)
        aside = (parameters.translation.double() - 0.01) / 0.02
        ripple = 1 - torch.cos(2 * math.pi * off[:, :2])
        return torch.cat([0.25 * off, ripple, 0.1 * aside], dim=1)


def test_a_wide_search_finds_an_orientation_that_no_descent_finds() -> None:
    free = ("shape", "translation", "rotation")

    def ends(method: Method) -> FaceParameters:
        stage = Stage(objective=Turned(), method=method, steps=6, free=free)
        return descend([stage], face(), pose_range=VISIBLE_POSE).parameters

    def degrees(found: FaceParameters) -> float:
        return math.degrees(float((found.rotation[0].double() - Turned.pose).norm()))

    assert degrees(ends(LevenbergMarquardt())) > 20
    assert degrees(ends(PoseSearch())) > 10
    found = ends(OrientationSearch())
    assert degrees(found) < 1
    assert float((found.translation - 0.01).abs().max()) < 1e-3
    assert torch.equal(found.shape, face().shape)


def test_lbfgs_finds_one_blob() -> None:
    result = fit(
        Blob().render(TRUTH[0]), Blob(), START[0], free=("translation",), method=LBFGS(), steps=30
    )
    # The width is fixed at a wrong value, so depth alone is exact.
    assert abs(float(result.parameters.translation[0, 2]) - 0.015) < 1e-3


def test_a_batch_is_its_faces() -> None:
    target = Blob().render(TRUTH)
    together = fit(target, Blob(), START, steps=20, free=("translation",))
    alone = fit(target[1], Blob(), START[1], steps=20, free=("translation",))
    assert torch.allclose(
        together.parameters.translation[1], alone.parameters.translation[0], atol=1e-12
    )


@pytest.mark.parametrize(
    "method", [Adam(), LBFGS(), LevenbergMarquardt(), Ensemble()], ids=lambda m: type(m).__name__
)
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(method: Method) -> None:
    options: dict[str, Any] = {"free": ("shape", "translation"), "method": method, "steps": 8}
    target = Blob().render(TRUTH[0])
    whole = fit(target, Blob(), START[0], **options)
    seen: list[object] = []

    def stop_at_the_third(record: object) -> bool:
        seen.append(record)
        return len(seen) < 3

    cut = fit(target, Blob(), START[0], callback=stop_at_the_third, **options)
    assert cut.reason == "interrupted"
    assert cut.steps == 3
    rest = fit(target, Blob(), START[0], resume=cut.state, **options)
    assert rest.steps == whole.steps
    for ours, theirs in zip(rest.history, whole.history, strict=True):
        assert torch.equal(ours.vectors, theirs.vectors)
    assert torch.equal(rest.parameters.translation, whole.parameters.translation)


def test_a_diverging_fit_returns_its_best_iterate_and_says_so() -> None:
    target = Blob().render(TRUTH)
    near = TRUTH.replace(translation=TRUTH.translation + 1e-4)
    result = fit(target, Blob(), near, free=("translation",), method=Adam(rate=2.0), steps=5)
    assert result.diverged.all()
    assert torch.allclose(result.parameters.translation, near.translation, atol=1e-12)
    assert (result.losses <= result.history[0].losses).all()


def test_iterates_stay_inside_the_ranges() -> None:
    target = Blob().render(face(translation=(0.049, 0.0, 0.0)))
    shifted = target.__class__(
        target.amplitude_db.roll(3, 2),
        target.depth,
        target.mask.roll(3, 2),
        target.x,
        target.y,
        target.dynamic_range_db,
    )
    methods: tuple[Method, ...] = (Adam(), LevenbergMarquardt())
    for method in methods:
        result = fit(shifted, Blob(), START[0], free=("translation",), method=method, steps=40)
        assert result.parameters.translation[0, 0] == pytest.approx(0.05)
        assert all(record.vectors[:, 3:].abs().max() <= 1 for record in result.history)


def test_stages_follow_one_another_with_their_own_unknowns() -> None:
    objective = ImageObjective(target=Blob().render(TRUTH), renderer=Blob())
    pose = Stage(
        objective=objective,
        method=LevenbergMarquardt(),
        steps=10,
        free=("translation",),
        name="pose",
    )
    every = replace(pose, free=("shape", "translation"), name="all")
    result = descend([pose, every], START)
    first = [record for record in result.history if record.stage == 0]
    assert all(torch.equal(record.vectors[:, :2], START.shape) for record in first)
    assert result.stages == ("pose", "all")
    assert (result.parameters.shape - TRUTH.shape)[:, 0].abs().max() < 0.05
    assert torch.equal(result.at(0).translation, START.translation)


def test_bad_arguments_are_one_clear_line() -> None:
    target = Blob().render(TRUTH)
    with pytest.raises(InputError, match=r"expected some of shape, expression.* found 'nose'"):
        fit(target, Blob(), START, free=("nose",))
    with pytest.raises(InputError, match="L-BFGS: expected one face at a time, found 2"):
        fit(target, Blob(), START, method=LBFGS())
    with pytest.raises(InputError, match="expected 2 faces as the target, found 1"):
        fit(target, Blob(), START[0])
    with pytest.raises(InputError, match="expected both, amplitude or depth, found 'phase'"):
        fit(target, Blob(), START, inputs="phase")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected at least one"):
        fit(target, Blob(), START, free=())


def test_start_is_where_the_image_is() -> None:
    target = Blob().render(TRUTH)
    # Cut by the dynamic range and the image's edge, the blob's centroid is its centre to a pixel.
    assert torch.allclose(
        centroid(target), TRUTH.translation + torch.tensor([0.0, 0.0, 0.3]), atol=0.007
    )
    found = mean_face_at(target, Blob(), START)
    assert (found.translation - TRUTH.translation).abs().max() < 0.003


def test_physical_fit_finds_a_dome_from_the_mean_and_the_centroid() -> None:
    """Shape, expression, position, material: the whole pipeline, without networks."""
    physical = renderer()
    truth = face((0.8, -0.7), 0.6, (0.006, -0.004, 0.012), material=0.05)
    signal = physical.signal(truth.to(dtype=torch.float32))[0] * (2.0 - 1.0j)
    imager = CoarseImager(physical)
    start = mean_face_at(imager.image(signal), imager, face())
    free = ("shape", "expression", "translation", "material")
    result = reconstruct_through_physics(
        signal, physical.array, physical.waveform, physical.model, start=start, free=free
    )
    before, after, wanted = (
        to_radar(physical.model, p.to(dtype=torch.float32), physical.distance)
        for p in (start, result.parameters, truth)
    )
    assert (before - wanted).norm(dim=2).mean() > 1e-3
    # An eightieth of the wavelength: the target is the fast simulation of 94 antennas, the fit
    # sees 32, and a weak prior pulls towards the mean. Two roundings give 38 and 40 µm.
    assert (after - wanted).norm(dim=2).mean() < 5e-5


def test_a_signal_that_does_not_fit_is_refused() -> None:
    physical = renderer()
    wrong = torch.zeros(94, 94, 23, dtype=torch.complex64)
    with pytest.raises(InputError, match=r"expected complex .* = \(94, 94, 24\)"):
        reconstruct_through_physics(wrong, physical.array, physical.waveform, physical.model)
    nan = torch.full((94, 94, 24), torch.nan, dtype=torch.complex64)
    with pytest.raises(InputError, match="found NaN or infinity"):
        reconstruct_through_physics(nan, physical.array, physical.waveform, physical.model)


class Ignorant:
    """An encoder that answers with the mean face in the middle, whatever it sees."""

    def predict(self, image: RadarImage) -> FaceParameters:
        return FaceParameters.cat([face()] * len(image))


def test_the_learned_fit_starts_from_the_encoder_and_never_gets_worse() -> None:
    target = Blob().render(TRUTH)
    objective = ImageObjective(target=target, renderer=Blob())
    ends = []
    for anchor in (1.0, 0.0):
        result = reconstruct_through_learned(target, Ignorant(), Blob(), 60, anchor=anchor)
        assert torch.equal(result.at(0).translation, START.translation)
        assert (result.losses < result.history[0].losses).all()
        # The anchor is nothing at the prediction: so the image loss alone is lower too.
        before = result.history[0].losses
        assert torch.allclose(objective.image_losses(START), before)
        assert (objective.image_losses(result.parameters) < before).all()
        ends.append((result.parameters.normalised() - START.normalised()).norm(dim=1))
    assert (ends[0] < ends[1]).all()


def test_an_encoders_errors_are_found_without_data() -> None:
    """One that knows nothing errs as faces differ."""
    target = Blob().render(TRUTH)
    deviation = encoder_deviation(Ignorant(), Blob(), target, START)
    # 128 draws: a sixteenth each, and five times that here. Pose and rendering are uniform over ±1;
    # the target's dynamic range is known.
    assert deviation[:3].numpy() == pytest.approx([1.0] * 3, abs=0.32)
    assert deviation[[3, 4, 5, 6, 7, 8, 11]].numpy() == pytest.approx([3**-0.5] * 7, abs=0.15)
    assert float(deviation[9]) == pytest.approx(0.01)
    anchor = encoder_anchor(target, Ignorant(), Blob(), START, "both")
    assert torch.equal(anchor.predicted, START.normalised())
    # At least what it were if all pixels told something of their own.
    losses = ImageObjective(target=target, renderer=Blob()).image_losses(START)
    assert (anchor.weight > losses / target.mask.sum((1, 2))).all()


def test_smooth_errors_count_as_few() -> None:
    white = torch.randn(200, 32, 32, generator=torch_stream(0, "test/white"))
    # Of 1024 frequencies: known to a few per cent each, and clipped at all of them.
    assert float(independent_share(white).mean()) == pytest.approx(1.0, abs=0.05)
    # Blurred by a Gaussian of σ pixels: one in 2 π σ² of them (and a few more, as the count of few
    # random frequencies has it).
    f = torch.fft.fftfreq(32)
    filtered = torch.fft.fft2(white) * torch.exp(-8 * math.pi**2 * (f**2 + f[:, None] ** 2))
    share = independent_share(torch.fft.ifft2(filtered).real).mean()
    assert float(share) == pytest.approx(1 / (2 * math.pi * 2.0**2), rel=0.3)
    # Nothing at all is not a division by zero.
    assert float(independent_share(torch.zeros(1, 8, 8))) == 0
