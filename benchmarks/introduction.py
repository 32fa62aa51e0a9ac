"""The pictures of the introduction: the measurement, and one radar image.

    python -m benchmarks.introduction [FOLDER]

Writes ``scene.png`` (array, face and frames) and ``radar_image.png`` (amplitude and depth of the
mean face at profile ``laptop``) into ``jupyter_book/images``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import radarbook as rb
from radarbook import figures

IMAGES = Path(__file__).resolve().parents[1] / "jupyter_book" / "images"


def main() -> None:
    """Write both pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    model, profile = rb.load_model(), rb.get_profile("laptop")
    face = rb.FaceParameters.neutral(1)
    placed = rb.to_radar(model, face, profile.distance)[0]
    scene = figures.array_and_face(rb.qar50(), placed, model.triangles)
    figures.save_png(scene, folder / "scene.png", scale=1.6)
    with torch.no_grad():
        image = rb.PhysicalRenderer.for_profile(model, profile).render(face)
    outline = figures.face_outlines(model, face, profile.distance)[0]
    picture = figures.radar_image(image, outline=outline)
    figures.save_png(picture, folder / "radar_image.png", scale=1.6)


if __name__ == "__main__":
    main()
