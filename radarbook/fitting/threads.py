"""Work that is shared out to threads, each of which works alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor


def each(make: Callable[[int], Tensor], count: int, threads: int) -> list[Tensor]:
    """``make`` of 0 … count - 1, shared out to so many threads where no gradient is wanted.

    Each thread works alone: arrays that fit a cache are too small to be shared, and threads that
    wait for each other in every operation come to a stand where another program wants a core.
    """
    if threads < 2 or count < 2 or torch.is_grad_enabled():
        with single_thread():
            return [make(b) for b in range(count)]

    def alone(b: int) -> Tensor:
        with torch.no_grad():
            return make(b)

    with ThreadPoolExecutor(
        min(threads, count), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        return list(pool.map(alone, range(count)))


@contextmanager
def single_thread() -> Iterator[None]:
    """Torch's operations in this thread alone, for a while; with gradients as they are."""
    known = torch.get_num_threads()
    if torch.is_grad_enabled():
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(known)
