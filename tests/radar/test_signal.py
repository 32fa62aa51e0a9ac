"""Raw signals from outside."""

from __future__ import annotations

import numpy as np
import pytest

from radarbook.errors import InputError
from radarbook.radar.signal import check_signal, read_signal, write_signal


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(94, 94, 128, 2)).astype(np.float32).view(np.complex64)[..., 0]
    write_signal(tmp_path / "signal.npy", signal)
    np.testing.assert_array_equal(read_signal(tmp_path / "signal.npy"), signal)
    assert [p.name for p in tmp_path.iterdir()] == ["signal.npy"]


@pytest.mark.parametrize(
    ("signal", "words"),
    [
        (np.zeros((94, 94), complex), r"found \(94, 94\)"),
        (np.zeros((94, 94, 64), complex), r"expected .*\(94, 94, 128\).*found \(94, 94, 64\)"),
        (np.zeros((94, 94, 128), np.float32), "found dtype float32"),
        (np.full((94, 94, 128), np.nan + 0j), "1131008 NaN or infinite"),
    ],
)
def test_refused(signal, words):
    with pytest.raises(InputError, match=words) as caught:
        check_signal(signal, "recording.npy")
    assert str(caught.value).startswith("recording.npy: ")


def test_other_shapes_on_request():
    signal = np.ones((94, 94, 24), complex)
    assert check_signal(signal, "s", (94, 94, None)) is signal


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_signal(tmp_path / "absent.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(InputError, match="expected a NumPy"):
        read_signal(tmp_path / "text.npy")
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="expected a signal of shape"):
        read_signal(tmp_path / "pickle.npy")
