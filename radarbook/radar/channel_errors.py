"""How well an array's channels are calibrated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from radarbook.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ChannelErrors:
    """Standard deviations of the gain and the phase of each antenna about the calibrated ones.

    A channel has the factor (1 + a_r)(1 + b_t) of its receiver and its transmitter, the same at all
    frequencies.

    Attributes
    ----------
    gain_db : float
        Of the gain, dB.
    phase : float
        Of the phase, radians.

    Raises :class:`~radarbook.errors.InputError` for a negative or infinite value, and if both are
    0: None states that there are no errors.

    Examples
    --------
    >>> round(ChannelErrors().deviation, 3)
    0.074
    """

    gain_db: float = 0.5
    phase: float = 0.087

    def __post_init__(self) -> None:
        for name, value in (("gain_db", self.gain_db), ("phase", self.phase)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"channels: expected {name} of 0 or more, found {value}")
        if self.gain_db == self.phase == 0:
            raise InputError("channels: expected errors, found 0 dB and 0 radians")

    @property
    def deviation(self) -> float:
        """Root mean square of the real and of the imaginary part of a_r, taken as equal."""
        gain = self.gain_db * math.log(10) / 20
        return math.sqrt((gain**2 + self.phase**2) / 2)
