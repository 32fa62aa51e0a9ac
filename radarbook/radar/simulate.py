"""From a mesh to the raw signal of an array: physical optics, factorised (book, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.radar import cells
from radarbook.radar.array import Array
from radarbook.radar.channels import simulate_channels
from radarbook.radar.facet_sum import ForwardProblem, responses
from radarbook.radar.imaging import MEMORY_BUDGET
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer
from radarbook.radar.legs import leg_gain
from radarbook.radar.pieces import FACET_SIZE, Pieces
from radarbook.radar.scattering import SKIN_PERMITTIVITY, wave
from radarbook.radar.skeleton import unit
from radarbook.radar.speckle import seeds_of
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone, divide

#: Ways of one sum: see :func:`simulate`.
Method = Literal["direct", "cells", "kernels"]
#: Number of samples, rx · tx · frequencies, up to which the kernels are faster than the cells
#: without gradients, and with them (face model on one CPU core, ``benchmarks.renderer``).
FEW_SAMPLES, FEW_WITH_GRADIENTS = 100_000, 40_000
#: Bytes that a triangle of a scene takes while its signal is computed, its pieces and cores.
_TRIANGLE = 1536


@alone()
def simulate(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    visibility: Tensor | None = None,
    layer: Layer | None = None,
    facet_size: float = FACET_SIZE,
    surface: SmoothSurface | None = None,
    seed: int | Sequence[int] | None = 0,
    rest: Tensor | None = None,
    pieces: Pieces | None = None,
    method: Method | None = None,
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """Signal of a mesh: S[rx, tx, f] = Σ_facets a · e^{-jk(d_tx + d_rx)} / (d_tx d_rx), Eq. (P3.1).

    First reflections in the Kirchhoff (physical optics) approximation. Neglected are diffraction at
    edges, waves that creep around the body or travel inside it, the polarisation of the first
    reflection, and reflections between facets
    (:meth:`~radarbook.radar.renderer.PhysicalRenderer.signal` adds the second one).

    Parameters
    ----------
    vertices : Tensor (N, 3) or (B, N, 3)
        Metres, radar frame. float32 gives complex64, float64 complex128; phases keep their
        accuracy either way.
    triangles : Tensor (F, 3)
        Counter-clockwise seen from outside; a facet seen from behind does not radiate.
    array, waveform
        Antennas and frequency steps.
    material : Tensor (B,) or float
        0 smooth … 1 rough: the part of the reflected amplitude that is diffuse. Power is kept:
        1 - m² stays coherent, m² leaves by Lambert's law with a phase drawn per facet.
    antenna_size : Tensor (B,) or float
        Side of each antenna's square aperture, metres; 0 is isotropic.
    permittivity : complex or None
        Relative permittivity (e^{+jωt}: negative imaginary part); None is a perfect conductor.
    visibility : Tensor (F, G) or (B, F, G), optional
        Weight 0 … 1 with which each facet sees each group of antennas, transmitter groups first
        (:func:`~radarbook.radar.visibility.visibility`); None: nothing is hidden.
    layer : Layer, optional
        A dielectric slab that every leg crosses (:mod:`radarbook.radar.layer`), its parameters
        one for all meshes or one a mesh; with its own echo where ``layer.echo``.
    facet_size : float
        Facets with longer edges are divided into 4, 16, … before they radiate, m; nearer to the
        array than 0.3 m of the QAR50, into smaller ones (:data:`~radarbook.radar.pieces.NEAR`).
    surface : SmoothSurface, optional
        The smooth surface through the vertices that triangles are patches of, decided before for
        all of these meshes (:meth:`~radarbook.radar.surface.SmoothSurface.of`); None: they are
        flat.
    seed : int, sequence of B ints or None
        Of the speckle, the diffuse part's phases, which are a field on the body
        (:mod:`radarbook.radar.speckle`): one for all meshes, or one per mesh. None: the coherent
        part alone.
    rest : Tensor (N, 3), optional
        Vertices of the body at rest, m, which the speckle belongs to and moves with. None: the
        vertices as they are, so that a mesh that moves has another speckle.
    pieces : Pieces, optional
        What radiates, decided before for one mesh and the same for all of these, on the vertices'
        device: visibility, facet_size, surface, seed and rest are then not looked at, and the
        layer's place is not checked.
    method : str, optional
        ``"direct"`` sums every facet into every pair and frequency in float64; ``"cells"`` goes
        through the skeletons of cells of facets (:mod:`radarbook.radar.cells`); ``"kernels"``
        computes every wave in compiled code in single precision
        (:mod:`radarbook.radar.kernels.launch`; float32 vertices and equal frequency steps only).
        They agree to 5e-4. None: kernels for few samples (:data:`FEW_SAMPLES`) where they apply,
        cells for many, and direct if an antenna's position requires a gradient.
    memory : int
        Bytes of working memory to stay within, gradients included; not of ``"direct"``.

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f), complex; (pair, f) or (B, pair, f) of pairs
        In 1/m: |S|² d_tx² d_rx² 4π is the radar cross-section where antennas are isotropic.

    Differentiable (once) with respect to vertices, material, antenna_size and the layer's
    parameters, and by ``"direct"`` with respect to the array's positions. Which facets radiate,
    and how they are divided, is decided by the geometry and not differentiated.
    Raises :class:`~radarbook.errors.InputError` for ill-shaped input, and for a layer that does
    not lie between the antennas and every vertex.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import sphere
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> vertices, triangles = sphere((0.0, 0.0, 0.35), radius=0.03, facet=5e-3)
    >>> signal = simulate(vertices.float(), triangles, qar50(), qar50_waveform(4))
    >>> signal.dtype, tuple(signal.shape)
    (torch.complex64, (94, 94, 4))
    """
    if vertices.ndim not in (2, 3) or vertices.shape[-1] != 3:
        raise InputError(f"vertices: expected (N, 3) or (B, N, 3), found {tuple(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(f"triangles: expected (F, 3), found {tuple(triangles.shape)}")
    if array.is_moved or array.pairs is not None:
        return simulate_channels(
            simulate, vertices, triangles, array, waveform, material=material,
            antenna_size=antenna_size, permittivity=permittivity, visibility=visibility,
            layer=layer, facet_size=facet_size, surface=surface, seed=seed, rest=rest,
            pieces=pieces, method=method, memory=memory,
        )  # fmt: skip
    batch = vertices if vertices.ndim == 3 else vertices[None]
    size, rough = (
        torch.as_tensor(value, device=batch.device).to(batch.dtype).expand(len(batch))
        for value in (antenna_size, material)
    )
    seeds = None if seed is None else seeds_of(seed, len(batch))
    if layer is not None:
        if pieces is None:
            layer.check(array, vertices)
        layer = layer.to(batch.device)

    def problem(some: slice) -> ForwardProblem:
        seen = visibility if visibility is None or visibility.ndim == 2 else visibility[some]
        mine = pieces or Pieces.of(
            batch[some],
            triangles,
            array,
            visibility=seen,
            facet_size=facet_size,
            surface=surface,
            seed=seed if seeds is None or len(seeds) == 1 else seeds[some],
            rest=rest,
            memory=memory,
        )
        slab = None if layer is None else layer[some]
        points = mine.points(batch[some])
        return ForwardProblem(
            mine, points, array, waveform, permittivity, rough[some], size[some], slab
        )

    differentiated = torch.is_grad_enabled() and any(
        isinstance(value, Tensor) and value.requires_grad
        for value in (vertices, material, antenna_size, *(vars(layer).values() if layer else ()))
    )
    few = FEW_WITH_GRADIENTS if differentiated else FEW_SAMPLES
    method = _checked(method, array, waveform, batch.dtype, few)
    # As many meshes at a time as fit the budget.
    together = max(1, memory // (_TRIANGLE * max(1, len(triangles))))
    if method == "direct" or (method == "kernels" and pieces is None):
        together = 1
    elif method == "kernels":
        together = len(batch)
    signals = []
    for first in range(0, len(batch), together):
        part = problem(slice(first, first + together))
        if method == "cells":
            signals.append(cells.signal(part, memory))
        elif method == "kernels":
            signals.append(launch.signal(part, memory))
        else:
            signals.append(_direct(part[0])[None])
    signal = torch.cat(signals).permute(0, 2, 3, 1)
    if layer is not None and layer.echo:
        signal = signal + _echoes(layer, array.to(batch.device), waveform, size).to(signal.dtype)
    return signal if vertices.ndim == 3 else signal[0]


def _checked(
    method: Method | None, array: Array, waveform: Waveform, dtype: torch.dtype, few: int
) -> Method:
    """The method asked for, or the one that is chosen; raises where it lacks something."""
    if method is not None and method not in get_args(Method):
        raise InputError(f"parameter 'method': expected direct, cells or kernels, found {method!r}")
    _complex(dtype)
    moving = array.tx.requires_grad or array.rx.requires_grad
    if moving and method not in (None, "direct"):
        raise InputError("array: gradients with respect to positions need method='direct'")
    lacking = launch.missing(dtype, waveform)
    if method == "kernels" and lacking is not None:
        raise InputError(f"parameter 'method': kernels need {lacking}")
    if method is not None:
        return method
    if moving:
        return "direct"
    samples = len(array.tx) * len(array.rx) * len(waveform)
    return "kernels" if samples <= few and lacking is None else "cells"


def _echoes(layer: Layer, array: Array, waveform: Waveform, size: Tensor) -> Tensor:
    """(B, rx, tx, f) complex128: the layer's own echo for each antenna size."""
    return torch.stack(
        [layer[b].echo_signal(array, waveform, size[b].double()) for b in range(len(size))]
    )


