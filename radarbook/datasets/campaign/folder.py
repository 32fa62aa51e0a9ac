"""A campaign's folder: made once, extended, resumed.

``campaign.json`` says what the takes are of, ``takes`` holds one recording for each in the
project's own layout, and ``images`` one image for each, of the size that the shipped networks take
and deep enough for a gate (:data:`~radarbook.radar.face_gate.DEEP_DB`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from radarbook.datasets.campaign.plan import Campaign, Cast
from radarbook.datasets.campaign.scene import record, subject_name
from radarbook.datasets.recordings import Recording, write_recording
from radarbook.errors import InputError, StoppedError
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import differences, disk_errors, source_digest, write_json
from radarbook.locks import hold
from radarbook.processes import (
    children_end_when_interrupted,
    children_ignore_interrupts,
    exit_when_terminated,
)
from radarbook.profiles import Profile, get_profile
from radarbook.progress import Progress
from radarbook.radar.face_gate import DEEP_DB
from radarbook.radar.image import RadarImage, image_from_volume, load_image, save_image
from radarbook.radar.imaging import Grid, back_project
from radarbook.threads import alone

ABOUT = "campaign.json"
#: The source whose change changes a take.
CODE = ("faces", "radar", "seeds", "datasets/imperfections", "datasets/campaign/scene")
#: A take: (subject, expression, take), numbers from 0.
Name = tuple[int, str, int]


@dataclass(frozen=True)
class Made:
    """What :func:`make` did."""

    folder: Path
    made: int
    kept: int
    seconds: float


def file_name(name: Name) -> str:
    """``S01_smile_1`` for the first take of the first subject's smile."""
    subject, expression, take = name
    return f"{subject_name(subject)}_{expression.replace(' ', '-')}_{take + 1}"


def take_image(recording: Recording, profile: Profile) -> RadarImage:
    """The image (1, H, W) of a recording on the grid of a profile's networks, float32.

    It is deep enough for a gate; :func:`~radarbook.radar.face_gate.seen_by_networks` clips it.
    """
    grid = Grid.for_profile(profile)
    with torch.no_grad():
        volume = back_project(recording.signal, recording.array, recording.waveform, grid)
    return image_from_volume(volume, grid, DEEP_DB).to(dtype=torch.float32)


def make(
    folder: str | os.PathLike[str],
    campaign: Campaign,
    model: str = "procedural",
    *,
    workers: int | None = None,
    wait_for_others: bool = False,
    progress: bool = True,
) -> Made:
    """Make a campaign, finish it, or extend it by subjects or takes.

    Parameters
    ----------
    folder : path
        A new folder, or one begun with the same settings.
    campaign : Campaign
    model : str
        A face model's name or path, as for :func:`~radarbook.faces.load.load_model`; all of its
        modes are used.
    workers : int, optional
        Local processes of one thread each; None or 0: this process, on one thread.
    wait_for_others, progress : bool
        Wait while another run holds the folder; show a progress bar.

    A take is written whole or not at all, image last; a run that was stopped goes on with the
    first that is missing. Raises :class:`~radarbook.errors.InputError` if the folder holds a
    campaign of other settings, of another model or begun with other code.
    """
    begin = time.perf_counter()
    root = Path(folder)
    spec = model if model == "procedural" else str(Path(model).resolve())
    about = {
        "campaign": campaign.settings(),
        "model": spec,
        "model_fingerprint": load_model(spec, *all_modes(spec)).fingerprint,
        "code": source_digest(*CODE),
        "image_db": DEEP_DB,
    }
    kept = "finished takes are kept, run the same command again when there is space"
    with disk_errors(root, kept), hold(root, wait_for_others):
        _check(root, about)
        for part in ("takes", "images"):
            (root / part).mkdir(exist_ok=True)
            for leftover in (root / part).glob(".*.h5*"):
                leftover.unlink(missing_ok=True)
        write_json(root / ABOUT, about | {"subjects": campaign.subjects, "takes": campaign.takes})
        names = list(campaign.names())
        missing = [name for name in names if not image_path(root, name).exists()]
        done = _all(root, campaign, spec, missing, workers)
        bar = Progress(
            len(names), "campaign", "take", shown=progress, done=len(names) - len(missing)
        )
        with closing(done), bar:
            for _ in done:
                bar.update()
    seconds = time.perf_counter() - begin
    return Made(root, len(missing), len(names) - len(missing), seconds)


