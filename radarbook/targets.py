"""Targets of a command, checked before it begins.

A target that cannot be written, or that would overwrite an input, is an error at once and not after
an hour of work. An existing ordinary file that is not an input may be overwritten.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from radarbook.errors import InputError
from radarbook.files import Path_, explain, is_stream, new_file, status

HDF5 = (".h5", ".hdf5")
_INPUTS = Mapping[str, "Path_ | Iterable[Path_] | None"]


@dataclass(frozen=True)
class Target:
    """A file or a folder that a command writes.

    Attributes
    ----------
    path : path
        Of the file or folder.
    suffixes : tuple of str
        Permitted endings of the file's name, in lower case; any case is accepted. Empty: any.
    folder : bool
        It is a folder; it is made if missing.
    files : tuple of str
        Names of the files that are written in a folder.
    """

    path: Path
    suffixes: tuple[str, ...] = ()
    folder: bool = False
    files: tuple[str, ...] = ()

    def written(self) -> list[Path]:
        """Every file that is written, or the folder where its files have no fixed names."""
        return [self.path / name for name in self.files] or [self.path]


def check_targets(outputs: Mapping[str, Target | None], inputs: _INPUTS | None = None) -> None:
    """Raise :class:`InputError` for a target that cannot be written or must not be.

    Parameters
    ----------
    outputs : mapping
        Targets by the name of their option. None: not requested.
    inputs : mapping
        Paths that are read, one or several per name. Missing ones and None are ignored.

    Each output must differ from every input and from every other output, also through links and
    names in another case. It must have a suffix of its format and be writable: a small file is
    written to the nearest existing folder and removed.
    """
    asked = {name: target for name, target in outputs.items() if target is not None}
    for name, target in asked.items():
        try:
            _check(name, target)
        except OSError as error:
            raise InputError(f"{name} {target.path}: cannot be written: {explain(error)}") from None
    read = [(name, Path(path)) for name, given in (inputs or {}).items() for path in _paths(given)]
    written: list[tuple[str, Path]] = []
    for name, target in asked.items():
        for path in target.written():
            for source, other in read:
                if same_file(path, other):
                    raise InputError(
                        f"{name} {target.path}: would overwrite {other}, which is read "
                        f"({source}); choose another name"
                    )
            for first, other in written:
                if same_file(path, other) and not _is_void(path):
                    raise InputError(
                        f"{name} {target.path}: the same file as {first} {other}; choose another "
                        "name"
                    )
        written += [(name, path) for path in target.written()]


def same_file(one: Path_, other: Path_) -> bool:
    """True if two paths lead to one file, existing or not."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        a, b = os.path.realpath(one), os.path.realpath(other)
    return a == b or (a.casefold() == b.casefold() and _ignores_case(_existing(Path(a).parent)))


def _check(name: str, target: Target) -> None:
    path, said = target.path, f"{name} {target.path}"
    found = status(path)
    if target.folder:
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise InputError(f"{said}: expected a folder, found a file")
        for file in target.files or ("data",):
            _check_file(said, path / file)
        return
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise InputError(f"{said}: expected a file, found a folder")
    if is_stream(path):
        for kind, word in ((stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a block device")):
            if found is not None and kind(found.st_mode):
                raise InputError(f"{said}: expected a file, found {word}")
        return
    suffix = path.suffix.lower()
    if target.suffixes and suffix not in target.suffixes:
        wanted, other = " or ".join(target.suffixes), suffix or path.name
        raise InputError(f"{said}: expected a name ending in {wanted}, found '{other}'")
    _check_file(said, path)


def _check_file(said: str, path: Path) -> None:
    target, found = Path(os.path.realpath(path)), status(path)
    if found is not None and not os.access(target, os.W_OK):
        raise InputError(f"{said}: expected to be writable, found read-only")
    if path.is_symlink() and not target.parent.is_dir():
        raise InputError(f"{said}: expected a folder at {target.parent}, where it links to")
    folder = _existing(target.parent)
    if not folder.is_dir():
        raise InputError(f"{said}: expected a folder at {folder}, found a file")
    try:
        _try_writing(folder, target)
    except OSError as error:
        # Without new files in its folder, a file that exists is overwritten in place.
        if found is None or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def _try_writing(folder: Path, like: Path) -> None:
    """Write a small file and remove it: permissions alone do not show full disks or quotas."""
    trial = None
    try:
        trial = new_file(folder, like)
        with open(trial, "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        if trial is not None:
            trial.unlink(missing_ok=True)


def _existing(path: Path) -> Path:
    """The nearest of a path and the folders above it that exists."""
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return path


def _ignores_case(folder: Path) -> bool:
    """True if the file system takes names in upper and lower case for one."""
    swapped = folder.with_name(folder.name.swapcase()) if folder.name else folder
    return swapped != folder and swapped.exists() and os.path.samefile(swapped, folder)


def _is_void(path: Path) -> bool:
    return path.exists() and os.path.samefile(path, os.devnull)


def _paths(given: Path_ | Iterable[Path_] | None) -> Iterable[Path_]:
    if given is None:
        return ()
    return (given,) if isinstance(given, (str, os.PathLike)) else given
