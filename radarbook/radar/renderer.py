"""Protocols of the project, and the physical renderer: face parameters to and from images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.profiles import Profile
from radarbook.radar.array import Array, qar50
from radarbook.radar.bounces import multiple_bounces, require_bounces
from radarbook.radar.channel_errors import ChannelErrors
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import MEMORY_BUDGET, Grid, Window, back_project
from radarbook.radar.layer import Layer
from radarbook.radar.pieces import FACET_SIZE
from radarbook.radar.polarisation import Polarisation
from radarbook.radar.scattering import SKIN_PERMITTIVITY
from radarbook.radar.simulate import Method, simulate
from radarbook.radar.speckle import CELL
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.visibility import visibility
from radarbook.radar.waveform import Waveform, qar50_waveform

if TYPE_CHECKING:
    from radarbook.faces.model import MorphableModel


@runtime_checkable
class Renderer(Protocol):
    """Anything that turns face parameters into radar images.

    ``render`` is batched and differentiable with respect to every field of the parameters, runs
    on the parameters' device, and clips each image at its own ``dynamic_range_db``. Data
    generation, autoencoder, test-time optimization and figures accept any renderer.
    """

    def render(self, parameters: FaceParameters) -> RadarImage:
        """Radar images (B, H, W) of B faces."""
        ...


class Predictor(Protocol):
    """Anything that predicts face parameters from radar images: encoder, autoencoder."""

    def predict(self, image: RadarImage) -> FaceParameters:
        """Parameters of B faces from images (B, H, W)."""
        ...


def mesh_signal(
    vertices: Tensor,
    triangles: Tensor,
    array: Array,
    waveform: Waveform,
    *,
    occlusion: bool = True,
    bounces: int = 1,
    material: Tensor | float = 0.0,
    antenna_size: Tensor | float = 2e-3,
    permittivity: complex | None = SKIN_PERMITTIVITY,
    polarisation: Polarisation = Polarisation(),  # noqa: B008  (frozen)
    layer: Layer | None = None,
    facet_size: float = FACET_SIZE,
    surface: SmoothSurface | None = None,
    seed: int | Sequence[int] = 0,
    rest: Tensor | None = None,
    method: Method | None = None,
    memory: int = MEMORY_BUDGET,
) -> Tensor:
    """Signal of meshes with what hides what, and with paths of several reflections.

    Parameters are those of :func:`~radarbook.radar.simulate.simulate`, and

    occlusion : bool
        Whether a mesh hides parts of itself (:mod:`radarbook.radar.visibility`), as flat triangles.
    bounces : int
        Reflections a path may have; more than 1 adds :mod:`radarbook.radar.bounces` (slower), of
        flat triangles with any ``surface``.
    polarisation : Polarisation
        Of the antennas; decides paths of several reflections.

    Returns (rx, tx, f) for vertices (N, 3), (B, rx, tx, f) for (B, N, 3), complex.

    Examples
    --------
    >>> from radarbook.radar.meshes import plate
    >>> vertices, triangles = plate((0.0, 0.0, 0.3), 0.02, 0.02, facet=2e-3)
    >>> tuple(mesh_signal(vertices.float(), triangles, qar50(), qar50_waveform(2)).shape)
    (94, 94, 2)
    """
    require_bounces(bounces, array)
    seen = visibility(vertices, triangles, array, memory=memory) if occlusion else None
    signal = simulate(
        vertices,
        triangles,
        array,
        waveform,
        visibility=seen,
        material=material,
        antenna_size=antenna_size,
        permittivity=permittivity,
        layer=layer,
        facet_size=facet_size,
        surface=surface,
        seed=seed,
        rest=rest,
        method=method,
        memory=memory,
    )
    if bounces == 1:
        return signal
    batch = vertices if vertices.ndim == 3 else vertices[None]
    rough, size = (
        torch.as_tensor(value, device=batch.device).expand(len(batch))
        for value in (material, antenna_size)
    )
    extra = [
        multiple_bounces(
            points,
            triangles,
            array,
            waveform,
            bounces=bounces,
            material=rough[b],
            antenna_size=size[b],
            permittivity=permittivity,
            polarisation=polarisation,
            visibility=seen if seen is None or seen.ndim == 2 else seen[b],
            layer=None if layer is None else layer[b],
            facet_size=facet_size,
        )
        for b, points in enumerate(batch)
    ]
    return signal + (torch.stack(extra) if vertices.ndim == 3 else extra[0])


@dataclass(frozen=True, eq=False)
class PhysicalRenderer:
    """Face parameters to radar images by physics: mesh, signal, back-projection, projection.

    A renderer does not change; :meth:`replace` gives one with other options. It models physical
    optics of the skin's surface: obliquity, Fresnel reflection, speckle, shadows, a layer, and as
    many reflections as ``bounces`` states. It has no diffraction at edges, no waves below the skin
    and no noise (:class:`~radarbook.datasets.imperfections.Imperfections`). The same input gives
    the same result with any number of threads.

    Parameters
    ----------
    model : MorphableModel
        Gives the face; its dtype and device are what everything is computed in.
    array, waveform
        QAR50 and 24 of its steps by default.
    grid : Grid
        Voxels of the volume; its x and y are the image's pixels.
    distance : float
        Array to the nose-tip side of the untransformed mean face, m.
    window
        Along frequency, see :func:`~radarbook.radar.imaging.back_project`.
    permittivity, facet_size, seed
        Of skin, of the facets, and of the speckle: see
        :func:`~radarbook.radar.simulate.simulate`.
    smooth : bool
        Whether the face's triangles are patches of the smooth surface through its vertices
        (:mod:`radarbook.radar.surface`), the default, or flat. Creases are those of the model's
        mean face.
    occlusion : bool
        Whether the face hides parts of itself (:mod:`radarbook.radar.visibility`).
    bounces : int
        Reflections a path may have; more than 1 adds :mod:`radarbook.radar.bounces` (slower).
    channels : ChannelErrors, optional
        How well the antennas of a recording are calibrated, for fits of recordings
        (:mod:`radarbook.fitting.channel_gains`); None: exactly. Rendered signals and images have no
        such errors.
    polarisation : Polarisation
        Of the antennas, vertical by default; decides paths of several reflections.
    sharp_depth : bool
        Depth from a second volume with the window "edges", see
        :func:`~radarbook.radar.image.image_from_volume`: more exact, twice the imaging.
    layer : Layer, optional
        A fabric or other dielectric slab between array and face
        (:class:`~radarbook.radar.layer.Layer`); None: nothing in between. Its parameters may
        require gradients.
    method : str, optional
        Of the simulation: see :func:`~radarbook.radar.simulate.simulate`.
    memory : int
        Bytes of working memory for simulation and for imaging, gradients included.

    Examples
    --------
    >>> from radarbook.faces.load import load_model
    >>> grid = Grid.regular(0.30, 16, 0.28, 0.42, 8)
    >>> renderer = PhysicalRenderer(load_model("procedural"), grid=grid)
    >>> image = renderer.render(FaceParameters.neutral(1))
    >>> tuple(image.depth.shape)
    (1, 16, 16)
    >>> renderer.replace(distance=0.35).distance
    0.35
    """

    model: MorphableModel
    _: KW_ONLY
    array: Array = field(default_factory=qar50)
    waveform: Waveform = field(default_factory=lambda: qar50_waveform(24))
    grid: Grid
    distance: float = 0.30
    window: Window = "rectangular"
    permittivity: complex | None = SKIN_PERMITTIVITY
    facet_size: float = FACET_SIZE
    smooth: bool = True
    occlusion: bool = True
    bounces: int = 1
    channels: ChannelErrors | None = None
    polarisation: Polarisation = field(default_factory=Polarisation)
    sharp_depth: bool = False
    layer: Layer | None = None
    seed: int = 0
    method: Method | None = None
    memory: int = MEMORY_BUDGET

    def replace(self, **options: Any) -> Self:
        """The same renderer with other options, for example ``replace(layer=layer)``."""
        return replace(self, **options)

    @classmethod
    def for_profile(
        cls, model: MorphableModel, profile: Profile, **options: Any
    ) -> PhysicalRenderer:
        """The renderer of a profile's images; ``options`` as in the constructor.

        Examples
        --------
        >>> import radarbook as rb
        >>> profile = rb.get_profile("smoke")
        >>> renderer = rb.PhysicalRenderer.for_profile(rb.load_model(), profile, occlusion=False)
        >>> len(renderer.waveform) == profile.frequencies
        True
        """
        return cls(
            model,
            waveform=qar50_waveform(profile.frequencies),
            grid=Grid.for_profile(profile),
            distance=profile.distance,
            **options,
        )

    @cached_property
    def surface(self) -> SmoothSurface | None:
        """What the faces' triangles are patches of; None where they are flat."""
        if not self.smooth:
            return None
        mean = self.model.shape_mean + self.model.expression_mean
        return SmoothSurface.of(mean, self.model.triangles)

    @cached_property
    def rest(self) -> Tensor:
        """(N, 3) m float64: the mean face, which the speckle belongs to whatever a face's
        parameters."""
        return 1e-3 * self.model.mean.double()

    def signal(self, parameters: FaceParameters, seeds: Sequence[int] | None = None) -> Tensor:
        """(B, rx, tx, f) complex signals; differentiable but for the dynamic range.

        ``seeds`` gives each face a speckle of its own; None: all have that of ``seed``.
        """
        return mesh_signal(
            to_radar(self.model, parameters, self.distance),
            self.model.triangles,
            self.array,
            self.waveform,
            occlusion=self.occlusion,
            bounces=self.bounces,
            material=parameters.material,
            antenna_size=parameters.antenna_size,
            permittivity=self.permittivity,
            polarisation=self.polarisation,
            layer=self.layer,
            facet_size=self.facet_size,
            surface=self.surface,
            seed=self.seed if seeds is None else seeds,
            rest=self.rest,
            method=self.method,
            memory=self.memory,
        )

    def volume(self, parameters: FaceParameters) -> Tensor:
        """(B, z, y, x) complex volumes on the renderer's grid."""
        return self._volume(self.signal(parameters), self.window)

    def _volume(self, signal: Tensor, window: Window) -> Tensor:
        return back_project(
            signal, self.array, self.waveform, self.grid, window=window, memory=self.memory
        )

    def render(self, parameters: FaceParameters, seeds: Sequence[int] | None = None) -> RadarImage:
        """Radar images (B, H, W), each clipped at its own dynamic range; ``seeds`` as in
        :meth:`signal`."""
        signal = self.signal(parameters, seeds)
        volume = self._volume(signal, self.window)
        sharp = self._volume(signal, "edges") if self.sharp_depth else None
        return image_from_volume(volume, self.grid, parameters.dynamic_range_db, sharp=sharp)

    def settings(self) -> dict[str, Any]:
        """Everything that decides the images, JSON-able, for fingerprints."""
        eps = self.permittivity
        # Named only where they are: what was rendered without stays known by its fingerprint.
        options: dict[str, Any] = {}
        if self.layer is not None:
            options["layer"] = self.layer.settings()
        if self.sharp_depth:
            options["sharp_depth"] = True
        if self.smooth:
            options["smooth"] = True
        if self.bounces > 1:
            options["polarisation"] = [list(self.polarisation.tx), list(self.polarisation.rx)]
        return {
            **options,
            "model": self.model.fingerprint,
            "tx": self.array.tx.tolist(),
            "rx": self.array.rx.tolist(),
            "frequencies": self.waveform.frequencies.tolist(),
            "grid": [axis.tolist() for axis in (self.grid.x, self.grid.y, self.grid.z)],
            "distance": self.distance,
            "window": self.window,
            "permittivity": None if eps is None else [eps.real, eps.imag],
            "facet_size": self.facet_size,
            "occlusion": self.occlusion,
            "bounces": self.bounces,
            "seed": self.seed,
            "speckle": CELL,
        }
