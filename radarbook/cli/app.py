"""The application that the commands join, and its entry point."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from radarbook.errors import InputError
from radarbook.files import explain


class Commands(TyperGroup):
    """Commands that end in one line when the user interrupts them."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if "--debug" in sys.argv:
                raise
            typer.echo("radarbook: interrupted", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="3D faces from millimetre-wave radar images: notebooks, library and tools.",
)
model_app = typer.Typer(no_args_is_help=True, help="Face models: look, build, convert, export.")
train_app = typer.Typer(no_args_is_help=True, help="Train a network on a generated dataset.")
book_app = typer.Typer(no_args_is_help=True, help="The published book.")
app.add_typer(model_app, name="model")
app.add_typer(train_app, name="train")
app.add_typer(book_app, name="book")


def main() -> None:
    """Entry point: one clear line and exit status 2 for bad input; ``--debug`` for a traceback.

    So end a disk that is full or read-only and memory that does not suffice, too. An interrupt
    has exit status 130.
    """
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    with _own_streams():
        try:
            app(args=arguments, prog_name="radarbook")
        except (InputError, OSError, MemoryError, RuntimeError) as error:
            line = _line(error)
            if debug or line is None:
                raise
            typer.echo(f"radarbook: {' '.join(line.split())}", err=True)
            sys.exit(2)


def _line(error: Exception) -> str | None:
    """What to say of an error; None for a defect, which keeps its traceback."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        return explain(error)
    # torch has no class of its own for a processor's memory.
    short = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if short or "can't allocate memory" in str(error):
        return "not enough memory; fewer pixels, modes or workers need less"
    return None


@contextlib.contextmanager
def _own_streams() -> Iterator[None]:
    """Warnings as one line; names of files that the terminal cannot show are escaped."""

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
