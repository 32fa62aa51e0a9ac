"""Basel Face Model files: the HDF5 layout of BFM 2017 and 2019, read and written.

Layout (statismo's, as in ``model2019_face12.h5``), lengths in millimetres::

    {shape,expression}/model/mean          (3N,)    interleaved x0 y0 z0 x1 …
    {shape,expression}/model/pcaBasis      (3N, K)  orthonormal columns
    {shape,expression}/model/pcaVariance   (K,)     mm², largest first
    {shape,expression}/model/noiseVariance          read by nobody here, written as 0
    shape/representer/points               (3, N)   the reference mesh (not the mean), planar
    shape/representer/cells                (3, F)   0-based vertex indices
    metadata/landmarks/json                [{id, coordinates}] on the reference mesh
    metadata/landmarks/text                the same as lines "name visible x y z"
    version/{majorVersion,minorVersion}

Facts that decide how files are read:

- The expression mean of BFM 2019 is not zero; the neutral face is the sum of both means.
- Shape-only models have no ``expression``. Statismo's own have ``model`` and ``representer`` at
  the file's root.
- Files of layout version 0.8 hold the basis already multiplied by the standard deviations. Which
  kind a file holds is measured on its columns, not taken from its version.
- ``cells`` may be (3, F) or (F, 3), of any integer (or integral float) type, in either winding.
- BFM 2009 is in micrometres and lies in MATLAB files; both are recognised and refused.

:mod:`radarbook.faces.plausible` says which values are refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from radarbook.errors import InputError
from radarbook.faces import plausible
from radarbook.faces.landmarks import Record, from_json, from_lines, nearest_vertices
from radarbook.faces.model import MorphableModel, default_modes, require_modes
from radarbook.faces.regions import regions_from_landmarks
from radarbook.faces.winding import unified
from radarbook.hdf5 import DamagedFileError, new_hdf5, open_hdf5, reason_of

#: The published variants by their number of vertices, with their number of triangles.
VARIANTS = {
    27657: ("BFM 2019 face12", 55040),
    47439: ("BFM 2019 bfm", 94464),
    58203: ("BFM 2019 fullHead", 116160),
    28588: ("BFM 2017 face12_nomouth", 56572),
    53149: ("BFM 2017 bfm_nomouth", 105694),
    53490: ("BFM 2009", 106466),
}
#: Other models' files by a name in them.
_OTHERS = {
    "v_template": "FLAME",
    "shapedirs": "FLAME",
    "shapeMU": "BFM 2009",
    "shapePC": "BFM 2009",
    "bilinear_model": "FaceScape",
    "amplitude_db": "a radar image",
    "signal": "a recording",
}


def variant(n_vertices: int) -> str:
    """``"27657 vertices (BFM 2019 face12)"``: a size with the published model it belongs to."""
    known = VARIANTS.get(n_vertices)
    return f"{n_vertices} vertices" + (f" ({known[0]})" if known else "")


# -- reading ------------------------------------------------------------------------------------


def read_bfm(
    path: str | os.PathLike[str], n_shape: int | None = None, n_expression: int | None = None
) -> MorphableModel:
    """Read the first modes of a file in BFM 2017/2019 layout; the other modes stay on disk.

    ``None`` reads 10 shape and 7 expression modes, or as many as the file holds. A file without
    expressions has none. Returns a float32 CPU :class:`~radarbook.faces.model.MorphableModel`,
    whose ``notes`` say what is doubtful about the file. Raises
    :class:`~radarbook.errors.InputError` if the file is missing, not HDF5, lacks a dataset of the
    layout, mixes variants, is not in millimetres, holds fewer modes than asked for, or holds
    values that cannot be a face model's (:mod:`radarbook.faces.plausible`).
    """
    return _read(Path(path), (n_shape, n_expression))[0]


def held_modes(path: str | os.PathLike[str]) -> tuple[int, int]:
    """How many shape and expression modes a file in BFM layout holds."""
    path = Path(path)
    with _open(path) as file:
        return _held(path, file, "shape"), _held(path, file, "expression")


@dataclass(frozen=True)
class FileFacts:
    """Facts of a file in addition to the model read from it.

    Attributes
    ----------
    version : str or None
        Of the layout, such as ``"0.9"``.
    scaled : bool
        Whether basis columns are multiplied by their standard deviations.
    shape_variance, expression_variance : (K,) arrays
        mm², of all modes.
    reference_distance : float
        Largest distance of the reference mesh from the shape mean, mm.
    """

    version: str | None
    scaled: bool
    shape_variance: np.ndarray
    expression_variance: np.ndarray
    reference_distance: float


def read_with_facts(path: str | os.PathLike[str]) -> tuple[MorphableModel, FileFacts]:
    """A file's model as :func:`read_bfm` reads it by default, and facts about the file."""
    return _read(Path(path), (None, None))


