"""Child processes that end with their parent and leave Ctrl-C to it."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

#: How long a child may take to end in order.
END_SECONDS = 10.0


@contextmanager
def children_ignore_interrupts() -> Iterator[None]:
    """Processes and threads started inside the block never see Ctrl-C.

    A terminal sends it to every process of a command. Only the parent should act on it: it stops
    its children in order, and they write no tracebacks of their own. An interrupt during the block
    reaches the parent at its end.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    # Its start would unblock the signal again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def children_end_when_interrupted() -> Iterator[None]:
    """Terminate the processes started inside the block if it ends with an interrupt.

    Those that do not end within :data:`END_SECONDS` are killed.
    """
    before = set(multiprocessing.active_children())
    try:
        yield
    except KeyboardInterrupt:
        children = set(multiprocessing.active_children()) - before
        for child in children:
            child.terminate()
        end = time.monotonic() + END_SECONDS
        for child in children:
            child.join(max(0.0, end - time.monotonic()))
            if child.is_alive():
                child.kill()
        raise


def exit_when_terminated() -> None:
    """Let SIGTERM end this process in order: with its own children, files and semaphores."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had (Python's, NumPy's, torch's, CUDA's)."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )
