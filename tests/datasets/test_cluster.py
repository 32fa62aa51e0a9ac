"""Generation by several processes: the same bits, also when a worker or the whole run is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from radarbook.datasets import workers
from radarbook.datasets.synthetic import generate
from radarbook.errors import InputError
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


@pytest.mark.slow
def test_a_killed_run_leaves_no_workers_and_is_finished_by_the_next(tmp_path, alone):
    folder = tmp_path / "set"
    script = tmp_path / "run.py"
    script.write_text(
        "from radarbook.datasets.synthetic import generate\n"
        "from tests.datasets.fake_renderer import spec\n"
        "if __name__ == '__main__':\n"
        f"    generate({str(folder)!r}, spec(seconds=0.1), 60, 9, workers=2, shard_size=5)\n"
    )
    root = str(Path(__file__).parents[2])
    run = subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its workers are in its process group
    )
    deadline = time.monotonic() + 60
    while len(list(folder.glob("shard-*.h5"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    _, said = run.communicate(timeout=30)  # the pipe ends when the last worker has gone
    assert "dashboard: http://127.0.0.1:" in said
    report = generate(folder, spec(), 60, 9, **OPTIONS)
    assert 10 <= report.kept < 60
    assert fingerprints(folder) == alone
