"""Ctrl-C and SIGTERM, sent to real processes as a terminal and a batch system do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer

from radarbook import processes
from radarbook.cli.interrupts import Interrupted, interruptible, signals_interrupt
from radarbook.processes import children_ignore_interrupts

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def _signals_as_in_a_terminal():
    """Also where the tests run in the background, or after a hang-up, and some are ignored."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_end_a_command_with_one_line_and_their_status(name, capsys):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with (  # noqa: PT012
        pytest.raises(typer.Exit) as end,
        signals_interrupt(),
        interruptible("two chapters are kept"),
    ):
        os.kill(os.getpid(), number)
        time.sleep(5)
    assert end.value.exit_code == 128 + number
    assert capsys.readouterr().err.strip() == "radarbook: interrupted; two chapters are kept"
    assert signal.getsignal(number) == before


def test_a_library_that_swallows_interrupts_while_it_is_imported_does_not(tmp_path, monkeypatch):
    (tmp_path / "swallowing.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.2)\n"
        "except BaseException:\n"
        "    raise SystemExit('interrupted too early')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Interrupted), signals_interrupt():  # noqa: PT012
        import swallowing  # noqa: F401

        time.sleep(5)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_do_not_see_a_terminals_interrupt():
    with children_ignore_interrupts():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3); print(7)"])
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=30) == 0


GENERATE = """
import sys
from radarbook.cli import main
from radarbook.datasets import synthetic
from tests.datasets.fake_renderer import spec

if __name__ == "__main__":
    synthetic.physical_spec = lambda *_: spec(seconds=0.2)
    sys.argv[1:] = ["generate", "--profile", "smoke", "--count", "60", *sys.argv[1:]]
    main()
"""


def processes_of(session: int) -> list[str]:
    """What still runs in a session, without the zombies that only wait for their parent."""
    listed = subprocess.run(
        ["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [args for sid, state, args in rows if int(sid) == session and state[0] != "Z"]


@pytest.mark.parametrize(
    ("workers", "number", "to_group"),
    [("1", signal.SIGINT, True), ("0", signal.SIGTERM, False)],
    ids=["ctrl-c-with-workers", "sigterm-without"],
)
def test_an_interrupted_generation_keeps_its_shards_and_leaves_no_process(
    tmp_path, workers, number, to_group
):
    folder, script = tmp_path / "set", tmp_path / "generate.py"
    script.write_text(GENERATE)
    run = subprocess.Popen(
        [sys.executable, script, "-o", folder, "--workers", workers],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a shell gives a command of a terminal its own group
    )
    wait_until(lambda: list(folder.glob("shard-*.h5")) or run.poll() is not None)
    (os.killpg if to_group else os.kill)(run.pid, number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 128 + number
    *before, last = said.splitlines()
    assert last == (
        f"radarbook: interrupted; finished shards are kept in {folder}, the same command goes on"
    )
    assert all(line.startswith("dask dashboard") for line in before)
    assert list(folder.glob("shard-*.h5"))
    wait_until(lambda: processes_of(run.pid) == [], 10)


def test_children_end_in_order_and_stubborn_ones_are_killed(monkeypatch):
    context = multiprocessing.get_context("fork")
    orderly = context.Process(target=_sleep_until_terminated)
    stubborn = context.Process(target=_ignore_termination)
    monkeypatch.setattr(processes, "END_SECONDS", 1.0)
    with pytest.raises(KeyboardInterrupt), processes.children_end_when_interrupted():  # noqa: PT012
        orderly.start()
        stubborn.start()
        time.sleep(0.5)
        raise KeyboardInterrupt
    stubborn.join(10)
    assert orderly.exitcode == 128 + signal.SIGTERM
    assert stubborn.exitcode == -signal.SIGKILL


def _sleep_until_terminated() -> None:
    processes.exit_when_terminated()
    time.sleep(60)


def _ignore_termination() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
