"""Two reflections: a double Kirchhoff sum over patches of the surface (book, :ref:`physics`).

A patch gathers the facets of a cell about half a wavelength wide. Every two patches that see each
other pass the wave from one to the other; the sum over all pairs is a matrix product,

    S = Σ Hᵣᵀ K Hₜ,   Eq. (P2.12)

over the field's three components, with one column of H for each antenna and a sparse, symmetric K.
So the signal is reciprocal by construction, for flat and for curved surfaces alike, focused or not.

H holds the field of each antenna after the patch has reflected it as its tangent plane does, at the
antenna's own angle of incidence. The reflection at the receiver's end is applied to the receiver's
field, which by reciprocity comes to the same. On stationary paths both mirror images are the ray
between the patches, and the product is exact.

By the principle of stationary phase a pair counts only where the path is nearly stationary on both
patches. Pairs are weighed by a smooth window over the path's slope along the patch, which is 1 for
every slope that some antenna sees as none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from trimesh.ray.ray_pyembree import RayMeshIntersector

from radarbook.errors import InputError
from radarbook.radar.array import Array
from radarbook.radar.kernels.pairs import multiply, search
from radarbook.radar.layer import Layer
from radarbook.radar.legs import leg_gain
from radarbook.radar.pieces import Pieces, group_columns, middle
from radarbook.radar.polarisation import Polarisation, Vector, across, mirrored
from radarbook.radar.scattering import SKIN_PERMITTIVITY, Facets, facets, wave
from radarbook.radar.waveform import Waveform
from radarbook.threads import alone

#: Side of a patch's cell, m: a little more than half a wavelength.
PATCH_SIZE = 2.5e-3
#: Slope (sine) beyond those that the antennas see as none up to which a pair counts fully, and the
#: width of the fall to 0 beyond it.
_MARGIN, _TAPER = 0.27, 0.6
#: Weight of a pair below which it is left out.
_LEAST = 1e-3
#: Rays from patch to patch start and end so far above them, in patch sizes.
_LIFT = 0.1
#: Pairs that are summed at a time, some 500 bytes each, and the most of a scene.
_CHUNK, _MOST_PAIRS = 2**20, 2**27


@alone()
def double_bounce(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    polarisation: Polarisation = Polarisation(),  # noqa: B008  (frozen)
    visibility: Tensor | None = None,
    layer: Layer | None = None,
    patch_size: float = PATCH_SIZE,
) -> Tensor:
    """Signal of all paths with two reflections, Eq. (P2.12).

    Parameters are :func:`~radarbook.radar.bounces.multiple_bounces`'; ``patch_size`` is the side
    of the cells, m, whose facets are one patch. The sum converges as it falls, and takes time and
    memory as its inverse fourth power.

    Returns (rx, tx, f) complex, in 1/m. Differentiable with respect to vertices, material and
    antenna_size; which patches there are and which see each other is not differentiated.
    Raises :class:`~radarbook.errors.InputError` where the scene has too many pairs of patches.

    Examples
    --------
    >>> from radarbook.radar.array import qar50
    >>> from radarbook.radar.meshes import corner
    >>> from radarbook.radar.waveform import qar50_waveform
    >>> signal = double_bounce(*corner((0.0, 0.0, 0.35), 0.03, 5e-3), qar50(), qar50_waveform(2))
    >>> signal.dtype, tuple(signal.shape)
    (torch.complex128, (94, 94, 2))
    """
    dtype = torch.complex64 if vertices.dtype == torch.float32 else torch.complex128
    device = vertices.device
    rough, size = (torch.as_tensor(v, device=device).double() for v in (material, antenna_size))
    array, points = array.to(device), vertices.double()
    pieces = Pieces.of(
        points,
        triangles,
        array,
        visibility=visibility,
        facet_size=patch_size,
        near=False,
        seed=None,
    )
    patches = _Patches.of(pieces, points, patch_size)
    pairs = patches.pairs(points.detach(), pieces.triangles, array, patch_size)
    shape = (len(array.rx), len(array.tx), len(waveform))
    if len(pairs) == 0:
        return torch.zeros(shape, dtype=dtype, device=device)
    # Patches that are in no pair have done their part.
    members, place = pairs.unique(return_inverse=True)
    patches = patches.only(members)
    sides = (array.tx, array.rx), (polarisation.tx, polarisation.rx)
    legs = [
        _legs(patches, antennas, column, size, waveform.wavelength, vector, permittivity, dtype)
        for antennas, vector, column in zip(*sides, group_columns(array), strict=True)
    ]
    total = torch.zeros(shape, dtype=dtype, device=device)
    for some in place.split(_CHUNK):
        links = _Links.of(patches, some, array, rough)
        pattern = _Pattern.of(links.first, links.second, len(patches))
        tensors = (*links.values(), *legs[0], *legs[1])
        total = total + _sum(tensors, pattern, waveform.wavenumbers.to(device), layer, dtype)
    return total


def _sum(
    tensors: tuple[Tensor, ...],
    pattern: _Pattern,
    wavenumbers: Tensor,
    layer: Layer | None,
    dtype: torch.dtype,
) -> Tensor:
    """(rx, tx, f) of some pairs: ``tensors`` are their :meth:`_Links.values` and both legs."""

    def signal(k: Tensor, *tensors: Tensor) -> Tensor:
        """(rx, tx) at one wavenumber."""
        amplitude, length, lobe, *sides = tensors
        strength = -((k / (2 * math.pi)) ** 2) * amplitude * (-0.5 * k**2 * lobe).exp()
        carried = wave(strength, (-k * length) % (2 * math.pi)).to(dtype)
        sent, received = (
            _crossed(layer, k, cosine, wave(gain, (-k * d) % (2 * math.pi)).to(dtype))[:, None]
            * field
            for gain, d, cosine, field in (sides[:4], sides[4:])
        )
        # The field's three components are three times as many columns.
        passed = _Product.apply(torch.cat([carried, carried]), sent.flatten(1), pattern)
        return received.flatten(0, 1).T @ passed.view(-1, sent.shape[2])

    out = []
    for k in wavenumbers:
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            # What a frequency needs for its gradient is computed again rather than kept.
            out.append(checkpoint(signal, k, *tensors, use_reentrant=False))
        else:
            out.append(signal(k, *tensors))
    return torch.stack(out, dim=-1)


def _crossed(layer: Layer | None, k: Tensor, cosine: Tensor, leg: Tensor) -> Tensor:
    """A leg (P, A) behind a layer that it crosses with ``cosine``."""
    if layer is None:
        return leg
    return leg * layer.leg_factor(k[None], cosine.clamp(min=0))[0].to(leg.dtype)


@dataclass(frozen=True)
class _Patches:
    """P patches: centre (P, 3) m, unit normal (P, 3), area (P,) m², second moment about the centre
    (P, 3, 3) m², visibility (P, G) or None."""

    centre: Tensor
    normal: Tensor
    area: Tensor
    spread: Tensor
    seen: Tensor | None

    def __len__(self) -> int:
        return len(self.area)

    def only(self, index: Tensor) -> _Patches:
        seen = None if self.seen is None else self.seen[index]
        return _Patches(
            self.centre[index], self.normal[index], self.area[index], self.spread[index], seen
        )

    @classmethod
    def of(cls, pieces: Pieces, vertices: Tensor, size: float) -> _Patches:
        """Pieces of a mesh, gathered by cell and by the eighth of a turn that they face."""
        facet = pieces.facets(vertices)
        with torch.no_grad():
            # No plane of a mesh at round coordinates is a wall between two cells.
            cell = (facet.centre / size + 0.3137).floor()
            key = torch.cat([cell - cell.amin(0), facet.normal.round() + 1], dim=1).long()
            code, sides = key[:, 0], [*(key[:, :3].amax(0) + 1).tolist(), 3, 3, 3]
            for axis in range(1, 6):
                code = code * sides[axis] + key[:, axis]
            kinds, owner = code.unique(return_inverse=True)

        def total(value: Tensor) -> Tensor:
            return value.new_zeros(len(kinds), *value.shape[1:]).index_add(0, owner, value)

        area = total(facet.area)
        share = facet.area / area.clamp(min=1e-30)[owner]
        centre = total(share[:, None] * facet.centre)
        normal = torch.nn.functional.normalize(total(share[:, None] * facet.normal), dim=1)
        corner = facet.corners - facet.centre[:, None]
        offset = facet.centre - centre[owner]
        moment = corner.transpose(1, 2) @ corner / 12 + offset[:, :, None] * offset[:, None]
        seen = None if pieces.seen is None else total(share.detach()[:, None] * pieces.seen)
        return cls(centre, normal, area, total(share[:, None, None] * moment), seen)

    @torch.no_grad()
    def pairs(self, vertices: Tensor, triangles: Tensor, array: Array, size: float) -> Tensor:
        """(N, 2) patches i < j that see each other past the mesh, and whose window is not 0."""
        toward, reach = _outlook(self, array)
        tensors = (self.centre, self.normal, toward, reach)
        arrays = [t.detach().cpu().numpy() for t in tensors]
        # Room for far more pairs than a face has; a scene of more is searched twice.
        found = np.empty((min(2**20, _MOST_PAIRS), 2), dtype=np.int64)
        count = search(*arrays, _MARGIN, _TAPER, _LEAST, found)
        if count > _MOST_PAIRS:
            raise InputError(
                f"mesh: expected at most {_MOST_PAIRS} pairs of patches for two reflections, "
                f"found {count}: choose a larger patch_size, or one bounce"
            )
        if count > len(found):
            found = np.empty((count, 2), dtype=np.int64)
            search(*arrays, _MARGIN, _TAPER, _LEAST, found)
        pairs = torch.from_numpy(found[:count]).to(self.centre.device)
        points, triangles = vertices.cpu(), triangles.cpu()
        mesh = trimesh.Trimesh(points.numpy(), triangles.numpy(), process=False)
        embree, planes = RayMeshIntersector(mesh), facets(points, triangles)
        free = [_free(self, some, embree, planes, size) for some in pairs.split(_CHUNK)]
        return pairs[torch.cat(free)]


def _outlook(patches: _Patches, array: Array) -> tuple[Tensor, Tensor]:
    """From the array's middle to each patch (P, 3), unit, and how far an antenna's direction is
    from it at most (P,)."""
    toward = torch.nn.functional.normalize(patches.centre - middle(array), dim=1)
    antennas = torch.cat([array.tx, array.rx])
    reach = [
        (torch.nn.functional.normalize(c[:, None] - antennas, dim=2) - t[:, None]).norm(dim=2)
        for c, t in zip(patches.centre.split(1024), toward.split(1024), strict=True)
    ]
    return toward, torch.cat([r.amax(1) for r in reach]) if reach else toward[:, 0]


def _window(slope: Tensor, normal: Tensor, reach: Tensor) -> Tensor:
    """(N,) weight of pairs whose path has this ``slope`` (N, 3) where the normal is ``normal``:
    1 near a stationary path, falling to 0 as cos²."""
    rise = (slope * normal).sum(1, keepdim=True)
    along = (slope - rise * normal).square().sum(1).clamp(min=1e-24).sqrt()
    part = ((along - reach - _MARGIN) / _TAPER).clamp(0, 1)
    return torch.where(part < 1, (0.5 * math.pi * part).cos().square(), 0.0)


def _free(
    patches: _Patches, pairs: Tensor, embree: RayMeshIntersector, planes: Facets, size: float
) -> Tensor:
    """(N,) bool: nothing lies between the patches of each pair. Embree, on the CPU."""
    if len(pairs) == 0:
        return torch.zeros(0, dtype=torch.bool, device=pairs.device)
    above = (patches.centre + _LIFT * size * patches.normal).detach().cpu()
    begin, end = above[pairs.cpu()].unbind(1)
    step = end - begin
    length = step.norm(dim=1)
    heading = step / length[:, None]
    hit = torch.from_numpy(embree.intersects_first(begin.numpy(), heading.numpy())).long()
    normal = planes.normal[hit.clamp(min=0)]
    slope = (heading * normal).sum(1)
    gap = ((planes.centre[hit.clamp(min=0)] - begin) * normal).sum(1)
    met = gap / torch.where(slope.abs() > 1e-12, slope, 1e-12)
    return ((hit < 0) | (met > length - 0.5 * size)).to(pairs.device)


@dataclass(frozen=True)
class _Links:
    """N pairs of patches ``first`` and ``second`` (N,), without their frequency: amplitude (N,)
    m⁴ · 1/m, length (N,) m, and exponent of both lobes (N,) m². The same on the way back."""

    first: Tensor
    second: Tensor
    amplitude: Tensor
    length: Tensor
    lobe: Tensor

    def values(self) -> tuple[Tensor, ...]:
        return self.amplitude, self.length, self.lobe

    @classmethod
    def of(cls, patches: _Patches, pairs: Tensor, array: Array, rough: Tensor) -> _Links:
        i, j = pairs.unbind(1)
        toward, reach = _outlook(patches, array)
        step = patches.centre[j] - patches.centre[i]
        length = step.square().sum(1).clamp(min=1e-16).sqrt()
        step = step / length[:, None]
        slopes = toward[i] - step, toward[j] + step
        normals = patches.normal[i], patches.normal[j]
        fall = [s * (step * n).sum(1) for s, n in zip((1, -1), normals, strict=True)]
        lobes = [
            (slope[:, None] @ patches.spread[index] @ slope[:, :, None])[:, 0, 0]
            for slope, index in zip(slopes, (i, j), strict=True)
        ]
        weight = [_window(s, n, reach[x]) for s, n, x in zip(slopes, normals, (i, j), strict=True)]
        amplitude = patches.area[i] * patches.area[j] * weight[0] * weight[1] / length
        amplitude = amplitude * (fall[0] * fall[1]).clamp(min=1e-12).sqrt()
        # Coherent reflections keep √(1 - m²) of the amplitude each.
        amplitude = amplitude * (1 - rough.square()).clamp(min=0)
        return cls(i, j, amplitude, length, lobes[0] + lobes[1])


def _legs(
    patches: _Patches,
    antennas: Tensor,
    column: Tensor,
    size: Tensor,
    wavelength: float,
    vector: Vector,
    permittivity: complex | None,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gain, length and cosine to the z axis of the paths (P, A) between patches and antennas, and
    the field (P, 3, A) of the antennas' polarisation after the patch's reflection."""
    path = patches.centre[:, None] - antennas
    length = path.square().sum(-1).sqrt()
    direction = path / length[..., None]
    cosine = -(direction * patches.normal[:, None]).sum(-1)
    gain = leg_gain(cosine, direction, length, size, wavelength)
    if patches.seen is not None:
        gain = gain * patches.seen[:, column.to(gain.device)]
    field = mirrored(across(vector, direction), direction, patches.normal[:, None], permittivity)
    return gain, length, direction[..., 2], field.to(dtype).transpose(1, 2)


