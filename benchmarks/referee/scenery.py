"""What stands around and behind a face: torso, neck and wall, as bodies in the radar frame.

Sizes are a seated adult's, rounded. Clothing is a rough dielectric (nominal values); none of it is
fitted to a measurement.
"""

from __future__ import annotations

import numpy as np

from benchmarks.referee.simulator import Body
from benchmarks.referee.surface import Parametric, Real, plate

#: Relative permittivity of a plasterboard wall and of skin under cotton, nominal.
WALL = 2.8 - 0.05j
CLOTHED = 4.0 - 3.0j


def wall(distance: float, *, side: float = 0.6, tilt: float = 0.0) -> Body:
    """A square smooth wall, ``distance`` m from the array, turned by ``tilt`` rad about y.

    Points are 2.5 mm apart: seen from the array, phases on it change by less than half a
    wavelength from point to point up to a side of ``distance``.
    """
    across = side * np.array([np.cos(tilt), 0.0, np.sin(tilt)])
    centre, up = np.array([0.0, 0.0, distance]), np.array([0.0, side, 0.0])
    return Body(plate(centre, up, across), 0.0, WALL, spacing=2.5e-3, second=False)


def torso(chin: Real, *, behind: float = 0.06) -> Body:
    """Chest and shoulders, 0.44 m × 0.30 m, ``behind`` m behind and 0.09 m below ``chin`` (3,) m.

    An elliptic cylinder whose top is rounded into shoulders. Clothing is rough: of the reflected
    power, 0.7² is diffuse.
    """
    centre = np.asarray(chin, dtype=np.float64) + np.array([0.0, -0.09, behind])

    def position(u: Real, v: Real) -> Real:
        turn, fall = np.pi * (u - 0.5), v
        # Half axes grow from the neck outwards over the first 12 cm.
        grown = np.sqrt(1 - (1 - np.minimum(fall / 0.4, 1.0)) ** 2 * 0.9)
        x = 0.22 * grown * np.sin(turn)
        z = 0.11 * (1 - grown * np.cos(turn))
        return centre + np.stack([x, -0.30 * fall, z], axis=-1)

    return Body(Parametric(position), 0.7, CLOTHED, spacing=1.0e-3, second=False)


def neck(chin: Real, *, radius: float = 0.055) -> Body:
    """A cylinder of skin from the height of ``chin`` (3,) m down to the torso."""
    centre = np.asarray(chin, dtype=np.float64) + np.array([0.0, 0.0, 0.03 + radius])

    def position(u: Real, v: Real) -> Real:
        turn = np.pi * (u - 0.5)
        x, z = radius * np.sin(turn), -radius * np.cos(turn)
        return centre + np.stack([x, -0.09 * v, z], axis=-1)

    return Body(Parametric(position), 0.2, second=False)
