"""The inverse ResNet-50: every layer of ResNet-50 transposed, in reverse order.

Where ResNet-50 convolves with stride, its mirror convolves transposed with the same kernel,
stride and padding; where it pools, the mirror enlarges; the fully connected layer that ends it
begins the mirror. Widths, kernels and the number of blocks per stage (3, 4, 6, 3) are the same.
:func:`mirror_table` puts the two side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: (width inside the bottleneck, blocks, stride of the first block) of ResNet-50's stages.
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4
STEM = 64


def _halved(size: int) -> int:
    """Output size of every stride-2 layer of ResNet-50 (its kernels 1, 3, 7 are all padded)."""
    return (size + 1) // 2


class InverseBottleneck(nn.Module):
    """The mirror of one bottleneck: 1 × 1 (4w → w), 3 × 3 transposed, 1 × 1 (w → outputs)."""

    def __init__(self, width: int, outputs: int, stride: int, size_out: int, size_in: int) -> None:
        super().__init__()
        inputs = EXPANSION * width
        # A transposed convolution of stride 2 and padding (k - 1)/2 gives 2·size - 1 pixels, and
        # one more with output padding: what the twin's strided layer began with.
        extra = size_out - (stride * (size_in - 1) + 1)
        self.conv3 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.conv2 = nn.ConvTranspose2d(width, width, 3, stride, 1, extra, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, 1, stride, 0, extra, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4 width, h, h) to (B, outputs, stride·h, stride·h)."""
        y = F.relu(self.bn3(self.conv3(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn1(self.conv1(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class InverseResNet50(nn.Module):
    """(B, inputs) to images (B, channels, pixels, pixels) through ResNet-50's layers reversed."""

    def __init__(self, inputs: int, channels: int, pixels: int) -> None:
        super().__init__()
        # ResNet-50's image sizes: input, behind the stem, behind the pooling, behind each stage.
        self.sizes = [pixels, _halved(pixels), _halved(_halved(pixels))]
        for _, _, stride in STAGES[1:]:
            self.sizes.append(_halved(self.sizes[-1]) if stride == 2 else self.sizes[-1])
        deepest = self.sizes[-1]
        self.fc = nn.Linear(inputs, EXPANSION * STAGES[-1][0] * deepest**2)
        stages: list[nn.Module] = []
        for number in reversed(range(len(STAGES))):
            width, blocks, stride = STAGES[number]
            size = self.sizes[number + 2]
            before = self.sizes[number + 1] if number else size
            entry = EXPANSION * STAGES[number - 1][0] if number else STEM
            rest = [
                InverseBottleneck(width, EXPANSION * width, 1, size, size)
                for _ in range(blocks - 1)
            ]
            first = InverseBottleneck(width, entry, stride, before, size)
            stages.append(nn.Sequential(*rest, first))
        self.layer4, self.layer3, self.layer2, self.layer1 = stages
        self.bn1 = nn.BatchNorm2d(STEM)
        extra = pixels - (2 * (self.sizes[1] - 1) + 1)
        self.conv1 = nn.ConvTranspose2d(STEM, channels, 7, 2, 3, extra)

    def forward(self, vector: Tensor) -> Tensor:
        """(B, inputs) to (B, channels, pixels, pixels)."""
        deepest = self.sizes[-1]
        x = F.relu(self.fc(vector)).unflatten(1, (-1, deepest, deepest))
        x = self.layer1(self.layer2(self.layer3(self.layer4(x))))
        x = F.interpolate(x, size=(self.sizes[1],) * 2, mode="nearest")
        return self.conv1(F.relu(self.bn1(x)))


@dataclass(frozen=True)
class MirrorRow:
    """One layer of ResNet-50 and its mirror: names, what they do, channels, image sizes."""

    layer: str
    operation: str
    shape: tuple[int, ...]
    mirror: str
    mirror_operation: str
    mirror_shape: tuple[int, ...]


def mirror_table(pixels: int = 128, channels: int = 2, outputs: int = 26) -> list[MirrorRow]:
    """ResNet-50 layer by layer, top to bottom, with the layer of the mirror that undoes it.

    Shapes are measured by running both networks: what each layer of ResNet-50 receives, and what
    its twin gives back, (channels, height, width) or (features,). Equal shapes in every row are
    what makes the second network the first one's mirror.

    Examples
    --------
    >>> all(row.shape == row.mirror_shape for row in mirror_table(64))
    True
    """
    from radarbook.networks.encoder import resnet

    direct = resnet(50, channels, outputs).eval()
    inverse = InverseResNet50(outputs, channels, pixels).eval()
    received: dict[str, tuple[int, ...]] = {}
    given: dict[str, tuple[int, ...]] = {}
    hooks = []
    for name, module in direct.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.Linear | nn.AdaptiveAvgPool2d):
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, args, name=name: received.update({name: tuple(args[0].shape[1:])})
                )
            )
    for name, module in inverse.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            hooks.append(
                module.register_forward_hook(
                    lambda _, args, out, name=name: given.update({name: tuple(out.shape[1:])})
                )
            )
    with torch.no_grad():
        direct(torch.zeros(1, channels, pixels, pixels))
        inverse(torch.zeros(1, outputs))
    for hook in hooks:
        hook.remove()
    inverse_modules = dict(inverse.named_modules())
    rows = []
    for name, module in direct.named_modules():
        if name not in received:
            continue
        if isinstance(module, nn.MaxPool2d):
            size = inverse.sizes[1]
            rows.append(
                MirrorRow(
                    name,
                    "max pooling 3 × 3, stride 2",
                    received[name],
                    "enlarge",
                    "nearest neighbour",
                    (STEM, size, size),
                )
            )
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            continue  # a reshape of the fully connected layer's output stands for it
        elif isinstance(module, nn.Linear):
            twin = (EXPANSION * STAGES[-1][0], inverse.sizes[-1], inverse.sizes[-1])
            rows.append(
                MirrorRow(
                    "avgpool, fc",
                    "mean over the image, fully connected",
                    received["avgpool"],
                    "fc",
                    "fully connected, reshaped",
                    twin,
                )
            )
        else:
            twin_name = _twin(name)
            rows.append(
                MirrorRow(
                    name,
                    _operation(module),
                    received[name],
                    twin_name,
                    _operation(inverse_modules[twin_name]),
                    given[twin_name],
                )
            )
    return rows


def _twin(name: str) -> str:
    """The mirror's name of a convolution: its stages hold their blocks in reverse order."""
    parts = name.split(".")
    if parts[0].startswith("layer"):
        blocks = STAGES[int(parts[0][-1]) - 1][1]
        parts[1] = str(blocks - 1 - int(parts[1]))
    return ".".join(parts)


def _operation(module: nn.Module) -> str:
    if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        raise TypeError(f"not a convolution: {module}")
    k, stride = module.kernel_size[0], module.stride[0]
    transposed = " transposed" if isinstance(module, nn.ConvTranspose2d) else ""
    step = f", stride {stride}" if stride > 1 else ""
    return f"{k} × {k}{transposed}, {module.in_channels} → {module.out_channels}{step}"
