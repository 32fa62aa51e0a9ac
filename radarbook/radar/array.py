"""Antenna arrays: where the transmitters and receivers are (book, :ref:`physics`, section 1)."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Metres in a unit of antenna positions.
POSITION_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
#: m, how far from the origin an antenna can be: beyond it the unit is another than assumed.
_FARTHEST = 2.0
#: Share of all products from which on an array with pairs is nearly a product.
_NEARLY = 0.2
#: Numbers up to which positions beyond 2 m may be centimetres: an array of 40 cm at most.
_CENTIMETRES = 20.0


@dataclass(frozen=True)
class Pose:
    """A place and an orientation: ``rotation`` (3, 3), ``translation`` (3,), float64."""

    rotation: Tensor
    translation: Tensor

    @classmethod
    def of(cls, rotation: Tensor | None, translation: Tensor | None, name: str) -> Pose:
        """Checked; None is no rotation or translation. ``name`` is what an error calls it."""
        matrix = torch.eye(3) if rotation is None else torch.as_tensor(rotation)
        shift = torch.zeros(3) if translation is None else torch.as_tensor(translation)
        matrix, shift = matrix.to(torch.float64), shift.to(torch.float64)
        if tuple(matrix.shape) != (3, 3) or tuple(shift.shape) != (3,):
            raise InputError(
                f"{name}: expected rotation (3, 3) and translation (3,), "
                f"found {tuple(matrix.shape)} and {tuple(shift.shape)}"
            )
        if not bool(torch.isfinite(matrix).all() and torch.isfinite(shift).all()):
            raise InputError(f"{name}: expected finite numbers, found NaN or infinity")
        off = (
            (matrix @ matrix.T - torch.eye(3, dtype=torch.float64, device=matrix.device))
            .abs()
            .max()
        )
        # A rotation typed with six digits is one.
        if float(off) > 1e-5 or float(torch.linalg.det(matrix)) < 0:
            raise InputError(f"{name} rotation: expected orthonormal rows and determinant 1")
        return cls(matrix, shift)


@dataclass(frozen=True)
class Array:
    """Transmit and receive antennas in the radar frame, and which of them measure together.

    Parameters
    ----------
    tx, rx : Tensor (T, 3), (R, 3), float64
        Positions, metres, in one plane or not. Differentiable: a position that requires a
        gradient gets one from :func:`~radarbook.radar.simulate.simulate` and
        :func:`~radarbook.radar.imaging.back_project`.
    pairs : Tensor (P, 2), int64, optional
        The channels: numbers of transmitter and receiver of each. Default: every receiver with
        every transmitter.
    unit : "m", "cm" or "mm", optional
        Unit of the positions given. Without it they are metres and within 2 m of the origin, so
        that positions in mm are found; state ``unit="m"`` for an antenna farther away.
    rotation, origin : Tensor (3, 3), (3,), optional
        The array's own frame: its axes (columns) and origin in the radar frame. Antennas look along
        its z axis and their apertures have its x and y axes as sides. Default: the radar frame;
        :meth:`moved` keeps them.

    A signal of an array without pairs is ``[..., rx, tx, f]``, of one with pairs
    ``[..., pair, f]``; :meth:`signal_shape` says which.

    Raises :class:`~radarbook.errors.InputError` where a list is empty, ill-shaped, not finite or
    has a coordinate beyond 2 m and no unit, where a pair names an antenna that is not there, and
    for a rotation that is none.

    Examples
    --------
    >>> column = torch.tensor([[0.0, -0.01, 0.0], [0.0, 0.01, 0.0]])
    >>> array = Array(tx=column, rx=column.flip(0))
    >>> array.signal_shape(8), array.virtual.shape[0]
    ((2, 2, 8), 4)
    >>> Array(tx=column, rx=column, pairs=torch.tensor([[0, 0], [1, 1], [0, 1]])).signal_shape(8)
    (3, 8)
    """

    tx: Tensor
    rx: Tensor
    pairs: Tensor | None = None
    unit: InitVar[str | None] = field(default=None, kw_only=True)
    rotation: Tensor = field(
        default_factory=lambda: torch.eye(3, dtype=torch.float64), kw_only=True
    )
    origin: Tensor = field(
        default_factory=lambda: torch.zeros(3, dtype=torch.float64), kw_only=True
    )

    def __post_init__(self, unit: str | None) -> None:
        if unit is not None and unit not in POSITION_UNITS:
            raise InputError(
                f"array unit: expected one of {', '.join(POSITION_UNITS)}, found {unit!r}"
            )
        for name in ("tx", "rx"):
            value = _positions(getattr(self, name), f"array {name}")
            farthest = float(value.detach().abs().max())
            if unit is None and farthest > _FARTHEST:
                raise InputError(
                    f"array {name}: expected positions within 2 m of the origin, found "
                    f"{farthest:g}, likely in {' or '.join(likely_position_unit(farthest))}"
                )
            if unit is not None and unit != "m":
                value = value * POSITION_UNITS[unit]
            object.__setattr__(self, name, value)
        if self.pairs is not None:
            object.__setattr__(self, "pairs", self._checked_pairs(self.pairs))
        pose = Pose.of(self.rotation, self.origin, "array")
        object.__setattr__(self, "rotation", pose.rotation.to(self.tx.device))
        object.__setattr__(self, "origin", pose.translation.to(self.tx.device))

    def _checked_pairs(self, pairs: Tensor) -> Tensor:
        value = torch.as_tensor(pairs)
        if value.ndim != 2 or value.shape[1] != 2 or len(value) == 0:
            raise InputError(f"array pairs: expected (pairs, 2), found {tuple(value.shape)}")
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise InputError(f"array pairs: expected whole numbers, found {value.dtype}")
        value = value.to(self.tx.device, torch.int64)
        for column, (name, count) in enumerate((("tx", len(self.tx)), ("rx", len(self.rx)))):
            low, high = int(value[:, column].min()), int(value[:, column].max())
            if low < 0 or high >= count:
                raise InputError(
                    f"array pairs: expected {name} numbers of 0 to {count - 1}, "
                    f"found {low if low < 0 else high}"
                )
        return value

    @classmethod
    def monostatic(cls, positions: Tensor, *, unit: str | None = None) -> Array:
        """One antenna, or two that stand together, at each of positions (P, 3): a path is 2R.

        Examples
        --------
        >>> line = torch.stack([torch.linspace(-0.1, 0.1, 5), torch.zeros(5), torch.zeros(5)], 1)
        >>> Array.monostatic(line).signal_shape(16)
        (5, 16)
        """
        return cls.of_pairs(positions, positions, unit=unit)

    @classmethod
    def of_pairs(cls, tx: Tensor, rx: Tensor, *, unit: str | None = None) -> Array:
        """A transmitter and a receiver position for each measurement: (P, 3) each, or (1, 3) for
        an antenna that stays where it is.

        Examples
        --------
        >>> line = torch.stack([torch.linspace(-0.1, 0.1, 5), torch.zeros(5), torch.zeros(5)], 1)
        >>> far = torch.tensor([[0.0, 0.0, -1000.0]])
        >>> Array.of_pairs(far, line, unit="m").signal_shape(16)
        (5, 16)
        """
        tx, rx = _positions(tx, "array tx"), _positions(rx, "array rx")
        count = max(len(tx), len(rx))
        numbers = []
        for name, other, side in (("tx", "rx", tx), ("rx", "tx", rx)):
            if len(side) not in (1, count):
                raise InputError(
                    f"array {name}: expected 1 position or as many as {other}, {count}, "
                    f"found {len(side)}"
                )
            every = torch.arange(count, device=tx.device)
            numbers.append(every if len(side) == count else torch.zeros_like(every))
        return cls(tx, rx, torch.stack(numbers, dim=1), unit=unit)

    def subset(
        self,
        *,
        tx: Tensor | None = None,
        rx: Tensor | None = None,
        channels: Tensor | None = None,
    ) -> Array:
        """The array of some of its antennas or of some of its channels.

        Parameters
        ----------
        tx, rx : Tensor, optional
            Numbers of the antennas to keep, in their new order, or whether to keep each (bool).
            Of an array without pairs the signal is then ``signal[..., rx, :, :][..., tx, :]``; of
            one with pairs channels that lose an antenna go, the others keep their order.
        channels : Tensor, bool, of shape :attr:`channels`, optional
            Whether to keep each channel, of which the rest is missing or unusable: an array with
            pairs, whose signal is ``signal[..., channels, :]``. Not together with ``tx``, ``rx``.

        Examples
        --------
        >>> working = torch.ones(94, 94, dtype=torch.bool)
        >>> working[3] = False  # a receiver that is dead
        >>> qar50().subset(channels=working).signal_shape(128)
        (8742, 128)
        >>> qar50().subset(tx=torch.arange(0, 94, 2)).signal_shape(128)
        (94, 47, 128)
        """
        if channels is not None:
            if tx is not None or rx is not None:
                raise InputError("array subset: expected either channels or tx and rx")
            kept = torch.as_tensor(channels, device=self.tx.device)
            if kept.dtype != torch.bool or tuple(kept.shape) != self.channels:
                raise InputError(
                    f"array subset: expected channels, bool {self.channels}, "
                    f"found {kept.dtype} {tuple(kept.shape)}"
                )
            return self.replace(pairs=self.every_pair()[kept.flatten()])
        chosen = [
            _numbers(tx, len(self.tx), "tx").to(self.tx.device),
            _numbers(rx, len(self.rx), "rx").to(self.tx.device),
        ]
        pairs = self.pairs
        if pairs is not None:
            places = []
            for column, (index, side) in enumerate(zip(chosen, (self.tx, self.rx), strict=True)):
                place = torch.full((len(side),), -1, device=side.device)
                place[index] = torch.arange(len(index), device=side.device)
                places.append(place[pairs[:, column]])
            pairs = torch.stack(places, dim=1)
            pairs = pairs[(pairs >= 0).all(1)]
        return self.replace(tx=self.tx[chosen[0]], rx=self.rx[chosen[1]], pairs=pairs)

    def moved(self, rotation: Tensor | None = None, translation: Tensor | None = None) -> Array:
        """The array elsewhere in the scene: p becomes ``rotation`` @ p + ``translation``.

        ``rotation`` (3, 3) and ``translation`` (3,), metres; None leaves it as it is. Any distance
        is allowed.

        Examples
        --------
        >>> import math
        >>> a = math.radians(40)  # about the y axis, and still towards a point at z = 0.3 m
        >>> matrix = torch.tensor(
        ...     [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]],
        ...     dtype=torch.float64,
        ... )
        >>> point = torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64)
        >>> other = qar50().moved(matrix, point - matrix @ point)
        >>> bool(((other.tx - point).norm(dim=1) - (qar50().tx - point).norm(dim=1) < 1e-12).all())
        True
        """
        pose = Pose.of(rotation, translation, "array")
        matrix, shift = (v.to(self.tx.device) for v in (pose.rotation, pose.translation))
        return self.replace(
            tx=self.tx @ matrix.T + shift,
            rx=self.rx @ matrix.T + shift,
            rotation=matrix @ self.rotation,
            origin=matrix @ self.origin + shift,
        )

    @property
    def is_moved(self) -> bool:
        """Whether the array's own frame is another than the radar frame."""
        eye = torch.eye(3, dtype=torch.float64, device=self.rotation.device)
        return not (torch.equal(self.rotation, eye) and not bool(self.origin.any()))

    def own(self) -> Array:
        """The array in its own frame, before it was moved."""
        if not self.is_moved:
            return self
        return self.replace(
            tx=(self.tx - self.origin) @ self.rotation,
            rx=(self.rx - self.origin) @ self.rotation,
            rotation=torch.eye(3),
            origin=torch.zeros(3),
        )

    def to_own(self, points: Tensor) -> Tensor:
        """Points (..., 3) of the radar frame in the array's own; float64 inside, same dtype."""
        shifted = points.double() - self.origin.to(points.device)
        return (shifted @ self.rotation.to(points.device)).to(points.dtype)

    @property
    def channels(self) -> tuple[int, ...]:
        """Shape of a signal before its frequencies: (R, T), or (P,) with pairs."""
        if self.pairs is None:
            return len(self.rx), len(self.tx)
        return (len(self.pairs),)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of a signal's axes: ("rx", "tx", "frequency"), or ("pair", "frequency")."""
        return ("rx", "tx", "frequency") if self.pairs is None else ("pair", "frequency")

    def signal_shape(self, frequencies: int) -> tuple[int, ...]:
        """Shape of a signal of so many frequencies."""
        return (*self.channels, frequencies)

    def require_signal(self, signal: Tensor, frequencies: int) -> None:
        """Raise :class:`~radarbook.errors.InputError` unless ``signal`` is complex and of this
        array and so many frequencies; a batch axis may come first."""
        wanted = self.signal_shape(frequencies)
        found = tuple(signal.shape)
        if (
            signal.ndim not in (len(wanted), len(wanted) + 1)
            or found[-len(wanted) :] != wanted
            or not signal.is_complex()
        ):
            raise InputError(
                f"signal: expected complex ({', '.join(self.axes)}) = {wanted}, "
                f"found {signal.dtype} {found}"
            )

    def batched(self, signal: Tensor) -> Tensor:
        """``signal`` with a batch axis: itself if it has one.

        Examples
        --------
        >>> qar50().batched(torch.zeros(94, 94, 8)).shape[0]
        1
        """
        return signal if signal.ndim == len(self.channels) + 2 else signal[None]

    @property
    def is_nearly_product(self) -> bool:
        """Whether the channels are most of a product of all receivers and transmitters: pairs are
        then taken from it."""
        if self.pairs is None:
            return True
        return len(self.pairs) >= _NEARLY * len(self.tx) * len(self.rx)

    def every_pair(self) -> Tensor:
        """(P, 2) int64 numbers of transmitter and receiver of each channel, in a signal's order."""
        if self.pairs is not None:
            return self.pairs
        rx, tx = (torch.arange(n, device=self.tx.device) for n in self.channels)
        return torch.cartesian_prod(rx, tx).flip(1)

    def to(self, device: torch.device | str) -> Array:
        """The same array on another device (positions stay float64)."""
        pairs = None if self.pairs is None else self.pairs.to(device)
        return self.replace(tx=self.tx.to(device), rx=self.rx.to(device), pairs=pairs)

    def swapped(self) -> Array:
        """Transmitters as receivers and the reverse (reciprocity)."""
        pairs = None if self.pairs is None else self.pairs.flip(1)
        return self.replace(tx=self.rx, rx=self.tx, pairs=pairs)

    @property
    def virtual(self) -> Tensor:
        """(P, 3) midpoints of all channels in a signal's order: the virtual aperture."""
        tx, rx = self.every_pair().unbind(1)
        return (self.rx[rx] + self.tx[tx]) / 2

    def replace(self, **changes: Tensor | None) -> Array:
        """The same array with other fields, in metres; any distance is allowed.

        Examples
        --------
        >>> array = qar50()
        >>> float(array.replace(tx=array.tx + 1e-3).tx[0, 2])
        0.001
        """
        mine = {name: getattr(self, name) for name in ("tx", "rx", "pairs", "rotation", "origin")}
        return Array(**(mine | changes), unit="m")


