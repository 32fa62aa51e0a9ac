"""A face from its recordings: fit, layer, delay, verdict, and the text that states them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.errors import InputError
from radarbook.faces.mesh import require_mesh_name, write_mesh
from radarbook.faces.model import DEFAULT_MODES, MorphableModel
from radarbook.faces.parameters import VISIBLE_POSE, FaceParameters, PoseRange
from radarbook.faces.projection import Projection, projected
from radarbook.fitting import tuned
from radarbook.fitting.acceptance import Verdict, delay_score, judge
from radarbook.fitting.delay import delay_deviation
from radarbook.fitting.delay_fit import fit_with_delay
from radarbook.fitting.descend import FitResult, descend
from radarbook.fitting.layer_fit import LayerFit, fit_layer
from radarbook.fitting.plan import final_objective
from radarbook.fitting.recognise import highlights
from radarbook.fitting.reconstruct import (
    mean_face_start,
    physical_renderer,
    reconstruct_through_physics,
    uncertainty_through_physics,
)
from radarbook.fitting.schedule import Level, usual_schedule
from radarbook.fitting.uncertainty import Uncertainty
from radarbook.radar.channel_errors import ChannelErrors
from radarbook.radar.delay import range_of_delay, without_delay
from radarbook.radar.layer import Layer
from radarbook.radar.polarisation import Polarisation
from radarbook.radar.waveform import Waveform


@dataclass(frozen=True)
class Reconstruction:
    """Result of :func:`reconstruct`; the command line prints its ``str``.

    Attributes
    ----------
    model : MorphableModel
    parameters : FaceParameters
        The face (1); the best so far if the fit was stopped.
    fit : FitResult
        Of the fit through physics.
    verdict : Verdict
        Whether the face is accepted. The face of a stopped fit is not.
    waveform : Waveform
        Of the recording.
    delay : float
        Common delay that was removed from the recording, s, given or fitted.
    delay_deviation : float, optional
        Standard deviation of a fitted delay, s; None if the delay was given or none is stated.
    layer_fit : LayerFit, optional
        The layer that was fitted.
    uncertainty : Uncertainty, optional
        Of an accepted face, and of any face of a model of many coefficients, else None. The linear
        theory does not include the error of a wrong minimum, or of physics that the fit does not
        model.
    smoothed : bool
        Whether the face is that of smoothed power, because phases did not fit
        (:attr:`~radarbook.fitting.acceptance.Verdict.phases_fit`).
    state_file : Path, optional
        State of a stopped fit.
    recordings : int
        How many were fitted together.

    Examples
    --------
    A recording of the mean face, and a fit that is stopped before its first step.

    >>> import radarbook as rb
    >>> from radarbook.fitting.schedule import SCHEDULE
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> recording = rb.Recording(renderer.signal(face)[0], renderer.array, renderer.waveform)
    >>> result = rb.reconstruct(recording, renderer.model, schedule=SCHEDULE[-1:], steps=0)
    >>> result.accepted, result.uncertainty
    (False, None)
    >>> result.vertices().shape == renderer.model.shape_mean.shape
    True
    """

    model: MorphableModel
    parameters: FaceParameters
    fit: FitResult
    verdict: Verdict
    waveform: Waveform
    delay: float = 0.0
    delay_deviation: float | None = None
    layer_fit: LayerFit | None = None
    uncertainty: Uncertainty | None = None
    state_file: Path | None = None
    recordings: int = 1
    smoothed: bool = False

    @property
    def accepted(self) -> bool:
        return not self.fit.stopped and self.verdict.accepted

    @property
    def bounds(self) -> tuple[str, ...]:
        """Parameters that ended at a bound of their range, in words."""
        return self.verdict.bounds

    @property
    def reason(self) -> str:
        """One line: whether the face is accepted, or why it is not."""
        if self.fit.stopped:
            return f"not accepted: {progress_text(self.fit, self.state_file)}"
        return str(self.verdict)

    def vertices(self) -> Tensor:
        """(N, 3) mm, model frame, without pose."""
        p = self.parameters
        return self.model.vertices(p.shape.float(), p.expression.float())[0]

    def as_modes(
        self,
        n_shape: int = DEFAULT_MODES["shape"],
        n_expression: int = DEFAULT_MODES["expression"],
    ) -> Projection:
        """The face as coefficients of the model's first modes, the paper's 10 + 7 by default
        (:func:`~radarbook.faces.projection.projected`)."""
        return projected(self.model.truncated(n_shape, n_expression), self.vertices())

    def vertex_deviation(self) -> Tensor | None:
        """(N,) mm: stated standard deviation of each vertex; None if none is stated."""
        return None if self.uncertainty is None else self.uncertainty.vertex_deviation(self.model)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mesh (mm, model frame); a PLY file also holds the deviation if it is stated."""
        deviation, values = self.vertex_deviation(), {}
        if deviation is not None and require_mesh_name(Path(path)) == ".ply":
            values["deviation"] = deviation
        write_mesh(Path(path), self.vertices(), self.model.triangles, values=values)

    def __str__(self) -> str:
        if self.verdict.unlike is not None:
            return f"{self.verdict}\nnot fitted: no deviation is stated"
        lines = [progress_text(self.fit, self.state_file)]
        if self.fit.stopped:
            lines.append(f"{self.verdict.power_text}; not judged, since the fit is not finished")
        else:
            # The first line states whether the face is accepted.
            lines.insert(0, str(self.verdict))
        if self.verdict.bounds:
            lines.append("at the end of its range: " + ", ".join(self.verdict.bounds))
        if self.recordings > 1:
            lines.append(f"{self.recordings} recordings were fitted together")
        lines += self._layer_text() + self._delay_text()
        if self.smoothed:
            lines.append(
                "phases do not fit a face of this model: the face is that of smoothed power"
            )
        if not self.fit.stopped:
            lines.append(self._deviation_text())
        if (
            self.model.n_shape > DEFAULT_MODES["shape"]
            and self.model.n_expression >= DEFAULT_MODES["expression"]
        ):
            lines.append(str(self.as_modes()))
        return "\n".join([*lines, pose_text(self.parameters)])

    def _layer_text(self) -> list[str]:
        if self.layer_fit is None:
            return []
        layer = self.layer_fit.layer
        lines = [
            f"layer {1e3 * float(layer.thickness):.2f} mm thick, permittivity "
            f"{complex(layer.permittivity):.2f}, of {self.layer_fit.tried} tried; "
            f"it delays by {1e3 * layer.delay(self.waveform):.2f} mm"
        ]
        others = [f"{1e3 * float(one.thickness):.2f}" for one in self.layer_fit.likely[1:]]
        return lines + (
            [f"equally likely: a thickness of {', '.join(others)} mm"] if others else []
        )

    def _delay_text(self) -> list[str]:
        if self.delay == 0:
            return []
        text = f"delay of {1e9 * self.delay:.4f} ns removed"
        if self.delay_deviation is not None:
            text += f" (fitted, ± {1e9 * self.delay_deviation:.4f} ns)"
        return [f"{text}: {1e3 * range_of_delay(self.delay):+.1f} mm of range"]

    def _deviation_text(self) -> str:
        deviation = self.vertex_deviation()
        if deviation is None:
            return "not accepted: no deviation is stated"
        text = (
            f"stated deviation of a vertex {float(deviation.mean()):.2f} mm on average, at most "
            f"{float(deviation.max()):.2f} mm"
        )
        beyond = None if self.uncertainty is None else self.uncertainty.beyond
        if beyond is not None:
            text += f", with {beyond.variance**0.5:.1f} mm for shapes that the model may lack"
        return text


