"""Checks and files of a raw signal, ``(rx, tx, f)`` complex."""

from __future__ import annotations

import hashlib
import io
import json
import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.files import write_bytes, write_json
from radarbook.npy import listing, read_npy
from radarbook.radar.waveform import Waveform, qar50_waveform

#: Shape of one QAR50 recording: receivers, transmitters, frequency steps.
QAR50_SHAPE = (94, 94, 128)
_AXES = ("rx", "tx", "frequency")
#: Field names of a complex number in files of other programs, in lower case.
_COMPLEX_FIELDS = (("r", "i"), ("re", "im"), ("real", "imag"), ("real", "imaginary"), ("i", "q"))
_FREQUENCIES_LAYOUT = "radarbook signal frequencies"
_FREQUENCIES_VERSION = 1

Shape = tuple[int | None, ...]


# -- checks -------------------------------------------------------------------------------------


def check_signal(
    signal: NDArray[Any],
    source: str,
    shape: Shape = QAR50_SHAPE,
    axes: tuple[str, ...] = _AXES,
) -> NDArray[np.complexfloating]:
    """``signal`` itself, if it is a complex, finite array of the given shape and not all zero.

    ``source`` is what the message calls it (a file name); ``None`` in ``shape`` allows any size;
    ``axes`` are their names.
    Raises :class:`~radarbook.errors.InputError` naming the source, what was expected and found.
    """
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if not _fits(signal.shape, shape):
        raise InputError(
            f"{source}: expected a signal of shape {wanted} = ({', '.join(axes)}), "
            f"found {signal.shape}{_order_hint(signal.shape, shape)}"
        )
    if not np.issubdtype(signal.dtype, np.complexfloating):
        raise InputError(f"{source}: expected complex numbers, found dtype {signal.dtype}")
    bad = int(np.count_nonzero(~np.isfinite(signal)))
    if bad:
        raise InputError(f"{source}: expected finite numbers, found {bad} NaN or infinite")
    if not signal.any():
        raise InputError(f"{source}: expected a signal, found zeros only")
    return signal


def _fits(found: tuple[int, ...], shape: Shape) -> bool:
    return len(found) == len(shape) and all(
        n is None or n == m for n, m in zip(shape, found, strict=True)
    )


def _order_hint(found: tuple[int, ...], shape: Shape) -> str:
    """What the shape of a signal may be instead, if that can be told from its sizes."""
    if None in shape or len(shape) != 3 or _fits(found, shape):
        return ""
    if len(found) > 3 and _fits(tuple(n for n in found if n != 1), shape):
        return "; drop the axes of length 1 (numpy.squeeze)"
    if len(found) != 3:
        return ""
    orders = {
        tuple(_AXES[axis] for axis in order)
        for order in permutations(range(3))
        if tuple(shape[axis] for axis in order) == found
    }
    # With as many receivers as transmitters only the frequency's place is known.
    places = {order.index("frequency") for order in orders}
    if len(places) != 1:
        return ""
    place = places.pop()
    return (
        f", whose axis {place} is likely the frequency: numpy.moveaxis(signal, {place}, -1)"
        if place != 2
        else ", whose receivers and transmitters are likely swapped: numpy.swapaxes(signal, 0, 1)"
    )


def as_complex(values: NDArray[Any], source: str) -> NDArray[np.complexfloating]:
    """Complex numbers of a file: NumPy's own, or pairs of named fields as other programs write.

    Raises :class:`~radarbook.errors.InputError` for anything else, real numbers included: half of
    a signal is missing there.

    Examples
    --------
    >>> as_complex(np.array([(1, 2)], dtype=[("re", "f4"), ("im", "f4")]), "signal").tolist()
    [(1+2j)]
    """
    if np.issubdtype(values.dtype, np.complexfloating):
        return values
    names = values.dtype.names
    if names is not None and tuple(name.lower() for name in names) in _COMPLEX_FIELDS:
        real, imaginary = (values[name] for name in names)
        if real.dtype.kind in "fiu" and imaginary.dtype.kind in "fiu":
            return real.astype(np.float64) + 1j * imaginary.astype(np.float64)
    raise InputError(
        f"{source}: expected complex numbers, found dtype {values.dtype}"
        + ("; join the parts, I + 1j * Q" if values.dtype.kind in "fiu" else "")
    )


# -- files --------------------------------------------------------------------------------------


def read_signal(
    path: str | os.PathLike[str], shape: Shape = QAR50_SHAPE
) -> NDArray[np.complexfloating]:
    """Read and check the signal of a ``.npy`` file. Raises :class:`~radarbook.errors.InputError`.

    The frequencies of a file are read by :func:`read_frequencies`.

    Examples
    --------
    >>> np.save("wrong.npy", np.ones((94, 94), np.complex64))
    >>> read_signal("wrong.npy")
    Traceback (most recent call last):
        ...
    radarbook.errors.InputError: wrong.npy: expected a signal of shape (94, 94, 128) = ...
    """
    arrays = read_npy(path)
    if len(arrays) > 1:
        raise InputError(f"{path}: expected one array, found {listing(arrays)}")
    if not _fits(arrays[0].shape, shape):
        check_signal(arrays[0], str(path), shape)
    return check_signal(as_complex(arrays[0], str(path)), str(path), shape)


