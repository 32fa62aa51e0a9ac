"""The physical renderer, lean: the same physics on the few samples that a fit needs.

A fit renders nearly the same face thousands of times to compare it with one recording. So every
second antenna is left out (the others alias outside a face), some ten frequencies are
kept (their unambiguous range still holds a face's depth), and each pixel is focused at one depth
only, the target's own: its few frequencies there are its range profile. The signal is the one that
:func:`radarbook.radar.simulate.simulate` gives for the same antennas and frequencies, to some
1e-4 (single precision throughout); a test holds the two against each other.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar.array import Array
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.scattering import Facets, facet_response, wave
from radarbook.radar.simulate import FACET_SIZE, Scene
from radarbook.radar.skeleton import unit
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import C0, Waveform

#: Facets at a time: their arrays of antennas then stay in a processor's cache.
CHUNK = 2048


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
    array: Array, waveform: Waveform, *, antennas: int = 2, depth: float = 0.12
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

    Physics and settings (model, permittivity, occlusion, layer, diffuse seed, distance) are
    ``renderer``'s; several bounces are left out. ``facet_size`` (m) is how finely facets are
    divided, see :func:`~radarbook.radar.simulate.simulate`; infinite leaves the mesh as it is,
    which is several times faster and good enough far from the solution. ``coarse`` leaves
    occlusion out and lets every face have its own lit facets: for faces that differ by
    millimetres, where freezing what is seen would do more harm than ignoring it.
    """

    def __init__(
        self,
        renderer: PhysicalRenderer,
        decimation: Decimation,
        *,
        facet_size: float = FACET_SIZE,
        coarse: bool = False,
    ) -> None:
        self.renderer, self.coarse = renderer, coarse
        self.facet_size = facet_size
        self.decimation = decimation
        self.model = renderer.model.to(dtype=torch.float32)
        self.array = Array(renderer.array.tx[decimation.tx], renderer.array.rx[decimation.rx])
        self.waveform = Waveform(renderer.waveform.frequencies[decimation.steps])
        # Through a layer: the renderer itself, on this part of its antennas and frequencies.
        self._covered = copy.copy(renderer)
        self._covered.model, self._covered.bounces = self.model, 1
        self._covered.array, self._covered.waveform = self.array, self.waveform
        self._covered.facet_size = facet_size
        k = self.waveform.wavenumbers
        # A facet's response changes slowly with frequency: three of them, and a parabola.
        self._three = torch.stack([k[0], (k[0] + k[-1]) / 2, k[-1]]).float()
        t = ((k - k[0]) / (k[-1] - k[0])).tolist()
        parabola = [((1 - 2 * u) * (1 - u), 4 * u * (1 - u), u * (2 * u - 1)) for u in t]
        self._steps = _Steps(float(k[0]), float(k[1] - k[0]), parabola)

    def signal(self, parameters: FaceParameters, *, like: FaceParameters | None = None) -> Tensor:
        """(B, rx, tx, f) complex64; differentiable with respect to all but the dynamic range.

        Which facets radiate and how they are divided is decided for each face, or for all as for
        the one face ``like`` (ignored where ``coarse``): small differences between faces need it
        the same on both sides, and it saves time.
        """
        p = parameters.to(dtype=torch.float32)
        if self.renderer.layer is not None:
            return self._covered.signal(p)
        vertices = to_radar(self.model, p, self.renderer.distance)
        if like is None or self.coarse:
            scenes = [self._scene(v.detach()) for v in vertices]
        else:
            one = to_radar(self.model, like.to(dtype=torch.float32), self.renderer.distance)[0]
            scenes = [self._scene(one.detach())] * len(p)
        return torch.stack([self._one(scenes[b], vertices[b], p[b]) for b in range(len(p))])

    def _one(self, scene: Scene, vertices: Tensor, face: FaceParameters) -> Tensor:
        """(rx, tx, f) of one face of vertices (N, 3)."""
        f = scene.pieces(vertices[None], torch.arange(len(scene.parent)))
        centre, normal = f.centre.float(), f.normal.float()
        local = Facets(
            (f.corners - f.centre[:, None]).float(),
            torch.zeros_like(centre),
            normal,
            f.area.float(),
        )
        middle = ((self.array.tx.mean(0) + self.array.rx.mean(0)) / 2).float()
        toward = torch.nn.functional.normalize(middle - centre, dim=1)
        response = facet_response(
            local, toward, self._three, face.material, self.renderer.permittivity,
            scene.phase.float(),
        )  # fmt: skip
        size = face.antenna_size / self.waveform.wavelength
        legs: list[Tensor] = []
        for antennas, column in zip((self.array.tx, self.array.rx), scene.columns, strict=True):
            seen = None if scene.seen is None else scene.seen.float()[:, column]
            legs += self._leg(centre, normal, antennas.float(), size, seen)
        signal = _Signal.apply(*legs, response, self._steps)
        return signal.permute(1, 2, 0)

    def _scene(self, vertices: Tensor) -> Scene:
        triangles = self.model.triangles
        occlusion = self.renderer.occlusion and not self.coarse
        seen = visibility(vertices, triangles, self.array) if occlusion else None
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

    @staticmethod
    def _leg(
        centre: Tensor, normal: Tensor, antennas: Tensor, size: Tensor, seen: Tensor | None
    ) -> list[Tensor]:
        """Gain and length (F, A) of the paths between facets and antennas.

        Single precision: lengths of 0.3 m are right to 2e-8 m, phases to 3e-5 radians.
        """
        square = centre.square().sum(1, keepdim=True) + antennas.square().sum(1)
        length = (square - 2 * centre @ antennas.T).sqrt()
        cosine = (normal @ antennas.T - (normal * centre).sum(1, keepdim=True)) / length
        lit = cosine > 1e-4
        gain = torch.where(lit, torch.where(lit, cosine, 1.0).sqrt(), 0.0) / length
        for axis in (0, 1):
            gain = gain * torch.sinc((centre[:, axis, None] - antennas[:, axis]) / length * size)
        return [gain if seen is None else gain * seen, length]


