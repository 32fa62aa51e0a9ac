"""Files that are whole or absent, and fingerprints of what made them.

Every artefact is written under a temporary name in its own folder and renamed when it is
complete, so a reader never sees half of one and a killed writer leaves nothing under a final name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from radarbook.errors import InputError

Path_ = str | os.PathLike[str]
PACKAGE = Path(__file__).resolve().parent

#: Errors of a disk that is full, read-only, damaged or gone: for the user, not a defect.
DISK_ERRORS = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EROFS,
        errno.EACCES,
        errno.EPERM,
        errno.EIO,
        errno.ESTALE,
    }
)


@contextmanager
def atomic_path(path: Path_) -> Iterator[Path]:
    """Yield a temporary path; what the block writes there is found at ``path`` afterwards.

    The temporary file keeps the suffix of ``path`` (writers choose their format by it) and is
    removed if the block raises. It lies in the folder of ``path``, which is made if it is missing,
    is flushed to disk and then renamed.

    - A symbolic link is followed: it stays, and the file that it names is replaced.
    - A file that exists keeps its mode and, where that is permitted, its owner and group. Other
      hard links to it keep the old content. It must be writable.
    - A file that cannot be replaced by a rename (read-only folder, mount point) is overwritten in
      place, by a finished temporary file.
    - A device, a pipe or a name of an open descriptor (``/dev/stdout``) is written to, not
      replaced. Folders, sockets and block devices are refused.

    Raises ``OSError`` with ``path`` as its ``filename``.
    """
    path = Path(path)
    with _errors_of(path):
        writing = _through(path) if is_stream(path) else _replacing(path)
        with writing as temporary:
            yield temporary


def is_stream(path: Path_) -> bool:
    """True for a name of something to write to rather than to replace: a device, a pipe, stdout."""
    if _descriptor(path) is not None:
        return True
    found = status(path)
    return found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))


def is_standard_output(path: Path_) -> bool:
    """True where writing to ``path`` is writing to this process's standard output, if not void."""
    if _descriptor(path) == 1:
        return True
    try:
        found = os.stat(path)
        return (
            not stat.S_ISREG(found.st_mode)
            and os.path.samestat(found, os.fstat(1))
            and not os.path.samestat(found, os.stat(os.devnull))
        )
    except OSError:
        return False


