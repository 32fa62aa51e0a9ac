"""A description of a recording: what the file of a radar does not say about itself.

It is a small TOML file (the book's page on recordings, :doc:`/recordings`). Each field has one
meaning, an obvious default where there is one, and a malformed field is refused by one line that
names it.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from radarbook.errors import InputError

Axis = Literal["shot", "iq", "x", "y", "z", "position", "pair", "rx", "tx", "f"]
#: What an axis of a signal can count.
AXES: tuple[Axis, ...] = ("shot", "iq", "x", "y", "z", "position", "pair", "rx", "tx", "f")
#: Axes of which a signal has exactly one choice: what its channels are.
_SCAN = ("x", "y", "z")
ANGLE_UNITS = {"rad": 1.0, "deg": math.pi / 180}


# -- kinds of values ----------------------------------------------------------------------------


def _number_or_name(value: Any) -> Any:
    if isinstance(value, str) or (_is_number(value) and math.isfinite(value)):
        return value
    raise ValueError("a number or the name of a variable")


def _numbers_or_name(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_number(v) for v in value):
        return [float(v) for v in value]
    raise ValueError("a list of numbers or the name of a variable")


def _axes(value: Any) -> Any:
    """Axes as a list, or as one text: ``"rx, tx, f"``."""
    names = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(f'axes in the order of the file, such as "rx, tx, f", of {_listed(AXES)}')
    for name in names:
        if name not in AXES:
            raise ValueError(f"axes of {_listed(AXES)}", name)
        if names.count(name) > 1:
            raise ValueError("each axis once", f"{name} twice")
    if "f" not in names:
        raise ValueError("an axis f, the frequencies")
    channels = [n for n in names if n in ("pair", "position", "rx", "tx")]
    scan = [n for n in names if n in _SCAN]
    allowed = ({"rx", "tx"}, {"pair"}, {"position"}, *([set()] if scan else []))
    if set(channels) not in allowed:
        raise ValueError("the channels as rx and tx, as pair, as position, or as x, y, z of a scan")
    return names


def _pairs(value: Any) -> Any:
    """A rule ``20*tx + rx``, or where a table of pairs is."""
    if isinstance(value, dict):
        return Numbers.model_validate(value)
    if isinstance(value, str):
        pair_rule(value)
        return value
    raise ValueError('a rule such as "20*tx + rx", or { file = "…", variable = "…" }')


def _antennas(value: Any) -> Any:
    """Rows of the table, ``"0-19"``, positions, or where they are."""
    if isinstance(value, dict):
        return Numbers.model_validate(value)
    if isinstance(value, str):
        return rows_of(value)
    if isinstance(value, list) and value:
        if all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in value):
            return value
        if all(isinstance(p, list) and len(p) == 3 and all(map(_is_number, p)) for p in value):
            return [[float(v) for v in p] for p in value]
    raise ValueError(
        'rows of the table such as "0-19", positions [[x, y, z], …], or { file = "…" }'
    )


def _background(value: Any) -> Any:
    if isinstance(value, dict):
        return Numbers.model_validate(value)
    if value in ("none", "mean"):
        return value
    raise ValueError('"none", "mean", or { file = "empty.npy" }')


def _three(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 3 and all(map(_is_finite, value)):
        return [float(v) for v in value]
    raise ValueError("three numbers, such as [0, 0, 0.3]")


def _rotation(value: Any) -> Any:
    """A rotation vector, degrees, or a matrix by rows."""
    rows = value if isinstance(value, list) and len(value) == 3 else []
    if rows and all(map(_is_finite, rows)):
        return [float(v) for v in rows]
    if rows and all(isinstance(r, list) and len(r) == 3 and all(map(_is_finite, r)) for r in rows):
        return [[float(v) for v in row] for row in rows]
    raise ValueError(
        "an axis times an angle in degrees, such as [0, 40, 0], or the rows of a matrix"
    )


def _shot(value: Any) -> Any:
    if value == "mean" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError('the number of a shot from 0, or "mean"')


def _sign(value: Any) -> Any:
    if value in ("+", "-"):
        return value
    raise ValueError('"+" or "-", the sign of the phase φ in the factor e^{±jφ}')


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Numbers(_Table):
    """Numbers in a file: ``{ file = "…", variable = "…" }``."""

    file: str | None = None
    variable: str | None = None


class Phase(Numbers):
    """A phase correction: the signal is multiplied by e^{±jφ}."""

    sign: Annotated[str, BeforeValidator(_sign)] = "+"
    unit: Literal["rad", "deg"] = "rad"


# -- the tables ---------------------------------------------------------------------------------


class SignalTable(_Table):
    """``[signal]``: which numbers, in what order."""

    axes: Annotated[list[Axis], BeforeValidator(_axes)]
    variable: str | Annotated[list[str], Field(min_length=1)] | None = None
    i: str | None = None
    q: str | None = None
    shape: list[Annotated[int, Field(gt=0)]] | None = None
    iq: Literal["IQ", "QI"] = "IQ"
    conjugate: bool = False
    shot: Annotated[int | str, BeforeValidator(_shot)] = 0

    @model_validator(mode="after")
    def _check(self) -> SignalTable:
        if (self.i is None) != (self.q is None):
            raise ValueError("both i and q, the names of two variables")
        if self.i is not None and (self.variable is not None or "iq" in self.axes):
            raise ValueError("either i and q, or variable with an axis iq, and not both")
        if self.iq == "QI" and "iq" not in self.axes:
            raise ValueError("iq only with an axis iq in axes")
        several = isinstance(self.variable, list)
        if several and "shot" in self.axes:
            raise ValueError("either several variables or an axis shot, and not both")
        return self


class FrequencyTable(_Table):
    """``[frequencies]``: start, stop and count, or a list."""

    start: Annotated[float | str | None, BeforeValidator(_number_or_name)] = None
    stop: Annotated[float | str | None, BeforeValidator(_number_or_name)] = None
    count: Annotated[int | str | None, BeforeValidator(_number_or_name)] = None
    values: Annotated[list[float] | str | None, BeforeValidator(_numbers_or_name)] = None
    file: str | None = None
    unit: Literal["Hz", "kHz", "MHz", "GHz"] = "Hz"

    @model_validator(mode="after")
    def _check(self) -> FrequencyTable:
        steps = [v is not None for v in (self.start, self.stop)]
        if any(steps) and not all(steps):
            raise ValueError("both start and stop")
        if all(steps) == (self.values is not None or (self.file is not None and not any(steps))):
            raise ValueError("either start and stop, or values")
        if self.count is not None and not all(steps):
            raise ValueError("count together with start and stop")
        return self


class AntennaTable(_Table):
    """``[antennas]``: positions, which transmit and which receive, and how pairs are numbered."""

    file: str | None = None
    variable: str | None = None
    unit: Literal["m", "cm", "mm"] = "m"
    tx: Annotated[Any, BeforeValidator(_antennas)] = None
    rx: Annotated[Any, BeforeValidator(_antennas)] = None
    pairs: Annotated[Any, BeforeValidator(_pairs)] = None


class ScanTable(_Table):
    """``[scan]``: where the antennas are moved."""

    step: Annotated[list[float] | str, BeforeValidator(_numbers_or_name)]
    start: Annotated[list[float] | str | None, BeforeValidator(_numbers_or_name)] = None
    unit: Literal["m", "cm", "mm"] = "m"


class PoseTable(_Table):
    """``[pose]``: where the array's own frame is in the radar frame of the scene."""

    origin: Annotated[list[float], BeforeValidator(_three)] = [0.0, 0.0, 0.0]
    rotation: Annotated[Any, BeforeValidator(_rotation)] = [0.0, 0.0, 0.0]
    unit: Literal["m", "cm", "mm"] = "m"


