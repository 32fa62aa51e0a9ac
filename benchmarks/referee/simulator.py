"""Bodies in, signal out: :class:`Referee`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BarycentricInterpolator
from scipy.special import jv

from benchmarks.referee.scattering import LIGHT, SKIN, Complex, Legs, first_reflection
from benchmarks.referee.second_bounce import facing_pairs, second_reflection
from benchmarks.referee.shadows import Occluders, visibility
from benchmarks.referee.surface import Index, Real, Shape, Surface


@dataclass(frozen=True)
class Body:
    """One thing in front of the array.

    Attributes
    ----------
    shape : Shape
        Radar frame, metres.
    material : float
        Diffuse part m of the reflected amplitude, 0 to 1.
    permittivity : complex, optional
        Relative; None is a perfect conductor.
    spacing : float, optional
        m, of its points instead of the referee's.
    second : bool
        Whether it takes part in second reflections.
    """

    shape: Shape
    material: float = 0.1
    permittivity: complex | None = SKIN
    spacing: float | None = None
    second: bool = True


@dataclass(frozen=True)
class Referee:
    """Options of the simulator.

    Attributes
    ----------
    antenna_size : float
        Side of the antennas' square apertures, m.
    spacing : float
        m between points for the first reflection. At 0.5 mm, λ/8, a piece's own phase (left out
        in the sum) would change the amplitude by 1.3 % at most within 20° of a highlight. Of one
        procedural face the coherence with 0.4 mm is 0.9994 at 1 mm, 0.99985 at 0.8 mm and
        0.99998 at 0.5 mm.
    second_spacing : float, optional
        m between points for the second reflection; None: no second reflection.
    shadows : bool
        Rays per point and antenna, and per pair of points.
    polarisations : two vectors (3,)
        Electric field of transmitters and receivers on their axes, for the second reflection.
    seed : int
        Of the speckle.
    single : bool
        Sums of the first reflection in float32 (:mod:`~benchmarks.referee.scattering`).

    Examples
    --------
    A plate of 10 cm shows the transmitter's mirror image, 0.6 m away:

    >>> import numpy as np
    >>> from benchmarks.referee.surface import plate
    >>> mirror = plate([0, 0, 0.3], [0, 0.1, 0], [0.1, 0, 0])
    >>> antenna = np.zeros((1, 3))
    >>> referee = Referee(spacing=1e-3)
    >>> body = Body(mirror, material=0.0, permittivity=None)
    >>> signal = referee.signal([body], antenna, antenna, np.array([77e9]))
    >>> bool(abs(abs(signal[0, 0, 0]) * 0.6 - 1) < 0.3)  # its edges diffract
    True
    """

    antenna_size: float = 2.0e-3
    spacing: float = 5.0e-4
    second_spacing: float | None = None
    shadows: bool = True
    polarisations: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 1.0, 0.0),
        (0.0, 1.0, 0.0),
    )
    seed: int = 0
    single: bool = False

    def replace(self, **options: object) -> Referee:
        """The same referee with other options."""
        return replace(self, **options)  # type: ignore[arg-type]

    def signal(self, bodies: Sequence[Body], tx: Real, rx: Real, frequencies: Real) -> Complex:
        """(rx, tx, f) complex128: the sum of :meth:`parts`.

        ``tx`` (T, 3), ``rx`` (R, 3) metres; ``frequencies`` (F,) Hz. A path of length d has the
        phase -kd; amplitudes are as in (R1).
        """
        parts = self.parts(bodies, tx, rx, frequencies)
        return np.sum(list(parts.values()), axis=0)

    def parts(
        self, bodies: Sequence[Body], tx: Real, rx: Real, frequencies: Real
    ) -> dict[str, Complex]:
        """Signals (rx, tx, f) of first reflections ``coherent`` and ``diffuse``, and ``second``."""
        surfaces = [body.shape.sampled(body.spacing or self.spacing) for body in bodies]
        occluders = Occluders(surfaces) if self.shadows else None
        total: dict[str, Complex] = {}
        for number, (body, surface) in enumerate(zip(bodies, surfaces, strict=True)):
            found = self._first(body, surface, number, occluders, tx, rx, frequencies)
            for name, value in found.items():
                total[name] = total[name] + value if name in total else value
        if self.second_spacing is not None:
            joined = [body for body in bodies if body.second]
            total["second"] = self._second(joined, occluders, tx, rx, frequencies)
        return total

    def _first(
        self,
        body: Body,
        surface: Surface,
        number: int,
        occluders: Occluders | None,
        tx: Real,
        rx: Real,
        frequencies: Real,
    ) -> dict[str, Complex]:
        m, speckle = body.material, None
        if m > 0:
            draws = np.random.default_rng([self.seed, number]).standard_normal((len(surface), 2))
            speckle = draws @ np.array([1, 1j]) / np.sqrt(2)
        every = 2 * np.pi / LIGHT * np.asarray(frequencies, dtype=np.float64)
        seen = visibility(surface, tx, occluders), visibility(surface, rx, occluders)
        lit = np.flatnonzero(seen[0].any(axis=1) & seen[1].any(axis=1))
        coherent = np.zeros((len(every), len(rx), len(tx)), dtype=np.complex128)
        diffuse = np.zeros_like(coherent)
        for some in blocks(surface.points, lit) if len(every) > _FEW else [lit]:
            part = surface[some]
            origin, nodes = None, Nodes.all_of(every)
            if len(every) > _FEW:
                origin = part.points.mean(axis=0)
                near, far = (_relative(part.points, antennas, origin) for antennas in (tx, rx))
                nodes = Nodes.between(near[0] + far[0], near[1] + far[1], every)
            signals = first_reflection(
                part,
                tx,
                rx,
                nodes.wavenumbers,
                (seen[0][some], seen[1][some]),
                permittivity=body.permittivity,
                antenna_size=self.antenna_size,
                wavelength=wavelength(frequencies),
                speckle=None if speckle is None else speckle[some],
                origin=origin,
                single=self.single,
            )
            for total, signal in zip((coherent, diffuse), signals, strict=True):
                if total is diffuse and speckle is None:
                    continue
                total += _from_origin(
                    nodes.expand(signal).transpose(2, 0, 1), tx, rx, origin, every
                )
        found = {"coherent": np.sqrt(1 - m**2) * coherent.transpose(1, 2, 0)}
        if m > 0:
            found["diffuse"] = m * diffuse.transpose(1, 2, 0)
        return found

    def _second(
        self,
        bodies: Sequence[Body],
        occluders: Occluders | None,
        tx: Real,
        rx: Real,
        frequencies: Real,
    ) -> Complex:
        assert self.second_spacing is not None
        pieces = [body.shape.sampled(self.second_spacing) for body in bodies]
        counts = [len(piece) for piece in pieces]
        nothing = complex(np.nan, np.nan)
        epsilon = [nothing if b.permittivity is None else b.permittivity for b in bodies]
        surface = joined(pieces)
        sides = []
        for antennas in (tx, rx):
            seen = visibility(surface, antennas, occluders)
            legs = Legs.between(surface, antennas, seen, self.antenna_size, wavelength(frequencies))
            sides.append((legs.length, legs.gain))
        pairs = facing_pairs(
            surface,
            np.repeat([b.material for b in bodies], counts),
            np.repeat(np.array(epsilon, dtype=np.complex128), counts),
            (tx.mean(axis=0), rx.mean(axis=0)),
            tuple(np.array(p, dtype=np.float64) for p in self.polarisations),  # type: ignore[arg-type]
            occluders,
            2 * np.pi / wavelength(frequencies),
        )
        every = 2 * np.pi / LIGHT * np.asarray(frequencies, dtype=np.float64)
        spans = [lengths[gains != 0] for lengths, gains in sides] + [pairs.length]
        nodes = Nodes.all_of(every)
        if all(len(span) for span in spans):
            shortest, longest = (sum(float(f(s)) for s in spans) for f in (np.min, np.max))
            nodes = Nodes.between(shortest, longest, every)
        return nodes.expand(second_reflection(pairs, sides[0], sides[1], nodes.wavenumbers))


#: Steps up to which every one is computed.
_FEW = 8
#: Chebyshev coefficients below this are left out.
_SMALLEST = 1e-7
#: Points of one block, at most.
_BLOCK = 3000


def blocks(points: Real, some: Index) -> list[Index]:
    """Numbers ``some`` of points, in compact groups: halved across their longest extent."""
    if len(some) <= _BLOCK:
        return [some] if len(some) else []
    axis = int(np.ptp(points[some], axis=0).argmax())
    order = some[np.argsort(points[some, axis], kind="stable")]
    half = len(order) // 2
    return blocks(points, order[:half]) + blocks(points, order[half:])


def _relative(points: Real, antennas: Real, origin: Real) -> tuple[float, float]:
    """Shortest and longest path from an antenna to a point, less that to the origin, m."""
    found = [np.linalg.norm(points - a, axis=1) - np.linalg.norm(origin - a) for a in antennas]
    return float(np.min(found)), float(np.max(found))


def _from_origin(
    signal: Complex, tx: Real, rx: Real, origin: Real | None, wavenumbers: Real
) -> Complex:
    """Signals (f, rx, tx) of paths counted from those over ``origin``, as those of the paths."""
    if origin is None:
        return signal
    k = wavenumbers[:, None]
    near, far = (np.exp(-1j * k * np.linalg.norm(origin - a, axis=1)) for a in (tx, rx))
    return np.asarray(signal * far[:, :, None] * near[:, None, :])


def wavelength(frequencies: Real) -> float:
    """At the band's middle, m."""
    return LIGHT / (float(frequencies[0] + frequencies[-1]) / 2)


