"""One measured frame and what is needed to image it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import Grid, back_project, imaging_method
from radarbook.radar.signal import check_signal
from radarbook.radar.waveform import Waveform

Meta = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class View:
    """What of a scene is imaged unless something else is asked for, metres.

    Attributes
    ----------
    stand_off : float or None
        Distance of a flat target from the antennas: the plane that is imaged.
    depth : (near, far) or None
        Depths that are imaged; they go before the stand-off.
    extent : float or None
        Side of the image.
    """

    stand_off: float | None = None
    depth: tuple[float, float] | None = None
    extent: float | None = None


@dataclass(frozen=True)
class Recording:
    """One measured frame with what is needed to image it.

    Attributes
    ----------
    signal : Tensor (rx, tx, f), or (pair, f) for an array with pairs, complex64
        Time factor e^{+jωt}: a path of length d has the phase -kd.
    array, waveform
        Antenna positions (radar frame, m) in the order of the signal's axes, and frequencies (Hz).
    meta : mapping
        Whatever is known: ``object``, ``subject``, ``expression``, ``distance`` (m), ``frame``,
        ``empty_filtered``, ``path``, ...
    calibration : mapping
        The frame's entry of MAROON's ``calibration.json`` (empty where there is none).
    reference_depth : Tensor (H, W), float32, or None
        Depth image stored next to the recording, m, [y, x] ascending in the radar frame (MAROON
        mirrors x: turned back here); NaN where it has none. Its grid is the calibration's volume.
    notes : tuple of str
        Notes for the user on a recording that was read, one line each: what was changed on
        reading, and what :func:`~radarbook.datasets.recordings.check_recording` found.
    provenance : tuple of str
        What was done to the numbers of the file, in this order: background, phases, delay.
    view : View
        What is imaged unless something else is asked for.

    Raises :class:`~radarbook.errors.InputError` where the parts do not fit each other.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(16)
    >>> point = torch.tensor([[0.0, 0.0, 0.30]])
    >>> signal = simulate_points(point, torch.ones(1), array, waveform)
    >>> image = Recording(signal, array, waveform).image(pixels=9, depth=(0.28, 0.32))
    >>> int(image.amplitude_db.argmax())  # the middle of 9 x 9 pixels
    40
    """

    signal: Tensor
    array: Array
    waveform: Waveform
    meta: Meta = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    reference_depth: Tensor | None = None
    notes: tuple[str, ...] = ()
    provenance: tuple[str, ...] = ()
    view: View = View()

    def __post_init__(self) -> None:
        shape = self.array.signal_shape(len(self.waveform))
        check_signal(self.signal.numpy(), "recording", shape, self.array.axes)

    def image(
        self,
        pixels: int = 128,
        extent: float = 0.30,
        depth: tuple[float, float] = (0.23, 0.47),
        dynamic_range: float = -20.0,
        *,
        progress: bool = False,
    ) -> RadarImage:
        """The amplitude and depth image, by back-projection.

        Parameters
        ----------
        pixels : int
            Of each side.
        extent : float
            Side of the image, m.
        depth : (near, far)
            Depths that are imaged, m from the array's plane; a plane every 4 mm.
        dynamic_range : float
            Level at which the amplitude is clipped, negative dB relative to the maximum.
        progress : bool
            Whether to show how far the work is.

        Raises :class:`~radarbook.errors.InputError` for depths that do not ascend from 0.
        """
        near, far = depth
        if not 0 < near < far < math.inf:
            raise InputError(f"depth: expected 0 < near < far metres, found {near} {far}")
        # A resolution cell is 15 mm deep: four planes for the parabola through its peak.
        planes = max(4, round((far - near) / 4e-3) + 1)
        grid = Grid.regular(extent, pixels, near, far, planes)
        with torch.no_grad():
            volume = back_project(
                self.signal,
                self.array,
                self.waveform,
                grid,
                method=imaging_method(self.array, self.waveform, grid),
                progress=progress,
            )
            return image_from_volume(volume, grid, dynamic_range)
