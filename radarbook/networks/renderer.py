"""The learned renderer: parameters in, radar image out, in milliseconds and with gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.networks.channels import DEPTH_UNIT, FACE_MIDDLE
from radarbook.networks.encoder import ResidualBlock, check_size
from radarbook.networks.inverse import InverseResNet50
from radarbook.radar.image import RadarImage

#: The network's amplitudes reach down to here and the dynamic range of the parameters clips what
#: it drew. Lower than any dynamic range of :data:`~radarbook.faces.parameters.RANGES`, so a
#: pixel can lie well below the clip.
FLOOR_DB = -40.0


class LearnedRenderer(nn.Module):
    """Amplitude and depth images of normalised parameters; a :class:`~radarbook.radar.Renderer`.

    What is known of the image is built in rather than learned: the dynamic range clips, depth is
    counted from the face's own distance ``distance + t_z``, and, unless ``size`` is ``paper``,
    the image is rendered in a frame that moves and rolls with the face and is then turned by the
    roll and shifted to ``(t_x, t_y)`` with bilinear interpolation. The network is told the
    dynamic range all the same: it renders the expected image, and the mean of clipped images
    is not the clipped mean.

    Parameters
    ----------
    size : {"small", "medium", "resnet18", "paper"}
        ``paper``: the inverse ResNet-50 (:mod:`radarbook.networks.inverse`), which learns shift
        and roll too. The others: a linear layer and residual blocks that double the image.
    n_shape, n_expression : int
        Numbers of coefficients.
    pixels : int
        Side of the square image.
    extent : float
        Side of the square image, metres.
    distance : float
        Array to the nose tip of an untranslated mean face, metres.
    window : int or None
        Side of the image in the face's own frame, pixels; what lies beyond is as its border
        (None: as large as the image; ``paper`` renders all of it).

    Attributes
    ----------
    x, y : Tensor (pixels,)
        Pixel centres, metres (buffers).
    """

    kind = "renderer"
    x: Tensor
    y: Tensor

    def __init__(
        self,
        size: str = "small",
        n_shape: int = 10,
        n_expression: int = 7,
        pixels: int = 64,
        extent: float = 0.30,
        distance: float = 0.30,
        window: int | None = None,
    ) -> None:
        super().__init__()
        check_size(size)
        self.config: dict[str, Any] = {
            "size": size,
            "n_shape": n_shape,
            "n_expression": n_expression,
            "pixels": pixels,
            "extent": extent,
            "distance": distance,
            "window": window,
        }
        self.window = pixels if window is None or size == "paper" else window
        self.size, self.pixels, self.extent, self.distance = size, pixels, extent, distance
        self.n_shape, self.n_expression = n_shape, n_expression
        step = extent / pixels
        centres = (torch.arange(pixels, dtype=torch.float64) - (pixels - 1) / 2) * step
        self.register_buffer("x", centres.float())
        self.register_buffer("y", centres.float().clone())
        width = n_shape + n_expression + 9
        if size == "paper":
            self.network: nn.Module = InverseResNet50(width, 2, pixels)
        else:
            self.network = UpsamplingNetwork(width, self.window, *LAYOUTS[size])

    def forward(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Unclipped amplitude (dB, above -40) and depth (m), each (B, H, W), of normalised
        parameters (B, n_shape + n_expression + 9). Differentiable."""
        wanted = self.n_shape + self.n_expression + 9
        if vector.ndim != 2 or vector.shape[1] != wanted:
            raise InputError(
                f"normalised parameters: the learned renderer expects (batch, {wanted}), "
                f"found {tuple(vector.shape)}"
            )
        parameters = FaceParameters.from_normalised(vector, self.n_shape, self.n_expression)
        planes = self.network(vector)
        planes = (
            planes.float() if planes.dtype == torch.bfloat16 else planes
        )  # under mixed precision
        if self.size != "paper":
            planes = self._moved(planes, parameters)
        amplitude_db = FLOOR_DB * torch.sigmoid(-planes[:, 0])
        nearest = self.distance + parameters.translation[:, 2]
        depth = nearest[:, None, None] + FACE_MIDDLE + DEPTH_UNIT * planes[:, 1]
        return amplitude_db, depth

    def _moved(self, planes: Tensor, parameters: FaceParameters) -> Tensor:
        """The planes (B, 2, window, window) of an upright, centred face where the face is."""
        # affine_grid's coordinates run from -1 to 1 over an image's extent (pixel edges), and
        # ask where each output pixel is found in the input. A positive roll tilts the head
        # towards radar +x: the picture turns clockwise, so its pixels are looked up the other way.
        offset = -parameters.translation[:, :2] / (self.extent / 2)
        cos, sin = parameters.rotation[:, 2].cos(), parameters.rotation[:, 2].sin()
        turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        theta = torch.cat([turn, turn @ offset[:, :, None]], dim=2).to(planes.dtype)
        theta = theta * (self.pixels / self.window)
        size = [len(planes), 2, self.pixels, self.pixels]
        grid = F.affine_grid(theta, size, align_corners=False)
        return F.grid_sample(planes, grid, padding_mode="border", align_corners=False)

    def render(self, parameters: FaceParameters) -> RadarImage:
        """Radar images (B, H, W) of B faces, differentiable with respect to every field.

        Each is clipped at its own dynamic range; pixels above it are valid. The network renders
        the expected image, so its maximum may stay below 0 dB.
        """
        amplitude_db, depth = self(parameters.normalised())
        dynamic_range_db = parameters.dynamic_range_db
        level = dynamic_range_db[:, None, None]
        return RadarImage(
            amplitude_db=torch.maximum(amplitude_db, level),
            depth=depth,
            mask=amplitude_db > level,
            x=self.x.to(amplitude_db.dtype),
            y=self.y.to(amplitude_db.dtype),
            dynamic_range_db=dynamic_range_db,
        )


