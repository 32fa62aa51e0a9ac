"""What a synthetic face is: how its parameters are sampled and which split it belongs to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from radarbook.errors import InputError
from radarbook.faces.parameters import RANGES, FaceParameters
from radarbook.seeds import numpy_stream

Indices = Sequence[int] | NDArray[np.integer[Any]] | torch.Tensor
Split = Literal["test", "validation", "train"]
#: Blocks of the sample numbers, in this order: see :class:`Splits`.
SPLITS: tuple[Split, ...] = ("test", "validation", "train")

_Triple = tuple[float, float, float]
_Range = tuple[float, float]


def _half_widths(name: str) -> _Triple:
    x, y, z = (high for _, high in RANGES[name])
    return x, y, z


class ParameterDistribution(BaseModel):
    """How faces are sampled. The defaults are the paper's; SI units. Immutable.

    Coefficients are normal with the given standard deviation; pose is uniform within ± the
    half-widths times ``pose_scale``; rendering parameters are uniform in their ranges.
    ``pose_scale=0`` is the neutral pose, ``pose_scale=2`` twice the paper's range.

    Examples
    --------
    >>> upright = ParameterDistribution(pose_scale=0.0)
    >>> bool(random_parameters(range(3), seed=0, config=upright).rotation.any())
    False
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape_scale: float = Field(
        default=1.0, ge=0, description="standard deviation of shape coefficients"
    )
    expression_scale: float = Field(default=1.0, ge=0, description="the same for expressions")
    pose_scale: float = Field(default=1.0, ge=0, description="factor on both half-widths below")
    translation: _Triple = Field(
        default=_half_widths("translation"), description="half-widths x, y, z, m"
    )
    rotation: _Triple = Field(
        default=_half_widths("rotation"), description="half-widths yaw, pitch, roll, rad"
    )
    dynamic_range_db: _Range = RANGES["rendering"][0]
    material: _Range = RANGES["rendering"][1]
    antenna_size: _Range = Field(default=RANGES["rendering"][2], description="m")
    images_per_face: int = Field(
        1, ge=1, description="samples that share one shape, each with its own expression and pose"
    )


def random_parameters(
    indices: Indices,
    seed: int,
    n_shape: int = 10,
    n_expression: int = 7,
    *,
    config: ParameterDistribution | None = None,
) -> FaceParameters:
    """The parameters of the samples ``indices``: float32, on the CPU.

    Sample ``i`` depends on ``(seed, i)`` alone. Shape, expression, pose and rendering have streams
    of their own, so a model with more modes has the same leading coefficients and the same pose,
    and a wider pose is the same pose scaled. Samples of one face (``images_per_face``) share
    ``shape``.

    Examples
    --------
    >>> faces = random_parameters(range(3), seed=0)
    >>> again = random_parameters([2], seed=0)
    >>> bool((faces.shape[2] == again.shape[0]).all())
    True
    """
    config = config or ParameterDistribution()
    numbers = [int(i) for i in indices]
    if any(i < 0 for i in numbers):
        raise InputError(f"indices: expected sample numbers from 0, found {min(numbers)}")

    half = np.array(config.translation + config.rotation) * config.pose_scale
    low, high = np.array([config.dynamic_range_db, config.material, config.antenna_size]).T
    shape = np.empty((len(numbers), n_shape))
    expression = np.empty((len(numbers), n_expression))
    pose = np.empty((len(numbers), 6))
    rendering = np.empty((len(numbers), 3))
    for row, i in enumerate(numbers):
        face = i // config.images_per_face
        shape[row] = numpy_stream(seed, "datasets/shape", face).standard_normal(n_shape)
        expression[row] = numpy_stream(seed, "datasets/expression", i).standard_normal(n_expression)
        pose[row] = numpy_stream(seed, "datasets/pose", i).uniform(-1, 1, 6)
        rendering[row] = numpy_stream(seed, "datasets/rendering", i).uniform(0, 1, 3)
    pose *= half

    def tensor(values: NDArray[np.float64]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return FaceParameters(
        shape=tensor(shape * config.shape_scale),
        expression=tensor(expression * config.expression_scale),
        translation=tensor(pose[:, :3]),
        rotation=tensor(pose[:, 3:]),
        rendering=tensor(low + (high - low) * rendering),
    )


class Splits(BaseModel):
    """How many samples are in each split.

    The sample numbers are cut into three blocks: test first, then validation, then training. As
    every face is sampled independently of the others, blocks are as random as any other rule; and
    with the held-out faces first, a run with more training faces keeps the same test faces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    test: int = Field(ge=0)
    validation: int = Field(ge=0)
    train: int = Field(ge=0)

    @property
    def count(self) -> int:
        """All samples."""
        return self.test + self.validation + self.train

    @classmethod
    def from_fractions(
        cls, count: int, test: float = 0.1, validation: float = 0.1, images_per_face: int = 1
    ) -> Splits:
        """Cut ``count`` samples by fraction, rounded to whole faces; training gets the rest."""

        def part(fraction: float) -> int:
            return math.floor(count * fraction / images_per_face + 0.5) * images_per_face

        held_out = {"test": part(test), "validation": part(validation)}
        return cls(**held_out, train=count - sum(held_out.values()))

    def check(self, images_per_face: int) -> None:
        """Raise :class:`InputError` where a face would lie in two splits."""
        for name in SPLITS[:-1]:
            if getattr(self, name) % images_per_face:
                raise InputError(
                    f"splits: expected '{name}' to be a multiple of images_per_face = "
                    f"{images_per_face} (a face is in one split only), found {getattr(self, name)}"
                )

    def block(self, split: Split) -> range:
        """The sample numbers of one split."""
        if split not in SPLITS:
            raise InputError(f"split: expected one of {', '.join(SPLITS)}, found '{split}'")
        start = 0
        for name in SPLITS[: SPLITS.index(split)]:
            start += getattr(self, name)
        return range(start, start + getattr(self, split))


def split_of(indices: Indices, splits: Splits) -> list[Split]:
    """The split of each sample number (see :class:`Splits` for the rule)."""
    found: list[Split] = []
    for i in indices:
        where = [name for name in SPLITS if int(i) in splits.block(name)]
        if not where:
            raise InputError(f"sample {int(i)}: expected a number below {splits.count}")
        found.append(where[0])
    return found
