"""The command of the simulated campaign."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radarbook.cli.app import app
from radarbook.cli.interrupts import interruptible
from radarbook.cli.options import Model, check, face_model_of, weights_file
from radarbook.errors import InputError
from radarbook.targets import Target

if TYPE_CHECKING:
    from radarbook.datasets.campaign.folder import Takes
    from radarbook.faces.parameters import FaceParameters


@app.command()
def campaign(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")],
    subjects: Annotated[int, typer.Option(min=2, max=999, help="People.")] = 12,
    takes: Annotated[
        int, typer.Option(min=1, max=99, help="Takes of each of seven expressions.")
    ] = 3,
    model: Model = "procedural",
    network: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights of an encoder or autoencoder; repeat for more. Default: those that ship."
        ),
    ] = None,
    fits: Annotated[
        Path | None,
        typer.Option(
            metavar="FITS",
            help="Also what 'radarbook reconstruct DIR/takes -o FITS' has fitted so far.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Local processes of one thread each.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="campaign.json", help="Also write all predictions, as JSON."),
    ] = None,
) -> None:
    """Simulate recordings of several people, or extend them, and state what networks see in them.

    People, expressions, poses, hair, shoulders, blankets and faults of the instrument are listed,
    with the reasons, in radarbook/datasets/campaign/plan.py. Finished takes are kept.
    """
    from radarbook.datasets.campaign.folder import make, read
    from radarbook.datasets.campaign.plan import Campaign
    from radarbook.evaluation.campaign import read_predictions
    from radarbook.files import write_json
    from radarbook.reports.campaign import expression_table, kinds, people_table, predictions
    from radarbook.training.checkpoints import load_predictor, require_weights_of, shipped_path

    face_model = face_model_of(model)
    given = [weights_file(path) for path in network or []]
    targets = {"--output": Target(output, folder=True)}
    if results is not None:
        targets["--results"] = Target(results, (".json",))
    check(targets, {"--model": model, "--network": given, "--fits": fits})
    for path in given:
        require_weights_of(path, face_model)
    networks = {path.parent.name or path.stem: load_predictor(path) for path in given}
    if not given and model == "procedural":
        kinds_shipped = ("encoder", "autoencoder")
        networks = {kind: load_predictor(shipped_path(kind)) for kind in kinds_shipped}
    plan = Campaign(subjects=subjects, takes=takes)
    with interruptible(f"finished takes are kept in {output}, the same command goes on"):
        report = make(output, plan, model, workers=workers)
    typer.echo(
        f"{report.folder}: {report.made} takes made, {report.kept} were there "
        f"({report.seconds:.1f} s)"
    )
    takes_there = read(output, plan)
    fitted = None if fits is None else {"physical fit": _fitted(fits, takes_there)}
    found = predictions(takes_there, plan, networks, fitted)
    if results is not None:
        write_json(results, found)
    labels, by = read_predictions(found)
    typer.echo(people_table(labels, by, kinds(found)))
    typer.echo(expression_table(labels, by, kinds(found)))


def _fitted(folder: Path, takes: Takes) -> FaceParameters:
    """The fits that a folder of ``radarbook reconstruct`` has of some takes; NaN for the others."""
    import torch

    from radarbook.batch.faces import Files
    from radarbook.datasets.campaign.folder import file_name

    truth = takes.truth
    shape, expression = (
        torch.full((len(truth), count), torch.nan)
        for count in (takes.cast.own, truth.expression.shape[1])
    )
    for n, name in enumerate(takes.names):
        kept = Files(folder, file_name(name)).read()
        if kept is not None:
            for values, what in ((shape, "shape"), (expression, "expression")):
                found = [p.value for p in kept["face"].parameters if p.name.startswith(f"{what} ")]
                if len(found) != values.shape[1]:
                    raise InputError(
                        f"{folder}: expected fits of {values.shape[1]} {what} coefficients, found "
                        f"{len(found)}: of another face model?"
                    )
                values[n] = torch.tensor(found)
    if not bool(shape.isfinite().any()):
        raise InputError(f"{folder}: expected fits of the campaign's takes, found none")
    return truth.replace(shape=shape, expression=expression)
