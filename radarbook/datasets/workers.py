"""Where images are rendered: in this process, on a local cluster, or on any dask scheduler.

A worker gets numbers and names (which samples, which settings, how to build the renderer), never
tensors, and returns the arrays of one shard; only the process that holds the folder writes.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from radarbook.cluster import on_cluster, require_code
from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.storage import encode
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.files import PACKAGE, source_digest
from radarbook.profiles import Profile, get_profile
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import MEMORY_BUDGET, back_project
from radarbook.radar.renderer import PhysicalRenderer, Renderer
from radarbook.seeds import stream_key
from radarbook.threads import alone

#: Modules of ``radar`` that its renderer does not import.
_ASIDE = (
    "autofocus", "calibration", "coupling", "delay", "limits",
    "meshes", "scene_file", "signal", "volume", "winding",
)  # fmt: skip
#: Those that decide a sample's values. The kernels of few samples are not among them, as
#: :func:`physical_renderer` does not take them: their tuning refuses no dataset that is half made.
PHYSICS = tuple(
    sorted(path.stem for path in (PACKAGE / "radar").glob("*.py") if path.stem not in _ASIDE)
)
#: The source whose change changes the values of a sample.
CODE = (
    "faces",
    *(f"radar/{module}" for module in PHYSICS),
    "seeds",
    "datasets/distribution",
    "datasets/imperfections",
    "datasets/workers",
)
#: A finished shard: its number, its arrays, seconds spent in the renderer.
Rendered = tuple[int, dict[str, NDArray[Any]], float]


class RendererSpec(BaseModel):
    """How to build a renderer in another process: an importable function and its arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    builder: str = Field(description="module:function, called with the arguments by keyword")
    arguments: dict[str, Any] = Field(default_factory=dict, description="JSON-able")

    def build(self) -> Renderer:
        """Call the builder."""
        module, _, function = self.builder.partition(":")
        renderer: Renderer = getattr(importlib.import_module(module), function)(**self.arguments)
        return renderer


