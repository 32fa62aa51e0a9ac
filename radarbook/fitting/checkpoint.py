"""The state of a fit on disk: a fit continues from it bit for bit.

One safetensors file: every tensor of the state, and a JSON header that says how they nest and
which problem they belong to. Nothing is pickled, so reading one runs no code.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.files import explain, is_stream
from radarbook.fitting.descend import Best, FitState, Record, RunsState, StageState
from radarbook.targets import Target, check_targets
from radarbook.training.checkpoints import difference, load_tensors, save_tensors

#: Format 5 since runs and methods have states of their own; earlier ones are refused.
KIND, FORMAT = "fit", 5


def tensor_digest(*tensors: Tensor) -> str:
    """Short hexadecimal SHA-256 of tensors' types, shapes and values, wherever they lie."""
    total = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        total.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        total.update(plain.numpy().tobytes())
    return total.hexdigest()[:16]


def save_fit(path: str | os.PathLike[str], state: FitState, about: Mapping[str, Any]) -> None:
    """Write what ``resume=…`` needs to one file, atomically.

    ``about`` describes the problem: any JSON-able mapping (infinities may be in it) that differs
    for another problem. :func:`load_fit` compares it.

    Examples
    --------
    >>> from radarbook.faces.parameters import FaceParameters
    >>> start = FaceParameters.neutral(1, n_shape=2, n_expression=1)
    >>> save_fit("fit.safetensors", FitState.at(start), {"signal": "first"})
    >>> load_fit("fit.safetensors", {"signal": "first"}).steps
    0
    >>> load_fit("fit.safetensors", {"signal": "second"})
    Traceback (most recent call last):
        ...
    radarbook.errors.InputError: fit.safetensors: the state of another fit: ...
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(_as_tree(state), "state", tensors)
    header = {"kind": KIND, "format": FORMAT, "about": _plain(about), "state": tree}
    save_tensors(path, tensors, header)


def load_fit(path: str | os.PathLike[str], about: Mapping[str, Any]) -> FitState:
    """The state that :func:`save_fit` wrote, on the CPU.

    Raises :class:`InputError` with one line if the file is missing, cut short, not the state of a
    fit, or that of another problem than ``about``; the line then names the first difference.
    """
    tensors, header = load_tensors(path)
    if header.get("kind") != KIND:
        raise InputError(f"{path}: expected the state of a fit, found {header.get('kind')}")
    if header.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected the state of a fit in format {FORMAT}, "
            f"found format {header.get('format')}"
        )
    different = difference(_plain(about), header["about"])
    if different:
        raise InputError(f"{path}: the state of another fit: {different}")
    return _from_tree(_unpack(header["state"], tensors))


class FitFile:
    """A file in which a fit keeps its state, so that a killed fit loses little.

    Parameters
    ----------
    path : path
        Written whole each time, under its final name only when complete.
    about : mapping
        Description of the problem, as in :func:`save_fit`.
    every : float
        Seconds between two writings at least; 0 writes after every step.
    """

    def __init__(
        self, path: str | os.PathLike[str], about: Mapping[str, Any], every: float = 10.0
    ) -> None:
        self.path, self.about, self.every = Path(path), dict(about), every
        check_targets({"state of the fit": Target(self.path)})
        if is_stream(self.path):
            raise InputError(f"{path}: expected a file for the state of the fit, found a device")
        self.failed: str | None = None
        self._written = time.monotonic()

    def load(self) -> FitState | None:
        """The state in the file; None where there is no file yet. Raises as :func:`load_fit`."""
        return load_fit(self.path, self.about) if self.path.exists() else None

    def keep(self, state: FitState) -> None:
        """Write the state if the last writing is ``every`` seconds ago."""
        if time.monotonic() - self._written >= self.every:
            self.save(state)

    def save(self, state: FitState) -> None:
        """Write the state now.

        A disk that does not take it does not end the fit. The first failure is a warning;
        ``failed`` is the reason until a later writing succeeds.
        """
        try:
            save_fit(self.path, state, self.about)
            self.failed = None
        except OSError as error:
            if self.failed is None:
                warnings.warn(
                    f"{explain(error)}: the state could not be kept; the fit continues without it",
                    stacklevel=2,
                )
            self.failed = explain(error)
        self._written = time.monotonic()


# -- the state as nested plain values ------------------------------------------------------------


def _as_tree(state: FitState) -> dict[str, Any]:
    fields = dict(vars(state))
    fields["within"] = None if state.within is None else dict(vars(state.within))
    if state.runs is not None:
        best = state.runs.best
        fields["runs"] = vars(state.runs) | {"best": None if best is None else dict(vars(best))}
    # Tensors of many steps as one each: a file with a tensor for every step is slow to read.
    history = fields.pop("history")
    fields["stage_of"] = [record.stage for record in history]
    fields["seconds"] = [record.seconds for record in history]
    fields["losses_of"] = torch.stack([r.losses for r in history]) if history else None
    fields["vectors_of"] = torch.stack([r.vectors for r in history]) if history else None
    return fields


def _from_tree(fields: dict[str, Any]) -> FitState:
    columns = [fields.pop(name) for name in ("stage_of", "losses_of", "vectors_of", "seconds")]
    history = [] if columns[1] is None else [Record(*row) for row in zip(*columns, strict=True)]
    within, runs = fields.pop("within"), fields.pop("runs")
    if within is not None:
        within = StageState(**within)
    if runs is not None:
        best = runs.pop("best")
        runs = RunsState(**runs, best=None if best is None else Best(**best))
    return FitState(**fields, within=within, runs=runs, history=history)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON that keeps types and keys apart; its tensors go to ``tensors``.

    Plain values stand for themselves, all else is ``[kind, …]``. Keys of a dictionary keep their
    type (optimizers number their parameters).
    """
    if isinstance(value, Tensor):
        # In another memory layout the same product may take another way and round otherwise.
        steps = value.stride()
        order = sorted(range(value.ndim), key=steps.__getitem__, reverse=True)
        # A copy: two names for one piece of memory are refused by the format.
        tensors[name] = value.detach().permute(order).contiguous().clone()
        return ["tensor", name, order]
    if isinstance(value, dict):
        pairs = enumerate(value.items())
        return ["dict", [[key, _pack(item, f"{name}.{i}", tensors)] for i, (key, item) in pairs]]
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return [kind, [_pack(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"state of a fit: {name} is a {type(value).__name__}, which has no file format")


def _unpack(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What :func:`_pack` took apart."""
    if not isinstance(node, list):
        return node
    kind, *rest = node
    if kind == "tensor":
        name, order = rest
        # Copied into memory of torch's own, aligned as that of an uninterrupted fit.
        return tensors[name].clone().permute([order.index(axis) for axis in range(len(order))])
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in rest[0]}
    items = [_unpack(item, tensors) for item in rest[0]]
    return items if kind == "list" else tuple(items)


def _plain(value: Any) -> Any:
    """``value`` with infinities as words, which JSON has none for, and tuples as lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