#: Channels of the upsampling stages, coarse to fine, and into how many pixels a side each place of
#: the finest stage is unfolded.
LAYOUTS: dict[str, tuple[tuple[int, ...], int]] = {
    "small": ((96, 64, 48, 32), 1),
    "medium": ((128, 96, 64), 2),
    "resnet18": ((256, 192, 96, 48), 1),
}


class UpsamplingNetwork(nn.Module):
    """A linear layer to a coarse image, then residual stages that double it up to ``pixels``.

    With ``fold`` 2 the stages end at half the size, where convolutions cost a quarter, and each
    place of the last one gives 2 × 2 pixels (a sub-pixel convolution).
    """

    def __init__(self, inputs: int, pixels: int, widths: tuple[int, ...], fold: int = 1) -> None:
        super().__init__()
        self.pixels = pixels
        last = -(-pixels // fold)
        self.sizes = [-(-last // 2**k) for k in reversed(range(len(widths)))]
        self.coarse = nn.Sequential(
            nn.Linear(inputs, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, widths[0] * self.sizes[0] ** 2),
            nn.Unflatten(1, (widths[0], self.sizes[0], self.sizes[0])),
        )
        pairs = zip((widths[0], *widths[:-1]), widths, strict=True)
        self.stages = nn.ModuleList([ResidualBlock(a, b) for a, b in pairs])
        self.head = nn.Sequential(
            nn.Conv2d(widths[-1], 2 * fold**2, 3, padding=1), nn.PixelShuffle(fold)
        )

    def forward(self, vector: Tensor) -> Tensor:
        """(B, inputs) to (B, 2, pixels, pixels)."""
        x = self.coarse(vector)
        for size, stage in zip(self.sizes, self.stages, strict=True):
            if x.shape[-1] != size:
                x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
            x = stage(x)
        return self.head(x)[:, :, : self.pixels, : self.pixels]
