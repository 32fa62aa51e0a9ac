"""Antenna arrays: where the transmitters and receivers are (book, :ref:`physics`, section 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Metres in a unit of antenna positions.
POSITION_UNITS = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
#: m, how far from the origin an antenna can be: beyond it the unit is another than assumed.
_FARTHEST = 2.0
#: Numbers up to which positions beyond 2 m may be centimetres: an array of 40 cm at most.
_CENTIMETRES = 20.0


@dataclass(frozen=True)
class Array:
    """Transmit and receive antennas in the radar frame.

    Attributes
    ----------
    tx, rx : Tensor (T, 3), (R, 3), float64
        Positions, metres. The array looks along +z. Differentiable: a position that requires a
        gradient gets one from :func:`~radarbook.radar.simulate.simulate` and
        :func:`~radarbook.radar.imaging.back_project`.

    Raises :class:`~radarbook.errors.InputError` where a list is empty, ill-shaped, not finite or
    has a coordinate beyond 2 m; positions in mm are so found.

    Examples
    --------
    >>> column = torch.tensor([[0.0, -0.01, 0.0], [0.0, 0.01, 0.0]])
    >>> array = Array(tx=column, rx=column.flip(0))
    >>> len(array.tx), array.virtual.shape[0]
    (2, 4)
    """

    tx: Tensor
    rx: Tensor

    def __post_init__(self) -> None:
        for name in ("tx", "rx"):
            value = torch.as_tensor(getattr(self, name)).to(torch.float64)
            if value.ndim != 2 or value.shape[1] != 3 or len(value) == 0:
                raise InputError(
                    f"array {name}: expected positions (antennas, 3), found {tuple(value.shape)}"
                    + (", which is transposed" if value.ndim == 2 and len(value) == 3 else "")
                )
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"array {name}: expected finite positions, found NaN or infinity")
            farthest = float(value.detach().abs().max())
            if farthest > _FARTHEST:
                raise InputError(
                    f"array {name}: expected positions within 2 m of the origin, found "
                    f"{farthest:g}, likely in {' or '.join(likely_position_unit(farthest))}"
                )
            object.__setattr__(self, name, value)

    def to(self, device: torch.device | str) -> Array:
        """The same array on another device (positions stay float64)."""
        return Array(self.tx.to(device), self.rx.to(device))

    def swapped(self) -> Array:
        """Transmitters as receivers and the reverse (reciprocity)."""
        return Array(self.rx, self.tx)

    @property
    def virtual(self) -> Tensor:
        """(T · R, 3) midpoints of all pairs: the array's virtual aperture, receiver-major."""
        return ((self.rx[:, None] + self.tx[None]) / 2).reshape(-1, 3)


def likely_position_unit(farthest: float) -> tuple[str, ...]:
    """Units in which the largest coordinate of an array may be written, if not metres."""
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
