"""What a real radar adds to a clean signal: noise, channel errors, leakage, movement.

Every imperfection is off by default, sampled from named streams (:mod:`radarbook.seeds`) and fixed
by ``(seed, index)`` alone, so sample ``index`` of a dataset is the same whoever computes it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.waveform import Waveform
from radarbook.seeds import torch_stream

#: What is stepped in the outer loop of a sweep.
Order = Literal["frequency", "transmitter"]


@dataclass(frozen=True)
class Imperfections:
    """How imperfect the radar is; all zero or None: a perfect one.

    Attributes
    ----------
    snr_db : float or None
        Signal power over thermal noise power per sample, dB; None: no noise.
    gain_db : float
        Standard deviation of each antenna's gain, dB (one sample per tx and per rx).
    phase : float
        Standard deviation of each antenna's phase, radians.
    position : float
        Standard deviation of each antenna coordinate's error, metres: the signal is made with the
        true positions (:meth:`array`), the image with the nominal ones.
    leakage_db : float or None
        Power of the direct tx-rx coupling that calibration left over, relative to the signal's
        mean power, dB; its path is the antennas' distance.
    background_db : float or None
        Power of eight static points around the scene, relative to the signal's mean power, dB.
    velocity : tuple of float
        Movement of the whole scene during the sweep, (x, y, z) m/s, about the sweep's middle.
    sweep : float
        Duration of the whole recording, seconds.
    order : str
        When a sample is taken: with ``"frequency"`` all transmitters send one frequency after the
        other, and a recording steps through the frequencies once; with ``"transmitter"`` each
        transmitter sweeps through all frequencies before the next one does. All receivers listen
        at once. The QAR50's published description does not say which of them it does. Movement
        along range shifts depths with the first and blurs the image with the second.

    Examples
    --------
    >>> Imperfections(snr_db=20.0, phase=0.1).gain_db
    0.0
    """

    snr_db: float | None = None
    gain_db: float = 0.0
    phase: float = 0.0
    position: float = 0.0
    leakage_db: float | None = None
    background_db: float | None = None
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sweep: float = 0.05
    order: Order = "frequency"

    def __post_init__(self) -> None:
        for name in ("gain_db", "phase", "position", "sweep"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"imperfections: expected {name} ≥ 0, found {value}")
        if self.order not in get_args(Order):
            raise InputError(
                f"imperfections: expected order {' or '.join(get_args(Order))}, found {self.order}"
            )

    def settings(self) -> dict[str, object]:
        """JSON-able, for fingerprints."""
        return asdict(self)

    def array(self, nominal: Array, seed: int, index: int = 0) -> Array:
        """The array as built: nominal positions plus their errors."""
        if self.position == 0:
            return nominal
        stream = torch_stream(seed, "imperfections/position", index)
        tx, rx = (
            positions
            + self.position
            * torch.randn(positions.shape, generator=stream, dtype=torch.float64).to(positions)
            for positions in (nominal.tx, nominal.rx)
        )
        return nominal.replace(tx=tx, rx=rx)

    def apply(
        self,
        signal: Tensor,
        array: Array,
        waveform: Waveform,
        seed: int,
        indices: int | list[int] = 0,
        *,
        centre: tuple[float, float, float] = (0.0, 0.0, 0.35),
    ) -> Tensor:
        """The signal as measured.

        Parameters
        ----------
        signal : Tensor (rx, tx, f) or (B, rx, tx, f), complex
        seed, indices
            Stream of each signal of the batch; a single index for a single signal.
        centre
            Where the scene is, metres: the movement's phase is that of a point there.

        Returns a signal of the same shape and dtype, differentiable with respect to the signal.
        The order is the instrument's: scene and movement, background, leakage, channels, noise.
        """
        batch = signal if signal.ndim == 4 else signal[None]
        wanted = (len(array.rx), len(array.tx), len(waveform))
        if tuple(batch.shape[1:]) != wanted:
            raise InputError(
                f"signal: expected (rx, tx, frequency) = {wanted}, found {tuple(signal.shape)}"
            )
        numbers = [indices] if isinstance(indices, int) else list(indices)
        if len(numbers) != len(batch):
            raise InputError(f"indices: expected one for each of {len(batch)} signals")
        out = torch.stack(
            [
                self._apply_one(s, array, waveform, seed, i, torch.tensor(centre))
                for s, i in zip(batch, numbers, strict=True)
            ]
        )
        return out if signal.ndim == 4 else out[0]

    def _apply_one(
        self, signal: Tensor, array: Array, waveform: Waveform, seed: int, index: int, at: Tensor
    ) -> Tensor:
        scale = _rms(signal.detach())
        if any(self.velocity):
            signal = signal * self._movement(array, waveform, at).to(signal)
        if self.background_db is not None:
            extra = _background(array, waveform, at, seed, index)
            signal = signal + extra.to(signal) * (scale * _amplitude(self.background_db))
        if self.leakage_db is not None:
            extra = _leakage(array, waveform)
            signal = signal + extra.to(signal) * (scale * _amplitude(self.leakage_db))
        if self.gain_db or self.phase:
            signal = signal * self._channels(array, seed, index).to(signal)
        if self.snr_db is not None:
            stream = torch_stream(seed, "imperfections/noise", index)
            noise = torch.randn(signal.shape, generator=stream, dtype=torch.complex128)
            signal = signal + noise.to(signal) * (scale * _amplitude(-self.snr_db))
        return signal

    def _movement(self, array: Array, waveform: Waveform, at: Tensor) -> Tensor:
        """(rx, tx, f) phase of a scene that has moved by v t when a sample is taken."""
        at = at.to(torch.float64)
        where = at + self._times(array, waveform)[..., None] * torch.tensor(
            self.velocity, dtype=torch.float64
        )  # (tx, f, 3), or (1, f, 3)
        tx, rx = (p.detach().cpu() for p in (array.tx, array.rx))
        sent = (where - tx[:, None]).norm(dim=-1) - (at - tx).norm(dim=-1)[:, None]
        received = (where - rx[:, None, None]).norm(dim=-1) - (at - rx).norm(dim=-1)[:, None, None]
        return torch.exp(-1j * waveform.wavenumbers.cpu() * (received + sent))

    def _times(self, array: Array, waveform: Waveform) -> Tensor:
        """(tx, f) or (1, f) float64: seconds from the sweep's middle to each sample."""
        count, steps = 1, len(waveform)
        if self.order == "transmitter":
            count = len(array.tx)
        number = torch.arange(count * steps, dtype=torch.float64).reshape(count, steps)
        return (number - (count * steps - 1) / 2) * (self.sweep / (count * steps))

    def _channels(self, array: Array, seed: int, index: int) -> Tensor:
        stream = torch_stream(seed, "imperfections/channels", index)
        factors = []
        for count in (len(array.rx), len(array.tx)):
            gain, phase = torch.randn(2, count, generator=stream, dtype=torch.float64)
            factors.append(10 ** (self.gain_db * gain / 20) * torch.exp(1j * self.phase * phase))
        return (factors[0][:, None] * factors[1])[..., None]