def new_file(folder: Path_, like: Path, mode: int = 0o666) -> Path:
    """Make an empty file under a temporary name in ``folder``, with the suffix of ``like``.

    ``mode`` is subject to the umask. The name begins with a dot and the stem of ``like``, as much
    of it as a file system takes.
    """
    suffix = like.suffix if len(os.fsencode(like.suffix)) <= 16 else ""
    stem = os.fsencode(like.stem)[:180].decode(errors="ignore")
    while True:
        path = Path(folder) / f".{stem}.{secrets.token_hex(4)}{suffix}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        except FileExistsError:
            continue
        return path


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    """Let operating system errors of writing name the final path, not the temporary one."""
    try:
        yield
    except BrokenPipeError as error:
        if _descriptor(path) is not None:
            raise  # of this process's own output: ends quietly, as for any command in a pipeline
        reason = "the reader closed it before all was written"
        raise OSError(errno.EIO, reason, str(path)) from error
    except OSError as error:
        target, about = _follow(path), error.filename
        ours = about is None or Path(str(about)).name.startswith(f".{target.stem[:20]}")
        if error.errno is None or str(about) == str(path):
            raise
        if not (ours or str(about) == str(target)):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """The temporary file of an ordinary file, renamed to it in the end."""
    found, target = status(path), _follow(path)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if found is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    if not path.is_symlink():  # a link to a folder that is gone may mean a disk that is not there
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            reason = "a folder on the way to it is a file"
            raise NotADirectoryError(errno.ENOTDIR, reason, str(path)) from None
    temporary, in_place = _temporary(target, found)
    # Writers may replace the file by a private one (safetensors does).
    mode = stat.S_IMODE((temporary.stat() if found is None else found).st_mode) & 0o777
    try:
        yield temporary
        with contextlib.suppress(OSError):  # not permitted, or unknown to this file system
            if found is not None:
                os.chown(temporary, found.st_uid, found.st_gid)
        with contextlib.suppress(PermissionError):
            temporary.chmod(mode)
        with open(temporary, "rb") as done:
            os.fsync(done.fileno())
        if in_place:
            _copy_over(temporary, target)
            return
        try:
            temporary.replace(target)
        except OSError as error:
            # A mount point, or another user's file in a folder where only its owner may rename.
            if found is None or error.errno not in (errno.EBUSY, errno.EPERM, errno.EACCES):
                raise
            _copy_over(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(target: Path, found: os.stat_result | None) -> tuple[Path, bool]:
    """A temporary file for ``target``, and whether ``target`` has to be overwritten in place."""
    try:
        mode = 0o666 if found is None else (found.st_mode & 0o666) | 0o600
        return new_file(target.parent, target, mode), False
    except OSError as error:
        if found is None or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return new_file(tempfile.gettempdir(), target, 0o600), True


def _copy_over(source: Path, target: Path) -> None:
    """Overwrite an existing file in place; a full disk is noticed before its content is touched."""
    handle = os.open(target, os.O_WRONLY)
    with open(source, "rb") as content, open(handle, "wb") as file:
        before, size = os.fstat(handle).st_size, os.fstat(content.fileno()).st_size
        if size > before and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(handle, 0, size)
            except OSError:
                os.ftruncate(handle, before)
                raise
        shutil.copyfileobj(content, file)
        file.truncate()
        file.flush()
        os.fsync(handle)


@contextmanager
def _through(path: Path) -> Iterator[Path]:
    """A temporary file that is copied in the end to a device, a pipe or an open descriptor."""
    found = status(path)
    for kind, name in ((stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a block device")):
        if found is not None and kind(found.st_mode):
            raise OSError(errno.ENOTSUP, f"expected a file, found {name}", str(path))
    temporary = new_file(tempfile.gettempdir(), path, 0o600)
    try:
        yield temporary
        number = _descriptor(path)
        if number is None:
            number = os.open(path, os.O_WRONLY | getattr(os, "O_NOCTTY", 0))
        else:
            # At its own offset, after earlier output: opened again it would begin at zero.
            sys.stdout.flush()
            number = os.dup(number)
        with open(temporary, "rb") as content, open(number, "wb", buffering=0) as file:
            shutil.copyfileobj(content, _Whole(file))
    finally:
        temporary.unlink(missing_ok=True)


class _Whole:
    """Writes every byte: an unbuffered file may take fewer, and a buffer would fail twice."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]


def _descriptor(path: Path_) -> int | None:
    """The open file descriptor that a name stands for."""
    text = os.fspath(path)
    if text in ("/dev/stdout", "/dev/stderr"):
        return 1 if text == "/dev/stdout" else 2
    number = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", text)
    return int(number[1]) if number else None


def _follow(path: Path) -> Path:
    """The file that a path means, behind all symbolic links, existing or not."""
    return Path(os.path.realpath(path))


def status(path: Path_) -> os.stat_result | None:
    """``os.stat`` of a path; None for nothing. Other errors (links in a loop) are raised."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


# -- writing ------------------------------------------------------------------------------------


def write_bytes(path: Path_, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path_, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path_, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically. NaN is refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def explain(error: OSError) -> str:
    """An operating system error as ``path: reason``."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"


@contextmanager
def disk_errors(folder: Path_, advice: str) -> Iterator[None]:
    """Turn errors of the disk under ``folder`` into an :class:`InputError` with advice."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        place = folder if error.filename is None else error.filename
        raise InputError(f"{place}: cannot write: {error.strerror}; {advice}") from error


def write_or_rescue(path: Path_, write: Callable[[Path], None]) -> None:
    """Call ``write(path)``; if that fails, write to another folder and report it.

    For the result of long work, whose target has become full or read-only meanwhile. Tried are
    the current and the temporary folder, under a name that is not taken. Raises
    :class:`InputError` that names the file written instead; if nothing could be written, the
    first ``OSError``.
    """
    path = Path(path)
    try:
        write(path)
        return
    except OSError as error:
        first = error
    for folder in (os.curdir, tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            place = _free_name(Path(folder).resolve() / path.name)
            write(place)
            raise InputError(f"{explain(first)}; written to {place} instead")
    raise first


def _free_name(path: Path) -> Path:
    """``path``, or the first of ``name-2``, ``name-3``, … that does not exist."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


# -- fingerprints -------------------------------------------------------------------------------


def digest(value: Any) -> str:
    """Short hexadecimal SHA-256 of a JSON-able value, the same on every machine."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike[str]) -> str:
    """Short hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def differences(wanted: Any, found: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, wanted and found value of each place where two JSON-able values differ.

    A value that is missing on one side is ``"nothing"``. Tuples are lists, as JSON reads them.

    Examples
    --------
    >>> list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}))
    [('a.b', 1, 3)]
    """
    if isinstance(wanted, Mapping) and isinstance(found, Mapping):
        for key in dict.fromkeys([*wanted, *found]):
            inner = f"{name}.{key}" if name else str(key)
            yield from differences(wanted.get(key, "nothing"), found.get(key, "nothing"), inner)
    elif json.loads(json.dumps(wanted)) != json.loads(json.dumps(found)):
        yield name, wanted, found


@cache
def source_digest(*packages: str) -> str:
    """Fingerprint of the library's own source: the named packages, or all of it.

    ``source_digest("faces", "radar")`` changes when a ``.py`` file in those packages changes; names
    are folders or modules of :mod:`radarbook`. It shows whether an artefact on disk was made by
    other code.
    """
    roots = [PACKAGE / package for package in packages] if packages else [PACKAGE]
    files: list[Path] = []
    for root in roots:
        files += sorted(root.rglob("*.py")) if root.is_dir() else [root.with_suffix(".py")]
    return digest([(str(f.relative_to(PACKAGE)), file_digest(f)) for f in sorted(files)])
