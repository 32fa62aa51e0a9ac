"""Folders that one process writes at a time."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from radarbook.errors import InputError

_LOCK, _OWNER = ".lock", ".lock-owner"


@contextmanager
def hold(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold ``folder``, which is made if missing; no other process can until the block ends.

    The lock is the operating system's and ends with the process, killed or not. If another
    process holds the folder, ``wait`` waits for it; otherwise that is an :class:`InputError`. On a
    file system without locks there is a warning, and the folder is not held. One that cannot be
    written needs no lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        yield
        return
    lock, owner = FileLock(folder / _LOCK), folder / _OWNER
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        try:
            who = owner.read_text(encoding="utf-8")
        except OSError:
            who = "unknown"
        raise InputError(f"{folder}: another run is writing here ({who})") from None
    except NotImplementedError:
        warnings.warn(
            f"{folder}: its file system has no locks: run one command at a time here", stacklevel=3
        )
        yield
        return
    try:
        with suppress(OSError):  # a full disk: the lock holds without it
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
