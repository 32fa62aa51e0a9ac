"""The command that fits a face (reconstruct)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from radarbook.cli.app import app
from radarbook.cli.options import (
    Between,
    Delay,
    Extent,
    Model,
    PolarisationName,
    Reading,
    Scheduler,
    Workers,
    check,
    face_model_of,
    layer_of,
    say_notes,
    say_outside,
    weights_file,
    with_reading,
)
from radarbook.errors import InputError
from radarbook.files import write_or_rescue
from radarbook.targets import Target

if TYPE_CHECKING:
    from radarbook.datasets.recordings import Recording
    from radarbook.faces.model import MorphableModel
    from radarbook.faces.parameters import FaceParameters, PoseRange
    from radarbook.fitting.reconstruction import Reconstruction


@app.command()
@with_reading()
def reconstruct(
    *,
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="SIGNAL.npy|image.h5|FOLDER ...",
            help="One file, or several recordings of one face by arrays whose poses are in the "
            "files: they are fitted together. Recordings as radarbook image takes them. With "
            "--each, recordings of any faces and folders of them.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="face.ply|face.obj|DIR", help="With --each a folder."
        ),
    ],
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Fit each recording by itself, through physics; a folder of several recordings "
            "implies it. Finished ones are kept, the same command goes on.",
        ),
    ] = False,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames",
            help="With --each: the recordings are frames of one person. After their own fits they "
            "are fitted together, with one shape.",
        ),
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    model: Model = "procedural",
    optimize: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps at most. Default: through physics the whole schedule; through the learned "
            "renderer none, the encoder alone.",
        ),
    ] = None,
    through: Annotated[
        Literal["learned", "physical"], typer.Option(help="The renderer to optimize through.")
    ] = "physical",
    encoder: Annotated[
        Path | None,
        typer.Option(help="Weights of an encoder or autoencoder; default those that ship."),
    ] = None,
    renderer: Annotated[
        Path | None, typer.Option(help="Weights of a learned renderer; default those that ship.")
    ] = None,
    face_gate: Annotated[
        bool | None,
        typer.Option(
            "--face-gate/--no-face-gate",
            help="With --through learned: show the networks the nearest surface of the image "
            "alone, without ears, neck and shoulders. Default: on.",
        ),
    ] = None,
    modes: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="SHAPE EXPRESSION",
            help="Number of fitted coefficients. Default: all that the model holds.",
        ),
    ] = None,
    displacements: Annotated[
        bool,
        typer.Option(
            help="Smooth displacements of the surface as further shape modes; slow: some hundred."
        ),
    ] = False,
    distance: Annotated[
        float, typer.Option(min=0.1, max=2, help="Expected distance of the face, m.")
    ] = 0.30,
    extent: Extent = 0.30,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="State of an unfinished fit through physics, from which the same command resumes.",
        ),
    ] = None,
    layer: Between = None,
    thickest: Annotated[
        float | None,
        typer.Option(
            help="The layer is known roughly: fit its permittivity and its thickness, up to this "
            "value, metres."
        ),
    ] = None,
    bounces: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Reflections of a path that a fit through physics models; default 2, or 1 for an "
            "array whose channels are a list of pairs.",
        ),
    ] = None,
    polarisation: PolarisationName = "vertical",
    channels: Annotated[
        bool,
        typer.Option(
            "--channels",
            help="Gains and phases of the antennas are unknown, to 0.5 dB and 5 degrees.",
        ),
    ] = False,
    reading: Reading,
    delay: Delay = None,
    fit_delay: Annotated[
        bool,
        typer.Option(
            "--fit-delay",
            help="Fit an unknown common delay of all channels, up to 0.4 ns of either sign. Not "
            "with --state or --thickest.",
        ),
    ] = False,
    noise: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Expected normalised power of noise and channel errors, which the residual of an "
            "accepted face may have in addition to its diffuse share; default 0.",
        ),
    ] = None,
    pose_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--pose-range",
            metavar="METRES DEGREES",
            help="How far a face may be from the frontal one at --distance: along each axis, and "
            "in yaw, pitch and roll; default 0.1 40.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="If the face is not accepted: one line, exit status 1, no mesh.",
        ),
    ] = False,
    any_shape: Annotated[
        bool,
        typer.Option(
            "--any-shape",
            help="Fit a recording whose highlights are not those of a face, too.",
        ),
    ] = False,
) -> None:
    """Fit a face to a recording or an image: writes its mesh (mm, model frame), prints its pose.

    A fit through physics needs the raw signal and no trained weights. A fit through the learned
    renderer needs an image: the encoder predicts the face, the renderer refines it. Weights for the
    procedural face and images of 64 x 64 pixels ship with the project.

    A finished fit through physics first states whether the face is accepted: whether the
    normalised residual power is at the level that the fitted material predicts. Of an accepted face
    it states the standard deviation of the vertices; a PLY file holds it per vertex, in mm. Of
    another face it states none, except with a model of more than 40 coefficients, and with --strict
    it ends with exit status 1. A recording whose highlights are not those of a face is refused
    before the fit, with exit status 1 and no mesh. After Ctrl-C, or at
    the limit of --optimize, the command writes the face reached so far. With --state FILE it
    can resume, also after a crash.

    Several recordings of one face, by arrays at different places, are fitted together. Their poses
    are in the files: an HDF5 recording of the project's layout holds rotation and origin, a
    description has them in its table [pose]. With --describe FOLDER each has its own.

    With --each every recording is a face of its own. The folder then holds a mesh, a description
    and pictures of each, table.csv, and report.html with all of them. A recording that cannot be
    read or fitted is named and skipped, and the exit status is 1; with --strict also if a face is
    not accepted. With --frames they are fitted together afterwards: one shape, and expression and
    pose of each, in DIR/together.

    With --layer the fit models the layer's delay and attenuation. With --thickest its thickness and
    permittivity are fitted together with the face. The given permittivity should be right to a
    tenth.
    """
    from radarbook.cli.each import holds_several, reconstruct_each, require_each
    from radarbook.datasets.recordings import files_read
    from radarbook.faces.mesh import SUFFIXES, require_mesh_name, write_mesh
    from radarbook.fitting.reconstruction import pose_text
    from radarbook.radar.channel_errors import ChannelErrors
    from radarbook.radar.polarisation import Polarisation

    each = each or frames or any(holds_several(path) for path in source)
    require_each(each, output, through, state, workers, scheduler)
    check(
        {
            "--output": Target(output, folder=True) if each else Target(output, SUFFIXES),
            "--state": None if state is None else Target(state),
        },
        {
            "SIGNAL": [] if each else [file for path in source for file in files_read(path)],
            **reading.files(),
            "--model": model,
            "--encoder": None if encoder is None else weights_file(encoder),
            "--renderer": None if renderer is None else weights_file(renderer),
        },
    )

    noted: set[Path] = set()

    def read(path: Path) -> Recording:
        again = path in noted
        recording = reading.read(path, quiet=again)
        noted.add(path)
        if not again:
            say_outside(
                recording,
                path,
                (max(distance - 0.13, 0.02), distance + 0.24),
                advice="state the face's distance with --distance",
            )
        return recording

    if len(source) > 1 and through == "learned":
        raise InputError(
            f"SIGNAL: expected one file with --through learned, found {len(source)}; "
            "several are fitted together through physics"
        )
    if not each and _is_image(source[0]):
        for name in reading.given():
            raise InputError(f"{name}: expected with a recording, found the image {source[0]}")
    if through == "physical":
        networks_only = {"--encoder": encoder, "--renderer": renderer, "--face-gate": face_gate}
        for name, given in networks_only.items():
            if given is not None:
                raise InputError(
                    f"{name}: expected with --through learned, found --through physical"
                )
        fitted = _fitted_model(model, modes)
        if displacements:
            from radarbook.faces.displacements import with_displacements

            fitted = with_displacements(fitted)
        settings: dict[str, Any] = {
            "steps": optimize,
            "distance": distance,
            "layer": layer_of(layer),
            "thickest": thickest,
            "bounces": bounces,
            "polarisation": Polarisation.named(polarisation),
            "channels": ChannelErrors() if channels else None,
            "delay": delay or 0.0,
            "fit_delay": fit_delay,
            "noise": noise or 0.0,
            "pose_range": _pose_range(pose_range),
            "refuse": not any_shape,
        }
        if each:
            reconstruct_each(
                source, read, fitted, output, workers, scheduler, strict, frames, **settings
            )
            return
        result = _fit_physical(source, read, fitted, state_file=state, **settings)
        if result.verdict.unlike is not None:
            typer.echo(f"radarbook: {result.reason}; --any-shape fits it all the same", err=True)
            raise typer.Exit(1)
        if strict and not result.accepted:
            typer.echo(f"radarbook: --strict: {result.reason}", err=True)
            raise typer.Exit(1)
        text, write = str(result), result.save
        holds = require_mesh_name(output) == ".ply" and result.uncertainty is not None
    else:
        alone = {
            "--state": state,
            "--layer": layer,
            "--thickest": thickest,
            "--bounces": bounces,
            "--polarisation": None if polarisation == "vertical" else polarisation,
            "--channels": channels or None,
            "--delay": delay,
            "--fit-delay": fit_delay or None,
            "--noise": noise,
            "--pose-range": pose_range,
            "--strict": strict or None,
            "--any-shape": any_shape or None,
            "--displacements": displacements or None,
            "--modes": modes,
        }
        for name, value in alone.items():
            if value is not None:
                raise InputError(
                    f"{name}: expected with --through physical, found --through learned"
                )
        found, note = _fit_learned(
            source[0], read, model, encoder, renderer, optimize, extent, face_gate is not False
        )
        face_model = face_model_of(model, found.shape.shape[1], found.expression.shape[1])
        vertices = face_model.vertices(found.shape.float(), found.expression.float())[0]
        text, holds = f"{note}\n{pose_text(found)}", False
        write = partial(write_mesh, vertices=vertices, triangles=face_model.triangles)
    try:
        write_or_rescue(output, write)
    finally:  # the result is printed even if its file is written elsewhere
        typer.echo(text)
    typer.echo(
        f"wrote {output} (millimetres, model frame, without pose"
        f"{'; deviation of each vertex' if holds else ''})"
    )


def _pose_range(given: tuple[float, float] | None) -> PoseRange:
    import math

    from radarbook.faces.parameters import VISIBLE_POSE, PoseRange

    if given is None:
        return VISIBLE_POSE
    metres, degrees = given
    if not (0 < metres < 1 and 0 < degrees <= 80):
        raise InputError(
            "--pose-range: expected metres above 0, below 1, and degrees above 0, at most 80, "
            f"found {metres:g} {degrees:g}"
        )
    return PoseRange((metres,) * 3, (math.radians(degrees),) * 3)


def _fit_physical(
    source: list[Path],
    read: Callable[[Path], Recording],
    face_model: MorphableModel,
    **settings: Any,
) -> Reconstruction:
    from radarbook.fitting import reconstruction

    for path in source:
        if _is_image(path):
            raise InputError(
                f"{path}: expected a raw recording to fit through physics, found an image; "
                "pass the signal, or --through learned"
            )
    state = settings["state_file"]
    recordings = [read(path) for path in source]
    say_notes(_shared_poses(recordings))
    if state is not None and state.exists():
        typer.echo(f"resuming from {state}")
    return reconstruction.reconstruct(recordings, face_model, progress=True, **settings)


def _shared_poses(recordings: list[Recording]) -> list[str]:
    """A note if several recordings were made from one place, which may be an oversight."""
    import torch

    arrays = [one.array for one in recordings]
    twice = any(
        torch.equal(a.rotation, b.rotation) and torch.equal(a.origin, b.origin)
        for n, a in enumerate(arrays)
        for b in arrays[:n]
    )
    if not twice:
        return []
    return [
        "recordings of one pose are fitted as several shots by one array; an array's pose is kept "
        "in the project's HDF5 layout"
    ]


def _fit_learned(
    source: Path,
    read: Callable[[Path], Recording],
    model: str,
    encoder: Path | None,
    renderer: Path | None,
    steps: int | None,
    extent: float,
    gated: bool,
) -> tuple[FaceParameters, str]:
    import torch

    from radarbook.faces.load import load_model
    from radarbook.fitting.learned import reconstruct_through_learned
    from radarbook.fitting.reconstruction import progress_text
    from radarbook.radar.face_gate import DEEP_DB, FaceGate, seen_by_networks
    from radarbook.radar.image import load_image
    from radarbook.training.checkpoints import (
        load_predictor,
        load_renderer,
        require_weights_of,
        shipped,
        shipped_path,
    )

    image = load_image(source) if _is_image(source) else None
    side = None if image is None else image.depth.shape[-1]
    predictor: Any
    if encoder is None:
        predictor = shipped("autoencoder", model=load_model(model), pixels=side)
    else:
        predictor = load_predictor(weights_file(encoder))
    config = predictor.config.get("encoder", predictor.config)
    face_model = load_model(model, config["n_shape"], config["n_expression"])
    for given in (encoder, renderer):
        if given is not None:
            require_weights_of(weights_file(given), face_model)
    if image is None:
        near = config["distance"]
        depth = (near - 0.07, near + 0.17)
        image = read(source).image(config["pixels"], extent, depth, DEEP_DB, progress=True)
    elif side != config["pixels"]:
        raise InputError(
            f"{source}: expected {config['pixels']} pixels as the encoder was trained on, "
            f"found {side}"
        )
    image = seen_by_networks(image, FaceGate() if gated else None)
    if not steps or (renderer is None and encoder is not None):
        with torch.no_grad():
            return predictor.predict(image), "encoder alone (--optimize N refines its prediction)"
    weights = shipped_path("renderer") if renderer is None else weights_file(renderer)
    learned = load_renderer(weights)
    result = reconstruct_through_learned(image, predictor, learned, steps, progress=True)
    return result.parameters, progress_text(result)


def _fitted_model(spec: str, modes: tuple[int, int] | None) -> MorphableModel:
    """The face model with the modes asked for, else with all, which is said unless 10 + 7."""
    from radarbook.faces.load import held_modes
    from radarbook.faces.model import DEFAULT_MODES

    model = face_model_of(spec, *(modes or held_modes(spec)))
    held = model.n_shape, model.n_expression
    if modes is None and held != (DEFAULT_MODES["shape"], DEFAULT_MODES["expression"]):
        found = f"{held[0]} shape and {held[1]} expression modes are fitted, all that it holds"
        say_notes([f"{model.name}: {found} (--modes takes the first ones)"])
    return model


def _is_image(path: Path) -> bool:
    """True for an HDF5 file that holds an image rather than a recording."""
    from radarbook.hdf5 import has_hdf5_suffix, open_hdf5

    if not has_hdf5_suffix(path) or not path.is_file():
        return False
    with open_hdf5(path) as file:
        return "amplitude_db" in file