def _check_thickest(thickest: float, layer: Layer, distance: float, pose: PoseRange) -> None:
    """Before the fit: a layer that would be refused after it, wherever the face is found."""
    if not 0 < thickest < math.inf:
        raise InputError(f"thickest: expected metres above 0, found {thickest:g}")
    back = float(torch.as_tensor(layer.distance).max()) + thickest
    farthest = distance + pose.translation[2]
    if back >= farthest:
        raise InputError(
            f"thickest: expected a layer in front of the face, at most {farthest:.2f} m from the "
            f"array, found its back at {back:.3f} m"
        )


def progress_text(result: FitResult, state_file: Path | None = None) -> str:
    """The end of a fit: its steps, and whether it converged."""
    earlier = f", {result.resumed} of them before" if result.resumed else ""
    text = f"{result.steps} steps in {result.seconds:.0f} s{earlier}: "
    if result.stopped:
        text += "stopped at the limit of steps" if result.reason == "limit" else "interrupted"
        if state_file is None:
            return text
        if result.kept is not False:
            return f"{text}; the same command resumes from {state_file}"
        text += f"; its state could not be kept in {state_file}"
        earlier = ", from whose earlier state the same command resumes"
        return text + (earlier if state_file.exists() else "")
    if result.resumed == result.steps and state_file is not None:
        text += f"{state_file} was finished; "
    if bool(result.converged.all()):
        return text + "converged"
    if bool(result.diverged.any()):
        return text + "not converged: the residual rose in the last stage; the best face is kept"
    return text + "not converged: the residual still fell when the last stage ended"


