"""Pictures of a fitted face, as PNG files for a page."""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.datasets.recordings import Recording
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.figures.faces import face
from radarbook.figures.images import face_outlines, radar_image
from radarbook.figures.static import png

#: Side of a radar image: pixels, m; and its depths about an untranslated face, m.
_PIXELS, _EXTENT, _NEAR, _FAR = 96, 0.3, 0.07, 0.17
#: Pixels of a picture for each of a figure's.
_SCALE = 1.0


def fit_pictures(
    recording: Recording,
    model: MorphableModel,
    found: FaceParameters,
    distance: float,
    deviation: Tensor | None = None,
) -> tuple[bytes, bytes]:
    """PNG files of a recording's radar image, with the outline of the face ``found`` (1), and of
    that face in the model frame.

    ``distance`` is that of an untranslated face, m. The face is coloured by ``deviation`` (N,), mm,
    if it is stated. The outline is left out for a moved array, whose image is in its own frame.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> renderer = Pipeline("smoke").physical
    >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
    >>> recording = rb.Recording(renderer.signal(face)[0], renderer.array, renderer.waveform)
    >>> [one[1:4] for one in fit_pictures(recording, renderer.model, face, 0.30)]
    [b'PNG', b'PNG']
    """
    single = found.to(dtype=torch.float32)
    image = recording.image(_PIXELS, _EXTENT, (max(distance - _NEAR, 0.02), distance + _FAR))
    moved = recording.array.is_moved
    outline = None if moved else face_outlines(model, single, distance)[0]
    shown = face(
        model.vertices(single.shape, single.expression)[0],
        model.triangles,
        values=None if deviation is None else deviation.float(),
        colorbar_title="stated deviation (mm)",
    )
    return png(radar_image(image, outline=outline), scale=_SCALE), png(shown, scale=_SCALE)
