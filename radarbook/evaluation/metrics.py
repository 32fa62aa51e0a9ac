"""Errors of a prediction: in parameters and in millimetres.

The paper's measures, and where it is silent, what is taken here:

* *L2 shape*, *L2 expression*: mean squared error per coefficient (standard deviations).
* *L2 total*: the same over shape, expression and pose (translation, rotation), each pose value
  normalised to [-1, 1] by its range; rendering parameters do not count. A mean face then scores
  (S + E + 6/3) / (S + E + 6), 0.826 for 10 + 7, and a random one twice that. The paper's
  baselines, 0.808 and 1.648, are those if its yaw (±5°) was normalised by the ±10° of pitch and
  roll: (9.91 + 7 + 1.75) / 23 = 0.811.
* *vertex distance*: mean distance of corresponding vertices of the faces without pose, mm.
* *landmark error*: the same over the 68 landmarks, mm.
* *scan to surface*: mean distance of points of the true face to the nearest point of the predicted
  surface, both without pose and not aligned to each other, mm: what an error looks like that
  knows no corresponding vertices. Sliding along the surface costs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from radarbook.faces.compare import scan_to_surface, vertex_areas
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters, parameter_names
from radarbook.radar.renderer import Predictor
from radarbook.seeds import numpy_stream, torch_stream
from radarbook.training.augmentation import with_dynamic_range
from radarbook.training.data import Samples, require_model_of, resident
from radarbook.training.tasks import EVALUATION_DB

#: Faces whose vertices are held at a time: 64 of 50,000 vertices are 40 MB.
CHUNK = 64
#: Points of each true face for the distance to the predicted surface; a face takes some 40 ms.
SCAN_POINTS = 500


def l2_errors(predicted: FaceParameters, truth: FaceParameters) -> dict[str, Tensor]:
    """(B,) each: mean squared error of shape, expression, pose and their total, normalised.

    A model without expressions has no ``l2_expression``.
    """
    squared = (predicted.normalised() - truth.normalised()).square()
    s, e = truth.shape.shape[1], truth.expression.shape[1]
    errors = {
        "l2_shape": squared[:, :s].mean(dim=1),
        "l2_expression": squared[:, s : s + e].mean(dim=1),
        "l2_pose": squared[:, s + e : s + e + 6].mean(dim=1),
        "l2_total": squared[:, : s + e + 6].mean(dim=1),
    }
    return errors if e else {n: v for n, v in errors.items() if n != "l2_expression"}


def vertex_distances(
    model: MorphableModel, predicted: FaceParameters, truth: FaceParameters
) -> Tensor:
    """(B, N) mm: distances of corresponding vertices of the faces without pose.

    Only shape and expression enter, so a wrong pose cannot leak into the figure.

    Examples
    --------
    >>> from radarbook.faces.load import load_model
    >>> model, face = load_model(), FaceParameters.neutral(1)
    >>> other = face.replace(shape=face.shape + 1.0)
    >>> tuple(vertex_distances(model, other, face).shape) == (1, model.n_vertices)
    True
    """
    ours = model.vertices(predicted.shape, predicted.expression)
    return (ours - model.vertices(truth.shape, truth.expression)).norm(dim=2)


def landmark_indices(model: MorphableModel) -> Tensor:
    """Vertices of the 68 landmarks where the model names them, else of all it names."""
    names = [name for name in model.landmarks if name.startswith("multipie68.")]
    return torch.tensor([model.landmarks[n] for n in (names or model.landmarks)], dtype=torch.long)


def scan_distances(
    model: MorphableModel,
    predicted: FaceParameters,
    truth: FaceParameters,
    points: int = SCAN_POINTS,
) -> Tensor:
    """(B,) mm: mean distance of ``points`` vertices of each true face to the predicted surface.

    Every n-th vertex is taken; faces are without pose and are not aligned.
    """
    some = torch.linspace(0, model.n_vertices - 1, min(points, model.n_vertices)).long()
    triangles = model.triangles.numpy()
    found = []
    for first in range(0, len(truth), CHUNK):
        here = slice(first, first + CHUNK)
        ours = model.vertices(predicted.shape[here], predicted.expression[here])
        theirs = model.vertices(truth.shape[here], truth.expression[here])[:, some]
        found += [
            float(scan_to_surface(scan.numpy(), surface.numpy(), triangles).mean())
            for scan, surface in zip(theirs, ours, strict=True)
        ]
    return torch.tensor(found)


def face_errors(
    model: MorphableModel,
    predicted: FaceParameters,
    truth: FaceParameters,
    *,
    scan: bool = False,
) -> dict[str, Tensor]:
    """All measures of each face, (B,) tensors on the CPU.

    ``l2_*`` as :func:`l2_errors`; ``vertex_mm`` (the paper's), ``vertex_area_mm`` (weighted by
    the area a vertex stands for, so that a densely meshed eye does not count more),
    ``landmarks_mm``, and ``region.<name>_mm`` for every region the model knows. With ``scan``
    also ``scan_mm`` (:func:`scan_distances`), which takes longer than all others together.

    Examples
    --------
    >>> import radarbook as rb
    >>> model, face = rb.load_model(), rb.FaceParameters.neutral(1)
    >>> errors = face_errors(model, face.replace(translation=face.translation + 1e-3), face)
    >>> float(errors["vertex_mm"])  # the pose counts apart
    0.0
    """
    predicted, truth = predicted.detach().to("cpu"), truth.detach().to("cpu")
    model = model.to("cpu")
    weights = vertex_areas(model.mean, model.triangles)
    weights = weights / weights.sum()
    landmarks = landmark_indices(model)
    parts: dict[str, list[Tensor]] = {"vertex_mm": [], "vertex_area_mm": []}
    for first in range(0, len(truth), CHUNK):
        here = slice(first, first + CHUNK)
        distances = vertex_distances(model, predicted[here], truth[here])
        parts["vertex_mm"].append(distances.mean(dim=1))
        parts["vertex_area_mm"].append(distances @ weights)
        if len(landmarks):
            parts.setdefault("landmarks_mm", []).append(distances[:, landmarks].mean(dim=1))
        for name, mask in model.regions.items():
            parts.setdefault(f"region.{name}_mm", []).append(distances[:, mask].mean(dim=1))
    errors = l2_errors(predicted, truth) | {name: torch.cat(p) for name, p in parts.items()}
    if scan:
        errors["scan_mm"] = scan_distances(model, predicted, truth)
    return errors


def bootstrap_interval(
    values: Tensor, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` (B,) over the faces.

    Examples
    --------
    >>> low, high = bootstrap_interval(torch.arange(100.0))
    >>> low < 49.5 < high
    True
    """
    data = values.detach().cpu().double().numpy()
    samples = numpy_stream(seed, "evaluation/bootstrap").integers(
        0, len(data), size=(resamples, len(data))
    )
    low, high = np.quantile(data[samples].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summarise(errors: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Any]:
    """JSON-able means of :func:`face_errors`, with median and 95 % interval of the vertex
    distance over the faces, and their number."""
    row: dict[str, Any] = {
        name: float(value.mean()) for name, value in errors.items() if "." not in name
    }
    row["vertex_median_mm"] = float(errors["vertex_mm"].median())
    row["vertex_interval_mm"] = list(bootstrap_interval(errors["vertex_mm"], seed=seed))
    row["regions_mm"] = {
        name.removeprefix("region.").removesuffix("_mm"): float(value.mean())
        for name, value in errors.items()
        if name.startswith("region.")
    }
    row["faces"] = len(errors["vertex_mm"])
    # Face by face, so that two rows can be compared on the same faces.
    row["vertex_faces_mm"] = [round(v, 4) for v in errors["vertex_mm"].tolist()]
    return row


def error_by(values: Tensor, errors: Tensor, *, bins: int = 5) -> tuple[list[float], list[float]]:
    """Mean of ``errors`` (B,) in groups of about equal size by ``values`` (B,).

    Returns the mean value and the mean error of each group, by ascending value.

    Examples
    --------
    >>> error_by(torch.tensor([1.0, 3.0, 2.0, 4.0]), torch.tensor([0.1, 0.3, 0.1, 0.3]), bins=2)[0]
    [1.5, 3.5]
    """
    order = values.argsort()
    groups = [g for g in order.tensor_split(min(bins, len(order))) if len(g)]
    return [float(values[g].mean()) for g in groups], [float(errors[g].mean()) for g in groups]


def explained_variance(predicted: FaceParameters, truth: FaceParameters) -> dict[str, float]:
    """Share of each parameter's variance over the faces that the prediction explains.

    1 - (mean squared error) / (mean square about the truth's mean): 1 perfect, 0 no better than
    the mean of these faces, negative worse. Parameters that do not vary are left out.

    Examples
    --------
    >>> faces = FaceParameters.random(50, 2, 1, torch.Generator().manual_seed(0))
    >>> explained_variance(faces, faces)["shape 1"]
    1.0
    """
    target = truth.normalised().double()
    error = (predicted.normalised().double() - target).square().mean(dim=0)
    spread = target.var(dim=0, correction=0)
    names = parameter_names(truth.shape.shape[1], truth.expression.shape[1])
    return {
        name: float(1 - e / s)
        for name, e, s in zip(names, error, spread, strict=True)
        if float(s) > 1e-9
    }


def predict(
    network: Predictor,
    samples: Samples,
    *,
    dynamic_range_db: float = EVALUATION_DB,
    batch: int = 256,
) -> tuple[FaceParameters, FaceParameters]:
    """Predicted and true parameters of all samples, images clipped at one dynamic range.

    Runs on the network's device; both come back on the CPU.
    """
    weights = (
        next(iter(network.parameters()), None) if isinstance(network, torch.nn.Module) else None
    )
    device = weights.device if weights is not None else torch.device("cpu")
    data = resident(samples)
    found, truth = [], []
    for indices in torch.arange(len(data)).split(batch):
        parameters, image = with_dynamic_range(*data.batch(indices), dynamic_range_db)
        found.append(network.predict(image.to(device)).to("cpu"))
        truth.append(parameters)
    return FaceParameters.cat(found), FaceParameters.cat(truth)


def evaluate(
    network: Predictor,
    samples: Samples,
    model: MorphableModel,
    *,
    dynamic_range_db: float = EVALUATION_DB,
    seed: int = 0,
) -> dict[str, Any]:
    """The summary (:func:`summarise`) of a network's errors on all samples.

    With the vertex distance by rotation (degrees) and translation (mm) of the faces.
    Raises :class:`~radarbook.errors.InputError` if the images are of another face model.
    """
    require_model_of(samples, model)
    predicted, truth = predict(network, samples, dynamic_range_db=dynamic_range_db)
    errors = face_errors(model, predicted, truth, scan=True)
    turned = torch.rad2deg(truth.rotation.norm(dim=1))
    moved = 1e3 * truth.translation.norm(dim=1)
    return summarise(errors, seed=seed) | {
        "vertex_by_turn": error_by(turned, errors["vertex_mm"]),
        "vertex_by_shift": error_by(moved, errors["vertex_mm"]),
    }


# -- baselines ----------------------------------------------------------------------------------


def mean_face(truth: FaceParameters) -> FaceParameters:
    """The mean face, frontal and centred, for each true one: a baseline that needs no image.

    Examples
    --------
    >>> faces = FaceParameters.random(2, 10, 7, torch.Generator().manual_seed(0))
    >>> bool(mean_face(faces).shape.any())
    False
    """
    return FaceParameters.neutral(
        len(truth),
        n_shape=truth.shape.shape[1],
        n_expression=truth.expression.shape[1],
        dtype=truth.shape.dtype,
        device=truth.shape.device,
    )


def random_face(truth: FaceParameters, seed: int = 0) -> FaceParameters:
    """A random face in a random pose for each true one, sampled from the prior."""
    generator = torch_stream(seed, "evaluation/random face")
    s, e = truth.shape.shape[1], truth.expression.shape[1]
    face = FaceParameters.random(len(truth), s, e, generator)
    return face.to(truth.shape.device, truth.shape.dtype)


def baselines(
    samples: Samples, model: MorphableModel, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Summaries of the two baselines on all samples: ``mean`` and ``random``.

    Raises :class:`~radarbook.errors.InputError` if the images are of another face model.
    """
    require_model_of(samples, model)
    data = resident(samples)
    truth = data.parameters
    return {
        name: summarise(face_errors(model, face, truth, scan=True), seed=seed)
        for name, face in (("mean", mean_face(truth)), ("random", random_face(truth, seed)))
    }
