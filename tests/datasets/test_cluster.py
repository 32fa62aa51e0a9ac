"""Generation by several processes: the same bits, also when a worker or the whole run is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import radarbook.cluster as cluster_module
from radarbook.cluster import _failures as failures_of
from radarbook.datasets import workers
from radarbook.datasets.distribution import random_parameters
from radarbook.datasets.synthetic import generate
from radarbook.errors import InputError, StoppedError
from tests.datasets.fake_renderer import FakeRenderer, spec
from tests.datasets.test_generation import fingerprints

OPTIONS = {"shard_size": 5, "progress": False}


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "set"
    generate(folder, FakeRenderer(), 60, 9, **OPTIONS)
    return fingerprints(folder)


def test_a_running_scheduler_makes_the_same_bits(tmp_path, cluster, alone):
    report = generate(
        tmp_path, spec(seconds=0.01), 60, 9, scheduler=cluster.scheduler_address, **OPTIONS
    )
    assert report.made == 60
    assert report.render_seconds > 0.6
    assert fingerprints(tmp_path) == alone


def test_a_lost_worker_costs_its_shard_only(tmp_path, cluster, alone):
    trap = tmp_path / "trap"
    trap.touch()
    renderer = spec(seconds=0.01, dies_once=str(trap))
    folder = tmp_path / "set"
    # The spec is built here too, but rendered only by the workers: one of them dies by SIGKILL.
    generate(folder, renderer, 60, 9, scheduler=cluster.scheduler_address, **OPTIONS)
    assert not trap.exists()
    assert fingerprints(folder) == alone


def test_a_worker_with_other_code_is_refused(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(workers, "source_digest", lambda *_: "other")
    with pytest.raises(InputError, match=r"worker on .* \(other\), found .* the same radarbook"):
        generate(tmp_path, spec(), 60, 9, scheduler=cluster.scheduler_address, **OPTIONS)
    assert not list(tmp_path.glob("shard-*"))


def farthest(samples: int) -> float:
    """Just less than the largest sideways place of the first samples: one face is beyond it."""
    places = random_parameters(range(60), 9).translation[:samples, 0]
    return float(places.max()) - 1e-6


def test_a_shard_that_kills_every_worker_stops_with_one_line(
    tmp_path, cluster, alone, monkeypatch, caplog
):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    deadly = spec(fails_beyond=farthest(60), failure="killed")
    with pytest.raises(StoppedError, match=r"^samples \d+ to \d+: 1 workers were killed") as stop:
        generate(tmp_path, deadly, 60, 9, scheduler=cluster.scheduler_address, **OPTIONS)
    assert "the same command goes on" in str(stop.value)
    assert "\n" not in str(stop.value)
    there = len(list(tmp_path.glob("shard-*.h5")))
    # The command is repeated on a machine with more memory.
    report = generate(tmp_path, spec(), 60, 9, **OPTIONS)
    assert report.kept == 5 * there < 60
    assert fingerprints(tmp_path) == alone


def test_a_worker_without_memory_is_one_line(tmp_path, cluster):
    greedy = spec(fails_beyond=farthest(60), failure="[enforce fail] can't allocate memory")
    with pytest.raises(StoppedError, match=r"samples .* ran out of memory .* with fewer workers"):
        generate(tmp_path, greedy, 60, 9, scheduler=cluster.scheduler_address, **OPTIONS)


@pytest.mark.parametrize(
    ("address", "why"),
    [("tcp://127.0.0.1:9", "Timed out"), ("nonsense://here", "unknown address scheme")],
)
def test_a_scheduler_that_cannot_be_reached_is_one_line(tmp_path, monkeypatch, address, why):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=f"scheduler '{address}': expected .*{why}"):
        generate(tmp_path, spec(), 60, 9, scheduler=address, **OPTIONS)


def test_an_empty_address_is_not_taken_for_none(tmp_path):
    with pytest.raises(InputError, match=r"scheduler: expected an address .* found an empty one"):
        generate(tmp_path, spec(), 60, 9, scheduler=" ", **OPTIONS)


def test_a_count_beyond_reason_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="count: expected at most 100000000 samples"):
        generate(tmp_path, spec(), 10**12, 9, **OPTIONS)


def failures() -> list[tuple[BaseException, type[Exception], str]]:
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    lost = "scheduler 'tcp://a:1': the connection was lost"
    memory = "samples 5 to 9: a worker ran out of memory"
    return [
        (FutureCancelledError("key", "lost"), StoppedError, lost),
        (CommClosedError("gone"), StoppedError, lost),
        (MemoryError("Unable to allocate 4 GiB"), StoppedError, memory),
        (RuntimeError("CUDA out of memory. Tried"), StoppedError, memory),
        (ModuleNotFoundError("No module named 'x'"), InputError, "cannot import"),
        (ZeroDivisionError("a defect"), ZeroDivisionError, "a defect"),
    ]


@pytest.mark.parametrize(
    ("error", "kind", "words"), failures(), ids=lambda value: type(value).__name__
)
def test_failures_of_a_shard_are_named(error, kind, words):
    with pytest.raises(kind, match=words), failures_of("samples 5 to 9", "tcp://a:1", "kept"):
        raise error


@pytest.mark.slow
def test_a_killed_run_leaves_no_workers_and_is_finished_by_the_next(tmp_path, alone):
    folder = tmp_path / "set"
    script = tmp_path / "run.py"
    script.write_text(
        "from radarbook.datasets.synthetic import generate\n"
        "from tests.datasets.fake_renderer import spec\n"
        "if __name__ == '__main__':\n"
        f"    renderer = spec(stops_at={str(folder)!r})\n"
        f"    generate({str(folder)!r}, renderer, 60, 9, workers=2, shard_size=5)\n"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers are in its process group
    )
    while len(list(folder.glob("shard-*.h5"))) < 2:
        assert run.poll() is None, "ended before its second shard"
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    _, said = run.communicate(timeout=600)  # the pipe ends when the last worker has gone
    assert "dashboard: http://127.0.0.1:" in said
    report = generate(folder, spec(), 60, 9, **OPTIONS)
    assert 10 <= report.kept < 60
    assert fingerprints(folder) == alone
