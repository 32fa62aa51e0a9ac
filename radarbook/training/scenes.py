"""Faces with everything around them to train networks on: the campaign's scenes, another rule.

Scenes, bodies and instruments are made by :mod:`radarbook.datasets.campaign.scene`, as the
campaign's are. People, expressions and poses are others: every scene is of a person of its own,
with a seed that the campaign has not; expression modes are independent and standard normal, as in
the training sets of bare faces, and not the campaign's list of expressions; poses are uniform.
Nobody is behind a blanket.

A scene is kept as two complex volumes, of the face and of everything else. Volumes add as signals
do, so that any face can be seen with any other person's ears, neck and shoulders
(:meth:`Scenes.images`): some hundred scenes hold ten thousand images. What such a sum lacks is the
other face's shadow on the shoulders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.datasets.campaign.folder import joined
from radarbook.datasets.campaign.plan import Blanket, Campaign, Cast, Identity, Pose
from radarbook.datasets.campaign.scene import record_parts
from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.locks import hold
from radarbook.profiles import Profile
from radarbook.radar.face_gate import DEEP_DB
from radarbook.radar.image import RadarImage, image_from_volume
from radarbook.radar.imaging import Grid, back_project
from radarbook.threads import alone
from radarbook.training.checkpoints import load_tensors, save_tensors

#: Share of scenes with each part that is not always there. The others cost networks next to
#: nothing (``benchmarks.faults``) and are always there.
SHARES = {"foam": 0.25, "hair": 0.75, "leakage": 0.7}
#: Numbers of instruments that record: each has its own gains, phases and positions.
INSTRUMENTS = 4


@dataclass(frozen=True)
class TrainingFaces(Campaign):
    """A campaign of ``subjects`` people with one take each.

    Examples
    --------
    >>> faces = TrainingFaces(subjects=3)
    >>> [name for name in faces.names()]
    [(0, 'any', 0), (1, 'any', 0), (2, 'any', 0)]
    """

    subjects: int = 400
    takes: int = 1
    seed: int = 41_300
    identity: Identity = field(default_factory=lambda: Identity(material=(0.0, 0.5)))
    pose: Pose = field(default_factory=lambda: Pose(turned=(2.5e-2,) * 3, free=0))
    blanket: Blanket | None = None

    def names(self) -> Iterator[tuple[int, str, int]]:
        """Subject, ``"any"`` and 0 of every image."""
        for subject in range(self.subjects):
            yield subject, "any", 0

    def recorded_by(self, subject: int) -> int:
        """One of :data:`INSTRUMENTS`."""
        return int(self._draw("training instrument", subject).integers(INSTRUMENTS))

    def _expression(
        self, cast: Cast, subject: int, expression: str, take: int
    ) -> NDArray[np.float64]:
        """Independent modes, standard normal."""
        draw = self._draw("training expression", subject)
        return np.asarray(draw.standard_normal(cast.model.n_expression).clip(-3, 3))

    def of(self, subject: int) -> Campaign:
        """The same with the faults that one image has."""
        draw = self._draw("training faults", subject)
        has = {name: bool(draw.uniform() < share) for name, share in SHARES.items()}
        snr_db = float(draw.uniform(10.0, 30.0))
        leakage = self.instrument.leakage_db if has["leakage"] else None
        return replace(
            self,
            foam=self.foam if has["foam"] else None,
            hair=self.hair if has["hair"] else None,
            instrument=replace(self.instrument, snr_db=snr_db, leakage_db=leakage),
        )


def make_scenes(
    folder: str | os.PathLike[str],
    faces: TrainingFaces,
    model: MorphableModel,
    profile: Profile,
) -> Iterator[int]:
    """Make the scenes that a folder lacks, each number when its file is written.

    A run that was stopped goes on with the first that is missing. Takes 3 to 6 s of one core per
    scene, on one thread; a file has 1.1 MB at profile ``laptop``.
    """
    root = Path(folder)
    cast, grid = Cast.of(model, faces), Grid.for_profile(profile)
    with hold(root), alone(divided=1):
        for subject, expression, take in faces.names():
            path = scene_path(root, subject)
            if path.exists():
                continue
            whole, face = record_parts(faces.of(subject), cast, subject, expression, take)
            parts = torch.stack([face, whole.signal - face])
            with torch.no_grad():
                volumes = back_project(parts, whole.array, whole.waveform, grid)
            scale = volumes[0].abs().amax()
            tensors = {
                name: torch.view_as_real(volume / scale).half()
                for name, volume in zip(("face", "rest"), volumes, strict=True)
            }
            save_tensors(path, tensors, {"seed": faces.seed, "subject": subject})
            yield subject


def scene_path(folder: Path, subject: int) -> Path:
    """Where a scene is."""
    return folder / f"{subject:05d}.safetensors"


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes of a folder by :func:`make_scenes`.

    Attributes
    ----------
    parameters : FaceParameters
        N faces in the model's own modes; displacements are not among them.
    face, rest : Tensor (N, z, y, x, 2), float16
        Complex volumes in units of the largest magnitude of each scene's face.
    grid : Grid
    """

    parameters: FaceParameters
    face: Tensor
    rest: Tensor
    grid: Grid

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        faces: TrainingFaces,
        model: MorphableModel,
        profile: Profile,
    ) -> Scenes:
        """Those scenes of ``faces`` that a folder has. Raises
        :class:`~radarbook.errors.InputError` if it has none, or those of another seed."""
        root, cast = Path(folder), Cast.of(model, faces)
        names = [name for name in faces.names() if scene_path(root, name[0]).exists()]
        if not names:
            raise InputError(f"{root}: expected scenes, found none")
        face, rest = [], []
        for name in names:
            tensors, header = load_tensors(scene_path(root, name[0]))
            if header.get("seed") != faces.seed:
                raise InputError(
                    f"{scene_path(root, name[0])}: expected a scene of seed {faces.seed}, found "
                    f"{header.get('seed')}"
                )
            face.append(tensors["face"])
            rest.append(tensors["rest"])
        truth = FaceParameters.cat([faces.face(cast, *name) for name in names])
        own = truth.replace(shape=truth.shape[:, : cast.own])
        return cls(own, torch.stack(face), torch.stack(rest), Grid.for_profile(profile))

    def __len__(self) -> int:
        return len(self.parameters)

    def part(self, chosen: Tensor) -> Scenes:
        """The scenes ``chosen`` (n,), int64 or bool."""
        return replace(
            self,
            parameters=self.parameters[chosen],
            face=self.face[chosen],
            rest=self.rest[chosen],
        )

    def bare(self) -> RadarImage:
        """Images (N, H, W) of the faces alone, with their brows and the hair on them."""
        return self._images(torch.arange(len(self)), None, torch.zeros(len(self)))

    def whole(self) -> RadarImage:
        """Images (N, H, W) of the scenes as they are."""
        every = torch.arange(len(self))
        return self._images(every, every, torch.ones(len(self), dtype=torch.complex64))

    def mixed(self, count: int, generator: torch.Generator) -> tuple[FaceParameters, RadarImage]:
        """``count`` faces, each with what surrounds another person whose face is nearly there.

        The other one is among the eight whose translations are nearest, moved by whole pixels and
        planes to the face's own place. Its amplitude is changed by a normal factor of 2 dB and its
        phase is random.
        """
        place = self.parameters.translation
        first = torch.randint(len(self), (count,), generator=generator)
        near = torch.cdist(place, place).argsort(dim=1)[:, : min(8, len(self))]
        pick = torch.randint(near.shape[1], (count,), generator=generator)
        second = near[first, pick]
        factor = torch.polar(
            10 ** (torch.randn(count, generator=generator) * 2.0 / 20),
            2 * torch.pi * torch.rand(count, generator=generator),
        )
        return self.parameters[first], self._images(first, second, factor)

    def around(
        self, faces: FaceParameters, images: RadarImage, generator: torch.Generator
    ) -> tuple[FaceParameters, RadarImage]:
        """Faces (B) and their bare images, each with what surrounds some scene's person.

        Faces are moved to that person's place, to whole pixels. In each pixel the stronger of the
        two is seen, as phases of such images are not known. The other's level is changed by a
        normal factor of 2 dB.
        """
        pick = torch.randint(len(self), (len(faces),), generator=generator)
        level = 2.0 * torch.randn(len(faces), generator=generator)
        volumes = torch.view_as_complex(self.rest[pick].float())
        peaks = 20 * volumes.abs().amax((1, 2, 3)).log10()
        rest = image_from_volume(volumes, self.grid, 2 * DEEP_DB).to(dtype=torch.float32)
        surround = rest.amplitude_db + (peaks + level)[:, None, None]
        step = float(self.grid.x[1] - self.grid.x[0])
        way = self.parameters.translation[pick] - faces.translation
        way = torch.cat([step * (way[:, :2] / step).round(), way[:, 2:]], dim=1)
        pixels = (way[:, :2] / step).round().long().tolist()
        face = images.amplitude_db.clone(), images.depth.clone()
        for n, (x, y) in enumerate(pixels):
            for plane in face:
                plane[n] = shifted(plane[n], [y, x])
        own, depth = face[0], face[1] + way[:, 2, None, None]
        nearer = own >= surround
        amplitude = torch.where(nearer, own, surround)
        amplitude = amplitude - amplitude.amax((1, 2), keepdim=True)
        floor = torch.full_like(level, DEEP_DB)
        return faces.replace(translation=faces.translation + way), replace(
            images,
            amplitude_db=amplitude.clamp(min=DEEP_DB),
            depth=torch.where(nearer, depth, rest.depth),
            mask=amplitude > DEEP_DB,
            dynamic_range_db=floor,
        )

    def _images(self, first: Tensor, second: Tensor | None, factor: Tensor) -> RadarImage:
        """Images of faces ``first`` with the rest of ``second`` times ``factor``."""
        steps = torch.stack([axis[1] - axis[0] for axis in (self.grid.z, self.grid.y, self.grid.x)])
        found = []
        for n, one in enumerate(first.tolist()):
            volume = torch.view_as_complex(self.face[one].float())
            if second is not None:
                other = int(second[n])
                way = self.parameters.translation[one] - self.parameters.translation[other]
                shift = (way.flip(0).double() / steps).round().long().tolist()
                rest = torch.view_as_complex(self.rest[other].float())
                volume = volume + factor[n] * shifted(rest, shift)
            found.append(image_from_volume(volume, self.grid, DEEP_DB))
        return joined(found).to(dtype=torch.float32)


def shifted(volume: Tensor, steps: Sequence[int]) -> Tensor:
    """A volume moved by whole steps along its axes; what enters repeats the border.

    Examples
    --------
    >>> shifted(torch.tensor([1, 2, 3]), [1]).tolist()
    [1, 1, 2]
    """
    for axis, step in enumerate(steps):
        size = volume.shape[axis]
        volume = volume.index_select(axis, (torch.arange(size) - step).clamp(0, size - 1))
    return volume
