"""Morphable face models: one linear map from shape and expression coefficients to vertices.

A face is ``mean + Σ α_k s_k + Σ γ_k e_k`` with coefficients in standard deviations. The
**neutral face** is shape mean plus expression mean: in the Basel Face Model 2019 the expression
mean is not zero (up to 16.7 mm), so dropping it gives another face.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from radarbook.errors import InputError

#: Names of the regions that regional errors are reported for.
REGIONS = ("forehead", "eyes", "nose", "cheeks", "mouth", "chin")
#: Modes of each part that are taken where nothing else is said: the paper's.
DEFAULT_MODES = {"shape": 10, "expression": 7}


@dataclass(frozen=True)
class MorphableModel:
    """A linear face model of N vertices, F triangles, S shape and E expression modes.

    Attributes
    ----------
    name : str
        Where it came from: ``"procedural"`` or the file's name.
    shape_mean, expression_mean : Tensor (N, 3)
        Millimetres, model frame (+x the subject's left, +y up, +z out of the nose).
    shape_modes, expression_modes : Tensor (S, N, 3), (E, N, 3)
        Millimetres per standard deviation.
    triangles : Tensor (F, 3) int64
        Vertex indices, counter-clockwise seen from outside.
    landmarks : dict
        Vertex index of each named landmark.
    regions : dict
        Boolean (N,) mask of each of :data:`REGIONS` that the model knows.
    notes : tuple of str
        What is doubtful about the file it was read from, one sentence each.
    posed_by : int, optional
        Number of leading vertices whose mean and extent a pose refers to; None: all of them. A
        refined model has the pose of the one that it refines.

    A model may have no expression modes. Raises :class:`~radarbook.errors.InputError` if the
    shapes do not fit together.
    """

    name: str
    shape_mean: Tensor
    expression_mean: Tensor
    shape_modes: Tensor
    expression_modes: Tensor
    triangles: Tensor
    landmarks: Mapping[str, int] = field(default_factory=dict)
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=(), compare=False)
    posed_by: int | None = None
    # (1 + S + E, 3N): mean, shape modes and expression modes as rows of the one matrix that
    # `vertices` multiplies by; the modes above become views of it, so nothing is held twice.
    _matrix: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        n = len(self.shape_mean)
        for what, wanted in (
            ("shape_mean", (n, 3)),
            ("expression_mean", (n, 3)),
            ("shape_modes", (len(self.shape_modes), n, 3)),
            ("expression_modes", (len(self.expression_modes), n, 3)),
            ("triangles", (len(self.triangles), 3)),
        ):
            found = tuple(getattr(self, what).shape)
            if found != wanted:
                raise InputError(f"model '{self.name}': {what} expected {wanted}, found {found}")
        mean = (self.shape_mean + self.expression_mean)[None]
        matrix = torch.cat([mean, self.shape_modes, self.expression_modes])
        _, shape_modes, expression_modes = matrix.split([1, self.n_shape, self.n_expression])
        object.__setattr__(self, "_matrix", matrix.reshape(len(matrix), -1))
        object.__setattr__(self, "shape_modes", shape_modes)
        object.__setattr__(self, "expression_modes", expression_modes)

    @property
    def n_shape(self) -> int:
        return len(self.shape_modes)

    @property
    def n_expression(self) -> int:
        return len(self.expression_modes)

    @property
    def n_vertices(self) -> int:
        return len(self.shape_mean)

    @property
    def mean(self) -> Tensor:
        """(N, 3) mm: the neutral face, shape mean plus expression mean."""
        return self._matrix[0].reshape(-1, 3)

    def vertices(self, shape: Tensor, expression: Tensor) -> Tensor:
        """(B, N, 3) mm in the model frame, for coefficients (B, S) and (B, E).

        One matrix product in the model's dtype and on its device (coefficients of another dtype
        are converted); differentiable with respect to both. Raises
        :class:`~radarbook.errors.InputError` if the number of coefficients is not the model's.
        """
        for what, value, modes in (
            ("shape", shape, self.n_shape),
            ("expression", expression, self.n_expression),
        ):
            if value.ndim != 2 or value.shape[1] != modes:
                raise InputError(
                    f"{what} coefficients: expected (batch, {modes}) for model '{self.name}', "
                    f"found {tuple(value.shape)}"
                )
        # The mean rides along as a mode of constant coefficient 1, which costs one more row in
        # the product instead of another pass over the result.
        ones = shape.new_ones(len(shape), 1)
        coefficients = torch.cat([ones, shape, expression], dim=1).to(self._matrix.dtype)
        return (coefficients @ self._matrix).reshape(len(shape), -1, 3)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> MorphableModel:
        """The same model on another device or, but for indices and masks, in another dtype."""
        moved = {
            what: getattr(self, what).to(device=device, dtype=dtype)
            for what in ("shape_mean", "expression_mean", "shape_modes", "expression_modes")
        }
        return replace(
            self,
            triangles=self.triangles.to(device=device),
            regions={name: mask.to(device=device) for name, mask in self.regions.items()},
            **moved,
        )

    def truncated(self, n_shape: int, n_expression: int) -> MorphableModel:
        """The same model with its first modes only."""
        for what, asked, held in (
            ("shape", n_shape, self.n_shape),
            ("expression", n_expression, self.n_expression),
        ):
            require_modes(self.name, what, asked, held)
        return replace(
            self,
            shape_modes=self.shape_modes[:n_shape],
            expression_modes=self.expression_modes[:n_expression],
        )

    @property
    def fingerprint(self) -> str:
        """Short hash of the content (float32 values, triangles, landmarks, regions).

        Device, dtype and name do not enter: a copy of a file is the same model.
        """
        sha = hashlib.sha256()
        for value in (
            self.shape_mean,
            self.expression_mean,
            self.shape_modes,
            self.expression_modes,
        ):
            sha.update(f"{tuple(value.shape)}".encode())
            sha.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        sha.update(self.triangles.to("cpu", torch.int64).contiguous().numpy().tobytes())
        sha.update(repr(sorted(self.landmarks.items())).encode())
        for name, mask in sorted(self.regions.items()):
            sha.update(name.encode() + mask.cpu().numpy().tobytes())
        if self.posed_by is not None:
            sha.update(f"posed by {self.posed_by}".encode())
        return sha.hexdigest()[:16]


def require_modes(source: str, part: str, asked: int, held: int) -> None:
    """Raise unless ``asked`` modes are there: at least one of shape, at most as many as held."""
    least = 1 if part == "shape" else 0
    if not least <= asked <= held:
        between = (
            f"between {least} and the {held} it holds" if least < held else f"the {held} it holds"
        )
        raise InputError(f"{source}: {asked} {part} modes asked for, expected {between}")


def default_modes(part: str, held: int) -> int:
    """How many modes of a part are taken where nothing else is said: 10 and 7, or all it holds."""
    return min(DEFAULT_MODES[part], held)