@dataclass(frozen=True)
class _Pattern:
    """Where the entries of K stand, sorted by row, and of its transpose: for each the order of the
    values, the rows' beginnings, and the columns."""

    rows: Tensor
    columns: Tensor
    count: int
    forward: tuple[Tensor, Tensor, Tensor]
    transposed: tuple[Tensor, Tensor, Tensor]

    @classmethod
    def of(cls, first: Tensor, second: Tensor, count: int) -> _Pattern:
        """Values come for the way first to second, then for the way back; rows are where a path
        leaves for the receiver."""
        rows, columns = torch.cat([second, first]), torch.cat([first, second])

        def sort(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            order = (rows * count + columns).argsort()
            begin = torch.bincount(rows, minlength=count).cumsum(0)
            return order, torch.cat([begin.new_zeros(1), begin]), columns[order]

        return cls(rows, columns, count, sort(rows, columns), sort(columns, rows))

    def product(self, values: Tensor, x: Tensor, transposed: bool = False) -> Tensor:
        """K x, or Kᵀ x, of x (P, A)."""
        order, begin, columns = self.transposed if transposed else self.forward
        shape = (self.count, self.count)
        if x.device.type != "cpu":
            matrix = torch.sparse_csr_tensor(begin, columns, values[order], shape)
            return matrix @ x
        real, imaginary = (part.contiguous().numpy() for part in (x.real, x.imag))
        out = np.zeros((2, *real.shape), dtype=real.dtype)
        multiply(
            begin.numpy(), columns.numpy(), values[order].numpy(), real, imaginary, out[0], out[1]
        )
        return torch.complex(*torch.from_numpy(out))


class _Product(torch.autograd.Function):
    """K x for autograd, with respect to the entries of K and to x."""

    @staticmethod
    def forward(ctx, values: Tensor, x: Tensor, pattern: _Pattern) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(values, x)
        ctx.pattern = pattern
        return pattern.product(values.detach(), x.detach().contiguous())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        values, x = ctx.saved_tensors
        some = max(1, 2**22 // x.shape[1])
        pattern, conjugate = ctx.pattern, x.conj()
        entries = [
            (gradient[row] * conjugate[column]).sum(1)
            for row, column in zip(
                pattern.rows.split(some), pattern.columns.split(some), strict=True
            )
        ]
        back = pattern.product(values.conj().resolve_conj(), gradient.contiguous(), transposed=True)
        return torch.cat(entries), back, None
