"""What a fit makes small: residuals between a rendering and the target, squared and summed.

:class:`ImageObjective` compares radar images through any renderer. Through physics,
:class:`PowerObjective` compares smoothed power and mean depth of a recording, and
:class:`PhaseObjective` its complex range profiles.
"""

from radarbook.fitting.objectives.base import Objective
from radarbook.fitting.objectives.focused import FocusedObjective
from radarbook.fitting.objectives.image import Anchor, ImageObjective
from radarbook.fitting.objectives.phase import PhaseObjective
from radarbook.fitting.objectives.power import PowerObjective

__all__ = [
    "Anchor",
    "FocusedObjective",
    "ImageObjective",
    "Objective",
    "PhaseObjective",
    "PowerObjective",
]
