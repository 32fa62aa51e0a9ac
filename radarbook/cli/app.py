"""The application that the commands join, and its entry point."""

from __future__ import annotations

import sys

import typer

from radarbook.errors import InputError

app = typer.Typer(
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
    """Entry point: one clear line and exit status 2 for bad input; ``--debug`` for a traceback."""
    debug = "--debug" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    try:
        app(args=arguments, prog_name="radarbook")
    except (InputError, OSError) as error:
        if debug:
            raise
        typer.echo(f"radarbook: {' '.join(str(error).split())}", err=True)
        sys.exit(2)
