"""The table of stages of a fit through physics, coarse to fine."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal

from radarbook.fitting import tuned
from radarbook.fitting.methods import (
    CycleSearch,
    Ensemble,
    LevenbergMarquardt,
    Method,
    OrientationSearch,
    PoseSearch,
)

#: How a level renders faces: ``"coarse"`` leaves the mesh as it is, takes the facets that face the
#: array alone and no occlusion; ``"reduced"`` divides facets and leaves out steep ones; ``"full"``
#: leaves nothing out, but has an approximate Jacobian: from fewer facets [0011], and of many modes
#: to first order; ``"exact"`` has not.
Fidelity = Literal["coarse", "reduced", "full", "exact"]


@dataclass(frozen=True)
class Level:
    """One stage of a fit through physics.

    Attributes
    ----------
    name : str
    smoothing : tuple of float
        Of :class:`~radarbook.fitting.objectives.power.PowerObjective`, m; none takes the
        :class:`~radarbook.fitting.objectives.phase.PhaseObjective` with its ``contrast`` instead,
        in which the material is no unknown.
    method : Method
        A level of :class:`~radarbook.fitting.methods.PoseSearch` is only in runs after the second.
    steps : int
        At most.
    fidelity : {"coarse", "reduced", "full", "exact"}
    prior : float
        About the variance that noise gives one residual, times the number of coefficients.
    contrast : float
    modes : tuple of int, optional
        Leading coefficients of shape and expression that may change; None: all.
    independent : float, optional
        Number of independent residuals; the prior then follows the residual
        (:class:`~radarbook.fitting.objectives.focused.FocusedObjective`).
    speckle_db : float
        Of :meth:`PowerObjective.of <radarbook.fitting.objectives.power.PowerObjective.of>`.

    Examples
    --------
    >>> from radarbook.fitting.schedule import Level
    >>> Level("7 mm", smoothing=(0.0068,), steps=6).method.reuse
    3
    """

    name: str
    _: KW_ONLY
    smoothing: tuple[float, ...] = ()
    method: Method = field(default_factory=LevenbergMarquardt)
    steps: int = 1
    fidelity: Fidelity = "full"
    prior: float = 5e-4
    contrast: float = tuned.CONTRAST
    modes: tuple[int, int] | None = None
    independent: float | None = None
    speckle_db: float = tuned.SPECKLE_DB

    @property
    def searches_pose(self) -> bool:
        return isinstance(self.method, PoseSearch)

    @property
    def moves_pose_alone(self) -> bool:
        return isinstance(self.method, PoseSearch | OrientationSearch)

    @property
    def samples_faces(self) -> bool:
        return isinstance(self.method, Ensemble)

    @property
    def searches_cycles(self) -> bool:
        return isinstance(self.method, CycleSearch)

    def description(self) -> dict[str, Any]:
        """Of the level and its method, JSON-able."""
        return {**vars(self), "method": self.method.description()}


#: Lateral smoothing, m: distances of minima from the truth fall from 0.35-0.67 to 0.2-0.5 mm from
#: the coarsest to the finest [0009].
WIDE, MIDDLE, NARROW = (0.0135, 0.0068), (0.0068, 0.0032), (0.0032, 0.0)
#: Steps of the fine levels: six instead of eight cost nothing [0021]. Priors: not measured.
_FINE = (
    Level("3 and 0 mm", smoothing=NARROW, steps=6, prior=5e-5),
    Level(
        "phase cycles, highlights", method=CycleSearch(), steps=4, contrast=tuned.HIGHLIGHT_CONTRAST
    ),
)
#: From a start within a millimetre or so of the truth. The search among minima [0018, 0019] comes
#: before the last descents; flat valleys need exact Jacobians, approximate ones have errors of a
#: twentieth [0011].
REFINE = (
    *_FINE,
    Level("phase cycles, all pixels", method=CycleSearch(), steps=3),
    Level("phase, all pixels", steps=8),
    Level(
        "phase, exact Jacobian",
        method=LevenbergMarquardt(damping=tuned.EXACT_DAMPING, gain=tuned.EXACT_GAIN),
        steps=8,
        fidelity="exact",
    ),
)
#: Descents alone, for a start whose phases are right within a quarter of a cycle.
DESCENT = (
    _FINE[0],
    Level("phase, highlights", steps=6, contrast=tuned.HIGHLIGHT_CONTRAST),
    Level("phase, all pixels", steps=14),
)
#: From an encoder's prediction, some 2 mm off. Widths of ensembles: a derivative at one point does
#: not reach beyond a quarter of a wavelength [0007]; their sequence is not measured.
ENCODED = (
    Level("ensemble of 0.5 σ", smoothing=WIDE, method=Ensemble(width=0.5), fidelity="coarse"),
    Level("ensemble of 0.35 σ", smoothing=WIDE, method=Ensemble(width=0.35), fidelity="coarse"),
    Level("14 and 7 mm", smoothing=WIDE, steps=6, fidelity="coarse", prior=4e-4),
    Level("7 and 3 mm", smoothing=MIDDLE, steps=6, fidelity="reduced", prior=1e-4),
    *REFINE,
)
#: From the mean face at the image's centroid.
SCHEDULE = (
    Level("orientation", smoothing=WIDE, method=OrientationSearch(), steps=5, fidelity="coarse"),
    Level("pose search", smoothing=WIDE, method=PoseSearch(), steps=3, fidelity="coarse"),
    Level("ensemble of 1 σ", smoothing=WIDE, method=Ensemble(width=1.0), fidelity="coarse"),
    Level("ensemble of 0.7 σ", smoothing=WIDE, method=Ensemble(width=0.7), fidelity="coarse"),
    *ENCODED,
)
_FOLLOWS: tuple[dict[str, Any], ...] = tuple(
    {"prior": 1e-6, "independent": count, "speckle_db": tuned.MANY_SPECKLE_DB}
    for count in tuned.POWER_INDEPENDENT
)
#: From the mean face at the image's centroid, of a model of many coefficients: the leading ones by
#: the same stages, then all of them from smoothed power on, each stage with a prior that follows
#: its residual.
MANY_MODES = (
    *(replace(level, modes=tuned.LEADING) for level in SCHEDULE[:7]),
    Level("14 and 7 mm, all", smoothing=WIDE, steps=4, fidelity="coarse", **_FOLLOWS[0]),
    Level("7 and 3 mm, all", smoothing=MIDDLE, steps=4, fidelity="reduced", **_FOLLOWS[1]),
    Level("3 and 0 mm, all", smoothing=NARROW, steps=4, **_FOLLOWS[2]),
    *(replace(level, independent=tuned.INDEPENDENT) for level in REFINE[1:-1]),
)


def usual_schedule(coefficients: int) -> tuple[Level, ...]:
    """Of a fit from the mean face, for a model of so many coefficients of shape and expression.

    Examples
    --------
    >>> usual_schedule(17) == SCHEDULE, usual_schedule(120) == MANY_MODES
    (True, True)
    """
    return MANY_MODES if coefficients > tuned.MANY_MODES else SCHEDULE


#: How runs weight power, in turn: as in a recording with little speckle, and bright pixels alone.
#: Their errors differ, and phases decide which one was correct [0012].
WEIGHTS: tuple[dict[str, float], ...] = ({}, tuned.BRIGHT_PIXELS)
