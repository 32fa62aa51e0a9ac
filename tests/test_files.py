"""Writing whole files: links, modes, devices, full disks, read-only places."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from radarbook import files
from radarbook.errors import InputError
from radarbook.files import atomic_path, write_bytes, write_or_rescue, write_text
from radarbook.hdf5 import new_hdf5
from radarbook.radar.signal import write_signal
from radarbook.training.checkpoints import load_tensors, save_tensors
from tests.disks import as_ordinary_user, small_disk


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike the test runner's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- ordinary files ------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_folders_are_made_and_names_may_be_odd(tmp_path: Path) -> None:
    for name in ("with space.txt", "line\nbreak.txt", "ünï😀.txt", "-o.txt", "no suffix", "."
                 "hidden", "x" * 251 + ".txt", "é" * 125 + ".txt", "a." + "s" * 250):  # fmt: skip
        path = tmp_path / "new" / "folder" / name
        write_text(path, name)
        assert path.read_text() == name
        path.unlink()
    assert names(tmp_path / "new" / "folder") == []
    with pytest.raises(OSError, match="too long") as error:
        write_text(tmp_path / ("x" * 256), "")
    assert error.value.filename == str(tmp_path / ("x" * 256))


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "")
        save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    for name in ("a.txt", "a.safetensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_an_existing_file_keeps_its_mode_and_owner(tmp_path: Path) -> None:
    for name, write in {
        "a.txt": lambda path: write_text(path, "new"),
        "a.safetensors": lambda path: save_tensors(path, {"a": torch.zeros(1)}, {}),
    }.items():
        path = tmp_path / name
        path.write_text("old")
        path.chmod(0o604)
        owner = (12345, 54321) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        os.chown(path, *owner)
        write(path)
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o604
        assert (found.st_uid, found.st_gid) == owner
        assert path.read_bytes() != b"old"


def test_the_temporary_copy_of_a_private_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    path.chmod(0o600)
    with atomic_path(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600


def test_a_hard_link_keeps_the_old_content(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    os.link(tmp_path / "a", tmp_path / "b")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "b").read_text() == "old"


# -- links ---------------------------------------------------------------------------------------


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "a.txt", tmp_path / "link.txt"
    link.symlink_to(Path("far") / "a.txt")
    write_text(link, "through a link to nothing yet")
    target.chmod(0o640)
    write_text(link, "again")
    assert os.readlink(link) == "far/a.txt"
    assert target.read_text() == "again"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert names(tmp_path / "far") == ["a.txt"]


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    one, two, gone = tmp_path / "one", tmp_path / "two", tmp_path / "gone"
    one.symlink_to(two)
    two.symlink_to(one)
    with pytest.raises(OSError, match="symbolic links") as error:
        write_text(one, "")
    assert error.value.errno == errno.ELOOP
    # The folder may be on a disk that is not mounted: it is not made.
    gone.symlink_to(tmp_path / "unmounted" / "a.txt")
    with pytest.raises(FileNotFoundError) as error:
        write_text(gone, "")
    assert error.value.filename == str(gone)
    assert names(tmp_path) == ["gone", "one", "two"]


# -- devices and pipes ---------------------------------------------------------------------------


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.stat(os.devnull).st_rdev)
        write_text(null, "into the void")
    except PermissionError:
        null = Path(os.devnull)  # where no device can be made, none can be replaced either
    write_signal(null, np.ones((2, 2, 128), np.complex64))
    with new_hdf5(null) as file:
        file["x"] = np.zeros(3)
    save_tensors(null, {"a": torch.zeros(1)}, {})
    assert stat.S_ISCHR(null.stat().st_mode)
    assert [name for name in names(tmp_path) if name != "null"] == []


def test_a_full_device_is_an_error_that_names_it() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_text("/dev/full", "x")
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_gets_the_whole_file(tmp_path: Path) -> None:
    pipe, signal = tmp_path / "pipe", np.ones((30, 30, 128), np.complex64)  # more than it holds
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_signal(pipe, signal)
    reader.join()
    write_signal(tmp_path / "file", signal)
    assert read == [(tmp_path / "file").read_bytes()]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: open(pipe, "rb").close())
    reader.start()
    with pytest.raises(OSError, match="the reader closed it"):
        write_bytes(pipe, bytes(10**6))
    reader.join()


def test_standard_output_is_continued_where_it_is(tmp_path: Path) -> None:
    """If it were opened again, a redirected output would be overwritten from its start."""
    code = (
        "import sys; from radarbook.files import write_text; print('before', end=' ');"
        "write_text('/dev/stdout', 'file '); print('behind')"
    )
    path = tmp_path / "out"
    with open(path, "a") as out:
        out.write("there ")
        out.flush()
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert path.read_text() == "there before file behind\n"


def test_sockets_and_folders_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # the names of sockets are short
        try:
            server.bind("s")
        finally:
            os.chdir(here)
        with pytest.raises(OSError, match="found a socket"):
            write_text(tmp_path / "s", "")
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "")


# -- read-only places ----------------------------------------------------------------------------


def test_a_read_only_file_stays(shared_folder: Path) -> None:
    path = shared_folder / "a.txt"
    path.write_text("old")
    path.chmod(0o444)
    shared_folder.chmod(0o777)

    def check() -> None:
        with pytest.raises(PermissionError) as error:
            write_text(path, "new")
        assert error.value.filename == str(path)

    as_ordinary_user(check)
    assert path.read_text() == "old"


def test_a_writable_file_in_a_read_only_folder_is_overwritten_in_place(shared_folder: Path) -> None:
    path = shared_folder / "a.txt"
    path.write_text("old and longer than the new")
    path.chmod(0o666)
    number = path.stat().st_ino
    shared_folder.chmod(0o555)

    def check() -> None:
        write_text(path, "new")
        with pytest.raises(PermissionError):
            write_text(shared_folder / "other.txt", "new")

    as_ordinary_user(check)
    shared_folder.chmod(0o755)
    assert path.read_text() == "new"
    assert path.stat().st_ino == number
    assert names(shared_folder) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM])
def test_what_cannot_be_renamed_to_is_overwritten_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A mount point (a single file given to a container); another's file in a sticky folder."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(code, os.strerror(code), str(self))

    monkeypatch.setattr(Path, "replace", refuse)
    write_text(path, "new")
    assert path.read_text() == "new"
    with pytest.raises(OSError, match=os.strerror(code)):
        write_text(tmp_path / "b.txt", "new")
    assert names(tmp_path) == ["a.txt"]


# -- full disks ----------------------------------------------------------------------------------


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        tensors = {"a": torch.zeros(10**6)}
        for name, write in {
            "a.npy": lambda path: write_signal(path, np.ones((50, 20, 128), np.complex64)),
            "a.txt": lambda path: write_text(path, "x" * 10**6),
            "a.safetensors": lambda path: save_tensors(path, tensors, {}),
        }.items():
            path = disk / name
            path.write_text("old")
            with pytest.raises(OSError, match="No space left on device") as error:
                write(path)
            assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
            assert path.read_text() == "old"
        with pytest.raises(OSError, match="No space left"), new_hdf5(disk / "a.h5") as file:
            file["x"] = np.random.default_rng(0).normal(size=10**5)
        assert names(disk) == ["a.npy", "a.safetensors", "a.txt"]


def test_in_place_a_full_disk_is_noticed_before_the_old_content_is_touched(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        path = disk / "a.txt"
        path.write_text("old")
        (tmp_path / "new").write_bytes(bytes(10**6))
        with pytest.raises(OSError, match="No space left"):
            files._copy_over(tmp_path / "new", path)
        assert path.read_text() == "old"


def test_a_safetensors_error_of_the_disk_is_one_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    from radarbook.training import checkpoints

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": torch.ones(1)}, {})
    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_tensors(path, {"a": torch.zeros(1)}, {})
    assert error.value.filename == str(path)
    assert load_tensors(path)[0]["a"].item() == 1
    assert names(tmp_path) == ["a.safetensors"]


def test_an_hdf5_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"

    def fail() -> None:
        with new_hdf5(path) as file:
            file["x"] = [1, 2]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert names(tmp_path) == []
    with new_hdf5(path) as file:
        file["x"] = [1, 2]
    with h5py.File(path) as file:
        assert file["x"][()].tolist() == [1, 2]


# -- results that must not be lost ---------------------------------------------------------------


def test_a_result_goes_elsewhere_rather_than_being_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    target = tmp_path / "file" / "face.ply"  # its folder has become a file
    for name in ("face.ply", "face-2.ply"):
        place = tmp_path / "here" / name
        with pytest.raises(InputError, match="written to") as error:
            write_or_rescue(target, lambda path: write_text(path, "face"))
        assert str(error.value).endswith(f"written to {place} instead")
        assert str(error.value).startswith(f"{target}: ")
        assert place.read_text() == "face"


def test_where_nothing_can_be_written_the_first_error_is_said() -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(OSError, match="No space left") as error:
        write_or_rescue("a.ply", full)
    assert error.value.filename == "a.ply"
