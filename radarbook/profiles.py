"""Profiles: every size, schedule and seed of a run, by name, validated before anything runs.

``smoke`` is for continuous integration and a first look, ``laptop`` a small real result on a CPU,
``paper`` the paper's sizes and schedules on one large GPU, ``large`` the paper's images with a
recipe that takes minutes there. Every field can be overridden by name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from radarbook.errors import InputError

Inputs = Literal["amplitude", "depth", "both"]
Network = Literal["small", "medium", "resnet18", "paper"]


class Profile(BaseModel):
    """All settings of one run. SI units. Immutable; unknown names and ill-typed values raise."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    name: str
    # face model
    n_shape: int = Field(10, ge=1, description="shape coefficients")
    n_expression: int = Field(7, ge=0, description="expression coefficients")
    # scene and image grid (radar frame, metres)
    distance: float = Field(0.30, gt=0.1, lt=2, description="array to nose-tip side, m")
    extent: float = Field(0.30, gt=0, description="side of the square image, m")
    pixels: int = Field(64, ge=16, description="image side, pixels")
    depth_start: float = Field(0.23, gt=0, description="first depth plane, m")
    depth_stop: float = Field(0.47, gt=0, description="last depth plane, m")
    depth_planes: int = Field(33, ge=4, description="depth planes")
    frequencies: int = Field(24, ge=2, le=128, description="frequency steps simulated, 72-82 GHz")
    # data
    train: int = Field(2000, ge=1, description="training faces")
    validation: int = Field(100, ge=1, description="validation faces")
    test: int = Field(200, ge=1, description="test faces")
    # networks
    encoder: Network = Field("medium", description="encoder: its networks")
    decoder: Network = Field("medium", description="learned renderer: its network")
    recipe: Literal["fast", "paper"] = Field("fast", description="losses and schedules of training")
    inputs: tuple[Inputs, ...] = Field(
        ("amplitude", "depth", "both"),
        min_length=1,
        description="images that encoders and autoencoders are given; one network for each",
    )
    encoder_epochs: int = Field(30, ge=1, description="encoder: epochs of training")
    encoder_batch: int = Field(32, ge=1, description="encoder: faces per batch")
    encoder_rate: float = Field(1e-3, gt=0, description="encoder: learning rate")
    renderer_epochs: int = Field(30, ge=1, description="learned renderer: epochs of training")
    renderer_batch: int = Field(32, ge=1, description="learned renderer: faces per batch")
    renderer_rate: float = Field(2e-3, gt=0, description="learned renderer: learning rate")
    autoencoder_epochs: int = Field(10, ge=1, description="autoencoder: epochs of training")
    autoencoder_batch: int = Field(32, ge=1, description="autoencoder: faces per batch")
    autoencoder_rate: float = Field(5e-4, gt=0, description="autoencoder: learning rate")
    parameter_weight: float = Field(1.0, ge=0, description="λ of the autoencoder's loss")
    vertex_weight: float = Field(
        1.0,
        ge=0,
        description="weight of the vertex distance in the fast recipe's loss",
    )
    imagined: float = Field(
        2.0,
        ge=0,
        le=4,
        description="faces of the learned renderer per face of the dataset",
    )
    # test-time optimization
    fit_faces: int = Field(4, ge=1, description="held-out faces fitted in chapter 07")
    fit_steps: int = Field(100, ge=1, description="steps through the learned renderer")

    @field_validator("inputs", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Text of a command line, ``depth,both``, as the list that it means."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(","))
        return value

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields in which this profile differs from the one that its name stands for."""
        base = PROFILES[self.name].model_dump() if self.name in PROFILES else {}
        fields = self.model_dump(exclude={"name"})
        return {name: value for name, value in fields.items() if base.get(name) != value}

    def for_modes(self, n_shape: int, n_expression: int) -> Profile:
        """The profile with no more coefficients than a face model holds modes.

        Numbers that were asked for by name stay as they are: reading the model refuses them.
        """
        fewer = {
            name: count
            for name, count in (("n_shape", n_shape), ("n_expression", n_expression))
            if getattr(self, name) > count and name not in self.overrides
        }
        return self.model_copy(update=fewer)


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        pixels=48,
        depth_planes=25,
        frequencies=18,
        train=24,
        validation=4,
        test=4,
        encoder="small",
        decoder="small",
        encoder_epochs=8,
        encoder_batch=16,
        renderer_epochs=12,
        renderer_batch=16,
        autoencoder_epochs=4,
        autoencoder_batch=16,
        fit_faces=2,
        fit_steps=20,
    ),
    "laptop": Profile(name="laptop"),
    "paper": Profile(
        name="paper",
        pixels=128,
        depth_planes=49,
        frequencies=128,
        train=8000,
        validation=1000,
        test=1000,
        encoder="paper",
        decoder="paper",
        recipe="paper",
        encoder_epochs=200,
        encoder_batch=50,
        encoder_rate=1e-2,
        renderer_epochs=300,
        renderer_batch=150,
        renderer_rate=1e-3,
        autoencoder_epochs=300,
        autoencoder_batch=50,
        autoencoder_rate=1e-3,
        fit_faces=100,
        fit_steps=200,
    ),
    # The paper's images in number, size and split, with this project's recipe. 24 frequencies hold
    # the grid's depth without ambiguity and give the same images as 128 (chapter 2).
    "large": Profile(
        name="large",
        pixels=128,
        train=8000,
        validation=1000,
        test=1000,
        encoder="resnet18",
        encoder_epochs=80,
        encoder_batch=256,
        encoder_rate=2e-3,
        renderer_epochs=60,
        renderer_batch=256,
        renderer_rate=4e-3,
        autoencoder_epochs=14,
        autoencoder_batch=128,
        autoencoder_rate=1e-3,
        fit_faces=100,
        fit_steps=200,
    ),
}


#: What all notebooks of a profile need, as measured on two CPU cores; "≈" where only parts were
#: measured and the rest is computed from them.
NEEDS: dict[str, dict[str, str]] = {
    "smoke": {"time": "5-6 min on two CPU cores", "memory": "2 GB", "disk": "0.1 GB"},
    "laptop": {"time": "≈ 3 h on two CPU cores", "memory": "≈ 4 GB", "disk": "≈ 0.3 GB"},
    "paper": {"time": "not measured", "memory": "not measured", "disk": "≈ 1 GB"},
    "large": {"time": "6 min on one H200 (results)", "memory": "not measured", "disk": "≈ 1 GB"},
}


def read_settings(settings: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` texts, as a command line has them, by name; others raise
    :class:`InputError`."""
    values = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise InputError(f"parameter '{setting}': expected NAME=VALUE")
        values[name.strip()] = value.strip()
    return values


def written_settings(settings: Mapping[str, Any]) -> str:
    """``-p name=value …`` for a shell: what :func:`read_settings` and a profile read back."""
    words = []
    for name, value in settings.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
        words += ["-p", f"{name}={text}"]
    return shlex.join(words)


def get_profile(name: str, overrides: Mapping[str, Any] | None = None) -> Profile:
    """The named profile with some fields overridden.

    Values may be strings (from the command line). Raises :class:`InputError` naming an unknown
    profile, an unknown field (with the known ones), or an ill-typed value.

    Examples
    --------
    >>> profile = get_profile("smoke", {"pixels": 32})
    >>> profile.pixels, profile.n_shape
    (32, 10)
    """
    if name not in PROFILES:
        raise InputError(f"unknown profile '{name}': expected one of {', '.join(PROFILES)}")
    values = PROFILES[name].model_dump() | dict(overrides or {})
    try:
        profile = Profile.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(Profile.model_fields)
            raise InputError(f"unknown parameter '{field}': expected one of {known}") from None
        raise InputError(f"parameter '{field}': {first['msg']}, found {first['input']!r}") from None
    if profile.depth_stop <= profile.depth_start:
        raise InputError(
            f"parameter 'depth_stop': expected more than depth_start = {profile.depth_start} m, "
            f"found {profile.depth_stop} m"
        )
    return profile
