"""What the instrument adds to a clean signal (rx, tx, f): applied in the order of the fields.

S' = g_r g_t S e^{-j2πfτ} + leakage + noise, with the antennas where they really are
(:meth:`Instrument.positions`) and the surface moving during the sweep (:func:`breathing`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.referee.scattering import LIGHT, Complex
from benchmarks.referee.surface import Index, Real


@dataclass(frozen=True)
class Instrument:
    """Errors of one instrument; the defaults are none.

    Attributes
    ----------
    position : float
        Standard deviation of each antenna's coordinates x, y and z, m.
    gain_db, phase : float
        Standard deviations per transmitter and per receiver, dB and radians.
    delay : float
        Common to all channels, s.
    leakage_db : float, optional
        Power of the direct wave from transmitters to receivers over that of the scene, dB, summed
        over all samples; its amplitude is 1/distance.
    snr_db : float, optional
        Power of the scene over that of white noise in a sample, dB.
    seed : int
        Of all draws.

    Examples
    --------
    >>> clean = np.ones((2, 3, 4), dtype=complex)
    >>> tx, rx, sweep = np.zeros((3, 3)), np.ones((2, 3)), np.linspace(72e9, 82e9, 4)
    >>> noisy = Instrument(snr_db=20.0).applied(clean, tx, rx, sweep)
    >>> noisy.shape
    (2, 3, 4)
    """

    position: float = 0.0
    gain_db: float = 0.0
    phase: float = 0.0
    delay: float = 0.0
    leakage_db: float | None = None
    snr_db: float | None = None
    seed: int = 0

    def positions(self, tx: Real, rx: Real) -> tuple[Real, Real]:
        """Where the antennas are, while the recording states ``tx`` and ``rx``."""
        draw = np.random.default_rng([self.seed, 1])
        moved_tx, moved_rx = (x + self.position * draw.standard_normal(x.shape) for x in (tx, rx))
        return moved_tx, moved_rx

    def applied(self, signal: Complex, tx: Real, rx: Real, frequencies: Real) -> Complex:
        """A recording of a clean signal (rx, tx, f)."""
        draw = np.random.default_rng([self.seed, 2])
        gains = []
        for count in (len(rx), len(tx)):
            level = 10 ** (self.gain_db * draw.standard_normal(count) / 20)
            gains.append(level * np.exp(1j * self.phase * draw.standard_normal(count)))
        out = signal * np.exp(-2j * np.pi * self.delay * frequencies)
        power = float((np.abs(out) ** 2).mean())
        if self.leakage_db is not None:
            direct = leakage(tx, rx, frequencies)
            share = power / float((np.abs(direct) ** 2).mean()) * 10 ** (self.leakage_db / 10)
            out = out + np.sqrt(share) * direct
        out = out * gains[0][:, None, None] * gains[1][None, :, None]
        if self.snr_db is not None:
            noise = draw.standard_normal((*signal.shape, 2)) @ np.array([1, 1j])
            out = out + noise * np.sqrt(power / 2) * 10 ** (-self.snr_db / 20)
        return out


def leakage(tx: Real, rx: Real, frequencies: Real) -> Complex:
    """(rx, tx, f): e^{-jkD}/D, D from each transmitter straight to each receiver, m."""
    distance = np.linalg.norm(rx[:, None] - tx, axis=2)[..., None]
    return np.exp(-2j * np.pi / LIGHT * frequencies * distance) / distance


def breathing(
    simulate: Callable[[float], Complex],
    amplitude: float,
    frequencies: Real,
    *,
    period: float = 4.0,
    sweep: float = 0.1,
    start: float = 0.0,
    order: Literal["frequency", "transmitter"] = "transmitter",
    nodes: int = 3,
) -> Complex:
    """Signal of a scene that moves along z as a whole by amplitude · sin(2π·time/period).

    Parameters
    ----------
    simulate
        Signal (rx, tx, f) of the scene moved by a constant distance, m, away from the array.
    amplitude : float
        m.
    period, sweep, start : float
        s: of a breath, of a whole recording, and of the recording's begin within the breath.
    order
        What is stepped in the outer loop of the sweep: ``transmitter`` takes all frequencies for
        one transmitter, then for the next one; ``frequency`` the reverse. All receivers are
        read at once.

    Each sample (tx, f) is the signal of its own displacement δ. Over δ, the signal times
    e^{+j2kδ} changes slowly (a path's length by 2δ times a cosine near 1), so it is interpolated
    by a polynomial through ``nodes`` displacements.
    """
    if amplitude == 0:
        return simulate(0.0)
    shifts = amplitude * np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    wavenumbers = 2 * np.pi / LIGHT * frequencies
    known = [simulate(float(s)) * np.exp(2j * wavenumbers * s) for s in shifts]
    moved = displacement(
        known[0].shape[1], len(frequencies), amplitude, period, sweep, start, order
    )
    total = np.zeros_like(known[0])
    for i, signal in enumerate(known):
        others = np.delete(shifts, i)
        weight = np.prod([(moved - s) / (shifts[i] - s) for s in others], axis=0)
        total += weight * signal
    return total * np.exp(-2j * wavenumbers * moved)


def displacement(
    tx: int, steps: int, amplitude: float, period: float, sweep: float, start: float, order: str
) -> Real:
    """(tx, f) m: where the scene is when a sample is taken."""
    number: Index = np.arange(tx * steps).reshape(tx, steps)
    if order == "frequency":
        number = np.arange(tx * steps).reshape(steps, tx).T
    elif order != "transmitter":
        raise ValueError(f"order: expected 'transmitter' or 'frequency', found '{order}'")
    time = start + sweep * number / (tx * steps)
    return np.asarray(amplitude * np.sin(2 * np.pi * time / period))
