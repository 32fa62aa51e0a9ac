"""Training of the three networks: encoder, learned renderer, autoencoder.

Two recipes. ``paper``: Adam, the paper's rates, the dynamic range sampled for each image. ``fast``:
AdamW on one cycle of the learning rate; images mirrored, turned and shifted together with their
labels; errors counted in vertex distances as well; the autoencoder also reads faces that were
no dataset holds, rendered by the learned renderer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import DEFAULT_RENDERING, FaceParameters
from radarbook.files import disk_errors
from radarbook.locks import hold
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.profiles import Profile
from radarbook.radar.image import RadarImage
from radarbook.training.augmentation import (
    random_depth_shift,
    random_dynamic_range,
    random_lateral_shift,
    random_mirror,
    random_move,
    with_dynamic_range,
)
from radarbook.training.checkpoints import fingerprint, save_weights
from radarbook.training.data import (
    ResidentSamples,
    Samples,
    describe,
    model_of,
    require_model_of,
    resident,
)
from radarbook.training.facts import ModelFacts
from radarbook.training.loop import History, Settings, Stops, make_fabric, run
from radarbook.training.losses import image_loss, parameter_loss

WEIGHTS = "weights.safetensors"
#: The paper evaluates at this dynamic range.
EVALUATION_DB = DEFAULT_RENDERING[0]
#: Largest shift of the fast recipe, metres: highlights turn by less than 2° over a centimetre.
SHIFT = 0.01
#: Side of the centred square that holds a face, metres (its mask at −30 dB is some 20 cm high).
WINDOW = 0.225
#: Largest turn about the array's axis, radians.
TURN = math.radians(6.0)


class EncoderTask:
    """Parameter loss on images of random dynamic range (the paper's supervised encoder).

    With what the face model says (``facts``, fast recipe alone) images are also mirrored and
    turned, and ``vertex_weight`` times the squared vertex distance is added to the loss.
    """

    def __init__(
        self,
        samples: ResidentSamples,
        validation: ResidentSamples,
        recipe: str,
        name: str,
        *,
        facts: ModelFacts | None = None,
        vertex_weight: float = 0.0,
    ) -> None:
        self.name, self.recipe, self.data = name, recipe, samples
        self.samples = len(samples)
        self.held_out = _chunks(validation, EVALUATION_DB)
        self.facts = facts if recipe == "fast" else None
        self.vertex_weight = vertex_weight if self.facts is not None else 0.0

    def sample(
        self, indices: Tensor, generator: torch.Generator
    ) -> tuple[FaceParameters, RadarImage]:
        """A training batch: augmented by the recipe, clipped at a random dynamic range."""
        parameters, image = self.data.batch(indices)
        if self.recipe == "fast":
            parameters, image = augmented(parameters, image, generator, self.facts)
        return random_dynamic_range(parameters, image, generator)

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L2 of the normalised parameters, and of the vertices."""
        parameters, image = self.sample(indices, generator)
        # Channels and not the image: Fabric converts what it hands on, and knows tensors only.
        return self.error(model(plain(model).channels(image)), parameters)

    def error(self, vector: Tensor, parameters: FaceParameters) -> dict[str, Tensor]:
        """The losses of normalised parameters (B, P) against the true ones."""
        of_parameters = parameter_loss(vector, parameters.normalised())
        if self.facts is None or not self.vertex_weight:
            return {"loss": of_parameters}
        truth = torch.cat([parameters.shape, parameters.expression], dim=1)
        of_vertices = self.facts.vertex_loss(vector[:, : truth.shape[1]], truth)
        return {
            "loss": of_parameters + self.vertex_weight * of_vertices,
            "parameters": of_parameters,
            "vertices": of_vertices,
        }

    def validate(self, model: nn.Module) -> float:
        """L2 of shape and expression at the evaluation's dynamic range."""
        errors = [
            coefficient_error(model(image), parameters) for parameters, image in self.held_out
        ]
        return float(torch.cat(errors).mean())


def augmented(
    parameters: FaceParameters,
    image: RadarImage,
    generator: torch.Generator,
    facts: ModelFacts | None,
) -> tuple[FaceParameters, RadarImage]:
    """The fast recipe's augmentation: depth, mirror, turn and shift, as far as is known of the
    face model."""
    parameters, image = random_depth_shift(parameters, image, generator, SHIFT)
    if facts is None:
        return random_lateral_shift(parameters, image, generator, SHIFT)
    if facts.mirror is not None:
        parameters, image = random_mirror(parameters, image, generator, facts.mirror)
    return random_move(parameters, image, generator, SHIFT, TURN, facts.pivot)


class RendererTask:
    """Image loss of the rendered images against the physical renderer's.

    The fast recipe mirrors those of a symmetric face model. It does not turn or shift them: an
    interpolated image is a smoothed one, and smoothing is an error here.
    """

    def __init__(
        self,
        samples: ResidentSamples,
        validation: ResidentSamples,
        recipe: str,
        name: str,
        *,
        facts: ModelFacts | None = None,
    ) -> None:
        self.name, self.recipe, self.data = name, recipe, samples
        self.facts = facts if recipe == "fast" else None
        self.samples = len(samples)
        self.held_out = _chunks(validation, EVALUATION_DB)

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L2 of the image at a random dynamic range."""
        parameters, image = self.data.batch(indices)
        if self.facts is not None and self.facts.mirror is not None:
            parameters, image = random_mirror(parameters, image, generator, self.facts.mirror)
        parameters, image = random_dynamic_range(parameters, image, generator)
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
    """Image loss plus λ times the encoder's loss, through the frozen renderer.

    With ``imagined`` above 0 (fast recipe) each batch is joined by that share of faces that
    no dataset holds: sampled from the prior, their images by the frozen renderer, clipped like any
    other. The encoder reads them without an image loss.
    """

    def __init__(
        self,
        samples: ResidentSamples,
        validation: ResidentSamples,
        recipe: str,
        name: str,
        *,
        inputs: str,
        weight: float,
        imagined: float = 0.0,
        facts: ModelFacts | None = None,
        vertex_weight: float = 0.0,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__(
            samples, validation, recipe, name, facts=facts, vertex_weight=vertex_weight
        )
        self.autocast = autocast
        self.inputs, self.weight = inputs, weight
        self.imagined = imagined if recipe == "fast" else 0.0

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """L = L_image + λ·L_params; the image loss takes the images the encoder sees."""
        parameters, image = self.sample(indices, generator)
        network = plain(model)
        seen, count = network.channels(image), round(self.imagined * len(image))
        if count:
            faces, rendered = self.imagine(network, count, generator)
            seen = torch.cat([seen, network.channels(rendered)])
        vector, amplitude_db, depth = model(seen, len(image))
        of_image = image_loss(amplitude_db, depth, image, self.inputs)
        known = self.error(vector[: len(image)], parameters)
        parts = {
            "loss": of_image + self.weight * known["loss"],
            "image": of_image,
            "parameters": known.get("parameters", known["loss"]),
        }
        if count:
            parts["imagined"] = self.error(vector[len(image) :], faces)["loss"]
            parts["loss"] = parts["loss"] + self.weight * self.imagined * parts["imagined"]
        return parts

    def imagine(
        self, model: Autoencoder, count: int, generator: torch.Generator
    ) -> tuple[FaceParameters, RadarImage]:
        """Faces from the prior and the frozen renderer's images of them."""
        like = self.data.parameters
        parts = like.shape.shape[1], like.expression.shape[1]
        faces = FaceParameters.random(count, *parts, generator).to(like.shape.device)
        with torch.no_grad(), self.autocast():
            return faces, model.renderer.render(faces)

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
    model: MorphableModel | None = None,
    device: str = "auto",
    **stops: Unpack[Stops],
) -> tuple[Encoder, History]:
    """Train the encoder for ``inputs`` (amplitude, depth, both); resumable.

    ``folder`` receives the checkpoint, ``history.csv`` and, once finished,
    ``weights.safetensors`` of the epoch with the best validation. Started again, training goes
    on from the checkpoint, or returns at once if it was finished; a checkpoint of another
    architecture, dataset or schedule raises :class:`InputError` with the difference named.
    ``stop_after`` (epochs in all) and ``minutes`` stop early and resumably
    (``history.finished`` is then false; :class:`~radarbook.training.loop.Stops`). The encoder
    comes back on the CPU in evaluation mode. With the face ``model`` that the images are of, the
    fast recipe knows more (:class:`~radarbook.training.facts.ModelFacts`).
    """
    fabric = make_fabric(device)
    encoder = _built(seed, f"encoder/{inputs}", lambda: build_encoder(dataset, profile, inputs))
    task = EncoderTask(
        *_both(dataset, validation, fabric),
        profile.recipe,
        f"encoder/{inputs}",
        facts=_facts(model, dataset, fabric),
        vertex_weight=profile.vertex_weight,
    )
    more = {"vertex_weight": task.vertex_weight}
    settings = _settings(profile, "encoder", seed)
    return encoder, _train(encoder, task, settings, folder, dataset, fabric, more, **stops)


