"""The waves between facets and antennas in one kernel.

Tensor operations one by one write and read some thirty arrays of (facets, antennas) to get from
positions to waves, and a GPU waits for its memory all the while, a processor for its caches. One
kernel keeps what is on the way in registers and writes the waves alone. Numba compiles it for a
processor, Triton for a GPU; where Triton is not to be had, :mod:`radarbook.fitting.physics` goes
step by step there, to the same result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

#: Facets at a time on a CPU: waves of some hundred antennas at ten frequencies take two megabytes.
BLOCK = 256


def available(device: torch.device) -> bool:
    """Whether there is something to compile for it."""
    return device.type == "cpu" or (device.type == "cuda" and find_spec("triton") is not None)


def waves(
    centre: Tensor,
    normal: Tensor,
    antennas: Tensor,
    size: Tensor,
    seen: Tensor | None,
    weight: Tensor | None,
    wavenumbers: tuple[float, float, int],
) -> Tensor:
    """(f, N, A) complex64: gain · e^{-jk d} of each leg, Eq. (2.3), at equal steps of wavenumber.

    Parameters
    ----------
    centre, normal : Tensor (N, 3) float32
        Of facets: m, and unit vectors.
    antennas : Tensor (A, 3) float32, metres
    size : Tensor (N,) float32
        Antenna size in wavelengths, of the face that each facet belongs to.
    seen : Tensor (P, A) float32, optional
        What antennas see of the facets; repeated for every P of the N facets.
    weight : Tensor (f, N) complex64, optional
        Factors of the facets.
    wavenumbers : first, step and number
        rad/m.

    Single precision, as :func:`radarbook.fitting.physics._leg`; not differentiable.
    """
    if centre.device.type == "cpu":
        leg = _LegOnCpu(centre, normal, antennas, size, seen, weight, wavenumbers, len(centre))
        return leg.waves(0, len(centre))
    return _on_gpu(centre, normal, antennas, size, seen, weight, wavenumbers)


def signal_on_cpu(
    centre: Tensor,
    normal: Tensor,
    antennas: Sequence[Tensor],
    size: Tensor,
    seen: Sequence[Tensor | None],
    weight: Tensor,
    wavenumbers: tuple[float, float, int],
) -> Tensor:
    """(f, R, T) complex64: the sum over facets of ``weight`` and the waves of both legs, Eq. (2.3).

    ``antennas`` are transmitters (T, 3) and receivers (R, 3), ``seen`` what each see; otherwise as
    :func:`waves`. So few facets at a time that their waves are still in a processor's cache when
    they are multiplied.
    """
    near, far = (
        _LegOnCpu(centre, normal, where, size, sight, factor, wavenumbers, BLOCK)
        for where, sight, factor in zip(antennas, seen, (None, weight), strict=True)
    )
    there, back = (len(where) for where in antennas)
    signal = torch.zeros(wavenumbers[2], back, there, dtype=torch.complex64)
    for start in range(0, len(centre), BLOCK):
        stop = min(start + BLOCK, len(centre))
        signal.baddbmm_(far.waves(start, stop).transpose(1, 2), near.waves(start, stop))
    return signal


class _LegOnCpu:
    """The waves of one leg, at most ``most`` facets at a time, always in the same memory."""

    def __init__(
        self,
        centre: Tensor,
        normal: Tensor,
        antennas: Tensor,
        size: Tensor,
        seen: Tensor | None,
        weight: Tensor | None,
        wavenumbers: tuple[float, float, int],
        most: int,
    ) -> None:
        first, step, self._steps = wavenumbers
        self._width = len(antennas)
        # Vector instructions take eight antennas at a time; what is left over would go one by one.
        # Antennas that fill up are one that is there.
        self._padded = -(-self._width // 8) * 8
        filled = torch.cat([antennas, antennas[:1].expand(self._padded - self._width, 3)])
        self._room = torch.empty(self._steps * most * self._padded, dtype=torch.complex64)
        # The same memory, as it is returned and as it is written to; kept for calls alike.
        self._made = self._room[:0].view(self._steps, 0, self._padded)
        self._floats = self._made.view(torch.float32).numpy()
        # Where an argument is not looked at.
        sight = filled[:0] if seen is None else seen
        factor = self._room[:0].view(0, 1) if weight is None else weight.resolve_conj()
        self._given = (
            *(v.detach().contiguous().numpy() for v in (centre, normal, filled.T, size, sight)),
            seen is not None,
            torch.view_as_real(factor.detach().contiguous()).numpy(),
            weight is not None,
            np.float32(first),
            np.float32(step),
        )

    def waves(self, start: int, stop: int) -> Tensor:
        """(f, stop - start, A) of some facets; until the next call."""
        from radarbook.fitting._numba import waves_kernel  # compiles, which takes seconds at first

        if self._made.shape[1] != stop - start:
            shape = self._steps, stop - start, self._padded
            self._made = self._room[: math.prod(shape)].view(shape)
            self._floats = self._made.view(torch.float32).numpy()
        waves_kernel(start, stop, *self._given, self._floats)
        return self._made[..., : self._width]


def _on_gpu(
    centre: Tensor,
    normal: Tensor,
    antennas: Tensor,
    size: Tensor,
    seen: Tensor | None,
    weight: Tensor | None,
    wavenumbers: tuple[float, float, int],
) -> Tensor:
    from radarbook.fitting._triton import waves_kernel  # compiled on a GPU's machine alone

    first, step, steps = wavenumbers
    count, width = len(centre), len(antennas)
    out = torch.empty(steps, count, width, 2, dtype=torch.float32, device=centre.device)
    if count == 0:
        return torch.view_as_complex(out)
    rows = 16
    columns = 1 << (width - 1).bit_length()
    none = out.view(-1)  # where an argument is not looked at
    with torch.cuda.device(out.device) if out.is_cuda else nullcontext():
        waves_kernel[((count + rows - 1) // rows,)](
            centre.contiguous(),
            normal.contiguous(),
            antennas.contiguous(),
            size.contiguous(),
            none if seen is None else seen.contiguous(),
            none if weight is None else torch.view_as_real(weight.contiguous()),
            out,
            count,
            width,
            1 if seen is None else len(seen),
            first,
            step,
            STEPS=steps,
            HAS_SEEN=seen is not None,
            HAS_WEIGHT=weight is not None,
            ROWS=rows,
            COLUMNS=columns,
        )
    return torch.view_as_complex(out)
