"""The command line: thin, each command one call into the library.

Imports of torch and of the rooms happen inside the commands, so that ``--help`` and a typing
error answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from radarbook.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from radarbook.datasets.recordings import Recording
    from radarbook.datasets.storage import FaceDataset
    from radarbook.faces.model import MorphableModel
    from radarbook.faces.parameters import FaceParameters
    from radarbook.fitting.fit import Record
    from radarbook.profiles import Profile
    from radarbook.radar.image import RadarImage
    from radarbook.radar.layer import Layer

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

# -- shared options ------------------------------------------------------------------------------

ProfileName = Annotated[str, typer.Option("--profile", help="smoke, laptop, paper or large.")]
Model = Annotated[
    str, typer.Option("--model", help="'procedural' or a file in Basel Face Model HDF5 layout.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Override one setting; repeat."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random draw.")]
Inputs = Annotated[
    Literal["amplitude", "depth", "both"], typer.Option(help="What the encoder is shown.")
]
Units = Annotated[
    Literal["mm", "m"], typer.Option(help="Unit of the mesh file's coordinates (radar frame).")
]
Material = Annotated[float, typer.Option(min=0, max=1, help="0: smooth surface … 1: fully rough.")]
AntennaSize = Annotated[float, typer.Option(min=1e-4, max=0.02, help="Antenna side, metres.")]
DynamicRange = Annotated[float, typer.Option(max=-1, help="Where the image is clipped, dB.")]
Pixels = Annotated[int, typer.Option(min=8, max=1024, help="Image side, pixels.")]
Extent = Annotated[float, typer.Option(min=0.01, max=2, help="Image side, metres.")]
Depth = Annotated[
    tuple[float, float], typer.Option("--depth", metavar="NEAR FAR", help="Depth range, metres.")
]
Between = Annotated[
    tuple[float, float, str] | None,
    typer.Option(
        "--layer",
        metavar="DISTANCE THICKNESS PERMITTIVITY",
        help="A blanket in between: its front, m from the array; m; complex, such as 1.5-0.02j.",
    ),
]


def _profile(name: str, settings: list[str] | None) -> Profile:
    from radarbook.profiles import get_profile, read_settings

    return get_profile(name, read_settings(settings or []))


# -- information ---------------------------------------------------------------------------------


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


# -- the book ------------------------------------------------------------------------------------


@app.command()
def run(
    profile: ProfileName = "smoke",
    chapters: Annotated[
        str | None, typer.Option(help="For example 1-7, or 2,4-5; default all.")
    ] = None,
    parameter: Set = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; default build/PROFILE.")
    ] = None,
    force: Annotated[bool, typer.Option(help="Execute also what is up to date.")] = False,
) -> None:
    """Execute the notebooks in order; what is done and unchanged is not done again."""
    from radarbook.book import ChapterFailed, run_notebooks
    from radarbook.profiles import read_settings

    try:
        given = read_settings(parameter or [])
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
) -> None:
    """Build the book from the executed notebooks and say where to open it."""
    from radarbook.book import build_book

    page = build_book(output or Path("build") / profile)
    typer.echo(f"Open {page}")


# -- face models ---------------------------------------------------------------------------------


@model_app.command("info")
def model_info(model: Annotated[str, typer.Argument(help="'procedural' or a file.")]) -> None:
    """What a face model holds."""
    from radarbook.faces.bfm import held_modes
    from radarbook.faces.model import load_model

    if model == "procedural":
        face_model = load_model(model)
        held = face_model.n_shape, face_model.n_expression
    else:
        held = held_modes(model)
        face_model = load_model(model, min(10, held[0]), min(7, held[1]))
    size = face_model.mean.max(0).values - face_model.mean.min(0).values
    rows = {
        "name": face_model.name,
        "vertices": str(face_model.n_vertices),
        "triangles": str(len(face_model.triangles)),
        "modes held": f"{held[0]} of shape, {held[1]} of expression",
        "neutral face": "{:.0f} x {:.0f} x {:.0f} mm (x, y, z)".format(*size.tolist()),
        "landmarks": str(len(face_model.landmarks)),
        "regions": ", ".join(face_model.regions) or "none",
        "fingerprint": face_model.fingerprint,
    }
    for name, value in rows.items():
        typer.echo(f"{name:<13} {value}")


@model_app.command("build")
def model_build(output: Annotated[Path, typer.Argument(metavar="OUT.h5")]) -> None:
    """Write the procedural face model as a Basel Face Model 2019 file."""
    from radarbook.faces.bfm import write_bfm
    from radarbook.faces.model import load_model

    write_bfm(output, load_model("procedural"))
    typer.echo(f"wrote {output}")


@model_app.command("convert-ict")
def model_convert_ict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="FaceXModel of ICT-FaceKit.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.h5")],
    seed: Seed = 0,
) -> None:
    """Convert ICT-FaceKit's OBJ files to a Basel Face Model 2019 file."""
    from radarbook.faces.ict import convert_ict

    convert_ict(folder, output, seed=seed)
    typer.echo(f"wrote {output}")


