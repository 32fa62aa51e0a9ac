"""Recordings of any radar, read as a description says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from radarbook.datasets.recordings.axes import (
    complex64,
    in_order,
    numbers,
    require_apart,
    waveform_of,
)
from radarbook.datasets.recordings.description import (
    ANGLE_UNITS,
    AntennaTable,
    Description,
    Numbers,
    Phase,
    pair_rule,
)
from radarbook.datasets.recordings.recording import Recording, View
from radarbook.datasets.recordings.variables import (
    Variables,
    open_variables,
    read_rows,
    read_table,
)
from radarbook.errors import InputError
from radarbook.radar.array import POSITION_UNITS, Array
from radarbook.radar.delay import without_delay
from radarbook.radar.limits import LARGEST_REACH
from radarbook.radar.signal import as_complex
from radarbook.radar.waveform import FREQUENCY_UNITS, Waveform, likely_frequency_unit

_SCAN = ("x", "y", "z")
#: Words of an antenna table's column ``antenna``.
_ROLES = {"tx": (True, False), "rx": (False, True), "both": (True, True)}


def read_described(
    path: Path,
    description: Description,
    *,
    shot: int | str | None = None,
    frequencies: Waveform | None = None,
) -> Recording:
    """One shot of a recording, as ``description`` says; ``frequencies`` replace its own.

    Raises :class:`~radarbook.errors.InputError` where file and description do not fit, naming the
    field.
    """
    return _Reading(path, description, shot, frequencies).recording()


@dataclass(frozen=True)
class _Channels:
    """A signal [scan axes, channel axes, f] and the names of its axes."""

    samples: NDArray[np.complexfloating]
    axes: tuple[str, ...]

    @property
    def sizes(self) -> dict[str, int]:
        return dict(zip(self.axes, self.samples.shape, strict=True))


class _Reading:
    """One reading of one file: its variables are opened once."""

    def __init__(
        self, path: Path, description: Description, shot: int | str | None, given: Waveform | None
    ) -> None:
        self.path, self.description, self.given = path, description, given
        self.shot = description.signal.shot if shot is None else shot
        self.notes: list[str] = []
        self.done: list[str] = []
        self.places = torch.zeros(1, 3, dtype=torch.float64)
        self._files: dict[Path, Variables] = {}

    def recording(self) -> Recording:
        signal, values = self.signal, self.frequencies
        waveform = self.given
        if waveform is None:
            self.require_plausible(values)
            waveform = waveform_of(values, "Hz", self.field("frequencies"))
        array, order = self.array()
        require_apart(array, waveform, self.field("antennas or scan"), "is the unit right?")
        array = self.moved(array)
        samples = order(self.corrected(signal, values))
        if self.given is None:
            samples, self.notes[len(self.notes) :] = in_order(samples, values, str(self.path))
        tensor = complex64(samples, str(self.path))
        delay = self.description.corrections.delay
        if delay:
            tensor = without_delay(tensor, waveform, delay)
            self.done.append(f"delay of {delay:g} s removed")
        meta: dict[str, str | int | float | bool] = {"path": str(self.path)}
        if self.description.title:
            meta["title"] = self.description.title
        return Recording(
            signal=tensor,
            array=array,
            waveform=waveform,
            meta=meta,
            notes=tuple(self.notes),
            provenance=tuple(self.done),
            view=self.view(),
        )

    # -- names and files --------------------------------------------------------------------------

    def field(self, name: str) -> str:
        """A field's name in a message."""
        return f"{self.description.source}: {name}"

    @contextmanager
    def naming(self, name: str) -> Iterator[None]:
        """Errors of what a field refers to, a file or a variable, name the field as well."""
        try:
            yield
        except InputError as error:
            said, own = str(error).removeprefix(f"{self.description.source}: "), self.field(name)
            raise InputError(f"{own}: {said.removeprefix(f'{name}: ')}") from None

    def file(self, name: str | None) -> Path:
        """A file that a table names: next to the description, or next to the recording."""
        if name is None:
            return self.path
        places = [self.description.folder / name, self.path.parent / name]
        return next((place for place in places if place.is_file()), places[0])

    def variables(self, path: Path) -> Variables:
        if path not in self._files:
            self._files[path] = open_variables(path)
        return self._files[path]

    def array_of(self, table: Numbers, field: str) -> NDArray[np.float64]:
        """Real numbers of a table ``{ file, variable }``; all columns of a text file."""
        path = self.file(table.file)
        with self.naming(field):
            if path.suffix.lower() in (".csv", ".txt") and table.variable is None:
                return read_table(path)[1]
            return numbers(self.variables(path).read(table.variable), self.field(field))

    def number(self, value: float | str, field: str) -> float:
        """A number, or that of a variable of the recording."""
        if not isinstance(value, str):
            return float(value)
        found = self.array_of(Numbers(variable=value), field)
        if found.size != 1 or not np.isfinite(found).all():
            raise InputError(
                f"{self.field(field)}: expected one number in '{value}', found {found.shape}"
            )
        return float(found.reshape(-1)[0])

    def numbers(self, value: Sequence[float] | str, field: str) -> NDArray[np.float64]:
        if not isinstance(value, str):
            return np.array(value, dtype=np.float64)
        return np.ravel(self.array_of(Numbers(variable=value), field))

    # -- signal -----------------------------------------------------------------------------------

    @cached_property
    def signal(self) -> _Channels:
        table = self.description.signal
        found = self.samples(self.path, table.variable)
        if table.conjugate:
            found = _Channels(found.samples.conj(), found.axes)
            self.done.append("conjugated")
        return found

    def samples(self, path: Path, variable: str | list[str] | None) -> _Channels:
        """Complex samples of one shot, axes in the order scan, channels, frequency."""
        table = self.description.signal
        variables = self.variables(path)
        axes: tuple[str, ...] = tuple(table.axes)
        if table.i is not None and table.q is not None:
            i, q = (self.shaped(variables.read(name), axes) for name in (table.i, table.q))
            if i.shape != q.shape:
                raise InputError(
                    f"{self.field('signal.q')}: expected the shape of i, {i.shape}, found {q.shape}"
                )
            values = self.joined(i, q)
        else:
            values = self.shaped(self.raw(variables, variable), axes)
            if "iq" in axes:
                place = axes.index("iq")
                if values.shape[place] != 2:
                    raise InputError(
                        f"{self.field('signal.axes')}: expected an axis iq of 2, found "
                        f"{values.shape[place]} in {values.shape}"
                    )
                first, second = np.take(values, 0, place), np.take(values, 1, place)
                i, q = (first, second) if table.iq == "IQ" else (second, first)
                values, axes = self.joined(i, q), tuple(a for a in axes if a != "iq")
            else:
                values = self.complex(values)
        if "shot" in axes:
            values, axes = self.one_shot(values, axes)
        order = [a for a in axes if a in _SCAN]
        order += [a for a in ("pair", "position", "rx", "tx") if a in axes] + ["f"]
        return _Channels(np.transpose(values, [axes.index(a) for a in order]), tuple(order))

    def shaped(self, raw: NDArray[Any], axes: tuple[str, ...]) -> NDArray[Any]:
        shape = self.description.signal.shape
        if shape is not None:
            if math.prod(shape) != raw.size:
                raise InputError(
                    f"{self.field('signal.shape')}: expected a shape of {raw.size} numbers, "
                    f"found {shape}"
                )
            raw = raw.reshape(shape)
        if raw.ndim > len(axes):
            # MATLAB has no arrays of one axis, and keeps others of length 1.
            raw = raw.reshape([n for n in raw.shape if n != 1] or [1])
        if raw.ndim == len(axes) - 1 and axes[-1] == "iq" and raw.shape[-1] % 2 == 0:
            raw = raw.reshape(*raw.shape[:-1], -1, 2)  # I and Q interleaved along the axis before
        if raw.ndim != len(axes):
            raise InputError(
                f"{self.field('signal.axes')}: expected a name for each axis of the shape "
                f"{raw.shape}, found {', '.join(axes)}"
            )
        return raw

    def complex(self, values: NDArray[Any]) -> NDArray[np.complexfloating]:
        if values.dtype.kind in "fiu":
            raise InputError(
                f"{self.field('signal.axes')}: expected an axis iq, or i and q, for real numbers, "
                f"found {values.dtype} {values.shape}"
            )
        return as_complex(values, str(self.path))

    def joined(self, i: NDArray[Any], q: NDArray[Any]) -> NDArray[np.complexfloating]:
        for part in (i, q):
            if part.dtype.kind not in "fiu":
                raise InputError(
                    f"{self.field('signal')}: expected real numbers for I and Q, found {part.dtype}"
                )
        self.notes += [f"{self.path}: {note}" for note in clipped_samples(i, q)]
        table = self.description.signal
        first = ", Q first" if table.iq == "QI" else ""
        self.done.append(f"I and Q of {i.dtype} joined as I + jQ{first}")
        return i.astype(np.float64) + 1j * q.astype(np.float64)

    def raw(self, variables: Variables, variable: str | list[str] | None) -> NDArray[Any]:
        """The numbers of a variable; of several, one for each shot, those of the shot."""
        if isinstance(variable, list) and self.shot != "mean":
            self.require_shot(len(variable))
            name = variable[int(self.shot)]
            self.done.append(f"shot {self.shot} of {len(variable)} ({name})")
            variable = name
        with self.naming("signal.variable"):
            if not isinstance(variable, list):
                return variables.read(variable)
            self.done.append(f"mean of {len(variable)} shots")
            return np.mean([variables.read(name) for name in variable], axis=0)

    def one_shot(
        self, values: NDArray[Any], axes: tuple[str, ...]
    ) -> tuple[NDArray[Any], tuple[str, ...]]:
        place = axes.index("shot")
        count = values.shape[place]
        rest = tuple(a for a in axes if a != "shot")
        if self.shot == "mean":
            self.done.append(f"mean of {count} shots")
            return values.mean(place), rest
        self.require_shot(count)
        self.done.append(f"shot {self.shot} of {count}")
        return np.take(values, int(self.shot), place), rest

    def require_shot(self, count: int) -> None:
        if isinstance(self.shot, str) or not 0 <= self.shot < count:
            raise InputError(
                f"{self.field('signal.shot')}: expected 0 to {count - 1} or 'mean', "
                f"found {self.shot}"
            )

    # -- frequencies ------------------------------------------------------------------------------

    @cached_property
    def frequencies(self) -> NDArray[np.float64]:
        """(F,) Hz in the order of the file."""
        table, steps = self.description.frequencies, self.signal.sizes["f"]
        if self.given is not None:
            values = self.given.frequencies.cpu().numpy()
            name = "--frequencies"
        elif table.start is not None and table.stop is not None:
            start = self.number(table.start, "frequencies.start")
            stop = self.number(table.stop, "frequencies.stop")
            count = steps
            if table.count is not None:
                count = round(self.number(table.count, "frequencies.count"))
            name = self.field("frequencies.count")
            if count < 1 or count > 10**6:
                raise InputError(f"{name}: expected a number of steps, found {count}")
            values = np.linspace(start, stop, count) * FREQUENCY_UNITS[table.unit]
        else:
            name = self.field("frequencies.values")
            if table.file is not None:
                variable = table.values if isinstance(table.values, str) else None
                place = Numbers(file=table.file, variable=variable)
                found = np.ravel(self.array_of(place, "frequencies.values"))
            else:
                assert table.values is not None
                found = self.numbers(table.values, "frequencies.values")
            values = found * FREQUENCY_UNITS[table.unit]
        if len(values) != steps:
            raise InputError(
                f"{name}: expected {steps} frequencies, the length of the axis f in "
                f"{self.shapes()}, found {len(values)}"
            )
        return values

    def require_plausible(self, values: NDArray[np.float64]) -> None:
        """Frequencies of a radar, or the unit in which they would be some."""
        unit = self.description.frequencies.unit
        low, high = float(values.min()), float(values.max())
        if likely_frequency_unit(low, high) == "Hz":
            return
        found = low / FREQUENCY_UNITS[unit], high / FREQUENCY_UNITS[unit]
        likely = likely_frequency_unit(*found)
        advice = f", likely in {likely}" if likely is not None else ""
        raise InputError(
            f"{self.field('frequencies')}: expected frequencies of 1e9 to 1e12 Hz, "
            f"found {found[0]:g} to {found[1]:g} {unit}{advice}"
        )

    def shapes(self) -> str:
        return "(" + ", ".join(f"{a} {n}" for a, n in self.signal.sizes.items()) + ")"

    # -- antennas ---------------------------------------------------------------------------------

    def array(self) -> tuple[Array, Any]:
        """The array, and how samples come into its order of channels."""
        sizes = self.signal.sizes
        scan = [a for a in self.signal.axes if a in _SCAN]
        table = self.description.antennas
        if not scan:
            assert table is not None
            return self.fixed(table, sizes)
        places = self.places = self.scanned(scan, sizes)
        if table is None or (table.tx is None and table.rx is None and table.file is None):
            return self.checked(lambda: Array.monostatic(places)), _flat
        antennas, order = self.fixed(table, sizes)
        pairs = antennas.every_pair()
        tx = (places[:, None] + antennas.tx[pairs[:, 0]]).reshape(-1, 3)
        rx = (places[:, None] + antennas.rx[pairs[:, 1]]).reshape(-1, 3)
        return self.checked(lambda: Array.of_pairs(tx, rx)), lambda s: _flat(order(s))

    def moved(self, array: Array) -> Array:
        """The array at its place in the scene."""
        table = self.description.pose
        if table is None:
            return array
        rotation, origin = np.array(table.rotation), np.array(table.origin)
        if rotation.ndim == 1:
            rotation = Rotation.from_rotvec(rotation, degrees=True).as_matrix()
        with self.naming("pose"):
            return array.moved(
                torch.from_numpy(rotation), torch.from_numpy(origin * POSITION_UNITS[table.unit])
            )

    def checked(self, make: Any) -> Array:
        """An array, whose faults name the tables that state positions."""
        try:
            return make()
        except InputError as error:
            raise InputError(f"{self.description.source}: antennas or scan: {error}") from None

    def scanned(self, scan: list[str], sizes: Mapping[str, int]) -> torch.Tensor:
        """(N, 3) m, places of a scan in the order of the signal's axes."""
        table = self.description.scan
        assert table is not None
        unit = POSITION_UNITS[table.unit]
        steps = self.numbers(table.step, "scan.step") * unit
        starts = None if table.start is None else self.numbers(table.start, "scan.start") * unit
        for name, values in (("step", steps), ("start", starts)):
            if values is not None and len(values) != len(scan):
                raise InputError(
                    f"{self.field(f'scan.{name}')}: expected {len(scan)} numbers for the axes "
                    f"{', '.join(scan)}, found {len(values)}"
                )
        if not (np.isfinite(steps).all() and (steps != 0).all()):
            raise InputError(f"{self.field('scan.step')}: expected steps other than 0")
        axes = {axis: np.zeros(1) for axis in _SCAN}
        for i, axis in enumerate(scan):
            along = np.arange(sizes[axis]) * steps[i]
            axes[axis] = along - along.mean() if starts is None else along + starts[i]
        mesh = np.meshgrid(*(axes[a] for a in scan), indexing="ij")
        places = np.zeros((mesh[0].size, 3))
        for values, axis in zip(mesh, scan, strict=True):
            places[:, _SCAN.index(axis)] = values.reshape(-1)
        return torch.from_numpy(places)

    def fixed(self, table: AntennaTable, sizes: Mapping[str, int]) -> tuple[Array, Any]:
        """Antennas that are not moved, and the order of their channels."""
        positions, roles = self.positions(table)
        if "position" in sizes:
            if positions is None:
                raise InputError(f"{self.field('antennas.file')}: expected a file of positions")
            self.require_count("position", sizes["position"], len(positions))
            return self.checked(lambda: Array.monostatic(torch.from_numpy(positions))), _same
        tx, rx = (
            self.side(getattr(table, name), name, positions, roles, column)
            for column, name in enumerate(("tx", "rx"))
        )
        tensors = torch.from_numpy(tx), torch.from_numpy(rx)
        if "pair" not in sizes:
            for name, found in (("rx", rx), ("tx", tx)):
                self.require_count(name, sizes[name], len(found))
            return self.checked(lambda: Array(*tensors)), _same
        pairs = self.pairs(table.pairs, len(tx), len(rx), sizes["pair"])
        numbers_of = pairs[:, 1] * len(tx) + pairs[:, 0]  # receiver-major
        if len(pairs) == len(tx) * len(rx) and len(np.unique(numbers_of)) == len(pairs):
            places = np.argsort(numbers_of)

            def product(samples: NDArray[Any]) -> NDArray[Any]:
                sorted_ = samples[..., places, :]
                return sorted_.reshape(*sorted_.shape[:-2], len(rx), len(tx), sorted_.shape[-1])

            return self.checked(lambda: Array(*tensors)), product
        return self.checked(lambda: Array(*tensors, torch.from_numpy(pairs))), _same

    def require_count(self, axis: str, size: int, found: int) -> None:
        if size != found:
            raise InputError(
                f"{self.field('antennas')}: expected {size} antennas, the length of the axis "
                f"{axis} in {self.shapes()}, found {found}"
            )

    def positions(
        self, table: AntennaTable
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_] | None]:
        """(N, 3) m of the table of antennas, and (N, 2) whether each transmits and receives."""
        if table.file is None and table.variable is None:
            return None, None
        path, name = self.file(table.file), self.field("antennas.file")
        roles = None
        if path.suffix.lower() in (".csv", ".txt") and table.variable is None:
            with self.naming("antennas.file"):
                found, roles = antenna_table(path)
        else:
            found = self.array_of(
                Numbers(variable=table.variable, file=table.file), "antennas.file"
            )
            if found.ndim == 2 and found.shape[0] == 3 != found.shape[1]:
                found = found.T
                self.notes.append(f"{path}: antennas (3, {len(found)}), read as x, y, z by rows")
            if found.ndim != 2 or found.shape[1] != 3:
                raise InputError(f"{name}: expected positions (antennas, 3), found {found.shape}")
        return found * POSITION_UNITS[table.unit], roles

    def side(
        self,
        given: Any,
        name: str,
        positions: NDArray[np.float64] | None,
        roles: NDArray[np.bool_] | None,
        column: int,
    ) -> NDArray[np.float64]:
        """(T, 3) or (R, 3) m: the transmitters or the receivers."""
        said, unit = self.field(f"antennas.{name}"), "m"
        assert self.description.antennas is not None
        unit = self.description.antennas.unit
        if isinstance(given, Numbers):
            found = self.array_of(given, f"antennas.{name}")
            if found.ndim != 2 or found.shape[1] != 3:
                raise InputError(f"{said}: expected positions (antennas, 3), found {found.shape}")
            return found * POSITION_UNITS[unit]
        if isinstance(given, list) and isinstance(given[0], list):
            return np.array(given, dtype=np.float64) * POSITION_UNITS[unit]
        if positions is None:
            raise InputError(f"{said}: expected positions, or antennas.file with a table of them")
        if given is None:
            if roles is None:
                raise InputError(
                    f'{said}: expected rows of the table, such as "0-19", or a column "antenna" of '
                    "tx and rx in it, found neither"
                )
            chosen = roles[:, column]
            if not chosen.any():
                raise InputError(f"{said}: expected a row with {name} in the table, found none")
            return positions[chosen]
        if max(given) >= len(positions):
            raise InputError(f"{said}: expected rows 0 to {len(positions) - 1}, found {max(given)}")
        return positions[given]

    def pairs(self, given: Any, tx: int, rx: int, count: int) -> NDArray[np.int64]:
        """(count, 2) numbers of transmitter and receiver of each pair."""
        said = self.field("antennas.pairs")
        if isinstance(given, Numbers):
            found = self.array_of(given, "antennas.pairs")
            if found.shape != (count, 2) or not (found == np.round(found)).all():
                raise InputError(
                    f"{said}: expected whole numbers ({count}, 2) = (pair, tx and rx), "
                    f"found {found.shape}"
                )
            return found.astype(np.int64)
        by_tx, by_rx, constant = pair_rule(given)
        t, r = (a.reshape(-1) for a in np.meshgrid(np.arange(tx), np.arange(rx), indexing="ij"))
        number = by_tx * t + by_rx * r + constant
        inside = (number >= 0) & (number < count)
        times = np.bincount(number[inside], minlength=count)
        if not (times == 1).all():
            wrong = int((times != 1).argmax())
            raise InputError(
                f"{said}: expected '{given}' to give each of {count} pairs once, found pair "
                f"{wrong} {times[wrong]} times with {tx} tx and {rx} rx"
            )
        pairs = np.zeros((count, 2), dtype=np.int64)
        pairs[number[inside]] = np.stack([t, r], 1)[inside]
        return pairs

    # -- corrections ------------------------------------------------------------------------------

    def corrected(
        self, signal: _Channels, values: NDArray[np.float64]
    ) -> NDArray[np.complexfloating]:
        """The samples without background, with their phases corrected."""
        table, samples = self.description.corrections, signal.samples
        if isinstance(table.background, Numbers):
            samples = samples - self.empty(table.background, signal)
        elif table.background == "mean":
            mean = samples.mean(tuple(range(samples.ndim - 1)), keepdims=True)
            share = _power(np.broadcast_to(mean, samples.shape)) / max(_power(samples), 1e-300)
            samples = samples - mean
            self.done.append(
                f"mean over {math.prod(samples.shape[:-1])} channels subtracted for each frequency "
                f"({100 * share:.1f} % of the power)"
            )
        if table.phase is not None:
            phase = self.frequency_phase(table.phase, values)
            samples = samples * _turn(phase, table.phase)
            self.done.append(f"phase of each frequency corrected, {_where(table.phase)}")
        if table.channel_phase is not None:
            phase = self.array_of(table.channel_phase, "corrections.channel_phase")
            if phase.size != math.prod(samples.shape[:-1]):
                raise InputError(
                    f"{self.field('corrections.channel_phase')}: expected "
                    f"{math.prod(samples.shape[:-1])} phases, one for each channel of "
                    f"{self.shapes()}, found {phase.shape}"
                )
            turn = _turn(phase.reshape(samples.shape[:-1]), table.channel_phase)
            samples = samples * turn[..., None]
            self.done.append(f"phase of each channel corrected, {_where(table.channel_phase)}")
        return samples

    def empty(self, table: Numbers, signal: _Channels) -> NDArray[np.complexfloating]:
        """The empty scene's samples."""
        path = self.file(table.file)
        if path == self.path and table.variable is None:
            raise InputError(
                f"{self.field('corrections.background')}: expected a file or a variable of the "
                "empty scene"
            )
        before = len(self.done)
        with self.naming("corrections.background"):
            empty = self.samples(path, table.variable or self.description.signal.variable)
        del self.done[before:]
        if empty.samples.shape != signal.samples.shape:
            raise InputError(
                f"{self.field('corrections.background')}: expected the signal's shape "
                f"{signal.samples.shape}, found {empty.samples.shape}"
            )
        self.done.append(f"empty scene {path.name} subtracted")
        return empty.samples.conj() if self.description.signal.conjugate else empty.samples

    def frequency_phase(self, table: Phase, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(F,) phases at the frequencies of the signal, in the table's unit."""
        said = self.field("corrections.phase")
        found = self.array_of(table, "corrections.phase")
        if found.ndim == 2 and found.shape[1] != 2 and found.shape[0] == 2:
            found = found.T
        if found.ndim == 2 and found.shape[1] == 2:
            known, phase = found[np.argsort(found[:, 0])].T
            step = float(np.diff(known).max()) if len(known) > 1 else 0.0
            if not (known[0] - step <= values.min() and values.max() <= known[-1] + step):
                raise InputError(
                    f"{said}: expected phases at {values.min():g} to {values.max():g} Hz, "
                    f"found {known[0]:g} to {known[-1]:g} Hz"
                )
            return np.interp(values, known, phase)
        if found.size != len(values):
            raise InputError(
                f"{said}: expected {len(values)} phases, or columns of frequency (Hz) and phase, "
                f"found {found.shape}"
            )
        return found.reshape(-1)

    # -- what is imaged ---------------------------------------------------------------------------

    def view(self) -> View:
        table = self.description.image
        depth = None
        stand_off = None
        if table.stand_off is not None:
            stand_off = self.number(table.stand_off, "image.stand_off")
            if not 0 < stand_off <= LARGEST_REACH:
                raise InputError(
                    f"{self.field('image.stand_off')}: expected 0 to {LARGEST_REACH:g} m, "
                    f"found {stand_off:g}"
                )
        if table.depth is not None:
            near_far = self.numbers(table.depth, "image.depth")
            if len(near_far) != 2 or not 0 < near_far[0] < near_far[1] <= LARGEST_REACH:
                raise InputError(
                    f"{self.field('image.depth')}: expected [near, far], 0 < near < far <= "
                    f"{LARGEST_REACH:g} m, found {near_far.tolist()}"
                )
            depth = float(near_far[0]), float(near_far[1])
        return View(stand_off=stand_off, depth=depth, extent=table.extent or self.scanned_extent())

    def scanned_extent(self) -> float | None:
        """m, the longer side of a scan in x and y, ends included."""
        if self.description.scan is None:
            return None
        sides = (self.places.amax(0) - self.places.amin(0))[:2]
        return float(sides.max()) or None


def antenna_table(path: Path) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Positions (N, 3) of a text file, and (N, 2) whether each transmits and receives.

    Columns x, y, z, and optionally ``antenna`` with ``tx``, ``rx`` or ``both``, in any order if
    the first line names them; three columns without names are x, y, z.
    """
    rows = read_rows(path)
    names = [word.lower() for word in rows[0][1]]
    if not {"x", "y", "z"} <= set(names):
        table = read_table(path)[1]
        if table.shape[1] != 3:
            raise InputError(
                f"{path}: expected columns x, y, z, and antenna of tx and rx, found "
                f"{', '.join(names[:6])}"
            )
        return table, None
    positions, roles = [], []
    for line, row in rows[1:]:
        words = dict(zip(names, row, strict=False))
        try:
            positions.append([float(words[axis]) for axis in _SCAN])
            if "antenna" in names:
                roles.append(_ROLES[words["antenna"].lower()])
        except (KeyError, ValueError):
            raise InputError(
                f"{path}, line {line}: expected {', '.join(names)}"
                f"{' (tx, rx or both)' if 'antenna' in names else ''}, found {' '.join(row)[:60]!r}"
            ) from None
    if not positions:
        raise InputError(f"{path}: expected positions, found none")
    return np.array(positions), np.array(roles) if roles else None


def clipped_samples(i: NDArray[Any], q: NDArray[Any]) -> list[str]:
    """A note on whole numbers at the ends of a converter's range.

    At an end are the extremes of the type, and any extreme that occurs ten times as often as the
    values next to it: a converter of 12 bits may fill 16.
    """
    notes = []
    for name, part in (("I", i), ("Q", q)):
        if part.dtype.kind not in "iu" or part.size == 0:
            continue
        limits = np.iinfo(part.dtype)
        values, counts = np.unique(part, return_counts=True)
        for end, type_end, near in (
            (0, limits.min, counts[1:9]),
            (-1, limits.max, counts[-9:-1]),
        ):
            full = values[end] == type_end and type_end != 0
            crowded = len(near) == 8 and counts[end] >= 10 * max(1.0, float(near.mean()))
            if full or crowded:
                notes.append(
                    f"{name}: {counts[end]} of {part.size} samples are at {values[end]}, the "
                    f"{'least' if end == 0 else 'largest'}: likely clipped"
                )
    return notes


def _turn(phase: NDArray[np.float64], table: Phase) -> NDArray[np.complex128]:
    sign = 1 if table.sign == "+" else -1
    return np.exp(sign * 1j * ANGLE_UNITS[table.unit] * phase)


def _where(table: Phase) -> str:
    place = table.file or table.variable
    return f"e^{{{table.sign}jφ}} with φ of {place}"


def _power(samples: NDArray[np.complexfloating]) -> float:
    return float(np.square(samples.real).mean() + np.square(samples.imag).mean())


def _same(samples: NDArray[Any]) -> NDArray[Any]:
    return samples


def _flat(samples: NDArray[Any]) -> NDArray[Any]:
    """(channels, f)."""
    return samples.reshape(-1, samples.shape[-1])
