"""plotly figures in one look, static pictures of the same, and explorers."""

from radarbook.figures.charts import bars, curves, histogram, similarity_matrix
from radarbook.figures.display import mime_bundle, save_png, show, use
from radarbook.figures.faces import (
    error_map,
    face,
    face_regions,
    faces_row,
    faces_slider,
    mesh_trace,
)
from radarbook.figures.images import (
    FaceOutline,
    array_layout,
    face_outlines,
    image_slider,
    point_spread,
    radar_image,
    radar_images,
    range_profile,
    volume_slices,
    width_at,
)
from radarbook.figures.scene import array_and_face
from radarbook.figures.volumes import array_views, scale_bar, slices_viewer, volume_projections

__all__ = [
    "FaceOutline",
    "array_and_face",
    "array_layout",
    "array_views",
    "bars",
    "curves",
    "error_map",
    "face",
    "face_outlines",
    "face_regions",
    "faces_row",
    "faces_slider",
    "histogram",
    "image_slider",
    "mesh_trace",
    "mime_bundle",
    "point_spread",
    "radar_image",
    "radar_images",
    "range_profile",
    "save_png",
    "scale_bar",
    "show",
    "similarity_matrix",
    "slices_viewer",
    "use",
    "volume_projections",
    "volume_slices",
    "width_at",
]
