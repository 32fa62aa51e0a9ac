"""Checkpoints and weights: safetensors with a JSON header, written whole or not at all.

A checkpoint holds everything training goes on from; a weights file holds a finished network and
what it takes to build it. Neither contains a pickle, so reading one runs nobody's code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.files import PACKAGE, atomic_path, differences
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer

Path_ = str | os.PathLike[str]
HEADER = "radarbook"


def save_tensors(path: Path_, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON-able header to one safetensors file, atomically.

    Raises ``OSError`` where the disk does not take it.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(plain, temporary, {HEADER: json.dumps(header)})
        except SafetensorError as error:
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            code = int(number[1])  # a full disk, for example
            raise OSError(code, os.strerror(code)) from error


def load_tensors(path: Path_) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors (CPU) and header of a file by :func:`save_tensors`.

    Raises :class:`InputError` if the file is missing, is not safetensors or cut short, or is not
    one of ours.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: expected a whole safetensors file, found {error}") from None
    if HEADER not in metadata:
        raise InputError(f"{path}: expected weights written by radarbook, found another's")
    try:
        header = json.loads(metadata[HEADER])
    except ValueError as error:
        raise InputError(f"{path}: header: expected JSON, found damaged text ({error})") from None
    if not isinstance(header, dict):
        raise InputError(f"{path}: header: expected a JSON object, found {header!r:.60}")
    return tensors, header


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinity."""
    return [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]


# -- the optimizer's state, without pickle ------------------------------------------------------


def pack_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's ``state_dict`` as flat tensors and a JSON-able rest."""
    tensors = {}
    rest: dict[str, Any] = {"state": {}, "param_groups": state["param_groups"]}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                rest["state"].setdefault(str(index), {})[key] = value
    return tensors, rest


def unpack_optimizer(
    tensors: Mapping[str, Tensor], rest: Mapping[str, Any], parameters: list[nn.Parameter]
) -> dict[str, Any]:
    """The ``state_dict`` that :func:`pack_optimizer` took apart.

    Moments get the memory layout of their parameter: the same layout takes the same code path,
    without which a resumed run is not bit for bit the uninterrupted one.
    """
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in rest["state"].items()
    }
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[key] = value.detach()
    return {"state": state, "param_groups": rest["param_groups"]}


# -- identity -----------------------------------------------------------------------------------


def difference(expected: Any, found: Any) -> str | None:
    """The first place where two JSON-able values differ, as "name: expected …, found …"."""
    for name, wanted, other in differences(expected, found):
        return f"{name}: expected {wanted}, found {other}"
    return None


