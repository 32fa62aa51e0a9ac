"""The physical renderer, lean: the same physics on the few samples that a fit needs.

A fit renders nearly the same face thousands of times to compare it with one recording. So every
second antenna is left out (the others still do not alias inside a face's width), a dozen
frequencies are kept (their unambiguous range still holds a face's depth), only voxels around the
face are looked at, and the voxels' phase tables are computed once. The signal is the one that
:func:`radarbook.radar.simulate.simulate` gives for the same antennas and frequencies, to the
rounding of complex64; a test holds the two against each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar.array import Array
from radarbook.radar.imaging import Grid
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.scattering import Facets, facet_response, wave
from radarbook.radar.simulate import FACET_SIZE, Scene
from radarbook.radar.skeleton import antenna_groups
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import C0, Waveform

#: Faces simulated at a time: 12,000 facets × 48 antennas × complex64 × a few arrays each.
CHUNK = 2


@dataclass(frozen=True)
class Decimation:
    """Indices of the antennas and frequency steps of a recording that a fit looks at."""

    tx: Tensor
    rx: Tensor
    steps: Tensor

    def __call__(self, signal: Tensor) -> Tensor:
        """(B, rx, tx, f) or (rx, tx, f) of a whole recording -> (B, rx, tx, f) of this part."""
        whole = signal if signal.ndim == 4 else signal[None]
        return whole[:, self.rx][:, :, self.tx][..., self.steps]


def decimate(
    array: Array, waveform: Waveform, *, antennas: int = 2, depth: float = 0.165
) -> Decimation:
    """Every ``antennas``-th antenna, and equal frequency steps unambiguous over ``depth`` metres.

    An even number of antennas is taken for two lines (the QAR50's columns and rows), each thinned
    by itself so that ends and symmetry stay. Raises :class:`~radarbook.errors.InputError` where
    the waveform's steps are not equal.
    """
    gaps = waveform.frequencies.diff()
    if len(gaps) == 0 or float((gaps - gaps.mean()).abs().max()) > 1e-6 * float(gaps.mean()):
        raise InputError("fit through physics: expected at least two, equal frequency steps")

    def every(count: int) -> Tensor:
        lines = [range(count // 2), range(count // 2, count)] if count % 2 == 0 else [range(count)]
        return torch.tensor([i for line in lines for i in line[::antennas]])

    stride = max(1, int(C0 / (2 * depth * float(gaps.mean()))))
    used = torch.arange(0, len(waveform), min(stride, len(waveform) - 1))
    # The steps left over are shared by both ends of the band.
    used = used + (len(waveform) - 1 - int(used[-1])) // 2
    return Decimation(every(len(array.tx)), every(len(array.rx)), used)


class LeanPhysics:
    """Signals of faces at the antennas and frequencies of a :class:`Decimation`.

    Physics and settings (model, permittivity, diffuse seed, distance) are ``renderer``'s.
    ``facet_size`` (m) is how finely facets are divided, see
    :func:`~radarbook.radar.simulate.simulate`; infinite leaves the mesh as it is, which is
    several times faster and good enough far from the solution.
    """

    def __init__(
        self,
        renderer: PhysicalRenderer,
        decimation: Decimation,
        *,
        facet_size: float = FACET_SIZE,
    ) -> None:
        self.renderer = renderer
        self.facet_size = facet_size
        self.decimation = decimation
        self.model = renderer.model.to(dtype=torch.float64)
        self.array = Array(renderer.array.tx[decimation.tx], renderer.array.rx[decimation.rx])
        self.waveform = Waveform(renderer.waveform.frequencies[decimation.steps])
        tx, rx = antenna_groups(self.array.tx), antenna_groups(self.array.rx)
        # Visibility is by group, transmitters' groups first.
        self._groups = tx, rx + int(tx.max()) + 1
        # A facet's response changes slowly with frequency: three of them, and a parabola.
        f = self.waveform.frequencies
        self._three = torch.stack([f[0], (f[0] + f[-1]) / 2, f[-1]]) * (2 * math.pi / C0)
        t = ((f - f[0]) / (f[-1] - f[0])).tolist()
        self._parabola = [((1 - 2 * u) * (1 - u), 4 * u * (1 - u), u * (2 * u - 1)) for u in t]

    def signal(self, parameters: FaceParameters, *, like: FaceParameters | None = None) -> Tensor:
        """(B, rx, tx, f) complex64; differentiable with respect to all but the dynamic range.

        Which facets radiate and how they are divided is decided for each face, or for all as for
        the one face ``like``: finite differences need it the same on both sides.
        """
        p = parameters.to(dtype=torch.float64)
        if like is None:
            return torch.cat([self._signal(p[i], p[i]) for i in range(len(p))])
        like = like.to(dtype=torch.float64)
        return torch.cat([self._signal(p[i : i + CHUNK], like) for i in range(0, len(p), CHUNK)])

    def _signal(self, p: FaceParameters, like: FaceParameters) -> Tensor:
        vertices = to_radar(self.model, p, self.renderer.distance)
        scene = self._scene(to_radar(self.model, like, self.renderer.distance)[0])
        every = torch.arange(len(scene.parent))
        per_face = [scene.pieces(v, every) for v in vertices]
        count = len(every)
        f = Facets(
            *(
                torch.cat([getattr(face, name) for face in per_face])
                for name in ("corners", "centre", "normal", "area")
            )
        )
        rough = p.material.repeat_interleave(count)
        phase = scene.phase.repeat(len(p))
        toward = torch.nn.functional.normalize(scene.middle - f.centre, dim=1)
        response = facet_response(f, toward, self._three, rough, self.renderer.permittivity, phase)
        response = response.reshape(3, len(p), count).to(torch.complex64)
        size = p.antenna_size / self.waveform.wavelength
        shape = (len(p), count, 3)
        centre, normal = f.centre.reshape(shape), f.normal.reshape(shape).float()
        near, near_step = self._leg(centre, normal, self.array.tx, size)
        far, far_step = self._leg(centre, normal, self.array.rx, size)
        if scene.seen is not None:
            seen = scene.seen.float()
            near, far = near * seen[:, self._groups[0]], far * seen[:, self._groups[1]]
        out = []
        for i, (a, b, c) in enumerate(self._parabola):
            if i:
                near, far = near * near_step, far * far_step
            weight = a * response[0] + b * response[1] + c * response[2]
            out.append((weight[..., None] * far).transpose(1, 2) @ near)
        return torch.stack(out, dim=-1)

    def _scene(self, vertices: Tensor) -> Scene:
        triangles = self.model.triangles
        seen = visibility(vertices, triangles, self.array) if self.renderer.occlusion else None
        return Scene.of(
            vertices,
            triangles,
            self.array,
            self.waveform,
            self.renderer.permittivity,
            seen,
            self.facet_size,
            self.renderer.seed,
        )

    def _leg(
        self, centre: Tensor, normal: Tensor, antennas: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, F, A) complex64 each: the paths at the first frequency, and from step to step.

        Distances by the expanded square, in float64 where they become phases.
        """
        square = centre.square().sum(-1, keepdim=True) + antennas.square().sum(-1)
        distance = (square - 2 * centre @ antennas.T).sqrt()
        k = self.waveform.wavenumbers
        phase = torch.remainder(-k[0] * distance, 2 * math.pi).float()
        step = (-(k[1] - k[0]) * distance).float()
        length, middle, a = distance.float(), centre.float(), antennas.float()
        cosine = (normal @ a.T - (normal * middle).sum(-1, keepdim=True)) / length
        lit = cosine > 1e-4
        gain = torch.where(lit, torch.where(lit, cosine, 1.0).sqrt(), 0.0) / length
        width = size.float()[:, None, None]
        for axis in (0, 1):
            gain = gain * torch.sinc((middle[..., axis, None] - a[:, axis]) / length * width)
        return wave(gain, phase), wave(torch.ones_like(step), step)


class LeanImaging:
    """Back-projection of a lean signal on a grid, its phase tables computed once."""

    def __init__(self, physics: LeanPhysics, grid: Grid) -> None:
        self.grid = grid
        points = grid.points().reshape(-1, 3)
        self._tables = []
        for antennas in (physics.array.tx, physics.array.rx):
            distance = torch.cdist(points, antennas, compute_mode="donot_use_mm_for_euclid_dist")
            tables = []
            for k in physics.waveform.wavenumbers:
                phase = torch.remainder(k * distance, 2 * math.pi).float()
                tables.append(torch.complex(phase.cos(), phase.sin()))
            self._tables.append(tables)

    def volume(self, signal: Tensor) -> Tensor:
        """(B, z, y, x) complex64 of a signal (B, rx, tx, f)."""
        volumes = []
        for face in signal:
            total: Tensor | float = 0.0
            for i, (near, far) in enumerate(zip(*self._tables, strict=True)):
                total = total + ((far @ face[..., i]) * near).sum(1)
            volumes.append(total)
        return torch.stack([torch.as_tensor(v) for v in volumes]).reshape(-1, *self.grid.shape)

    def power(self, signal: Tensor) -> Tensor:
        """(B, z, y, x) |I|²."""
        volume = self.volume(signal)
        return volume.real.square() + volume.imag.square()
