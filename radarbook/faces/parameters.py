"""One batched container for everything that decides a face's radar image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Physical range ``(low, high)`` of every pose and rendering parameter; shape and expression
#: coefficients are standard normal and bounded at ±3 where a bound is needed (the paper's tanh).
RANGES: dict[str, tuple[tuple[float, float], ...]] = {
    # metres, radar frame (x, y, z): ±5 cm
    "translation": ((-0.05, 0.05),) * 3,
    # radians (yaw, pitch, roll): ±5° yaw, ±10° pitch and roll
    "rotation": tuple((-math.radians(a), math.radians(a)) for a in (5.0, 10.0, 10.0)),
    # dynamic range (dB below the image maximum), material factor (0 smooth … 1 rough),
    # antenna size (metres)
    "rendering": ((-30.0, -15.0), (0.0, 0.5), (1.0e-3, 4.0e-3)),
}
COEFFICIENT_BOUND = 3.0


@dataclass(frozen=True)
class PoseRange:
    """How far a face may be moved and turned from the untranslated, frontal one, either way.

    Attributes
    ----------
    translation : tuple of 3 float
        Metres, along x, y, z.
    rotation : tuple of 3 float
        Radians: yaw, pitch, roll.

    Raises :class:`~radarbook.errors.InputError` for a value that is not above 0, for a rotation of
    90° or more, and for other than three of each.

    Examples
    --------
    >>> import math
    >>> PoseRange((0.1, 0.1, 0.1), (0.5, 0.5, 0.5)).normalised().tolist()[:2]
    [2.0, 2.0]
    """

    translation: tuple[float, float, float]
    rotation: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, most in (("translation", math.inf), ("rotation", math.pi / 2)):
            value = getattr(self, name)
            if len(value) != 3 or not all(0 < one < most for one in value):
                what = "metres above 0" if name == "translation" else "radians above 0, below π/2"
                raise InputError(f"pose range: {name}: expected three {what}, found {value}")

    def normalised(self) -> Tensor:
        """(6,) float64: translation and rotation in units of :data:`RANGES`."""
        halves = [high for name in ("translation", "rotation") for _, high in RANGES[name]]
        found = [*self.translation, *self.rotation]
        return torch.tensor(found, dtype=torch.float64) / torch.tensor(halves, dtype=torch.float64)


#: The range that faces are sampled from and networks are trained on: the paper's.
TRAINED_POSE = PoseRange((0.05,) * 3, (math.radians(5.0), math.radians(10.0), math.radians(10.0)))
#: The range of a fit through physics: what an array sees of a face in front of it.
VISIBLE_POSE = PoseRange((0.10,) * 3, (math.radians(40.0),) * 3)
#: Evaluation's rendering parameters: −20 dB, nearly smooth skin, a half-wavelength antenna.
DEFAULT_RENDERING = (-20.0, 0.1, 2.0e-3)
NAMES = ("shape", "expression", "translation", "rotation", "rendering")


@dataclass(frozen=True)
class FaceParameters:
    """Batched face, pose and rendering parameters (B faces; any float dtype, any device).

    Attributes
    ----------
    shape : Tensor (B, S)
        Shape coefficients in standard deviations (10 in the paper).
    expression : Tensor (B, E)
        Expression coefficients in standard deviations (7 in the paper).
    translation : Tensor (B, 3)
        Metres, along the radar frame's x, y, z.
    rotation : Tensor (B, 3)
        Radians: yaw about the model's +y, pitch about +x, roll about +z
        (see :mod:`radarbook.faces.pose` for order and signs).
    rendering : Tensor (B, 3)
        Dynamic range (dB, negative), material factor (dimensionless), antenna size (metres).

    Every field is differentiable. Batch sizes, dtypes and devices must agree; an
    :class:`~radarbook.errors.InputError` says which does not.

    Examples
    --------
    >>> faces = FaceParameters.neutral(2, n_shape=10, n_expression=7)
    >>> tuple(faces.shape.shape), tuple(faces.translation.shape)
    ((2, 10), (2, 3))
    >>> len(FaceParameters.cat([faces, faces]))
    4
    """

    shape: Tensor
    expression: Tensor
    translation: Tensor
    rotation: Tensor
    rendering: Tensor

    def __post_init__(self) -> None:
        for name in NAMES:
            value = getattr(self, name)
            width = {"translation": 3, "rotation": 3, "rendering": 3}.get(name)
            if value.ndim != 2 or (width is not None and value.shape[1] != width):
                wanted = f"(batch, {width or 'K'})"
                raise InputError(f"{name}: expected a tensor {wanted}, found {tuple(value.shape)}")
            for what in ("dtype", "device"):
                if getattr(value, what) != getattr(self.shape, what):
                    found, first = getattr(value, what), getattr(self.shape, what)
                    raise InputError(f"{name}: {what} {found} differs from shape's {first}")
            if len(value) != len(self.shape):
                raise InputError(
                    f"{name}: batch of {len(value)} differs from shape's {len(self.shape)}"
                )

    # -- construction ---------------------------------------------------------------------------

    @classmethod
    def random(
        cls, count: int, n_shape: int, n_expression: int, generator: torch.Generator
    ) -> FaceParameters:
        """``count`` samples of the prior, float32 on the CPU.

        Coefficients are standard normal; pose and rendering are uniform over :data:`RANGES`.

        Examples
        --------
        >>> faces = FaceParameters.random(5, 10, 7, torch.Generator().manual_seed(0))
        >>> len(faces), bool(faces.translation.abs().max() <= 0.05)
        (5, True)
        """
        coefficients = torch.randn(count, n_shape + n_expression, generator=generator)
        others = 2 * torch.rand(count, 9, generator=generator) - 1
        return cls.from_normalised(torch.cat([coefficients, others], dim=1), n_shape, n_expression)

    @classmethod
    def neutral(
        cls,
        batch: int = 1,
        *,
        n_shape: int = 10,
        n_expression: int = 7,
        rendering: Sequence[float] = DEFAULT_RENDERING,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> FaceParameters:
        """The mean face, frontal and centred, with the evaluation's rendering parameters."""

        def zeros(width: int) -> Tensor:
            return torch.zeros(batch, width, dtype=dtype, device=device)

        values = torch.tensor(tuple(rendering), dtype=dtype, device=device).expand(batch, 3)
        return cls(zeros(n_shape), zeros(n_expression), zeros(3), zeros(3), values.clone())

    @classmethod
    def cat(cls, parts: Sequence[FaceParameters]) -> FaceParameters:
        """Concatenate along the batch.

        Examples
        --------
        >>> import radarbook as rb
        >>> len(rb.FaceParameters.cat([rb.FaceParameters.neutral(2), rb.FaceParameters.neutral(1)]))
        3
        """
        return cls(*(torch.cat([getattr(p, name) for p in parts]) for name in NAMES))

    # -- the normalised vector ------------------------------------------------------------------

    def normalised(self) -> Tensor:
        """(B, S + E + 9): coefficients as they are, pose and rendering mapped to [-1, 1].

        The order is shape, expression, translation, rotation, rendering. This is what networks
        predict and what the paper's L2 errors are taken on.
        """
        parts = [self.shape, self.expression]
        for name in ("translation", "rotation", "rendering"):
            value = getattr(self, name)
            centre, half = _centre_half(name, value)
            parts.append((value - centre) / half)
        return torch.cat(parts, dim=1)

    @classmethod
    def from_normalised(
        cls, vector: Tensor, n_shape: int = 10, n_expression: int = 7
    ) -> FaceParameters:
        """The inverse of :meth:`normalised` for a (B, n_shape + n_expression + 9) tensor."""
        wanted = n_shape + n_expression + 9
        if vector.ndim != 2 or vector.shape[1] != wanted:
            raise InputError(
                f"normalised parameters: expected (batch, {wanted}), found {tuple(vector.shape)}"
            )
        sizes = (n_shape, n_expression, 3, 3, 3)
        parts = dict(zip(NAMES, vector.split(sizes, dim=1), strict=True))
        for name in ("translation", "rotation", "rendering"):
            centre, half = _centre_half(name, vector)
            parts[name] = parts[name] * half + centre
        return cls(**parts)

    def clamped(self, pose_range: PoseRange = TRAINED_POSE) -> FaceParameters:
        """The nearest parameters inside the physical ranges and ±3 standard deviations."""
        vector = self.normalised()
        k = self.shape.shape[1] + self.expression.shape[1]
        bound = torch.ones_like(vector)
        bound[:, :k] = COEFFICIENT_BOUND
        bound[:, k : k + 6] = pose_range.normalised().to(bound)
        return self.from_normalised(
            torch.maximum(torch.minimum(vector, bound), -bound),
            self.shape.shape[1],
            self.expression.shape[1],
        )

    # -- container habits -----------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: int | slice | Tensor) -> FaceParameters:
        """A batch again, also for a single integer index."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"face {index} of {len(self)}")
            index = slice(index, index + 1 or None)
        return FaceParameters(*(getattr(self, name)[index] for name in NAMES))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> FaceParameters:
        """The same parameters on another device or in another dtype."""
        return FaceParameters(*(getattr(self, n).to(device=device, dtype=dtype) for n in NAMES))

    def detach(self) -> FaceParameters:
        """The same values without their graph."""
        return FaceParameters(*(getattr(self, name).detach() for name in NAMES))

    def replace(self, **changes: Tensor) -> FaceParameters:
        """A copy with some fields replaced."""
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Tensor]:
        """The fields by name, in their fixed order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def dynamic_range_db(self) -> Tensor:
        """(B,) dB, negative."""
        return self.rendering[:, 0]

    @property
    def material(self) -> Tensor:
        """(B,) material factor: 0 smooth, 1 rough."""
        return self.rendering[:, 1]

    @property
    def antenna_size(self) -> Tensor:
        """(B,) metres."""
        return self.rendering[:, 2]


def _centre_half(name: str, like: Tensor) -> tuple[Tensor, Tensor]:
    limits: Any = torch.tensor(RANGES[name], dtype=like.dtype, device=like.device)
    low, high = limits.unbind(1)
    return (high + low) / 2, (high - low) / 2


def parameter_names(n_shape: int, n_expression: int) -> list[str]:
    """Short names of the normalised parameters, in their order.

    Examples
    --------
    >>> len(parameter_names(10, 7))
    26
    """
    return [
        *(f"shape {k + 1}" for k in range(n_shape)),
        *(f"expr. {k + 1}" for k in range(n_expression)),
        *("x", "y", "z", "yaw", "pitch", "roll", "dyn. range", "material", "antenna"),
    ]
