"""Progress in a terminal, in a log and in a notebook."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest

from radarbook import progress
from radarbook.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_terminal_shows_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for _ in Progress(range(3), "image", "piece"):
        pass
    text = sys.stderr.getvalue()
    assert "image: 100%" in text
    assert "3/3" in text
    assert "\r" in text


def test_log_gets_a_line_every_half_minute(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(2000, "generate", "image", done=80) as shown:
        for _ in range(100):
            clock.now += 1.0
            shown.update()
        shown.note(loss=0.5)
    assert sys.stderr.getvalue().splitlines() == [
        "generate: 110 of 2000 images (5 %), 30 s, about 31 min 30 s left",
        "generate: 140 of 2000 images (7 %), 1 min 00 s, about 31 min 00 s left",
        "generate: 170 of 2000 images (8 %), 1 min 30 s, about 30 min 30 s left",
        "generate: 180 of 2000 images (9 %), 1 min 40 s, about 30 min 20 s left, loss=0.5",
    ]


def test_log_of_short_work_stays_empty_but_for_whole_lines(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(None, "search", "start") as shown:
        shown.update(5)
        clock.now += 29.0
        shown.update()
        progress.write_line("a line that stays")
    assert sys.stderr.getvalue() == "a line that stays\n"


def test_unknown_total_counts(monkeypatch, clock):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Progress(None, "search") as shown:
        clock.now += 31.0
        shown.update()
    assert sys.stderr.getvalue().splitlines() == ["search: 1 step, 31 s"] * 2


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_nothing_is_shown_unasked(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    assert list(Progress(iter("ab"), "image", shown=False)) == ["a", "b"]
    assert sys.stderr.getvalue() == ""


def test_a_number_cannot_be_iterated_over():
    with pytest.raises(TypeError, match="found a number"):
        list(Progress(3, "image", shown=False))


def test_notebook_keeps_one_plain_text_and_no_widget():
    from nbclient import NotebookClient

    from radarbook.book.kernel import file_sockets

    source = (
        "from radarbook import progress\n"
        "progress.NOTEBOOK_SECONDS = 0.0\n"
        "for _ in progress.Progress(range(4), 'fit'):\n"
        "    pass\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with tempfile.TemporaryDirectory() as folder:
        manager = file_sockets(Path(folder))
        NotebookClient(notebook, timeout=60, kernel_manager_class=manager).execute()
    [output] = notebook.cells[0].outputs
    assert output.data == {"text/plain": "fit: 4 of 4 steps (100 %), 0 s"}
    assert output.metadata == progress.PROGRESS_MARK
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.7, "1 min 00 s"), (500, "8 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text
