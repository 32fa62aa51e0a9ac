"""Calibration by a target at a known place: the common delay, and the phase of each channel."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from radarbook.errors import InputError
from radarbook.hdf5 import new_hdf5, read_hdf5, text_of
from radarbook.radar.array import Array
from radarbook.radar.delay import range_of_delay, without_delay
from radarbook.radar.imaging import frequency_window
from radarbook.radar.waveform import Waveform

CALIBRATION_LAYOUT = "radarbook calibration"
CALIBRATION_LAYOUT_VERSION = 1
#: Amplitude of a channel, relative to the median, below which it has no phase: -40 dB.
_SILENT = 1e-2
#: Power of the target's echo over the median of the range profile, below which it is no target; of
#: few channels the median of noise is uncertain, and more is asked for.
_FAINT = 4.0


# -- targets ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corner:
    """A corner reflector, or anything small, at (x, y, z) m: its tip.

    Examples
    --------
    >>> Corner((0.01, 0.0, 0.35)).position[2]
    0.35
    """

    position: tuple[float, float, float]

    def path(self, array: Array) -> Tensor:
        """(channels,) or (R, T) m from each transmitter over the target to each receiver."""
        place = torch.tensor(self.position, dtype=torch.float64)
        return _by_channel(
            array, lambda tx, rx: (tx - place).norm(dim=-1) + (rx - place).norm(dim=-1)
        )

    def __str__(self) -> str:
        return "corner at x = {:g}, y = {:g}, z = {:g} m".format(*self.position)


@dataclass(frozen=True)
class Plate:
    """A flat metal plate parallel to z = 0, at z m, larger than the array."""

    z: float

    def path(self, array: Array) -> Tensor:
        """(channels,) or (R, T) m of the reflection: as from the transmitter's mirror image."""
        mirror = torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
        behind = torch.tensor([0.0, 0.0, 2 * self.z], dtype=torch.float64)
        return _by_channel(array, lambda tx, rx: (tx * mirror + behind - rx).norm(dim=-1))

    def __str__(self) -> str:
        return f"plate at z = {self.z:g} m"


Target = Corner | Plate


