"""A renderer that costs next to nothing, importable by name in workers and killed processes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from radarbook.datasets.workers import RendererSpec
from radarbook.faces.parameters import FaceParameters
from radarbook.radar.image import RadarImage


@dataclass
class FakeRenderer:
    """One blob whose place, width and depth follow the parameters; 0 dB at its maximum."""

    pixels: int = 16
    width: float = 0.04
    #: Not settings: what the process does beside rendering.
    seconds: float = 0.0
    dies_once: str = ""  # path of a file: if it exists, remove it and die by SIGKILL
    fails_beyond: float = float("inf")  # faces farther to the side than this, m, fail to render
    failure: str = ""  # how they fail: "killed" (by SIGKILL), or the words of an error
    stops_at: str = ""  # a folder: once it holds two shards, wait for ever

    def render(self, parameters: FaceParameters) -> RadarImage:
        while self.stops_at and len(list(Path(self.stops_at).glob("shard-*.h5"))) >= 2:
            time.sleep(0.05)
        if self.dies_once and os.path.exists(self.dies_once):
            os.unlink(self.dies_once)
            os.kill(os.getpid(), signal.SIGKILL)
        if bool((parameters.translation[:, 0] > self.fails_beyond).any()):
            if self.failure == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError(self.failure)
        time.sleep(self.seconds * len(parameters))
        p = parameters
        axis = (torch.arange(self.pixels, dtype=p.shape.dtype) + 0.5) / self.pixels * 0.3 - 0.15
        y, x = axis[None, :, None], axis[None, None, :]
        t = p.translation[:, :, None, None]
        distance2 = (x - t[:, 0]) ** 2 + (y - t[:, 1]) ** 2
        amplitude = -distance2 / self.width**2 * (4 + p.shape.std(1)[:, None, None])
        amplitude = amplitude - amplitude.amax((1, 2), keepdim=True)
        depth = 0.3 + t[:, 2] + distance2 * (1 + p.expression.mean(1)[:, None, None])
        floor = p.dynamic_range_db
        return RadarImage(
            amplitude_db=torch.maximum(amplitude, floor[:, None, None]),
            depth=depth,
            mask=amplitude > floor[:, None, None],
            x=axis,
            y=axis,
            dynamic_range_db=floor,
        )

    def settings(self) -> dict[str, Any]:
        return {"fake": {"pixels": self.pixels, "width": self.width}}


def build(**arguments: Any) -> FakeRenderer:
    return FakeRenderer(**arguments)


def spec(**arguments: Any) -> RendererSpec:
    return RendererSpec(builder="tests.datasets.fake_renderer:build", arguments=arguments)
