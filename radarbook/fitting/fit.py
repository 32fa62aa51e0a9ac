"""Fit of faces to radar images, through any renderer."""

from __future__ import annotations

from collections.abc import Sequence

from radarbook.faces.parameters import TRAINED_POSE, FaceParameters, PoseRange
from radarbook.fitting import tuned
from radarbook.fitting.descend import Callback, FitResult, FitState, Stage, descend
from radarbook.fitting.methods import Adam, Method
from radarbook.fitting.objectives.image import Anchor, ImageObjective, Inputs
from radarbook.fitting.space import UNKNOWN
from radarbook.radar.image import RadarImage
from radarbook.radar.renderer import Renderer


def fit(
    target: RadarImage,
    renderer: Renderer,
    start: FaceParameters,
    *,
    free: Sequence[str] = UNKNOWN,
    inputs: Inputs = "both",
    anchor: Anchor | None = None,
    method: Method | None = None,
    steps: int = 100,
    patience: int = tuned.PATIENCE,
    tolerance: float = tuned.TOLERANCE,
    pose_range: PoseRange = TRAINED_POSE,
    limit: int | None = None,
    callback: Callback | None = None,
    progress: bool = False,
    resume: FitState | None = None,
) -> FitResult:
    """Fit faces to images, from ``start``, through a renderer.

    Parameters
    ----------
    target : RadarImage
        B images to explain.
    renderer : Renderer
        Learned or physical, on the same pixels.
    start : FaceParameters
        B faces. Parameters that are not ``free`` keep their values.
    free : names
        Of fields (``shape``, ``expression``, ``translation``, ``rotation``, ``rendering``) or of
        parts of rendering (``dynamic_range``, ``material``, ``antenna_size``).
    inputs, anchor
        As in :class:`~radarbook.fitting.objectives.image.ImageObjective`.
    method : Method
        Of :mod:`radarbook.fitting.methods`, with its options; None: :class:`Adam`.
    steps, patience, tolerance
        A face is finished when its loss has not fallen by a relative ``tolerance`` for
        ``patience`` steps; the fit stops when all are, or after ``steps``.
    pose_range, limit, callback, progress, resume
        As in :func:`~radarbook.fitting.descend.descend`.

    Returns :class:`~radarbook.fitting.descend.FitResult`. Every iterate stays inside the physical
    ranges and ±3 standard deviations. Raises :class:`~radarbook.errors.InputError` for unknown
    names, and for numbers of faces or pixels that differ.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.fitting.methods import LevenbergMarquardt
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> truth = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> start = truth.replace(translation=truth.translation + 0.003)
    >>> result = rb.fit(
    ...     renderer.render(truth), renderer, start,
    ...     free=["translation"], method=LevenbergMarquardt(), steps=2,
    ... )
    >>> bool(result.losses <= result.history[0].losses)
    True
    """
    stage = Stage(
        objective=ImageObjective(target=target, renderer=renderer, inputs=inputs, anchor=anchor),
        method=method or Adam(),
        steps=steps,
        free=tuple(free),
        patience=patience,
        tolerance=tolerance,
    )
    return descend(
        [stage],
        start,
        pose_range=pose_range,
        limit=limit,
        callback=callback,
        progress=progress,
        resume=resume,
    )
