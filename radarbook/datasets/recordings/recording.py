"""One measured frame and what is needed to image it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from radarbook.radar.array import Array
from radarbook.radar.signal import check_signal
from radarbook.radar.waveform import Waveform

Meta = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Recording:
    """One measured frame with what is needed to image it.

    Attributes
    ----------
    signal : Tensor (rx, tx, f), complex64
        Time factor e^{+jωt}: a path of length d has the phase -kd.
    array, waveform
        Antenna positions (radar frame, m) in the order of the signal's axes, and frequencies (Hz).
    meta : mapping
        Whatever is known: ``object``, ``subject``, ``expression``, ``distance`` (m), ``frame``,
        ``empty_filtered``, ``path``, ...
    calibration : mapping
        The frame's entry of MAROON's ``calibration.json`` (empty where there is none).
    reference_depth : Tensor (H, W), float32, or None
        Depth image stored beside the recording, m, [y, x] ascending in the radar frame (MAROON
        mirrors x: turned back here); NaN where it has none. Its grid is the calibration's volume.
    notes : tuple of str
        What a user should know of a recording that was read, one line each: what was changed on
        reading, and what :func:`~radarbook.datasets.recording_checks.check_recording` found.

    Raises :class:`~radarbook.errors.InputError` where the parts do not fit each other.
    """

    signal: Tensor
    array: Array
    waveform: Waveform
    meta: Meta = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    reference_depth: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape = (len(self.array.rx), len(self.array.tx), len(self.waveform))
        check_signal(self.signal.numpy(), "recording", shape)