class CorrectionTable(_Table):
    """``[corrections]``: what is done to the signal, in the order of these fields."""

    background: Annotated[Any, BeforeValidator(_background)] = "none"
    phase: Phase | None = None
    channel_phase: Phase | None = None
    delay: Annotated[float, Field(ge=-1e-7, le=1e-7)] = 0.0


class ImageTable(_Table):
    """``[image]``: what is imaged unless something else is asked for, m."""

    stand_off: Annotated[float | str | None, BeforeValidator(_number_or_name)] = None
    depth: Annotated[list[float] | str | None, BeforeValidator(_numbers_or_name)] = None
    extent: Annotated[float | None, Field(gt=0, le=2)] = None


class Description(_Table):
    """What a radar's file does not say about itself.

    Files are named relative to ``folder``, that of the description; a table's numbers come from
    the recording itself where it names no file.

    Examples
    --------
    >>> text = '''
    ... [signal]
    ... axes = "iq, f, x, y"
    ... iq = "QI"
    ... [frequencies]
    ... start = 22.2
    ... stop = 26.2
    ... unit = "GHz"
    ... [scan]
    ... step = [3, 3]
    ... unit = "mm"
    ... '''
    >>> parse_description(text, "radar.toml").signal.axes
    ['iq', 'f', 'x', 'y']
    """

    title: str = ""
    signal: SignalTable
    frequencies: FrequencyTable
    antennas: AntennaTable | None = None
    scan: ScanTable | None = None
    pose: PoseTable | None = None
    corrections: CorrectionTable = CorrectionTable()
    image: ImageTable = ImageTable()
    source: str = Field(default="description", exclude=True)
    folder: Path = Field(default=Path(), exclude=True)

    @model_validator(mode="after")
    def _check(self) -> Description:
        axes, scan = self.signal.axes, [a for a in self.signal.axes if a in _SCAN]
        channels = {"rx", "tx", "pair", "position"} & set(axes)
        if scan and self.scan is None:
            raise ValueError(f"a table [scan] with the step along {_listed(scan)}", "none")
        if self.scan is not None and not scan:
            raise ValueError("an axis x, y or z in signal.axes for the table [scan]", "none")
        if channels and self.antennas is None:
            raise ValueError(f"a table [antennas] for the axis {_listed(sorted(channels))}", "none")
        if self.antennas is not None and "pair" in axes and self.antennas.pairs is None:
            raise ValueError('antennas.pairs, such as "20*tx + rx", for the axis pair', "none")
        return self


