"""The waves between facets and antennas in one kernel, for a GPU.

Tensor operations one by one write and read some thirty arrays of (facets, antennas) to get from
positions to waves, and a GPU waits for its memory all the while. One kernel keeps what is on the
way in registers and writes the waves alone. Triton compiles it; where that is not to be had,
:mod:`radarbook.fitting.physics` goes step by step, to the same result.
"""

from __future__ import annotations

from contextlib import nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor


def available(device: torch.device) -> bool:
    """Whether there is a GPU and something to compile for it."""
    return device.type == "cuda" and find_spec("triton") is not None


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
    from radarbook.fitting._kernel import waves_kernel  # compiled on a GPU's machine alone

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
