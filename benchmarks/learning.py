"""Speed of the networks: drawing, predicting, training, beside their plain formulations.

``python -m benchmarks.learning [--pixels 64] [--json FILE]`` prints, from one run on one machine,
milliseconds an image of the learned renderer and the encoder at each size, and of a training step
with and without the channels-last layout that the loop uses. Ratios are what to look at: the
milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from radarbook.evaluation.tables import hardware
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_json
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer

#: What the paper states for its learned renderer on its GPU, ms an image.
PAPER_MS = 58.0
SIZES = ("small", "resnet18", "paper")


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


def drawing(size: str, pixels: int, batch: int, device: torch.device) -> float:
    """The learned renderer, ms an image in a batch."""
    renderer = LearnedRenderer(size, pixels=pixels).to(device).eval()
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
    size: str, pixels: int, batch: int, device: torch.device, layout: torch.memory_format
) -> float:
    """Forward and backward of the encoder, ms an image, in a memory layout."""
    encoder, x = _encoder(size, pixels, batch, device)
    encoder.to(memory_format=layout)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=layout)

    def step() -> None:
        encoder.zero_grad()
        encoder(x).square().mean().backward()

    return milliseconds(step, batch, repeats=3)


def _encoder(size: str, pixels: int, batch: int, device: torch.device) -> tuple[nn.Module, Tensor]:
    encoder = Encoder("both", size, pixels=pixels).to(device)
    channels = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d)).in_channels
    return encoder, torch.randn(batch, channels, pixels, pixels, device=device)


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
        one = drawing(size, pixels, 1, device)
        many = drawing(size, pixels, batch, device)
        plain = training(size, pixels, batch, device, torch.contiguous_format)
        last = training(size, pixels, batch, device, torch.channels_last)
        rows.append(
            {
                "size": size,
                "draw_one_ms": one,
                "draw_batch_ms": many,
                "predict_batch_ms": predicting(size, pixels, batch, device),
                "train_ms": last,
                "train_contiguous_ms": plain,
                "channels_last_gain": plain / last,
                "paper_ms_over_draw_one": PAPER_MS / one,
            }
        )
    print(f"{hardware()}, {torch.get_num_threads()} threads, {pixels} px, batches of {batch}")
    print(
        f"{'size':10} {'draw 1':>9} {'draw':>9} {'predict':>9} {'train':>9}   "
        f"channels-last gain   paper's {PAPER_MS:.0f} ms / draw 1"
    )
    for row in rows:
        times = " ".join(
            f"{row[k]:6.2f} ms"
            for k in ("draw_one_ms", "draw_batch_ms", "predict_batch_ms", "train_ms")
        )
        print(
            f"{row['size']:10} {times}   {row['channels_last_gain']:18.2f}   "
            f"{row['paper_ms_over_draw_one']:.1f}"
        )
    if arguments.json:
        write_json(
            arguments.json,
            {"hardware": hardware(), "pixels": pixels, "batch": batch, "rows": rows},
        )


if __name__ == "__main__":
    main()