def fine_tune_encoder(
    encoder: Encoder,
    dataset: Samples,
    validation: Samples,
    settings: Settings,
    folder: str | os.PathLike[str],
    *,
    model: MorphableModel | None = None,
    vertex_weight: float = 1.0,
    device: str = "auto",
    **stops: Unpack[Stops],
) -> tuple[Encoder, History]:
    """Train a copy of a trained encoder further, on other images of the same size.

    Recipe ``fast``. Folder, resuming and stopping as :func:`train_encoder`; a checkpoint remembers
    the weights that it began from and is refused for others.
    """
    fabric = make_fabric(device)
    task = EncoderTask(
        *_both(dataset, validation, fabric),
        "fast",
        f"fine tuning/{encoder.inputs}",
        facts=_facts(model, dataset, fabric),
        vertex_weight=vertex_weight,
    )
    more = {
        "begun from": {"encoder": fingerprint(encoder.state_dict())},
        "vertex_weight": task.vertex_weight,
    }
    tuned = _copy(encoder)
    return tuned, _train(tuned, task, settings, folder, dataset, fabric, more, **stops)


def train_renderer(
    dataset: Samples,
    validation: Samples,
    profile: Profile,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    model: MorphableModel | None = None,
    device: str = "auto",
    **stops: Unpack[Stops],
) -> tuple[LearnedRenderer, History]:
    """Train the learned renderer; folder, resuming and stopping as :func:`train_encoder`."""
    fabric = make_fabric(device)
    renderer = _built(seed, "renderer", lambda: build_renderer(dataset, profile))
    task = RendererTask(
        *_both(dataset, validation, fabric),
        profile.recipe,
        "renderer",
        facts=_facts(model, dataset, fabric),
    )
    settings = _settings(profile, "renderer", seed)
    return renderer, _train(renderer, task, settings, folder, dataset, fabric, **stops)


