"""Methods of a fit, each a frozen object whose fields are its options.

:class:`Adam` and :class:`LBFGS` follow gradients, :class:`LevenbergMarquardt` solves the linearised
least-squares problem, :class:`Ensemble` regresses the residuals on samples of faces,
:class:`PoseSearch` samples poses about one, :class:`OrientationSearch` over a wide range, and
:class:`CycleSearch` searches among the minima of a loss on phases.
"""

from radarbook.fitting.methods.base import Iteration, Method, Problem
from radarbook.fitting.methods.cycles import CycleSearch
from radarbook.fitting.methods.ensemble import Ensemble
from radarbook.fitting.methods.gradient import LBFGS, Adam
from radarbook.fitting.methods.levenberg import LevenbergMarquardt
from radarbook.fitting.methods.pose_search import OrientationSearch, PoseSearch

__all__ = [
    "LBFGS",
    "Adam",
    "CycleSearch",
    "Ensemble",
    "Iteration",
    "LevenbergMarquardt",
    "Method",
    "OrientationSearch",
    "PoseSearch",
    "Problem",
]
