"""Training of the three networks: encoder, learned renderer, autoencoder.

Two recipes. ``paper``: Adam, the paper's rates, the dynamic range drawn for each image. ``fast``:
AdamW on one cycle of the learning rate, images shifted together with their translation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radarbook.errors import InputError
from radarbook.faces.parameters import DEFAULT_RENDERING, FaceParameters
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.profiles import Profile
from radarbook.radar.image import RadarImage
from radarbook.training.augmentation import (
    random_depth_shift,
    random_dynamic_range,
    random_lateral_shift,
    with_dynamic_range,
)
from radarbook.training.checkpoints import save_weights
from radarbook.training.data import ResidentSamples, Samples, describe, resident
from radarbook.training.loop import History, Settings, make_fabric, run
from radarbook.training.losses import image_loss, parameter_loss

WEIGHTS = "weights.safetensors"
#: The paper evaluates at this dynamic range.
EVALUATION_DB = DEFAULT_RENDERING[0]
#: Largest shift of the fast recipe, metres: highlights turn by less than 2° over a centimetre.
SHIFT = 0.01


class EncoderTask:
    """Parameter loss on images of random dynamic range (the paper's supervised encoder)."""

    def __init__(
        self, samples: ResidentSamples, validation: ResidentSamples, recipe: str, name: str
    ) -> None:
        self.name, self.recipe, self.data = name, recipe, samples
        self.samples = len(samples)
        self.held_out = _chunks(validation, EVALUATION_DB)

    def draw(
        self, indices: Tensor, generator: torch.Generator
    ) -> tuple[FaceParameters, RadarImage]:
        """A training batch: augmented by the recipe, clipped at a random dynamic range."""
        parameters, image = self.data.batch(indices)
        if self.recipe == "fast":
            parameters, image = random_lateral_shift(parameters, image, generator, SHIFT)
            parameters, image = random_depth_shift(parameters, image, generator, SHIFT)
        return random_dynamic_range(parameters, image, generator)

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L2 of the normalised parameters."""
        parameters, image = self.draw(indices, generator)
        return {"loss": parameter_loss(model(image), parameters.normalised())}

    def validate(self, model: nn.Module) -> float:
        """L2 of shape and expression at the evaluation's dynamic range."""
        errors = [
            coefficient_error(model(image), parameters) for parameters, image in self.held_out
        ]
        return float(torch.cat(errors).mean())


class RendererTask:
    """Image loss of the drawing against the physical renderer's images."""

    def __init__(
        self, samples: ResidentSamples, validation: ResidentSamples, recipe: str, name: str
    ) -> None:
        self.name, self.recipe, self.data = name, recipe, samples
        self.samples = len(samples)
        self.held_out = _chunks(validation, EVALUATION_DB)

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L2 of the image at a random dynamic range."""
        parameters, image = random_dynamic_range(*self.data.batch(indices), generator)
        amplitude_db, depth = model(parameters.normalised())
        return {"loss": image_loss(amplitude_db, depth, image)}

    def validate(self, model: nn.Module) -> float:
        """The image loss at the evaluation's dynamic range."""
        errors = []
        for parameters, image in self.held_out:
            amplitude_db, depth = model(parameters.normalised())
            errors.append(float(image_loss(amplitude_db, depth, image)) * len(image))
        return sum(errors) / sum(len(image) for _, image in self.held_out)


class AutoencoderTask(EncoderTask):
    """Image loss plus λ times the parameter loss, through the frozen renderer."""

    def __init__(
        self,
        samples: ResidentSamples,
        validation: ResidentSamples,
        recipe: str,
        name: str,
        *,
        inputs: str,
        weight: float,
    ) -> None:
        super().__init__(samples, validation, recipe, name)
        self.inputs, self.weight = inputs, weight

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L = L_image + λ·L_params; the image loss takes the images the encoder sees."""
        parameters, image = self.draw(indices, generator)
        vector, amplitude_db, depth = model(image)
        of_image = image_loss(amplitude_db, depth, image, self.inputs)
        of_parameters = parameter_loss(vector, parameters.normalised())
        return {
            "loss": of_image + self.weight * of_parameters,
            "image": of_image,
            "parameters": of_parameters,
        }

    def validate(self, model: nn.Module) -> float:
        """L2 of shape and expression at the evaluation's dynamic range."""
        if not isinstance(model, Autoencoder):
            raise TypeError(f"expected an autoencoder, found {type(model).__name__}")
        return super().validate(model.encoder)


def train_encoder(
    dataset: Samples,
    validation: Samples,
    profile: Profile,
    inputs: str,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    device: str = "auto",
    stop_after: int | None = None,
    minutes: float | None = None,
    checkpoint_seconds: float = 30.0,
) -> tuple[Encoder, History]:
    """Train the encoder for ``inputs`` (amplitude, depth, both); resumable.

    ``folder`` receives the checkpoint, ``history.csv`` and, once finished,
    ``weights.safetensors`` of the epoch with the best validation. Started again, training goes
    on from the checkpoint, or returns at once if it was finished; a checkpoint of another
    architecture, dataset or schedule raises :class:`InputError` with the difference named.
    ``stop_after`` (epochs in all) and ``minutes`` stop early and resumably
    (``history.finished`` is then false). The encoder comes back on the CPU in evaluation mode.
    """
    fabric = make_fabric(device)
    encoder = _built(seed, f"encoder/{inputs}", lambda: build_encoder(dataset, profile, inputs))
    task = EncoderTask(*_both(dataset, validation, fabric), profile.recipe, f"encoder/{inputs}")
    settings = _settings(profile, "encoder", seed)
    history = _train(
        encoder, task, settings, folder, dataset, fabric, stop_after, minutes, checkpoint_seconds
    )
    return encoder, history


def train_renderer(
    dataset: Samples,
    validation: Samples,
    profile: Profile,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    device: str = "auto",
    stop_after: int | None = None,
    minutes: float | None = None,
    checkpoint_seconds: float = 30.0,
) -> tuple[LearnedRenderer, History]:
    """Train the learned renderer; folder, resuming and stopping as :func:`train_encoder`."""
    fabric = make_fabric(device)
    renderer = _built(seed, "renderer", lambda: build_renderer(dataset, profile))
    task = RendererTask(*_both(dataset, validation, fabric), profile.recipe, "renderer")
    settings = _settings(profile, "renderer", seed)
    history = _train(
        renderer, task, settings, folder, dataset, fabric, stop_after, minutes, checkpoint_seconds
    )
    return renderer, history


def train_autoencoder(
    dataset: Samples,
    validation: Samples,
    profile: Profile,
    encoder: Encoder,
    renderer: LearnedRenderer,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    device: str = "auto",
    stop_after: int | None = None,
    minutes: float | None = None,
    checkpoint_seconds: float = 30.0,
) -> tuple[Autoencoder, History]:
    """Fine-tune a trained encoder through a frozen learned renderer (both are copied).

    Folder, resuming and stopping as :func:`train_encoder`. A checkpoint remembers the weights of
    the two networks it began from and is refused for others.
    """
    fabric = make_fabric(device)
    autoencoder = Autoencoder(_copy(encoder), _copy(renderer))
    task = AutoencoderTask(
        *_both(dataset, validation, fabric),
        profile.recipe,
        f"autoencoder/{encoder.inputs}",
        inputs=encoder.inputs,
        weight=profile.parameter_weight,
    )
    settings = _settings(profile, "autoencoder", seed)
    begun = {"begun from": {"encoder": _digest(encoder), "renderer": _digest(renderer)}}
    history = _train(
        autoencoder,
        task,
        settings,
        folder,
        dataset,
        fabric,
        stop_after,
        minutes,
        checkpoint_seconds,
        begun | {"parameter_weight": profile.parameter_weight},
    )
    return autoencoder, history


def build_encoder(dataset: Samples, profile: Profile, inputs: str) -> Encoder:
    """An untrained encoder for a dataset's images, of the profile's size."""
    parameters, image = dataset.batch(torch.tensor([0]))
    return Encoder(
        inputs,
        profile.encoder,
        parameters.shape.shape[1],
        parameters.expression.shape[1],
        pixels=_side(image),
        distance=profile.distance,
    )


def build_renderer(dataset: Samples, profile: Profile) -> LearnedRenderer:
    """An untrained learned renderer for a dataset's images, of the profile's size."""
    parameters, image = dataset.batch(torch.tensor([0]))
    side = _side(image)
    return LearnedRenderer(
        profile.decoder,
        parameters.shape.shape[1],
        parameters.expression.shape[1],
        pixels=side,
        extent=float(image.x[-1] - image.x[0]) * side / (side - 1),
        distance=profile.distance,
    )


def coefficient_error(vector: Tensor, parameters: FaceParameters) -> Tensor:
    """(B,) mean squared error of shape and expression of normalised parameters (B, P)."""
    truth = torch.cat([parameters.shape, parameters.expression], dim=1)
    return (vector[:, : truth.shape[1]] - truth).square().mean(dim=1)


# -- the parts they share -----------------------------------------------------------------------


def _settings(profile: Profile, kind: str, seed: int) -> Settings:
    epochs = getattr(profile, f"{kind}_epochs")
    batch, rate = getattr(profile, f"{kind}_batch"), getattr(profile, f"{kind}_rate")
    if profile.recipe == "paper":
        schedule = "linear" if kind == "encoder" else "constant"
        return Settings(epochs, batch, rate, schedule, "adam", 0.0, None, None, seed)  # type: ignore[arg-type]
    return Settings(epochs, batch, rate, patience=max(10, epochs // 2), seed=seed)


def _train(
    model: Any,
    task: EncoderTask | RendererTask,
    settings: Settings,
    folder: str | os.PathLike[str],
    dataset: Samples,
    fabric: Any,
    stop_after: int | None,
    minutes: float | None,
    checkpoint_seconds: float,
    more: Mapping[str, Any] | None = None,
) -> History:
    identity = {
        "kind": model.kind,
        "recipe": task.recipe,
        "architecture": model.config,
        "dataset": describe(dataset),
        **(more or {}),
    }
    history = run(
        model,
        task,
        settings,
        folder,
        identity,
        fabric=fabric,
        stop_after=stop_after,
        minutes=minutes,
        checkpoint_seconds=checkpoint_seconds,
    )
    model.cpu().eval()
    if history.finished and fabric.global_rank == 0:
        about = {"task": task.name, "dataset": describe(dataset), "best": history.best}
        save_weights(Path(folder) / WEIGHTS, model, about=about)
    fabric.barrier()
    return history


def _both(
    dataset: Samples, validation: Samples, fabric: Any
) -> tuple[ResidentSamples, ResidentSamples]:
    return resident(dataset, fabric.device), resident(validation, fabric.device)


def _chunks(
    samples: ResidentSamples, dynamic_range_db: float, chunk: int = 256
) -> list[tuple[FaceParameters, RadarImage]]:
    """All samples clipped at one dynamic range, in chunks."""
    return [
        with_dynamic_range(*samples.batch(indices), dynamic_range_db)
        for indices in torch.arange(len(samples)).split(chunk)
    ]


def _built(seed: int, name: str, build: Any) -> Any:
    """What ``build`` gives when the global generator is the named stream of the weights."""
    from radarbook.seeds import stream_key

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_key(seed, f"{name}/weights"))
        return build()


def _copy(network: Any) -> Any:
    copy = type(network)(**network.config)
    copy.load_state_dict(network.state_dict())
    return copy


def _digest(network: nn.Module) -> str:
    """Fingerprint of a network's weights."""
    import hashlib

    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def _side(image: RadarImage) -> int:
    height, width = image.depth.shape[-2:]
    if height != width:
        raise InputError(f"radar images: expected square ones, found {height} x {width}")
    return int(width)
