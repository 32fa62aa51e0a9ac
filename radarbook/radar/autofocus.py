"""Autofocus: the common delay of a recording at which its image is sharpest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.delay import MOST, range_of_delay, without_delay
from radarbook.radar.imaging import Grid, back_project
from radarbook.radar.waveform import Waveform

Measure = Literal["moment", "entropy"]


@dataclass(frozen=True)
class Focus:
    """What :func:`autofocus` found.

    Attributes
    ----------
    delay : float
        Seconds, to be removed by :func:`~radarbook.radar.delay.without_delay`.
    delays, sharpness : Tensor (N,), float64
        The delays that were tried first, and the sharpness of their images.
    at_end : bool
        Whether the sharpest of them is the first or the last: the delay may be farther.
    gain : float
        Sharpness at ``delay`` over that without any removed.
    """

    delay: float
    delays: Tensor
    sharpness: Tensor
    at_end: bool
    gain: float

    def __str__(self) -> str:
        end = "; it is the end of the delays tried: larger, or undetermined" if self.at_end else ""
        return (
            f"autofocus: delay {1e9 * self.delay:.4f} ns = "
            f"{1e3 * range_of_delay(self.delay):.1f} mm of range, "
            f"{self.gain:.2f} times as sharp as without{end}"
        )


def sharpness(volume: Tensor, measure: Measure = "moment") -> float:
    """How much of an image's power is in few voxels.

    ``"moment"``: N Σ|I|⁴ / (Σ|I|²)² of N voxels, the normalised fourth moment, from 1 (all equal)
    to N (all in one). ``"entropy"``: N e^{-H} with the entropy H = -Σ p ln p of the shares of power
    p, from 1 to N, too; it gives bright points less weight.

    Examples
    --------
    >>> spread, point = torch.ones(1, 1, 4), torch.tensor([[[0.0, 2.0, 0.0, 0.0]]])
    >>> sharpness(point) > sharpness(spread)
    True
    """
    power = volume.abs().double().square().reshape(-1)
    share = power / power.sum().clamp(min=1e-300)
    if measure == "moment":
        return float(len(share) * share.square().sum())
    if measure == "entropy":
        return len(share) * float(torch.exp(torch.special.xlogy(share, share).sum()))
    raise InputError(f"parameter 'measure': expected moment or entropy, found {measure!r}")


def autofocus(
    signal: Tensor,
    array: Array,
    waveform: Waveform,
    grid: Grid,
    *,
    span: float = 2e-10,
    trials: int = 17,
    measure: Measure = "moment",
) -> Focus:
    """The delay, within ±``span``, that makes the image sharpest when it is removed.

    A delay moves a target in range without changing its wave fronts' curvature, which then fits
    another distance: the image blurs. So an array focuses better the larger it is compared with
    the distance; a delay is not found by an array that is small (far field).

    Parameters
    ----------
    signal : Tensor (rx, tx, f) or (pair, f), complex
    grid : Grid
        Where targets are seen while no delay is removed. For each delay τ it is moved with them, by
        -cτ/2 along z, and scaled to the same angle; it must stay in front of z = 0. Its voxels must
        be no larger than the resolution.
    span : float
        s; 2e-10 s is 30 mm of range.
    trials : int
        Delays tried first, equally spaced; the best is then refined between its neighbours.
    measure
        As :func:`sharpness` has it.

    Returns
    -------
    Focus

    Raises :class:`~radarbook.errors.InputError` for a span beyond 100 ns, and for one that moves
    the grid behind the array.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.simulate import simulate_points
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> array, waveform = qar50().subset(tx=torch.arange(0, 94, 4)), qar50_waveform(16)
    >>> points = torch.tensor([[0.0, 0.0, 0.30], [0.03, 0.02, 0.31]])
    >>> signal = simulate_points(points, torch.ones(2), array, waveform)
    >>> delayed = without_delay(signal, waveform, -1e-10)
    >>> grid = Grid.regular(0.12, 40, 0.29, 0.35, 9)
    >>> bool(abs(autofocus(delayed, array, waveform, grid).delay - 1e-10) < 1e-11)
    True
    """
    array.require_signal(signal, len(waveform))
    most = min(MOST, float(grid.z[0]) / range_of_delay(1.0))
    if not 0 < span < most:
        raise InputError(
            f"autofocus: expected a span above 0 and below {most:.3g} s, which moves the image to "
            f"the array, found {span:g}"
        )
    if trials < 3:
        raise InputError(f"autofocus: expected at least 3 trials, found {trials}")

    def measured(delay: float) -> float:
        z = grid.z - range_of_delay(delay)
        # By the same angle: cells of resolution grow with the distance, and would otherwise be
        # sharper the nearer.
        scale = float(z.mean() / grid.z.mean())
        moved = Grid(scale * grid.x, scale * grid.y, z)
        with torch.no_grad():
            plain = without_delay(signal, waveform, delay)
            return sharpness(back_project(plain, array, waveform, moved), measure)

    delays = torch.linspace(-span, span, trials, dtype=torch.float64)
    found = torch.tensor([measured(float(delay)) for delay in delays], dtype=torch.float64)
    best = int(found.argmax())
    step = float(delays[1] - delays[0])
    refined = minimize_scalar(
        lambda delay: -measured(delay),
        bounds=(max(-span, float(delays[best]) - step), min(span, float(delays[best]) + step)),
        method="bounded",
        options={"xatol": 1e-3 * step},
    )
    return Focus(
        delay=float(refined.x),
        delays=delays,
        sharpness=found,
        at_end=best in (0, trials - 1),
        gain=-float(refined.fun) / measured(0.0),
    )