def frequencies_path(path: str | os.PathLike[str]) -> Path:
    """The file of frequencies next to a signal: ``a.frequencies.json`` of ``a.npy``.

    Examples
    --------
    >>> frequencies_path("radar/a.npy").name
    'a.frequencies.json'
    """
    path = Path(path)
    return path.with_name(f"{path.stem}.frequencies.json")


def write_signal(
    path: str | os.PathLike[str],
    signal: NDArray[np.complexfloating],
    waveform: Waveform | None = None,
) -> None:
    """Write a signal as complex64 ``.npy``, atomically, and its frequencies next to it.

    A ``.npy`` file alone stands for the QAR50's 72-82 GHz in 128 steps. Of any other waveform the
    frequencies go into ``<name>.frequencies.json`` with a checksum of the signal, so that neither
    is ever read with another's. ``waveform`` None: the QAR50's; raises
    :class:`~radarbook.errors.InputError` where the signal has another number of steps.

    Examples
    --------
    >>> signal = np.ones((2, 2, 3), np.complex64)
    >>> write_signal("short.npy", signal, qar50_waveform(3))
    >>> read_signal("short.npy", (2, 2, 3)).shape, read_frequencies("short.npy").tolist()
    ((2, 2, 3), [72000000000.0, 77000000000.0, 82000000000.0])
    """
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(signal).astype(np.complex64), allow_pickle=False)
    content = buffer.getvalue()
    waveform = qar50_waveform(QAR50_SHAPE[2]) if waveform is None else waveform
    if signal.shape[-1] != len(waveform):
        raise InputError(
            f"{path}: expected one frequency for each step of the signal {signal.shape}, "
            f"found {len(waveform)}"
        )
    side = frequencies_path(path)
    if is_usual(waveform):
        write_bytes(path, content)
        # Afterwards: until then its checksum refuses the new signal.
        if _is_ours(side):
            side.unlink()
        return
    if side.is_file() and not _is_ours(side):
        raise InputError(f"{side}: expected the frequencies of a signal, found another file there")
    # Before the signal, which so never lies without its frequencies.
    entries = {
        "layout": _FREQUENCIES_LAYOUT,
        "layout_version": _FREQUENCIES_VERSION,
        "signal_sha256": hashlib.sha256(content).hexdigest(),
        "frequencies_hz": waveform.frequencies.tolist(),
    }
    write_json(side, entries)
    write_bytes(path, content)


def is_usual(waveform: Waveform) -> bool:
    """True for 72-82 GHz in 128 steps, which a ``.npy`` file without frequencies stands for."""
    usual = qar50_waveform(QAR50_SHAPE[2])
    return torch.equal(waveform.frequencies.detach().cpu(), usual.frequencies)


def _is_ours(side: Path) -> bool:
    """True for a file of frequencies that :func:`write_signal` wrote, whole or damaged."""
    try:
        return side.is_file() and _FREQUENCIES_LAYOUT in side.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def read_frequencies(path: str | os.PathLike[str]) -> NDArray[np.float64] | None:
    """(F,) Hz, the frequencies that :func:`write_signal` put next to a ``.npy`` file, or None.

    Raises :class:`~radarbook.errors.InputError` where the file of frequencies is damaged or
    belongs to another signal.
    """
    side = frequencies_path(path)
    if not side.is_file():
        return None
    try:
        entries = json.loads(side.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{side}: expected JSON, found {error}") from None
    if not isinstance(entries, dict) or entries.get("layout") != _FREQUENCIES_LAYOUT:
        raise InputError(f"{side}: expected layout = '{_FREQUENCIES_LAYOUT}'")
    if entries.get("layout_version") != _FREQUENCIES_VERSION:
        raise InputError(
            f"{side}: expected layout_version {_FREQUENCIES_VERSION}, "
            f"found {entries.get('layout_version')}"
        )
    with open(path, "rb") as file:
        checksum = hashlib.file_digest(file, "sha256").hexdigest()
    if entries.get("signal_sha256") != checksum:
        raise InputError(
            f"{side}: belongs to another signal than {Path(path).name} (its checksum differs); "
            "delete it and state the frequencies with --frequencies START STOP COUNT"
        )
    values = entries.get("frequencies_hz")
    if not isinstance(values, list) or not all(
        isinstance(f, int | float) and not isinstance(f, bool) for f in values
    ):
        raise InputError(f"{side}: expected frequencies_hz, a list of numbers")
    return np.array(values, dtype=np.float64)
