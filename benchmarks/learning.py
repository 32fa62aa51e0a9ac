"""Speed of the networks: rendering, predicting, training, compared with their plain formulations.

``python -m benchmarks.learning [--pixels 64] [--json FILE]`` prints, from one run on one machine,
milliseconds an image of the learned renderer and the encoder at each size, and of a training step
as the loop takes it (channels-last, bfloat16 where the device has it, the centred window),
compared with the same step without each of the three. Compare the ratios: the milliseconds are
this machine's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.provenance import hardware
from radarbook.training.loop import has_bfloat16

#: What the paper states for its learned renderer on its GPU, ms an image.
PAPER_MS = 58.0
SIZES = ("small", "medium", "resnet18", "paper")


def milliseconds(call: Callable[[], Any], images: int, *, repeats: int = 5) -> float:
    """Fastest of ``repeats`` calls, in ms an image; a first one, which sets things up, is extra."""
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1e3 * min(times) / images


def rendering(size: str, pixels: int, batch: int, device: torch.device) -> float:
    """The learned renderer, ms an image in a batch."""
    renderer = LearnedRenderer(size, pixels=pixels, window=_window(pixels)).to(device).eval()
    parameters = FaceParameters.neutral(batch, device=device)
    with torch.no_grad():
        return milliseconds(lambda: renderer.render(parameters), batch)


def predicting(size: str, pixels: int, batch: int, device: torch.device) -> float:
    """The encoder on its channels, ms an image in a batch."""
    encoder, x = _encoder(size, pixels, batch, device)
    encoder.eval()
    with torch.no_grad():
        return milliseconds(lambda: encoder(x), batch)


def training(
    size: str,
    pixels: int,
    batch: int,
    device: torch.device,
    *,
    layout: torch.memory_format = torch.channels_last,
    mixed: bool = True,
    window: bool = True,
) -> float:
    """Forward and backward of the encoder, ms an image, in a memory layout and precision."""
    encoder, x = _encoder(size, pixels, batch, device, window)
    encoder.to(memory_format=layout)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=layout)
    mixed = mixed and has_bfloat16(device.type)

    def step() -> None:
        encoder.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            loss = encoder(x).square().mean()
        loss.backward()

    return milliseconds(step, batch, repeats=3)


def _window(pixels: int) -> int:
    return 3 * pixels // 4


def _encoder(
    size: str, pixels: int, batch: int, device: torch.device, window: bool = True
) -> tuple[nn.Module, Tensor]:
    encoder = Encoder("both", size, pixels=pixels, window=_window(pixels) if window else None)
    encoder.to(device)
    channels = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d)).in_channels
    side = encoder.window or pixels
    return encoder, torch.randn(batch, channels, side, side, device=device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pixels, batch = arguments.pixels, arguments.batch
    rows = []
    for size in SIZES:
        one = rendering(size, pixels, 1, device)
        many = rendering(size, pixels, batch, device)
        plain = training(size, pixels, batch, device, layout=torch.contiguous_format)
        last = training(size, pixels, batch, device)
        single = training(size, pixels, batch, device, mixed=False)
        whole = training(size, pixels, batch, device, window=False)
        rows.append(
            {
                "size": size,
                "draw_one_ms": one,
                "draw_batch_ms": many,
                "predict_batch_ms": predicting(size, pixels, batch, device),
                "train_ms": last,
                "train_contiguous_ms": plain,
                "train_float32_ms": single,
                "train_whole_image_ms": whole,
                "channels_last_gain": plain / last,
                "mixed_precision_gain": single / last,
                "window_gain": whole / last,
                "paper_ms_over_draw_one": PAPER_MS / one,
            }
        )
    print(f"{hardware()}, {torch.get_num_threads()} threads, {pixels} px, batches of {batch}")
    print(
        f"{'size':10} {'render 1':>9} {'render':>9} {'predict':>9} {'train':>9}   "
        f"gains: channels-last, mixed precision, window; paper's {PAPER_MS:.0f} ms / render 1"
    )
    for row in rows:
        times = " ".join(
            f"{row[k]:6.2f} ms"
            for k in ("draw_one_ms", "draw_batch_ms", "predict_batch_ms", "train_ms")
        )
        print(
            f"{row['size']:10} {times}   {row['channels_last_gain']:.2f} "
            f"{row['mixed_precision_gain']:.2f} {row['window_gain']:.2f}; "
            f"{row['paper_ms_over_draw_one']:.1f}"
        )
    if arguments.json:
        write_json(
            arguments.json,
            {"hardware": hardware(), "pixels": pixels, "batch": batch, "rows": rows},
        )


if __name__ == "__main__":
    main()