def check_identity(path: Path_, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` naming the first difference between what a checkpoint is of
    (architecture, dataset, settings) and what is being trained."""
    different = difference(expected, found)
    if different:
        raise InputError(f"{path}: this checkpoint is of another training: {different}")


# -- finished networks --------------------------------------------------------------------------


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """Of weights by name (a network's ``state_dict()``), at the precision they have."""
    total = hashlib.sha256()
    for name, value in sorted(weights.items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def save_weights(
    path: Path_,
    network: Encoder | LearnedRenderer | Autoencoder,
    *,
    half: bool = False,
    about: Mapping[str, Any] | None = None,
    renderer: Path_ | None = None,
) -> None:
    """Write a network's weights and what builds it; with ``half``, weights in half precision.

    ``about`` is any JSON-able note (where the weights come from) kept in the header. An
    autoencoder's file leaves its frozen renderer out where ``renderer`` is a file of that very
    renderer in the same folder: it names the file and its weights' fingerprint instead, and is
    read together with it. Raises :class:`InputError` if that file lies elsewhere or holds other
    weights.
    """
    tensors = {
        name: value.half() if half and value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    header = {"kind": network.kind, "config": network.config, "about": dict(about or {})}
    if renderer is not None:
        left_out = {n: v for n, v in tensors.items() if n.startswith(_RENDERER)}
        tensors = {n: v for n, v in tensors.items() if n not in left_out}
        header["renderer"] = _named(path, Path(renderer), left_out)
    save_tensors(path, tensors, header)


#: How the weights of an autoencoder's renderer begin.
_RENDERER = "renderer."


def _named(path: Path_, renderer: Path, left_out: Mapping[str, Tensor]) -> dict[str, str]:
    """The file that holds what an autoencoder's file at ``path`` leaves out: name, fingerprint."""
    if renderer.resolve().parent != Path(path).resolve().parent:
        raise InputError(f"{renderer}: expected a renderer's weights next to {path}")
    held = load_renderer(renderer).state_dict()
    mine = {
        n.removeprefix(_RENDERER): v.float() if v.is_floating_point() else v
        for n, v in left_out.items()
    }
    if fingerprint(mine) != fingerprint(held):
        raise InputError(f"{renderer}: expected the autoencoder's renderer, found another")
    return {"file": renderer.name, "fingerprint": fingerprint(held)}


def _left_out(path: Path, named: Mapping[str, str]) -> dict[str, Tensor]:
    """The renderer's weights that an autoencoder's file names, as the autoencoder's own."""
    if not isinstance(named, Mapping) or not {"file", "fingerprint"} <= set(named):
        raise InputError(f"{path}: header: expected its renderer's file and fingerprint")
    file = path.with_name(Path(named["file"]).name)  # next to it, whatever a header says
    if not file.is_file():
        raise InputError(f"{path}: expected its renderer's weights in {file}, found no such file")
    held = load_renderer(file).state_dict()
    if fingerprint(held) != named["fingerprint"]:
        raise InputError(
            f"{path}: expected its renderer's weights ({named['fingerprint']}) in {file}, "
            f"found others ({fingerprint(held)})"
        )
    return {f"{_RENDERER}{name}": value for name, value in held.items()}


def read_about(path: Path_) -> dict[str, Any]:
    """The note kept with a network's weights."""
    _, header = load_tensors(path)
    about: dict[str, Any] = header.get("about", {})
    return about


def _load(path: Path_, kind: str) -> Any:
    tensors, header = load_tensors(path)
    if header.get("kind") != kind:
        raise InputError(f"{path}: expected weights of kind {kind}, found {header.get('kind')}")
    network = _build(path, kind, header.get("config"))
    if kind == "autoencoder" and "renderer" in header:
        tensors |= _left_out(Path(path), header["renderer"])
    wanted = network.state_dict()
    for name in dict.fromkeys([*wanted, *tensors]):
        if name not in wanted or name not in tensors or wanted[name].shape != tensors[name].shape:
            found = tuple(tensors[name].shape) if name in tensors else "nothing"
            expected = tuple(wanted[name].shape) if name in wanted else "nothing"
            raise InputError(f"{path}: weights {name}: expected {expected}, found {found}")
        if wanted[name].is_floating_point() != tensors[name].is_floating_point():
            raise InputError(
                f"{path}: weights {name}: expected {wanted[name].dtype}, "
                f"found {tensors[name].dtype}"
            )
    if bad := not_finite(tensors):
        raise InputError(
            f"{path}: weights {bad[0]}: expected finite numbers, found NaN or infinity "
            f"({len(bad)} of {len(tensors)} tensors): the file is of a training that diverged"
        )
    network.load_state_dict(tensors)
    return network.eval()


def _build(path: Path_, kind: str, config: Any) -> Any:
    """The network that a header describes, with weights still to come."""
    try:
        if kind == "encoder":
            return Encoder(**config)
        if kind == "renderer":
            return LearnedRenderer(**config)
        return Autoencoder(Encoder(**config["encoder"]), LearnedRenderer(**config["renderer"]))
    except Exception as error:  # a header may hold anything; networks check little themselves
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise InputError(
            f"{path}: header: expected the configuration of a network of kind {kind} as this "
            f"version writes it, found another ({why})"
        ) from None


def load_encoder(path: Path_) -> Encoder:
    """An encoder by :func:`save_weights`, on the CPU, float32, in evaluation mode."""
    encoder: Encoder = _load(path, "encoder")
    return encoder


def load_renderer(path: Path_) -> LearnedRenderer:
    """A learned renderer by :func:`save_weights`, on the CPU, float32, in evaluation mode."""
    renderer: LearnedRenderer = _load(path, "renderer")
    return renderer


def load_autoencoder(path: Path_) -> Autoencoder:
    """An autoencoder by :func:`save_weights`, on the CPU, float32, in evaluation mode.

    Where its file names another for the renderer, both are read; :class:`InputError` if that one
    is missing or is not the renderer it was trained through.
    """
    autoencoder: Autoencoder = _load(path, "autoencoder")
    return autoencoder


def load_predictor(path: Path_) -> Encoder | Autoencoder:
    """An encoder or autoencoder, whichever the file holds: what predicts a face from an image."""
    _, header = load_tensors(path)
    return load_autoencoder(path) if header.get("kind") == "autoencoder" else load_encoder(path)


def require_weights_of(path: Path_, model: MorphableModel) -> None:
    """Raise if a network was trained on another face model, according to its file."""
    of = read_about(path).get("model_fingerprint")
    if of is not None and of != model.fingerprint:
        raise InputError(
            f"{path}: trained on the face model {of}, found '{model.name}' ({model.fingerprint}); "
            "name the model it was trained on with --model"
        )


# -- weights that come with the project ---------------------------------------------------------

#: What ships: trained at profile ``laptop`` on the procedural face; see the model card in the book.
SHIPPED = ("encoder", "renderer", "autoencoder")


def shipped_path(kind: str) -> Path:
    """The file of shipped weights of a kind: in a checkout's ``data/weights``, or installed.

    Raises :class:`InputError` for a kind that does not ship, or if the files are not there.
    """
    if kind not in SHIPPED:
        raise InputError(f"shipped weights: expected {', '.join(SHIPPED)}, found '{kind}'")
    checkout = PACKAGE.parent / "data" / "weights" / f"{kind}.safetensors"
    for path in (checkout, *_installed(checkout.name)):
        if path.is_file():
            return path
    raise InputError(
        f"shipped weights: expected {checkout.name} in {checkout.parent} or among the installed "
        "package's files, found none"
    )


def _installed(name: str) -> list[Path]:
    """Places of a file of the installed package, wherever its installer put data."""
    try:
        listed = distribution("radarbook").files or []
    except PackageNotFoundError:
        return []
    return [Path(str(path.locate())).resolve() for path in listed if path.name == name]


def shipped(
    kind: str, *, model: MorphableModel | None = None, pixels: int | None = None
) -> Encoder | LearnedRenderer | Autoencoder:
    """A network that comes with the project, on the CPU, in evaluation mode.

    ``kind`` is encoder, renderer or autoencoder, each for amplitude and depth. Raises
    :class:`InputError` if the weights are of another face ``model`` or image side ``pixels``, or
    are missing: they say nothing about other faces or images.

    Examples
    --------
    >>> shipped("encoder").inputs
    'both'
    """
    path = shipped_path(kind)
    network: Encoder | LearnedRenderer | Autoencoder = _load(path, kind)
    about = read_about(path)
    if model is not None and model.fingerprint != about["model_fingerprint"]:
        raise InputError(
            f"shipped weights: trained on the face model {about['model']} "
            f"({about['model_fingerprint']}), found {model.name} ({model.fingerprint}): train "
            "on this model, or name weights that were"
        )
    part = network.encoder if isinstance(network, Autoencoder) else network
    if pixels is not None and pixels != part.pixels:
        raise InputError(
            f"shipped weights: trained on images of {part.pixels} x {part.pixels} pixels, "
            f"found {pixels} x {pixels}"
        )
    return network
