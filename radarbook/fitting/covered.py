"""A face behind a layer whose thickness is not known.

A blanket delays and attenuates every path. The delay is nearly the same for all, so to a fit that
ignores the layer the face lies some tenths of a millimetre too far back; what tells a layer from a
face that *is* farther back is that slanting paths are delayed a little more. So the layer's
thickness is one more unknown, but not one like the others: it bends the loss gently where the face
ripples it. It is searched for on a line, and at each thickness the face follows.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.fit import UNKNOWN, FitResult, fit
from radarbook.fitting.reconstruct import DESCENT, physical_stages
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer


@dataclass(frozen=True)
class CoveredFit:
    """What :func:`fit_thickness` found: the fit, the layer, and the losses on the way there."""

    result: FitResult
    layer: Layer
    thicknesses: tuple[float, ...]
    losses: tuple[float, ...]


def behind_layer(renderer: PhysicalRenderer, layer: Layer | None) -> PhysicalRenderer:
    """The same renderer with another layer, or with none, between array and face."""
    other = copy.copy(renderer)
    other.layer = layer
    return other


def fit_thickness(
    signal: Tensor,
    renderer: PhysicalRenderer,
    layer: Layer,
    start: FaceParameters,
    *,
    thickest: float,
    looks: int = 8,
    precision: float = 1e-4,
) -> CoveredFit:
    """Face and thickness of the layer in one recording (1, rx, tx, f), from a fit that is near.

    Brent's bounded search over the thickness for the least share of the recording's power that
    stays unexplained; at each the face is fitted anew, by its phases, from the best fit so far
    moved by the difference in delay.

    Parameters
    ----------
    renderer : PhysicalRenderer
        With the recording's array and waveform; its own layer is not looked at.
    layer : Layer
        Its thickness is where ``start`` was found (0: by a fit that ignored it); place and
        permittivity are taken as they are. A wrong permittivity is made up for by the thickness,
        since it is the delay that shows.
    start : FaceParameters
        One face, right within half a millimetre or so, by a fit with ``layer``.
    thickest : float
        Search between 0 and this, m.
    looks, precision : int, float
        At most so many thicknesses, until they are known to so many metres.

    Raises :class:`~radarbook.errors.InputError` for several faces or a ``thickest`` not above 0.
    """
    if len(start) != 1:
        raise InputError(f"fit of a layer: expected one face, found {len(start)}")
    if not thickest > 0:
        raise InputError(f"fit of a layer: expected thickest > 0 m, found {thickest}")
    best: tuple[float, FaceParameters, Layer, FitResult | None] = (
        float("inf"), start, layer, None,
    )  # fmt: skip
    tried: list[tuple[float, float]] = []

    def loss(thickness: float) -> float:
        nonlocal best
        _, face, known, _ = best
        here = Layer(layer.distance, float(thickness), layer.permittivity, layer.echo)
        # What a thicker layer delays more need not be so far away.
        nearer = here.delay(renderer.waveform) - known.delay(renderer.waveform)
        moved = face.translation - torch.tensor([0.0, 0.0, nearer]).to(face.translation)
        face = face.replace(translation=moved).clamped()
        stages = physical_stages(
            signal, behind_layer(renderer, here), schedule=DESCENT[1:], free=UNKNOWN
        )
        result = fit(None, None, face, loss=stages)
        value = float(result.losses[0])
        tried.append((float(thickness), value))
        if value < best[0]:
            best = value, result.parameters, here, result
        return value

    minimize_scalar(
        loss,
        bounds=(0.0, thickest),
        method="bounded",
        options={"maxiter": looks, "xatol": precision},
    )
    _, _, found, result = best
    assert result is not None
    thicknesses, losses = zip(*sorted(tried), strict=True)
    return CoveredFit(result, found, thicknesses, losses)
