"""HDF5 files on file systems with and without locks, and of other writers."""

from __future__ import annotations

import errno
import fcntl
import io
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from radarbook.errors import InputError
from radarbook.hdf5 import DamagedFileError, has_hdf5_suffix, new_hdf5, open_hdf5, text_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with new_hdf5(tmp_path / "a.h5") as made:
        made["numbers"] = np.arange(3.0)
    return tmp_path / "a.h5"


def without_locks(monkeypatch: pytest.MonkeyPatch, *, ever: bool) -> None:
    """h5py as on a file system without locks; ``ever``: where the environment demands locks."""
    real = h5py.File

    def opening(name: Any, mode: str = "r", **options: Any) -> h5py.File:
        if not isinstance(name, io.BytesIO) and (ever or options.get("locking") is not False):
            raise OSError(
                errno.ENOLCK,
                "Unable to synchronously open file (unable to lock file, errno = 37, "
                "error message = 'No locks available')",
            )
        return real(name, mode, **options)

    monkeypatch.setattr(h5py, "File", opening)


def test_read_and_written_without_locks(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, ever=False)
    with open_hdf5(file) as found:
        assert found["numbers"][()].tolist() == [0, 1, 2]
    with new_hdf5(tmp_path / "b.h5") as made:
        made["a"] = 1
    with open_hdf5(tmp_path / "b.h5") as found:
        assert found["a"][()] == 1


def test_advice_where_locks_are_demanded(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch, ever=True)
    says = r"cannot lock files \(ENOLCK, errno 37\); set HDF5_USE_FILE_LOCKING=FALSE"
    with pytest.raises(InputError, match=rf"a\.h5: the file system {says}"):
        open_hdf5(file)
    # What is written is built in memory, where nothing is locked.
    with new_hdf5(tmp_path / "b.h5") as made:
        made["a"] = 1
    assert (tmp_path / "b.h5").is_file()


def test_a_file_that_is_being_written(file: Path) -> None:
    with open(file, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(InputError, match=r"a\.h5: another program is writing") as caught:
            open_hdf5(file)
    assert not isinstance(caught.value, DamagedFileError)


def test_what_cannot_be_opened_is_named(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    contents = {
        "empty": (b"", "not an HDF5 file, it is empty"),
        "text": (b"hello, this is text\n", "not an HDF5 file"),
        "cut": (whole[: len(whole) // 2], "damaged HDF5 file, it ends early"),
        "matlab": (b"MATLAB 5.0 MAT-file" + bytes(200), "MATLAB file before version 7.3"),
    }
    for name, (content, says) in contents.items():
        path = tmp_path / f"{name}.h5"
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=rf"{name}\.h5: .*{says}") as damaged:
            open_hdf5(path)
        assert says in damaged.value.reason
        assert "\n" not in str(damaged.value)
    (tmp_path / "loop.h5").symlink_to(tmp_path / "loop.h5")
    for name, says in (("gone", "no such file"), ("loop", "cannot be read"), ("", "a folder")):
        path = tmp_path / f"{name}.h5" if name else tmp_path
        with pytest.raises(InputError, match=says):
            open_hdf5(path)


def test_text_of_other_writers() -> None:
    ways = ("text", b"text", np.bytes_(b"text\0\0"), np.array([b"text  "]), np.array(["text"], "O"))
    assert [text_of(value) for value in ways] == ["text"] * 5
    assert text_of(np.array([1.0])) is None
    assert text_of(np.array([b"a", b"b"])) is None


def test_suffixes() -> None:
    assert [has_hdf5_suffix(f"a{s}") for s in (".h5", ".H5", ".HDF5", ".npy", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