def _positions(value: Tensor, name: str) -> Tensor:
    """Finite (antennas, 3) float64, or an error."""
    value = torch.as_tensor(value).to(torch.float64)
    if value.ndim != 2 or value.shape[1] != 3 or len(value) == 0:
        raise InputError(
            f"{name}: expected positions (antennas, 3), found {tuple(value.shape)}"
            + (", which is transposed" if value.ndim == 2 and len(value) == 3 else "")
        )
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"{name}: expected finite positions, found NaN or infinity")
    return value


def _numbers(chosen: Tensor | None, count: int, name: str) -> Tensor:
    """(n,) int64 numbers of the antennas to keep, of ``count``."""
    if chosen is None:
        return torch.arange(count)
    chosen = torch.as_tensor(chosen)
    if chosen.dtype == torch.bool and tuple(chosen.shape) == (count,):
        chosen = chosen.nonzero()[:, 0]
    if chosen.ndim != 1 or chosen.dtype == torch.bool or chosen.is_floating_point():
        raise InputError(f"array subset: expected {name} numbers (n,) or bool ({count},)")
    if len(chosen) == 0 or int(chosen.min()) < 0 or int(chosen.max()) >= count:
        raise InputError(f"array subset: expected some {name} numbers of 0 to {count - 1}")
    return chosen.long()


