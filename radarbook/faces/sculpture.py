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
        [98.0, 95.0, 74.0, 78.0, 66.0, -24.0],
        [82.0, 102.0, 75.0, 82.0, 70.0, -18.0],
        [66.0, 105.6, 75.5, 84.0, 74.0, -11.0],
        [52.0, 106.4, 75.5, 86.0, 78.0, -5.0],
        [37.0, 103.6, 75.0, 84.0, 80.0, 0.0],
        [20.0, 102.6, 74.5, 80.0, 80.0, 2.0],
        [3.0, 105.5, 73.5, 78.0, 79.0, 4.0],
        [-12.0, 110.2, 72.0, 80.0, 77.0, 6.0],
        [-24.0, 111.6, 70.0, 80.0, 75.0, 9.0],
        [-36.0, 110.6, 68.0, 79.0, 73.0, 13.0],
        [-48.0, 108.6, 65.0, 76.0, 71.0, 18.0],
        [-60.0, 107.8, 61.5, 74.0, 69.0, 24.0],
        [-70.0, 105.0, 59.0, 71.0, 67.0, 28.0],
        [-77.0, 98.5, 57.0, 66.0, 64.0, 30.0],
        [-80.5, 90.0, 55.0, 60.0, 61.0, 28.0],
        [-82.5, 79.0, 53.0, 52.0, 58.0, 25.0],
        [-84.0, 67.0, 51.0, 45.0, 55.0, 22.0],
    ]
)

# Arc length of the midline profile, scaled to [0, 1], is the parameter v.
_ARC = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(ROWS[:, :2], axis=0).T))])
_SECTION = CubicSpline(_ARC / _ARC[-1], ROWS)

#: Height of the nose's ridge over the mask, against y.
_NOSE = CubicSpline(
    [-17.0, -14.0, -12.0, -10.0, -7.5, -4.5, -1.0, 3.0, 9.0, 18.0, 28.0, 36.0, 43.0, 50.0, 56.0],
    [0.0, 0.6, 2.6, 8.0, 15.5, 21.0, 24.0, 24.6, 21.8, 16.2, 9.6, 4.2, 1.6, 0.4, 0.0],
)


def section_parameter(y: np.ndarray | float) -> np.ndarray:
    """v of the midline point at height y (of the bare mask, above the chin)."""
    order = slice(12, None, -1)
    return np.interp(y, ROWS[order, 0], (_ARC / _ARC[-1])[order])


