"""The application that the commands join, and its entry point."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from radarbook.cli.interrupts import interruptible, signals_interrupt
from radarbook.errors import InputError, StoppedError
from radarbook.files import explain
from radarbook.processes import out_of_memory

#: Raised by typer where arguments do not fit a command; typer exports only its subclass.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Commands(TyperGroup):
    """Commands that end in one line when arguments are wrong or the user interrupts them.

    A command that keeps finished work states that itself (:func:`interruptible`).
    """

    def make_context(self, *args: Any, **extra: Any) -> Any:
        with _usage_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        with interruptible(), _usage_in_one_line():
            return super().invoke(ctx)


@contextlib.contextmanager
def _usage_in_one_line() -> Iterator[None]:
    """Wrong arguments are bad input like any other. A group without arguments shows its help."""
    try:
        yield
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        command = error.ctx.command_path if error.ctx is not None else "radarbook"
        reason = error.format_message().rstrip(". \n")
        raise InputError(f"{reason}; {command} --help lists what fits") from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D faces from millimetre-wave radar images: notebooks, library and tools.",
)
model_app = typer.Typer(no_args_is_help=True, help="Face models: info, build, convert, export.")
train_app = typer.Typer(no_args_is_help=True, help="Train a network on a generated dataset.")
book_app = typer.Typer(no_args_is_help=True, help="The published book.")
recording_app = typer.Typer(no_args_is_help=True, help="Recordings of any radar.")
app.add_typer(model_app, name="model")
app.add_typer(train_app, name="train")
app.add_typer(book_app, name="book")
app.add_typer(recording_app, name="recording")


def main() -> None:
    """Entry point: one clear line and exit status 2 for bad input; ``--debug`` for a traceback.

    A full or read-only disk and too little memory have exit status 2, too. Long work that could
    not go on has exit status 1, an interrupt 130 (SIGTERM: 143).
    """
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    with _own_streams(), signals_interrupt():
        try:
            app(args=arguments, prog_name="radarbook")
        except (InputError, OSError, MemoryError, RuntimeError) as error:
            line = _line(error)
            if debug or line is None:
                raise
            typer.echo(f"radarbook: {' '.join(line.split())}", err=True)
            sys.exit(1 if isinstance(error, StoppedError) else 2)


def _line(error: Exception) -> str | None:
    """The message of an error; None for a defect, which keeps its traceback."""
    if isinstance(error, InputError | StoppedError):
        return str(error)
    if isinstance(error, OSError):
        return explain(error)
    if out_of_memory(error):
        return "not enough memory; fewer pixels, modes or workers need less"
    return None


@contextlib.contextmanager
def _own_streams() -> Iterator[None]:
    """Warnings are one line; characters that the terminal cannot show are escaped."""

    def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is UserWarning:
            typer.echo(f"radarbook: {' '.join(str(message).split())}", err=True)
        else:
            original(message, category, *rest, **more)

    output, original = sys.stdout, warnings.showwarning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = note
    try:
        yield
    finally:
        warnings.showwarning, sys.stdout = original, output
