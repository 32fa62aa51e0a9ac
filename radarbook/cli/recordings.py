"""Commands of recordings: what one holds, and the calibration of a radar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radarbook.cli.app import app, recording_app
from radarbook.cli.options import (
    OwnExtent,
    Reading,
    check,
    with_reading,
)
from radarbook.errors import InputError
from radarbook.radar.limits import LARGEST_REACH
from radarbook.targets import HDF5, Target

#: Any radar's recording.
Recorded = Annotated[
    Path, typer.Argument(metavar="RECORDING", help="A recording, as radarbook image takes it.")
]


@recording_app.command()
@with_reading()
def info(
    recording: Recorded,
    *,
    stand_off: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            max=LARGEST_REACH,
            help="Distance for resolution and grating lobes, metres. Default: the description's.",
        ),
    ] = None,
    extent: OwnExtent = None,
    reading: Reading,
) -> None:
    """What a recording holds: axes, antennas, range profile, faults, expected resolution."""
    from radarbook.datasets.recordings import inspect

    found = reading.read(recording, quiet=True)  # its notes are in the text
    typer.echo(str(inspect(found, stand_off=stand_off, extent=extent)))


@app.command()
@with_reading("calibration")
def calibrate(
    recording: Recorded,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="calibration.h5")],
    plate: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            max=LARGEST_REACH,
            metavar="Z",
            help="Distance of a flat metal plate parallel to the array, larger than it, metres.",
        ),
    ] = None,
    corner: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="X Y Z", help="Place of a corner reflector or small ball, metres."),
    ] = None,
    reach: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            help="Half of the range around the target in which its echo is searched for, metres. "
            "Default: all of the unambiguous range.",
        ),
    ] = None,
    reading: Reading,
) -> None:
    """Find a radar's delay and channel phases from the recording of a plate or a corner."""
    from radarbook.datasets.recordings import files_read
    from radarbook.radar.calibration import Corner, Plate
    from radarbook.radar.calibration import calibrate as calibrated

    inputs = {"RECORDING": files_read(recording), **reading.files()}
    check({"--output": Target(output, HDF5)}, inputs)
    if (plate is None) == (corner is None):
        raise InputError("--plate, --corner: expected one of them, the target of the recording")
    target = Plate(plate) if plate is not None else Corner(corner or (0.0, 0.0, 0.0))
    found = reading.read(recording)
    result = calibrated(found.signal, found.array, found.waveform, target, reach=reach)
    result.save(output)
    typer.echo(str(result))
    typer.echo(f"wrote {output}")