def physical_renderer(model: str, profile: dict[str, Any], device: str = "cpu") -> PhysicalRenderer:
    """The physical renderer of a profile's fields for a model's name or path."""
    checked = get_profile(profile["name"], profile)
    face = load_model(model, checked.n_shape, checked.n_expression).to(device)
    memory = MEMORY_BUDGET
    if torch.device(device).type == "cuda":
        # A GPU is kept busy by large pieces; a tenth leaves memory for others on it.
        memory = max(memory, torch.cuda.get_device_properties(device).total_memory // 10)
    return PhysicalRenderer.for_profile(face, checked, memory=memory, method="cells")


def physical_spec(model: str, profile: Profile, device: str = "cpu") -> RendererSpec:
    """The spec of :func:`physical_renderer`; a path is made absolute for the workers' sake."""
    where = model if model == "procedural" else str(Path(model).resolve())
    return RendererSpec(
        builder=f"{__name__}:physical_renderer",
        arguments={"model": where, "profile": profile.model_dump(mode="json"), "device": device},
    )


class SampleSettings(BaseModel):
    """What decides the samples' values besides the renderer; part of a dataset's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    n_shape: int = Field(ge=1)
    n_expression: int = Field(ge=0)
    distribution: ParameterDistribution
    floor_db: float = Field(lt=0, description="where stored images end, dB")
    depth_reference: float = Field(description="m, subtracted from stored depths")
    batch: int = Field(ge=1, description="samples rendered at once")
    device: str = Field(description="device type the images were rendered on")
    imperfections: Imperfections | None = Field(
        default=None, description="of the simulated radar, each sample its own realisation"
    )


_SAMPLE_FIELDS = set(SampleSettings.model_fields)


def render_samples(
    renderer: Renderer, settings: SampleSettings, samples: Sequence[int]
) -> tuple[dict[str, NDArray[Any]], float]:
    """The arrays of some samples as a shard stores them, and the seconds spent in the renderer.

    Samples are rendered ``settings.batch`` at a time, counted from the first of ``samples``.
    """
    sampled = random_parameters(
        samples,
        settings.seed,
        settings.n_shape,
        settings.n_expression,
        config=settings.distribution,
    )
    rendering = sampled.rendering.clone()
    rendering[:, 0] = settings.floor_db
    unclipped = sampled.replace(rendering=rendering).to(settings.device)
    parts: list[dict[str, NDArray[Any]]] = []
    seconds = 0.0
    with alone(divided=1), torch.no_grad():
        for start in range(0, len(samples), settings.batch):
            rows = slice(start, start + settings.batch)
            begin = time.perf_counter()
            # Waiting for a GPU happens in the copy, so it belongs to the renderer's time.
            image = _image(renderer, unclipped[rows], settings, samples[rows]).to("cpu")
            seconds += time.perf_counter() - begin
            parts.append(encode(samples[rows], sampled[rows], image, settings.depth_reference))
    grid = {name: parts[0][name] for name in ("x", "y")}
    joined = {n: np.concatenate([p[n] for p in parts]) for n in parts[0] if n not in grid}
    return joined | grid, seconds


def speckle_seeds(seed: int, samples: Sequence[int]) -> list[int]:
    """Of each sample's own speckle, for :meth:`PhysicalRenderer.signal
    <radarbook.radar.renderer.PhysicalRenderer.signal>`; fixed by (seed, sample)."""
    return [stream_key(seed, "datasets/speckle", i) for i in samples]


def _image(
    renderer: Renderer, parameters: FaceParameters, settings: SampleSettings, samples: Sequence[int]
) -> RadarImage:
    if settings.imperfections is None:
        if isinstance(renderer, PhysicalRenderer):
            return renderer.render(parameters, speckle_seeds(settings.seed, samples))
        return renderer.render(parameters)
    if not isinstance(renderer, PhysicalRenderer):
        raise InputError("imperfections: expected the physical renderer, which has raw signals")
    signal = measured_signal(renderer, parameters, settings.imperfections, settings.seed, samples)
    volume = back_project(
        signal, renderer.array, renderer.waveform, renderer.grid, window=renderer.window
    )
    return image_from_volume(volume, renderer.grid, parameters.dynamic_range_db)


def measured_signal(
    renderer: PhysicalRenderer,
    parameters: FaceParameters,
    imperfections: Imperfections,
    seed: int,
    samples: Sequence[int],
) -> Tensor:
    """(B, rx, tx, f) signals as an imperfect radar records them, independent for each sample.

    Positions are wrong when the signal is made, nominal when it is imaged.
    """
    signals = []
    for row, i in enumerate(samples):
        as_built = renderer.replace(array=imperfections.array(renderer.array, seed, i))
        clean = as_built.signal(parameters[row], speckle_seeds(seed, [i]))
        signals.append(imperfections.apply(clean, as_built.array, renderer.waveform, seed, [i]))
    return torch.cat(signals)


@lru_cache(maxsize=2)
def _renderer(spec: str) -> Renderer:
    return RendererSpec.model_validate_json(spec).build()


def _render_remotely(
    spec: str, settings: str, code: str, first: int, stop: int
) -> tuple[dict[str, NDArray[Any]], float]:
    """One task: runs in a worker, which builds the renderer once and keeps it."""
    require_code(code, source_digest(*CODE))
    return render_samples(
        _renderer(spec), SampleSettings.model_validate_json(settings), range(first, stop)
    )


def render_on_cluster(
    spec: RendererSpec,
    settings: SampleSettings,
    shards: dict[int, range],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> Iterator[Rendered]:
    """Render shards with dask.distributed and yield (number, arrays, seconds) as they finish.

    ``workers`` and ``scheduler`` as :func:`~radarbook.cluster.on_cluster` has them. Raises as it
    does, and :class:`~radarbook.errors.InputError` for workers with other code.
    """
    arguments = (
        spec.model_dump_json(),
        settings.model_dump_json(include=_SAMPLE_FIELDS),
        source_digest(*CODE),
    )
    tasks = ((number, (*arguments, s.start, s.stop)) for number, s in shards.items())

    def named(number: int) -> str:
        samples = shards[number]
        return f"samples {samples.start} to {samples.stop - 1}"

    for number, (arrays, seconds) in on_cluster(
        _render_remotely, tasks, named, workers=workers, scheduler=scheduler, finished="shards"
    ):
        yield number, arrays, seconds
