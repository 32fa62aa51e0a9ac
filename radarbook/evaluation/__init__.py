"""Evaluation: errors in parameters and millimetres, of rendered images, and similarity."""

from radarbook.evaluation.edges import hole_side
from radarbook.evaluation.metrics import (
    baselines,
    error_by,
    evaluate,
    explained_variance,
    face_errors,
    mean_face,
    predict,
    summarise,
    vertex_distances,
)
from radarbook.evaluation.rendering import evaluate_renderer, rendering_errors, seconds_per_image
from radarbook.evaluation.similarity import cosine_similarity, diagonal_contrast, retrieval_rate
from radarbook.evaluation.surfaces import Comparison, Distances, Surface, compare

__all__ = [
    "Comparison",
    "Distances",
    "Surface",
    "baselines",
    "compare",
    "cosine_similarity",
    "diagonal_contrast",
    "error_by",
    "evaluate",
    "evaluate_renderer",
    "explained_variance",
    "face_errors",
    "hole_side",
    "mean_face",
    "predict",
    "rendering_errors",
    "retrieval_rate",
    "seconds_per_image",
    "summarise",
    "vertex_distances",
]
