"""Stages with fingerprinted artefacts: ask for one, get it from disk or have it computed.

A stage's folder carries the fingerprint of everything that made it: the profile's fields it
reads, the seed, the face model, the library's own source in the packages it uses, and the
fingerprints of the stages before it. What changes gets a new folder; what did not is read back.
A folder is complete when it holds ``artefact.json``, which is written last.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from radarbook.datasets.distribution import SPLITS, Split
from radarbook.datasets.storage import FaceDataset
from radarbook.datasets.synthetic import generate_from_settings
from radarbook.datasets.workers import CODE
from radarbook.errors import InputError, StoppedError
from radarbook.evaluation.metrics import baselines, evaluate
from radarbook.evaluation.rendering import evaluate_renderer
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.model import MorphableModel
from radarbook.files import digest, source_digest, write_json
from radarbook.processes import (
    children_end_when_interrupted,
    children_ignore_interrupts,
    exit_when_terminated,
)
from radarbook.profiles import Profile, get_profile, written_settings
from radarbook.provenance import usable_cores
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.reports.findings import from_results
from radarbook.reports.results import (
    MEAN_FACE,
    RANDOM_FACE,
    read_results,
    result_row,
    write_results,
)
from radarbook.training.checkpoints import load_autoencoder, load_encoder, load_renderer
from radarbook.training.loop import HISTORY, History, read_history
from radarbook.training.tasks import WEIGHTS, train_autoencoder, train_encoder, train_renderer


@dataclass(frozen=True)
class PipelineStage:
    """How one artefact is made: the packages, profile fields and artefacts it depends on."""

    packages: tuple[str, ...]
    fields: tuple[str, ...]
    prerequisites: tuple[str, ...]
    make: Callable[[Pipeline, str, Path], None]
    load: Callable[[Pipeline, str, Path], Any]


class Pipeline:
    """The stages from a face model to trained networks, one artefact per stage.

    Parameters
    ----------
    profile : str or Profile
        Name of a profile, or a profile with its overrides applied.
    model : str
        ``"procedural"`` or the path of a model file.
    output : path
        Folder of all results; artefacts go to ``output/artefacts``. Default ``build/PROFILE``.
    seed : int
        Seed of all random samples.
    overrides : mapping
        Profile fields by name, when ``profile`` is a name.
    """

    def __init__(
        self,
        profile: str | Profile = "smoke",
        model: str = "procedural",
        output: str | os.PathLike[str] | None = None,
        seed: int = 0,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(profile, str):
            profile = get_profile(profile, overrides)
        self._asked = profile
        self.model_spec = str(model)
        self.seed = seed
        self.output = Path(output) if output else Path("build") / profile.name
        self.artefacts = self.output / "artefacts"

    @cached_property
    def profile(self) -> Profile:
        """The profile, with no more coefficients than the face model holds modes."""
        return self._asked.for_modes(*held_modes(self.model_spec))

    @cached_property
    def model(self) -> MorphableModel:
        """The face model with as many modes as the profile asks for."""
        return load_model(self.model_spec, self.profile.n_shape, self.profile.n_expression)

    @cached_property
    def physical(self) -> PhysicalRenderer:
        """The physical renderer at the profile's grid and frequencies."""
        return PhysicalRenderer.for_profile(self.model, self.profile)

    def for_test_faces(self, profile: Profile, faces: int) -> Pipeline:
        """A pipeline with images of the first test faces of another profile.

        This one, if its images are the same and as many. Otherwise one in the same folder of
        results with ``faces`` test faces and hardly any others: test faces have the first sample
        numbers, so they do not depend on how many others there are.
        """
        same = all(getattr(self.profile, field) == getattr(profile, field) for field in GEOMETRY)
        if same and self.profile.test >= faces:
            return self
        few = profile.model_copy(update={"train": 1, "validation": 1, "test": faces})
        return Pipeline(few, self.model_spec, self.output, self.seed)

    def command(self, chapters: str) -> str:
        """The command that runs ``chapters`` (as in ``"3-5"``) as this pipeline would.

        With every setting that differs from the profile as it stands and that an artefact
        depends on. A face model's file is named without its folder, which is the reader's to
        choose.
        """
        fields = {field for stage in STAGES.values() for field in stage.fields}
        given: dict[str, Any] = {}
        if self.model_spec != "procedural":
            given["model"] = Path(self.model_spec).name
        if self.seed:
            given["seed"] = self.seed
        given |= {name: v for name, v in self._asked.overrides.items() if name in fields}
        words = f"radarbook run --profile {self._asked.name} --chapters {chapters}"
        return f"{words} {written_settings(given)}".strip()

    def names(self) -> list[str]:
        """Every artefact that :meth:`get` can be asked for at this profile."""
        names = []
        for key in STAGES:
            names += [f"{key}/{i}" for i in self.profile.inputs] if key in PER_INPUT else [key]
        return names

    def fingerprint(self, name: str) -> str:
        """What the artefact ``name`` depends on, as a short hexadecimal string."""
        stage, inputs = self._stage(name)
        return digest(
            {
                "stage": name,
                "profile": {field: getattr(self.profile, field) for field in stage.fields},
                "seed": self.seed,
                "model": self.model.fingerprint,
                "source": source_digest(*stage.packages),
                "prerequisites": [self.fingerprint(g) for g in self._prerequisites(stage, inputs)],
            }
        )

    def folder(self, name: str) -> Path:
        """Where the artefact lies once it is made."""
        return self.artefacts / f"{name.replace('/', '-')}-{self.fingerprint(name)[:10]}"

    def have(self, name: str) -> bool:
        """True if the artefact is on disk, complete and up to date."""
        return (self.folder(name) / "artefact.json").exists()

    def get(self, name: str) -> Any:
        """The artefact, computed first where it is missing (and so are its prerequisites).

        Raises :class:`InputError` naming the known artefacts for an unknown one.
        """
        stage, inputs = self._stage(name)
        folder = self.folder(name)
        if not self.have(name):
            for earlier in self._prerequisites(stage, inputs):
                self.get(earlier)
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if not self.have(name):  # another process may have made it while we waited
                    start = time.perf_counter()
                    stage.make(self, inputs, folder)
                    record = {
                        "artefact": name,
                        "fingerprint": self.fingerprint(name),
                        "seconds": round(time.perf_counter() - start, 2),
                        "seed": self.seed,
                        "model": self.model.name,
                        "profile": self.profile.model_dump(),
                    }
                    write_json(folder / "artefact.json", record)
        return stage.load(self, inputs, folder)

    def prepare(self, processes: int = 1) -> None:
        """Make every artefact that is missing, up to ``processes`` of them at once.

        Those that do not depend on one another are made by processes of their own: the networks of
        a profile each leave a large GPU, and most of a machine's cores, idle. The first error
        stops what has not begun and is raised.
        """
        waiting = [name for name in self.names() if not self.have(name)]
        if processes < 2:
            for name in waiting:
                self.get(name)
            return
        given = self.profile, self.model_spec, self.output, self.seed
        running: dict[Future[None], str] = {}
        threads = max(1, usable_cores() // processes)
        pool = ProcessPoolExecutor(
            processes, get_context("spawn"), initializer=_begin, initargs=(threads,)
        )
        with pool, children_end_when_interrupted():
            try:
                while waiting or running:
                    for name in [name for name in waiting if self._ready(name)]:
                        with children_ignore_interrupts():
                            running[pool.submit(_get, *given, name)] = name
                        waiting.remove(name)
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        name = running.pop(future)
                        try:
                            future.result()
                        except BrokenProcessPool:
                            raise StoppedError(
                                f"{name}: a process was killed, often because memory ran out; "
                                f"finished artefacts are kept in {self.artefacts}, the same "
                                "command goes on, with fewer processes if memory is short"
                            ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _ready(self, name: str) -> bool:
        return all(self.have(earlier) for earlier in self._prerequisites(*self._stage(name)))

    def record(self, name: str) -> dict[str, Any]:
        """The note of a made artefact: seconds it took, seed, profile, fingerprint."""
        return json.loads((self.folder(name) / "artefact.json").read_text())

    def history(self, name: str) -> History:
        """Losses over the epochs of a trained network, computed first where it is missing."""
        self.get(name)
        return read_history(self.folder(name) / HISTORY)

    def _stage(self, name: str) -> tuple[PipelineStage, str]:
        key, _, inputs = name.partition("/")
        if key not in STAGES or (bool(inputs) != (key in PER_INPUT)):
            raise InputError(
                f"unknown artefact '{name}': expected one of {', '.join(self.names())}"
            )
        if inputs and inputs not in ("amplitude", "depth", "both"):
            raise InputError(f"artefact '{name}': expected inputs amplitude, depth or both")
        return STAGES[key], inputs

    def _prerequisites(self, stage: PipelineStage, inputs: str) -> list[str]:
        """Names of the artefacts a stage depends on: for its own inputs, or for all of them."""
        names = []
        for key in stage.prerequisites:
            each = (inputs,) if inputs else self.profile.inputs
            names += [f"{key}/{i}" for i in each] if key in PER_INPUT else [key]
        return names


def _begin(threads: int) -> None:
    """What each process of :meth:`Pipeline.prepare` does first."""
    torch.set_num_threads(threads)
    exit_when_terminated()


def _get(profile: Profile, model: str, output: Path, seed: int, name: str) -> None:
    """One artefact, in a process of its own."""
    Pipeline(profile, model, output, seed).get(name)


# -- the stages ----------------------------------------------------------------------------------


def _make_dataset(pipeline: Pipeline, _: str, folder: Path) -> None:
    count = pipeline.profile.train + pipeline.profile.validation + pipeline.profile.test
    # Starting processes costs some seconds: not worth it for a handful of images.
    cores = usable_cores()
    where: dict[str, Any] = {"workers": cores if count >= 24 and cores > 1 else None}
    if torch.cuda.is_available():
        where = {"device": "cuda"}  # one process keeps it busy
    generate_from_settings(
        folder / "data",
        model=pipeline.model_spec,
        profile=pipeline.profile,
        seed=pipeline.seed,
        wait=True,
        **where,
    )


def _load_dataset(_: Pipeline, __: str, folder: Path) -> dict[Split, FaceDataset]:
    return {split: FaceDataset(folder / "data", split) for split in SPLITS}


def _train(train: Callable[..., Any], pipeline: Pipeline, folder: Path, *parts: Any) -> None:
    """A network trained on the pipeline's dataset; ``parts`` are what it needs besides."""
    data = pipeline.get("dataset")
    given = data["train"], data["validation"], pipeline.profile, *parts
    train(*given, folder, pipeline.seed, model=pipeline.model)


def _make_encoder(pipeline: Pipeline, inputs: str, folder: Path) -> None:
    _train(train_encoder, pipeline, folder, inputs)


def _make_renderer(pipeline: Pipeline, _: str, folder: Path) -> None:
    _train(train_renderer, pipeline, folder)


def _make_autoencoder(pipeline: Pipeline, inputs: str, folder: Path) -> None:
    networks = pipeline.get(f"encoder/{inputs}"), pipeline.get("renderer")
    _train(train_autoencoder, pipeline, folder, *networks)


def _make_baselines(pipeline: Pipeline, _: str, folder: Path) -> None:
    test = pipeline.get("dataset")["test"]
    write_json(folder / ERRORS, baselines(test, pipeline.model, seed=pipeline.seed))


def _make_errors(kind: str) -> Callable[[Pipeline, str, Path], None]:
    """Errors of an encoder or autoencoder on the test split."""

    def make(pipeline: Pipeline, inputs: str, folder: Path) -> None:
        test = pipeline.get("dataset")["test"]
        network = pipeline.get(f"{kind}/{inputs}")
        errors = evaluate(network, test, pipeline.model, seed=pipeline.seed)
        write_json(folder / ERRORS, errors)

    return make


def _make_renderer_errors(pipeline: Pipeline, _: str, folder: Path) -> None:
    test = pipeline.get("dataset")["test"]
    write_json(folder / ERRORS, evaluate_renderer(pipeline.get("renderer"), test))


def _make_results(pipeline: Pipeline, _: str, folder: Path) -> None:
    """Both baselines, and encoder and autoencoder for each input, on the test split."""
    profile = pipeline.profile
    common = {"profile": profile.name, "command": pipeline.command("3-5")}
    base = pipeline.get("baselines")
    rows = [
        result_row(MEAN_FACE, "–", base["mean"], seconds=None, **common),
        result_row(RANDOM_FACE, "–", base["random"], seconds=None, **common),
    ]
    for kind in ("encoder", "autoencoder"):
        for inputs in profile.inputs:
            summary = pipeline.get(f"{kind}-errors/{inputs}")
            seconds = pipeline.record(f"{kind}/{inputs}")["seconds"]
            rows.append(result_row(kind, inputs, summary, seconds=seconds, **common))
    about = {
        "model": pipeline.model.name,
        "seed": pipeline.seed,
        "split": "test",
        "training_faces": profile.train,
        "recipe": profile.recipe,
        "networks": {"encoder": profile.encoder, "renderer": profile.decoder},
        "epochs": {kind: getattr(profile, f"{kind}_epochs") for kind in KINDS},
        "dataset": {"seconds": pipeline.record("dataset")["seconds"]},
        "renderer": pipeline.get("renderer-errors")
        | {"seconds": pipeline.record("renderer")["seconds"]},
        "findings": from_results(rows),
    }
    write_results(folder / "results.json", rows, about)


def _read_errors(_: Pipeline, __: str, folder: Path) -> dict[str, Any]:
    return json.loads((folder / ERRORS).read_text(encoding="utf-8"))


def _weights(load: Callable[[Path], Any]) -> Callable[[Pipeline, str, Path], Any]:
    return lambda _, __, folder: load(folder / WEIGHTS)


GEOMETRY = (
    "n_shape",
    "n_expression",
    "distance",
    "extent",
    "pixels",
    "depth_start",
    "depth_stop",
    "depth_planes",
    "frequencies",
)
LEARNING = ("networks", "training")

#: Every artefact, in the order in which they are made. ``dataset`` gives ``{split: FaceDataset}``,
#: ``results`` the rows of the table, ``baselines`` and ``…-errors`` summaries of errors on the test
#: split, the others a network in evaluation mode on the CPU.
STAGES: dict[str, PipelineStage] = {
    "dataset": PipelineStage(
        CODE, (*GEOMETRY, "train", "validation", "test"), (), _make_dataset, _load_dataset
    ),
    "encoder": PipelineStage(
        LEARNING,
        ("encoder", "recipe", "encoder_epochs", "encoder_batch", "encoder_rate", "vertex_weight"),
        ("dataset",),
        _make_encoder,
        _weights(load_encoder),
    ),
    "renderer": PipelineStage(
        LEARNING,
        ("decoder", "recipe", "renderer_epochs", "renderer_batch", "renderer_rate"),
        ("dataset",),
        _make_renderer,
        _weights(load_renderer),
    ),
    "autoencoder": PipelineStage(
        LEARNING,
        (
            "autoencoder_epochs",
            "autoencoder_batch",
            "autoencoder_rate",
            "parameter_weight",
            "imagined",
        ),
        ("encoder", "renderer"),
        _make_autoencoder,
        _weights(load_autoencoder),
    ),
    "baselines": PipelineStage(("evaluation",), (), ("dataset",), _make_baselines, _read_errors),
    "encoder-errors": PipelineStage(
        ("evaluation",), (), ("encoder",), _make_errors("encoder"), _read_errors
    ),
    "renderer-errors": PipelineStage(
        ("evaluation",), (), ("renderer",), _make_renderer_errors, _read_errors
    ),
    "autoencoder-errors": PipelineStage(
        ("evaluation",), (), ("autoencoder",), _make_errors("autoencoder"), _read_errors
    ),
    "results": PipelineStage(
        ("evaluation", "reports"),
        ("inputs",),
        ("baselines", "encoder-errors", "renderer-errors", "autoencoder-errors"),
        _make_results,
        lambda _, __, folder: read_results(folder / "results.json")[0],
    ),
}
#: Stages of which there is one for each of the profile's ``inputs``: "encoder/both", …
PER_INPUT = ("encoder", "autoencoder", "encoder-errors", "autoencoder-errors")
#: The file of a summary of errors.
ERRORS = "errors.json"
#: The networks, in the order in which they are trained.
KINDS = ("encoder", "renderer", "autoencoder")