@dataclass(frozen=True)
class _Steps:
    """First wavenumber and step, rad/m; weights of the three responses at each frequency."""

    first: float
    step: float
    parabola: list[tuple[float, float, float]]

    def waves(self, gain: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Complex paths at the first frequency, and the factor from one to the next."""
        phase = torch.remainder(length * -self.first, 2 * math.pi)
        return wave(gain, phase), unit(length * -self.step)


class _Signal(torch.autograd.Function):
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
        steps: _Steps,
    ) -> Tensor:
        ctx.save_for_backward(near_gain, near_length, far_gain, far_length, response)
        ctx.steps = steps
        shape = len(steps.parabola), far_gain.shape[1], near_gain.shape[1]
        out = torch.zeros(shape, dtype=torch.complex64)
        for start in range(0, len(near_gain), CHUNK):
            some = slice(start, start + CHUNK)
            near, near_step = steps.waves(near_gain[some], near_length[some])
            far, far_step = steps.waves(far_gain[some], far_length[some])
            for i, (a, b, c) in enumerate(steps.parabola):
                if i:
                    near.mul_(near_step)
                    far.mul_(far_step)
                weight = a * response[0, some] + b * response[1, some] + c * response[2, some]
                out[i].addmm_((far * weight[:, None]).T, near)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        near_gain, near_length, far_gain, far_length, response = ctx.saved_tensors
        steps: _Steps = ctx.steps
        back = gradient.conj()
        grads = [torch.zeros_like(t) for t in ctx.saved_tensors]
        for start in range(0, len(near_gain), CHUNK):
            some = slice(start, start + CHUNK)
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


class RangeFocus:
    """Range profiles of pixels: signals focused at one depth a pixel, frequency by frequency.

    I_f(x, y) = Σ S[rx, tx, f] e^{+jk_f (d_tx + d_rx)} at the point (x, y, depth(x, y)). Within the
    depth of focus, some 2 λ (R/D)² = ±18 mm for the QAR50 at 0.3 m, what lies δ behind that point
    turns I_f by e^{-2jk_f δ}: the power over f is the power over range (Parseval), and the
    phase from one frequency to the next tells where in range it is.

    Parameters
    ----------
    points : Tensor (V, 3), metres
    """

    def __init__(self, physics: LeanPhysics, points: Tensor) -> None:
        self._tables = []
        for antennas in (physics.array.tx, physics.array.rx):
            distance = torch.cdist(
                points.double(), antennas, compute_mode="donot_use_mm_for_euclid_dist"
            )
            phase = torch.remainder(
                physics.waveform.wavenumbers[:, None, None] * distance, 2 * math.pi
            )
            self._tables.append(unit(phase.float()))
        self._turn = 2 * float(physics.waveform.wavenumbers.diff().mean())

    def profiles(self, signal: Tensor) -> Tensor:
        """(f, V) complex64 of a signal (rx, tx, f)."""
        near, far = self._tables
        return ((far @ signal.permute(2, 0, 1)) * near).sum(-1)

    def power_and_lag(self, signal: Tensor) -> Tensor:
        """(3, V) real: Σ_f |I_f|², and real and imaginary part of Σ_f I_{f+1} conj(I_f).

        Quadratic, so they may be smoothed over pixels.
        """
        profile = self.profiles(signal)
        lag = (profile[1:] * profile[:-1].conj()).sum(0)
        return torch.stack([profile.abs().square().sum(0), lag.real, lag.imag])

    def behind(self, lag: Tensor, reference: Tensor) -> Tensor:
        """Metres that a lag (complex) lies behind a reference: -angle / 2Δk, unambiguous within
        ±c/4Δf."""
        return -torch.angle(lag * reference.conj()) / self._turn
