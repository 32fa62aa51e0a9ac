"""The model-based autoencoder: an encoder whose parameters a frozen renderer renders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.radar.image import RadarImage


class Autoencoder(nn.Module):
    """Image to parameters to image. The renderer is frozen: no gradient, always in evaluation mode.

    Raises :class:`InputError` if the two disagree in numbers of coefficients, image size or
    distance.
    """

    kind = "autoencoder"

    def __init__(self, encoder: Encoder, renderer: LearnedRenderer) -> None:
        super().__init__()
        for name in ("n_shape", "n_expression", "pixels", "distance"):
            ours, theirs = getattr(encoder, name), getattr(renderer, name)
            if ours != theirs:
                raise InputError(
                    f"autoencoder: {name} is {ours} in the encoder, {theirs} in the renderer"
                )
        self.encoder, self.renderer = encoder, renderer
        self.renderer.requires_grad_(False)
        self.config: dict[str, Any] = {"encoder": encoder.config, "renderer": renderer.config}
        self.train(self.training)

    @property
    def inputs(self) -> str:
        """Which images the encoder sees."""
        return self.encoder.inputs

    def train(self, mode: bool = True) -> Autoencoder:
        """Training mode for the encoder alone."""
        super().train(mode)
        self.renderer.eval()
        return self

    def channels(self, image: RadarImage) -> Tensor:
        """What the encoder sees of an image (:meth:`Encoder.channels`)."""
        return self.encoder.channels(image)

    def forward(
        self, image: RadarImage | Tensor, rendered: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised parameters (B, S + E + 9), unclipped amplitude (dB) and depth (m), each
        (B, H, W), or of the first ``rendered`` images alone. ``image`` is a batch of radar images
        or their :meth:`channels`. Differentiable with respect to it and to the encoder's weights.
        """
        vector = self.encoder(image)
        amplitude_db, depth = self.renderer(vector[:rendered])
        return vector, amplitude_db, depth

    def predict(self, image: RadarImage) -> FaceParameters:
        """Face parameters of a batch of images (:meth:`Encoder.predict`)."""
        return self.encoder.predict(image)

    def reconstruct(self, image: RadarImage) -> RadarImage:
        """The image rendered from the predicted parameters, at its own dynamic range
        (which is known of any image and need not be guessed)."""
        found = self.predict(image)
        rendering = found.rendering.clone()
        rendering[:, 0] = image.dynamic_range_db.to(rendering)
        return self.renderer.render(found.replace(rendering=rendering))
