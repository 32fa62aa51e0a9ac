"""The sum over facets, operation by operation, and its gradient.

On a processor without gradients, and on a GPU with Triton, kernels make the same
(:mod:`radarbook.radar.kernels.launch`); gradients go this way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from radarbook.radar.scattering import wave
from radarbook.radar.skeleton import unit

#: Facets at a time: their arrays of antennas then stay in a processor's cache.
CHUNK = 1024


def slices(count: int, device: torch.device) -> list[slice]:
    """Facets at a time: what a processor's cache holds, or all of them."""
    if device.type != "cpu":
        return [slice(0, count)]
    return [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]


@dataclass(frozen=True)
class Steps:
    """First wavenumber and step, rad/m; weights of the three responses at each frequency."""

    first: float
    step: float
    parabola: list[tuple[float, float, float]]

    def waves(self, gain: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Complex paths at the first frequency, and the factor from one to the next."""
        phase = torch.remainder(length * -self.first, 2 * math.pi)
        return wave(gain, phase), unit(length * -self.step)

    @property
    def places(self) -> tuple[float, float, int]:
        """First wavenumber, step and number."""
        return self.first, self.step, len(self.parabola)

    def weights(self, response: Tensor) -> Tensor:
        """(f, ...) responses at every frequency, of (3, ...)."""
        parabola = torch.tensor(self.parabola, dtype=response.real.dtype).to(response.device)
        return torch.tensordot(parabola.to(response.dtype), response, dims=1)

    def batch(self, legs: list[Tensor], response: Tensor) -> Tensor:
        """(B, f, R, T) of B faces: gains and lengths (B, P, A) of both legs, responses
        (3, B, P)."""
        near_gain, near_length, far_gain, far_length = legs
        near, near_step = self.waves(near_gain, near_length)
        far, far_step = self.waves(far_gain, far_length)
        out = []
        for i, weight in enumerate(self.weights(response)):
            if i:
                near.mul_(near_step)
                far.mul_(far_step)
            out.append((far * weight[..., None]).transpose(1, 2) @ near)
        return torch.stack(out, dim=1)

    def add(
        self,
        out: Tensor,
        legs: list[Tensor],
        response: Tensor,
    ) -> None:
        """Adds the signal of some facets to ``out`` (f, R, T). ``legs``: gains and lengths of both
        legs, and what they are multiplied by at each frequency, if anything."""
        near_gain, near_length, far_gain, far_length, *crossings = legs
        near, near_step = self.waves(near_gain, near_length)
        far, far_step = self.waves(far_gain, far_length)
        for i, (a, b, c) in enumerate(self.parabola):
            if i:
                near.mul_(near_step)
                far.mul_(far_step)
            weight = a * response[0] + b * response[1] + c * response[2]
            there, back = near, far * weight[:, None]
            if crossings:
                there, back = there * crossings[0][i], back * crossings[1][i]
            out[i].addmm_(back.T, there)


class _FacetSum(torch.autograd.Function):
    """Gains and lengths (F, T), (F, R) and responses (3, F) to the signal (f, R, T).

    S_f = Σ_facets w_f · far_f ⊗ near_f, the phases stepped from frequency to frequency; chunk by
    chunk, and computed anew in the backward pass, which therefore stores nothing but its inputs.
    """

    @staticmethod
    def forward(
        ctx: Any,
        near_gain: Tensor,
        near_length: Tensor,
        far_gain: Tensor,
        far_length: Tensor,
        response: Tensor,
        steps: Steps,
    ) -> Tensor:
        ctx.save_for_backward(near_gain, near_length, far_gain, far_length, response)
        ctx.steps = steps
        shape = len(steps.parabola), far_gain.shape[1], near_gain.shape[1]
        out = torch.zeros(shape, dtype=torch.complex64, device=near_gain.device)
        for some in slices(len(near_gain), near_gain.device):
            steps.add(
                out,
                [t[some] for t in (near_gain, near_length, far_gain, far_length)],
                response[:, some],
            )
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        near_gain, near_length, far_gain, far_length, response = ctx.saved_tensors
        steps: Steps = ctx.steps
        back = gradient.conj()
        grads = [torch.zeros_like(t) for t in ctx.saved_tensors]
        for some in slices(len(near_gain), near_gain.device):
            near, near_step = steps.waves(near_gain[some], near_length[some])
            far, far_step = steps.waves(far_gain[some], far_length[some])
            for i, parts in enumerate(steps.parabola):
                if i:
                    near.mul_(near_step)
                    far.mul_(far_step)
                k = steps.first + i * steps.step
                weight = sum(u * response[j, some] for j, u in enumerate(parts))[:, None]
                # dL = Re Σ conj(G) dS; a path's wave changes by d gain / gain - jk d length.
                flow = near * (far @ back[i])
                for j, u in enumerate(parts):
                    grads[4][j, some] += u * flow.sum(1).conj()
                flow *= weight
                grads[0][some] += flow.real
                grads[1][some].add_(flow.imag, alpha=k)
                flow = (near @ back[i].T).mul_(far).mul_(weight)
                grads[2][some] += flow.real
                grads[3][some].add_(flow.imag, alpha=k)
        for gain, total in ((near_gain, grads[0]), (far_gain, grads[2])):
            total /= torch.where(gain == 0, 1.0, gain)
        return *grads, None


def facet_sum(legs: list[Tensor], response: Tensor, steps: Steps) -> Tensor:
    """(f, R, T) complex64: the signal of facets, differentiable once.

    ``legs`` are gains and lengths (F, T), (F, T), (F, R), (F, R) of paths to transmitters and to
    receivers, ``response`` (3, F) scattering lengths at three wavenumbers.
    """
    signal: Tensor = _FacetSum.apply(*legs, response, steps)
    return signal