def surface(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(..., 3) mm: the neutral face at u in [-1, 1] (right to left) and v in [0, 1] (top down)."""
    y, z, width, depth, opening, rise = np.moveaxis(_SECTION(v), -1, 0)
    angle = np.radians(opening) * u
    x = width * np.sin(angle)
    y = y + rise * u**2
    z = z - depth * (1 - np.cos(angle))
    # The mask's horizontal normal; features away from the midline grow along it.
    nx, nz = depth * np.sin(angle), width * np.cos(angle)
    length = np.hypot(nx, nz)
    nx, nz = nx / length, nz / length
    side = np.abs(x)

    swell = _cheeks_and_brow(side, y)
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
    swell = 2.8 * _bump(side, y, 52.0, 16.0, 20.0, 13.0, -0.35)  # cheekbone
    swell = swell + 2.2 * _bump(side, y, 30.0, 8.0, 14.0, 12.0)  # cheek pad below the eye
    swell = swell - 2.6 * _bump(side, y, 55.0, -16.0, 17.0, 20.0, 0.3)  # hollow below it
    swell = swell - 2.6 * _bump(side, y, 66.0, 56.0, 14.0, 18.0)  # temple
    swell = swell + 2.4 * _bump(side, y, 30.0, 53.5, 21.0, 6.5, -0.12)  # brow ridge
    swell = swell + 1.0 * _bump(side, y, 30.0, 80.0, 22.0, 16.0)  # frontal eminence
    return swell + 1.6 * _bump(side, y, 52.0, -36.0, 16.0, 10.0, 0.5)  # jaw body


def _front(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eyes, nose, mouth and chin: displacement along +z, and along +y."""
    forward = _eyes(side, y, z)
    nose, down = _nose(side, y)
    forward = forward + nose + _mouth(side, y) + _chin(side, y)
    return forward, down


def _eyes(side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Sockets with closed lids over eyeballs of 12.5 mm radius."""
    socket = -8.5 * _bump(side, y, 19.0, 35.0, 10.5, 9.5)
    socket = socket - 5.0 * _bump(side, y, 35.0, 40.0, 15.0, 9.0)
    socket = socket - 3.0 * _bump(side, y, 36.0, 26.0, 14.0, 5.0, -0.1)
    # The lids follow the ball, seen as a height over the mask.
    radius2 = (side - 31.5) ** 2 + (1.05 * (y - 34.5)) ** 2
    ball = (
        83.2
        + np.sqrt(np.maximum(12.5**2 - radius2, 0.0))
        - 0.5 * np.sqrt(np.maximum(radius2 - 11.5**2, 0.0))
    )
    forward = np.where(radius2 < 24.0**2, _smooth_max(socket, ball - z, 0.9), socket)
    along = (side - 31.5) / 13.5
    inside = np.clip(1 - along**2, 0.0, 1.0)
    lid = 33.4 - 3.6 * inside + 0.8 * along
    window = np.sqrt(inside)
    forward = forward - 1.5 * window * np.exp(-(((y - lid) / 1.2) ** 2))  # where the lids meet
    forward = forward + 0.7 * window * np.exp(-(((y - lid - 2.4) / 1.8) ** 2))  # lash edge
    crease = lid + 8.4 * inside**0.6
    return forward - 1.4 * window * np.exp(-(((y - crease) / 1.5) ** 2))  # upper lid's fold


def _nose(side: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge, tip, wings and nostrils; the height, and the drop that overhangs the lip."""
    inside = (y > -17.0) & (y < 56.0)
    ridge = np.where(inside, _NOSE(np.clip(y, -17.0, 56.0)), 0.0)
    half = np.interp(y, [-14.0, -6.0, 2.0, 10.0, 20.0, 34.0, 50.0], [9, 10, 10.5, 10, 9.5, 8.5, 13])
    height = ridge * np.exp(-((side / half) ** 2.3))
    wing = 12.5 * np.exp(-((((side - 12.3) / 6.0) ** 2 + ((y + 5.0) / 6.4) ** 2) ** 1.7))
    flank = 5.0 * _bump(side, y, 13.0, 8.0, 9.0, 11.0)
    height = (
        _smooth_max(height, wing, 1.6)
        - 1.6 * np.log(2.0) * np.exp(-((height + wing) / 1.6))
        + flank * np.exp(-height / 12.0)
    )
    low = 1 / (1 + np.exp((y - 2.0) / 3.0))
    down = -0.16 * height * low
    hole = _bump(side, y, 6.3, -8.8, 3.2, 2.4, 0.35)
    return height - 5.0 * hole, down + 2.5 * hole


def _mouth(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Lips closed on the mouth line, philtrum, nasolabial fold, corners."""
    line = -33.4 - 1.9 * (side / 25.0) ** 2 + 0.5 * _bump(side, y, 0.0, -33.0, 5.0, 40.0)
    open_ = np.clip(1 - (side / 26.0) ** 2, 0.0, 1.0)
    upper = 9.2 * open_**0.75 - 1.1 * np.exp(-((side / 3.6) ** 2)) + 0.4
    lower = 10.2 * open_**0.6 + 0.4
    over = (y - line) / upper
    under = (line - y) / lower
    roll = open_**0.5
    up = 4.4 * roll * _lip(over) * (over > 0)
    low = 5.0 * roll * _lip(under) * (under > 0)
    forward = up + low - 1.6 * roll * np.exp(-(((y - line) / 1.3) ** 2))
    forward = forward - 5.5 * _bump(side, y, 27.0, -35.0, 6.5, 6.5)  # corners lie back
    forward = forward - 1.3 * _bump(side, y, 0.0, -18.0, 3.4, 6.0)  # philtrum
    forward = forward + 0.7 * _bump(side, y, 5.2, -19.0, 2.6, 6.5)  # its ridges
    forward = forward + 1.6 * _bump(side, y, 0.0, -24.0, 22.0, 9.0)
    # The fold runs from the wing of the nose past the corner of the mouth: cheek over lip.
    fold = np.interp(y, [-38.0, -24.0, -8.0, 2.0], [35.0, 31.0, 20.0, 16.0])
    reach = np.exp(-(((y + 14.0) / 15.0) ** 2))
    step = np.tanh((side - fold) / 2.6) * np.exp(-(((side - fold) / 11.0) ** 2))
    return forward + 1.5 * reach * step


def _lip(t: np.ndarray) -> np.ndarray:
    """Cross-section of a lip: 0 at the mouth line, full, then a soft edge at t = 1."""
    t = np.maximum(t, 0.0)
    return np.sqrt(np.tanh(4.0 * t)) * np.exp(-((t / 1.05) ** 4))


def _chin(side: np.ndarray, y: np.ndarray) -> np.ndarray:
    forward = 3.6 * _bump(side, y, 0.0, -64.0, 15.0, 11.0)
    forward = forward - 1.8 * _bump(side, y, 0.0, -50.5, 15.0, 4.5)  # mentolabial sulcus
    return forward - 4.5 * _bump(side, y, 34.0, -66.0, 14.0, 14.0, 0.6)