def _direct(problem: ForwardProblem) -> Tensor:
    """(f, rx, tx) of one mesh. Every piece, antenna and frequency, float64 up to the product."""
    pieces, layer, waveform = problem.pieces, problem.layer, problem.waveform
    vertices = problem.vertices[0].double()
    array = problem.array.to(vertices.device)
    dtype = problem.vertices.dtype.to_complex()
    f = pieces.facets(vertices)
    k = waveform.wavenumbers.to(vertices.device)
    material, size = problem.material[0].double(), problem.size[0].double()
    response = responses(f, array, k, material, problem.permittivity, pieces.phase, torch.float64)
    if pieces.weight is not None:
        response = response * pieces.weight
    gains, lengths, cosines = [], [], []
    for antennas, seen in zip((array.tx, array.rx), pieces.seen_by, strict=True):
        path = f.centre[:, None] - antennas
        length = path.square().sum(-1).sqrt()
        direction = path / length[..., None]
        cosine = -(direction * f.normal[:, None]).sum(-1)
        gain = leg_gain(cosine, direction, length, size, waveform.wavelength)
        gains.append(gain if seen is None else gain * seen)
        lengths.append(length)
        cosines.append(direction[..., 2])

    def signal(f: int) -> Tensor:
        sent, received = (
            wave(gain, (-k[f] * length) % (2 * math.pi)).to(dtype)
            for gain, length in zip(gains, lengths, strict=True)
        )
        if layer is not None:
            crossed = [layer.leg_factor(k[f, None], cosine)[0].to(dtype) for cosine in cosines]
            sent, received = sent * crossed[0], received * crossed[1]
        return (response[f].to(dtype)[:, None] * received).T @ sent

    return torch.stack(list(divide(signal, len(k))))


