"""The forward model of a fit: the physical renderer's signal at fewer antennas and frequencies.

A fit renders nearly the same face thousands of times to compare it with one recording. So every
second antenna is left out (the others alias outside a face), some ten frequencies are
kept (their unambiguous range still holds a face's depth), and each pixel is focused at one depth
only, the target's own: its few frequencies there are its range profile. The signal is the coherent
part of what :func:`radarbook.radar.simulate.simulate` gives for the same antennas and frequencies,
to some 1e-4 (single precision throughout); a test compares the two.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import place, to_radar
from radarbook.fitting.decimation import Decimation
from radarbook.radar.array import Array
from radarbook.radar.bounces import multiple_bounces, require_bounces
from radarbook.radar.double_bounce import PATCH_SIZE
from radarbook.radar.facet_sum import ForwardProblem
from radarbook.radar.kernels import launch
from radarbook.radar.layer import Layer
from radarbook.radar.legs import cosine_with_z, gain_and_length
from radarbook.radar.pieces import FACET_SIZE, Pieces, middle
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.scattering import Facets, facets, fresnel
from radarbook.radar.simulate import simulate
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform
from radarbook.seeds import torch_stream
from radarbook.threads import divide

if TYPE_CHECKING:
    from radarbook.fitting.focus import RangeFocus

#: Bytes of working memory on another device than a CPU, at least: there, few large operations.
MEMORY = 2 * 2**30
#: Tilts of a facet against the array's middle, degrees: up to the first it counts wholly, beyond
#: the second it is left out. A smooth surface mirrors nothing into the array beyond about 20°.
STEEP, STEEPEST = (35.0, 50.0), (25.0, 35.0)
#: Extents of transmitters and receivers that differ by a smaller part count as alike; and the least
#: extent of an aperture, m.
_ALIKE, _NARROWEST = 0.1, 1e-3


@dataclass(frozen=True, eq=False)
class ReducedPhysics:
    """Signals of faces at the antennas and frequencies of a :class:`Decimation`.

    The *coherent* part of Eq. (P2.3) alone: the phases of the diffuse part belong to the roughness
    of one skin at one moment, no model knows them, and a fit of sampled ones would fit noise.
    :meth:`diffuse_power` is what the diffuse part adds to an image on average. Physics and
    settings (model, permittivity, occlusion, layer, distance) are ``renderer``'s. Faces are in the
    radar frame; of a moved array everything else is in the array's own frame, along whose z axis
    it looks: antennas, pixels, what hides what, and how steep a facet is. Paths of several
    reflections are not in the signal: a fit subtracts :meth:`reflections` from its target.

    ``facet_size`` (m) is how finely facets are divided, see
    :func:`~radarbook.radar.simulate.simulate`; infinite leaves the mesh as it is. ``patch_size``
    (m) is the side of the patches whose pairs make two reflections, see
    :func:`~radarbook.radar.double_bounce.double_bounce`. ``tilts``, a pair of
    degrees, leaves out what is steeper and so mirrors nothing into the array (:data:`STEEP` keeps a
    third of a face's facets and changes its signal by some 6 %, :data:`STEEPEST` a fifth and 13 %):
    enough for derivatives and for faces that are not yet right. ``coarse`` leaves
    occlusion out and lets every face have its own lit facets: for faces that differ by
    millimetres, where freezing what is seen would do more harm than ignoring it.
    """

    renderer: PhysicalRenderer
    decimation: Decimation
    _: KW_ONLY
    facet_size: float = FACET_SIZE
    patch_size: float = PATCH_SIZE
    tilts: tuple[float, float] | None = None
    coarse: bool = False
    #: What is lit, seen and how it is divided, where that is not decided for each face.
    frozen: Pieces | None = None
    #: A fit asks for the same face's pieces several times in a row, and through other tilts: the
    #: last vertices and their pieces, shared by variants whose pieces are the same.
    _last_pieces: list[tuple[Tensor, Pieces]] = field(default_factory=list, repr=False)
    #: The last face and its signal.
    _last_signal: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        layer, array = self.renderer.layer, self.renderer.array
        require_bounces(self.renderer.bounces, array)
        if layer is None:
            return
        if array.is_moved:
            raise InputError(
                "layer: expected an array that is not moved; a layer is parallel to it"
            )
        values = layer.distance, layer.thickness, layer.permittivity
        if any(torch.as_tensor(value).ndim for value in values):
            raise InputError("fit through physics: expected one layer, found one per face")

    def replace(self, **options: Any) -> Self:
        """The same with other options, for example ``replace(facet_size=math.inf)``."""
        return replace(self, **{"_last_pieces": [], **options})

    def tilted(self, tilts: tuple[float, float]) -> Self:
        """The same without what is steeper; pieces of a face are determined once for both."""
        return self.replace(tilts=tilts, _last_pieces=self._last_pieces)

    def frozen_at(self, face: FaceParameters) -> Self:
        """The same for faces within a millimetre of this one: which facets radiate and how
        they are divided stays as it is for this face. To find it is half of what one signal
        takes. Nothing changes where ``coarse``."""
        if self._whole:
            return self
        return self.replace(frozen=self._pieces(self.vertices(face)[0]))

    def with_layer(self, layer: Layer | None) -> Self:
        """The same with another layer between array and faces, or with none."""
        return self.replace(
            renderer=self.renderer.replace(layer=layer), _last_pieces=self._last_pieces
        )

    @cached_property
    def model(self) -> MorphableModel:
        """The renderer's, in single precision."""
        return self.renderer.model.to(dtype=torch.float32)

    @cached_property
    def array(self) -> Array:
        """The antennas that are kept, in the array's own frame."""
        return self.decimation.antennas(self.renderer.array.own())

    @cached_property
    def waveform(self) -> Waveform:
        """The frequencies that are kept."""
        return Waveform(self.renderer.waveform.frequencies[self.decimation.steps])

    @cached_property
    def middle(self) -> Tensor:
        """(3,) float32, of the array, in its own frame."""
        return middle(self.array).to(self.device).float()

    @property
    def device(self) -> torch.device:
        """Where everything is computed: the model's."""
        return self.model.triangles.device

    @property
    def together(self) -> bool:
        """Whether faces are one batch, or each is made by itself so that it stays in a cache."""
        return launch.batched(self.device)

    @property
    def memory(self) -> int:
        """Bytes of working memory to stay within."""
        return max(self.renderer.memory, MEMORY) if self.together else self.renderer.memory

    def signal(self, parameters: FaceParameters, *, like: FaceParameters | None = None) -> Tensor:
        """(B, rx, tx, f) complex64, or (B, pair, f) of an array with pairs; differentiable with
        respect to all but the dynamic range, and to the layer.

        Which facets radiate and how they are divided is decided for each face, or for all as for
        the one face ``like`` (ignored where ``coarse``): small differences between faces need it
        the same on both sides, and it saves time. Without gradients faces are divided among the
        allowed threads (:mod:`radarbook.threads`); on a GPU, faces whose pieces are the same are
        one batch. The signal is on the model's device, wherever the parameters are.
        """
        if torch.is_grad_enabled() or len(parameters) > 1:
            return self._computed(parameters, like)
        # One face is like itself alone.
        key = torch.cat([v.detach().flatten() for v in vars(parameters).values()]).cpu()
        known = self._last_signal[:1]
        if not known or not torch.equal(known[0][0], key):
            known = [(key, self._computed(parameters, None))]
            self._last_signal[:] = known
        return known[0][1].clone()

    def profiles(
        self, parameters: FaceParameters, moved: FaceParameters, focus: RangeFocus
    ) -> Tensor:
        """(P, f, V) complex64: range profiles of versions ``moved`` (P) of a face less those of
        the face itself, ``parameters`` (1); rendered with its pieces."""
        signal = self.signal(FaceParameters.cat([parameters, moved]), like=parameters)
        return focus.each(signal[1:] - signal[:1])

    def _computed(self, parameters: FaceParameters, like: FaceParameters | None) -> Tensor:
        """What :meth:`signal` gives."""
        p = parameters.to(self.device, torch.float32)
        vertices = self.vertices(p)
        shared = None
        if like is not None and not self.coarse:
            shared = self.lit(self.vertices(like)[0])
        elif self.together and self._whole and not torch.is_grad_enabled():
            shared = self._lit_in_any(vertices)
        if shared is not None:
            return self.simulated(vertices, p, shared)

        def one(b: int) -> Tensor:
            pieces = self.lit(vertices[b])
            return self.simulated(vertices[b : b + 1], p[b : b + 1], pieces)

        return torch.cat(list(divide(one, len(p))))

    def simulated(
        self, vertices: Tensor, p: FaceParameters, pieces: Pieces, layer: Layer | None = None
    ) -> Tensor:
        """(B, rx, tx, f) of vertices (B, N, 3) as :meth:`vertices` gives them, with the rendering
        of parameters (B) and pieces as :meth:`lit` gives them."""
        return simulate(
            vertices,
            self.model.triangles,
            self.array,
            self.waveform,
            material=p.material,
            antenna_size=p.antenna_size,
            permittivity=self.renderer.permittivity,
            layer=layer or self.renderer.layer,
            pieces=pieces,
            method="kernels",
            memory=self.memory,
        )

    @torch.no_grad()
    def legs(self, parameters: FaceParameters, pieces: Pieces) -> tuple[Tensor, Tensor, Facets]:
        """Waves (f, P, T) and (f, P, R) complex64 between each antenna and pieces of one face, and
        the facets (P): Eq. (P2.3) without the facets' responses."""
        p = parameters.to(self.device, torch.float32)
        layer = self.renderer.layer
        problem = ForwardProblem(
            pieces,
            pieces.points(self.vertices(p)),
            self.array,
            self.waveform,
            self.renderer.permittivity,
            p.material,
            p.antenna_size,
            None if layer is None else layer.to(self.device),
        )
        return launch.legs(problem)

    def located(self, parameters: FaceParameters) -> FaceParameters:
        """The same faces where they are: themselves."""
        return parameters

    def factor(self, parameters: FaceParameters) -> Tensor:
        """(B, f) complex64, of the whole signal, apart from where faces are: 1."""
        steps = len(parameters), len(self.waveform)
        return torch.ones(steps, dtype=torch.complex64, device=self.device)

    @property
    def _whole(self) -> bool:
        """Whether triangles radiate as they are, all of them but for their tilt."""
        return self.coarse and math.isinf(self.facet_size)

    def vertices(self, parameters: FaceParameters) -> Tensor:
        """(B, N, 3) metres, in the array's own frame, float32."""
        p = self.located(parameters.to(self.device, torch.float32))
        vertices, array = to_radar(self.model, p, self.renderer.distance), self.renderer.array
        return array.to_own(vertices) if array.is_moved else vertices

    def _toward(self, f: Facets) -> Tensor:
        """(F, 3) unit vectors from facets to the array's middle."""
        return torch.nn.functional.normalize(self.middle - f.centre, dim=1)

    @torch.no_grad()
    def places(self, parameters: FaceParameters, used: Tensor) -> Tensor:
        """(B, n, 3) m, the vertices ``used`` (n,) alone as :meth:`vertices` has them, but float64:
        for differences of a micrometre."""
        p = self.located(parameters.to(self.device, torch.float64))
        model, array = self.renderer.model, self.renderer.array
        coefficients = torch.cat([p.shape, p.expression], 1)
        modes = torch.cat([model.shape_modes[:, used], model.expression_modes[:, used]])
        faces = model.mean[used].double() + torch.tensordot(coefficients, modes.double(), dims=1)
        frame = model.truncated(1, 0).to(dtype=torch.float64)
        placed = place(frame, faces, p, self.renderer.distance)
        return array.to_own(placed) if array.is_moved else placed

    @torch.no_grad()
    def lit(self, vertices: Tensor) -> Pieces:
        """What radiates, of vertices (N, 3)."""
        pieces = self._pieces(vertices)
        if self.tilts is None:
            return pieces
        return pieces.weighted(self._tilt_weight(pieces.flat().facets(vertices)))

    @torch.no_grad()
    def _lit_in_any(self, vertices: Tensor) -> Pieces:
        """The triangles that radiate in any of the faces of vertices (B, N, 3), each face with
        its own weights."""
        pieces = self._every
        if self.tilts is None:
            return pieces
        weight = self._tilt_weight(pieces.flat().facets(vertices))
        return pieces.weighted(weight.unflatten(0, (len(vertices), -1)))

    def _tilt_weight(self, f: Facets) -> Tensor:
        """(F,) 0 to 1, how much facets of this tilt count (:attr:`tilts`)."""
        assert self.tilts is not None
        cosine = (self._toward(f) * f.normal).sum(1)
        tilt = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))
        low, high = self.tilts
        part = ((high - tilt) / (high - low)).clamp(0, 1)
        return part * part * (3 - 2 * part)

    @torch.no_grad()
    def _pieces(self, vertices: Tensor) -> Pieces:
        """What radiates if it is not too steep, of vertices (N, 3)."""
        if self._whole:
            return self._every
        if self.frozen is not None:
            return self.frozen
        known = self._last_pieces[:1]  # other threads may be at it, too
        if not known or not torch.equal(known[0][0], vertices):
            known = [(vertices, self._divided(vertices))]
            self._last_pieces[:] = known
        return known[0][1]

    @cached_property
    def _every(self) -> Pieces:
        """All triangles, whole."""
        return Pieces.whole(self.model.triangles, self.renderer.surface)

    def _divided(self, vertices: Tensor) -> Pieces:
        """Triangles that are lit and seen, divided; of all tilts."""
        triangles = self.model.triangles
        occlusion = self.renderer.occlusion and not self.coarse
        seen = visibility(vertices, triangles, self.array) if occlusion else None
        # Without a seed there are no diffuse phases: the coherent part alone.
        pieces = Pieces.of(
            vertices,
            triangles,
            self.array,
            visibility=seen,
            facet_size=self.facet_size,
            surface=self.renderer.surface,
            # Facets answer to one pair of an array of pairs after the other.
            near=self.array.is_nearly_product,
            seed=None,
        )
        return pieces.to(torch.float32)

    @torch.no_grad()
    def reflections(self, face: FaceParameters) -> Tensor | None:
        """(rx, tx, f): what paths of 2 … ``renderer.bounces`` reflections add to one face's signal;
        None where the renderer models one reflection alone."""
        if self.renderer.bounces < 2:
            return None
        p = face.to(self.device, torch.float32)
        vertices, triangles = self.vertices(p)[0], self.model.triangles
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
            polarisation=self.renderer.polarisation,
            visibility=seen,
            layer=None if self.renderer.layer is None else self.renderer.layer.to(self.device),
            facet_size=self.facet_size,
            patch_size=self.patch_size,
        )

    @torch.no_grad()
    def speckle_samples(self, face: FaceParameters, count: int) -> list[Tensor]:
        """``count`` signals (rx, tx, f) of one face's diffuse part, independent speckle
        realisations.

        For material 1; they grow in proportion to it.
        """
        p = face.to(self.device, torch.float32)
        rendering = p.rendering.clone()
        rendering[:, 1] = 1.0
        p = p.replace(rendering=rendering)
        vertices = self.vertices(p)
        pieces = self.lit(vertices[0])
        layer = self.renderer.layer
        if layer is not None and layer.echo:
            layer = Layer(layer.distance, layer.thickness, layer.permittivity)
        signals = []
        for n in range(count):
            share = torch.rand(len(pieces), generator=torch_stream(n, "fitting/speckle"))
            speckle = replace(pieces, phase=2 * math.pi * share.to(self.device))
            signals.append(self.simulated(vertices, p, speckle, layer)[0])
        return signals

    @torch.no_grad()
    def diffuse_power(self, face: FaceParameters, points: Tensor, phase_per_metre: float) -> Tensor:
        """(3, V): what the diffuse part adds to :meth:`RangeFocus.power_and_lag` on average, for
        material 1 (it grows as the material factor's square).

        A facet's mean diffuse power |Γ|² A/π reaches a pixel through the point-spread function's
        square. A full aperture's is taken for a Gaussian of the same height and power, so that
        facets reach pixels through two small matrices. A layer attenuates and delays it; occlusion
        is left out. Not differentiated: it is smooth, and what a face's change by millimetres does
        to it is small compared with the coherent part's change.

        Parameters
        ----------
        face : FaceParameters
            One face.
        points : Tensor (H, W, 3), metres
            Focused pixels, on a lattice in x and y.
        phase_per_metre : float
            Phase of the lag per metre behind a pixel's point, radians.
        """
        p, points = face.to(self.device, torch.float32), points.to(self.device)
        layer = self.renderer.layer
        f = facets(self.vertices(p)[0], self.model.triangles)
        cosine = (self._toward(f) * f.normal).sum(1)
        keep = (cosine > 0.1).nonzero()[:, 0]
        f, cosine = f[keep], cosine[keep]
        gamma = fresnel(cosine, self.renderer.permittivity)
        power = gamma.abs().square() * f.area / math.pi
        size = p.antenna_size / self.waveform.wavelength
        # A few antennas' legs stand for all: gains vary slowly, as their squared sums.
        sides = [a.detach().to(self.device).float() for a in (self.array.tx, self.array.rx)]
        if self.array.pairs is not None:
            pairs = self.array.every_pair().to(self.device)
            sides = [a[numbers] for a, numbers in zip(sides, pairs.unbind(1), strict=True)]
        gains = []
        for antennas in sides:
            count = 6 if self.array.pairs is None else 36
            few = antennas[((torch.arange(count) + 0.5) / count * len(antennas)).long()]
            gain, length = gain_and_length(f.centre, f.normal, few, size)
            if layer is not None:
                middle = self.waveform.wavenumbers[len(self.waveform) // 2][None].to(self.device)
                crossing = layer.to(self.device).leg_factor(
                    middle, cosine_with_z(f.centre, few, length)
                )
                gain = gain * crossing.abs()[0]
            gains.append(gain)
        wavelength = self.waveform.wavelength
        if self.array.pairs is None:
            for gain, antennas in zip(gains, sides, strict=True):
                power = power * (gain.mean(1) * len(antennas)).square()
            extent, other = (a.amax(0) - a.amin(0) for a in sides)
            # The mean of both legs; of alike ones the transmitters'. A row of transmitters has no
            # height of its own.
            unlike = (extent - other).abs() > _ALIKE * torch.maximum(extent, other)
            extent = torch.where(unlike, (extent + other) / 2, extent).clamp(min=_NARROWEST)
        else:
            power = power * ((gains[0] * gains[1]).mean(1) * len(sides[0])).square()
            # Of the virtual aperture, which of one antenna that moves is where it was.
            middles = (sides[0] + sides[1]) / 2
            extent = (middles.amax(0) - middles.amin(0)).clamp(min=_NARROWEST)
        # Two-way power is sinc²(x/δ) sinc²(y/δ), δ the first null of Eq. (P1.2).
        far = (f.centre - self.middle).square().sum(1, keepdim=True) + (extent[:2] / 2).square()
        null = wavelength * far.sqrt() / (2 * extent[:2])  # (F, 2)
        sigma = null / math.sqrt(2 * math.pi)  # ∫ sinc²(x/δ) dx = δ = σ √(2π)
        x, y = points[0, :, 0].float(), points[:, 0, 1].float()
        across = _gauss(x, f.centre[:, 0], sigma[:, 0])
        along = _gauss(y, f.centre[:, 1], sigma[:, 1])
        steps = len(self.waveform)
        # The lag's phase: of the facet's depth less the pixel's, which factorises.
        delay = 0.0 if layer is None else layer.delay(self.waveform)
        angle = -phase_per_metre * (f.centre[:, 2] + delay)
        pixel = points[..., 2].float() * phase_per_metre
        parts = power * torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()])
        whole, real, imaginary = (along.T * parts[:, None]) @ across
        lag = torch.complex(real, imaginary) * torch.polar(torch.ones_like(pixel), pixel)
        planes = [steps * whole, (steps - 1) * lag.real, (steps - 1) * lag.imag]
        return torch.stack(planes).flatten(1)


def _gauss(places: Tensor, centre: Tensor, sigma: Tensor) -> Tensor:
    """(F, P) Gaussians of height 1 about centres (F,), at equally spaced places (P,); 0 beyond
    some four σ (F,)."""
    first, step = places[0], places[1] - places[0]
    reach = math.ceil(float(4 * sigma.max() / step))
    nearest = ((centre - first) / step).round().clamp(-reach - 1, len(places) + reach)
    index = nearest[:, None] + torch.arange(-reach, reach + 1, device=places.device)
    height = torch.exp(-0.5 * ((first + step * index - centre[:, None]) / sigma[:, None]).square())
    # What lies outside the places is written to a margin, which is cut off.
    out = height.new_zeros(len(centre), len(places) + 2 * (2 * reach + 1))
    out.scatter_(1, index.long() + 2 * reach + 1, height)
    return out[:, 2 * reach + 1 : -2 * reach - 1]
