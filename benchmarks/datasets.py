"""Speed of generation and of reading: ``python -m benchmarks.datasets [--json FILE]``.

Generation, with the physical renderer at the laptop profile's size (64 px): the share of the time
that is spent in the renderer, and the steady rate (between the first shard and the last, so that
starting processes does not count) of one process, one worker and two workers of one thread each.

Reading, from the page cache at 64 px in shuffled batches of 50, each a whole training batch of
float32 amplitude, depth and mask, clipped at random dynamic ranges: this library's mapped shards,
the same images in memory, and as a reference h5py reading the same images one by one, plain and
compressed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from radarbook.datasets.distribution import Splits
from radarbook.datasets.storage import FaceDataset, shard_name
from radarbook.datasets.synthetic import generate, generate_from_settings
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_text
from radarbook.profiles import get_profile
from radarbook.radar.image import RadarImage

BATCH = 50


class Repeating:
    """Gives one rendered image again and again: reading does not care what is on it."""

    def __init__(self, image: RadarImage) -> None:
        self.image = image

    def render(self, parameters: FaceParameters) -> RadarImage:
        return self.image[torch.arange(len(parameters)) % len(self.image)]

    def settings(self) -> dict[str, Any]:
        return {"repeating": True}


def generation(folder: Path, count: int) -> dict[str, float]:
    """Rates in images a second, and the renderer's share of the time."""
    found = {}
    profile = get_profile("laptop")
    for name, workers in (("this process", None), ("1 worker", 1), ("2 workers", 2)):
        where = folder / name
        begin = time.perf_counter()
        report: Any = generate_from_settings(
            where, model="procedural", profile=profile, count=count, workers=workers, progress=False
        )
        whole = time.perf_counter() - begin
        written = sorted(path.stat().st_mtime for path in where.glob("shard-*.h5"))
        shards = len(written)
        found[f"{name}: images/s"] = count * (shards - 1) / shards / (written[-1] - written[0])
        found[f"{name}: images/s with start-up"] = count / whole
        if workers is None:
            found["share of the time in the renderer"] = report.render_seconds / report.seconds
    found["2 workers / 1 worker"] = found["2 workers: images/s"] / found["1 worker: images/s"]
    return found


def rate(batch: Callable[[np.ndarray], Any], count: int, seconds: float = 3.0) -> float:
    """Samples a second of shuffled batches, after one warm-up round."""
    random = np.random.default_rng(0)
    order = random.permutation(count)
    for start in range(0, count, BATCH):
        batch(order[start : start + BATCH])
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        batch(random.integers(0, count, BATCH))
        done += BATCH
    return done / (time.perf_counter() - begin)


def reading(folder: Path, made: Path, count: int) -> dict[str, float]:
    """Samples a second of each way, and what compression saves."""
    image = FaceDataset(made, dynamic_range=-60.0).batch(range(16))[1]
    where = folder / "many"
    splits = Splits(test=0, validation=0, train=count)
    generate(where, Repeating(image), None, 0, splits=splits, batch=BATCH, progress=False)
    found = {
        "mapped files: samples/s": rate(FaceDataset(where, "train").batch, count),
        "in memory: samples/s": rate(FaceDataset(where, "train", memory="cpu").batch, count),
    }
    # Compression on images that differ, as rendered; reading them in a shard's chunks or singly.
    with h5py.File(made / "index.h5") as file:
        arrays = {name: file[name][:] for name in ("amplitude_db", "depth")}
    plain = sum(a.nbytes for a in arrays.values())
    kinds: dict[str, dict[str, Any]] = {
        "h5py, plain": {},
        "h5py, gzip": {"compression": "gzip", "shuffle": True},
        "h5py, lzf": {"compression": "lzf", "shuffle": True},
    }
    for kind, options in kinds.items():
        path = folder / f"{len(found)}.h5"
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                chunks = (1, *array.shape[1:]) if options else None
                file.create_dataset(name, data=array, chunks=chunks, **options)
            stored = sum(file[name].id.get_storage_size() for name in arrays)
        with h5py.File(path) as file:
            sets = [file[name] for name in arrays]

            def one_by_one(rows: np.ndarray, sets: list[h5py.Dataset] = sets) -> None:
                for values in sets:
                    torch.from_numpy(np.stack([values[int(row)] for row in rows])).float()

            found[f"{kind}: samples/s"] = rate(one_by_one, len(arrays["depth"]))
            found[f"{kind}: size / plain"] = stored / plain
    found["mapped files / h5py, plain"] = (
        found["mapped files: samples/s"] / found["h5py, plain: samples/s"]
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--images", type=int, default=48, help="images generated in each run")
    parser.add_argument("--samples", type=int, default=10_000, help="samples in the reading test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found: dict[str, dict[str, Any]] = {
            "generation": generation(folder, options.images),
            "reading": reading(folder, folder / "this process", options.samples),
        }
        # The sources must not change while this runs: workers import them when they start.
        assert (folder / "2 workers" / shard_name(0)).read_bytes() == (
            folder / "this process" / shard_name(0)
        ).read_bytes(), "one process and two workers made different bits"
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load when finished": os.getloadavg()[0],
    }
    for title, values in (*found.items(), ("machine", machine)):
        print(f"\n{title}")
        for name, value in values.items():
            shown = f"{value:,.2f}" if isinstance(value, float) and value < 100 else value
            print(f"  {name:<44} {shown if not isinstance(shown, float) else f'{shown:,.0f}'}")
    if options.json:
        write_text(options.json, json.dumps(found | {"machine": machine}, indent=2) + "\n")


if __name__ == "__main__":
    main()
