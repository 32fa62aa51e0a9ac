"""One training loop for every network, over Lightning Fabric.

Nothing that decides the course of training lives only in memory: each epoch starts its own named
random streams (order of the samples, augmentation, dropout), the learning rate is a function of
the step, and weights, optimizer, best weights, history and epoch are in the checkpoint. So a run
that is stopped, or killed, and started again ends in the same bits on the CPU as one that was not.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

import torch
from torch import Tensor, nn

from radarbook.errors import InputError, StoppedError
from radarbook.files import disk_errors, write_text
from radarbook.progress import Progress
from radarbook.seeds import stream_key, torch_stream
from radarbook.training.checkpoints import (
    check_identity,
    load_tensors,
    not_finite,
    pack_optimizer,
    save_tensors,
    unpack_optimizer,
)

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.csv"


class DivergedError(StoppedError):
    """A loss, gradient, weight or validation error became infinite or NaN.

    The message names the epoch, the learning rate and, where it is known, the batch.
    """


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch : int
        Over all processes together; the batch is shared among them.
    rate : float
        The largest learning rate.
    schedule : {"one-cycle", "linear", "constant"}
        ``one-cycle`` rises over the first fifth and falls along a cosine to nothing; ``linear``
        falls to a tenth over the first three quarters and stays there (the paper's 0.01 to 0.001
        over 150 of 200 epochs); ``constant`` is the paper's for renderer and autoencoder.
    optimizer : {"adamw", "adam"}
    weight_decay : float
    clip : float or None
        Largest norm of the gradient.
    patience : int or None
        Stop after so many epochs without a better validation. The best epoch's weights are kept
        in any case.
    seed : int
    """

    epochs: int
    batch: int
    rate: float
    schedule: Literal["one-cycle", "linear", "constant"] = "one-cycle"
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.02
    clip: float | None = 1.0
    patience: int | None = None
    seed: int = 0


