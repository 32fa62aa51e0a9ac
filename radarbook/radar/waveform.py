"""The stepped-frequency waveform (book, :ref:`physics`, section 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Speed of light in vacuum, m/s (exact, SI).
C0 = 299_792_458.0


@dataclass(frozen=True)
class Waveform:
    """Ascending frequency steps.

    Attributes
    ----------
    frequencies : Tensor (F,), float64
        Hz, strictly ascending and positive.
    """

    frequencies: Tensor

    def __post_init__(self) -> None:
        value = torch.as_tensor(self.frequencies).to(torch.float64)
        if value.ndim != 1 or len(value) == 0:
            raise InputError(f"waveform: expected frequencies (F,), found {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()) or float(value[0]) <= 0:
            raise InputError("waveform: expected finite, positive frequencies in hertz")
        if bool((value.diff() <= 0).any()):
            raise InputError("waveform: expected strictly ascending frequencies")
        object.__setattr__(self, "frequencies", value)

    def __len__(self) -> int:
        return len(self.frequencies)

    @property
    def wavenumbers(self) -> Tensor:
        """(F,) float64, k = 2πf/c, rad/m."""
        return self.frequencies * (2 * math.pi / C0)

    @property
    def centre(self) -> float:
        """Mid-band frequency, Hz."""
        return float(self.frequencies[0] + self.frequencies[-1]) / 2

    @property
    def bandwidth(self) -> float:
        """Last minus first frequency, Hz."""
        return float(self.frequencies[-1] - self.frequencies[0])

    @property
    def wavelength(self) -> float:
        """Wavelength at mid-band, m."""
        return C0 / self.centre

    @property
    def unambiguous_range(self) -> float:
        """c/(2Δf), m: depth after which a range profile repeats; infinite for one frequency."""
        if len(self) < 2:
            return math.inf
        return C0 / (2 * float(self.frequencies.diff().max()))

    def to(self, device: torch.device | str) -> Waveform:
        """The same waveform on another device (frequencies stay float64)."""
        return Waveform(self.frequencies.to(device))


def qar50_waveform(steps: int = 128) -> Waveform:
    """72-82 GHz inclusive in ``steps`` equal steps.

    The instrument takes 128. Fewer carry the same image as long as the scene's depth stays below
    :attr:`Waveform.unambiguous_range` (24 steps: 0.345 m).
    """
    if steps < 1:
        raise InputError(f"waveform: expected at least one frequency step, found {steps}")
    if steps == 1:
        return Waveform(torch.tensor([77e9], dtype=torch.float64))
    return Waveform(torch.linspace(72e9, 82e9, steps, dtype=torch.float64))
