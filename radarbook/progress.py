"""One progress display for all long work: a bar, lines, or a text that is updated in place.

A terminal gets a bar. Where no line can be redrawn (a log file, a pipe), a plain line is written
every half minute, so short work leaves no line at all. In a notebook the progress is plain text
that is updated in place: a widget would be saved with the notebook, and a page with a widget asks
other servers for scripts.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

#: Seconds between two lines of a log, and between two updates of a notebook's text.
LOG_SECONDS, NOTEBOOK_SECONDS = 30.0, 1.0
#: Metadata of a notebook's output that shows progress, so that a page can leave it out.
PROGRESS_MARK = {"radarbook": {"progress": True}}


class Progress:
    """Progress of long work, on standard error or in the running notebook.

    Use it as a context manager and call :meth:`update`, or iterate over it::

        with Progress(len(samples), "generate", "image") as progress:
            for sample in samples:
                ...
                progress.update()

        for piece in Progress(pieces, "image", "piece"):
            ...

    Parameters
    ----------
    work : int, iterable or None
        Number of units in all, what to iterate over, or None where the number is unknown.
    name : str
        Name of the work; it comes first in the bar or line.
    unit : str
        One unit of the work, in the singular.
    shown : bool
        False shows nothing at all.
    done : int
        Units that were done before (a resumed run); they do not count for the speed.
    leave : bool
        Whether the finished bar stays in a terminal.
    """

    def __init__(
        self,
        work: int | Iterable[Any] | None,
        name: str,
        unit: str = "step",
        *,
        shown: bool = True,
        done: int = 0,
        leave: bool = True,
    ) -> None:
        self._items = work if isinstance(work, Iterable) else None
        total = work if isinstance(work, int) else None
        if isinstance(work, Sized):
            total = len(work)
        self._display = _display(total, name, unit, done, leave) if shown else _Nothing()

    def update(self, count: int = 1) -> None:
        """``count`` more units are done."""
        self._display.update(count)

    def note(self, **values: Any) -> None:
        """Show ``name=value`` behind the progress from the next update on."""
        self._display.note(", ".join(f"{name}={value}" for name, value in values.items()))

    def close(self) -> None:
        """End the display; more calls do nothing."""
        self._display.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        if self._items is None:
            raise TypeError("progress: expected something to iterate over, found a number")
        with self:
            for item in self._items:
                yield item
                self.update()


class _Bar(tqdm):
    # tqdm's own lock is shared with forked processes: one that is killed while it writes would stop
    # all others for ever.
    _lock = threading.RLock()


def write_line(text: str) -> None:
    """Write a whole line to standard error, above whatever bars are shown there."""
    if sys.stderr is not None:
        _Bar.write(text, file=sys.stderr)
        sys.stderr.flush()


class _Display(Protocol):
    def update(self, count: int) -> None: ...
    def note(self, text: str) -> None: ...
    def close(self) -> None: ...


def _display(total: int | None, name: str, unit: str, done: int, leave: bool) -> _Display:
    text = _Text(total, name, unit, done)
    if _in_notebook():
        return _Notebook(text)
    if sys.stderr is not None and sys.stderr.isatty():
        return _Terminal(total, name, unit, done, leave)
    return _Log(text)


def _in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    # Only a kernel has IPython's shell with a kernel; importing IPython to ask would take long.
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    return hasattr(shell, "kernel")


class _Nothing:
    def update(self, count: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Terminal:
    """tqdm's bar on standard error."""

    def __init__(self, total: int | None, name: str, unit: str, done: int, leave: bool) -> None:
        self._bar = _Bar(
            total=total, initial=done, desc=name, unit=unit, leave=leave, dynamic_ncols=True
        )

    def update(self, count: int) -> None:
        self._bar.update(count)

    def note(self, text: str) -> None:
        self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        self._bar.close()


class _Text:
    """Progress as one line of text."""

    def __init__(self, total: int | None, name: str, unit: str, done: int) -> None:
        self.total, self.name, self.unit = total, name, unit
        self.before = self.done = done
        self.extra = ""
        self.began = time.monotonic()

    def line(self) -> str:
        """``generate: 120 of 2000 images (6 %), 30 s, about 8 min left``."""
        elapsed = time.monotonic() - self.began
        made = self.done - self.before
        if self.total is None:
            parts = [f"{self.name}: {_counted(self.done, self.unit)}", duration(elapsed)]
        else:
            share = 100 * self.done // max(1, self.total)
            many = f"{self.done} of {_counted(self.total, self.unit)} ({share} %)"
            parts = [f"{self.name}: {many}", duration(elapsed)]
            if made > 0 and self.done < self.total:
                parts.append(f"about {duration(elapsed * (self.total - self.done) / made)} left")
        return ", ".join([*parts, self.extra] if self.extra else parts)


class _Log:
    """A plain line every :data:`LOG_SECONDS`, and a last one where there was a first."""

    def __init__(self, text: _Text) -> None:
        self._text = text
        self._last = text.began
        self._written = self._closed = False

    def update(self, count: int) -> None:
        self._text.done += count
        if time.monotonic() - self._last >= LOG_SECONDS:
            self._say()

    def note(self, text: str) -> None:
        self._text.extra = text

    def close(self) -> None:
        if self._written and not self._closed:
            self._say()
        self._closed = True

    def _say(self) -> None:
        self._last, self._written = time.monotonic(), True
        write_line(self._text.line())


class _Notebook:
    """Plain text below the running cell, updated in place."""

    def __init__(self, text: _Text) -> None:
        self._text = text
        self._handle: Any = None
        self._last = float("-inf")
        self._closed = False

    def update(self, count: int) -> None:
        self._text.done += count
        if time.monotonic() - self._last >= NOTEBOOK_SECONDS:
            self._show()

    def note(self, text: str) -> None:
        self._text.extra = text

    def close(self) -> None:
        if self._handle is not None and not self._closed:
            self._show()
        self._closed = True

    def _show(self) -> None:
        from IPython.display import display

        self._last = time.monotonic()
        data = {"text/plain": self._text.line()}
        if self._handle is None:
            self._handle = display(data, raw=True, metadata=PROGRESS_MARK, display_id=True)
        else:
            self._handle.update(data, raw=True, metadata=PROGRESS_MARK)


def duration(seconds: float) -> str:
    """``41 s``, ``8 min 20 s`` or ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
