"""The command that compares a fitted face with a scan (compare)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radarbook.cli.app import app
from radarbook.cli.options import Units, check, face_model_of, say_notes
from radarbook.targets import Target


@app.command()
def compare(
    fit: Annotated[
        Path, typer.Argument(metavar="FIT", help="Mesh of a face, mm, as reconstruct writes it.")
    ],
    scan: Annotated[Path, typer.Argument(metavar="SCAN", help="Mesh of any triangles.")],
    units: Units = "m",
    fit_units: Annotated[
        str, typer.Option(help="Unit of the fit's coordinates.", metavar="m|cm|mm|µm")
    ] = "mm",
    landmarks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Landmarks of the scan in --units: .ljson, JSON, or lines name,x,y,z.",
        ),
    ] = None,
    fit_landmarks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Landmarks of the fit in --fit-units, without --model."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Whose face the fit is, 'procedural' or a file: its landmarks and regions count.",
        ),
    ] = None,
    radius: Annotated[
        float, typer.Option(min=1e-3, max=10, help="Compare so far about the nose tip, metres.")
    ] = 0.075,
    facing: Annotated[
        float | None,
        typer.Option(
            min=1,
            max=180,
            help="Compare only where the normal is within so many degrees of the direction to the "
            "array.",
        ),
    ] = None,
    rotation: Annotated[
        tuple[float, float, float],
        typer.Option(
            metavar="YAW PITCH ROLL",
            help="Of the fitted face, degrees, for --facing; as reconstruct prints it.",
        ),
    ] = (0.0, 0.0, 0.0),
    align: Annotated[
        bool, typer.Option("--align/--no-align", help="Whether the scan is moved onto the fit.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="result.json|csv", help="Also write the results, in mm."
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(help="Also write a picture of the fit, coloured by its distance to the scan."),
    ] = None,
) -> None:
    """Compare a face with a scan: distances of the one surface to the other, after alignment.

    The scan is brought rigidly onto the fit by landmarks, if both have some, and then by iterative
    closest points. Statistics are over the area within --radius of the nose tip, by region where
    --model states the regions, and of both directions: scan to fit, which benchmarks of face
    reconstruction state, and fit to scan.
    """
    from dataclasses import replace

    import numpy as np
    import torch

    from radarbook.errors import InputError
    from radarbook.evaluation.surfaces import Surface
    from radarbook.evaluation.surfaces import compare as measure
    from radarbook.faces.landmarks import read_landmarks
    from radarbook.faces.mesh import read_mesh
    from radarbook.faces.pose import rotation_matrix

    check(
        {
            "--output": None if output is None else Target(output, (".json", ".csv")),
            "--png": None if png is None else Target(png, (".png",)),
        },
        {
            "FIT": fit,
            "SCAN": scan,
            "--landmarks": landmarks,
            "--fit-landmarks": fit_landmarks,
            "--model": model,
        },
    )
    if model is not None and fit_landmarks is not None:
        raise InputError("--fit-landmarks: expected without --model, which has its own")
    ours, theirs = read_mesh(fit, fit_units), read_mesh(scan, units)  # type: ignore[arg-type]
    if model is not None:
        first = Surface.of_model(face_model_of(model), ours)
    else:
        marks = {} if fit_landmarks is None else read_landmarks(fit_landmarks, fit_units)  # type: ignore[arg-type]
        first = Surface(ours.vertices, ours.triangles, marks)
    if landmarks is not None and not first.landmarks:
        raise InputError("--landmarks: expected with --model or --fit-landmarks, found neither")
    turn = rotation_matrix(torch.tensor([rotation], dtype=torch.float64).deg2rad())[0].numpy()
    first = replace(first, towards=turn.T @ np.array([0.0, 0.0, 1.0]))
    marks = {} if landmarks is None else read_landmarks(landmarks, units)
    result = measure(
        first,
        Surface(theirs.vertices, theirs.triangles, marks),
        radius=radius,
        facing=facing,
        align=align,
    )
    if not result.converged:
        say_notes(["the alignment did not converge; landmarks of both may help"])
    typer.echo(str(result))
    if output is not None:
        result.save(output)
        typer.echo(f"wrote {output}")
    if png is not None:
        from radarbook.figures import error_map, save_png

        values = 1e3 * result.vertex_distances()
        known = np.isfinite(values)
        shown = result.fit.triangles[known[result.fit.triangles].all(axis=1)]
        if not len(shown):
            raise InputError("--png: expected triangles in the compared part, found none")
        used, corners = np.unique(shown, return_inverse=True)
        save_png(
            error_map(
                1e3 * result.fit.vertices[used],
                corners.reshape(-1, 3),
                values[used],
                title="Distance of the fit to the scan",
                limit=float(np.quantile(values[used], 0.98)) or 1.0,
            ),
            png,
        )
        typer.echo(f"wrote {png}")
