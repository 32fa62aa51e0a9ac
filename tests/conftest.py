"""What every test can rely on: its random draws and its threads are its own."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from radarbook import cli
from radarbook.seeds import stream_key

#: A command line: its exit status, its output and what it says on standard error.
Run = Callable[..., tuple[int, str, str]]


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


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``radarbook`` with these arguments, in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["radarbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return call