# -- reading ------------------------------------------------------------------------------------


def read_description(path: str | os.PathLike[str]) -> Description:
    """Read a description. Raises :class:`~radarbook.errors.InputError` naming the field."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected a text file in TOML, found {error}") from None
    return parse_description(text, str(path), path.parent)


def describe_array(
    array: str | os.PathLike[str],
    order: str,
    frequencies: tuple[float, float, int],
    *,
    frequency_unit: str = "Hz",
    units: str = "m",
) -> Description:
    """The description of a complex signal of a fixed array, whose antennas are a table.

    Parameters
    ----------
    array
        Text file of columns antenna (tx, rx or both), x, y, z in ``units``.
    order
        The signal's axes, such as ``"tx, rx, f"``.
    frequencies : (start, stop, count)
        In ``frequency_unit``, both ends included.

    Raises :class:`~radarbook.errors.InputError` for an order that is none.
    """
    start, stop, count = frequencies
    path = Path(array).absolute()
    values = {
        "signal": {"axes": order},
        "frequencies": {"start": start, "stop": stop, "count": count, "unit": frequency_unit},
        "antennas": {"file": str(path), "unit": units},
        "source": "--array, --order, --frequencies",
        "folder": path.parent,
    }
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        raise InputError(_line(error, "--order")) from None


def parse_description(text: str, source: str, folder: Path | None = None) -> Description:
    """A description from TOML; ``source`` is its name in messages, ``folder`` that of its files."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: expected TOML, found {error}") from None
    for name in ("source", "folder"):  # not the user's
        if name in values:
            raise InputError(_unknown(source, name, Description))
    place = {"source": source, "folder": folder or Path()}
    try:
        return Description.model_validate(values | place)
    except ValidationError as error:
        raise InputError(_line(error, source)) from None


