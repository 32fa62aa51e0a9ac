"""What training asks of a dataset, and a copy of one that stays on the device."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from radarbook.datasets.storage import FaceDataset
from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.radar.image import RadarImage


class Samples(Protocol):
    """Faces with their radar images, by index: a :class:`FaceDataset`, or anything alike.

    A ``fingerprint`` attribute, where there is one, says what the dataset is: a checkpoint
    remembers it and is refused for another.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> tuple[FaceParameters, RadarImage]:
        """Parameters and images of the samples ``indices`` (n,), int64."""
        ...


class ResidentSamples:
    """A dataset held as tensors on one device, so that a batch costs an indexing.

    Its images are as wide as its source had them. 10,000 images of 128 × 128 pixels take 1.5 GB.
    """

    def __init__(self, parameters: FaceParameters, image: RadarImage, fingerprint: Any = None):
        if len(parameters) != len(image):
            raise InputError(f"dataset: {len(parameters)} faces but {len(image)} images")
        self.parameters, self.image, self.fingerprint = parameters, image, fingerprint

    def __len__(self) -> int:
        return len(self.parameters)

    def batch(self, indices: Tensor) -> tuple[FaceParameters, RadarImage]:
        """Parameters and images of the samples ``indices`` (n,), int64, on the samples' device."""
        indices = indices.to(self.parameters.shape.device)
        return self.parameters[indices], self.image[indices]


def resident(
    samples: Samples, device: torch.device | str = "cpu", *, chunk: int = 256
) -> ResidentSamples:
    """All of ``samples`` on ``device``, float32, read in chunks. An empty set is an
    :class:`InputError`.

    A :class:`FaceDataset` clips at reading as it was told to; here it is read down to its floor,
    because training and evaluation clip for themselves, each batch again.

    Examples
    --------
    >>> import radarbook as rb
    >>> from radarbook.pipeline import Pipeline
    >>> face = rb.FaceParameters.neutral(2, n_shape=10, n_expression=7)
    >>> samples = ResidentSamples(face, Pipeline("smoke").physical.render(face))
    >>> len(resident(samples))
    2
    """
    if isinstance(samples, ResidentSamples):
        moved = samples.parameters.to(device), samples.image.to(device)
        return ResidentSamples(*moved, samples.fingerprint)
    if isinstance(samples, FaceDataset):
        floor_db = float(samples.settings["floor_db"])
        samples = FaceDataset(samples.folder, samples.split, dynamic_range=floor_db)
    count = len(samples)
    if count == 0:
        raise InputError("dataset: expected at least one sample, found none")
    parts = [
        samples.batch(torch.arange(first, min(first + chunk, count)))
        for first in range(0, count, chunk)
    ]
    images = [image.to(device, torch.float32) for _, image in parts]
    first_image = images[0]
    whole = RadarImage(
        amplitude_db=torch.cat([image.amplitude_db for image in images]),
        depth=torch.cat([image.depth for image in images]),
        mask=torch.cat([image.mask for image in images]),
        x=first_image.x,
        y=first_image.y,
        dynamic_range_db=torch.cat([image.dynamic_range_db for image in images]),
    )
    parameters = FaceParameters.cat([p.to(device, torch.float32) for p, _ in parts])
    return ResidentSamples(parameters, whole, getattr(samples, "fingerprint", None))


def model_of(samples: Samples) -> str | None:
    """Fingerprint of the face model that a dataset's images are of, where it says so."""
    found = getattr(samples, "settings", {}).get("renderer", {}).get("model")
    return None if found is None else str(found)


def require_model_of(samples: Samples, model: MorphableModel) -> None:
    """Raise unless a dataset's images are of this face model, with as many modes.

    Coefficients of one model say nothing of another's faces, however alike their sizes are.
    """
    of = model_of(samples)
    if of is not None and of != model.fingerprint:
        raise InputError(
            f"face model: the images are of the model {of}, found '{model.name}' "
            f"({model.fingerprint}); name the dataset's model with --model"
        )
    parameters, _ = samples.batch(torch.tensor([0]))
    held = parameters.shape.shape[1], parameters.expression.shape[1]
    if held != (model.n_shape, model.n_expression):
        raise InputError(
            f"face model '{model.name}': expected the dataset's {held[0]} + {held[1]} modes, "
            f"found {model.n_shape} + {model.n_expression}"
        )


def describe(samples: Samples) -> dict[str, Any]:
    """What a checkpoint remembers of its dataset: count, image size and fingerprint."""
    parameters, image = samples.batch(torch.tensor([0]))
    return {
        "samples": len(samples),
        "pixels": list(image.depth.shape[-2:]),
        "coefficients": [parameters.shape.shape[1], parameters.expression.shape[1]],
        "fingerprint": getattr(samples, "fingerprint", None),
    }
