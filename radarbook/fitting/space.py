"""The space in which a fit moves: the normalised vector of a face's parameters, and its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.parameters import (
    COEFFICIENT_BOUND,
    NAMES,
    TRAINED_POSE,
    FaceParameters,
    PoseRange,
)

#: Parts of ``rendering``, in their order.
RENDERING = ("dynamic_range", "material", "antenna_size")
#: The unknowns of a recording; the dynamic range is a matter of display.
UNKNOWN = ("shape", "expression", "translation", "rotation", "material", "antenna_size")


@dataclass(frozen=True)
class ParameterSpace:
    """Normalised vectors (B, width): shape, expression, translation, rotation, rendering.

    Coefficients are in standard deviations, pose and rendering in units of their ranges
    (:meth:`~radarbook.faces.parameters.FaceParameters.normalised`). A wider range of poses changes
    the bounds alone.

    Attributes
    ----------
    n_shape, n_expression : int
        Coefficients of each kind; either may be 0.
    pose_range : PoseRange
        Bounds of translation and rotation.

    Examples
    --------
    >>> space = ParameterSpace(n_shape=10, n_expression=7)
    >>> space.width
    26
    >>> space.columns(["translation"]).tolist()
    [17, 18, 19]
    >>> len(space.unpack(torch.zeros(2, space.width)))
    2
    """

    n_shape: int
    n_expression: int
    pose_range: PoseRange = TRAINED_POSE

    @classmethod
    def of(cls, parameters: FaceParameters, pose_range: PoseRange = TRAINED_POSE) -> ParameterSpace:
        """The space of some faces."""
        return cls(parameters.shape.shape[1], parameters.expression.shape[1], pose_range)

    @property
    def coefficients(self) -> int:
        """Coefficients of shape and expression together; they are the first columns."""
        return self.n_shape + self.n_expression

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return self.coefficients + 9

    def span(self, name: str) -> range:
        """Columns of a field (``shape`` … ``rendering``) or of a part of rendering."""
        k = self.coefficients
        spans = {
            "shape": range(self.n_shape),
            "expression": range(self.n_shape, k),
            "translation": range(k, k + 3),
            "rotation": range(k + 3, k + 6),
            "rendering": range(k + 6, k + 9),
        } | {part: range(k + 6 + i, k + 7 + i) for i, part in enumerate(RENDERING)}
        if name not in spans:
            known = ", ".join([*NAMES, *RENDERING])
            raise InputError(f"free parameters: expected some of {known}, found {name!r}")
        return spans[name]

    def columns(self, names: Sequence[str], modes: tuple[int, int] | None = None) -> Tensor:
        """Columns (K,) int64, ascending, of several names; at least one. ``modes``: of shape and
        expression only so many leading coefficients."""
        columns = {column for name in names for column in self.span(name)}
        if modes is not None:
            for kind, count in zip(("shape", "expression"), modes, strict=True):
                columns -= set(self.span(kind)[count:])
        if not columns:
            raise InputError("free parameters: expected at least one")
        return torch.tensor(sorted(columns))

    def vector(
        self,
        shape: float,
        expression: float,
        translation: Sequence[float],
        rotation: Sequence[float],
        rendering: Sequence[float],
    ) -> Tensor:
        """(width,) float64 of one value per coefficient of a kind and three of each other field."""
        values = [shape] * self.n_shape + [expression] * self.n_expression
        values += [*translation, *rotation, *rendering]
        return torch.tensor(values, dtype=torch.float64)

    def bounds(self) -> Tensor:
        """(width,) float64: vectors lie between minus this and this."""
        most = COEFFICIENT_BOUND
        pose = self.pose_range.normalised().tolist()
        return self.vector(most, most, pose[:3], pose[3:], [1.0] * 3)

    def unpack(self, vectors: Tensor) -> FaceParameters:
        """The faces of vectors (B, width); differentiable."""
        return FaceParameters.from_normalised(vectors, self.n_shape, self.n_expression)

    def faces_inside(self, vectors: Tensor) -> FaceParameters:
        """The faces of vectors (B, width), moved into the bounds."""
        return self.unpack(vectors).clamped(self.pose_range)