def _read(path: Path, count: tuple[int | None, int | None]) -> tuple[MorphableModel, FileFacts]:
    source = str(path)
    with _open(path) as file:
        shape = _read_part(path, file, "shape", count[0])
        n = shape.mean.size // 3
        expression = _read_part(path, file, "expression", count[1], n)
        points = _read_points(path, file, n)
        triangles = _read_cells(path, file, n)
        records = _read_landmarks(path, file)
        regions = _read_regions(path, file, n)
        version = _version(path, file)
    notes = [*shape.notes, *expression.notes]
    shape_mean, expression_mean = shape.vertices(), expression.vertices()
    plausible.require_millimetres(source, shape_mean, points)
    plausible.require_interleaved(source, shape_mean, triangles)
    plausible.require_counted_from_zero(source, shape_mean, triangles)
    plausible.require_neighbours(source, shape_mean, triangles)
    bases = [part.unit() for part in (shape, expression)]
    for part, basis in zip((shape, expression), bases, strict=True):
        notes += plausible.check_variances(source, part.name, part.variance, n)
        notes += plausible.check_directions(source, part.name, basis)
        notes += plausible.check_smoothness(source, part.name, basis, triangles)
    notes += plausible.check_parts(*bases)
    mean = shape_mean + expression_mean
    triangles, changed = _mended(mean, triangles)
    notes += changed
    landmarks = nearest_vertices(records, points, source)
    if records and not landmarks:
        notes.append(
            f"none of its {len(records)} landmarks lies on the reference mesh: in other units?"
        )
    plausible.require_frame(source, mean, landmarks)
    regions = regions or regions_from_landmarks(mean, landmarks)
    model = MorphableModel(
        name=path.name,
        shape_mean=torch.from_numpy(shape_mean),
        expression_mean=torch.from_numpy(expression_mean),
        shape_modes=torch.from_numpy(shape.modes()),
        expression_modes=torch.from_numpy(expression.modes()),
        triangles=torch.from_numpy(triangles),
        landmarks=landmarks,
        regions={name: torch.from_numpy(mask) for name, mask in regions.items()},
        notes=tuple(notes),
    )
    apart = float(np.linalg.norm(points - shape_mean, axis=1).max())
    facts = FileFacts(version, shape.scaled, shape.variance, expression.variance, apart)
    return model, facts


@dataclass(frozen=True)
class _Part:
    """Shape or expression: mean (3N,); of the modes read the columns (3N, K) as stored, their
    lengths (K,) and standard deviations (K,); variances of all modes."""

    name: str
    mean: np.ndarray
    basis: np.ndarray
    lengths: np.ndarray
    deviation: np.ndarray
    variance: np.ndarray
    scaled: bool = False
    notes: tuple[str, ...] = ()

    def unit(self) -> np.ndarray:
        """(3N, K) columns of length 1, or 0."""
        return self.basis / np.where(self.lengths > 0, self.lengths, 1)

    def vertices(self) -> np.ndarray:
        """(N, 3) float32 mm: the mean."""
        return self.mean.reshape(-1, 3).astype(np.float32)

    def modes(self) -> np.ndarray:
        """(K, N, 3) float32, mm per standard deviation."""
        # Unit columns whatever the file held, so the variance alone is the scale.
        modes = self.basis * (self.deviation / np.where(self.lengths > 0, self.lengths, 1))
        return np.ascontiguousarray(modes.T, dtype=np.float32).reshape(
            modes.shape[1], len(modes) // 3, 3
        )


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise InputError(f"{path}: model file not found")
    try:
        return open_hdf5(path)
    except DamagedFileError as error:
        hint = "; BFM 2009 is a MATLAB file, expected BFM 2017 or 2019"
        raise InputError(f"{error}{hint if 'MATLAB' in error.reason else ''}") from None


