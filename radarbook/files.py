"""Files that are whole or absent, and fingerprints of what made them.

Every artefact is written under a temporary name in its own folder and renamed when it is
complete, so a reader never sees half of one and a killed writer leaves nothing under a final name.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary file keeps the suffix of ``path`` (writers choose their format by it). It is
    flushed to disk before the rename, and removed if the block raises.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private, and so do some writers (safetensors), which replace it; a
        # finished file gets the mode any new file would have.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with open(temporary, "rb") as done:
            os.fsync(done.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically. NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def digest(value: Any) -> str:
    """Short hexadecimal SHA-256 of a JSON-able value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Short hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@cache
def source_digest(*rooms: str) -> str:
    """Fingerprint of the library's own source: the named rooms, or all of it.

    ``source_digest("faces", "radar")`` changes when a ``.py`` file in those rooms changes; rooms
    are folders or modules of :mod:`radarbook`. Used to see that an artefact on disk was made by
    other code than today's.
    """
    roots = [PACKAGE / room for room in rooms] if rooms else [PACKAGE]
    files: list[Path] = []
    for root in roots:
        files += sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    return digest([(str(f.relative_to(PACKAGE)), file_digest(f)) for f in sorted(files)])
