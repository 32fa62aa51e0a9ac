"""Paths with several reflections (book, :ref:`physics`, section 2).

Two reflections are a double Kirchhoff sum over pairs of surface patches
(:mod:`radarbook.radar.double_bounce`); more are tubes of rays (:mod:`radarbook.radar.tubes`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.double_bounce import PATCH_SIZE, double_bounce
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import FACET_SIZE
from radarbook.radar.polarisation import Polarisation
from radarbook.radar.scattering import SKIN_PERMITTIVITY
from radarbook.radar.tubes import ray_tubes
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone


@alone()
def multiple_bounces(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    bounces: int = 2,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    polarisation: Polarisation = Polarisation(),  # noqa: B008  (frozen)
    visibility: Tensor | None = None,
    layer: Layer | None = None,
    facet_size: float = FACET_SIZE,
    patch_size: float = PATCH_SIZE,
) -> Tensor:
    """Signal of all paths with 2 … ``bounces`` reflections, to be added to :func:`simulate`'s.

    Parameters are :func:`~radarbook.radar.simulate.simulate`'s, for one mesh (N, 3); of a layer
    only its transmission, as its echo is in that signal already. And

    bounces : int
        2 or more.
    polarisation : Polarisation
        Of the antennas.
    visibility : Tensor (F, G), optional
        Weighs a path by how its first facet is seen by the transmitter's group and its last by the
        receiver's; None: by all of them.
    facet_size : float
        Of the facets that start tubes of rays, m, for three reflections and more.
    patch_size : float
        Of the patches whose pairs make two reflections, m
        (:func:`~radarbook.radar.double_bounce.double_bounce`).

    Each reflection loses the diffuse part of its amplitude, and none of that is followed further.

    A moved array is computed in its own frame, in which its antennas' polarisation is; pairs are
    taken from the product of their antennas, where they are most of it.

    Returns (rx, tx, f) or (pair, f) complex; differentiable with respect to vertices, material and
    antenna_size for the paths found. Exchange of transmitters and receivers transposes it.
    Raises :class:`~radarbook.errors.InputError` for fewer than two bounces, and as
    :func:`require_bounces`.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import corner
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> vertices, triangles = corner((0.0, 0.0, 0.35), 0.03, 5e-3)
    >>> tuple(multiple_bounces(vertices, triangles, qar50(), qar50_waveform(2), bounces=3).shape)
    (94, 94, 2)
    """
    if bounces < 2:
        raise InputError(f"parameter 'bounces': expected 2 or more, found {bounces}")
    require_bounces(bounces, array)
    if array.is_moved or array.pairs is not None:
        if array.is_moved and layer is not None:
            raise InputError(
                "layer: expected an array that is not moved; a layer is parallel to it"
            )
        own = array.own().replace(pairs=None)
        whole = multiple_bounces(
            array.to_own(vertices), triangles, own, waveform, bounces=bounces, material=material,
            antenna_size=antenna_size, permittivity=permittivity, polarisation=polarisation,
            visibility=visibility, layer=layer, facet_size=facet_size, patch_size=patch_size,
        )  # fmt: skip
        if array.pairs is None:
            return whole
        tx, rx = array.pairs.unbind(1)
        return whole[rx, tx]
    rough, size = (
        torch.as_tensor(v, device=vertices.device).double() for v in (material, antenna_size)
    )
    total = double_bounce(
        vertices,
        triangles,
        array,
        waveform,
        material=rough,
        antenna_size=size,
        permittivity=permittivity,
        polarisation=polarisation,
        visibility=visibility,
        layer=layer,
        patch_size=patch_size,
    )
    if bounces > 2:
        total = total + ray_tubes(
            vertices,
            triangles,
            array,
            waveform,
            bounces=bounces,
            material=rough,
            antenna_size=size,
            permittivity=permittivity,
            polarisation=polarisation,
            visibility=visibility,
            layer=layer,
            facet_size=facet_size,
        )
    return total


def require_bounces(bounces: int, array: Array) -> None:
    """Raise :class:`~radarbook.errors.InputError` if paths of so many reflections are not computed
    for an array: two and more need a product of transmitters and receivers, or most of one.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> require_bounces(2, qar50())
    """
    if bounces > 1 and not array.is_nearly_product:
        raise InputError(
            f"bounces: expected 1, found {bounces}: double bounce is not computed for a list of "
            "pairs, such as a raster of one antenna"
        )
