"""Faces from many recordings: each fitted by itself, once, whatever happens, on any number of
workers.

A recording is the unit of work: its result is whole in the folder, or absent. Running the same
command again keeps every result of the same recording, options and code, and makes the others.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from radarbook.batch.faces import Files, FittedFace, Made
from radarbook.cluster import on_cluster, require_code, require_workers
from radarbook.datasets.recordings import Recording, find_recordings, read_recording
from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.files import digest, disk_errors, explain, source_digest
from radarbook.fitting.checkpoint import tensor_digest
from radarbook.fitting.reconstruction import reconstruct
from radarbook.fitting.schedule import Level
from radarbook.hdf5 import has_hdf5_suffix
from radarbook.locks import hold
from radarbook.progress import Progress
from radarbook.reports.pictures import fit_pictures
from radarbook.threads import alone

#: The source whose change may change a result.
CODE = ("faces", "radar", "fitting", "seeds", "batch/faces")
#: Options of a fit, without those that are set here.
_OPTIONS = sorted(
    set(inspect.signature(reconstruct).parameters)
    - {"recording", "model", "progress", "state_file"}
)

Read = Callable[[Path], Recording]


@dataclass(frozen=True)
class FolderReport:
    """What a run of :func:`reconstruct_folder` left.

    Attributes
    ----------
    folder : Path
    faces : dict of FittedFace by name
        Of every recording that was fitted, now or before, in the order of the recordings.
    paths : dict of Path by name
        The recordings.
    skipped : dict of str by path
        Why a recording could not be read or fitted, in one line.
    made, kept : int
        Fits of this run, and those that were there already.
    seconds : float
        Wall clock.
    """

    folder: Path
    faces: Mapping[str, FittedFace]
    paths: Mapping[str, Path]
    skipped: Mapping[Path, str]
    made: int
    kept: int
    seconds: float

    @property
    def accepted(self) -> int:
        """Number of accepted faces."""
        return sum(face.accepted for face in self.faces.values())

    def files(self, name: str) -> Files:
        """Where the result of one recording is."""
        return Files(self.folder, name)


def recordings_in(folder: str | os.PathLike[str]) -> list[Path]:
    """Paths below ``folder`` that are recordings or damaged ones, in order: those of
    :func:`~radarbook.datasets.recordings.find_recordings`, and HDF5 files that cannot be opened.

    Examples
    --------
    >>> import numpy as np
    >>> Path("day").mkdir()
    >>> for name in ("b", "a"):
    ...     np.save(f"day/{name}.npy", np.ones((94, 94, 128), np.complex64))
    >>> [path.name for path in recordings_in("day")]
    ['a.npy', 'b.npy']
    """
    found = {file.path for file in find_recordings(folder)}
    for where, _, names in os.walk(folder):
        paths = (Path(where) / name for name in names)
        found |= {path for path in paths if has_hdf5_suffix(path) and _damaged(path)}
    return sorted(found)


def _damaged(path: Path) -> bool:
    import h5py

    return not h5py.is_hdf5(path)


def reconstruct_folder(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: MorphableModel,
    output: str | os.PathLike[str],
    *,
    read: Read = read_recording,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
    skipping: Callable[[str], None] | None = None,
    **options: Any,
) -> FolderReport:
    """Fit each of many recordings by itself, and keep the results in a folder.

    Of each recording the folder has ``NAME.ply`` (mm, model frame; with the deviation of each
    vertex if it is stated), ``NAME.json`` (:class:`~radarbook.batch.faces.FittedFace`) and two
    pictures. A fit that was killed resumes from its state, which is kept there, too.
    :func:`~radarbook.batch.page.write_report` makes a table and a page of all.

    Parameters
    ----------
    source : path or sequence of paths
        Recordings, or folders of them (:func:`recordings_in`).
    model : MorphableModel
        Whose faces are fitted.
    output : path
        A new folder, or one of an earlier run.
    read : callable
        Reads one recording; :func:`~radarbook.datasets.recordings.read_recording` by default.
    workers : int, optional
        Start this many local processes, among which the threads of this one are divided. None or
        0: fit in this process.
    scheduler : str, optional
        Address of a running dask scheduler, whose workers need this library. Their fits are not
        resumed within a recording.
    progress : bool
    skipping : callable, optional
        Called with one line for each recording that is skipped.
    options
        Of :func:`~radarbook.fitting.reconstruction.reconstruct`.

    A recording that cannot be read, or is refused by the fit, is skipped and named. A result is
    kept if recording, model, options and code are the same; another one is replaced once its new
    fit is finished.

    Raises :class:`~radarbook.errors.InputError` for an unknown option, for no recording at all,
    for a folder in use and a full disk, and as :func:`~radarbook.cluster.on_cluster`.

    Examples
    --------
    A recording of the mean face, a fit that is stopped before its first step, and one of a file
    that is none.

    >>> import numpy as np
    >>> import radarbook as rb
    >>> from radarbook.fitting.schedule import SCHEDULE
    >>> model = rb.load_model()
    >>> face = rb.to_radar(model, rb.FaceParameters.neutral(1), 0.30)[0]
    >>> signal = rb.simulate(face, model.triangles, rb.qar50(), rb.qar50_waveform(128))
    >>> Path("night").mkdir()
    >>> np.save("night/first.npy", signal.numpy())
    >>> np.save("night/wrong.npy", signal[0].numpy())
    >>> report = reconstruct_folder(
    ...     "night", model, "faces", steps=0, schedule=SCHEDULE[-1:], progress=False
    ... )
    >>> list(report.faces), report.accepted, [path.name for path in report.skipped]
    (['first'], 0, ['wrong.npy'])
    """
    began = time.perf_counter()
    require_workers(workers, scheduler)
    for name in options:
        if name not in _OPTIONS:
            raise InputError(f"options: expected some of {', '.join(_OPTIONS)}, found '{name}'")
    folder = Path(output)
    named = _named(source)
    if not named:
        raise InputError(f"{source}: expected recordings, found none")
    work = _Work(folder, model, options, read, skipping or (lambda line: None))
    advice = "finished fits are kept, run the same command again when there is space"
    with disk_errors(folder, advice), hold(folder):
        for name, path in Progress(list(named.items()), "read", "recording", shown=progress):
            work.look_at(name, path)
        kept, waiting = len(work.faces), dict(work.waiting)
        shown = Progress(kept + len(waiting), "reconstruct", "recording", shown=progress, done=kept)
        results = _fits(work, waiting, workers, scheduler)
        # Closed at once, also when this process is interrupted: it may hold workers.
        with closing(results), shown as bar:
            for name, made in results:
                work.keep(name, made)
                bar.update()
    order = [name for name in named if name in work.faces]
    return FolderReport(
        folder=folder,
        faces={name: work.faces[name] for name in order},
        paths=named,
        skipped=work.skipped,
        made=len(order) - kept,
        kept=kept,
        seconds=time.perf_counter() - began,
    )


@dataclass
class _Work:
    """The recordings of one run: which are finished, which wait, which are skipped."""

    folder: Path
    model: MorphableModel
    options: Mapping[str, Any]
    read: Read
    say: Callable[[str], None]
    faces: dict[str, FittedFace] = field(default_factory=dict)
    waiting: dict[str, Path] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    skipped: dict[Path, str] = field(default_factory=dict)

    def look_at(self, name: str, path: Path) -> None:
        """Read a recording, and keep its result if there is one."""
        recording = self.recording(name, path)
        if recording is None:
            return
        kept = Files(self.folder, name).read()
        limit = self.options.get("steps")
        if kept is not None and kept.get("key") == self.keys[name]:
            face = kept["face"]
            if not face.stopped or kept.get("limit") == limit:
                self.faces[name] = face
                return
        self.waiting[name] = path

    def recording(self, name: str, path: Path) -> Recording | None:
        """One recording; None, and skipped, if it cannot be read."""
        try:
            recording = self.read(path)
        except (InputError, OSError) as error:
            self.skip(path, explain(error) if isinstance(error, OSError) else str(error))
            return None
        self.keys[name] = fit_key(recording, self.model, self.options)
        return recording

    def skip(self, path: Path, why: str) -> None:
        line = " ".join(why.split())
        self.skipped[path] = line
        self.say(line if str(path) in line else f"{path}: {line}")

    def keep(self, name: str, made: Made | str) -> None:
        """Write a result; of a refused recording, the line that says why."""
        path = self.waiting.pop(name)
        if isinstance(made, str):
            self.skip(path, made)
            return
        files = Files(self.folder, name)
        about = {"key": self.keys[name], "limit": self.options.get("steps"), "path": str(path)}
        files.write(made, self.model, about)
        self.faces[name] = made.face
        if not made.face.stopped:
            files.forget_states()


def _named(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> dict[str, Path]:
    """Recordings by the names of their results: the path below a given folder, or a file's own
    name, with as much before and after it as makes them differ."""
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    found: list[tuple[Path, Path]] = []
    for one in map(Path, given):
        if one.is_dir() and (inside := recordings_in(one)):
            found += [(path, path.relative_to(one)) for path in inside]
        else:
            found.append((one, Path(one.name)))
    found = list(dict.fromkeys(found))
    for long in (
        lambda path, short: short.with_suffix("").parts,
        lambda path, short: short.parts,
        lambda path, short: path.resolve().parts[1:],
    ):
        names = ["_".join(long(path, short)) for path, short in found]
        if len({name.casefold() for name in names}) == len(names):
            break
    return dict(zip(names, (path for path, _ in found), strict=True))


def fit_key(recording: Recording, model: MorphableModel, options: Mapping[str, Any]) -> str:
    """Digest of what decides the result of a fit, but for its limit of steps: samples, antennas,
    frequencies, model, options and code."""
    array = recording.array
    tensors = [recording.signal, array.tx, array.rx, recording.waveform.frequencies]
    tensors += [array.rotation, array.origin]
    if array.pairs is not None:
        tensors.append(array.pairs)
    return digest(
        {
            "recording": tensor_digest(*tensors),
            "model": model.fingerprint,
            "options": {k: _described(v) for k, v in options.items() if k != "steps"},
            "code": source_digest(*CODE),
        }
    )


def _described(value: Any) -> Any:
    """An option of a fit, JSON-able."""
    if isinstance(value, FaceParameters):
        return tensor_digest(value.normalised())
    if isinstance(value, tuple) and all(isinstance(one, Level) for one in value):
        return [str(level.description()) for level in value]
    return repr(value)


def _fits(
    work: _Work,
    waiting: Mapping[str, Path],
    workers: int | None,
    scheduler: str | None,
) -> Generator[tuple[str, Made | str]]:
    """The fits of all that wait, as they finish."""
    # A scheduler's workers may do several tasks at a time.
    threads = 1 if scheduler else max(1, torch.get_num_threads() // workers) if workers else None
    resumes = not (work.options.get("fit_delay") or work.options.get("thickest") or scheduler)

    def tasks() -> Iterable[tuple[str, tuple[Any, ...]]]:
        for name, path in waiting.items():
            recording = work.recording(name, path)
            if recording is None:  # since it was read first
                continue
            state = Files(work.folder, name).state(work.keys[name]) if resumes else None
            yield name, (recording, work.model, dict(work.options), state, threads, _code())

    if waiting and (workers or scheduler):
        yield from on_cluster(
            fit_one,
            tasks(),
            lambda name: f"recording {waiting[name]}",
            workers=workers,
            scheduler=scheduler,
            finished="fits",
        )
        return
    for name, arguments in tasks():
        yield name, fit_one(*arguments)


def _code() -> str:
    return source_digest(*CODE)


def fit_one(
    recording: Recording,
    model: MorphableModel,
    options: Mapping[str, Any],
    state: Path | None,
    threads: int | None,
    code: str,
) -> Made | str:
    """One task, in this process or in a worker: what is kept of a fit, or why it was refused."""
    require_code(code, _code())
    with nullcontext() if threads is None else alone(divided=threads):
        try:
            result = reconstruct(recording, model, state_file=state, **options)
        except InputError as error:
            return str(error)
        if result.fit.reason == "interrupted":
            raise KeyboardInterrupt
        if result.verdict.unlike is not None:
            return result.reason
        deviation = result.vertex_deviation()
        distance = float(options.get("distance", 0.30))
        shown = fit_pictures(recording, model, result.parameters, distance, deviation)
    return Made(
        FittedFace.of(result),
        result.vertices().numpy(),
        None if deviation is None else deviation.numpy(),
        shown,
    )
