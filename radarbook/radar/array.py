"""Antenna arrays: where the transmitters and receivers are (book, :ref:`physics`, section 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError


@dataclass(frozen=True)
class Array:
    """Transmit and receive antennas in the radar frame.

    Attributes
    ----------
    tx, rx : Tensor (T, 3), (R, 3), float64
        Positions, metres. The array looks along +z. Differentiable: a position that requires a
        gradient gets one from :func:`~radarbook.radar.simulate.simulate` and
        :func:`~radarbook.radar.imaging.back_project`.

    Raises :class:`~radarbook.errors.InputError` where a list is empty, ill-shaped or not finite.
    """

    tx: Tensor
    rx: Tensor

    def __post_init__(self) -> None:
        for name in ("tx", "rx"):
            value = torch.as_tensor(getattr(self, name)).to(torch.float64)
            if value.ndim != 2 or value.shape[1] != 3 or len(value) == 0:
                raise InputError(
                    f"array {name}: expected positions (antennas, 3), found {tuple(value.shape)}"
                )
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"array {name}: expected finite positions, found NaN or infinity")
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


def qar50() -> Array:
    """The square array of one QAR50 sub-module: 94 transmitters and 94 receivers in z = 0.

    As published with the MAROON dataset, in the element order of its recordings and in the
    right-handed radar frame. Transmitters: the column x = -70.5 mm upwards, y = -66 … 66 mm every
    3 mm with the two ends moved out to (-72, ±69) mm, then the same at x = +70.5 mm (ends +72).
    Receivers: the row y = -70.5 mm, x = -69 … 69 mm every 3 mm, then the row y = +70.5 mm.
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
