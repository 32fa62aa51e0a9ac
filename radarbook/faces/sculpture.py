"""The neutral procedural face as a surface (u, v) -> (x, y, z), from our own formulas.

A mask is laid over the head as a family of horizontal sections (:data:`ROWS`); features are added
on it as smooth height fields, in the frontal coordinates of the bare mask, in millimetres of the
model frame (+x the subject's left, +y up, +z out of the nose). Sizes follow facial anthropometry
(adult means of both sexes; see :mod:`radarbook.faces.procedural` for sources). No scan entered.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

#: Sections from the hairline to under the chin: height y and depth z on the midline (nose and
#: lips not yet there), half width W, half depth D and opening angle T (degrees) of the section's
#: ellipse, and how far its ends rise towards the ears.
ROWS = np.array(
    [
        # y,     z,    W,    D,    T,   rise
        [98.0, 95.0, 74.0, 72.0, 62.0, -24.0],
        [82.0, 102.0, 75.0, 80.0, 68.0, -17.0],
        [66.0, 105.6, 75.5, 83.0, 73.0, -10.0],
        [52.0, 106.4, 75.5, 84.0, 77.0, -4.5],
        [37.0, 103.6, 75.0, 84.0, 79.0, 0.0],
        [20.0, 102.6, 74.5, 80.0, 79.5, 2.0],
        [3.0, 105.5, 73.5, 78.0, 79.0, 4.0],
        [-12.0, 110.2, 72.0, 80.0, 77.0, 6.5],
        [-24.0, 111.6, 70.0, 80.0, 75.0, 9.5],
        [-36.0, 110.6, 68.0, 79.0, 73.0, 13.0],
        [-48.0, 108.6, 65.0, 76.5, 71.0, 18.0],
        [-60.0, 107.8, 62.0, 77.0, 68.0, 23.5],
        [-70.0, 105.0, 58.5, 75.0, 65.0, 26.0],
        [-77.0, 98.5, 54.0, 67.0, 62.0, 24.0],
        [-80.5, 90.0, 49.0, 54.0, 59.0, 18.5],
        [-82.5, 79.0, 43.5, 35.0, 56.0, 13.5],
        [-83.6, 71.0, 39.0, 19.0, 54.0, 10.5],
    ]
)

# Arc length of the midline profile, scaled to [0, 1], is the parameter v.
_ARC = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ROWS[:, :2], axis=0).T))])
_SECTION = CubicSpline(_ARC / _ARC[-1], ROWS)

#: Height of the nose's ridge over the mask, against y.
_NOSE = CubicSpline(
    [-17.0, -14.0, -12.0, -10.0, -7.0, -3.0, 1.5, 5.5, 10.5, 18.0, 28.0, 36.0, 43.0, 50.0, 56.0],
    [0.0, 0.6, 2.6, 6.8, 13.6, 20.2, 24.2, 24.8, 22.2, 16.6, 9.6, 4.2, 1.6, 0.4, 0.0],
)


def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(..., 3) mm: the neutral face at u in [-1, 1] (right to left) and v in [0, 1] (top down)."""
    y, z, width, depth, opening, rise = np.moveaxis(_SECTION(v), -1, 0)
    angle = np.radians(opening) * u
    x = width * np.sin(angle)
    y = y + rise * np.abs(u) ** 3
    z = z - depth * (1 - np.cos(angle))
    # The mask's horizontal normal; features away from the midline grow along it.
    nx, nz = depth * np.sin(angle), width * np.cos(angle)
    length = np.hypot(nx, nz)
    nx, nz = nx / length, nz / length
    side = np.abs(x)

    # Rounded at the middle, where a form of |x| would have a crease.
    swell = _cheeks_and_brow(np.hypot(x, 8.0), y)
    forward, down = _front(side, y, z)
    return np.stack([x + swell * nx, y + down, z + swell * nz + forward], axis=-1)


def _bump(
    a: np.ndarray, b: np.ndarray, ca: float, cb: float, ra: float, rb: float, tilt: float = 0.0
) -> np.ndarray:
    """A Gaussian of height 1 at (ca, cb) with radii (ra, rb), turned by ``tilt`` radians."""
    da, db = a - ca, b - cb
    c, s = np.cos(tilt), np.sin(tilt)
    return np.exp(-(((c * da + s * db) / ra) ** 2) - ((-s * da + c * db) / rb) ** 2)


def _smooth_max(a: np.ndarray, b: np.ndarray, blend: float) -> np.ndarray:
    return blend * np.logaddexp(a / blend, b / blend)


