"""Commands of the book: versions and needs, execution, build."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from radarbook.cli.app import app, book_app
from radarbook.cli.interrupts import interruptible
from radarbook.cli.options import ProfileName, Set, check
from radarbook.errors import InputError
from radarbook.targets import Target


@app.command()
def info() -> None:
    """Versions, device, and what each profile needs in time, memory and disk."""
    import importlib.metadata
    import platform

    import torch

    from radarbook import __version__
    from radarbook.profiles import NEEDS, PROFILES

    typer.echo(f"radarbook  {__version__}")
    typer.echo(f"python     {platform.python_version()} on {platform.platform()}")
    for package in ("torch", "numpy", "h5py", "plotly", "papermill", "jupyter-book"):
        typer.echo(f"{package:<10} {importlib.metadata.version(package)}")
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        device = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    else:
        device = f"CPU, {torch.get_num_threads()} threads"
    typer.echo(f"device     {device}\n")
    typer.echo(f"{'profile':<8} {'faces':>6} {'pixels':>6}  {'time':<28} {'memory':<8} disk")
    for name, profile in PROFILES.items():
        faces = profile.train + profile.validation + profile.test
        need = NEEDS[name]
        typer.echo(
            f"{name:<8} {faces:>6} {profile.pixels:>6}  "
            f"{need['time']:<28} {need['memory']:<8} {need['disk']}"
        )


@app.command()
def run(
    profile: ProfileName = "smoke",
    chapters: Annotated[
        str | None, typer.Option(help="Numbers, such as 1-7 or 2,4-5; default all.")
    ] = None,
    parameter: Set = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; default build/PROFILE.")
    ] = None,
    force: Annotated[
        bool, typer.Option(help="Also execute notebooks that are up to date.")
    ] = False,
) -> None:
    """Execute the notebooks in order; unchanged ones are not executed again."""
    from radarbook.book.execute import ChapterFailed, run_notebooks
    from radarbook.profiles import read_settings

    check({"--output": Target(output or Path("build") / profile, folder=True)})
    try:
        given = read_settings(parameter or [])
        folder = output or Path("build") / profile
        with interruptible(f"finished chapters are kept in {folder}, the same command goes on"):
            run_notebooks(chapters, profile, given, output, force=force)
    except ChapterFailed as failure:
        typer.echo(f"{failure.report}\nradarbook: {failure}", err=True)
        raise typer.Exit(1) from None


@book_app.command("build")
def book_build(
    profile: ProfileName = "smoke",
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; default build/PROFILE.")
    ] = None,
    repository: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Address on GitHub that the pages link to, for its source and for Binder.",
        ),
    ] = None,
    single_page: Annotated[
        bool,
        typer.Option("--single-page", help="One page to print, with pictures as figures."),
    ] = False,
) -> None:
    """Build the book from the executed notebooks; prints the path of its first page."""
    from radarbook.book.build import build_book
    from radarbook.profiles import get_profile

    get_profile(profile)
    folder = output or Path("build") / profile
    check({"--output": Target(folder, folder=True)})
    page = build_book(folder, repository=repository, single_page=single_page)
    typer.echo(f"Open {page}")


@book_app.command("colab")
def book_colab(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the notebooks.")],
    repository: Annotated[
        str, typer.Option(metavar="URL", help="Address on GitHub that the notebooks fetch.")
    ],
    revision: Annotated[str, typer.Option(help="Commit that the notebooks fetch.")],
) -> None:
    """Write copies of the chapters for Colab, each with a first cell that fetches the project."""
    from radarbook.book.build import check_repository
    from radarbook.book.colab import colab_notebooks

    check_repository(repository)
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise InputError(f"--revision: expected 40 hexadecimal digits, found '{revision}'")
    check({"--output": Target(output, folder=True)})
    for path in colab_notebooks(output, repository, revision):
        typer.echo(path)


@book_app.command("sync")
def book_sync(
    keep: Annotated[
        Literal["md", "ipynb"] | None,
        typer.Option(help="The file to keep if both were edited."),
    ] = None,
    chapters: Annotated[
        str | None, typer.Option(help="Numbers, such as 1-7 or 2,4-5; default all.")
    ] = None,
) -> None:
    """Update each notebook's .md or .ipynb from the other, whichever was edited."""
    from radarbook.book import pairing
    from radarbook.book.chapters import find_root, parse_chapters

    folder = find_root() / "notebooks"
    known = sorted(int(path.name[:2]) for path in pairing.pairs(folder))
    wanted = None if chapters is None else parse_chapters(chapters, known)
    for pair in pairing.sync(folder, keep, wanted):
        typer.echo(f"{pair.written.name}: written from {pair.edited.name}")
