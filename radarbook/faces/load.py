"""Face models by name or file."""

from __future__ import annotations

import os

from radarbook.faces import bfm
from radarbook.faces.model import MorphableModel, default_modes
from radarbook.faces.procedural import EXPRESSION_MODES, SHAPE_MODES, procedural_model


def load_model(
    spec: str | os.PathLike[str] = "procedural",
    n_shape: int | None = None,
    n_expression: int | None = None,
) -> MorphableModel:
    """The procedural default face, or the first modes of a file in Basel Face Model layout.

    Parameters
    ----------
    spec : str or path
        ``"procedural"`` (built by code, no file needed), or the path of an HDF5 file in the
        layout of BFM 2017/2019 (see :mod:`radarbook.faces.bfm`).
    n_shape, n_expression : int or None
        Number of modes to load; a file's other modes are not read. None: 10 and 7, or as many as
        the model holds.

    Returns a float32 CPU model, whose ``notes`` say what is doubtful about its file. Raises
    :class:`~radarbook.errors.InputError` naming what is wrong with the file, or that it holds
    fewer modes than asked for.

    Examples
    --------
    >>> import torch
    >>> model = load_model("procedural", n_shape=4, n_expression=2)
    >>> model.n_shape, model.n_expression
    (4, 2)
    >>> vertices = model.vertices(torch.zeros(1, 4), torch.zeros(1, 2))  # mm, model frame
    >>> tuple(vertices.shape) == (1, model.n_vertices, 3)
    True
    """
    if str(spec) != "procedural":
        return bfm.read_bfm(spec, n_shape, n_expression)
    model = procedural_model()
    return model.truncated(
        default_modes("shape", model.n_shape) if n_shape is None else n_shape,
        default_modes("expression", model.n_expression) if n_expression is None else n_expression,
    )


def held_modes(spec: str | os.PathLike[str] = "procedural") -> tuple[int, int]:
    """How many shape and expression modes the model that :func:`load_model` reads holds.

    Examples
    --------
    >>> held_modes("procedural")
    (10, 7)
    """
    if str(spec) == "procedural":
        return len(SHAPE_MODES), len(EXPRESSION_MODES)
    return bfm.held_modes(spec)