def _amplitude(decibel: float) -> float:
    return 10 ** (decibel / 20)


def _rms(signal: Tensor) -> Tensor:
    return signal.abs().square().mean().sqrt()


def _leakage(array: Array, waveform: Waveform) -> Tensor:
    """(rx, tx, f) of unit mean power: a wave straight from every transmitter to every receiver."""
    distance = torch.cdist(array.rx.detach().cpu(), array.tx.detach().cpu())[..., None]
    wave = torch.exp(-1j * waveform.wavenumbers.cpu() * distance) / distance.clamp(min=1e-3)
    return wave / _rms(wave)


def _background(array: Array, waveform: Waveform, at: Tensor, seed: int, index: int) -> Tensor:
    """(rx, tx, f) of unit mean power: eight points 0.1-0.3 m behind and next to the scene."""
    stream = torch_stream(seed, "imperfections/background", index)
    place = torch.rand(8, 3, generator=stream, dtype=torch.float64)
    low, high = place.new_tensor([-0.3, -0.3, 0.1]), place.new_tensor([0.3, 0.3, 0.3])
    points = at.to(torch.float64) + low + (high - low) * place
    phase = 2 * math.pi * torch.rand(8, generator=stream, dtype=torch.float64)
    k = waveform.wavenumbers.cpu()
    total = torch.zeros(len(array.rx), len(array.tx), len(k), dtype=torch.complex128)
    for point, turn in zip(points, phase, strict=True):
        rx, tx = ((point - p.detach().cpu()).norm(dim=-1) for p in (array.rx, array.tx))
        path = (rx[:, None] + tx)[..., None]
        total += torch.exp(1j * (turn - k * path))
    return total / _rms(total)
