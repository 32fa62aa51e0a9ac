import hashlib
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from radarbook import cluster
from radarbook.datasets import storage, synthetic, workers
from radarbook.datasets.distribution import ParameterDistribution, Splits
from radarbook.datasets.storage import FaceDataset
from radarbook.datasets.synthetic import estimate, generate
from radarbook.errors import InputError
from radarbook.files import PACKAGE
from tests.datasets.fake_renderer import FakeRenderer, spec

# Processes that are killed are forked from this one: they start in milliseconds.
FORK = multiprocessing.get_context("fork")


def fingerprints(folder: Path) -> dict[str, str]:
    """Digest of every file of a finished dataset; temporary files would show."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name not in (".lock", ".lock-owner")
    }


def make(folder: Path, renderer=None, count: int = 40, seed: int = 3, **options):
    options = {"progress": False, "shard_size": 4} | options
    return generate(folder, renderer or FakeRenderer(), count, seed, **options)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "set"
    report = make(folder)
    assert (report.made, report.kept, report.repaired) == (40, 0, ())
    return fingerprints(folder)


def child(target, *arguments) -> multiprocessing.Process:
    process = FORK.Process(target=target, args=arguments)
    process.start()
    return process


# -- the same bits ------------------------------------------------------------------------------


def test_a_second_run_has_nothing_to_do(tmp_path, undisturbed):
    make(tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")}
    report = make(tmp_path)
    assert (report.made, report.kept) == (0, 40)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("[!.]*")} == written
    assert fingerprints(tmp_path) == undisturbed


def test_samples_do_not_depend_on_shards_or_count(tmp_path):
    make(tmp_path / "a", count=40, shard_size=4)
    make(tmp_path / "b", count=23, shard_size=7)
    a = FaceDataset(tmp_path / "a", dynamic_range=-60.0).batch(range(23))
    b = FaceDataset(tmp_path / "b", dynamic_range=-60.0).batch(range(23))
    assert torch.equal(a[1].amplitude_db, b[1].amplitude_db)
    assert torch.equal(a[1].depth, b[1].depth)
    assert torch.equal(a[0].shape, b[0].shape)


def test_samples_are_rendered_on_one_thread(tmp_path):
    class Spy(FakeRenderer):
        def render(self, parameters):
            threads.add(torch.get_num_threads())
            return super().render(parameters)

    threads: set[int] = set()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make(tmp_path, Spy(), count=2)
        assert threads == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_missing_shards_alone_are_made(tmp_path, undisturbed):
    make(tmp_path)
    for number in (0, 7):
        (tmp_path / storage.shard_name(number)).unlink()
    (tmp_path / "index.h5").unlink()
    report = make(tmp_path)
    assert (report.made, report.kept) == (8, 32)
    assert fingerprints(tmp_path) == undisturbed


# -- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards_before", [0, 5])
@pytest.mark.parametrize("moment", ["while writing", "before the rename", "after the rename"])
def test_killed_at_the_worst_moments(tmp_path, undisturbed, moment, shards_before):
    def run() -> None:
        write, rename, done = Path.write_bytes, Path.replace, [0]

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def counted_write(path: Path, data: bytes) -> int:
            if done[0] == shards_before and moment == "while writing":
                write(path, data[: len(data) // 2])
                die()
            return write(path, data)

        def counted_rename(path: Path, target: Path) -> Path:
            if "shard" not in target.name:
                return rename(path, target)
            if done[0] == shards_before and moment == "before the rename":
                die()
            result = rename(path, target)
            if done[0] == shards_before and moment == "after the rename":
                die()
            done[0] += 1
            return result

        Path.write_bytes, Path.replace = counted_write, counted_rename
        make(tmp_path)

    process = child(run)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    whole = shards_before + (moment == "after the rename")
    assert len(list(tmp_path.glob("shard-*.h5"))) == whole
    report = make(tmp_path)
    assert report.kept == 4 * whole
    assert fingerprints(tmp_path) == undisturbed


def test_killed_before_the_index_is_written(tmp_path, undisturbed):
    def run() -> None:
        synthetic.write_index = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        make(tmp_path)

    process = child(run)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    with pytest.raises(InputError, match="finished dataset"):
        FaceDataset(tmp_path)
    assert make(tmp_path).made == 0
    assert fingerprints(tmp_path) == undisturbed


def _killed_after(calls: int, folder: Path) -> None:
    """Make a dataset of 200 and die by SIGKILL at a given number of calls and returns."""
    left = [calls]

    def count(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    make(folder, count=200)


def test_twenty_random_kills_in_a_run_of_200(tmp_path):
    """At moments counted in calls of functions, not in seconds: the same on a busy machine."""
    seen = [0]

    def count(*_: object) -> None:
        seen[0] += 1

    sys.setprofile(count)
    try:
        make(tmp_path / "undisturbed", count=200)
    finally:
        sys.setprofile(None)
    folder, dice, progress = tmp_path / "killed", random.Random(1), [0]
    for _ in range(20):
        # A run also reads what is there already: all twenty together do not finish.
        process = child(_killed_after, dice.randrange(1, seen[0] // 12), folder)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        progress.append(len(list(folder.glob("shard-*.h5"))))
    assert progress == sorted(progress)  # nothing that was whole is lost
    report = make(folder, count=200)
    assert report.kept == 4 * progress[-1]
    assert 0 < report.kept < 200
    assert fingerprints(folder) == fingerprints(tmp_path / "undisturbed")


# -- a full disk --------------------------------------------------------------------------------


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path, undisturbed):
    answer, ask = FORK.Pipe(duplex=False)

    class Filling(FakeRenderer):
        rendered = 0

        def render(self, parameters):
            Filling.rendered += 1
            if Filling.rendered == 10:  # in the third shard: no file may grow beyond 3 kB now
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
            return super().render(parameters)

    def run() -> None:
        try:
            make(tmp_path, Filling())
        except InputError as error:
            ask.send(str(error))

    process = child(run)
    process.join()
    assert process.exitcode == 0
    assert "cannot write: File too large; finished shards are kept" in answer.recv()
    assert sorted(p.name for p in tmp_path.glob("*shard*")) == ["shard-00000.h5", "shard-00001.h5"]
    assert not list(tmp_path.glob(".shard*"))
    assert make(tmp_path).kept == 8
    assert fingerprints(tmp_path) == undisturbed


# -- damaged ------------------------------------------------------------------------------------


def test_damaged_shards_are_named_and_made_again(tmp_path, undisturbed):
    make(tmp_path)
    flipped, cut = tmp_path / "shard-00003.h5", tmp_path / "shard-00006.h5"
    data = bytearray(flipped.read_bytes())
    with h5py.File(flipped) as file:
        data[file["amplitude_db"].id.get_offset() + 77] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:3000])
    (tmp_path / "shard-00008.h5").write_bytes((tmp_path / "shard-00009.h5").read_bytes())
    with pytest.raises(InputError) as error:
        make(tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert "shard-00003.h5: its content does not match its checksum" in message
    assert "shard-00006.h5: it cannot be read" in message
    assert "shard-00008.h5: attribute 'shard'" in message
    assert message.count("shard-") == 3
    report = make(tmp_path, repair=True)
    assert report.repaired == ("shard-00003.h5", "shard-00006.h5", "shard-00008.h5")
    assert report.made == 12
    assert fingerprints(tmp_path) == undisturbed


def test_a_damaged_settings_file(tmp_path, undisturbed):
    make(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset.json: damaged.*--repair"):
        make(tmp_path)
    make(tmp_path, repair=True)
    assert fingerprints(tmp_path) == undisturbed


# -- two runs, other settings -------------------------------------------------------------------


class Held(FakeRenderer):
    """Renders six samples, a shard and a half, and waits for an event before the next."""

    def until(self, event: Any) -> "Held":
        self.left, self.event = 6, event
        return self

    def render(self, parameters):
        if self.left == 0:
            self.event.wait()
        self.left = max(0, self.left - len(parameters))
        return super().render(parameters)


def test_a_second_run_is_refused_or_waits(tmp_path, undisturbed):
    go_on = FORK.Event()
    process = child(make, tmp_path, Held().until(go_on))
    while not list(tmp_path.glob("shard-*.h5")):
        time.sleep(0.01)
    with pytest.raises(InputError, match=f"another run is writing here .process {process.pid} on"):
        make(tmp_path)
    threading.Timer(0.1, go_on.set).start()
    report = make(tmp_path, wait=True)
    process.join()
    assert process.exitcode == 0
    assert report.made == 0
    assert fingerprints(tmp_path) == undisturbed


def test_a_lock_ends_with_its_killed_holder(tmp_path, undisturbed):
    process = child(make, tmp_path, Held().until(FORK.Event()))
    while not list(tmp_path.glob("shard-*.h5")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)  # alive, silent, and in the middle of something
    with pytest.raises(InputError, match="another run"):
        make(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert make(tmp_path).kept > 0
    assert fingerprints(tmp_path) == undisturbed


def test_many_runs_at_once_leave_one_good_dataset(tmp_path, undisturbed):
    def run() -> None:
        make(tmp_path, FakeRenderer(seconds=0.002), wait=True)

    processes = [child(run) for _ in range(4)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert fingerprints(tmp_path) == undisturbed


def test_other_settings_are_refused_with_every_difference(tmp_path):
    make(tmp_path)
    before = fingerprints(tmp_path)
    with pytest.raises(InputError) as error:
        make(
            tmp_path,
            FakeRenderer(width=0.05),
            seed=4,
            distribution=ParameterDistribution(pose_scale=2),
        )
    message = str(error.value)
    assert "\n" not in message
    assert "seed is 3 there, 4 asked" in message
    assert "renderer.fake.width is 0.04 there, 0.05 asked" in message
    assert "distribution.pose_scale is 1.0 there, 2.0 asked" in message
    assert message.count(" asked") == 3
    assert fingerprints(tmp_path) == before


def test_settings_without_images_bind_nobody(tmp_path):
    """A run that fails at once, without its scheduler or without room, leaves its settings."""
    make(tmp_path, seed=4)
    for path in tmp_path.glob("*.h5"):
        path.unlink()
    assert json.loads((tmp_path / "dataset.json").read_text())["settings"]
    make(tmp_path)
    settings = json.loads(json.loads((tmp_path / "dataset.json").read_text())["settings"])
    assert settings["seed"] == 3


def test_other_code_finishes_nothing_but_a_finished_set_stays_good(tmp_path, monkeypatch):
    make(tmp_path)
    monkeypatch.setattr(synthetic, "source_digest", lambda *_: "other")
    assert make(tmp_path).kept == 40
    (tmp_path / "shard-00002.h5").unlink()
    with pytest.raises(InputError, match="begun with other code"):
        make(tmp_path)


def test_other_library_versions_are_said_and_recorded(tmp_path, monkeypatch):
    make(tmp_path)
    (tmp_path / "shard-00002.h5").unlink()
    real = synthetic.versions()
    monkeypatch.setattr(synthetic, "versions", lambda: real | {"torch": "99.0"})
    with pytest.warns(UserWarning, match=r"begun with torch .*going on with 99.0"):
        make(tmp_path)
    with h5py.File(tmp_path / "index.h5") as file:
        makers = [json.loads(text)["torch"] for text in file["shard_versions"][()]]
    assert makers == [real["torch"]] * 2 + ["99.0"] + [real["torch"]] * 7


def test_fingerprint_follows_settings_only(tmp_path):
    def fingerprint(renderer=None, seed=3, **options):
        options = {"shard_size": 4} | options
        settings = synthetic.dataset_settings(renderer or FakeRenderer(), 40, seed, **options)
        return settings.fingerprint

    plain = fingerprint()
    assert plain == fingerprint(FakeRenderer(seconds=1.0)) == make(tmp_path).fingerprint
    others = [
        fingerprint(seed=4),
        fingerprint(FakeRenderer(width=0.05)),
        fingerprint(floor_db=-50.0),
        fingerprint(n_shape=11),
        fingerprint(distribution=ParameterDistribution(images_per_face=2)),
        fingerprint(splits=Splits(test=5, validation=3, train=32)),
        fingerprint(batch=2),
    ]
    assert len({plain, *others}) == 8


# -- bad input ----------------------------------------------------------------------------------


def test_bad_input_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="RendererSpec"):
        make(tmp_path, workers=2)
    with pytest.raises(InputError, match="count"):
        make(tmp_path, count=0)
    with pytest.raises(InputError, match="splits' sum 3, found 5"):
        make(tmp_path, count=5, splits=Splits(test=1, validation=1, train=1))
    with pytest.raises(InputError, match="cannot connect"):
        make(tmp_path, spec(), scheduler="tcp://127.0.0.1:9")


def test_an_image_that_is_not_finite_stops_the_run(tmp_path):
    class Broken(FakeRenderer):
        def render(self, parameters):
            image = super().render(parameters)
            image.depth[0, 3, 3] = torch.nan
            return image

    with pytest.raises(FloatingPointError, match="sample 0"):
        make(tmp_path, Broken())
    assert not list(tmp_path.glob("shard-*"))


# -- beforehand ---------------------------------------------------------------------------------


def test_an_estimate_writes_nothing_and_knows_the_disk(tmp_path):
    renderer = FakeRenderer(pixels=32, seconds=0.01)
    said = estimate(renderer, 200, 3, workers=2, shard_size=10)
    assert not list(tmp_path.iterdir())
    make(tmp_path / "set", FakeRenderer(pixels=32), count=200, shard_size=10)
    used = sum(path.stat().st_size for path in (tmp_path / "set").glob("shard-*"))
    assert said.disk_bytes == pytest.approx(used, rel=0.02)  # HDF5 rounds its blocks
    assert said.seconds_per_sample > 0.01
    assert said.seconds == pytest.approx(said.seconds_per_sample * 100)
    assert said.memory_bytes > 50e6  # a process with torch in it
    assert re.match(r"200 samples: 0 h 0\d min", str(said))


def test_a_shard_is_the_unit_of_work_and_small_sets_have_several(tmp_path):
    sizes = {
        count: synthetic.dataset_settings(FakeRenderer(), count, 0).shard_size
        for count in (1, 72, 200, 10_000)
    }
    assert sizes == {1: 1, 72: 4, 200: 12, 10_000: 50}
    numbers = np.concatenate(
        [list(s) for s in synthetic.dataset_settings(FakeRenderer(), 72, 0).shards().values()]
    )
    assert numbers.tolist() == list(range(72))


def test_the_modules_that_decide_a_sample_are_named() -> None:
    """All that the renderer imports from ``radar``, directly or not, but for the kernels."""
    folder, found, left = PACKAGE / "radar", set(), ["renderer"]
    while left:
        module = left.pop()
        if module in found or module == "kernels":
            continue
        found.add(module)
        text = (folder / f"{module}.py").read_text(encoding="utf-8")
        left += re.findall(r"(?m)^ *from radarbook\.radar\.(\w+)[\w.]* import", text)
        for names in re.findall(r"(?m)^ *from radarbook\.radar import (.+)", text):
            left += [name.split(" as ")[0].strip() for name in names.split(",")]
    assert found <= set(workers.PHYSICS)
    assert "kernels" not in workers.PHYSICS
