"""The command that fits a face."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from radarbook.cli.app import app
from radarbook.cli.options import (
    AntennaUnits,
    Between,
    Conjugate,
    Extent,
    Frequencies,
    FrequencyUnit,
    Model,
    check,
    face_model_of,
    layer_of,
    recording_of,
    weights_file,
)
from radarbook.errors import InputError
from radarbook.files import write_or_rescue
from radarbook.targets import Target

if TYPE_CHECKING:
    from torch import Tensor

    from radarbook.datasets.recordings import Recording
    from radarbook.faces.model import MorphableModel
    from radarbook.faces.parameters import FaceParameters
    from radarbook.fitting.fit import Record
    from radarbook.radar.layer import Layer


@app.command()
def reconstruct(
    source: Annotated[Path, typer.Argument(metavar="SIGNAL.npy|image.h5")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="face.ply|face.obj")],
    model: Model = "procedural",
    optimize: Annotated[
        int | None, typer.Option(min=0, help="At most so many steps; default the whole schedule.")
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
    modes: Annotated[
        tuple[int, int] | None,
        typer.Option(
            metavar="SHAPE EXPRESSION",
            help="Coefficients fitted; default 10 7, or as many as the model holds.",
        ),
    ] = None,
    distance: Annotated[
        float, typer.Option(min=0.1, max=2, help="Where a face is expected, m from the array.")
    ] = 0.30,
    extent: Extent = 0.30,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keeps a fit through physics that is not finished; the same command goes on.",
        ),
    ] = None,
    layer: Between = None,
    thickest: Annotated[
        float | None,
        typer.Option(
            help="The layer is known roughly: look for its thickness, up to so many metres, and "
            "its permittivity, too."
        ),
    ] = None,
    bounces: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Reflections of a path that a fit through physics reckons with; 2 if not given.",
        ),
    ] = None,
    frequencies: Frequencies = None,
    frequency_unit: FrequencyUnit = None,
    units: AntennaUnits = None,
    conjugate: Conjugate = False,
) -> None:
    """A face mesh (mm, model frame) from a recording or an image; prints where the face is.

    Through physics no trained weights are needed, but the raw signal is. Through the learned
    renderer an image is enough: the encoder predicts, the renderer refines. Weights for the
    procedural face and images of 64 x 64 pixels ship with the project.

    Finished, a fit through physics says whether it believes the face, and how far its vertices may
    be off: a PLY file has a standard deviation (mm) at each. Stopped by Ctrl-C or by --optimize's
    limit it writes the face as it is. With --state FILE it can be taken up again, after a crash
    too.

    Behind a blanket (--layer) the fit takes its delay and attenuation into account. With --thickest
    its thickness and permittivity are then looked for together with the face; the permittivity
    that --layer names is taken to be right to a tenth.
    """
    from radarbook.datasets.recordings import files_read
    from radarbook.faces.mesh import SUFFIXES, require_mesh_name, write_mesh

    check(
        {
            "--output": Target(output, SUFFIXES),
            "--state": None if state is None else Target(state),
        },
        {
            "SIGNAL": files_read(source),
            "--model": model,
            "--encoder": None if encoder is None else weights_file(encoder),
            "--renderer": None if renderer is None else weights_file(renderer),
        },
    )
    read = partial(
        recording_of,
        frequencies=frequencies,
        frequency_unit=frequency_unit,
        units=units,
        conjugate=conjugate,
        depths=(distance - 0.08, distance + 0.19),
        advice="--distance states where the face is",
    )
    if _is_image(source):
        options = {
            "--frequencies": frequencies,
            "--frequency-unit": frequency_unit,
            "--units": units,
            "--conjugate": conjugate or None,
        }
        for name, given in options.items():
            if given is not None:
                raise InputError(f"{name}: expected with a recording, found the image {source}")
    if through == "physical":
        face_model = face_model_of(model, *(modes or (None, None)))
        if thickest is not None and layer is None:
            raise InputError("--thickest: expected together with --layer, found it alone")
        between = layer_of(layer)
        found, note, deviation = _fit_physical(
            source, read, face_model, optimize, distance, state, between, thickest, bounces
        )
    else:
        alone = {
            "--state": state,
            "--layer": layer,
            "--thickest": thickest,
            "--bounces": bounces,
        }
        for name, value in alone.items():
            if value is not None:
                raise InputError(
                    f"{name}: expected with --through physical, found --through learned"
                )
        found, note = _fit_learned(source, read, model, encoder, renderer, optimize, extent)
        deviation = None
        face_model = face_model_of(model, found.shape.shape[1], found.expression.shape[1])
    vertices = face_model.vertices(found.shape.float(), found.expression.float())[0]
    values = {}
    if deviation is not None and require_mesh_name(output) == ".ply":  # which alone can hold it
        values["deviation"] = deviation
    try:
        write_or_rescue(
            output,
            lambda path: write_mesh(path, vertices, face_model.triangles, values=values),
        )
    finally:  # what was found is said even if its file is elsewhere
        _say(note, found)
    typer.echo(
        f"wrote {output} (millimetres, model frame, without pose"
        f"{'; deviation of each vertex' if values else ''})"
    )


def _say(note: str, found: FaceParameters) -> None:
    """Print how a fit ended and the pose that it found."""
    x, y, z = (1e3 * found.translation[0]).tolist()
    yaw, pitch, roll = found.rotation[0].rad2deg().tolist()
    typer.echo(note)
    typer.echo(f"translation {x:+.1f} {y:+.1f} {z:+.1f} mm (x, y, z in the radar frame)")
    typer.echo(f"rotation {yaw:+.1f} {pitch:+.1f} {roll:+.1f} degrees (yaw, pitch, roll)")


def _fit_physical(
    source: Path,
    read: Callable[[Path], Recording],
    face_model: MorphableModel,
    steps: int | None,
    distance: float,
    state: Path | None,
    layer: Layer | None,
    thickest: float | None,
    bounces: int | None,
) -> tuple[FaceParameters, str, Tensor | None]:
    """The face, what to say of the fit, and, if it is finished, deviations of vertices (N,) mm."""
    from radarbook.fitting.covered import behind_layer, fit_layer
    from radarbook.fitting.reconstruct import (
        BOUNCES,
        physical_renderer,
        reconstruct_through_physics,
        uncertainty_through_physics,
    )

    if _is_image(source):
        raise InputError(
            f"{source}: expected a raw recording to fit through physics, found an image; "
            "pass the signal, or --through learned"
        )
    recording = read(source)
    physical = physical_renderer(
        face_model, recording.array, recording.waveform, distance, bounces=bounces or BOUNCES
    )
    renderer = behind_layer(physical, layer)
    if state is not None and state.exists():
        typer.echo(f"going on from {state}")
    taken = 0

    def count(_: Record) -> None:
        nonlocal taken
        taken += 1

    result = reconstruct_through_physics(
        recording.signal,
        recording.array,
        recording.waveform,
        face_model,
        distance=distance,
        steps=steps,
        progress=True,
        callback=count,
        state_file=state,
        renderer=renderer,
    )
    if result.reason == "interrupted":
        limit = steps is not None and taken >= steps
        end = "stopped at --optimize's limit" if limit else "interrupted"
        if result.kept:
            end += f"; the same command goes on from {state}"
        elif result.kept is False:
            end += f"; its state could not be kept in {state}"
            if state is not None and state.exists():
                end += ", from whose earlier one the same command goes on"
    elif bool(result.diverged.any()):
        end = "diverged, the best iterate is kept"
    elif taken == 0:
        end = f"{state} was finished, nothing is left to do but to write the face"
    else:
        end = result.reason
    earlier = f", {result.resumed} of them before" if result.resumed else ""
    note = f"{result.steps} steps in {result.seconds:.0f} s{earlier}: {end}"
    if result.reason == "interrupted":
        return result.parameters, note, None
    found, loss = result.parameters, float(result.losses[0])
    if layer is not None and thickest is not None:
        covered = fit_layer(recording.signal, renderer, layer, found, thickest=thickest)
        between = covered.layer
        note += (
            f"\nlayer {1e3 * float(between.thickness):.2f} mm thick, permittivity "
            f"{complex(between.permittivity):.2f}, of {covered.tried} tried; "
            f"it delays by {1e3 * between.delay(recording.waveform):.2f} mm"
        )
        others = ", ".join(f"{1e3 * float(other.thickness):.2f}" for other in covered.likely[1:])
        note += f"\nas likely a thickness of {others} mm" if others else ""
        found, loss = covered.parameters, covered.loss
        renderer = behind_layer(renderer, between)
    note += f"\n{100 * loss:.1f} % of the recording left unexplained"
    if result.settled is not None:
        note += (
            "; settled: a right face leaves as much, or two attempts came to this one"
            if bool(result.settled.all())
            else "; not settled: a right face leaves less, and no two attempts came to one face"
        )
    deviation = uncertainty_through_physics(recording.signal, renderer, found).vertex_deviation(
        face_model
    )
    note += (
        f"\nstated deviation of a vertex {float(deviation.mean()):.2f} mm on average, at most "
        f"{float(deviation.max()):.2f} mm"
    )
    return found, note, deviation


def _fit_learned(
    source: Path,
    read: Callable[[Path], Recording],
    model: str,
    encoder: Path | None,
    renderer: Path | None,
    steps: int | None,
    extent: float,
) -> tuple[FaceParameters, str]:
    import torch

    from radarbook.faces.model import load_model
    from radarbook.fitting.reconstruct import reconstruct_through_learned
    from radarbook.radar.image import load_image
    from radarbook.training.checkpoints import (
        load_predictor,
        load_renderer,
        require_weights_of,
        shipped,
        shipped_path,
    )

    image = load_image(source).with_dynamic_range(-20.0) if _is_image(source) else None
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
        image = read(source).image(config["pixels"], extent, depth, progress=True)
    elif side != config["pixels"]:
        raise InputError(
            f"{source}: expected {config['pixels']} pixels as the encoder was trained on, "
            f"found {side}"
        )
    if not steps or (renderer is None and encoder is not None):
        with torch.no_grad():
            return predictor.predict(image), "encoder alone (--optimize N refines its answer)"
    weights = shipped_path("renderer") if renderer is None else weights_file(renderer)
    drawing = load_renderer(weights)
    result = reconstruct_through_learned(image, predictor, drawing, steps, progress=True)
    return result.parameters, f"{result.steps} steps in {result.seconds:.0f} s: {result.reason}"


def _is_image(path: Path) -> bool:
    """True for an HDF5 file that holds an image rather than a recording."""
    from radarbook.hdf5 import has_hdf5_suffix, open_hdf5

    if not has_hdf5_suffix(path) or not path.is_file():
        return False
    with open_hdf5(path) as file:
        return "amplitude_db" in file
