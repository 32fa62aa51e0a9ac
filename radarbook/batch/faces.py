"""One fitted face as a folder keeps it: a description, a mesh and two pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray

from radarbook.faces.mesh import write_mesh
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import write_bytes, write_json
from radarbook.fitting.reconstruction import Reconstruction
from radarbook.fitting.uncertainty import Uncertainty


@dataclass(frozen=True)
class Parameter:
    """A fitted parameter, its unit, and its standard deviation if one is stated."""

    name: str
    value: float
    unit: str
    deviation: float | None = None


@dataclass(frozen=True, kw_only=True)
class FittedFace:
    """What is kept of the fit of one recording; JSON-able.

    Attributes
    ----------
    accepted : bool
    reason : str
        One line: whether the face is accepted, or why it is not.
    text : str
        All lines that the command line prints of a fit.
    residual, predicted : float
        Normalised residual power, and what the fitted material and the stated noise predict.
    parameters : tuple of Parameter
    vertex_mean, vertex_most : float, optional
        Stated deviation of a vertex, mm: its mean and its largest value.
    steps : int
        Of the fit.
    seconds : float
    stopped : bool
        The fit ended at its limit of steps.
    """

    accepted: bool
    reason: str
    text: str
    residual: float
    predicted: float
    parameters: tuple[Parameter, ...]
    vertex_mean: float | None
    vertex_most: float | None
    steps: int
    seconds: float
    stopped: bool

    @classmethod
    def of(cls, result: Reconstruction) -> Self:
        """Of a finished fit, or of one that was stopped at its limit of steps."""
        deviation = result.vertex_deviation()
        return cls(
            accepted=result.accepted,
            reason=result.reason,
            text=str(result),
            residual=result.verdict.residual,
            predicted=result.verdict.predicted,
            parameters=tuple(named_parameters(result.parameters, result.uncertainty)),
            vertex_mean=None if deviation is None else float(deviation.mean()),
            vertex_most=None if deviation is None else float(deviation.max()),
            steps=result.fit.steps,
            seconds=round(result.fit.seconds, 1),
            stopped=result.fit.stopped,
        )

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """The inverse of ``asdict``."""
        parameters = tuple(Parameter(**one) for one in kept["parameters"])
        return cls(**{**kept, "parameters": parameters})

    def value(self, name: str) -> float:
        """Of one parameter."""
        return next(one.value for one in self.parameters if one.name == name)

    def found(self) -> FaceParameters:
        """The face (1), float64: the inverse of :func:`named_parameters`.

        Examples
        --------
        >>> face = FaceParameters.neutral(1, n_shape=2, n_expression=1, dtype=torch.float64)
        >>> face = face.replace(rotation=torch.tensor([[0.1, 0.0, -0.2]], dtype=torch.float64))
        >>> kept = FittedFace(
        ...     accepted=True, reason="", text="", residual=0.0, predicted=0.0,
        ...     parameters=tuple(named_parameters(face)), vertex_mean=None, vertex_most=None,
        ...     steps=0, seconds=0.0, stopped=False,
        ... )
        >>> torch.allclose(kept.found().normalised(), face.normalised())
        True
        """

        def values(names: Sequence[str], factor: float) -> torch.Tensor:
            given = [self.value(name) * factor for name in names]
            return torch.tensor([given], dtype=torch.float64)

        def coefficients(kind: str) -> list[str]:
            return [one.name for one in self.parameters if one.name.startswith(f"{kind} ")]

        neutral = FaceParameters.neutral(1, n_shape=1, n_expression=1, dtype=torch.float64)
        rendering = [neutral.rendering[:, :1], values(["material"], 1.0)]
        return FaceParameters(
            shape=values(coefficients("shape"), 1.0),
            expression=values(coefficients("expression"), 1.0),
            translation=values(["x", "y", "z"], 1e-3),
            rotation=values(["yaw", "pitch", "roll"], math.radians(1)),
            rendering=torch.cat([*rendering, values(["antenna size"], 1e-3)], dim=1),
        )


def named_parameters(found: FaceParameters, sure: Uncertainty | None = None) -> list[Parameter]:
    """The fitted parameters of one face (1), in the units of the command line: coefficients in
    standard deviations of the model, mm, degrees; material without a unit.

    Examples
    --------
    >>> neutral = FaceParameters.neutral(1, n_shape=1, n_expression=1)
    >>> [one.name for one in named_parameters(neutral)][:4]
    ['shape 1', 'expression 1', 'x', 'y']
    """
    n_shape, n_expression = found.shape.shape[1], found.expression.shape[1]
    names = [(f"shape {i + 1}", "σ", 1.0) for i in range(n_shape)]
    names += [(f"expression {i + 1}", "σ", 1.0) for i in range(n_expression)]
    names += [(axis, "mm", 1e3) for axis in ("x", "y", "z")]
    names += [(turn, "degrees", math.degrees(1)) for turn in ("yaw", "pitch", "roll")]
    # The dynamic range, which an image has, is no parameter of a recording.
    names += [("", "", 0.0), ("material", "", 1.0), ("antenna size", "mm", 1e3)]

    def physical(p: FaceParameters) -> torch.Tensor:
        parts = (p.shape, p.expression, p.translation, p.rotation, p.rendering)
        return torch.cat(parts, dim=1)[0].double()

    values, deviations = physical(found), {}
    if sure is not None:
        zero = torch.zeros(1, len(names), dtype=torch.float64)
        one, none = (
            physical(FaceParameters.from_normalised(zero + k, n_shape, n_expression))
            for k in (1.0, 0.0)
        )
        half = (one - none).abs()
        for column, deviation in zip(sure.columns.tolist(), sure.deviations(), strict=True):
            if column < len(names):
                deviations[column] = float(deviation * half[column])
    return [
        Parameter(
            name,
            float(values[n]) * factor,
            unit,
            None if n not in deviations else deviations[n] * factor,
        )
        for n, (name, unit, factor) in enumerate(names)
        if name
    ]


@dataclass(frozen=True)
class Files:
    """The files of one recording's result in a folder."""

    folder: Path
    name: str

    def path(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"

    @property
    def pictures(self) -> tuple[Path, Path]:
        """Of the radar image, and of the face."""
        return self.path(".radar.png"), self.path(".face.png")

    def state(self, key: str) -> Path:
        """State of the unfinished fit that has this key."""
        return self.folder / f".{self.name}.{key}.state"

    def forget_states(self) -> None:
        """Remove the states of unfinished fits."""
        for path in self.folder.glob(f".{_literal(self.name)}.*.state"):
            path.unlink(missing_ok=True)

    def read(self) -> dict[str, Any] | None:
        """The description that is kept; None unless all files are there."""
        try:
            kept = json.loads(self.path(".json").read_text(encoding="utf-8"))
            face = FittedFace.from_json(kept["face"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        whole = all(path.is_file() for path in (self.path(".ply"), *self.pictures))
        return {**kept, "face": face} if whole else None

    def write(self, made: Made, model: MorphableModel, about: Mapping[str, Any]) -> None:
        """Mesh and pictures, and the description last: where it is, all is."""
        self.path(".json").unlink(missing_ok=True)
        stated = {} if made.deviation is None else {"deviation": made.deviation}
        write_mesh(self.path(".ply"), made.vertices, model.triangles, values=stated)
        for path, picture in zip(self.pictures, made.pictures, strict=True):
            write_bytes(path, picture)
        write_json(self.path(".json"), {**about, "face": asdict(made.face)})


def _literal(name: str) -> str:
    """A name in a pattern, in which brackets would be sets of characters."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)


@dataclass(frozen=True)
class Made:
    """What a worker returns of a fit: description, vertices (N, 3) and their stated deviation (N,)
    in mm, PNG files of image and face."""

    face: FittedFace
    vertices: NDArray[Any]
    deviation: NDArray[Any] | None
    pictures: tuple[bytes, bytes]