class Task(Protocol):
    """What the loop is told about a network's training."""

    name: str
    samples: int

    def loss(
        self, model: nn.Module, indices: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The losses of a batch by name; ``"loss"`` is the one that is minimised."""
        ...

    def validate(self, model: nn.Module) -> float:
        """The validation error, in evaluation mode without gradients."""
        ...


class Stops(TypedDict, total=False):
    """When a run stops before its end, and how often it could: what :func:`run` takes of these.

    Attributes
    ----------
    stop_after : int or None
        Stop, resumable, once so many epochs are done in all.
    minutes : float or None
        Stop, resumable, at the end of the epoch that passes this time.
    checkpoint_seconds : float
        A checkpoint is written at the end of an epoch if the last is older than this, and
        whenever the run stops.
    """

    stop_after: int | None
    minutes: float | None
    checkpoint_seconds: float


@dataclass
class History:
    """What happened, epoch by epoch: one row each (epoch, rate, losses, validation, seconds)."""

    rows: list[dict[str, float]] = field(default_factory=list)
    finished: bool = False

    def column(self, name: str) -> list[float]:
        """One quantity over the epochs."""
        return [row[name] for row in self.rows]

    @property
    def best(self) -> dict[str, float]:
        """The row of the epoch whose weights were kept."""
        return min(self.rows, key=lambda row: row["validation"])

    def write_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the rows as CSV, atomically."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(path, text.getvalue())


def read_history(path: str | os.PathLike[str]) -> History:
    """The history written next to a checkpoint."""
    with open(path, newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return History(rows, finished=True)


def rate_at(settings: Settings, step: int, steps: int) -> float:
    """The learning rate of optimizer step ``step`` of ``steps`` in all."""
    done = step / steps
    if settings.schedule == "linear":
        return settings.rate * (1 - 0.9 * min(1.0, done / 0.75))
    if settings.schedule == "constant":
        return settings.rate
    rise = 0.2
    if done < rise:
        return settings.rate * (0.04 + 0.96 * done / rise)
    return settings.rate * (0.5 + 0.5 * math.cos(math.pi * (done - rise) / (1 - rise)))


def make_fabric(device: str = "auto", precision: str | None = None) -> Any:
    """A launched Lightning Fabric: this device, or, under ``torchrun``, this process's share.

    ``precision`` defaults to bfloat16 mixed where the device has instructions for it (CUDA, a
    processor with AVX-512 BF16) and to float32 elsewhere.
    """
    from lightning_fabric import Fabric  # seconds to import, so only when used

    # It would announce the precision in the middle of a chapter.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    accelerator = device
    if device == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator not in ("cpu", "cuda"):
        raise InputError(f"device: expected auto, cpu or cuda, found '{device}'")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected a CUDA device, found none")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(1, processes // local),
        strategy="ddp" if processes > 1 else "auto",
        precision=precision or ("bf16-mixed" if has_bfloat16(accelerator) else "32-true"),  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def has_bfloat16(accelerator: str) -> bool:
    """True if ``cpu`` or ``cuda`` multiplies bfloat16 in hardware."""
    if accelerator == "cuda":
        return True
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def run(
    model: nn.Module,
    task: Task,
    settings: Settings,
    folder: str | os.PathLike[str],
    identity: Mapping[str, Any],
    *,
    fabric: Any = None,
    stop_after: int | None = None,
    minutes: float | None = None,
    checkpoint_seconds: float = 30.0,
) -> History:
    """Train ``model`` in place to its best validation; go on from ``folder``'s checkpoint.

    Parameters
    ----------
    identity : mapping
        JSON-able: architecture and dataset. A checkpoint of another one, or of other settings,
        raises :class:`InputError` with the difference.
    stop_after, minutes, checkpoint_seconds
        As in :class:`Stops`.

    On return the model carries the best epoch's weights if ``history.finished``, else the last
    epoch's. Raises :class:`DivergedError` as soon as a loss, gradient, weight or validation error
    is not finite; the last checkpoint stays as it is. Raises :class:`InputError` for a damaged
    checkpoint, and where another process trains in the same folder.
    """
    fabric = fabric or make_fabric()
    # Under torchrun every process reads the same checkpoint; the first alone writes.
    path = Path(folder) / CHECKPOINT
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [p for p in model.parameters() if p.requires_grad]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    decay = {"weight_decay": settings.weight_decay} if settings.optimizer == "adamw" else {}
    optimizer = kinds[settings.optimizer](trained, lr=settings.rate, **decay)
    wrapped, stepper = fabric.setup(model, optimizer)
    described = dict(identity) | {"settings": asdict(settings)}

    history = History()
    best: dict[str, Tensor] = {}
    if path.exists():
        history, best = _resume(path, described, model, optimizer, trained)
    if history.finished:
        model.load_state_dict(best)
        return history

    per_epoch = _batches(task.samples, settings.batch, fabric.world_size)
    started = saved = time.monotonic()
    shown = fabric.global_rank == 0
    begun = len(history.rows)
    with Progress(settings.epochs, task.name, "epoch", shown=shown, done=begun) as bar:
        for epoch in range(begun, settings.epochs):
            with _short_products(fabric.device):
                row = _epoch(
                    wrapped, model, stepper, trained, task, settings, fabric, epoch, per_epoch
                )
            _check_epoch(fabric, task, model, row)
            history.rows.append(row)
            if history.best is row:
                best = {name: value.detach().clone() for name, value in model.state_dict().items()}
            waited = epoch + 1 - int(history.best["epoch"])
            exhausted = settings.patience is not None and waited >= settings.patience
            history.finished = exhausted or epoch + 1 == settings.epochs
            paused = (stop_after is not None and epoch + 1 >= stop_after) or (
                minutes is not None and time.monotonic() - started > 60 * minutes
            )
            # One process's clock decides for all, or some would wait for others that have stopped.
            paused = fabric.broadcast(paused)
            stop = history.finished or paused
            if fabric.global_rank == 0 and (stop or time.monotonic() - saved >= checkpoint_seconds):
                with disk_errors(folder, _advice(path)):
                    _save(path, described, model, optimizer, best, history)
                    history.write_csv(Path(folder) / HISTORY)
                saved = time.monotonic()
            bar.note(**{k: f"{v:.4g}" for k, v in row.items() if k in ("loss", "validation")})
            bar.update()
            if stop:
                break
    if history.finished:
        # Batch statistics are each process's own: all go on with the first one's.
        model.load_state_dict(fabric.broadcast(best))
    return history


@contextmanager
def _short_products(device: torch.device) -> Iterator[None]:
    """On a GPU, float32 products by TF32: exact enough for networks, but not for physics, which
    may follow in the same process."""
    known = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(known)


def _epoch(
    wrapped: nn.Module,
    model: nn.Module,
    stepper: Any,
    trained: list[nn.Parameter],
    task: Task,
    settings: Settings,
    fabric: Any,
    epoch: int,
    per_epoch: list[tuple[int, int]],
) -> dict[str, float]:
    """One pass over the samples and the validation behind it; the history's row."""
    began = time.monotonic()
    order = torch.randperm(
        task.samples, generator=torch_stream(settings.seed, f"{task.name}/order", epoch)
    )
    rank, world = fabric.global_rank, fabric.world_size
    generator = torch_stream(settings.seed, f"{task.name}/augmentation/{rank}", epoch)
    sums: dict[str, Tensor] = {}
    rate = 0.0
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Dropout samples the global generators: theirs is a named stream of the epoch too.
        torch.manual_seed(stream_key(settings.seed, f"{task.name}/dropout/{rank}", epoch))
        wrapped.train()
        for number, (first, last) in enumerate(per_epoch):
            rate = rate_at(
                settings, epoch * len(per_epoch) + number, settings.epochs * len(per_epoch)
            )
            for group in stepper.param_groups:
                group["lr"] = rate
            whole = order[first:last]
            losses = task.loss(wrapped, whole[rank::world], generator)
            stepper.zero_grad()
            fabric.backward(losses["loss"])
            norm = torch.nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
            _check_batch(fabric, task, losses["loss"], norm, rate, epoch, number, whole)
            if settings.clip is not None:
                torch.nn.utils.clip_grads_with_norm_(trained, settings.clip, norm)
            stepper.step()
            for name, value in losses.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    row = {"epoch": float(epoch + 1), "rate": rate}
    for name, value in sums.items():
        row[name] = float(fabric.all_reduce(value, reduce_op="mean")) / len(per_epoch)
    # Batch statistics may differ between processes: the first one's are kept, so it validates.
    error = 0.0
    if rank == 0:
        model.eval()
        with torch.no_grad():
            error = task.validate(model)
    row["validation"] = float(fabric.broadcast(error))
    row["seconds"] = round(time.monotonic() - began, 3)
    return row


def _check_batch(
    fabric: Any,
    task: Task,
    loss: Tensor,
    norm: Tensor,
    rate: float,
    epoch: int,
    number: int,
    whole: Tensor,
) -> None:
    """Stop before a step that would spoil the weights."""
    bad = ~(loss.detach().isfinite() & norm.isfinite()).to(fabric.device)
    if bool(fabric.all_reduce(bad.float(), reduce_op="sum") > 0):
        what = "gradient" if bool(loss.isfinite()) else "loss"
        value = float((norm if what == "gradient" else loss).detach())
        raise DivergedError(
            f"{task.name}: {what} is {value} in epoch {epoch + 1}, batch {number + 1} "
            f"(samples {whole.tolist()}), at learning rate {rate:.3g}: {_DIVERGED}"
        )


def _check_epoch(fabric: Any, task: Task, model: nn.Module, row: Mapping[str, float]) -> None:
    """Stop where an epoch ended in weights or errors that are not finite.

    The losses of the batches may all be finite: the last step, or the batch statistics, are only
    seen by the validation.
    """
    bad = not_finite(model.state_dict())
    what = f"weights {bad[0]} are" if bad else "validation error is"
    wrong = bool(bad) or not math.isfinite(row["validation"])
    if fabric.broadcast(wrong):
        raise DivergedError(
            f"{task.name}: {what} not finite after epoch {int(row['epoch'])}, at learning rate "
            f"{row['rate']:.3g}: {_DIVERGED}"
        )


_DIVERGED = (
    "training diverged; the last checkpoint is from before it and is kept, a smaller learning rate "
    "in another folder may train"
)


def _batches(samples: int, batch: int, processes: int) -> list[tuple[int, int]]:
    """(first, last) of each batch of an epoch.

    A short last batch is dropped if it leaves a process under two samples: batch normalisation
    cannot take the statistics of one.
    """
    if samples < 2 * processes:
        raise InputError(
            f"dataset: expected at least {2 * processes} training samples "
            f"for {processes} process(es), found {samples}"
        )
    edges = [(first, min(first + batch, samples)) for first in range(0, samples, batch)]
    if len(edges) > 1 and edges[-1][1] - edges[-1][0] < 2 * processes:
        edges.pop()
    return edges


def _advice(path: Path) -> str:
    """What a run that could not write its checkpoint says."""
    where = "from the last whole checkpoint" if path.exists() else "from the beginning"
    return f"the same command goes on {where} when there is space"


def _save(
    path: Path,
    described: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: Mapping[str, Tensor],
    history: History,
) -> None:
    packed, rest = pack_optimizer(optimizer.state_dict())
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    tensors |= {f"optimizer.{name}": value for name, value in packed.items()}
    header = {
        "identity": described,
        "optimizer": rest,
        "rows": history.rows,
        "finished": history.finished,
    }
    save_tensors(path, tensors, header)


def _resume(
    path: Path,
    described: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    trained: list[nn.Parameter],
) -> tuple[History, dict[str, Tensor]]:
    tensors, header = load_tensors(path)
    if "identity" not in header:
        raise InputError(f"{path}: expected a training checkpoint, found finished weights")
    check_identity(path, described, header["identity"])
    if bad := not_finite(tensors):
        raise InputError(
            f"{path}: {bad[0]}: expected finite numbers, found NaN or infinity: that training "
            "diverged; choose another folder, or remove the file to train from the start"
        )

    def part(prefix: str) -> dict[str, Tensor]:
        start = len(prefix) + 1
        return {n[start:]: v for n, v in tensors.items() if n.startswith(f"{prefix}.")}

    try:
        model.load_state_dict(part("model"))
        optimizer.load_state_dict(unpack_optimizer(part("optimizer"), header["optimizer"], trained))
        return History(header["rows"], header["finished"]), part("best")
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{path}: expected a whole checkpoint of this version, found a damaged one or "
            f"another version's ({why}); remove it to train from the start"
        ) from None
