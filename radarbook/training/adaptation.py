"""Networks meet images of another instrument or of other scenes, whose faces are not known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radarbook.errors import InputError
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.radar.image import RadarImage
from radarbook.training.checkpoints import fingerprint
from radarbook.training.data import ResidentSamples, describe
from radarbook.training.facts import ModelFacts
from radarbook.training.loop import History, Settings, Stops, make_fabric, run
from radarbook.training.losses import image_loss
from radarbook.training.tasks import EVALUATION_DB, EncoderTask

#: Temperature of the contrast between people: cosines of shapes are divided by it.
TEMPERATURE = 0.2
#: Quantiles that amplitudes are matched at.
_LEVELS = 101


@dataclass(frozen=True, eq=False)
class AmplitudeMatch:
    """A rising map of amplitudes that gives images the amplitude statistics of others.

    Attributes
    ----------
    found, wanted : Tensor (Q,)
        Quantiles of the amplitudes in the masks of the images that are mapped, and of those that
        they are to look like, dB.
    """

    found: Tensor
    wanted: Tensor

    @classmethod
    def of(cls, found: RadarImage, wanted: RadarImage) -> AmplitudeMatch:
        """From two sets of images, both clipped at one dynamic range. No truth is asked for.

        Raises :class:`~radarbook.errors.InputError` if one of them has no pixel above it.
        """
        levels = np.linspace(0, 1, _LEVELS)
        both = []
        for images in (found, wanted):
            if not bool(images.mask.any()):
                raise InputError("amplitudes: expected pixels above the dynamic range, found none")
            values = np.quantile(images.amplitude_db[images.mask].double().numpy(), levels)
            both.append(torch.from_numpy(values))
        return cls(*both)

    def __call__(self, image: RadarImage) -> RadarImage:
        """Mapped images; what is below the dynamic range stays there.

        Examples
        --------
        >>> import radarbook as rb
        >>> from radarbook.pipeline import Pipeline
        >>> face = rb.FaceParameters.neutral(1, n_shape=10, n_expression=7)
        >>> image = Pipeline("smoke").physical.render(face)
        >>> same = AmplitudeMatch.of(image, image)(image)
        >>> bool(torch.allclose(same.amplitude_db, image.amplitude_db, atol=0.01))
        True
        """
        values = image.amplitude_db.double().numpy()
        mapped = np.interp(values, self.found.numpy(), self.wanted.numpy())
        amplitude = torch.from_numpy(mapped).to(image.amplitude_db)
        level = image.dynamic_range_db[:, None, None]
        amplitude = torch.where(image.mask, torch.maximum(amplitude, level), level)
        return replace(image, amplitude_db=amplitude)


class AdaptationTask:
    """Labelled images as before, and images of unknown faces with two losses that need no label.

    The image loss compares each unknown image with the learned renderer's image of the predicted
    face; the renderer is frozen. The contrast is that of takes: the predicted shapes of two images
    of one person are to be more alike than those of two people, by the cross-entropy of cosines
    (supervised contrastive loss, Khosla et al. 2020). Which images are of one person is known, who
    it is and what the face looks like is not.

    Parameters
    ----------
    source : EncoderTask
        Of the labelled images; its loss has the weight 1.
    unknown : RadarImage (B, H, W)
    person : Tensor (B,), int64
    renderer : LearnedRenderer
    image_weight, contrast_weight : float
    """

    def __init__(
        self,
        source: EncoderTask,
        unknown: RadarImage,
        person: Tensor,
        renderer: LearnedRenderer,
        *,
        image_weight: float,
        contrast_weight: float,
    ) -> None:
        if len(unknown) != len(person):
            raise InputError(
                f"adaptation: {len(unknown)} images but {len(person)} people's numbers"
            )
        self.name, self.samples = "adaptation", len(unknown)
        self.source, self.unknown, self.person, self.renderer = source, unknown, person, renderer
        self.weights = image_weight, contrast_weight
        renderer.eval().requires_grad_(False)

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The three losses, and their sum by the weights."""
        some = torch.randint(self.source.samples, (len(indices),), generator=generator)
        parameters, image = self.source.sample(some, generator)
        unknown, person = self.unknown[indices], self.person[indices]
        encoder: Any = getattr(model, "module", model)
        seen = torch.cat([encoder.channels(image), encoder.channels(unknown)])
        vector = model(seen)
        known = self.source.error(vector[: len(indices)], parameters)["loss"]
        parts = self._unlabelled(vector[len(indices) :], unknown, person, encoder.n_shape)
        total = known + self.weights[0] * parts["image"] + self.weights[1] * parts["contrast"]
        return {"loss": total, "known": known, **parts}

    def _unlabelled(
        self, vector: Tensor, unknown: RadarImage, person: Tensor, n_shape: int
    ) -> dict[str, Tensor]:
        zero = vector.new_zeros(())
        of_image = zero
        if self.weights[0]:
            amplitude_db, depth = self.renderer(vector)
            of_image = image_loss(amplitude_db, depth, unknown)
        apart = contrast(vector[:, :n_shape], person) if self.weights[1] else zero
        return {"image": of_image, "contrast": apart}

    def validate(self, model: nn.Module) -> float:
        """The labelled validation error, and the other losses of all unknown images."""
        encoder: Any = getattr(model, "module", model)
        vector = encoder(self.unknown)
        parts = self._unlabelled(vector, self.unknown, self.person, encoder.n_shape)
        unlabelled = self.weights[0] * parts["image"] + self.weights[1] * parts["contrast"]
        return self.source.validate(model) + float(unlabelled)


