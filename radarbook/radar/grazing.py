"""Facets that a part of the array sees edge-on, and the error of their interpolation.

Along a row of antennas the gain √cos of such a facet falls to zero and stays there. A skeleton
(:mod:`radarbook.radar.skeleton`) interpolates what is smooth along the row, and this is not. The
error is estimated facet by facet here, so that :mod:`radarbook.radar.cells` can sum the facets that
count with all antennas.
"""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.radar.facet_sum import ForwardProblem, responses
from radarbook.radar.scattering import Facets, aperture_pattern
from radarbook.radar.skeleton import Skeleton, antenna_groups

#: Error that facets seen edge-on may leave in a signal, relative to it: with what skeletons leave
#: of all others, up to 3e-4, it stays below the 5e-4 that all methods hold.
BOUND = 3.3e-4


@torch.no_grad()
def exact_pieces(problem: ForwardProblem, skeleton: Skeleton, power: Tensor) -> Tensor:
    """(n,) int64 numbers of the pieces of meshes that need all antennas: those with the largest
    errors, as few of a mesh as leave an error of :data:`BOUND`.

    ``power`` (B,) is that of each mesh's signal, Σ |S|².
    """
    pieces, mesh = problem.pieces, problem.pieces.mesh
    assert mesh is not None
    f = pieces.facets(problem.vertices)
    some = _edge_on(f, skeleton).nonzero()[:, 0]
    error = _error(problem, f[some], some, skeleton)
    cut = _cut(error, mesh[some], BOUND**2 * power.double())
    return some[error >= cut[mesh[some]]]


def _edge_on(f: Facets, skeleton: Skeleton) -> Tensor:
    """(P,) whether a group of antennas lies on both sides of a facet's plane, as far as the box
    around the group tells."""
    normal = f.normal.float()
    found = torch.zeros(len(f), dtype=torch.bool, device=normal.device)
    height = (f.normal * f.centre).sum(1).float()
    for antennas, *_ in _legs(skeleton):
        labels = antenna_groups(antennas).to(antennas.device)
        for label in range(int(labels.max()) + 1):
            group = antennas[labels == label]
            low, high = group.amin(0).to(normal), group.amax(0).to(normal)
            middle = normal @ ((low + high) / 2) - height
            found |= middle.abs() < normal.abs() @ ((high - low) / 2)
    return found


def _error(problem: ForwardProblem, f: Facets, index: Tensor, skeleton: Skeleton) -> Tensor:
    """(P,) float64 Σ |error|² over pairs and frequencies of the facets ``f``, which are the pieces
    ``index``: of one leg at a time, at the middle of the band.

    Only the obliquity varies along the array here; the rest of a leg's gain is that of its middle.
    """
    pieces, array, waveform = problem.pieces, skeleton.array, problem.waveform
    assert pieces.mesh is not None
    dtype, device = torch.float32, f.centre.device
    response = responses(
        f,
        array,
        waveform.wavenumbers.mean()[None].to(device),
        problem.material[pieces.mesh[index]].to(dtype),
        problem.permittivity,
        None if pieces.phase is None else pieces.phase[index],
        dtype,
    )[0]
    size = (problem.size[pieces.mesh[index]] / waveform.wavelength).double()
    normal, height = f.normal.to(dtype), (f.normal * f.centre).sum(1, keepdim=True).to(dtype)
    power = response.abs().double().square() * len(waveform)
    if pieces.weight is not None:
        power = power * pieces.weight[index].double().square()
    energies, errors = [], []
    others = [_some_others(len(b), c) for _, c, b in _legs(skeleton)]
    taken = [torch.cat([leg[1], other]) for leg, other in zip(_legs(skeleton), others, strict=True)]
    seen = pieces.only(index).seen_from(*taken)
    for (antennas, chosen, basis), other, numbers, by in zip(
        _legs(skeleton), others, taken, seen, strict=True
    ):
        at = antennas.detach().cpu()[numbers].to(device, dtype)
        gain = torch.addmm(height, normal, at.T, beta=-1).clamp_(min=0).sqrt_()
        if by is not None:
            gain *= by.to(dtype)
        known, left = gain.split([len(chosen), len(other)], dim=1)
        left = torch.addmm(left, known, basis[other].to(gain).T, alpha=-1)
        rest = (len(antennas) - len(chosen)) / max(1, len(other))
        energies.append(gain.square().mean(1).double() * len(antennas))
        errors.append(left.square().sum(1).double() * rest)
        path = (f.centre - antennas.mean(0).to(f.centre)).double()
        length = path.norm(dim=1, keepdim=True)
        x, y = (path / length)[:, :2].unbind(1)
        power = power * (aperture_pattern(x, y, size) / length[:, 0].pow(1.5)).square()
    return power * (energies[0] * errors[1] + energies[1] * errors[0])


def _legs(skeleton: Skeleton) -> tuple[tuple[Tensor, Tensor, Tensor], ...]:
    """Antennas, the numbers of the skeleton's among them, and the interpolation, of both legs."""
    return (
        (skeleton.array.tx.detach(), skeleton.tx, skeleton.tx_basis),
        (skeleton.array.rx.detach(), skeleton.rx, skeleton.rx_basis),
    )


def _some_others(count: int, chosen: Tensor) -> Tensor:
    """Some of the ``count`` antennas that are not among the ``chosen``: up to 40, evenly spread."""
    every = torch.ones(count, dtype=torch.bool)
    every[chosen] = False
    others = every.nonzero()[:, 0]
    return others[:: max(1, len(others) // 20)]


def _cut(error: Tensor, mesh: Tensor, budget: Tensor) -> Tensor:
    """(B,) errors from which on facets are exact: those below add up to a mesh's ``budget`` (B,).
    Infinite where all do."""
    order = error.argsort()
    order = order[mesh[order].argsort(stable=True)]
    error, mesh = error[order], mesh[order]
    whole = torch.zeros_like(budget).index_add_(0, mesh, error)
    below = error.cumsum(0) - (whole.cumsum(0) - whole)[mesh]
    beyond = torch.where(below > budget[mesh], error, torch.inf)
    return torch.full_like(budget, torch.inf).scatter_reduce(0, mesh, beyond, "amin")