def take_path(folder: Path, name: Name) -> Path:
    """Where a take's recording is."""
    return folder / "takes" / f"{file_name(name)}.h5"


def image_path(folder: Path, name: Name) -> Path:
    """Where a take's image is."""
    return folder / "images" / f"{file_name(name)}.h5"


def all_modes(spec: str) -> tuple[int | None, int | None]:
    """All shape and expression modes of a model's name or path."""
    from radarbook.faces.load import held_modes

    return held_modes(spec)


@dataclass(frozen=True)
class Takes:
    """Images and truth of the takes of a campaign, in the order of :meth:`Campaign.names`.

    Attributes
    ----------
    names : list of (subject, expression, take)
    images : RadarImage (B, H, W)
    truth : FaceParameters
        Of the whole cast: displacements are shape coefficients after the model's own.
    cast : Cast
    """

    names: list[Name]
    images: RadarImage
    truth: FaceParameters
    cast: Cast


def read(folder: str | os.PathLike[str], campaign: Campaign) -> Takes:
    """The takes of a folder by :func:`make`.

    Raises :class:`~radarbook.errors.InputError` if it is of another campaign or incomplete.
    """
    root = Path(folder)
    if not (root / ABOUT).is_file():
        raise InputError(f"{root}: expected a campaign's folder, found no {ABOUT} in it")
    about = json.loads((root / ABOUT).read_text(encoding="utf-8"))
    _same(root, {"campaign": campaign.settings(), "image_db": DEEP_DB}, about)
    names = list(campaign.names())
    absent = [file_name(name) for name in names if not image_path(root, name).exists()]
    if absent:
        raise InputError(
            f"{root}: {len(absent)} of {len(names)} takes are missing, the first {absent[0]}: "
            "the command that made the folder goes on"
        )
    cast = _cast(about["model"], campaign)
    truth = FaceParameters.cat([campaign.face(cast, *name) for name in names])
    return Takes(names, joined([load_image(image_path(root, n)) for n in names]), truth, cast)


def joined(images: Sequence[RadarImage]) -> RadarImage:
    """Images on one grid as one batch."""
    return RadarImage(
        amplitude_db=torch.cat([one.amplitude_db for one in images]),
        depth=torch.cat([one.depth for one in images]),
        mask=torch.cat([one.mask for one in images]),
        x=images[0].x,
        y=images[0].y,
        dynamic_range_db=torch.cat([one.dynamic_range_db for one in images]),
    )


def _check(root: Path, about: dict[str, Any]) -> None:
    """Refuse a folder that holds another campaign, naming every difference."""
    path = root / ABOUT
    if path.exists() and any((root / "images").glob("*.h5")):
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error})") from None
        _same(root, about, found)


def _same(root: Path, wanted: dict[str, Any], found: dict[str, Any]) -> None:
    others = [
        f"{name} is {there} there, {asked} asked"
        for name, asked, there in differences(wanted, {key: found.get(key) for key in wanted})
    ]
    if others:
        raise InputError(f"{root}: made with other settings: {'; '.join(others)} (use a new one)")


def _all(
    root: Path, campaign: Campaign, spec: str, names: Sequence[Name], workers: int | None
) -> Generator[Name]:
    """The names of takes, each when it is written."""
    if not workers or not names:
        for name in names:
            yield _one(root, campaign, spec, name)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(names)), get_context("spawn"), initializer=exit_when_terminated
    )
    with pool, children_end_when_interrupted():
        try:
            waiting = iter(names)
            running: set[Future[Name]] = set()
            while True:
                for name in waiting:
                    with children_ignore_interrupts():
                        running.add(pool.submit(_one, root, campaign, spec, name))
                    if len(running) > workers:
                        break
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        except BrokenProcessPool:
            raise StoppedError(
                f"{root}: a process was killed, often because memory ran out; finished takes are "
                "kept, the same command goes on, with fewer workers if memory is short"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one(root: Path, campaign: Campaign, spec: str, name: Name) -> Name:
    """One take, recording first; the image says that it is finished."""
    with alone(divided=1):
        recording = record(campaign, _cast(spec, campaign), *name)
        write_recording(take_path(root, name), recording)
        save_image(image_path(root, name), take_image(recording, get_profile("laptop")))
    return name


@lru_cache(maxsize=2)
def _cast(spec: str, campaign: Campaign) -> Cast:
    model: MorphableModel = load_model(spec, *all_modes(spec))
    return Cast.of(model, campaign)