def likely_position_unit(farthest: float) -> tuple[str, ...]:
    """Units in which the largest coordinate of an array may be written, if not metres.

    Examples
    --------
    >>> "mm" in likely_position_unit(72.0)
    True
    """
    return ("mm", "cm") if farthest <= _CENTIMETRES else ("mm",)


def qar50() -> Array:
    """The square array of one QAR50 sub-module: 94 transmitters and 94 receivers in z = 0.

    As published with the MAROON dataset, in the element order of its recordings and in the
    right-handed radar frame. Transmitters: the column x = -70.5 mm upwards, y = -66 … 66 mm every
    3 mm with the two ends moved out to (-72, ±69) mm, then the same at x = +70.5 mm (ends +72).
    Receivers: the row y = -70.5 mm, x = -69 … 69 mm every 3 mm, then the row y = +70.5 mm.

    Examples
    --------
    >>> array = qar50()
    >>> len(array.tx), len(array.rx)
    (94, 94)
    """
    step = 3e-3
    inner = torch.arange(-22, 23, dtype=torch.float64) * step
    whole = torch.arange(-23, 24, dtype=torch.float64) * step

    def column(side: float) -> Tensor:
        y = torch.cat([inner.new_tensor([-69e-3]), inner, inner.new_tensor([69e-3])])
        x = torch.full_like(y, side * 70.5e-3)
        x[[0, -1]] = side * 72e-3
        return torch.stack([x, y, torch.zeros_like(y)], dim=1)

    def row(side: float) -> Tensor:
        y = torch.full_like(whole, side * 70.5e-3)
        return torch.stack([whole, y, torch.zeros_like(whole)], dim=1)

    return Array(torch.cat([column(-1), column(1)]), torch.cat([row(-1), row(1)]))
