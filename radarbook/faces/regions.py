"""Landmark names, and regions of a face for regional errors.

The 68 landmarks are those of the Multi-PIE / iBUG mark-up as ``multipie68.00`` … ``multipie68.67``
(00 the subject's right jaw, 08 the chin, 30 the nose tip, 36–41 the right eye, 48–67 the lips).
BFM files name theirs ``right.eye.corner_outer`` and so on; where both exist the same anatomical
point is meant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

#: BFM's landmark names of the points that regions are anchored to, with their 68-point twins.
ANCHORS = {
    "right_eye_outer": ("multipie68.36", "right.eye.corner_outer"),
    "right_eye_inner": ("multipie68.39", "right.eye.corner_inner"),
    "left_eye_inner": ("multipie68.42", "left.eye.corner_inner"),
    "left_eye_outer": ("multipie68.45", "left.eye.corner_outer"),
    "nose_tip": ("multipie68.30", "center.nose.tip"),
    "nose_base": ("multipie68.33", "center.nose.attachement_to_philtrum"),
    "mouth_right": ("multipie68.48", "right.lips.corner"),
    "mouth_left": ("multipie68.54", "left.lips.corner"),
    "chin": ("multipie68.08", "center.chin.tip"),
}


def anchors_from_landmarks(landmarks: Mapping[str, int]) -> dict[str, int]:
    """Vertex index of each anchor that the landmarks name, in either vocabulary."""
    return {
        anchor: landmarks[name]
        for anchor, names in ANCHORS.items()
        for name in names
        if name in landmarks
    }


def regions_from_landmarks(mean: np.ndarray, landmarks: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Boolean masks of the regions of a neutral face (N, 3) mm, or nothing without the anchors.

    Regions are disjoint boxes and ellipses in the frontal (x, y) plane whose sizes follow the
    distances between eyes, nose, mouth and chin. Brows and temples count as forehead, the jaw
    next to the chin as cheeks, so that every vertex belongs to one region.
    """
    found = anchors_from_landmarks(landmarks)
    if set(found) != set(ANCHORS):
        return {}
    at = {name: mean[index].astype(np.float64) for name, index in found.items()}
    x, y = mean[:, 0].astype(np.float64), mean[:, 1].astype(np.float64)
    inner = (at["right_eye_inner"] + at["left_eye_inner"]) / 2
    middle = inner[0]
    outer = (at["right_eye_outer"] + at["left_eye_outer"]) / 2
    eye_line = float(inner[1] + outer[1]) / 2
    gap = float(at["left_eye_inner"][0] - at["right_eye_inner"][0])
    nose_base = float(at["nose_base"][1])
    mouth = (at["mouth_right"] + at["mouth_left"]) / 2
    mouth_half = float(at["mouth_left"][0] - at["mouth_right"][0]) / 2
    drop = eye_line - nose_base  # eye line to nose base: the vertical unit

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1

    masks: dict[str, np.ndarray] = {}
    free = np.ones(len(mean), dtype=bool)

    def claim(name: str, mask: np.ndarray) -> None:
        masks[name] = mask & free
        np.logical_and(free, ~mask, out=free)

    eyes = np.zeros_like(free)
    for side in ("right", "left"):
        ends = at[f"{side}_eye_outer"], at[f"{side}_eye_inner"]
        centre, half = (ends[0] + ends[1]) / 2, abs(ends[0][0] - ends[1][0]) / 2
        eyes |= ellipse(centre[0], centre[1], 1.25 * half, 0.85 * half)
    claim("eyes", eyes)
    taper = np.interp(y, [nose_base, eye_line], [0.72 * gap, 0.35 * gap])
    inside = (y > nose_base - 0.03 * drop) & (y < eye_line + 0.1 * drop)
    claim("nose", inside & (np.abs(x - middle) < taper))
    lip_reach = 0.62 * (mouth[1] - at["chin"][1])
    claim("mouth", ellipse(mouth[0], mouth[1], 1.25 * mouth_half, min(lip_reach, 0.8 * mouth_half)))
    claim("forehead", y > eye_line)
    claim("chin", (y < mouth[1]) & (np.abs(x - middle) < 1.1 * mouth_half))
    claim("cheeks", free.copy())
    # A coarse mesh may have no vertex between the lids; an empty region has no error.
    return {name: mask for name, mask in masks.items() if mask.any()}