def _by_channel(array: Array, length: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    pairs = array.every_pair()
    tx, rx = array.tx.detach().cpu()[pairs[:, 0]], array.rx.detach().cpu()[pairs[:, 1]]
    return length(tx, rx).reshape(array.channels)


# -- the calibration ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """What a radar adds to each channel: a common delay and a complex factor.

    Attributes
    ----------
    delay : float
        Seconds, common to all channels.
    channels : Tensor, complex128, of shape ``array.channels``
        Factor of each channel at all frequencies, of median amplitude 1; 0 for a silent channel.
        Their mean phase is 0: the phase that all channels share is the target's as well.
    about : str
        The target.
    echo_db : float
        Power of the target's echo over the median of the range profile, dB.
    residual : float
        Share of the power of the gated echo that delay and channels do not explain.
    phase_deviation, delay_deviation : float
        Standard deviations of the error of a channel's phase, rad, and of the delay, s, if the
        residual is white noise.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(32)
    >>> corner = torch.tensor([[0.01, 0.0, 0.4]])
    >>> signal = simulate_points(corner, torch.ones(1), array, waveform)
    >>> delayed = without_delay(signal, waveform, -0.2e-9)
    >>> found = calibrate(delayed, array, waveform, Corner((0.01, 0.0, 0.4)))
    >>> f"{found.delay:.4g}"
    '2e-10'
    """

    delay: float
    channels: Tensor
    about: str = ""
    echo_db: float = math.nan
    residual: float = math.nan
    phase_deviation: float = math.nan
    delay_deviation: float = math.nan

    def __post_init__(self) -> None:
        if not (math.isfinite(self.delay) and bool(torch.isfinite(self.channels.abs()).all())):
            raise InputError("calibration: expected finite numbers, found NaN or infinity")

    def apply(self, signal: Tensor, waveform: Waveform) -> Tensor:
        """The signal (..., channels, f) without delay and with the channels' phases equal.

        Amplitudes stay: they depend on the target's angle, too. Silent channels stay as they are.
        Raises :class:`~radarbook.errors.InputError` for a signal of other channels.
        """
        shape = tuple(self.channels.shape)
        if tuple(signal.shape[-1 - len(shape) : -1]) != shape:
            raise InputError(
                f"calibration: expected a signal of channels {shape}, found "
                f"{tuple(signal.shape)}: it was made with another array"
            )
        size = self.channels.abs()
        conjugate = torch.where(size > 0, self.channels.conj() / size.clamp(min=1e-300), 1.0)
        return without_delay(signal * conjugate[..., None].to(signal), waveform, self.delay)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to HDF5, atomically."""
        with new_hdf5(path) as file:
            file.attrs["layout"] = CALIBRATION_LAYOUT
            file.attrs["layout_version"] = CALIBRATION_LAYOUT_VERSION
            file.attrs["about"] = self.about
            for name, unit in _FIGURES.items():
                file.create_dataset(name, data=getattr(self, name)).attrs["unit"] = unit
            channels = file.create_dataset("channels", data=self.channels.cpu().numpy())
            channels.attrs["description"] = "complex factor of each channel: [rx, tx] or [pair]"

    def __str__(self) -> str:
        heard = self.channels.abs() > 0
        phase = self.channels[heard].angle()
        gain = 20 * self.channels[heard].abs().log10()
        lines = [
            f"calibration by a {self.about}",
            f"delay            {1e9 * self.delay:.4f} ± {1e9 * self.delay_deviation:.4f} ns = "
            f"{1e3 * range_of_delay(self.delay):.2f} mm of range",
            f"channel phases   {math.degrees(float(phase.square().mean().sqrt())):.1f} degrees "
            f"rms, each known to {math.degrees(self.phase_deviation):.2f} degrees",
            f"channel gains    {float(gain.std()):.1f} dB standard deviation (not corrected)",
            f"silent channels  {int((~heard).sum())} of {heard.numel()}",
            f"echo             {self.echo_db:.1f} dB above the median of the range profile",
            f"residual         {100 * self.residual:.2g} % of the echo's power",
        ]
        return "\n".join(lines)


_FIGURES = {
    "delay": "s",
    "echo_db": "dB",
    "residual": "1",
    "phase_deviation": "rad",
    "delay_deviation": "s",
}


def load_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Read what :meth:`Calibration.save` wrote. Raises :class:`~radarbook.errors.InputError`."""
    with read_hdf5(path, "a calibration") as file:
        if text_of(file.attrs.get("layout")) != CALIBRATION_LAYOUT:
            raise InputError(f"{path}: expected an HDF5 file with layout = '{CALIBRATION_LAYOUT}'")
        figures = {name: float(file[name][()]) for name in _FIGURES}
        channels = torch.from_numpy(file["channels"][()]).to(torch.complex128)
        about = text_of(file.attrs.get("about")) or ""
    return Calibration(channels=channels, about=about, **figures)


def calibrate(
    signal: Tensor,
    array: Array,
    waveform: Waveform,
    target: Target,
    *,
    reach: float | None = None,
    separable: bool | None = None,
) -> Calibration:
    """The delay and the channel factors by which ``signal`` differs from that of a target.

    The path over the target is taken out of each channel p. What is left is
    a_p e^{-j2πfτ}, and the delay τ maximises Σ_p |Σ_f w_f r_pf e^{+j2πfτ}|², with a Hann window w
    that gates other echoes; a_p is then the windowed mean over frequency.

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (pair, f), complex
        Of a scene where the target is the strongest echo within ``reach``.
    target : Corner or Plate
    reach : float, optional
        Half of the range that is searched for the echo, m, around the target's place. None: all
        of the unambiguous range.
    separable : bool, optional
        Whether a factor is that of its receiver times that of its transmitter, which lowers the
        noise; None: yes, for an array without pairs of at least 3 × 3 antennas.

    Returns
    -------
    Calibration

    Raises :class:`~radarbook.errors.InputError` for fewer than 4 frequency steps, a target that is
    not in front of the array, and a signal without a clear echo.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50(), qar50_waveform(32)
    >>> signal = simulate_points(torch.tensor([[0.0, 0.0, 0.4]]), torch.ones(1), array, waveform)
    >>> delayed = without_delay(signal, waveform, -1e-10)
    >>> found = calibrate(delayed, array, waveform, Corner((0, 0, 0.4)))
    >>> round(1e12 * found.delay)  # ps
    100
    """
    array.require_signal(signal, len(waveform))
    if len(waveform) < 4:
        raise InputError(f"calibration: expected 4 frequency steps, found {len(waveform)}")
    path = target.path(array)
    k = waveform.wavenumbers.cpu()
    # Reduced before rounding: a phase may be thousands of turns.
    phase = torch.remainder(path[..., None] * k, 2 * math.pi)
    plain = signal.detach().cpu().to(torch.complex128) * torch.polar(torch.ones_like(phase), phase)
    flat = plain.reshape(-1, len(waveform))
    weights = frequency_window("hann", len(waveform)) / len(waveform)
    delay, peak, usual = _delay(flat, waveform, weights, reach)
    if not peak > (_FAINT + 8 / len(flat)) * usual:
        raise InputError(
            f"calibration: expected an echo of the {target} that stands out, found it only "
            f"{10 * math.log10(max(peak, 1e-300) / max(usual, 1e-300)):.1f} dB above the mean of "
            "the range profile"
        )
    aligned = without_delay(plain, waveform, delay)
    factors = aligned @ weights.to(aligned)
    size = factors.abs()
    heard = size > _SILENT * size[size > 0].median()
    if separable is None:
        separable = array.pairs is None and min(array.channels) >= 3
    if separable and array.pairs is not None:
        raise InputError("calibration: expected an array without pairs for separable factors")
    if separable:
        factors = _separated(factors)
    factors = torch.where(heard, factors, 0)
    residual, noise = _residual(aligned, factors, heard)
    # A separable factor is a mean over the other side's antennas.
    share = sum(1 / n for n in factors.shape) if separable else 1.0
    f = waveform.frequencies.cpu() - waveform.centre
    spread = float((weights * f.square()).sum())
    mean_phase = (factors / factors.abs().clamp(min=1e-300)).sum()
    factors = factors * (mean_phase.abs() / mean_phase if mean_phase.abs() > 0 else 1.0)
    return Calibration(
        delay=delay,
        channels=factors / factors.abs()[heard].median(),
        about=str(target),
        echo_db=10 * math.log10(peak / max(usual, 1e-30 * peak)),
        residual=residual,
        phase_deviation=math.sqrt(noise / 2 * share * float(weights.square().sum())),
        delay_deviation=math.sqrt(
            noise / 2 * float((weights * f).square().sum()) / int(heard.sum())
        )
        / (2 * math.pi * spread),
    )


def _delay(
    flat: Tensor, waveform: Waveform, weights: Tensor, reach: float | None
) -> tuple[float, float, float]:
    """The delay of the strongest echo (s), its power, and the median power over all delays."""
    f = waveform.frequencies.cpu() - waveform.centre
    weighted = flat * weights
    # Power at any delay from the frequencies' covariance, whatever the number of channels.
    covariance = weighted.T @ weighted.conj()

    def power(delays: Tensor) -> Tensor:
        phase = 2 * math.pi * delays[:, None] * f
        wave = torch.polar(torch.ones_like(phase), phase)
        return ((wave @ covariance) * wave.conj()).sum(1).real

    most = 0.5 / float(waveform.frequencies.diff().max())
    within = most if reach is None else min(most, reach / range_of_delay(1.0))
    step = 0.1 / waveform.bandwidth
    # One unambiguous range, each delay once, and the part of it that is searched.
    count = max(2, math.ceil(2 * most / step))
    every = (torch.arange(count, dtype=torch.float64) / count - 0.5) * 2 * most
    profile = power(every)
    inside = every.abs() <= within
    coarse = float(every[inside][profile[inside].argmax()])
    found = minimize_scalar(
        lambda t: -float(power(torch.tensor([t], dtype=torch.float64))),
        bounds=(coarse - step, coarse + step),
        method="bounded",
        options={"xatol": 1e-6 * step},
    )
    return float(found.x), -float(found.fun), float(profile.median())


def _separated(factors: Tensor) -> Tensor:
    """(R, T): the nearest product of a factor of each receiver and one of each transmitter."""
    left, values, right = torch.linalg.svd(factors, full_matrices=False)
    return values[0] * left[:, :1] * right[:1]


def _residual(aligned: Tensor, factors: Tensor, heard: Tensor) -> tuple[float, float]:
    """Share of the power that is not explained, and its power over that of the echo."""
    total = float(aligned.abs().square()[heard].sum())
    left = float((aligned - factors[..., None]).abs().square()[heard].sum())
    echo = float(factors[heard].abs().square().sum()) * aligned.shape[-1]
    return left / total, left / echo


__all__ = [
    "CALIBRATION_LAYOUT",
    "Calibration",
    "Corner",
    "Plate",
    "calibrate",
    "load_calibration",
]