def contrast(shape: Tensor, person: Tensor) -> Tensor:
    """Supervised contrastive loss of shapes (B, K) by ``person`` (B,): a scalar, differentiable.

    Shapes are centred by their mean first. Images whose person has no other image do not count.

    Examples
    --------
    >>> alike = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    >>> right, wrong = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    >>> bool(contrast(alike, right) < contrast(alike, wrong))
    True
    """
    unit = F.normalize(shape - shape.mean(0), dim=1)
    own = torch.eye(len(shape), dtype=torch.bool, device=shape.device)
    logits = (unit @ unit.T / TEMPERATURE).masked_fill(own, -1e4)
    same = (person[:, None] == person) & ~own
    some = same.any(dim=1)
    if not bool(some.any()):
        return shape.sum() * 0
    log_share = logits.log_softmax(dim=1)
    of_each = (log_share * same).sum(1) / same.sum(1).clamp(min=1)
    return -of_each[some].mean()


def adapt_encoder(
    encoder: Encoder,
    renderer: LearnedRenderer,
    source: ResidentSamples,
    validation: ResidentSamples,
    unknown: RadarImage,
    person: Tensor,
    settings: Settings,
    folder: str | os.PathLike[str],
    *,
    facts: ModelFacts,
    image_weight: float = 1.0,
    contrast_weight: float = 0.1,
    **stops: Unpack[Stops],
) -> tuple[Encoder, History]:
    """A copy of an encoder, trained on labelled images and on those of unknown faces.

    ``folder`` receives the checkpoint; a run that was stopped goes on. Images of unknown faces are
    clipped at the dynamic range of the evaluation. See :class:`AdaptationTask` for the others.
    """
    fabric = make_fabric("cpu")
    adapted = Encoder(**encoder.config)
    adapted.load_state_dict(encoder.state_dict())
    labelled = EncoderTask(source, validation, "fast", "adaptation", facts=facts, vertex_weight=1.0)
    task = AdaptationTask(
        labelled,
        unknown.with_dynamic_range(EVALUATION_DB),
        person,
        renderer,
        image_weight=image_weight,
        contrast_weight=contrast_weight,
    )
    identity: Mapping[str, Any] = {
        "begun from": fingerprint(encoder.state_dict()),
        "source": describe(source),
        "unknown": [len(unknown), round(float(unknown.amplitude_db.mean()), 6)],
        "weights": list(task.weights),
    }
    history = run(adapted, task, settings, Path(folder), identity, fabric=fabric, **stops)
    return adapted.eval(), history
