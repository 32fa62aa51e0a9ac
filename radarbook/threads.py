"""Work divided among threads of our own, each of which computes alone.

Torch divides one operation among the threads of an OpenMP team, which wait for each other at its
end. If another program is busy, a thread of the team is often not running, and each of thousands of
small operations then waits for the scheduler: an image took up to 80 times as long. Here an
operation has one thread, and the threads of a small pool take pieces of work that last
milliseconds. A piece does not depend on the number of threads, so neither does the result.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

T = TypeVar("T")

_local = threading.local()


def allowed() -> int:
    """Number of threads for divided work here: torch's own number.

    1 inside a piece of divided work. :func:`alone` does not change it.
    """
    given: int | None = getattr(_local, "threads", None)
    return torch.get_num_threads() if given is None else given


@contextmanager
def alone(divided: int | None = None) -> Iterator[None]:
    """Torch's operations in this thread alone; :func:`divide` still uses all allowed threads.

    With ``divided``, :func:`divide` uses so many; 1 leaves all work to this thread. May be
    nested, and used as a decorator: ``@alone()``.

    Examples
    --------
    >>> with alone(divided=1):
    ...     torch.get_num_threads(), allowed()
    (1, 1)
    """
    outer: int | None = getattr(_local, "threads", None)
    known = torch.get_num_threads()
    _local.threads = divided or (known if outer is None else outer)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(known)
        _local.threads = outer


def divide(work: Callable[[int], T], count: int, most: int | None = None) -> Iterator[T]:
    """``work(0)`` … ``work(count - 1)`` in order, computed by the allowed threads.

    Parameters
    ----------
    work
        Called without gradients, each call in one thread. Torch's operations in it have one
        thread, too.
    count : int
        Number of pieces. A piece should last milliseconds.
    most : int, optional
        Threads at most, for work that needs memory.

    If gradients are recorded, all pieces run in the calling thread, with its gradients. An
    error in a piece is raised here, and pieces that have not begun are dropped.
    """
    threads = min(allowed(), count, count if most is None else max(1, most))
    if threads < 2 or torch.is_grad_enabled():
        for n in range(count):
            yield work(n) if torch.is_grad_enabled() else _alone(work, n)
        return
    pieces: deque[Future[T]] = deque(Future() for _ in range(count))
    taker = _Taker(work, list(pieces))
    pool = _pool(allowed())
    for _ in range(threads):
        pool.submit(taker.run)
    try:
        while pieces:
            yield pieces.popleft().result()
    finally:
        taker.stop()


def _alone(work: Callable[[int], T], n: int) -> T:
    with alone():
        return work(n)


class _Taker(Generic[T]):
    """Pieces that threads take one after another, each the next that has not begun."""

    def __init__(self, work: Callable[[int], T], pieces: list[Future[T]]) -> None:
        self.work = work
        self._waiting = deque(enumerate(pieces))

    def run(self) -> None:
        """Take pieces until none is left."""
        with torch.no_grad():
            while True:
                try:
                    n, piece = self._waiting.popleft()
                except IndexError:
                    return
                try:
                    piece.set_result(self.work(n))
                except BaseException as error:  # raised when the result is read
                    piece.set_exception(error)

    def stop(self) -> None:
        """Begin no more pieces."""
        self._waiting.clear()


_pools: list[tuple[int, ThreadPoolExecutor]] = []
_lock = threading.Lock()


def _pool(threads: int) -> ThreadPoolExecutor:
    """The pool, of at least ``threads`` threads."""
    with _lock:
        if not _pools or _pools[-1][0] < threads:
            made = ThreadPoolExecutor(threads, "radarbook", initializer=_begin)
            _pools.append((threads, made))
        return _pools[-1][1]


def _begin() -> None:
    _local.threads = 1
    torch.set_num_threads(1)


def _forget() -> None:
    """A forked process has none of its parent's threads."""
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
