"""One list of linear operators, every law on each.

An operator joins the list with its adjoint and the shapes of its two sides, and inherits the tests:
adjointness, the gradient is the adjoint, linearity, batch = loop, dtype kept, device kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from radarbook.radar.array import Array, qar50
from radarbook.radar.imaging import Grid, back_project, project
from radarbook.radar.simulate import simulate_points
from radarbook.radar.waveform import qar50_waveform

ARRAY = qar50()
FEW = Array(ARRAY.tx[::5], ARRAY.rx[::4])
WAVEFORM = qar50_waveform(6)
GRID = Grid(
    torch.linspace(-0.03, 0.04, 9), torch.linspace(-0.05, 0.0, 8), torch.linspace(0.29, 0.34, 7)
)
PLACES = torch.rand(11, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PLACES = PLACES * 0.1 + torch.tensor([-0.05, -0.05, 0.28], dtype=torch.float64)


@dataclass(frozen=True)
class Operator:
    name: str
    forward: Callable[[Tensor], Tensor]
    adjoint: Callable[[Tensor], Tensor] | None
    domain: tuple[int, ...]
    range: tuple[int, ...]


SIGNAL = (len(FEW.rx), len(FEW.tx), len(WAVEFORM))


def _imaging(method: str, window: str) -> Operator:
    options = {"method": method, "window": window, "memory": 2**22}
    return Operator(
        f"back_project-{method}-{window}",
        lambda s: back_project(s, FEW, WAVEFORM, GRID, **options),
        lambda v: project(v, FEW, WAVEFORM, GRID, **options),
        SIGNAL,
        GRID.shape,
    )


def _points(amplitudes: Tensor) -> Tensor:
    real = torch.float32 if amplitudes.dtype == torch.complex64 else torch.float64
    places = PLACES.to(real).expand(*amplitudes.shape, 3)
    return simulate_points(places, amplitudes, FEW, WAVEFORM)


OPERATORS = [
    _imaging("direct", "rectangular"),
    _imaging("fast", "rectangular"),
    _imaging("fast", "hann"),
    _imaging("interpolated", "hamming"),
    Operator("simulate_points", _points, None, (len(PLACES),), SIGNAL),
]
every = pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)


def _random(shape, seed, dtype=torch.complex128):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@every
def test_adjointness(operator):
    """⟨Au, v⟩ = ⟨u, Aᴴv⟩ to rounding (issue: < 1e-5), for the coded adjoint and for autograd's."""
    u, v = _random(operator.domain, 1), _random(operator.range, 2)
    leaf = u.clone().requires_grad_()
    image = operator.forward(leaf)
    left = torch.vdot(v.flatten(), image.detach().flatten())
    (by_gradient,) = torch.autograd.grad(image, leaf, v)
    pulls = [by_gradient] + ([operator.adjoint(v)] if operator.adjoint else [])
    scale = image.detach().norm() * v.norm()
    for pull in pulls:
        assert (torch.vdot(pull.flatten(), u.flatten()) - left).abs() < 1e-12 * scale


@every
def test_linearity(operator):
    u, v = _random(operator.domain, 3), _random(operator.domain, 4)
    whole = operator.forward(u * (2 - 1j) + v)
    parts = operator.forward(u) * (2 - 1j) + operator.forward(v)
    assert (whole - parts).norm() < 1e-12 * whole.norm()


@every
def test_batch_equals_loop(operator):
    batch = _random((3, *operator.domain), 5)
    together = operator.forward(batch)
    loop = torch.stack([operator.forward(one) for one in batch])
    assert together.shape == (3, *operator.range)
    # Chunks differ with the batch, so sums may be taken in another order.
    assert (together - loop).norm() < 1e-12 * loop.norm()


@every
def test_dtype_and_precision(operator):
    """complex64 in, complex64 out, within single precision of complex128."""
    u = _random(operator.domain, 6)
    single, double = operator.forward(u.to(torch.complex64)), operator.forward(u)
    assert single.dtype == torch.complex64
    assert double.dtype == torch.complex128
    # Phases of a few hundred radians leave 1e-5 in single precision; sums average it down.
    assert (single - double).norm() < 5e-5 * double.norm()


@every
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_equals_gpu(operator):
    u = _random(operator.domain, 7)
    there = operator.forward(u.cuda())
    assert there.is_cuda
    assert (there.cpu() - operator.forward(u)).norm() < 1e-10 * there.norm()