def simulate_points(
    positions: Tensor, amplitudes: Tensor, array: Array, waveform: Waveform
) -> Tensor:
    """Signal of isotropic points: S[rx, tx, f] = Σ_p a_p e^{-jk(d_tx + d_rx)}, Eq. (P1.1).

    Parameters
    ----------
    positions : Tensor (P, 3) or (B, P, 3)
        Metres, radar frame.
    amplitudes : Tensor (P,) or (B, P)
        Real or complex.

    Returns
    -------
    Tensor (rx, tx, f) or (B, rx, tx, f)
        complex64 for float32 positions, complex128 for float64, on the amplitudes' device.
        Differentiable with respect to positions, amplitudes and the array's positions.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> points, amplitudes = torch.tensor([[0.0, 0.0, 0.3], [0.0, 0.0, 0.4]]), torch.ones(2)
    >>> tuple(simulate_points(points, amplitudes, qar50(), qar50_waveform(4)).shape)
    (94, 94, 4)
    """
    if positions.ndim not in (2, 3) or positions.shape[-1] != 3:
        raise InputError(f"positions: expected (P, 3) or (B, P, 3), found {tuple(positions.shape)}")
    if amplitudes.shape != positions.shape[:-1]:
        raise InputError(
            f"amplitudes: expected {tuple(positions.shape[:-1])}, found {tuple(amplitudes.shape)}"
        )
    dtype = _complex(positions.dtype)
    positions = positions.to(amplitudes.device)
    if array.pairs is not None:
        return _points_of_pairs(positions, amplitudes.to(dtype), array, waveform)
    lengths = []
    for antennas in (array.tx, array.rx):
        path = positions.double()[..., None, :] - antennas.to(positions.device)
        lengths.append(path.square().sum(-1).sqrt())
    out = []
    for k in waveform.wavenumbers.to(positions.device):
        sent, received = (unit((-k * d) % (2 * math.pi)).to(dtype) for d in lengths)
        weighted = amplitudes.to(dtype)[..., None] * received
        out.append(weighted.transpose(-1, -2) @ sent)
    return torch.stack(out, dim=-1)


def _points_of_pairs(
    positions: Tensor, amplitudes: Tensor, array: Array, waveform: Waveform
) -> Tensor:
    """(P, f) or (B, P, f) of an array with pairs."""
    assert array.pairs is not None
    there, back = (
        (positions.double()[..., None, :] - antennas[numbers].to(positions.device))
        .square()
        .sum(-1)
        .sqrt()
        for antennas, numbers in zip((array.tx, array.rx), array.pairs.unbind(1), strict=True)
    )
    weights = amplitudes[..., None, :]
    out = []
    for k in waveform.wavenumbers.to(positions.device):
        waves = unit((-k * (there + back)) % (2 * math.pi)).to(amplitudes.dtype)
        out.append((weights @ waves)[..., 0, :])
    return torch.stack(out, dim=-1)


def _complex(dtype: torch.dtype) -> torch.dtype:
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"expected float32 or float64 positions, found {dtype}")
    return torch.complex64 if dtype == torch.float32 else torch.complex128
