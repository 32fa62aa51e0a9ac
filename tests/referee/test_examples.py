"""Examples in the referee's docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["simulator", "instrument"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"benchmarks.referee.{name}"))
    assert found.attempted > 0
    assert found.failed == 0
