"""The forward model of a fit: the physical renderer's signal at fewer antennas and frequencies.

A fit renders nearly the same face thousands of times to compare it with one recording. So every
second antenna is left out (the others alias outside a face), some ten frequencies are
kept (their unambiguous range still holds a face's depth), and each pixel is focused at one depth
only, the target's own: its few frequencies there are its range profile. The signal is the coherent
part of what :func:`radarbook.radar.simulate.simulate` gives for the same antennas and frequencies,
to some 1e-4 (single precision throughout); a test holds the two against each other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.fitting.decimation import Decimation
from radarbook.radar.bounces import multiple_bounces
from radarbook.radar.facet_sum import Steps, facet_sum, slices
from radarbook.radar.kernels.launch import (
    Crossing,
    Leg,
    Response,
    available,
    radiators_on_cpu,
    signal_on_cpu,
    waves,
)
from radarbook.radar.layer import Layer, LegTable
from radarbook.radar.legs import cosine_with_z, gain_and_length
from radarbook.radar.pieces import Pieces
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.scattering import Facets, facet_response, facets, fresnel, wave
from radarbook.radar.simulate import FACET_SIZE, Scene
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform
from radarbook.seeds import torch_stream
from radarbook.threads import divide

#: Facets that one thread sums, where there is one face for all threads. The sum of sums is then the
#: same for any number of them.
PART = 2048
#: Bytes of working memory on another device than a CPU, at least: there, few large operations.
MEMORY = 2 * 2**30
#: Tilts of a facet against the array's middle, degrees: up to the first it counts wholly, beyond
#: the second it is left out. A smooth surface mirrors nothing into the array beyond about 20°.
STEEP, STEEPEST = (35.0, 50.0), (25.0, 35.0)


class ReducedPhysics:
    """Signals of faces at the antennas and frequencies of a :class:`Decimation`.

    The *coherent* part of Eq. (2.3) alone: the phases of the diffuse part belong to the roughness
    of one skin at one moment, no model knows them, and to draw some would be to fit noise. What the
    diffuse part adds to an image on average is :meth:`diffuse_power`. Physics and settings (model,
    permittivity, occlusion, layer, distance) are ``renderer``'s. Paths of several reflections are
    not in the signal: :meth:`reflections` has them, for a fit to take them off its target.

    ``facet_size`` (m) is how finely facets are divided, see
    :func:`~radarbook.radar.simulate.simulate`; infinite leaves the mesh as it is. ``tilts``, a pair
    of degrees, leaves out what is steeper and so mirrors nothing into the array (:data:`STEEP`
    keeps a third of a face's facets and changes its signal by some 6 %, :data:`STEEPEST` a fifth
    and 13 %): enough for derivatives and for faces that are not yet right. ``coarse`` leaves
    occlusion out and lets every face have its own lit facets: for faces that differ by
    millimetres, where freezing what is seen would do more harm than ignoring it.
    """

    def __init__(
        self,
        renderer: PhysicalRenderer,
        decimation: Decimation,
        *,
        facet_size: float = FACET_SIZE,
        tilts: tuple[float, float] | None = None,
        coarse: bool = False,
    ) -> None:
        self.renderer, self.coarse = renderer, coarse
        self.facet_size, self.tilts = facet_size, tilts
        self.decimation = decimation
        self.model = renderer.model.to(dtype=torch.float32)
        #: Where everything is computed: the model's.
        self.device = self.model.triangles.device
        #: Whether faces are one batch, or each is made by itself so that it stays in a cache.
        self.together = self.device.type != "cpu"
        self.memory = max(renderer.memory, MEMORY) if self.together else renderer.memory
        #: Whether waves are made by one kernel (:mod:`radarbook.radar.kernels.launch`).
        self.fused = available(self.device)
        self.array = renderer.array.subset(tx=decimation.tx, rx=decimation.rx)
        self.waveform = Waveform(renderer.waveform.frequencies[decimation.steps])
        self.middle = ((self.array.tx.mean(0) + self.array.rx.mean(0)) / 2).to(self.device).float()
        self._antennas = [
            a.detach().to(self.device).float() for a in (self.array.tx, self.array.rx)
        ]
        self._put(renderer.layer)
        k = self.waveform.wavenumbers
        # A facet's response changes slowly with frequency: three of them, and a parabola.
        self._three = torch.stack([k[0], (k[0] + k[-1]) / 2, k[-1]]).to(self.device).float()
        t = ((k - k[0]) / (k[-1] - k[0])).tolist()
        parabola = [((1 - 2 * u) * (1 - u), 4 * u * (1 - u), u * (2 * u - 1)) for u in t]
        self._steps = Steps(float(k[0]), float(k[1] - k[0]), parabola)
        self._responding = Response(
            self.middle, self._three, torch.tensor(parabola), renderer.permittivity
        )
        # A fit asks for the same face's signal several times in a row, and for its pieces through
        # other tilts (:meth:`tilted`).
        self._last_signal: tuple[Tensor, Tensor] | None = None
        self._last_pieces: list[tuple[Tensor, Pieces]] = []
        # What is lit, seen and how it is divided, where that is not decided anew (:meth:`near`).
        self._frozen: Pieces | None = None

    def tilted(self, tilts: tuple[float, float]) -> ReducedPhysics:
        """The same without what is steeper; pieces of a face are looked for once for both."""
        other = copy.copy(self)
        other.tilts, other._last_signal = tilts, None
        return other

    def near(self, face: FaceParameters) -> ReducedPhysics:
        """The same for faces that are within a millimetre of this one: which facets radiate and how
        they are divided stays as it is for this face. To find it is half of what one signal
        takes. Nothing changes where ``coarse``."""
        if self._whole:
            return self
        other = copy.copy(self)
        other._frozen, other._last_signal = self._pieces(self._vertices(face)[0]), None
        return other

    def behind(self, layer: Layer | None) -> ReducedPhysics:
        """The same with another layer between array and faces, or with none."""
        other = copy.copy(self)
        other._put(layer)
        return other

    def _put(self, layer: Layer | None) -> None:
        """A layer between array and faces; no signal is known behind it yet."""
        self._layer, self._last_signal = layer, None
        # Gradients through a layer: by the renderer itself, on this part of its antennas and
        # frequencies. The layer's echo is added here.
        bare = None
        if layer is not None:
            values = layer.distance, layer.thickness, layer.permittivity
            if any(torch.as_tensor(value).ndim for value in values):
                raise InputError("fit through physics: expected one layer, found one per face")
            bare = Layer(*values)
        self._covered = self.renderer.replace(
            model=self.model,
            array=self.array,
            waveform=self.waveform,
            facet_size=self.facet_size,
            bounces=1,
            layer=bare,
        )

    def signal(self, parameters: FaceParameters, *, like: FaceParameters | None = None) -> Tensor:
        """(B, rx, tx, f) complex64; differentiable with respect to all but the dynamic range.

        Which facets radiate and how they are divided is decided for each face, or for all as for
        the one face ``like`` (ignored where ``coarse``): small differences between faces need it
        the same on both sides, and it saves time. Without gradients faces are divided among the
        allowed threads (:mod:`radarbook.threads`); on a GPU, faces whose pieces are the same are
        one batch. The signal is on the model's device, wherever the parameters are.
        """
        if torch.is_grad_enabled() or len(parameters) > 1:
            return self._made(parameters, like)
        # One face is like itself alone.
        key = torch.cat([v.detach().flatten() for v in vars(parameters).values()]).cpu()
        known = self._last_signal
        if known is None or not torch.equal(known[0], key):
            known = self._last_signal = key, self._made(parameters, None)
        return known[1].clone()

    def _made(self, parameters: FaceParameters, like: FaceParameters | None) -> Tensor:
        """What :meth:`signal` gives."""
        p = parameters.to(self.device, torch.float32)
        if self._layer is None:
            return self._reflected(p, like)
        if _followed(p) or _followed(self._layer):
            rendering = torch.stack(
                [p.rendering[:, 0], torch.zeros_like(p.material), p.antenna_size], dim=1
            )
            smooth = (1 - p.material.square()).clamp(min=0).sqrt()
            signal = smooth[:, None, None, None] * self._covered.signal(
                p.replace(rendering=rendering)
            )
        else:
            signal = self._reflected(p, like)
        if self._layer.echo:
            echoes = [self._layer.echo_signal(self.array, self.waveform, a) for a in p.antenna_size]
            signal = signal + torch.stack(echoes).to(signal.dtype)
        return signal

    def _reflected(self, p: FaceParameters, like: FaceParameters | None) -> Tensor:
        """(B, rx, tx, f) of the faces alone."""
        vertices = self._vertices(p)
        one = None
        if like is not None and not self.coarse:
            one = self._scene(self._vertices(like)[0])
        large = self._layer is None or self.fused
        if self.together and large and not torch.is_grad_enabled():
            if one is None and self._whole:
                one = self._lit(vertices)
            if one is None and len(p) == 1:
                one = self._scene(vertices[0])
            if one is not None:
                return self._together(one, vertices, p)

        def make(b: int) -> Tensor:
            scene = one if one is not None else self._scene(vertices[b])
            return self._one(scene, vertices[b], p[b])

        return torch.stack(list(divide(make, len(p))))

    @property
    def _whole(self) -> bool:
        """Whether triangles radiate as they are, all of them but for their tilt."""
        return self.coarse and math.isinf(self.facet_size)

    def _together(self, scene: Pieces, vertices: Tensor, p: FaceParameters) -> Tensor:
        """(B, rx, tx, f) of faces of vertices (B, N, 3) and the same pieces, in large products: for
        a device that small ones leave idle."""
        count, steps = len(scene.parent), len(self.waveform)
        antennas = sum(len(a) for a in self._antennas)
        # Waves at every frequency, or waves, steps, gains, lengths and what is on the way.
        each_one = 8 * steps if self.fused else 64
        size = max(1, self.memory // max(1, each_one * count * antennas))
        signals = []
        for some in torch.arange(len(p), device=self.device).split(size):
            several = len(some)
            f = scene.facets(vertices[some])
            response = self._response(f, p.material[some].repeat_interleave(count))
            response = response.unflatten(1, (several, count))
            if scene.weight is not None:
                response = response * (
                    scene.weight if scene.weight.ndim == 1 else scene.weight[some]
                )
            apertures = p.antenna_size[some].repeat_interleave(count) / self.waveform.wavelength
            if self.fused:
                weights = (None, self._steps.weights(response.flatten(1)))
                crossing = self._crossing(f.centre)
                near, far = (
                    waves(
                        Leg(f.centre, f.normal, where, apertures, seen, weight, crossing),
                        self._steps.places,
                    )
                    for where, seen, weight in zip(self._antennas, scene.seen, weights, strict=True)
                )
                near, far = (legs.unflatten(1, (several, count)) for legs in (near, far))
                signals.append((far.transpose(-1, -2) @ near).transpose(0, 1))
                continue
            legs: list[Tensor] = []
            for where, seen in zip(self._antennas, scene.seen, strict=True):
                gain, length = gain_and_length(f.centre, f.normal, where, apertures[:, None])
                if seen is not None:
                    gain = gain * seen.repeat(several, 1)
                legs += [value.unflatten(0, (several, count)) for value in (gain, length)]
            signals.append(self._steps.batch(legs, response))
        return torch.cat(signals).permute(0, 2, 3, 1)

    @torch.no_grad()
    def _lit(self, vertices: Tensor) -> Pieces:
        """The triangles that radiate in any of the faces of vertices (B, N, 3), each face with
        weights of its own."""
        pieces = self._every()
        if self.tilts is None:
            return pieces
        part = self._tilt_weight(pieces.facets(vertices)).unflatten(0, (len(vertices), -1))
        keep = (part > 0).any(0).nonzero()[:, 0]
        return pieces.only(keep, part[:, keep])

    def _tilt_weight(self, f: Facets) -> Tensor:
        """(F,) 0 to 1, how much facets of this tilt count (:attr:`tilts`)."""
        assert self.tilts is not None
        cosine = (self._toward(f) * f.normal).sum(1)
        tilt = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
        low, high = self.tilts
        part = ((high - tilt) / (high - low)).clamp(0, 1)
        return part * part * (3 - 2 * part)

    def _one(self, scene: Pieces, vertices: Tensor, face: FaceParameters) -> Tensor:
        """(rx, tx, f) of one face of vertices (N, 3)."""
        followed = torch.is_grad_enabled() and (vertices.requires_grad or _followed(face))
        if self.fused and not self.together and not followed:
            return self._fused_sum(scene, vertices, face).permute(1, 2, 0)
        f = scene.facets(vertices)
        response = self._response(f, face.material)
        if scene.weight is not None:
            response = response * scene.weight
        legs = self._legs(scene, f, face)
        if followed:
            signal = facet_sum(legs(slice(None)), response, self._steps)
        else:
            signal = self._sum(legs, response, len(f))
        return signal.permute(1, 2, 0)

    def _response(self, f: Facets, material: Tensor) -> Tensor:
        """(3, F) scattering lengths at the three wavenumbers; ``material`` (1,) or (F,)."""
        local = Facets(f.corners - f.centre[:, None], torch.zeros_like(f.centre), f.normal, f.area)
        permittivity = self.renderer.permittivity
        return facet_response(local, self._toward(f), self._three, material, permittivity, None)

    def _every(self) -> Pieces:
        """All triangles as they are."""
        index = torch.arange(len(self.model.triangles), device=self.device)
        return Pieces(self.model.triangles, index, None, None, [None, None], None)

    def _vertices(self, parameters: FaceParameters) -> Tensor:
        """(B, N, 3) metres, radar frame, float32."""
        p = parameters.to(self.device, torch.float32)
        return to_radar(self.model, p, self.renderer.distance)

    def _toward(self, f: Facets) -> Tensor:
        """(F, 3) unit vectors from facets to the array's middle."""
        return torch.nn.functional.normalize(self.middle - f.centre, dim=1)

    def _legs(
        self, scene: Pieces, f: Facets, face: FaceParameters
    ) -> Callable[[slice], list[Tensor]]:
        """What gives gains and lengths (F, T), (F, T), (F, R), (F, R) of some of the facets."""
        size = face.antenna_size / self.waveform.wavelength
        antennas = self._antennas
        table = self._leg_table(f.centre.detach())

        def legs(some: slice) -> list[Tensor]:
            out: list[Tensor] = []
            for where, seen in zip(antennas, scene.seen, strict=True):
                gain, length = gain_and_length(f.centre[some], f.normal[some], where, size)
                out += [gain if seen is None else gain * seen[some], length]
            if table is not None:
                for where, length in zip(antennas, out[1::2], strict=True):
                    out.append(table(cosine_with_z(f.centre[some], where, length)))
            return out

        return legs

    def _crossing(self, places: Tensor) -> Crossing | None:
        """What the layer does to legs from (N, 3) to the antennas, as kernels take it."""
        table = self._leg_table(places)
        if table is None:
            return None
        powers, slope, offset = table.powers()
        return Crossing(powers.to(self.device, torch.complex64), slope, offset)

    def _leg_table(self, places: Tensor) -> LegTable | None:
        """What the layer does to legs from (N, 3) to the antennas, at every frequency."""
        if self._layer is None:
            return None
        antennas = torch.cat(self._antennas)
        (low, high), (near, far) = ((x.amin(0), x.amax(0)) for x in (places, antennas))
        across = torch.maximum(high - near, far - low)[:2].norm()
        deep = (low - far)[2].clamp(min=1e-3)
        steepest = float(deep / torch.hypot(deep, across))
        wavenumbers = self.waveform.wavenumbers.to(self.device)
        layer = self._layer.to(self.device)
        return LegTable.of(layer, wavenumbers, steepest, torch.float32)

    def _sum(self, legs: Callable[[slice], list[Tensor]], response: Tensor, count: int) -> Tensor:
        """(f, R, T): chunk by chunk from the geometry on, so that nothing leaves the cache."""
        shape = len(self._steps.parabola), len(self.array.rx), len(self.array.tx)
        signal = torch.zeros(shape, dtype=torch.complex64, device=self.device)
        for some in slices(count, self.device):
            self._steps.add(signal, legs(some), response[:, some])
        return signal

    @torch.no_grad()
    def _fused_sum(self, scene: Pieces, vertices: Tensor, face: FaceParameters) -> Tensor:
        """(f, R, T), of facets and waves that kernels make, on a CPU."""
        size = face.antenna_size / self.waveform.wavelength
        material = float(face.material)
        crossing = self._crossing(vertices)

        def part(n: int) -> Tensor:
            some = slice(n * PART, (n + 1) * PART)
            pieces = scene.only(some, None if scene.weight is None else scene.weight[some])
            centre, normal, lengths = radiators_on_cpu(vertices, pieces, self._responding, material)
            wide = size.expand(len(centre))
            return signal_on_cpu(
                Leg(centre, normal, self._antennas[0], wide, pieces.seen[0], None, crossing),
                Leg(centre, normal, self._antennas[1], wide, pieces.seen[1], lengths, crossing),
                self._steps.places,
            )

        parts = max(1, -(-len(scene.parent) // PART))
        return torch.stack(list(divide(part, parts))).sum(0)

    @torch.no_grad()
    def _scene(self, vertices: Tensor) -> Pieces:
        """What radiates, of vertices (N, 3)."""
        pieces = self._pieces(vertices)
        if self.tilts is None:
            return pieces
        part = self._tilt_weight(pieces.facets(vertices))
        keep = (part > 0).nonzero()[:, 0]
        return pieces.only(keep, part[keep])

    def _pieces(self, vertices: Tensor) -> Pieces:
        """What radiates if it is not too steep, of vertices (N, 3)."""
        if self._whole:
            return self._every()
        if self._frozen is not None:
            return self._frozen
        known = self._last_pieces[:1]  # other threads may be at it, too
        if not known or not torch.equal(known[0][0], vertices):
            known = [(vertices, self._divided(vertices))]
            self._last_pieces[:] = known
        return known[0][1]

    def _divided(self, vertices: Tensor) -> Pieces:
        """Triangles that are lit and seen, divided; of all tilts."""
        triangles = self.model.triangles
        occlusion = self.renderer.occlusion and not self.coarse
        seen = visibility(vertices, triangles, self.array) if occlusion else None
        scene = Scene.of(
            vertices,
            triangles,
            self.array,
            self.waveform,
            self.renderer.permittivity,
            seen,
            self.facet_size,
            self.renderer.seed,
        )
        by = [None if scene.seen is None else scene.seen[:, c].float() for c in scene.columns]
        return Pieces(triangles, scene.parent, scene.weights.float(), scene.share.float(), by, None)

    @torch.no_grad()
    def reflections(self, face: FaceParameters) -> Tensor | None:
        """(rx, tx, f): what paths of 2 … ``renderer.bounces`` reflections add to one face's signal;
        None where the renderer knows of one reflection alone."""
        if self.renderer.bounces < 2:
            return None
        p = face.to(self.device, torch.float32)
        vertices, triangles = self._vertices(p)[0], self.model.triangles
        seen = visibility(vertices, triangles, self.array) if self.renderer.occlusion else None
        return multiple_bounces(
            vertices,
            triangles,
            self.array,
            self.waveform,
            bounces=self.renderer.bounces,
            material=p.material[0],
            antenna_size=p.antenna_size[0],
            permittivity=self.renderer.permittivity,
            visibility=seen,
            layer=None if self._layer is None else self._layer.to(self.device),
            facet_size=self.facet_size,
        )

    @torch.no_grad()
    def diffuse_draws(self, face: FaceParameters, count: int) -> list[Tensor]:
        """``count`` signals (rx, tx, f) of one face's diffuse part, each with phases of its own.

        For material 1; they grow in proportion to it.
        """
        p = face.to(self.device, torch.float32)
        vertices = self._vertices(p)[0]
        scene = self._scene(vertices)
        f = scene.facets(vertices)
        gamma = fresnel((self._toward(f) * f.normal).sum(1), self.renderer.permittivity)
        strength = gamma.abs() * (f.area / math.pi).sqrt()
        legs = self._legs(scene, f, p)
        signals = []
        for n in range(count):
            turns = torch.rand(len(f), generator=torch_stream(n, "fitting/speckle")).to(self.device)
            response = wave(strength, 2 * math.pi * turns).expand(3, -1)
            signals.append(self._sum(legs, response, len(f)).permute(1, 2, 0))
        return signals

    @torch.no_grad()
    def diffuse_power(self, face: FaceParameters, points: Tensor, turn: float) -> Tensor:
        """(3, V): what the diffuse part adds to :meth:`RangeFocus.power_and_lag` on average, for
        material 1 (it grows as the material factor's square).

        A facet's mean diffuse power |Γ|² A/π reaches a pixel through the point-spread function's
        square. A full aperture's is taken for a Gaussian of the same height and power, so that
        facets reach pixels through two small matrices. A layer attenuates and delays it; occlusion
        is left out. Not differentiated: it is smooth, and what a face's change by millimetres does
        to it is small beside the coherent part's change.

        Parameters
        ----------
        face : FaceParameters
            One face.
        points : Tensor (H, W, 3), metres
            Focused pixels, on a lattice in x and y.
        turn : float
            Phase of the lag per metre behind a pixel's point, radians.
        """
        p, points = face.to(self.device, torch.float32), points.to(self.device)
        vertices = self._vertices(p)[0]
        triangles = self.model.triangles
        f = facets(vertices, triangles)
        cosine = (self._toward(f) * f.normal).sum(1)
        keep = (cosine > 0.1).nonzero()[:, 0]
        f, cosine = f[keep], cosine[keep]
        gamma = fresnel(cosine, self.renderer.permittivity)
        power = gamma.abs().square() * f.area / math.pi
        size = p.antenna_size / self.waveform.wavelength
        # A few antennas' legs stand for all: gains vary slowly, as their squared sums.
        for antennas in self._antennas:
            few = antennas[((torch.arange(6) + 0.5) / 6 * len(antennas)).long()]
            gain, length = gain_and_length(f.centre, f.normal, few, size)
            if self._layer is not None:
                middle = self.waveform.wavenumbers[len(self.waveform) // 2][None].to(self.device)
                crossing = self._layer.to(self.device).leg_factor(
                    middle, cosine_with_z(f.centre, few, length)
                )
                gain = gain * crossing.abs()[0]
            power = power * (gain.mean(1) * len(antennas)).square()
        # Two-way power is sinc²(x/δ) sinc²(y/δ), δ the first null of Eq. (1.2).
        wavelength = self.waveform.wavelength
        extent = self._antennas[0].amax(0) - self._antennas[0].amin(0)
        far = (f.centre - self.middle).square().sum(1, keepdim=True) + (extent[:2] / 2).square()
        null = wavelength * far.sqrt() / (2 * extent[:2])  # (F, 2)
        sigma = null / math.sqrt(2 * math.pi)  # ∫ sinc²(x/δ) dx = δ = σ √(2π)
        x, y = points[0, :, 0].float(), points[:, 0, 1].float()
        across = _gauss(x, f.centre[:, 0], sigma[:, 0])
        along = _gauss(y, f.centre[:, 1], sigma[:, 1])
        steps = len(self.waveform)
        # The lag's phase: of the facet's depth less the pixel's, which factorises.
        behind = 0.0 if self._layer is None else self._layer.delay(self.waveform)
        angle = -turn * (f.centre[:, 2] + behind)
        near = points[..., 2].float() * turn
        parts = power * torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()])
        whole, real, imaginary = (along.T * parts[:, None]) @ across
        lag = torch.complex(real, imaginary) * torch.polar(torch.ones_like(near), near)
        planes = [steps * whole, (steps - 1) * lag.real, (steps - 1) * lag.imag]
        return torch.stack(planes).flatten(1)


def _followed(values: FaceParameters | Layer) -> bool:
    """Whether gradients are wanted of any of these."""
    tensors = (value for value in vars(values).values() if isinstance(value, Tensor))
    return torch.is_grad_enabled() and any(value.requires_grad for value in tensors)


def _gauss(places: Tensor, centre: Tensor, sigma: Tensor) -> Tensor:
    """(F, P) Gaussians of height 1 about centres (F,), at equally spaced places (P,); 0 beyond
    some four σ (F,)."""
    first, step = places[0], places[1] - places[0]
    reach = math.ceil(float(4 * sigma.max() / step))
    nearest = ((centre - first) / step).round().clamp(-reach - 1, len(places) + reach)
    index = nearest[:, None] + torch.arange(-reach, reach + 1, device=places.device)
    height = torch.exp(-0.5 * ((first + step * index - centre[:, None]) / sigma[:, None]).square())
    # What lies beside the places is written to a margin, which is cut off.
    out = height.new_zeros(len(centre), len(places) + 2 * (2 * reach + 1))
    out.scatter_(1, index.long() + 2 * reach + 1, height)
    return out[:, 2 * reach + 1 : -2 * reach - 1]