def train_autoencoder(
    dataset: Samples,
    validation: Samples,
    profile: Profile,
    encoder: Encoder,
    renderer: LearnedRenderer,
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    model: MorphableModel | None = None,
    device: str = "auto",
    **stops: Unpack[Stops],
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
        imagined=profile.imagined,
        facts=_facts(model, dataset, fabric),
        vertex_weight=profile.vertex_weight,
        autocast=fabric.autocast,
    )
    more = {
        "begun from": {
            "encoder": fingerprint(encoder.state_dict()),
            "renderer": fingerprint(renderer.state_dict()),
        },
        "parameter_weight": task.weight,
        "vertex_weight": task.vertex_weight,
        "imagined": task.imagined,
    }
    settings = _settings(profile, "autoencoder", seed)
    return autoencoder, _train(autoencoder, task, settings, folder, dataset, fabric, more, **stops)


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
        window=_window(image, profile.encoder),
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
        window=_window(image, profile.decoder),
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
    more: Mapping[str, Any] | None = None,
    **stops: Unpack[Stops],
) -> History:
    """Run the loop, and write the weights once it is finished. ``more`` is what a checkpoint must
    agree in, other than recipe, architecture, dataset and face model."""
    identity = {
        "kind": model.kind,
        "recipe": task.recipe,
        "architecture": model.config,
        "dataset": describe(dataset),
        "face model": task.facts.fingerprint if task.facts else None,
        **(more or {}),
    }
    with hold(Path(folder)) if fabric.global_rank == 0 else nullcontext():
        history = run(model, task, settings, folder, identity, fabric=fabric, **stops)
    model.cpu().eval()
    if history.finished and fabric.global_rank == 0:
        about = {
            "task": task.name,
            "dataset": describe(dataset),
            "best": history.best,
            "model_fingerprint": model_of(dataset),
        }
        with disk_errors(folder, "the same command writes the weights when there is space"):
            save_weights(Path(folder) / WEIGHTS, model, about=about)
    fabric.barrier()
    return history


def _both(
    dataset: Samples, validation: Samples, fabric: Any
) -> tuple[ResidentSamples, ResidentSamples]:
    return resident(dataset, fabric.device), resident(validation, fabric.device)


def _facts(model: MorphableModel | None, dataset: Samples, fabric: Any) -> ModelFacts | None:
    """What is known of the face model, on the device; refuses one that the images are not of."""
    if model is None:
        return None
    require_model_of(dataset, model)
    return ModelFacts.of(model).to(fabric.device)


def plain(model: nn.Module) -> Any:
    """The network inside what Fabric (and DDP) wrapped around it."""
    while not isinstance(model, Encoder | Autoencoder):
        model = model.module  # type: ignore[assignment]
    return model


def _window(image: RadarImage, size: str) -> int | None:
    """Side of the part that networks look at, pixels: :data:`WINDOW` metres; all for ``paper``."""
    side = _side(image)
    step = float(image.x[-1] - image.x[0]) / (side - 1)
    return None if size == "paper" else min(side, 8 * round(WINDOW / step / 8))


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


def _side(image: RadarImage) -> int:
    height, width = image.depth.shape[-2:]
    if height != width:
        raise InputError(f"radar images: expected square ones, found {height} x {width}")
    return int(width)
