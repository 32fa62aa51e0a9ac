"""The stepped-frequency waveform (book, :ref:`physics`, section 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Speed of light in vacuum, m/s (exact, SI).
C0 = 299_792_458.0

#: Hertz in a unit of frequency.
FREQUENCY_UNITS = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
#: Hz, what a frequency of a radar can be: beyond it the unit is another than assumed.
_LOWEST, _HIGHEST = 1e9, 1e12


@dataclass(frozen=True)
class Waveform:
    """Ascending frequency steps.

    Attributes
    ----------
    frequencies : Tensor (F,), float64
        Hz, strictly ascending, 1e9 to 1e12.

    Raises :class:`~radarbook.errors.InputError` otherwise; frequencies in GHz are so found.

    Examples
    --------
    >>> waveform = Waveform(torch.linspace(72e9, 82e9, 11))
    >>> len(waveform), round(float(waveform.wavenumbers[0]))
    (11, 1509)
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
        lowest, highest = float(value[0]), float(value[-1])
        if lowest < _LOWEST or highest > _HIGHEST:
            unit = likely_frequency_unit(lowest, highest)
            hint = "" if unit is None else f", likely in {unit}"
            raise InputError(
                f"waveform: expected frequencies of 1e9 to 1e12 Hz, "
                f"found {lowest:g} to {highest:g}{hint}"
            )
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


def stepped(start: float, stop: float, count: int, unit: str = "Hz") -> Waveform:
    """``count`` equal steps from ``start`` to ``stop``, both included, in ``unit``.

    Raises :class:`~radarbook.errors.InputError` unless they ascend between 1e9 and 1e12 Hz.

    Examples
    --------
    >>> stepped(76, 78, 5, "GHz").frequencies.tolist()
    [76000000000.0, 76500000000.0, 77000000000.0, 77500000000.0, 78000000000.0]
    """
    if unit not in FREQUENCY_UNITS:
        raise InputError(f"unit: expected one of {', '.join(FREQUENCY_UNITS)}, found '{unit}'")
    if not (math.isfinite(start) and math.isfinite(stop) and start < stop and count > 1):
        raise InputError(
            f"frequencies: expected START < STOP and a COUNT of 2 or more, "
            f"found {start:g} {stop:g} {count}"
        )
    hertz = FREQUENCY_UNITS[unit]
    return Waveform(torch.linspace(start * hertz, stop * hertz, count, dtype=torch.float64))


def likely_frequency_unit(lowest: float, highest: float) -> str | None:
    """The unit in which both numbers are a radar's frequencies, where there is just one.

    Examples
    --------
    >>> likely_frequency_unit(72, 82)
    'GHz'
    """
    units = [
        unit
        for unit, hertz in FREQUENCY_UNITS.items()
        if lowest * hertz >= _LOWEST and highest * hertz <= _HIGHEST
    ]
    return units[0] if len(units) == 1 else None


def qar50_waveform(steps: int = 128) -> Waveform:
    """72-82 GHz inclusive in ``steps`` equal steps.

    The instrument takes 128. Fewer carry the same image as long as the scene's depth stays below
    :attr:`Waveform.unambiguous_range` (24 steps: 0.345 m).

    Examples
    --------
    >>> frequencies = qar50_waveform(128).frequencies
    >>> float(frequencies[0]), float(frequencies[-1])
    (72000000000.0, 82000000000.0)
    """
    if steps < 1:
        raise InputError(f"waveform: expected at least one frequency step, found {steps}")
    if steps == 1:
        return Waveform(torch.tensor([77e9], dtype=torch.float64))
    return Waveform(torch.linspace(72e9, 82e9, steps, dtype=torch.float64))
