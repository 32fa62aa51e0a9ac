"""Making a dataset of synthetic faces: once, whatever happens, on any number of workers.

Sample ``i`` depends on ``(seed, i)`` alone (:mod:`radarbook.datasets.distribution` for its
parameters; its image is rendered on one thread, in batches fixed by the settings). A shard is the
unit of work: whole under its final name, or absent. Running the same command again keeps every
whole shard and makes the others.
"""

from __future__ import annotations

import json
import math
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from pydantic import Field

import radarbook
from radarbook.cluster import require_workers
from radarbook.datasets.distribution import (
    ParameterDistribution,
    Splits,
    random_parameters,
    split_of,
)
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.storage import (
    INDEX_FILE,
    LAYOUT,
    LAYOUT_VERSION,
    SETTINGS_FILE,
    damage,
    shard_bytes,
    shard_name,
    write_index,
    write_shard,
)
from radarbook.datasets.workers import (
    CODE,
    Rendered,
    RendererSpec,
    SampleSettings,
    physical_spec,
    render_on_cluster,
    render_samples,
)
from radarbook.errors import InputError
from radarbook.faces.load import held_modes
from radarbook.files import differences, digest, disk_errors, source_digest, write_json
from radarbook.hdf5 import open_hdf5
from radarbook.locks import hold
from radarbook.profiles import Profile
from radarbook.progress import Progress
from radarbook.radar.renderer import Renderer

__all__ = [
    "DatasetSettings",
    "Estimate",
    "GenerationReport",
    "ParameterDistribution",
    "Splits",
    "estimate",
    "generate",
    "generate_from_settings",
    "random_parameters",
    "split_of",
]

#: A shard holds at most this many samples, and a dataset has at least this many shards if it can:
#: little is lost when a run is killed, and several workers find enough to do.
SHARD_SAMPLES, MINIMUM_SHARDS = 50, 16
#: More are a typing error: their list of shards alone would fill a memory.
MAXIMUM_SAMPLES = 100_000_000


class DatasetSettings(SampleSettings):
    """Everything that decides a dataset's content. Its digest is the dataset's fingerprint."""

    splits: Splits
    shard_size: int = Field(ge=1)
    renderer: dict[str, Any] = Field(description="the renderer's own settings()")

    @property
    def fingerprint(self) -> str:
        """Digest of all settings, the same on every machine."""
        return digest(self.model_dump(mode="json") | {"layout": LAYOUT_VERSION})

    def shards(self) -> dict[int, range]:
        """Sample numbers of every shard."""
        count, size = self.splits.count, self.shard_size
        return {
            number: range(start, min(start + size, count))
            for number, start in enumerate(range(0, count, size))
        }


@dataclass(frozen=True)
class GenerationReport:
    """What a run of :func:`generate` did."""

    folder: Path
    fingerprint: str
    made: int  #: samples rendered by this run
    kept: int  #: samples that were there already
    repaired: tuple[str, ...]  #: damaged shards repeated
    seconds: float  #: wall clock
    render_seconds: float  #: spent in the renderer, summed over workers


@dataclass(frozen=True)
class Estimate:
    """What a run would need, from a few samples rendered here."""

    count: int
    workers: int
    seconds_per_sample: float  #: one worker of one thread
    seconds: float  #: all samples, on all workers
    disk_bytes: int
    memory_bytes: int  #: of one worker

    def __str__(self) -> str:
        hours, rest = divmod(round(self.seconds), 3600)
        return (
            f"{self.count} samples: {hours} h {rest // 60:02d} min {rest % 60:02d} s on "
            f"{self.workers} worker(s) at {self.seconds_per_sample:.3f} s a sample, "
            f"{self.disk_bytes / 1e6:.1f} MB on disk, {self.memory_bytes / 1e9:.2f} GB of memory "
            "a worker"
        )


