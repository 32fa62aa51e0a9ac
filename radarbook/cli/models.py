"""Commands of face models: info, build, convert, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from radarbook.cli.app import model_app
from radarbook.cli.options import Seed, check, echo_notes, face_model_of
from radarbook.targets import HDF5, Target


@model_app.command("info")
def model_info(model: Annotated[str, typer.Argument(help="'procedural' or a file.")]) -> None:
    """Print what a face model holds: kind, units, modes with standard deviations, surface."""
    from radarbook.faces.summary import summary

    face_model, rows = summary(model)
    echo_notes(face_model)
    for name, value in rows.items():
        typer.echo(f"{name:<13} {value}")


@model_app.command("build")
def model_build(output: Annotated[Path, typer.Argument(metavar="OUT.h5")]) -> None:
    """Write the procedural face model as a Basel Face Model 2019 file."""
    from radarbook.faces.bfm import write_bfm
    from radarbook.faces.load import load_model

    check({"OUT.h5": Target(output, HDF5)})
    write_bfm(output, load_model("procedural"))
    typer.echo(f"wrote {output}")


@model_app.command("convert-ict")
def model_convert_ict(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder FaceXModel of ICT-FaceKit.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT.h5")],
    seed: Seed = 0,
) -> None:
    """Convert ICT-FaceKit's OBJ files to a Basel Face Model 2019 file."""
    from radarbook.faces.ict import convert_ict

    objects = [*folder.glob("*.obj"), *folder.glob("FaceXModel/*.obj")]
    check({"OUT.h5": Target(output, HDF5)}, {"DIR": objects})
    convert_ict(folder, output, seed=seed)
    typer.echo(f"wrote {output}")


@model_app.command("export")
def model_export(
    model: Annotated[str, typer.Argument(help="'procedural' or a file.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.ply|OUT.obj")],
    seed: Annotated[
        int | None, typer.Option(help="Seed of a random face; default the neutral mean face.")
    ] = None,
) -> None:
    """Export a face of a model as a mesh in millimetres (model frame)."""
    from radarbook.datasets.synthetic import random_parameters
    from radarbook.faces.mesh import SUFFIXES, write_mesh

    check({"OUT": Target(output, SUFFIXES)}, {"MODEL": model})
    face_model = face_model_of(model)
    vertices = face_model.mean
    if seed is not None:
        sampled = random_parameters([0], seed, face_model.n_shape, face_model.n_expression)
        vertices = face_model.vertices(sampled.shape, sampled.expression)[0]
    write_mesh(output, vertices, face_model.triangles)
    typer.echo(f"wrote {output} (millimetres, +x the subject's left, +y up, +z out of the nose)")
