"""``radarbook reconstruct --each``: many recordings, each a face of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from radarbook.cli.interrupts import interruptible
from radarbook.errors import InputError

if TYPE_CHECKING:
    from radarbook.batch.folder import FolderReport
    from radarbook.datasets.recordings import Recording
    from radarbook.faces.model import MorphableModel


def holds_several(path: Path) -> bool:
    """True for a folder of recordings; one of a single MAROON frame is a recording itself."""
    from radarbook.batch.folder import recordings_in
    from radarbook.datasets.recordings import files_read

    if not path.is_dir():
        return False
    try:
        files_read(path)
    except InputError:
        return bool(recordings_in(path))
    return False


def require_each(
    each: bool,
    output: Path,
    through: str,
    state: Path | None,
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Raise :class:`~radarbook.errors.InputError` for options of a single face with ``each``, and
    for those of many without it."""
    from radarbook.faces.mesh import SUFFIXES

    if not each:
        for name, value in (("--workers", workers), ("--scheduler", scheduler)):
            if value is not None:
                raise InputError(f"{name}: expected with --each or a folder, found one face")
        return
    if through != "physical":
        raise InputError("--each: expected with --through physical, found --through learned")
    if state is not None:
        raise InputError("--state: expected one face, found --each, which keeps states in its -o")
    if output.suffix.lower() in SUFFIXES:
        raise InputError(f"--output {output}: expected a folder for several faces, found a mesh")


def reconstruct_each(
    source: list[Path],
    read: Callable[[Path], Recording],
    model: MorphableModel,
    output: Path,
    workers: int | None,
    scheduler: str | None,
    strict: bool,
    frames: bool,
    **options: Any,
) -> None:
    """Fit, write table and page, print the table; exit status 1 where something was skipped."""
    from radarbook.batch.folder import reconstruct_folder
    from radarbook.batch.page import markdown, write_report
    from radarbook.progress import write_line

    if frames:
        _require_plain(options)
    with interruptible(f"finished fits are kept in {output}, the same command goes on"):
        report = reconstruct_folder(
            source,
            model,
            output,
            read=read,
            workers=workers,
            scheduler=scheduler,
            skipping=lambda line: write_line(f"skipped: {line}"),
            **options,
        )
        table, page = write_report(report)
    if report.faces:
        typer.echo(markdown(report))
    typer.echo(
        f"{output}: {report.made} fitted, {report.kept} were there, {report.accepted} accepted, "
        f"{len(report.skipped)} skipped ({report.seconds:.0f} s)"
    )
    typer.echo(f"wrote {table} and {page}")
    if frames:
        with interruptible(f"the frames' own fits are kept in {output}"):
            _together(report, read, model, options)
    if report.skipped or (strict and report.accepted < len(report.faces)):
        raise typer.Exit(1)


def _require_plain(options: dict[str, Any]) -> None:
    """Refuse options that a joint fit of frames has not."""
    from radarbook.radar.polarisation import Polarisation

    usual = {
        "layer": None,
        "thickest": None,
        "fit_delay": False,
        "polarisation": Polarisation(),
        "channels": None,
    }
    for name, value in usual.items():
        if options[name] != value:
            raise InputError(
                f"--{name.replace('_', '-')}: expected without --frames, found both; a joint fit "
                "of frames with it is not available"
            )


def _together(
    report: FolderReport,
    read: Callable[[Path], Recording],
    model: MorphableModel,
    options: dict[str, Any],
) -> None:
    """Fit all frames with one shape, and write their meshes and table."""
    from radarbook.batch.page import TABLE, frames_table
    from radarbook.faces.parameters import FaceParameters
    from radarbook.files import write_text
    from radarbook.fitting import tuned
    from radarbook.fitting.frames import reconstruct_frames

    names = list(report.faces)
    if len(names) < 2:
        raise InputError(f"--frames: expected at least two recordings, found {len(names)}")
    recordings = [read(report.paths[name]) for name in names]
    delay = options["delay"]
    if delay:
        recordings = [one.without_delay(delay) for one in recordings]
    usual = all(one.array.is_nearly_product for one in recordings)
    found = reconstruct_frames(
        recordings,
        model,
        FaceParameters.cat([report.faces[name].found() for name in names]),
        distance=options["distance"],
        noise=options["noise"],
        bounces=options["bounces"] or (tuned.BOUNCES if usual else 1),
        pose_range=options["pose_range"],
        progress=True,
    )
    folder = report.folder / "together"
    found.save(folder, names)
    write_text(folder / TABLE, frames_table(names, found))
    typer.echo(f"{found}\nwrote {folder}")