def pose_text(parameters: FaceParameters) -> str:
    """Two lines: translation and rotation of the first face.

    Examples
    --------
    >>> print(pose_text(FaceParameters.neutral(1, n_shape=10, n_expression=7)))
    translation +0.0 +0.0 +0.0 mm (x, y, z in the radar frame)
    rotation +0.0 +0.0 +0.0 degrees (yaw, pitch, roll)
    """
    x, y, z = (1e3 * parameters.translation[0]).tolist()
    yaw, pitch, roll = parameters.rotation[0].rad2deg().tolist()
    return (
        f"translation {x:+.1f} {y:+.1f} {z:+.1f} mm (x, y, z in the radar frame)\n"
        f"rotation {yaw:+.1f} {pitch:+.1f} {roll:+.1f} degrees (yaw, pitch, roll)"
    )


def reconstruct(
    recording: Recording | Sequence[Recording],
    model: MorphableModel,
    *,
    distance: float = 0.30,
    delay: float = 0.0,
    fit_delay: bool = False,
    layer: Layer | None = None,
    thickest: float | None = None,
    bounces: int | None = None,
    polarisation: Polarisation = Polarisation(),  # noqa: B008  (frozen)
    channels: ChannelErrors | None = None,
    noise: float = 0.0,
    pose_range: PoseRange = VISIBLE_POSE,
    steps: int | None = None,
    start: FaceParameters | None = None,
    schedule: Sequence[Level] | None = None,
    progress: bool = False,
    state_file: str | os.PathLike[str] | None = None,
    refuse: bool = True,
) -> Reconstruction:
    """Fit a face to its recordings through physics, and judge whether it is accepted.

    Parameters
    ----------
    recording : Recording, or a sequence
        Several recordings are of one face, by arrays whose poses in the radar frame are known
        (:meth:`Array.moved <radarbook.radar.array.Array.moved>`). They are fitted together, each
        with a complex gain of its own, so that the phase between their clocks need not be known
        (:class:`~radarbook.fitting.objectives.JointObjective`).
    model : MorphableModel
        Model of the fitted faces.
    distance : float
        Distance of an untranslated face, m.
    delay : float
        Common delay of all channels, s, which is removed first
        (:func:`~radarbook.radar.delay.without_delay`).
    fit_delay : bool
        A remaining common delay is fitted, too (:mod:`radarbook.fitting.delay_fit`).
    layer, thickest : Layer, float, optional
        Between array and face. With ``thickest`` (m) its thickness, up to that, and its
        permittivity are fitted, too.
    bounces : int, optional
        Reflections of a path that the fit models. None: 2, or 1 where an array's channels are a
        list of pairs, whose double bounce is not computed.
    polarisation : Polarisation
        Of the antennas; decides paths of two reflections and more.
    channels : ChannelErrors, optional
        How well the antennas are calibrated: their gains are unknowns with these deviations as
        their prior (:mod:`radarbook.fitting.channel_gains`). None: no gain is estimated.
    noise : float
        Expected normalised power of noise and channel errors, 0 to 1, which the residual may have
        in addition to the diffuse share.
    pose_range : PoseRange
        Bounds of position and orientation, either way from the frontal face at ``distance``:
        :data:`~radarbook.faces.parameters.VISIBLE_POSE`, 10 cm and 40 degrees.
        :data:`~radarbook.faces.parameters.TRAINED_POSE` is the range of sampled faces. A parameter
        that ended at a bound is in :attr:`Reconstruction.bounds` and in the text.
    steps : int
        Steps at most in this call.
    start, schedule, progress, state_file
        As in :func:`~radarbook.fitting.reconstruct.reconstruct_through_physics`.
    refuse : bool
        Whether a recording whose highlights are not those of a face
        (:mod:`radarbook.fitting.recognise`) is refused before the fit, in a second: the result is
        the mean face, and its verdict says why. Looked at are single recordings without a layer,
        for a whole fit from the mean face by the usual schedule.

    Raises :class:`~radarbook.errors.InputError` as that function, for a ``thickest`` without a
    layer or together with ``fit_delay``, for a noise not from 0 to below 1, and for several
    recordings with ``fit_delay`` or ``thickest``.

    Examples
    --------
    A recording of the mean face, and a fit that is stopped before its first step.

    >>> import radarbook as rb
    >>> from radarbook.fitting.schedule import SCHEDULE
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> recording = rb.Recording(renderer.signal(face)[0], renderer.array, renderer.waveform)
    >>> result = rb.reconstruct(recording, renderer.model, schedule=SCHEDULE[-1:], steps=0)
    >>> print(result)
    0 steps in 0 s: stopped at the limit of steps
    normalised residual power ...

    The same with a second array, 40 degrees aside and turned towards the face.

    >>> import math
    >>> import torch
    >>> side, centre = math.radians(40), torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
    >>> turn = torch.eye(3, dtype=torch.float64)
    >>> turn[::2, ::2] = torch.tensor(
    ...     [[math.cos(side), math.sin(side)], [-math.sin(side), math.cos(side)]]
    ... )
    >>> second = renderer.replace(array=renderer.array.moved(turn, centre - turn @ centre))
    >>> aside = rb.Recording(second.signal(face)[0], second.array, second.waveform)
    >>> both = [recording, aside]
    >>> rb.reconstruct(both, renderer.model, schedule=SCHEDULE[-1:], steps=0).recordings
    2
    """
    if thickest is not None and layer is None:
        raise InputError("thickest: expected together with a layer, found it alone")
    if layer is not None and thickest is not None:
        _check_thickest(thickest, layer, distance, pose_range)
    if fit_delay and state_file is not None:
        raise InputError("fit of a delay: expected no state file, found one; it cannot be resumed")
    if thickest is not None and fit_delay:
        raise InputError(
            "fit of a delay: expected a layer whose thickness is known, found both unknown; "
            "they are hardly distinguishable"
        )
    if not 0 <= noise < 1:
        raise InputError(f"noise: expected a share from 0 to below 1, found {noise}")
    recordings = [recording] if isinstance(recording, Recording) else list(recording)
    if not recordings:
        raise InputError("recording: expected at least one, found none")
    first = recordings[0]
    for asked, name in ((fit_delay, "delay"), (thickest is not None, "layer")):
        if asked and len(recordings) > 1:
            raise InputError(
                f"fit of a {name}: expected one recording, found {len(recordings)}; "
                f"a joint fit with an unknown {name} is not available"
            )
    signals = [without_delay(one.signal, one.waveform, delay) for one in recordings]
    signal = signals[0]
    if bounces is None:
        usual = all(one.array.is_nearly_product for one in recordings)
        bounces = tuned.BOUNCES if usual else 1
    physical = physical_renderer(
        model, first.array, first.waveform, distance, bounces=bounces, channels=channels
    )
    renderer = physical.replace(layer=layer, polarisation=polarisation)
    renderers = [renderer.replace(array=r.array, waveform=r.waveform) for r in recordings]
    whole = steps is None and start is None and schedule is None
    if refuse and whole and len(signals) == 1 and layer is None and not fit_delay:
        seen = highlights(signal, renderer, pose_range)
        if seen is not None and not seen.of_a_face:
            mean = mean_face_start(signal, renderer)
            verdict = Verdict(1.0, 0.0, unlike=str(seen))
            nothing = descend([], mean, pose_range=pose_range)
            return Reconstruction(model, mean, nothing, verdict, first.waveform, delay)
    fitted = None
    if fit_delay:
        fitted = fit_with_delay(
            signal,
            renderer,
            start=start,
            schedule=schedule or usual_schedule(model.n_shape + model.n_expression),
            steps=steps,
            noise=noise,
            pose_range=pose_range,
            progress=progress,
        )
        delay += fitted.delay
        signal = without_delay(signal, first.waveform, fitted.delay)
        signals = [signal]
        result = fitted.result
    else:
        result = reconstruct_through_physics(
            signals,
            [one.array for one in recordings],
            [one.waveform for one in recordings],
            model,
            distance=distance,
            start=start,
            steps=steps,
            schedule=schedule,
            noise=noise,
            pose_range=pose_range,
            progress=progress,
            state_file=state_file,
            renderer=renderer,
        )
    found = result.parameters
    fitted_layer = None
    if layer is not None and thickest is not None and not result.stopped:
        fitted_layer = fit_layer(
            signal, renderer, layer, found, thickest=thickest, pose_range=pose_range
        )
        found = fitted_layer.parameters
        renderers = [renderer.replace(layer=fitted_layer.layer)]
    objective = final_objective(signals, renderers)
    verdict = judge(objective, found, agreed=result.agreed, noise=noise, pose_range=pose_range)[0]
    if verdict.accepted and not result.stopped:
        late = final_objective(signals, renderers, delay=True)
        verdict = replace(verdict, delay=delay_score(late, found))
    sure, spread, smoothed = None, None, False
    if verdict.accepted and not result.stopped:
        sure = uncertainty_through_physics(signals, renderers, found, fit_delay=fit_delay)
        spread = delay_deviation(sure, found) if fit_delay else None
    elif objective.prior_follows and not result.stopped:
        smoothed = not verdict.phases_fit and result.smoothed is not None
        if smoothed and result.smoothed is not None:
            found = result.smoothed
            verdict = verdict.at(found, pose_range)
        # The residual says that the model may lack the recorded shape.
        sure = uncertainty_through_physics(signals, renderers, found, smoothed=smoothed).outside()
    return Reconstruction(
        model,
        found,
        result,
        verdict,
        first.waveform,
        delay,
        spread,
        fitted_layer,
        sure,
        None if state_file is None else Path(state_file),
        len(recordings),
        smoothed,
    )
