"""Text on the content of a face model: kind, units, frame, modes, surface, layout."""

from __future__ import annotations

import numpy as np

from radarbook.faces.bfm import VARIANTS, FileFacts, read_with_facts
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.plausible import spread, surface_area

#: Standard deviations that are listed of each part.
LISTED = 5
#: BFM 2019's expression mean moves vertices by up to 16.7 mm.
_EXPRESSION_MEAN = "not zero, up to {:.1f} mm; the neutral face is the sum of both means"


def summary(spec: str) -> tuple[MorphableModel, dict[str, str]]:
    """A model by name or path, read with its default modes, and its rows of ``model info``.

    Raises :class:`~radarbook.errors.InputError` as :func:`~radarbook.faces.load.load_model`.
    """
    facts: FileFacts | None = None
    if spec == "procedural":
        model = load_model(spec)
    else:
        model, facts = read_with_facts(spec)
    held = held_modes(spec)
    mean = model.mean.double().numpy()
    size = np.ptp(mean, axis=0)
    rows = {
        "name": model.name,
        "kind": _kind(model),
        "vertices": str(model.n_vertices),
        "triangles": str(len(model.triangles)),
        "modes held": f"{held[0]} of shape, {held[1]} of expression",
        "units": "millimetres",
        "frame": "+x the subject's left, +y up, +z out of the nose",
        "neutral face": "{:.0f} x {:.0f} x {:.0f} mm (x, y, z)".format(*size),
        "surface": f"{surface_area(mean, model.triangles.numpy()) / 100:.0f} cm²",
    }
    for part, count in zip(("shape", "expression"), held, strict=True):
        if count:
            rows[part] = _deviations(_variances(model, facts, part), model, part)
    moved = float(model.expression_mean.norm(dim=1).max())
    if held[1]:
        rows["expr. mean"] = _EXPRESSION_MEAN.format(moved) if moved > 0.05 else "zero"
    if facts is not None:
        rows["layout"] = _layout(facts)
        apart = facts.reference_distance
        rows["reference"] = "mesh of the landmarks (representer/points): " + (
            f"up to {apart:.1f} mm from the shape mean" if apart > 0.05 else "the shape mean itself"
        )
    rows |= {
        "landmarks": str(len(model.landmarks)),
        "regions": ", ".join(model.regions) or "none (they need landmarks of eyes, nose and mouth)",
        "fingerprint": model.fingerprint,
    }
    return model, rows


def published(n_vertices: int, n_triangles: int) -> str:
    """The published Basel Face Model of this size, or that there is none."""
    known = VARIANTS.get(n_vertices)
    if known is None:
        return "no published Basel Face Model has so many vertices"
    name, triangles = known
    if n_triangles != triangles:
        return f"as many vertices as {name}, but that has {triangles} triangles"
    return name


def _kind(model: MorphableModel) -> str:
    default = load_model("procedural")
    if model.n_vertices == default.n_vertices and model.fingerprint == default.fingerprint:
        return "the procedural face, as built by this library's code"
    return published(model.n_vertices, len(model.triangles))


def _variances(model: MorphableModel, facts: FileFacts | None, part: str) -> np.ndarray:
    if facts is not None:
        return facts.shape_variance if part == "shape" else facts.expression_variance
    modes = model.shape_modes if part == "shape" else model.expression_modes
    return modes.double().square().sum(dim=(1, 2)).numpy()


def _deviations(variance: np.ndarray, model: MorphableModel, part: str) -> str:
    each = spread(variance, model.n_vertices)
    first = ", ".join(f"{value:.2f}" for value in each[:LISTED])
    more = ", …" if len(each) > LISTED else ""
    read = model.n_shape if part == "shape" else model.n_expression
    total = float((each**2).sum())
    share = float((each[:read] ** 2).sum()) / total if total else 1.0
    return (
        f"standard deviations {first}{more} mm per vertex (root mean square), all "
        f"{len(each)}: {total**0.5:.2f} mm; the first {read} hold {share:.0%} of the variance"
    )


def _layout(facts: FileFacts) -> str:
    version = f"version {facts.version}" if facts.version else "no version stated"
    if facts.scaled:
        return f"{version}; basis columns times their standard deviations, normalised"
    return f"{version}; basis columns of length 1"