@model_app.command("export")
def model_export(
    model: Annotated[str, typer.Argument(help="'procedural' or a file.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.ply|OUT.obj")],
    seed: Annotated[
        int | None, typer.Option(help="A random face; without it the neutral mean face.")
    ] = None,
) -> None:
    """Export a face of a model as a mesh in millimetres (model frame)."""
    from radarbook.datasets.synthetic import random_parameters
    from radarbook.faces.mesh import write_mesh
    from radarbook.faces.model import load_model

    face_model = load_model(model)
    vertices = face_model.mean
    if seed is not None:
        drawn = random_parameters([0], seed, face_model.n_shape, face_model.n_expression)
        vertices = face_model.vertices(drawn.shape, drawn.expression)[0]
    write_mesh(output, vertices, face_model.triangles)
    typer.echo(f"wrote {output} (millimetres, +x the subject's left, +y up, +z out of the nose)")


# -- radar ---------------------------------------------------------------------------------------


@app.command()
def simulate(
    mesh: Annotated[Path, typer.Argument(help="PLY, OBJ or STL in the radar frame.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="signal.npy")],
    units: Units = "m",
    material: Material = 0.1,
    antenna_size: AntennaSize = 2e-3,
    layer: Between = None,
    frequencies: Annotated[int, typer.Option(min=2, max=1024)] = 128,
) -> None:
    """Simulate a mesh's radar signal: complex64 (94, 94, 128) = (rx, tx, f), MAROON order."""
    from radarbook.radar.signal import write_signal

    signal = _mesh_signal(mesh, units, material, antenna_size, frequencies, layer)
    write_signal(output, signal)
    typer.echo(f"wrote {output}: {signal.dtype} {tuple(signal.shape)} = (rx, tx, f)")


@app.command()
def image(
    signal: Annotated[Path, typer.Argument(help="complex (94, 94, 128) .npy, or a recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="image.h5")],
    pixels: Pixels = 128,
    extent: Extent = 0.30,
    depth: Depth = (0.23, 0.47),
    dynamic_range: DynamicRange = -20.0,
    png: Annotated[Path | None, typer.Option(help="Also a picture.")] = None,
) -> None:
    """Back-project a recording to an amplitude and depth image (HDF5)."""
    from radarbook.datasets.recordings import read_recording

    recording = read_recording(signal)
    _write_image(recording, output, pixels, extent, depth, dynamic_range, png)


@app.command()
def render(
    mesh: Annotated[Path, typer.Argument(help="PLY, OBJ or STL in the radar frame.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="image.h5")],
    units: Units = "m",
    material: Material = 0.1,
    antenna_size: AntennaSize = 2e-3,
    layer: Between = None,
    pixels: Pixels = 128,
    extent: Extent = 0.30,
    depth: Depth = (0.23, 0.47),
    dynamic_range: DynamicRange = -20.0,
    png: Annotated[Path | None, typer.Option(help="Also a picture.")] = None,
) -> None:
    """Simulate and image a mesh in one step."""
    import torch

    from radarbook.datasets.recordings import Recording
    from radarbook.radar.array import qar50
    from radarbook.radar.waveform import qar50_waveform

    signal = _mesh_signal(mesh, units, material, antenna_size, 128, layer)
    recording = Recording(torch.from_numpy(signal), qar50(), qar50_waveform(), {"mesh": mesh.name})
    _write_image(recording, output, pixels, extent, depth, dynamic_range, png)


# -- data, training, evaluation ------------------------------------------------------------------


@app.command()
def generate(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")],
    count: Annotated[
        int | None, typer.Option(min=1, help="Images in all; default the profile's numbers.")
    ] = None,
    model: Model = "procedural",
    profile: ProfileName = "laptop",
    parameter: Set = None,
    seed: Seed = 0,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Local processes of one thread each.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A running dask scheduler.")
    ] = None,
    repair: Annotated[bool, typer.Option(help="Make damaged shards again.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="State time, memory and disk from a measured sample.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Make a dataset of synthetic faces and their radar images, or finish one that was begun."""
    from radarbook.datasets.synthetic import Estimate, generate_from_settings

    if workers and scheduler:
        raise InputError("expected --workers or --scheduler, found both")
    report = generate_from_settings(
        output,
        model=model,
        profile=_profile(profile, parameter),
        count=count,
        seed=seed,
        workers=workers,
        scheduler=scheduler,
        repair=repair,
        dry_run=dry_run,
        device=device,
    )
    if isinstance(report, Estimate):
        typer.echo(str(report))
        return
    typer.echo(
        f"{report.folder}: {report.made} images made, {report.kept} were there "
        f"({report.seconds:.1f} s)"
    )


Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="A generated dataset.")]
Folder = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Checkpoint, history, weights.")
]
ImagesOf = Annotated[
    str, typer.Option("--model", help="The face model that the images are of: as for generate.")
]
Weights = Annotated[Path, typer.Option(help="weights.safetensors, or the folder that holds it.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@train_app.command("encoder")
def train_encoder_command(
    data: Data,
    output: Folder,
    inputs: Inputs = "both",
    model: ImagesOf = "procedural",
    profile: ProfileName = "laptop",
    parameter: Set = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train an encoder: radar image to face parameters. Killed, it goes on where it was."""
    from radarbook.datasets.storage import FaceDataset
    from radarbook.training.tasks import train_encoder

    train, validation = FaceDataset(data, "train"), FaceDataset(data, "validation")
    settings = _profile(profile, parameter)
    _, history = train_encoder(
        train,
        validation,
        settings,
        inputs,
        output,
        seed,
        model=_model_of(train, model),
        device=device,
    )
    typer.echo(f"{output}: best validation error {history.best['validation']:.4f}")


@train_app.command("renderer")
def train_renderer_command(
    data: Data,
    output: Folder,
    model: ImagesOf = "procedural",
    profile: ProfileName = "laptop",
    parameter: Set = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Train the learned renderer: face parameters to radar image."""
    from radarbook.datasets.storage import FaceDataset
    from radarbook.training.tasks import train_renderer

    train, validation = FaceDataset(data, "train"), FaceDataset(data, "validation")
    settings = _profile(profile, parameter)
    _, history = train_renderer(
        train,
        validation,
        settings,
        output,
        seed,
        model=_model_of(train, model),
        device=device,
    )
    typer.echo(f"{output}: best validation error {history.best['validation']:.4f}")


@train_app.command("autoencoder")
def train_autoencoder_command(
    data: Data,
    output: Folder,
    encoder: Weights,
    renderer: Weights,
    model: ImagesOf = "procedural",
    profile: ProfileName = "laptop",
    parameter: Set = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Fine-tune an encoder through a frozen learned renderer."""
    from radarbook.datasets.storage import FaceDataset
    from radarbook.training.checkpoints import load_encoder, load_renderer
    from radarbook.training.tasks import train_autoencoder

    train, validation = FaceDataset(data, "train"), FaceDataset(data, "validation")
    settings = _profile(profile, parameter)
    _, history = train_autoencoder(
        train,
        validation,
        settings,
        load_encoder(_weights_file(encoder)),
        load_renderer(_weights_file(renderer)),
        output,
        seed,
        model=_model_of(train, model),
        device=device,
    )
    typer.echo(f"{output}: best validation error {history.best['validation']:.4f}")


def _model_of(data: FaceDataset, model: str) -> MorphableModel:
    """The face model with as many modes as a dataset's faces."""
    from radarbook.faces.model import load_model

    return load_model(model, data.settings["n_shape"], data.settings["n_expression"])


@app.command()
def evaluate(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="results.json")],
    network: Annotated[
        list[Path] | None,
        typer.Option(help="Weights of an encoder or autoencoder; repeat for more rows."),
    ] = None,
    model: Model = "procedural",
    profile: ProfileName = "laptop",
    split: Annotated[Literal["test", "validation"], typer.Option()] = "test",
    seed: Seed = 0,
) -> None:
    """Errors on held-out faces beside both baselines and the paper's, as JSON and a table."""
    from radarbook.datasets.storage import FaceDataset
    from radarbook.evaluation.metrics import baselines
    from radarbook.evaluation.metrics import evaluate as measure
    from radarbook.evaluation.tables import (
        MEAN_FACE,
        RANDOM_FACE,
        markdown_table,
        result_row,
        write_results,
    )
    from radarbook.faces.model import load_model
    from radarbook.profiles import get_profile
    from radarbook.training.checkpoints import load_predictor

    get_profile(profile)
    networks = [load_predictor(_weights_file(path)) for path in network or []]
    samples = FaceDataset(data, split, dynamic_range=-20.0)
    face_model = load_model(model, samples.settings["n_shape"], samples.settings["n_expression"])
    command = "radarbook " + " ".join(sys.argv[1:])
    common: dict[str, Any] = {"command": command, "profile": profile, "seconds": None}
    base = baselines(samples, face_model, seed=seed)
    rows = [
        result_row(MEAN_FACE, "–", base["mean"], **common),
        result_row(RANDOM_FACE, "–", base["random"], **common),
    ]
    for trained in networks:
        summary = measure(trained, samples, face_model, seed=seed)
        rows.append(result_row(trained.kind, trained.inputs, summary, **common))
    write_results(output, rows, about={"model": face_model.name, "split": split, "seed": seed})
    typer.echo(markdown_table(rows))


@app.command()
def results(
    profile: ProfileName = "laptop",
    model: Model = "procedural",
    parameter: Set = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of results; default build/PROFILE.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Networks trained and tested at once.")] = 1,
) -> None:
    """From no data to the full table, without notebooks: what is there already is not made again.

    Dataset, encoders, learned renderer, autoencoders and their errors on the test split, as
    chapters 3 to 5 use them.
    """
    from radarbook.evaluation.tables import markdown_table
    from radarbook.pipeline import Pipeline

    pipeline = Pipeline(_profile(profile, parameter), model, output, seed)
    pipeline.prepare(processes)
    typer.echo(markdown_table(pipeline.get("results")))
    typer.echo(str(pipeline.folder("results") / "results.json"))


# -- reconstruction ------------------------------------------------------------------------------


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
        tuple[int, int], typer.Option(metavar="SHAPE EXPRESSION", help="Coefficients fitted.")
    ] = (10, 7),
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
    from radarbook.faces.mesh import require_mesh_name, write_mesh
    from radarbook.faces.model import load_model

    require_mesh_name(output)
    if through == "physical":
        face_model = load_model(model, *modes)
        if thickest is not None and layer is None:
            raise InputError("--thickest: expected together with --layer, found it alone")
        between = _layer(layer)
        found, note, deviation = _fit_physical(
            source, face_model, optimize, distance, state, between, thickest, bounces
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
        found, note = _fit_learned(source, model, encoder, renderer, optimize, extent)
        deviation = None
        face_model = load_model(model, found.shape.shape[1], found.expression.shape[1])
    vertices = face_model.vertices(found.shape.float(), found.expression.float())[0]
    values = {}
    if deviation is not None and output.suffix.lower() == ".ply":  # which alone can hold it
        values["deviation"] = deviation
    write_mesh(output, vertices, face_model.triangles, values=values)
    x, y, z = (1e3 * found.translation[0]).tolist()
    yaw, pitch, roll = found.rotation[0].rad2deg().tolist()
    typer.echo(note)
    typer.echo(f"translation {x:+.1f} {y:+.1f} {z:+.1f} mm (x, y, z in the radar frame)")
    typer.echo(f"rotation {yaw:+.1f} {pitch:+.1f} {roll:+.1f} degrees (yaw, pitch, roll)")
    typer.echo(
        f"wrote {output} (millimetres, model frame, without pose"
        f"{'; deviation of each vertex' if values else ''})"
    )


def _fit_physical(
    source: Path,
    face_model: MorphableModel,
    steps: int | None,
    distance: float,
    state: Path | None,
    layer: Layer | None,
    thickest: float | None,
    bounces: int | None,
) -> tuple[FaceParameters, str, Tensor | None]:
    """The face, what to say of the fit, and, if it is finished, deviations of vertices (N,) mm."""
    from radarbook.datasets.recordings import read_recording
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
    recording = read_recording(source)
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
        if state is not None:
            end += f"; the same command goes on from {state}"
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
        shipped,
        shipped_path,
    )

    image = load_image(source).with_dynamic_range(-20.0) if _is_image(source) else None
    side = None if image is None else image.depth.shape[-1]
    predictor: Any
    if encoder is None:
        predictor = shipped("autoencoder", model=load_model(model), pixels=side)
    else:
        predictor = load_predictor(_weights_file(encoder))
    config = predictor.config.get("encoder", predictor.config)
    if image is None:
        from radarbook.datasets.recordings import read_recording

        near = config["distance"]
        depth = (near - 0.07, near + 0.17)
        image = _image_of(read_recording(source), config["pixels"], extent, depth, -20.0)
    elif side != config["pixels"]:
        raise InputError(
            f"{source}: expected {config['pixels']} pixels as the encoder was trained on, "
            f"found {side}"
        )
    if not steps or (renderer is None and encoder is not None):
        with torch.no_grad():
            return predictor.predict(image), "encoder alone (--optimize N refines its answer)"
    weights = shipped_path("renderer") if renderer is None else _weights_file(renderer)
    drawing = load_renderer(weights)
    result = reconstruct_through_learned(image, predictor, drawing, steps, progress=True)
    return result.parameters, f"{result.steps} steps in {result.seconds:.0f} s: {result.reason}"


def _is_image(path: Path) -> bool:
    """True for an HDF5 file that holds an image rather than a recording."""
    import h5py

    if path.suffix not in (".h5", ".hdf5") or not path.is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path) as file:
        return "amplitude_db" in file


# -- what commands share -------------------------------------------------------------------------


def _weights_file(path: Path) -> Path:
    return path / "weights.safetensors" if path.is_dir() else path


def _mesh_signal(
    path: Path,
    units: Literal["mm", "m"],
    material: float,
    antenna_size: float,
    frequencies: int,
    layer: tuple[float, float, str] | None,
) -> NDArray[np.complex64]:
    """Signal of a mesh file in front of the QAR50 array, complex64 (rx, tx, f)."""
    import torch

    from radarbook.faces.mesh import read_mesh
    from radarbook.radar.array import qar50
    from radarbook.radar.meshes import check_scene
    from radarbook.radar.simulate import simulate
    from radarbook.radar.waveform import qar50_waveform

    mesh = read_mesh(path, units)
    vertices, triangles = check_scene(mesh.vertices, mesh.triangles, str(path))
    with torch.no_grad():
        signal = simulate(
            vertices.float(),
            triangles,
            qar50(),
            qar50_waveform(frequencies),
            material=material,
            antenna_size=antenna_size,
            layer=_layer(layer),
        )
    return signal.numpy()


def _layer(given: tuple[float, float, str] | None) -> Layer | None:
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


def _write_image(
    recording: Recording,
    output: Path,
    pixels: int,
    extent: float,
    depth: tuple[float, float],
    dynamic_range: float,
    png: Path | None,
) -> None:
    from radarbook.radar.image import save_image

    picture = _image_of(recording, pixels, extent, depth, dynamic_range)
    save_image(output, picture)
    typer.echo(f"wrote {output}: {pixels} x {pixels} pixels, clipped at {dynamic_range:g} dB")
    if png is not None:
        from radarbook.figures import radar_image, save_png

        save_png(radar_image(picture, 0), png)
        typer.echo(f"wrote {png}")


def _image_of(
    recording: Recording,
    pixels: int,
    extent: float,
    depth: tuple[float, float],
    dynamic_range: float,
) -> RadarImage:
    import torch

    from radarbook.radar.image import image_from_volume
    from radarbook.radar.imaging import Grid, back_project

    near, far = depth
    if not 0 < near < far:
        raise InputError(f"--depth: expected 0 < NEAR < FAR metres, found {near} {far}")
    # A plane every 4 mm: four to the 15 mm resolution cell, so the peak's parabola is well fed.
    planes = max(4, round((far - near) / 4e-3) + 1)
    grid = Grid.regular(extent, pixels, near, far, planes)
    with torch.no_grad():
        volume = back_project(recording.signal, recording.array, recording.waveform, grid)
        return image_from_volume(volume[None], grid, dynamic_range)


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