def _place(file: h5py.File, name: str) -> str:
    """Where a dataset lies: shape-only models of statismo have their groups at the root."""
    if name.startswith("shape/") and "shape" not in file and "model" in file:
        return name.removeprefix("shape/")
    return name


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    name = _place(file, name)
    try:
        found = file.get(name)
    except (OSError, KeyError, RuntimeError) as error:
        raise InputError(f"{path}: '{name}' cannot be read ({reason_of(error)})") from None
    if not isinstance(found, h5py.Dataset):
        held = sorted(file)
        others = {kind for key, kind in _OTHERS.items() if key in held}
        hint = f": this is {others.pop()}" if others else ""
        if not hint and "shape" not in held:
            hint = f", found {', '.join(held[:5]) or 'nothing'}"
        raise InputError(f"{path}: no dataset '{name}', expected the layout of BFM 2017/2019{hint}")
    return found


def _value(path: Path, dataset: h5py.Dataset, where: Any = ()) -> Any:
    """What a dataset holds; damaged ones and unknown compression raise in one line."""
    try:
        return dataset[where]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: '{dataset.name.lstrip('/')}' cannot be read ({reason_of(error)})"
        ) from None


def _held(path: Path, file: h5py.File, part: str) -> int:
    if part == "expression" and part not in file:
        return 0
    return int(_dataset(path, file, f"{part}/model/pcaVariance").size)


def _read_part(
    path: Path, file: h5py.File, part: str, count: int | None, n: int | None = None
) -> _Part:
    """Mean and the first ``count`` modes; ``n`` vertices are expected where they are known."""
    if part == "expression" and part not in file:
        require_modes(str(path), part, count or 0, 0)
        none = np.zeros(0, np.float32)
        nothing = np.zeros((3 * (n or 0), 0), np.float32), none, none, none
        note = "no expression group: a shape-only model, read with no expression modes"
        return _Part(part, np.zeros(3 * (n or 0), np.float32), *nothing, notes=(note,))
    names = {what: f"{part}/model/{what}" for what in ("mean", "pcaVariance", "pcaBasis")}
    mean_set, variance_set, basis_set = (_dataset(path, file, name) for name in names.values())
    mean = _floats(path, names["mean"], _value(path, mean_set)).reshape(-1)
    variance = _floats(path, names["pcaVariance"], _value(path, variance_set)).reshape(-1)
    if mean.size % 3 or not mean.size:
        raise InputError(f"{path}: {names['mean']} has {mean.size} values, expected 3 per vertex")
    if n is not None:
        _require_size(path, names["mean"], mean.size // 3, n)
    if basis_set.ndim != 2 or basis_set.shape[0] != mean.size:
        turned = basis_set.shape == (variance.size, mean.size)
        raise InputError(
            f"{path}: {names['pcaBasis']} is {basis_set.shape}, expected ({mean.size}, modes)"
            f"{': it is transposed' if turned else ''}"
        )
    if basis_set.shape[1] != variance.size:
        raise InputError(
            f"{path}: {names['pcaBasis']} has {basis_set.shape[1]} columns and "
            f"{names['pcaVariance']} {variance.size} values, expected one value for each column"
        )
    if count is None:
        count = default_modes(part, variance.size)
    require_modes(str(path), part, count, variance.size)
    basis = _floats(path, names["pcaBasis"], _value(path, basis_set, np.s_[:, :count]))
    if (variance[:count] < 0).any():
        raise InputError(f"{path}: {names['pcaVariance']} has negative values")
    deviation = np.sqrt(variance[:count])
    norms = np.linalg.norm(basis, axis=0)
    scaled = bool(count) and bool(np.isclose(norms, deviation, rtol=0.05).all())
    if not (np.isclose(norms, 1, rtol=0.05) | (deviation == 0)).all() and not scaled:
        worst = int(np.abs(norms - 1).argmax())
        hint = ""
        if np.isclose(norms, variance[:count], rtol=0.05).all():
            hint = ": does pcaVariance hold standard deviations?"
        raise InputError(
            f"{path}: column {worst} of {names['pcaBasis']} has length {norms[worst]:.4g}, "
            f"expected 1 or, in files of version 0.8, its standard deviation "
            f"{deviation[worst]:.4g}{hint}"
        )
    return _Part(part, mean, basis, norms, deviation, variance, scaled)


def _floats(path: Path, name: str, value: Any) -> np.ndarray:
    """Finite numbers in this machine's byte order: float64 where the file has it, else float32."""
    value = np.asarray(value)
    if value.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} is {value.dtype}, expected numbers")
    if not np.isfinite(value).all():
        raise InputError(f"{path}: {name} has values that are not finite")
    double = value.dtype.kind == "f" and value.dtype.itemsize >= 8
    return value.astype(np.float64 if double else np.float32, copy=False)