def dataset_settings(
    renderer: Renderer,
    count: int | None,
    seed: int,
    *,
    n_shape: int = 10,
    n_expression: int = 7,
    distribution: ParameterDistribution | None = None,
    splits: Splits | None = None,
    shard_size: int | None = None,
    floor_db: float = -60.0,
    depth_reference: float = 0.35,
    batch: int = 1,
    device: str = "cpu",
    imperfections: Imperfections | None = None,
) -> DatasetSettings:
    """The settings of a dataset; ``count`` is cut 10/10/80 % unless ``splits`` says how."""
    distribution = distribution or ParameterDistribution()
    if splits is None:
        if count is None or count < 1:
            raise InputError(f"count: expected at least one sample, found {count}")
        splits = Splits.from_fractions(count, images_per_face=distribution.images_per_face)
    elif count is not None and count != splits.count:
        raise InputError(f"count: expected the splits' sum {splits.count}, found {count}")
    if splits.count > MAXIMUM_SAMPLES:
        raise InputError(
            f"count: expected at most {MAXIMUM_SAMPLES} samples in one dataset, "
            f"found {splits.count}"
        )
    splits.check(distribution.images_per_face)
    describe = getattr(renderer, "settings", None)
    if describe is None:
        raise InputError("renderer: expected one with settings(), which say what made the images")
    # Through JSON, as they come back from a file: tuples become lists.
    return DatasetSettings(
        seed=seed,
        n_shape=n_shape,
        n_expression=n_expression,
        distribution=distribution,
        splits=splits,
        shard_size=shard_size or max(1, min(SHARD_SAMPLES, splits.count // MINIMUM_SHARDS)),
        floor_db=floor_db,
        depth_reference=depth_reference,
        batch=batch,
        device=_device_type(device),
        imperfections=imperfections,
        renderer=json.loads(json.dumps(describe())),
    )


def _device_type(device: str) -> str:
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise InputError(f"device: expected cpu, cuda or cuda:N, found '{device}'") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device '{device}': no CUDA device here")
    return kind


def generate(
    folder: str | os.PathLike[str],
    renderer: Renderer | RendererSpec,
    count: int | None,
    seed: int,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    repair: bool = False,
    wait: bool = False,
    progress: bool = True,
    **settings: Any,
) -> GenerationReport:
    """Make a dataset, or finish it.

    Parameters
    ----------
    folder : path
        A new folder, or one begun with the same settings.
    renderer : Renderer or RendererSpec
        With ``settings()``. A spec where other processes build their own.
    count, seed
        Number of samples (None: the sum of ``splits``) and the seed of every sample.
    workers : int, optional
        Start this many local processes of one thread each. None or 0: render in this process, on
        one thread, so that the bits are the same.
    scheduler : str, optional
        Address of a running dask scheduler; its workers need this library and the model's file.
    repair : bool
        Make damaged shards again; otherwise they are named in an error.
    wait : bool
        Wait while another run holds the folder; otherwise that is an error.
    settings
        ``n_shape``, ``n_expression``, ``distribution``, ``splits``, ``shard_size``, ``floor_db``,
        ``depth_reference``, ``batch``, ``device``, ``imperfections``: see :class:`DatasetSettings`.

    Raises :class:`~radarbook.errors.InputError`: the folder was made with other settings (each
    difference is named) or begun with other code, holds damaged shards, is in use, or the disk is
    full. In every case what is whole stays whole.
    """
    begin = time.perf_counter()
    spec = renderer if isinstance(renderer, RendererSpec) else None
    if (workers or scheduler) and spec is None:
        raise InputError("renderer: expected a RendererSpec where workers build their own")
    require_workers(workers, scheduler)
    built = renderer.build() if isinstance(renderer, RendererSpec) else renderer
    wanted = dataset_settings(built, count, seed, **settings)
    folder = Path(folder)
    advice = "finished shards are kept, run the same command again when there is space"
    with disk_errors(folder, advice), hold(folder, wait):
        _remove_leftovers(folder)
        _check_settings(folder, wanted, repair)
        shards = wanted.shards()
        missing, broken, makers = _survey(folder, wanted)
        if broken and not repair:
            named = "; ".join(f"{name}: {why}" for name, why in broken.items())
            raise InputError(f"{folder}: damaged shards ({named}); '--repair' makes them again")
        if missing:
            _check_makers(folder, makers)
        if not makers or not (folder / SETTINGS_FILE).exists():
            maker = makers[0] if makers else versions()
            write_json(folder / SETTINGS_FILE, _about(wanted) | {"versions": maker})
        total = wanted.splits.count
        kept = total - sum(len(samples) for samples in missing.values())
        results = _render(built, spec, wanted, missing, workers, scheduler)
        render_seconds = 0.0
        # Closed at once, also when this process is interrupted: it may hold workers.
        shown = Progress(total, "generate", "image", shown=progress, done=kept)
        with closing(results), shown as bar:
            for number, arrays, seconds in results:
                write_shard(folder / shard_name(number), arrays, _attributes(wanted, number))
                render_seconds += seconds
                bar.update(len(missing[number]))
        paths = [folder / shard_name(number) for number in shards]
        write_index(folder, paths, wanted.splits, _about(wanted))
    return GenerationReport(
        folder=folder,
        fingerprint=wanted.fingerprint,
        made=total - kept,
        kept=kept,
        repaired=tuple(broken),
        seconds=time.perf_counter() - begin,
        render_seconds=render_seconds,
    )


def _render(
    renderer: Renderer,
    spec: RendererSpec | None,
    settings: DatasetSettings,
    shards: dict[int, range],
    workers: int | None,
    scheduler: str | None,
) -> Generator[Rendered]:
    if shards and spec is not None and (workers or scheduler):
        yield from render_on_cluster(spec, settings, shards, workers=workers, scheduler=scheduler)
        return
    for number, samples in shards.items():
        yield number, *render_samples(renderer, settings, samples)


def estimate(
    renderer: Renderer | RendererSpec,
    count: int | None,
    seed: int,
    *,
    workers: int | None = None,
    samples: int = 3,
    **settings: Any,
) -> Estimate:
    """What :func:`generate` would need, from ``samples`` samples rendered here and now.

    Nothing is written. The first sample warms up and is not timed. Memory is this process's peak
    so far (on a GPU: torch's peak), so it is an upper bound where the process did other work.
    """
    built = renderer.build() if isinstance(renderer, RendererSpec) else renderer
    wanted = dataset_settings(built, count, seed, **settings)
    render_samples(built, wanted, range(wanted.batch))
    begin = time.perf_counter()
    arrays, _ = render_samples(built, wanted, range(samples * wanted.batch))
    seconds = (time.perf_counter() - begin) / (samples * wanted.batch)
    one, two = (
        len(shard_bytes({k: v if k in "xy" else v[:n] for k, v in arrays.items()}, {}))
        for n in (1, 2)
    )
    shards = wanted.shards()
    overhead = one - (two - one) + len(json.dumps(_attributes(wanted, 0)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS.
    memory = peak if sys.platform == "darwin" else peak * 1024
    if wanted.device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    busy = min(max(1, workers or 1), len(shards))
    return Estimate(
        count=wanted.splits.count,
        workers=busy,
        seconds_per_sample=seconds,
        seconds=seconds * wanted.shard_size * math.ceil(len(shards) / busy),
        disk_bytes=(two - one) * wanted.splits.count + overhead * len(shards),
        memory_bytes=memory,
    )


def generate_from_settings(
    folder: str | os.PathLike[str],
    *,
    model: str,
    profile: Profile,
    count: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    repair: bool = False,
    dry_run: bool = False,
    wait: bool = False,
    progress: bool = True,
    device: str = "cpu",
    distribution: ParameterDistribution | None = None,
    imperfections: Imperfections | None = None,
    batch: int | None = None,
) -> GenerationReport | Estimate:
    """:func:`generate` with the physical renderer of a model and a profile, in one line.

    ``count=None`` takes the profile's train, validation and test numbers; ``batch=None`` one sample
    at a time on a CPU, a shard's on a GPU, which single ones leave idle. ``dry_run`` returns an
    :class:`Estimate` and writes nothing. A model of fewer modes than the profile's gets as many
    coefficients as it has modes.
    """
    if batch is None:
        batch = 1 if _device_type(device) == "cpu" else SHARD_SAMPLES
    profile = profile.for_modes(*held_modes(model))
    spec = physical_spec(model, profile, device)
    settings: dict[str, Any] = {
        "n_shape": profile.n_shape,
        "n_expression": profile.n_expression,
        "distribution": distribution,
        "depth_reference": (profile.depth_start + profile.depth_stop) / 2,
        "batch": batch,
        "device": device,
        "imperfections": imperfections,
    }
    if count is None:
        settings["splits"] = Splits(
            test=profile.test, validation=profile.validation, train=profile.train
        )
    if dry_run:
        return estimate(spec, count, seed, workers=workers, **settings)
    return generate(
        folder,
        spec,
        count,
        seed,
        workers=workers,
        scheduler=scheduler,
        repair=repair,
        wait=wait,
        progress=progress,
        **settings,
    )


# -- the folder ---------------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """What else made a shard: recorded in it, not part of the fingerprint."""
    return {
        "radarbook": radarbook.__version__,
        "code": source_digest(*CODE),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "h5py": h5py.__version__,
        "machine": platform.machine(),
    }


def _about(settings: DatasetSettings) -> dict[str, Any]:
    """Attributes that every file of the dataset carries."""
    return {
        "layout": LAYOUT,
        "layout_version": LAYOUT_VERSION,
        "fingerprint": settings.fingerprint,
        "settings": settings.model_dump_json(),
    }


def _attributes(settings: DatasetSettings, number: int) -> dict[str, Any]:
    return _about(settings) | {"shard": number, "versions": json.dumps(versions())}


def _check_settings(folder: Path, wanted: DatasetSettings, repair: bool) -> None:
    """Refuse a folder that was made with other settings, naming every difference.

    Settings of a folder without images bind nobody: a run that failed at once left them.
    """
    path = folder / SETTINGS_FILE
    if not path.exists() or not any(folder.glob("*.h5")):
        return
    try:
        found = json.loads(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError) as error:
        if repair:
            path.unlink()
            return
        raise InputError(f"{path}: damaged ({error}); '--repair' makes it again") from None
    others = [
        f"{name} is {_short(there)} there, {_short(asked)} asked"
        for name, asked, there in differences(json.loads(wanted.model_dump_json()), found)
    ]
    if others:
        raise InputError(
            f"{folder}: made with other settings: {'; '.join(others)} "
            "(choose another folder, or ask for the same)"
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({digest(value)})"


def _survey(
    folder: Path, settings: DatasetSettings
) -> tuple[dict[int, range], dict[str, str], list[dict[str, str]]]:
    """Shards to make, damaged ones with the reason, and the versions that made the whole ones."""
    missing: dict[int, range] = {}
    broken: dict[str, str] = {}
    makers: list[dict[str, str]] = []
    for number, samples in settings.shards().items():
        path = folder / shard_name(number)
        if path.exists():
            reason = damage(path, _about(settings) | {"shard": number})
            if reason is None:
                with open_hdf5(path) as file:
                    makers.append(json.loads(file.attrs["versions"]))
                continue
            broken[path.name] = reason
        missing[number] = samples
    return missing, broken, makers


def _check_makers(folder: Path, makers: list[dict[str, str]]) -> None:
    """Refuse to finish with code that computes something else; warn of other versions."""
    here = versions()
    for maker in makers:
        if maker["code"] != here["code"]:
            raise InputError(
                f"{folder}: begun with other code (faces and radar of radarbook "
                f"{maker['radarbook']}, {maker['code']}; here {here['code']}): finish it with "
                "that version or choose another folder"
            )
    for name in here:
        others = {maker[name] for maker in makers} - {here[name]}
        if others:
            warnings.warn(
                f"{folder}: begun with {name} {', '.join(others)}, going on with {here[name]}: "
                "images may differ in their last bits",
                stacklevel=3,
            )


def _remove_leftovers(folder: Path) -> None:
    """Temporary files of a run that was killed; the lock says that nobody is writing them."""
    for stem in ("shard-*", Path(INDEX_FILE).stem, Path(SETTINGS_FILE).stem):
        for leftover in folder.glob(f".{stem}.*"):
            leftover.unlink(missing_ok=True)
