"""Named random streams: every sample in the project comes from one of these.

A stream is fixed by ``(seed, name, index)`` alone, so sample ``i`` of a dataset is the same
whoever computes it, in whatever order, on any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream_key(seed: int, name: str, index: int = 0) -> int:
    """A 63-bit integer that depends on ``(seed, name, index)`` alone.

    SHA-256 rather than arithmetic on the seed: streams of neighbouring seeds or indices share
    nothing, and the value is the same on every platform and Python version.
    """
    digest = hashlib.sha256(f"{int(seed)}/{name}/{int(index)}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def numpy_stream(seed: int, name: str, index: int = 0) -> np.random.Generator:
    """A NumPy generator for the named stream."""
    return np.random.default_rng(stream_key(seed, name, index))


def torch_stream(seed: int, name: str, index: int = 0) -> torch.Generator:
    """A CPU ``torch.Generator`` for the named stream (sample on the CPU, then move).

    Examples
    --------
    >>> import torch
    >>> first, again = (torch.rand(3, generator=torch_stream(0, "a name")) for _ in range(2))
    >>> bool((first == again).all())
    True
    """
    return torch.Generator().manual_seed(stream_key(seed, name, index))