def _require_size(path: Path, name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise InputError(
            f"{path}: {name} has {variant(found)}, but shape/model/mean has {variant(wanted)}: "
            "model variants are mixed"
        )


def _read_points(path: Path, file: h5py.File, n: int) -> np.ndarray:
    """(N, 3) the reference mesh, on which landmarks are given."""
    name = "shape/representer/points"
    points = _floats(path, name, _value(path, _dataset(path, file, name)))
    if points.ndim == 2 and points.shape[0] == 3:
        points = points.T
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"{path}: {name} is {points.shape}, expected (3, {n})")
    _require_size(path, name, len(points), n)
    return points.astype(np.float32, copy=False)


def _read_cells(path: Path, file: h5py.File, n: int) -> np.ndarray:
    """(F, 3) int64 vertex indices."""
    name = "shape/representer/cells"
    cells = np.asarray(_value(path, _dataset(path, file, name)))
    if cells.ndim == 2 and cells.shape[0] == 3:
        cells = cells.T
    if cells.ndim != 2 or cells.shape[1] != 3 or cells.size == 0:
        raise InputError(f"{path}: {name} is {cells.shape}, expected (3, triangles)")
    if cells.dtype.kind not in "fiu" or (cells != np.round(cells)).any():
        raise InputError(f"{path}: {name} is {cells.dtype}, expected integers")
    low, high = float(cells.min()), float(cells.max())
    if low < 0 or high >= n:
        hint = ""
        if low == 1 and high == n:
            hint = " (it counts from 1, expected 0)"
        elif high + 1 in VARIANTS:
            hint = f": cells of a model with {variant(int(high) + 1)}"
        raise InputError(
            f"{path}: {name} refers to vertex {low if low < 0 else high:.0f}, expected 0 to "
            f"{n - 1} for {variant(n)}{hint}"
        )
    return cells.astype(np.int64)


