"""One measured frame and what is needed to image it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.autofocus import Focus, autofocus
from radarbook.radar.calibration import Calibration
from radarbook.radar.coupling import without_ranges
from radarbook.radar.delay import without_delay
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.signal import check_signal
from radarbook.radar.waveform import C0, Waveform

Meta = Mapping[str, str | int | float | bool]

#: What is imaged of a recording that says nothing of its scene: a face before a QAR50, m.
_DEPTH, _EXTENT = (0.23, 0.47), 0.30


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

    Examples
    --------
    >>> View(stand_off=0.09).extent is None
    True
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

    def depths(
        self, depth: tuple[float, float] | None = None, plane: float | None = None
    ) -> tuple[float, float]:
        """(near, far) m of an image, equal for one plane: as asked for, else those of the view,
        else 0.23 to 0.47 m.

        Raises :class:`~radarbook.errors.InputError` for depths that do not ascend from 0.
        """
        if plane is not None and depth is not None:
            raise InputError("depth: expected either depths or a plane, found both")
        if depth is None and plane is None:
            depth, plane = self.view.depth, self.view.stand_off
        if depth is not None:
            near, far = depth
            if not 0 < near < far < math.inf:
                raise InputError(f"depth: expected 0 < near < far metres, found {near} {far}")
            return near, far
        if plane is None:
            return _DEPTH
        if not 0 < plane < math.inf:
            raise InputError(f"plane: expected metres above 0, found {plane}")
        return plane, plane

    def extent(self, extent: float | None = None) -> float:
        """Side of an image, m: as asked for, else the view's, else 0.30."""
        return extent or self.view.extent or _EXTENT

    def image(
        self,
        pixels: int = 128,
        extent: float | None = None,
        depth: tuple[float, float] | None = None,
        dynamic_range: float = -20.0,
        *,
        plane: float | None = None,
        progress: bool = False,
    ) -> RadarImage:
        """The amplitude and depth image, by back-projection.

        Parameters
        ----------
        pixels : int
            Of each side.
        extent : float, optional
            Side of the image, m; None: the view's, else 0.30.
        depth : (near, far), optional
            Depths that are imaged, m from the array's plane; about four planes in a cell of
            resolution. None: the view's depths or plane, else 0.23 to 0.47 m.
        dynamic_range : float
            Level at which the amplitude is clipped, negative dB relative to the maximum.
        plane : float, optional
            The only depth that is imaged, m, instead of ``depth``.
        progress : bool
            Whether to show how far the work is.

        Raises :class:`~radarbook.errors.InputError` for depths that do not ascend from 0.
        """
        volume, grid = self.volume(pixels, extent, depth, plane=plane, progress=progress)
        return image_from_volume(volume, grid, dynamic_range)

    def volume(
        self,
        pixels: int = 128,
        extent: float | None = None,
        depth: tuple[float, float] | None = None,
        *,
        plane: float | None = None,
        progress: bool = False,
    ) -> tuple[Tensor, Grid]:
        """The complex volume (z, y, x) that :meth:`image` is made of, and its grid; parameters
        and errors are :meth:`image`'s."""
        near, far = self.depths(depth, plane)
        grid = self.grid(pixels, self.extent(extent), near, far)
        with torch.no_grad():
            volume = back_project(self.signal, self.array, self.waveform, grid, progress=progress)
        return volume, grid

    def grid(self, pixels: int, extent: float, near: float, far: float) -> Grid:
        """Voxels of an image; one plane if ``near`` and ``far`` are equal."""
        if near == far:
            return Grid.regular(extent, pixels, near, far, 1)
        cell = C0 / (2 * self.waveform.bandwidth) if len(self.waveform) > 1 else math.inf
        # Planes for the parabola through a cell's peak: every 4 mm for the QAR50's 15 mm.
        step = min(cell / 3.75, (far - near) / 3)
        return Grid.regular(extent, pixels, near, far, max(4, round((far - near) / step) + 1))

    # -- corrections ------------------------------------------------------------------------------

    def calibrated(self, calibration: Calibration) -> Recording:
        """Without the delay and with equal phases of the channels, as a calibration states them.

        Raises :class:`~radarbook.errors.InputError` for a calibration of another array.
        """
        about = f" by a {calibration.about}" if calibration.about else ""
        return self.done(calibration.apply(self.signal, self.waveform), f"calibrated{about}")

    def conjugated(self) -> Recording:
        """With the other sign of the phase: I and Q were swapped, or the time factor was e^{-jωt}.

        Examples
        --------
        >>> from radarbook.radar.array import qar50
        >>> from radarbook.radar.waveform import qar50_waveform
        >>> signal = torch.full((94, 94, 2), 1 + 2j, dtype=torch.complex64)
        >>> complex(Recording(signal, qar50(), qar50_waveform(2)).conjugated().signal[0, 0, 0])
        (1-2j)
        """
        return self.done(self.signal.conj().resolve_conj(), "conjugated")

    def without_delay(self, seconds: float) -> Recording:
        """Without a common delay (:func:`~radarbook.radar.delay.without_delay`)."""
        plain = without_delay(self.signal, self.waveform, seconds)
        return self.done(plain, f"delay of {seconds:g} s removed")

    def without_scene(self, empty: Recording) -> Recording:
        """Minus the recording of the empty scene, made with the same array and frequencies.

        Raises :class:`~radarbook.errors.InputError` where shape or frequencies differ.
        """
        if self.signal.shape != empty.signal.shape:
            raise InputError(
                f"empty scene: expected a signal {tuple(self.signal.shape)} as the recording's, "
                f"found {tuple(empty.signal.shape)}"
            )
        if not torch.allclose(self.waveform.frequencies, empty.waveform.frequencies, rtol=1e-9):
            raise InputError("empty scene: expected the recording's frequencies, found others")
        return self.done(self.signal - empty.signal, "empty scene subtracted")

    def without_mean(self) -> Recording:
        """Minus each frequency's mean over the channels: what all channels have in common.

        For a scan by one antenna that is its own coupling, and the mean of the scene.
        """
        mean = self.signal.mean(tuple(range(self.signal.ndim - 1)), keepdim=True)
        return self.done(self.signal - mean, "mean over channels subtracted for each frequency")

    def without_coupling(self, below: float) -> Recording:
        """Without what lies nearer than a half path of ``below`` m
        (:func:`~radarbook.radar.coupling.without_ranges`)."""
        plain = without_ranges(self.signal, self.waveform, 0.0, below)
        return self.done(plain, f"half paths below {below:g} m removed")

    def focused(
        self, span: float, depth: tuple[float, float] | None = None, extent: float | None = None
    ) -> tuple[Recording, Focus]:
        """Without the common delay, of at most ``span`` s, at which the image is sharpest
        (:func:`~radarbook.radar.autofocus.autofocus`), and what was found. A delay at the end of
        the span is not removed: the array is too small for the distance, or the span too short.

        The image has ``depth`` and ``extent`` as :meth:`image` has them, and voxels of half a cell
        of resolution. At most 32 antennas of a side, or 1,024 pairs, and 32 frequencies are used.
        """
        near, far = depth or self.depths()
        coarse = self.thinned(32, 1024, 32)
        if near == far:
            cell = C0 / (2 * max(self.waveform.bandwidth, 1e9))
            near, far = max(near - cell, near / 2), far + cell
        side = self.extent(extent)
        # λ/2 over the sines of both legs, which an aperture sees at most 2 of each.
        antennas = torch.cat([self.array.tx, self.array.rx]).detach()
        width = float((antennas.amax(0) - antennas.amin(0))[:2].max())
        step = self.waveform.wavelength / 4 * max(1.0, (near + far) / 2 / max(width, 1e-3))
        pixels = min(96, max(16, math.ceil(side / step)))
        found = autofocus(
            coarse.signal,
            coarse.array,
            coarse.waveform,
            self.grid(pixels, side, near, far),
            span=span,
            trials=9,
        )
        return self if found.at_end else self.without_delay(found.delay), found

    def thinned(self, antennas: int, pairs: int, steps: int) -> Recording:
        """Every n-th antenna and frequency step, at most so many of each side; of an array with
        pairs at most so many pairs."""

        def every(count: int, at_most: int) -> Tensor:
            return torch.arange(0, count, math.ceil(count / at_most))

        array, signal = self.array, self.signal
        if array.pairs is None:
            rx, tx = (every(len(p), antennas) for p in (array.rx, array.tx))
            array, signal = array.subset(tx=tx, rx=rx), signal[rx][:, tx]
        else:
            kept = torch.zeros(array.channels, dtype=torch.bool)
            kept[every(len(kept), pairs)] = True
            array, signal = array.subset(channels=kept), signal[kept]
        chosen = every(len(self.waveform), steps)
        waveform = Waveform(self.waveform.frequencies[chosen])
        return Recording(signal[..., chosen].contiguous(), array, waveform, view=self.view)

    def done(self, signal: Tensor, what: str) -> Recording:
        """With another signal, and a line more in the provenance."""
        return replace(self, signal=signal, provenance=(*self.provenance, what))
