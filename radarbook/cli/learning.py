"""Commands of learning: generate, train, evaluate, results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from radarbook.cli.app import app, train_app
from radarbook.cli.interrupts import interruptible
from radarbook.cli.options import (
    Device,
    Inputs,
    Model,
    ProfileName,
    Scheduler,
    Seed,
    Set,
    Weights,
    Workers,
    check,
    face_model_of,
    profile_of,
    weights_file,
)
from radarbook.errors import InputError
from radarbook.targets import Target

if TYPE_CHECKING:
    from radarbook.datasets.storage import FaceDataset
    from radarbook.faces.model import MorphableModel


@app.command()
def generate(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")],
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of images; default the profile's.")
    ] = None,
    model: Model = "procedural",
    profile: ProfileName = "laptop",
    parameter: Set = None,
    seed: Seed = 0,
    workers: Workers = None,
    scheduler: Scheduler = None,
    repair: Annotated[bool, typer.Option(help="Generate damaged shards again.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Only estimate time, memory and disk, from a measured sample.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Generate synthetic faces and their radar images, or complete an unfinished dataset."""
    from radarbook.cluster import require_workers
    from radarbook.datasets.synthetic import Estimate, generate_from_settings

    require_workers(workers, scheduler)
    if not dry_run:
        check({"--output": Target(output, folder=True)}, {"--model": model})
    face_model_of(model)  # an invalid file is refused here, a doubtful one noted
    kept = "" if dry_run else f"finished shards are kept in {output}, the same command goes on"
    with interruptible(kept):
        report = generate_from_settings(
            output,
            model=model,
            profile=profile_of(profile, parameter),
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


#: What an interrupted training keeps.
_KEPT = "the last checkpoint is kept in {}, the same command goes on"

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="A generated dataset.")]
Folder = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Checkpoint, history, weights.")
]
ImagesOf = Annotated[
    str, typer.Option("--model", help="The face model of the images, as for generate.")
]


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
    """Train an encoder: radar image to face parameters. Resumes after a stop."""
    from radarbook.training.tasks import train_encoder

    _train(train_encoder, data, output, model, profile, parameter, seed, device, inputs)


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
    from radarbook.training.tasks import train_renderer

    _train(train_renderer, data, output, model, profile, parameter, seed, device)


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
    from radarbook.training.checkpoints import load_encoder, load_renderer
    from radarbook.training.tasks import train_autoencoder

    files = weights_file(encoder), weights_file(renderer)

    def train(faces: Any, validation: Any, settings: Any, *rest: Any, **more: Any) -> Any:
        networks = load_encoder(files[0]), load_renderer(files[1])
        return train_autoencoder(faces, validation, settings, *networks, *rest, **more)

    _train(train, data, output, model, profile, parameter, seed, device, weights=files)


def _train(
    train: Callable[..., Any],
    data: Path,
    output: Path,
    model: str,
    profile: str,
    parameter: list[str] | None,
    seed: int,
    device: str,
    *parts: Any,
    weights: Sequence[Path] = (),
) -> None:
    """Check, train on the splits of ``data``, state the best validation error."""
    from radarbook.datasets.storage import FaceDataset

    _check_training(output, data, model, *weights)
    faces, validation = FaceDataset(data, "train"), FaceDataset(data, "validation")
    given = faces, validation, profile_of(profile, parameter), *parts, output, seed
    with interruptible(_KEPT.format(output)):
        _, history = train(*given, model=_model_of(faces, model), device=device)
    typer.echo(f"{output}: best validation error {history.best['validation']:.4f}")


def _check_training(output: Path, data: Path, model: str, *weights: Path) -> None:
    from radarbook.targets import same_file
    from radarbook.training.loop import CHECKPOINT, HISTORY
    from radarbook.training.tasks import WEIGHTS

    if same_file(output, data):
        raise InputError(f"--output {output}: expected another folder than that of the dataset")
    files = (CHECKPOINT, HISTORY, WEIGHTS)
    check(
        {"--output": Target(output, folder=True, files=files)},
        {"--model": model, "--encoder, --renderer": weights},
    )


def _model_of(data: FaceDataset, model: str) -> MorphableModel:
    """The face model with as many modes as a dataset's faces."""
    return face_model_of(model, data.settings["n_shape"], data.settings["n_expression"])


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
    split: Annotated[
        Literal["test", "validation"], typer.Option(help="The held-out faces to use.")
    ] = "test",
    seed: Seed = 0,
) -> None:
    """Errors on held-out faces next to two baselines and the paper's, as JSON and a table."""
    from radarbook.datasets.storage import FaceDataset, dataset_files
    from radarbook.evaluation.metrics import baselines
    from radarbook.evaluation.metrics import evaluate as measure
    from radarbook.profiles import get_profile
    from radarbook.reports.results import (
        MEAN_FACE,
        RANDOM_FACE,
        markdown_table,
        result_row,
        write_results,
    )
    from radarbook.training.checkpoints import load_predictor, require_weights_of

    read = [weights_file(path) for path in network or []]
    check(
        {"--output": Target(output, (".json",))},
        {"--data": dataset_files(data), "--network": read, "--model": model},
    )
    get_profile(profile)
    networks = [load_predictor(path) for path in read]
    samples = FaceDataset(data, split, dynamic_range=-20.0)
    face_model = _model_of(samples, model)
    for path in read:
        require_weights_of(path, face_model)
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
    try:
        write_results(output, rows, about={"model": face_model.name, "split": split, "seed": seed})
    finally:  # printed even if it could not be written
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
    processes: Annotated[
        int, typer.Option(min=1, help="Networks trained and tested at the same time.")
    ] = 1,
) -> None:
    """Compute the full results table without notebooks; finished artefacts are not computed again.

    Dataset, encoders, learned renderer, autoencoders and their errors on the test split, as
    chapters 3 to 5 use them.
    """
    from radarbook.pipeline import Pipeline
    from radarbook.reports.results import markdown_table

    face_model_of(model)
    pipeline = Pipeline(profile_of(profile, parameter), model, output, seed)
    if not all(pipeline.have(name) for name in pipeline.names()):  # else nothing is written
        check({"--output": Target(pipeline.output, folder=True)}, {"--model": model})
    kept = f"finished artefacts are kept in {pipeline.artefacts}, the same command goes on"
    with interruptible(kept):
        pipeline.prepare(processes)
    typer.echo(markdown_table(pipeline.get("results")))
    typer.echo(str(pipeline.folder("results") / "results.json"))
