"""The encoder: a radar image in, normalised face, pose and rendering parameters out."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radarbook.errors import InputError
from radarbook.faces.parameters import COEFFICIENT_BOUND, FaceParameters
from radarbook.networks.channels import channel_names, check_inputs, image_channels
from radarbook.radar.image import RadarImage

Size = Literal["small", "medium", "resnet18", "paper"]

#: Pose and rendering parameters lie in [-1, 1]; a tanh reaches its bound only at infinity, so it
#: is scaled a little beyond.
POSE_BOUND = 1.25
#: Widths, blocks and dropout of :class:`ResidualNetwork` by size.
LAYOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], float]] = {
    "small": ((32, 64, 112, 160), (1, 1, 1, 1), 0.0),
    "medium": ((32, 64, 112, 160), (1, 1, 1, 1), 0.1),
}
#: AlexNet's three poolings leave nothing of an image smaller than this.
ALEXNET_PIXELS = 64


def check_size(size: str) -> None:
    """Raise :class:`InputError` unless ``size`` is small, medium, resnet18 or paper."""
    if size not in get_args(Size):
        raise InputError(f"network size: expected small, medium, resnet18 or paper, found '{size}'")


class Encoder(nn.Module):
    """Radar images to normalised parameters (B, n_shape + n_expression + 9).

    The order is :meth:`FaceParameters.normalised`'s. Shape and expression pass a tanh scaled to
    ±3 standard deviations, pose and rendering parameters one scaled to ±1.25 of their range.

    Parameters
    ----------
    inputs : {"amplitude", "depth", "both"}
        Which images it sees.
    size : {"small", "medium", "resnet18", "paper"}
        ``paper``: a ResNet-50 for the shape, another for the expression, an AlexNet for pose and
        rendering parameters, on the bare amplitude and/or depth image. ``resnet18``: one
        ResNet-18 for all, on :func:`~radarbook.networks.channels.image_channels`. ``medium`` and
        ``small``: short residual networks on the same channels, made for a processor.
    n_shape, n_expression : int
        Numbers of coefficients.
    pixels : int
        Side of the images; others are refused.
    distance : float
        The scene's distance in metres, from which depths are counted.
    window : int or None
        Side of the middle part of the centred image that is looked at, pixels (None: all of it;
        ``paper`` always sees all).
    """

    kind = "encoder"

    def __init__(
        self,
        inputs: str = "both",
        size: str = "small",
        n_shape: int = 10,
        n_expression: int = 7,
        pixels: int = 64,
        distance: float = 0.30,
        window: int | None = None,
    ) -> None:
        super().__init__()
        check_inputs(inputs)
        check_size(size)
        self.config: dict[str, Any] = {
            "inputs": inputs,
            "size": size,
            "n_shape": n_shape,
            "n_expression": n_expression,
            "pixels": pixels,
            "distance": distance,
            "window": window,
        }
        self.inputs, self.size, self.pixels, self.distance = inputs, size, pixels, distance
        self.window = None if size == "paper" else window
        self.n_shape, self.n_expression = n_shape, n_expression
        channels = len(channel_names(inputs, paper=size == "paper"))
        if size == "paper":
            self.shape_network = resnet(50, channels, n_shape)
            # A model without expressions has nothing for it to say.
            self.expression_network = resnet(50, channels, n_expression) if n_expression else None
            self.pose_network: nn.Module = AlexNet(channels, 9)
        else:
            outputs = n_shape + n_expression + 9
            if size == "resnet18":
                self.network: nn.Module = resnet(18, channels, outputs, pool=2)
            else:
                self.network = ResidualNetwork(channels, outputs, *LAYOUTS[size])

    def channels(self, image: RadarImage) -> Tensor:
        """The channels (B, C, H, W) this encoder sees of an image.

        Raises :class:`InputError` for images of another size than the network was made for.
        """
        self._check_side(image.depth, self.pixels)
        return image_channels(
            image,
            self.inputs,
            distance=self.distance,
            paper=self.size == "paper",
            window=self.window,
        )

    @staticmethod
    def _check_side(image: Tensor, side: int) -> None:
        if image.shape[-2:] != (side, side):
            height, width = image.shape[-2:]
            raise InputError(
                f"radar image: the encoder expects {side} x {side} pixels, found {height} x {width}"
            )

    def forward(self, image: RadarImage | Tensor) -> Tensor:
        """Normalised parameters (B, n_shape + n_expression + 9), differentiable.

        ``image`` is a batch of radar images, or their :meth:`channels`. Raises
        :class:`InputError` for images of another size than the network was made for.
        """
        x = image if isinstance(image, Tensor) else self.channels(image)
        self._check_side(x, self.window or self.pixels)
        if self.size == "paper":
            parts = (self.shape_network, self.expression_network, self.pose_network)
            raw = torch.cat([network(x) for network in parts if network is not None], dim=1)
        else:
            raw = self.network(x)
        raw = raw.float() if raw.dtype == torch.bfloat16 else raw  # under mixed precision
        k = self.n_shape + self.n_expression
        return torch.cat(
            [COEFFICIENT_BOUND * raw[:, :k].tanh(), POSE_BOUND * raw[:, k:].tanh()], dim=1
        )

    @torch.no_grad()
    def predict(self, image: RadarImage) -> FaceParameters:
        """Face parameters of a batch of images, inside their physical ranges; no gradient.

        Runs in evaluation mode whatever mode the network is in, and leaves that mode as it was.
        """
        training = self.training
        self.eval()
        try:
            vector = self(image)
        finally:
            self.train(training)
        return FaceParameters.from_normalised(vector, self.n_shape, self.n_expression).clamped()


def resnet(depth: int, channels: int, outputs: int, *, pool: int = 1) -> nn.Module:
    """MONAI's 2-D ResNet-18 or -50 in the layout of the original (7 × 7 stem of stride 2).

    ``pool`` is the side of the grid that the last layer sees: 1 is the original's global
    average; 2 keeps the quarters apart, because where a highlight lies is what is asked for.
    """
    from monai.networks.nets import resnet18, resnet50  # seconds to import, so only when used

    build = {18: resnet18, 50: resnet50}[depth]
    network: Any = build(
        spatial_dims=2,
        n_input_channels=channels,
        num_classes=outputs,
        conv1_t_stride=2,
        bias_downsample=False,
    )
    if pool != 1:
        # Flattened here: MONAI's own view fails on a channels-last grid of more than one pixel.
        network.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(pool), nn.Flatten())
        network.fc = nn.Linear(network.fc.in_features * pool**2, outputs)
    return network


class AlexNet(nn.Module):
    """AlexNet (Krizhevsky 2014's single-column layout) on ``channels``, with ``outputs`` values.

    Images below 64 pixels are enlarged to 64 bilinearly: its stride-4 stem and three poolings
    leave nothing of a smaller one.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5),
            nn.Linear(256 * 36, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Linear(4096, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs)."""
        if min(x.shape[-2:]) < ALEXNET_PIXELS:
            x = F.interpolate(x, size=(ALEXNET_PIXELS,) * 2, mode="bilinear", align_corners=False)
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


class ResidualNetwork(nn.Module):
    """Residual stages, each halving the image, with a few blocks each; then one linear layer.

    ``widths`` are the stages' channels, ``blocks`` the residual blocks in each, ``dropout`` the
    share of features that training leaves out before the last layer.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        dropout: float,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for width, count in zip(widths, blocks, strict=True):
            for number in range(count):
                stages.append(ResidualBlock(channels, width, stride=1 if number else 2))
                channels = width
        self.features = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(3), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(9 * channels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, outputs)."""
        return self.head(self.dropout(self.features(x)))


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions with batch normalisation and a 1 × 1 shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.stride = stride
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H/stride, W/stride)."""
        # The stride is taken here: the gradient of a strided 1 × 1 convolution of few channels,
        # channels last, writes out of bounds in oneDNN 3.12 on processors without AVX-512.
        thinned = x[..., :: self.stride, :: self.stride]
        return F.relu(self.body(x) + self.shortcut(thinned))
