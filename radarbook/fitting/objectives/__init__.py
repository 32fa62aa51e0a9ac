"""What a fit makes small: residuals between a rendering and the target, squared and summed.

:class:`ImageObjective` compares radar images through any renderer. Through physics,
:class:`PowerObjective` compares smoothed power and mean depth of a recording, and
:class:`PhaseObjective` its complex range profiles. :class:`JointObjective` and
:class:`JointPhaseObjective` do so for the recordings of several arrays.
"""

from radarbook.fitting.objectives.base import Objective, Phases
from radarbook.fitting.objectives.focused import FocusedObjective
from radarbook.fitting.objectives.image import Anchor, ImageObjective
from radarbook.fitting.objectives.joint import JointObjective, JointPhaseObjective
from radarbook.fitting.objectives.phase import PhaseObjective
from radarbook.fitting.objectives.power import PowerObjective

__all__ = [
    "Anchor",
    "FocusedObjective",
    "ImageObjective",
    "JointObjective",
    "JointPhaseObjective",
    "Objective",
    "PhaseObjective",
    "Phases",
    "PowerObjective",
]