def _line(error: ValidationError, source: str) -> str:
    """The first fault of a description, in one line."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if not _internal(part)]
    field, found = ".".join(place), first["input"]
    if first["type"] == "extra_forbidden":
        return _unknown(source, field, _model_at(place[:-1]))
    said = f"{source}: {field}: " if field else f"{source}: "
    if first["type"] == "missing":
        return f"{said}expected {_WANTED.get(field, 'this field')}, found none"
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValueError):
        expected, *other = cause.args
        shown = other[0] if other else None if isinstance(found, dict) else _shown(found)
        return f"{said}expected {expected}" + (f", found {shown}" if shown else "")
    message = first["msg"][0].lower() + first["msg"][1:]
    expected = message.removeprefix("input should be ").removeprefix("a valid ")
    if first["type"] == "model_type":
        expected = "a table"
    return f"{said}expected {expected}, found {_shown(found)}"


#: What is missing where a table or a field is required.
_WANTED = {
    "signal": 'a table [signal] with axes, such as "rx, tx, f"',
    "signal.axes": 'the order of the signal\'s axes, such as "rx, tx, f"',
    "frequencies": "a table [frequencies] with start and stop, or values",
    "scan.step": "the step along each axis of the scan, such as [3, 3]",
}


def _internal(part: int | str) -> bool:
    """Parts of a place that pydantic adds: kinds of a union."""
    kinds = ("str", "float", "int", "list")
    return isinstance(part, str) and (part in kinds or "[" in part or part[0].isupper())


def _model_at(place: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Description
    for name in place:
        found = model.model_fields[name].annotation if name in model.model_fields else None
        kinds = [found, *getattr(found, "__args__", ())]
        tables = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        model = tables[0] if tables else Numbers
    return model


def _unknown(source: str, field: str, model: type[BaseModel]) -> str:
    known = [name for name in model.model_fields if name not in ("source", "folder")]
    return f"{source}: {field}: unknown field, expected one of {', '.join(known)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


# -- small languages ----------------------------------------------------------------------------


def rows_of(text: str) -> list[int]:
    """Row numbers of ``"0-19"`` or ``"0-4, 7, 9"``, both ends included, from 0.

    >>> rows_of("0-2, 7")
    [0, 1, 2, 7]
    """
    rows: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if found is None:
            raise ValueError('rows from 0, both ends included, such as "0-19" or "0-4, 7"')
        first = int(found[1])
        last = first if found[2] is None else int(found[2])
        if last < first or last > 10**6:
            raise ValueError("rows that ascend, at most a million")
        rows += range(first, last + 1)
    return rows


def pair_rule(text: str) -> tuple[int, int, int]:
    """Factors (of tx, of rx, constant) of a rule for the number of a pair.

    >>> pair_rule("20*tx + rx")
    (20, 1, 0)
    """
    factors = {"tx": 0, "rx": 0, "": 0}
    plain = text.replace(" ", "")
    parts = re.findall(r"[+-]?[^+-]+", plain)
    for part in parts:
        found = re.fullmatch(r"([+-]?)(?:(\d+)\*?)?(tx|rx)?", part)
        if found is None or (found[2] is None and found[3] is None):
            parts = []
            break
        factor = int(found[2] or 1) * (-1 if found[1] == "-" else 1)
        factors[found[3] or ""] += factor
    if not parts or "".join(parts) != plain or factors["tx"] == 0 or factors["rx"] == 0:
        raise ValueError('a rule of tx and rx, their numbers from 0, such as "20*tx + rx"')
    return factors["tx"], factors["rx"], factors[""]
