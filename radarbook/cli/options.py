"""Options that several commands share, and the reading of their values."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from radarbook.errors import InputError
from radarbook.files import is_standard_output
from radarbook.targets import Target, check_targets

if TYPE_CHECKING:
    from radarbook.datasets.recordings import Description, Recording
    from radarbook.faces.model import MorphableModel
    from radarbook.profiles import Profile
    from radarbook.radar.layer import Layer

ProfileName = Annotated[str, typer.Option("--profile", help="smoke, laptop, paper or large.")]
Model = Annotated[
    str, typer.Option("--model", help="'procedural' or a file in Basel Face Model HDF5 layout.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Override one setting; repeat."),
]
Seed = Annotated[int, typer.Option(help="Seed of all random samples.")]
Inputs = Annotated[
    Literal["amplitude", "depth", "both"], typer.Option(help="Input of the encoder.")
]
Units = Annotated[
    Literal["m", "cm", "mm", "um", "µm", "μm"],
    typer.Option(help="Unit of the mesh file's coordinates.", metavar="m|cm|mm|µm"),
]
ModelFrame = Annotated[
    float | None,
    typer.Option(
        min=0.05,
        max=5,
        metavar="DISTANCE",
        help="The mesh is in the model frame (nose along +z; `model export` writes it in mm): "
        "centre it and put its foremost point at this distance, metres.",
    ),
]
Smooth = Annotated[
    bool,
    typer.Option(
        "--smooth/--flat",
        help="Whether triangles are bent to the smooth surface through the vertices; edges sharper "
        "than 70° stay sharp.",
    ),
]
Occlusion = Annotated[bool, typer.Option(help="Whether surfaces hide what lies behind them.")]
Bounces = Annotated[
    int, typer.Option(min=1, max=6, help="Reflections of a path at most; 2 or more is slower.")
]
PolarisationName = Annotated[
    Literal["vertical", "horizontal"],
    typer.Option(
        "--polarisation",
        help="Of the electric field of all antennas; decides paths of 2 or more reflections.",
    ),
]
Material = Annotated[float, typer.Option(min=0, max=1, help="Roughness: 0 smooth, 1 fully rough.")]
AntennaSize = Annotated[float, typer.Option(min=1e-4, max=0.02, help="Antenna side, metres.")]
DynamicRange = Annotated[
    float, typer.Option(min=-200, max=-1, help="Level at which the image is clipped, dB.")
]
Pixels = Annotated[int, typer.Option(min=8, max=1024, help="Image side, pixels.")]
Extent = Annotated[float, typer.Option(min=0.01, max=2, help="Image side, metres.")]
Depth = Annotated[
    tuple[float, float], typer.Option("--depth", metavar="NEAR FAR", help="Depth range, metres.")
]
OwnExtent = Annotated[
    float | None,
    typer.Option(
        "--extent",
        min=0.01,
        max=2,
        help="Image side, metres. Default: the description's or the scan's, else 0.3.",
    ),
]
OwnDepth = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--depth",
        metavar="NEAR FAR",
        help="Depth range, metres. Default: the description's range or stand-off, else 0.23 0.47.",
    ),
]
Between = Annotated[
    tuple[float, float, str] | None,
    typer.Option(
        "--layer",
        metavar="DISTANCE THICKNESS PERMITTIVITY",
        help="A layer, such as a blanket, in between: distance of its front from the array, m; "
        "thickness, m; complex relative permittivity, such as 1.5-0.02j.",
    ),
]

Frequencies = Annotated[
    tuple[float, float, int] | None,
    typer.Option(
        "--frequencies",
        metavar="START STOP COUNT",
        help="Equal frequency steps of the recording, both ends included, instead of its file's.",
    ),
]
FrequencyUnit = Annotated[
    Literal["Hz", "kHz", "MHz", "GHz"] | None,
    typer.Option(help="Unit of --frequencies, or of the file's; Hz if neither states one."),
]
AntennaUnits = Annotated[
    Literal["m", "cm", "mm"] | None,
    typer.Option("--units", help="Unit of the file's antenna positions; m if neither states one."),
]
Conjugate = Annotated[
    bool,
    typer.Option(
        "--conjugate",
        help="Conjugate the signal: I and Q are swapped, or its time factor is e^{-jωt}.",
    ),
]

Delay = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Common delay of all channels, removed first: the signal is multiplied by "
        "e^{+j2πfτ}. A positive delay moves the image nearer: 1e-10 s by 15 mm.",
    ),
]
Describe = Annotated[
    Path | None,
    typer.Option(
        metavar="radar.toml",
        help="Description of a recording of another radar: axes, I and Q, frequencies, antennas, "
        "corrections (the book's page on recordings). A folder: NAME.toml in it of each NAME.npy.",
    ),
]
Shot = Annotated[
    str | None, typer.Option(help="Which shot of a described recording, from 0, or 'mean'.")
]
ArrayFile = Annotated[
    Path | None,
    typer.Option(
        "--array",
        metavar="array.csv",
        help="Antennas, instead of a description: columns antenna (tx, rx or both), x, y, z in "
        "--units; with --frequencies and --order.",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        metavar="tx,rx,f",
        help="Order of the signal's axes, with --array: rx, tx, f; iq where I and Q have an axis; "
        "position instead of rx and tx for one antenna that moves.",
    ),
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="calibration.h5",
        help="Delay and channel phases to remove, of radarbook calibrate.",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="mean|EMPTY",
        help="Subtract each frequency's mean over the channels, or a recording of the empty scene.",
    ),
]
Coupling = Annotated[
    float | None,
    typer.Option(
        "--coupling",
        min=1e-3,
        metavar="METRES",
        help="Remove what lies nearer than this half path: the antennas' coupling.",
    ),
]
Workers = Annotated[int | None, typer.Option(min=0, help="Local processes of one thread each.")]
Scheduler = Annotated[str | None, typer.Option(metavar="ADDRESS", help="A running dask scheduler.")]
Weights = Annotated[Path, typer.Option(help="weights.safetensors, or its folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def check(
    outputs: Mapping[str, Target | None],
    inputs: Mapping[str, Path | str | Iterable[Path] | None] | None = None,
) -> None:
    """Check the targets of a command before its work.

    If one is standard output, messages go to standard error, so that they do not mix.
    """
    check_targets(outputs, inputs)
    if any(target and is_standard_output(target.path) for target in outputs.values()):
        sys.stdout = sys.stderr  # given back by main


def profile_of(name: str, settings: list[str] | None) -> Profile:
    from radarbook.profiles import get_profile, read_settings

    return get_profile(name, read_settings(settings or []))


def say_notes(notes: Iterable[str]) -> None:
    """Write notes on an accepted input to standard error, one line each."""
    for note in notes:
        typer.echo(f"note: {' '.join(note.split())}", err=True)


@dataclass(frozen=True)
class Reading:
    """Options that say how a recording is read and what is done to it first.

    A command that takes a ``reading`` has them all (:func:`with_reading`).
    """

    frequencies: Frequencies = None
    frequency_unit: FrequencyUnit = None
    units: AntennaUnits = None
    conjugate: Conjugate = False
    describe: Describe = None
    shot: Shot = None
    array: ArrayFile = None
    order: Order = None
    background: Background = None
    coupling: Coupling = None
    calibration: CalibrationFile = None

    def files(self) -> dict[str, Path | str | Iterable[Path] | None]:
        """Files besides the recording that are read, by the name of their option."""
        empty = self.background if self.background != "mean" else None
        return {
            "--describe": self.describe,
            "--array": self.array,
            "--calibration": self.calibration,
            "--background": empty,
        }

    def given(self) -> list[str]:
        """Names of the options that were given."""
        return [
            _option_name(one.name) for one in fields(self) if getattr(self, one.name) != one.default
        ]

    def read(self, path: Path, *, quiet: bool = False) -> Recording:
        """The recording, corrected. Its notes are written to standard error unless ``quiet``."""
        from radarbook.radar.calibration import load_calibration

        recording = self._read(path)
        if not quiet:
            say_notes(recording.notes)
        if self.background == "mean":
            recording = recording.without_mean()
        elif self.background is not None:
            recording = recording.without_scene(self._read(Path(self.background), path))
        if self.coupling is not None:
            recording = recording.without_coupling(self.coupling)
        if self.calibration is not None:
            recording = recording.calibrated(load_calibration(self.calibration))
        return recording

    def _read(self, path: Path, like: Path | None = None) -> Recording:
        """The recording of a path as it is; ``like`` is the one whose description it has."""
        from radarbook.datasets.recordings import read_recording
        from radarbook.radar.waveform import stepped

        description = self._description(like or path)
        unit = self.frequency_unit or "Hz"
        given = None if self.frequencies is None else stepped(*self.frequencies, unit)
        shot: int | str | None = self.shot
        if isinstance(shot, str) and shot != "mean":
            if not shot.isdigit():
                raise InputError(f"--shot: expected a number from 0 or 'mean', found '{shot}'")
            shot = int(shot)
        return read_recording(
            path,
            description=description,
            shot=shot,
            frequencies=given,
            frequency_unit=None if description is not None else self.frequency_unit,
            units=None if description is not None else self.units,
            conjugate=self.conjugate,
        )

    def _description(self, path: Path) -> Description | None:
        """The description of a recording, or what --array, --frequencies and --order say."""
        from radarbook.datasets.recordings import describe_array, read_description

        if self.array is None and self.order is None:
            if self.describe is None:
                return None
            folder = self.describe.is_dir()
            return read_description(
                self.describe / f"{path.stem}.toml" if folder else self.describe
            )
        if self.describe is not None:
            raise InputError("--describe: the description says antennas and axes; drop --array")
        for name, value in (
            ("--array", self.array),
            ("--order", self.order),
            ("--frequencies", self.frequencies),
        ):
            if value is None:
                raise InputError(f"{name}: expected together with --array, --order, --frequencies")
        assert self.array is not None
        assert self.order is not None
        assert self.frequencies is not None
        return describe_array(
            self.array,
            self.order,
            self.frequencies,
            frequency_unit=self.frequency_unit or "Hz",
            units=self.units or "m",
        )


def _option_name(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def with_reading(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator of commands: the fields of :class:`Reading`, except ``without``, are options in
    place of the parameter ``reading``."""
    hints = get_type_hints(Reading, include_extras=True)
    options = [
        inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=one.default,
            annotation=hints[one.name],
        )
        for one in fields(Reading)
        if one.name not in without
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command, eval_str=True).parameters.values():
            keyword = own.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += options if own.name == "reading" else [keyword]

        @wraps(command)
        def run(**given: Any) -> None:
            read = {option.name: given.pop(option.name) for option in options}
            command(reading=Reading(**read), **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def say_outside(
    recording: Recording,
    path: Path,
    depths: tuple[float, float],
    extent: float = 0.30,
    advice: str = "set them with --depth NEAR FAR",
) -> None:
    """Write a note on a target outside an image's depths (m), with ``advice``."""
    from radarbook.datasets.recordings import outside_depths

    found = outside_depths(recording, *depths, extent=extent)
    say_notes(f"{path}: {note}; {advice}" for note in found)


def face_model_of(
    spec: str, n_shape: int | None = None, n_expression: int | None = None
) -> MorphableModel:
    """The face model of a command; notes on its file go to standard error."""
    from radarbook.faces.load import load_model
    from radarbook.faces.model import DEFAULT_MODES

    model = load_model(spec, n_shape, n_expression)
    more = []
    wanted = DEFAULT_MODES["shape"], DEFAULT_MODES["expression"]
    if n_shape is None and (model.n_shape, model.n_expression) != wanted:
        more.append(
            f"{model.n_shape} shape and {model.n_expression} expression modes are used, as it "
            f"holds fewer than {wanted[0]} + {wanted[1]}"
        )
    echo_notes(model, more)
    return model


def echo_notes(model: MorphableModel, more: Sequence[str] = ()) -> None:
    """Write the notes on a face model's file to standard error, one line each."""
    say_notes(f"{model.name}: {note}" for note in (*model.notes, *more))


def weights_file(path: Path) -> Path:
    return path / "weights.safetensors" if path.is_dir() else path


def layer_of(given: tuple[float, float, str] | None) -> Layer | None:
    from radarbook.radar.layer import Layer

    if given is None:
        return None
    distance, thickness, text = given
    try:
        permittivity = complex(text.replace(" ", ""))
    except ValueError:
        raise InputError(
            f"--layer: expected a permittivity such as 1.5 or 1.5-0.02j, found {text!r}"
        ) from None
    return Layer(distance, thickness, permittivity)
