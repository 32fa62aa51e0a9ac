"""What every test can rely on: its random draws and its threads are its own."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from radarbook.seeds import stream_key


@pytest.fixture(autouse=True)
def _own_draws_and_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Global generators depend on the test's name alone, not on which tests ran before it in the
    same process; a number of threads that a test sets does not reach the next one."""
    key = stream_key(0, request.node.nodeid)
    torch.manual_seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002
    random.seed(key)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
