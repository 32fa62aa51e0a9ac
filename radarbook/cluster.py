"""Independent tasks by local processes or by any dask scheduler's workers.

A worker calls one function; only the process that asked for it keeps what is returned.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from radarbook.errors import InputError, StoppedError
from radarbook.processes import children_ignore_interrupts, out_of_memory
from radarbook.progress import write_line

K = TypeVar("K")

#: How long to try to reach a scheduler, and to say goodbye to one.
CONNECT_SECONDS, CLOSE_SECONDS = 20, 5


def require_workers(workers: int | None, scheduler: str | None) -> None:
    """Raise :class:`~radarbook.errors.InputError` for a negative number of workers, for an empty
    address, and for both a number and an address."""
    if workers and scheduler:
        raise InputError("expected --workers or --scheduler, found both")
    if scheduler is not None and not scheduler.strip():
        raise InputError(
            "scheduler: expected an address such as tcp://host:8786, found an empty one"
        )
    if workers is not None and workers < 0:
        raise InputError(f"workers: expected 0 or more, found {workers}")


def require_code(wanted: str, found: str) -> None:
    """In a worker: raise :class:`~radarbook.errors.InputError` if its code is not that of the
    process that asks."""
    if found != wanted:
        raise InputError(
            f"worker on {socket.gethostname()}: expected the code of the process that writes "
            f"({wanted}), found {found}: install the same radarbook there"
        )


def on_cluster(
    function: Callable[..., Any],
    tasks: Iterable[tuple[K, tuple[Any, ...]]],
    named: Callable[[K], str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    finished: str = "tasks",
) -> Iterator[tuple[K, Any]]:
    """Call ``function`` for every task with dask.distributed; results as they finish.

    Parameters
    ----------
    function : callable
        Importable by name.
    tasks : iterable of (key, arguments)
        Taken when a worker will soon need one, so arguments may be made only then.
    named : callable
        What the task of a key is called in an error.
    workers : int, optional
        Local processes of one thread each, started here and stopped at the end.
    scheduler : str, optional
        Address of a running one instead.
    finished : str
        What is kept if the work stops, in an error.

    Yields (key, result). A worker that dies has its task repeated by another.

    Raises :class:`~radarbook.errors.InputError` for a scheduler that cannot be reached and for
    workers without this library, :class:`~radarbook.errors.StoppedError` for a task that killed
    four workers, workers without memory and a scheduler that was lost.
    """
    import dask
    from distributed import as_completed

    kept = f"finished {finished} are kept, the same command goes on"
    # A task may hold a recording, of some ten megabytes.
    large = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GB"})
    with _quiet_logs(), large, _client(workers, scheduler) as client:
        waiting = iter(tasks)
        keys: dict[Any, K] = {}
        futures = as_completed(with_results=False)

        def submit_next() -> None:
            for key, arguments in waiting:
                future = client.submit(function, *arguments, pure=False)
                keys[future.key] = key
                futures.add(future)
                return

        # A few tasks ahead of every worker: finished ones do not pile up before they are written.
        for _ in range(4 * max(1, sum(client.nthreads().values()))):
            submit_next()
        for future in futures:
            key = keys.pop(future.key)
            with _failures(named(key), scheduler, kept):
                result = future.result()
            yield key, result
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
def _failures(task: str, scheduler: str | None, kept: str) -> Iterator[None]:
    """Say in one line why a task could not be done; errors of our own code pass."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        times = error.allowed_failures + 1
        raise StoppedError(
            f"{task}: {times} workers were killed one after another while working on them, "
            f"often because memory ran out; {kept}, with fewer workers if memory is short"
        ) from None
    except ImportError as error:
        raise InputError(
            f"{task}: a worker cannot import what it needs ({error}): expected the same "
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
            f"{task}: a worker ran out of memory ({' '.join(str(error).split())}); {kept}, "
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