def _cheeks_and_brow(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Broad forms, along the mask's normal."""
    swell = 2.6 * _bump(side, y, 52.0, 17.0, 20.0, 13.0, -0.35)  # cheekbone
    swell = swell + 2.6 * _bump(side, y, 31.0, 6.0, 15.0, 14.0)  # cheek pad below the eye
    swell = swell - 2.4 * _bump(side, y, 56.0, -14.0, 18.0, 20.0, 0.3)  # hollow below it
    swell = swell - 2.2 * _bump(side, y, 66.0, 58.0, 17.0, 20.0)  # temple
    swell = swell + 2.0 * _bump(side, y, 25.0, 55.0, 21.0, 8.5, -0.1)  # brow ridge
    swell = swell + 1.0 * _bump(side, y, 30.0, 82.0, 24.0, 16.0)  # frontal eminence
    return swell + 1.8 * _bump(side, y, 52.0, -34.0, 18.0, 12.0, 0.5)  # jaw body


def _front(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eyes, nose, mouth and chin: displacement along +z, and along +y."""
    nose, down = _nose(side, y)
    return _eyes(side, y, z) + nose + _mouth(side, y) + _chin(side, y), down


def _eyes(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Sockets with closed lids over eyeballs."""
    socket = -6.8 * _bump(side, y, 18.5, 36.0, 10.0, 10.0)
    socket = socket - 3.0 * _bump(side, y, 34.0, 42.0, 14.0, 7.5, -0.12)
    socket = socket - 1.6 * _bump(side, y, 32.0, 25.0, 16.0, 6.0, -0.15)
    # The lids follow the ball, seen as a height over the mask.
    radius2 = ((side - 30.8) / 1.06) ** 2 + (y - 34.0) ** 2
    ball = 82.6 + np.sqrt(np.maximum(12.6**2 - radius2, 1.0))
    near = np.exp(-((radius2 / 15.0**2) ** 4))
    forward = socket + near * (_smooth_max(socket, ball - z, 2.2) - socket)
    along = (side - 31.5) / 13.6
    inside = np.clip(1 - along**2, 0.0, 1.0)
    window = inside**0.35
    lid = 32.6 - 3.2 * inside + 1.2 * along
    forward = forward - 1.3 * window * np.exp(-(((y - lid) / 1.25) ** 2))  # where the lids meet
    forward = forward + 0.8 * window * np.exp(-(((y - lid - 2.6) / 2.0) ** 2))  # lash edge
    crease = lid + 1.0 + 8.6 * inside**0.6
    return forward - 1.1 * window * np.exp(-(((y - crease) / 1.7) ** 2))  # upper lid's fold


def _nose(side: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge, tip, wings and nostrils; the height, and the drop that overhangs the lip."""
    ridge = np.where((y > -17.0) & (y < 56.0), _NOSE(np.clip(y, -17.0, 56.0)), 0.0)
    half = np.interp(
        y, [-14.0, -7.0, 0.0, 7.0, 15.0, 26.0, 36.0, 50.0], [9.0, 10.0, 11.8, 11.0, 9.6, 8.8, 9, 14]
    )
    height = ridge * np.exp(-((side / half) ** 2.3))
    wing = 12.0 * np.exp(-((((side - 12.0) / 6.0) ** 2 + ((y + 3.2) / 6.6) ** 2) ** 1.5))
    flank = 4.5 * _bump(side, y, 12.0, 9.0, 9.5, 13.0)
    blend = 2.0
    height = _smooth_max(height + flank, wing + 0.5 * flank, blend) - blend * np.log(2.0) * np.exp(
        -(height + wing + flank) / blend
    )
    low = 1 / (1 + np.exp((y - 6.0) / 4.0))
    down = -0.27 * height * low
    hole = _bump(side, y, 6.8, -6.6, 3.6, 2.8, 0.5)
    return height - 3.2 * hole, down + 0.8 * hole


def _mouth(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lips closed on the mouth line, philtrum, nasolabial fold, corners."""
    forward = 2.0 * _bump(side, y, 0.0, -30.0, 24.0, 16.0)  # the lips' common mound
    forward = forward - 4.0 * _bump(side, y, 28.5, -35.0, 8.5, 7.5)  # corners lie back
    line = -33.2 - 2.0 * (side / 25.0) ** 2 + 0.7 * np.exp(-((side / 8.0) ** 2))
    opening = np.clip(1 - (side / 26.5) ** 2, 0.0, 1.0)
    upper = 9.4 * opening**0.8 - 1.2 * np.exp(-((side / 3.6) ** 2)) + 0.6
    lower = 10.4 * opening**0.65 + 0.6
    over, under = (y - line) / upper, (line - y) / lower
    roll = opening**0.6
    forward = forward + np.where(over > 0, 3.8 * roll * _lip(over), 4.6 * roll * _lip(under))
    forward = forward - 1.3 * opening**0.3 * np.exp(-(((y - line) / 1.7) ** 2))
    forward = forward - 0.7 * _bump(side, y, 0.0, -18.5, 3.6, 5.5)  # philtrum
    forward = forward + 0.3 * _bump(side, y, 6.0, -21.0, 3.4, 6.0)  # its ridges
    # The fold runs from the wing of the nose past the corner of the mouth: cheek over lip.
    fold = 17.0 + 17.5 * (np.clip((2.0 - y) / 42.0, 0.0, 1.2)) ** 0.8
    reach = np.exp(-(((y + 12.0) / 15.0) ** 2))
    step = np.tanh((side - fold) / 4.0) * np.exp(-(((side - fold) / 13.0) ** 2))
    return forward + 1.3 * reach * step


def _lip(t: np.ndarray) -> np.ndarray:
    """Cross-section of a lip: 0 at the mouth line, full, then a soft edge at t = 1."""
    t = np.maximum(t, 0.0)
    return np.tanh(3.0 * t) * np.exp(-((t / 1.0) ** 3))


def _chin(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    forward = 3.4 * _bump(side, y, 0.0, -64.0, 17.0, 11.0)
    forward = forward - 2.0 * _bump(side, y, 0.0, -50.0, 18.0, 5.0)  # mentolabial sulcus
    return forward - 2.0 * _bump(side, y, 36.0, -62.0, 16.0, 16.0, 0.6)
