"""The table and the page of a folder of fitted faces."""

from __future__ import annotations

import base64
import csv
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from radarbook.batch.faces import FittedFace, Parameter, named_parameters
from radarbook.batch.folder import FolderReport
from radarbook.files import write_text
from radarbook.fitting.frames import FramesReconstruction
from radarbook.provenance import hardware, versions
from radarbook.reports.table import table

TABLE, PAGE = "table.csv", "report.html"

_COLUMNS = (
    "recording", "face", "residual (%)", "predicted (%)", "x, y, z (mm)",
    "yaw, pitch, roll (°)", "deviation (mm)", "steps", "time (s)",
)  # fmt: skip

#: Inside the page: it asks for no other file.
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #8886; }
th:first-child, td:first-child { text-align: left; }
.wide { overflow-x: auto; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: center; }
.pictures img { max-width: 100%; height: auto; background: #fff; }
pre { white-space: pre-wrap; }
section { border-top: 2px solid #8886; margin-top: 2rem; }
"""


def write_report(report: FolderReport) -> tuple[Path, Path]:
    """Write ``table.csv`` and ``report.html`` of a folder; returns their paths.

    The page holds its pictures and asks for no other address.

    Examples
    --------
    >>> none = FolderReport(Path("faces"), {}, {}, {Path("a.npy"): "a.npy: empty"}, 0, 0, 0.0)
    >>> [path.name for path in write_report(none)]
    ['table.csv', 'report.html']
    """
    paths = report.folder / TABLE, report.folder / PAGE
    write_text(paths[0], csv_table(report))
    write_text(paths[1], page(report))
    return paths


def summary_rows(report: FolderReport) -> list[list[str]]:
    """A row of text for each face: recording, accepted or not, normalised residual power and the
    predicted one (%), position (mm), orientation (degrees), mean stated deviation of a vertex (mm),
    steps and seconds."""
    return [_row(name, face) for name, face in report.faces.items()]


def markdown(report: FolderReport) -> str:
    """:func:`summary_rows` as Markdown, as the command line prints it."""
    return table(_COLUMNS, summary_rows(report))


def _row(name: str, face: FittedFace) -> list[str]:
    place = ", ".join(f"{face.value(axis):+.1f}" for axis in ("x", "y", "z"))
    turn = ", ".join(f"{face.value(angle):+.1f}" for angle in ("yaw", "pitch", "roll"))
    return [
        name,
        _status(face.accepted),
        f"{100 * face.residual:.1f}",
        f"{100 * face.predicted:.1f}",
        place,
        turn,
        "–" if face.vertex_mean is None else f"{face.vertex_mean:.2f}",
        str(face.steps),
        f"{face.seconds:.0f}",
    ]


def csv_table(report: FolderReport) -> str:
    """One line for each recording, skipped ones at the end. Parameters are in the units of
    :func:`~radarbook.batch.faces.named_parameters`; next to each is its standard deviation,
    empty if none is stated."""
    first = next(iter(report.faces.values()), None)
    columns = [
        "recording", "path", "status", "reason", "residual", "predicted",
        "vertex deviation mean (mm)", "vertex deviation most (mm)", "steps", "seconds",
    ]  # fmt: skip
    columns += _parameter_columns(first.parameters if first is not None else ())
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    write.writerow(columns)
    for name, face in report.faces.items():
        values: list[float | None] = [face.residual, face.predicted]
        values += [face.vertex_mean, face.vertex_most, face.steps, face.seconds]
        cells = [*map(_cell, values), *_parameter_cells(face.parameters)]
        write.writerow([name, report.paths[name], _status(face.accepted), face.reason, *cells])
    for path, why in report.skipped.items():
        write.writerow([path.stem, path, "skipped", why, *[""] * (len(columns) - 4)])
    return text.getvalue()


def frames_table(names: Sequence[str], found: FramesReconstruction) -> str:
    """CSV of a joint fit, one line for each frame; parameters as :func:`csv_table` has them."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n")
    sure = found.uncertainties or [None] * len(found)
    rows = [named_parameters(found.parameters[n], sure[n]) for n in range(len(found))]
    head = ["recording", "status", "reason", "residual", "predicted"]
    write.writerow([*head, *_parameter_columns(rows[0])])
    for name, verdict, row in zip(names, found.verdicts, rows, strict=True):
        powers = map(_cell, (verdict.residual, verdict.predicted))
        status = _status(verdict.accepted)
        write.writerow([name, status, str(verdict), *powers, *_parameter_cells(row)])
    return text.getvalue()


def _status(accepted: bool) -> str:
    return "accepted" if accepted else "not accepted"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _parameter_columns(parameters: Sequence[Parameter]) -> list[str]:
    columns = []
    for one in parameters:
        unit = f" ({one.unit})" if one.unit else ""
        columns += [f"{one.name}{unit}", f"{one.name} deviation{unit}"]
    return columns


def _parameter_cells(parameters: Sequence[Parameter]) -> list[str]:
    return [_cell(value) for one in parameters for value in (one.value, one.deviation)]


def page(report: FolderReport) -> str:
    """The page: all faces in a table, and each with its pictures, text and parameters."""
    rows = summary_rows(report)
    counted = f"{len(rows)} fitted, {report.accepted} accepted, {len(report.skipped)} skipped"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Faces from {len(rows)} recordings</title><style>{_STYLE}</style></head><body>",
        f"<h1>Faces from {len(rows)} recordings</h1><p>{counted}.</p>",
    ]
    if rows:
        linked = [[f'<a href="#{n}">{_escaped(r[0])}</a>', *map(_escaped, r[1:])]
                  for n, r in enumerate(rows)]  # fmt: skip
        parts.append(f'<div class="wide">{_table(_COLUMNS, linked)}</div>')
        parts.append(
            "<p>The residual is the normalised residual power; the fitted material and the stated "
            "noise predict the other. The deviation is the stated standard deviation of a vertex, "
            "mean over the face. It is stated of accepted faces alone.</p>"
        )
    if report.skipped:
        lines = (f"<li>{_escaped(_named(path, why))}</li>" for path, why in report.skipped.items())
        parts.append(f"<h2>Skipped</h2><ul>{''.join(lines)}</ul>")
    for n, name in enumerate(report.faces):
        parts += _section(report, name, n)
    known = ", ".join(f"{name} {number}" for name, number in versions().items())
    parts.append(f"<footer><p>{_escaped(hardware())}; {_escaped(known)}</p></footer></body></html>")
    return "\n".join(parts) + "\n"


def _named(path: Path, why: str) -> str:
    return why if str(path) in why else f"{path}: {why}"


def _section(report: FolderReport, name: str, number: int) -> Iterator[str]:
    face, files = report.faces[name], report.files(name)
    yield f'<section id="{number}"><h2>{_escaped(name)}</h2><div class="pictures">'
    about = f"Radar image of {name}", f"Fitted face of {name}"
    for path, alt in zip(files.pictures, about, strict=True):
        data = base64.b64encode(path.read_bytes()).decode()
        yield f'<img alt="{_escaped(alt)}" src="data:image/png;base64,{data}">'
    yield f"</div><pre>{_escaped(face.text)}</pre>"
    rows = [
        [
            _escaped(one.name),
            f"{one.value:+.3f}",
            "–" if one.deviation is None else f"{one.deviation:.3f}",
            _escaped(one.unit),
        ]
        for one in face.parameters
    ]
    columns = ("parameter", "value", "deviation", "unit")
    yield f"<details><summary>Parameters</summary>{_table(columns, rows)}</details></section>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are HTML."""
    head = "".join(f"<th>{_escaped(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _escaped(text: str) -> str:
    return html.escape(text)
