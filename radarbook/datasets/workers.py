"""Where images are rendered: in this process, on a local cluster, or on any dask scheduler.

A worker gets numbers and names (which samples, which settings, how to build the renderer), never
tensors, and returns the arrays of one shard; only the process that holds the folder writes.
"""

from __future__ import annotations

import importlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.storage import encode
from radarbook.errors import InputError, StoppedError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.files import PACKAGE, source_digest
from radarbook.processes import children_ignore_interrupts, out_of_memory
from radarbook.profiles import Profile, get_profile
from radarbook.progress import write_line
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
#: How long to try to reach a scheduler, and to say goodbye to one.
CONNECT_SECONDS, CLOSE_SECONDS = 20, 5
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
    if source_digest(*CODE) != code:
        raise InputError(
            f"worker on {socket.gethostname()}: expected the code of the process that writes "
            f"({code}), found {source_digest(*CODE)}: install the same radarbook there"
        )
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

    ``scheduler`` is the address of a running one; otherwise ``workers`` local processes of one
    thread each are started, and stopped at the end. A worker that dies has its shard rendered
    again by another.

    Raises :class:`~radarbook.errors.InputError` for a scheduler that cannot be reached and for
    workers with other code, :class:`~radarbook.errors.StoppedError` for a shard that killed four
    workers, workers without memory and a scheduler that was lost.
    """
    from distributed import as_completed

    with _quiet_logs(), _client(workers, scheduler) as client:
        arguments = (
            spec.model_dump_json(),
            settings.model_dump_json(include=_SAMPLE_FIELDS),
            source_digest(*CODE),
        )
        waiting = iter(shards.items())
        numbers: dict[Any, int] = {}
        futures = as_completed(with_results=False)

        def submit_next() -> None:
            for number, samples in waiting:
                future = client.submit(
                    _render_remotely, *arguments, samples.start, samples.stop, pure=False
                )
                numbers[future.key] = number
                futures.add(future)
                return

        # A few tasks ahead of every worker: finished shards do not pile up before they are written.
        for _ in range(4 * max(1, sum(client.nthreads().values()))):
            submit_next()
        for future in futures:
            number = numbers.pop(future.key)
            with _failures(shards[number], scheduler):
                arrays, seconds = future.result()
            yield number, arrays, seconds
            future.release()
            submit_next()


@contextmanager
def _client(workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """A client of the scheduler at an address, or of local workers that end with the block."""
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if scheduler is not None:
            client = stack.enter_context(_connection(scheduler))
            if not client.nthreads():
                write_line(f"scheduler '{scheduler}': no workers yet, waiting for the first")
        else:
            with children_ignore_interrupts():
                cluster = stack.enter_context(
                    LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        silence_logs=logging.CRITICAL,
                    )
                )
            client = stack.enter_context(Client(cluster))
        if client.dashboard_link:
            write_line(f"dask dashboard: {client.dashboard_link}")
        yield client


@contextmanager
def _connection(scheduler: str) -> Iterator[Any]:
    """A client of a running scheduler. It does not wait long for one that has gone."""
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"scheduler '{scheduler}': expected the address of a running dask scheduler such as "
            f"tcp://host:8786, cannot connect ({why})"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CLOSE_SECONDS)


@contextmanager
def _failures(samples: range, scheduler: str | None) -> Iterator[None]:
    """Say in one line why a shard could not be rendered; errors of our own code pass."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    shard = f"samples {samples.start} to {samples.stop - 1}"
    kept = "finished shards are kept, the same command goes on"
    try:
        yield
    except KilledWorker as error:
        times = error.allowed_failures + 1
        raise StoppedError(
            f"{shard}: {times} workers were killed one after another while rendering them, "
            f"often because memory ran out; {kept}, with fewer workers if memory is short"
        ) from None
    except ImportError as error:
        raise InputError(
            f"{shard}: a worker cannot import what it needs ({error}): expected the same "
            "radarbook on every worker"
        ) from None
    except (CancelledError, CommClosedError, TimeoutError) as error:
        where = f"scheduler '{scheduler}'" if scheduler else "local scheduler"
        raise StoppedError(
            f"{where}: the connection was lost ({type(error).__name__}); {kept} once it runs again"
        ) from None
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise StoppedError(
            f"{shard}: a worker ran out of memory ({' '.join(str(error).split())}); {kept}, "
            "with fewer workers"
        ) from None


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Failures are one line of our own, without logs of dask and its event loop."""
    import distributed  # noqa: F401  (sets the levels of its loggers, each one's own)

    talkative = ("distributed", "tornado", "asyncio")
    names = [n for n in logging.root.manager.loggerDict if n.split(".")[0] in talkative]
    loggers = [logging.getLogger(name) for name in {*talkative, *names}]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