def joined(surfaces: Sequence[Surface]) -> Surface:
    """All points in one; the occluders too."""
    first = np.cumsum([0, *(len(s.vertices) for s in surfaces[:-1])])
    return Surface(
        np.concatenate([s.points for s in surfaces]),
        np.concatenate([s.normals for s in surfaces]),
        np.concatenate([s.areas for s in surfaces]),
        np.concatenate([s.vertices for s in surfaces]),
        np.concatenate([s.triangles + n for s, n in zip(surfaces, first, strict=True)]),
    )


@dataclass(frozen=True)
class Nodes:
    """The wavenumbers that are computed, and the way from them to all others.

    Paths from d_min to d_max make a signal that, times e^{jk(d_min + d_max)/2}, is a polynomial in
    k of few terms: e^{-jkδ} over a band of width B has Chebyshev coefficients J_n(Bδ/2), which
    fall fast after n = Bδ/2. So few nodes give all steps of a sweep.
    """

    wavenumbers: Real
    all: Real
    middle: float
    matrix: NDArray[np.float64] | None

    @classmethod
    def all_of(cls, wavenumbers: Real) -> Nodes:
        """Every wavenumber (F,) is computed."""
        return cls(wavenumbers, wavenumbers, 0.0, None)

    @classmethod
    def between(cls, shortest: float, longest: float, every: Real) -> Nodes:
        """For paths of these lengths, m, and wavenumbers (F,), 1/m."""
        half = (every[-1] - every[0]) / 2
        orders = np.arange(len(every))
        beyond = np.abs(jv(orders, half * (longest - shortest) / 2)) > _SMALLEST
        count = int(orders[beyond].max()) + 2 if len(every) > 1 else 1
        if count >= len(every):
            return cls.all_of(every)
        middle = (shortest + longest) / 2
        unit = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        chosen = (every[0] + every[-1]) / 2 + half * unit
        matrix = BarycentricInterpolator(unit, np.eye(count))(
            (every - (every[0] + every[-1]) / 2) / half
        )
        return cls(chosen, every, middle, matrix)

    def expand(self, signal: Complex) -> Complex:
        """(…, nodes) to (…, f)."""
        if self.matrix is None:
            return signal
        slow = signal * np.exp(1j * self.middle * self.wavenumbers)
        flat = np.ascontiguousarray(np.moveaxis(slow, -1, 0)).reshape(len(self.wavenumbers), -1)
        # A real product: complex numbers are pairs of real ones.
        full = (self.matrix @ flat.view(np.float64)).view(np.complex128)
        full *= np.exp(-1j * self.middle * self.all)[:, None]
        return np.moveaxis(full.reshape(len(self.all), *signal.shape[:-1]), 0, -1)
