"""Ctrl-C and a request to end: one line, what is kept, and the exit status that shells expect."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

#: Signals that end a command. SIGHUP comes when the terminal is closed.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
#: A signal that is repeated within this time is the same request: ``timeout`` and some terminals
#: send it twice.
_REPEAT_SECONDS = 2.0
#: How often to look whether an import has ended.
_IMPORT_SECONDS = 0.05


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; ``status`` is the exit status for it (128 + number)."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP raise :class:`Interrupted` inside the block.

    So files are closed, and workers and kernels stopped, whichever signal it was. A second signal
    ends the process at once. Signals that are ignored (``nohup``) stay ignored. An import is not
    interrupted: some libraries swallow the error there, and the command would go on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[tuple[int, float]] = []  # the first request: signal, time
    owner = os.getpid()

    def interrupt_after_imports(_: int, frame: FrameType | None) -> None:
        if _importing(frame):
            signal.setitimer(signal.ITIMER_REAL, _IMPORT_SECONDS)
        else:
            raise Interrupted(asked[0][0])

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked process: no clean-up of ours is its business
            os._exit(128 + number)
        if not asked:
            asked.append((number, time.monotonic()))
            if not hasattr(signal, "setitimer"):  # Windows
                raise Interrupted(number)
            interrupt_after_imports(number, frame)
        elif time.monotonic() - asked[0][1] > _REPEAT_SECONDS:
            os.write(2, b"radarbook: ended at once\n")
            os._exit(128 + number)

    before = {}
    for name in _SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    if hasattr(signal, "SIGALRM"):
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, interrupt_after_imports)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


@contextmanager
def interruptible(kept: str = "") -> Iterator[None]:
    """End the command with one line when it is interrupted; ``kept`` says what is not lost."""
    try:
        yield
    except KeyboardInterrupt as stop:
        # Clean-up of a library may have replaced our error by its own plain one.
        chain: BaseException | None = stop
        while chain is not None and not isinstance(chain, Interrupted):
            chain = chain.__context__
        status = chain.status if chain is not None else 128 + signal.SIGINT
        line = "radarbook: interrupted" + (f"; {kept}" if kept else "")
        typer.echo(f"\n{line}" if _on_terminal() else line, err=True)
        raise typer.Exit(status) from None


def _on_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False