def _mended(mean: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Triangles of a model, each once and wound outwards, and notes on what was changed."""
    notes = []
    corners = np.sort(triangles, axis=1)
    _, first = np.unique(corners, axis=0, return_index=True)
    alive = np.zeros(len(triangles), dtype=bool)
    alive[first] = True
    alive &= (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2])
    if not alive.all():
        notes.append(
            f"{len(alive) - alive.sum()} of {len(alive)} triangles are repeated or have a corner "
            "twice: left out"
        )
        triangles = triangles[alive]
    triangles, turned, orientable = unified(triangles)
    if turned.any():
        notes.append(
            f"{turned.sum()} of {len(turned)} triangles are wound against the others: turned"
        )
    if not orientable:
        notes.append("its triangles cannot be wound in one sense: some face into the head")
    if plausible.points_inwards(mean, triangles):
        notes.append("its triangles face into the head, as BFM 2009's do: turned")
        triangles = triangles[:, ::-1].copy()
    return triangles, notes


# -- landmarks and regions ----------------------------------------------------------------------


def _read_landmarks(path: Path, file: h5py.File) -> dict[str, Record]:
    """Landmarks by name, from JSON or from lines of text."""
    for what, read in (("json", from_json), ("text", from_lines)):
        name = f"metadata/landmarks/{what}"
        if name in file:
            text = _text(path, name, _value(path, _dataset(path, file, name)))
            return read(text, f"{path}: {name}")
    return {}


def _text(path: Path, name: str, value: Any) -> str:
    """Bytes or str, a scalar or an array of them, or characters as numbers."""
    value = np.asarray(value).reshape(-1)
    try:
        if value.dtype.kind in "iu":
            return bytes(value.astype(np.uint8)).decode()
        lines = [v.decode() if isinstance(v, bytes) else v for v in value]
        if all(isinstance(line, str) for line in lines):
            return "\n".join(lines)
    except UnicodeDecodeError:
        pass
    raise InputError(f"{path}: {name} is {value.dtype}, expected UTF-8 text")


def _read_regions(path: Path, file: h5py.File, n: int) -> dict[str, np.ndarray]:
    """Region masks, which only files written here carry."""
    group = file.get("metadata/regions")
    if not isinstance(group, h5py.Group):
        return {}
    regions = {}
    for label in group:
        name = f"metadata/regions/{label}"
        mask = np.asarray(_value(path, _dataset(path, file, name)))
        if mask.ndim != 1 or mask.dtype.kind not in "biu":
            raise InputError(f"{path}: {name} is {mask.dtype} {mask.shape}, expected ({n},) bool")
        _require_size(path, name, len(mask), n)
        if mask.any():
            regions[label] = mask.astype(bool)
    return regions


def _version(path: Path, file: h5py.File) -> str | None:
    """``"0.9"``, or None where the file does not say."""
    for place in ("version", "shape/version"):
        names = [f"{place}/{what}Version" for what in ("major", "minor")]
        if all(name in file for name in names):
            values = [np.asarray(_value(path, _dataset(path, file, n))).reshape(-1) for n in names]
            if all(value.size == 1 and value.dtype.kind in "iuf" for value in values):
                return f"{values[0][0]:.0f}.{values[1][0]:.0f}"
    return None


# -- writing ------------------------------------------------------------------------------------


def write_bfm(path: str | os.PathLike[str], model: MorphableModel) -> None:
    """Write a model in BFM 2019 layout (millimetres), atomically.

    Modes become unit columns and variances, in float64: reading the file back gives the same
    model to the last bit, and so the same fingerprint. Modes of length zero keep variance 0; a
    model without expression modes is written with none. Landmarks are written with their vertex
    ``index`` and ``coordinates``, regions under ``metadata/regions``: readers of the original
    layout ignore both.
    """
    points = model.mean.detach().cpu().numpy().astype(np.float32)
    landmarks = [
        {"id": name, "index": int(index), "coordinates": [float(c) for c in points[index]]}
        for name, index in model.landmarks.items()
    ]
    with new_hdf5(path) as file:
        for part, mean, modes in (
            ("shape", model.shape_mean, model.shape_modes),
            ("expression", model.expression_mean, model.expression_modes),
        ):
            flat = modes.detach().cpu().double().numpy().reshape(len(modes), 3 * len(mean))
            lengths = np.linalg.norm(flat, axis=1)
            group = file.create_group(f"{part}/model")
            group["mean"] = mean.detach().cpu().numpy().astype(np.float32).reshape(-1)
            group["pcaBasis"] = (flat / np.where(lengths > 0, lengths, 1)[:, None]).T
            group["pcaVariance"] = lengths**2
            group["noiseVariance"] = np.zeros(1, np.float32)
            representer = file.create_group(f"{part}/representer")
            representer["points"] = np.ascontiguousarray(points.T)
            representer["cells"] = model.triangles.cpu().numpy().T.astype(np.int32)
        text = json.dumps(landmarks)
        file["metadata/landmarks/json"] = np.array([text], dtype=h5py.string_dtype())
        for name, mask in model.regions.items():
            file[f"metadata/regions/{name}"] = mask.cpu().numpy()
        file["version/majorVersion"], file["version/minorVersion"] = np.int32(0), np.int32(9)
