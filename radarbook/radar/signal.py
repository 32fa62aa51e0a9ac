"""Checks and files of a raw signal, ``(rx, tx, f)`` complex."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.files import write_bytes

#: Shape of one QAR50 recording: receivers, transmitters, frequency steps.
QAR50_SHAPE = (94, 94, 128)


def check_signal(
    signal: NDArray[Any],
    source: str,
    shape: tuple[int | None, int | None, int | None] = QAR50_SHAPE,
) -> NDArray[np.complexfloating]:
    """``signal`` itself, if it is a complex, finite array of the given shape.

    ``source`` is what the message calls it (a file name); ``None`` in ``shape`` allows any size.
    Raises :class:`~radarbook.errors.InputError` naming the source, what was expected and found.
    """
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    fits = signal.ndim == 3 and all(
        n is None or n == m for n, m in zip(shape, signal.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"{source}: expected a signal of shape {wanted} = (rx, tx, frequency), "
            f"found {signal.shape}"
        )
    if not np.issubdtype(signal.dtype, np.complexfloating):
        raise InputError(f"{source}: expected complex numbers, found dtype {signal.dtype}")
    bad = int(np.count_nonzero(~np.isfinite(signal)))
    if bad:
        raise InputError(f"{source}: expected finite numbers, found {bad} NaN or infinite")
    return signal


def read_signal(
    path: str | os.PathLike[str],
    shape: tuple[int | None, int | None, int | None] = QAR50_SHAPE,
) -> NDArray[np.complexfloating]:
    """Read and check a ``.npy`` signal. Raises :class:`~radarbook.errors.InputError`."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        signal = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: expected a NumPy .npy array, found {reason}") from None
    if not isinstance(signal, np.ndarray):
        raise InputError(f"{path}: expected a NumPy .npy array, found an .npz archive")
    return check_signal(signal, str(path), shape)


def write_signal(path: str | os.PathLike[str], signal: NDArray[np.complexfloating]) -> None:
    """Write a signal as complex64 ``.npy``, atomically."""
    # In memory first: NumPy's own writing states no reason where the disk is full.
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(signal).astype(np.complex64), allow_pickle=False)
    write_bytes(path, buffer.getbuffer())
