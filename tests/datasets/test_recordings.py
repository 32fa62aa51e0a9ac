import json
import os
import pickle
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from radarbook.datasets.recordings import (
    Recording,
    find_recordings,
    read_recording,
    write_maroon,
    write_recording,
)
from radarbook.errors import InputError
from radarbook.radar.array import Array, qar50
from radarbook.radar.waveform import Waveform, qar50_waveform


def noise(shape=(94, 94, 128), seed=0):
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(np.complex64)


@pytest.fixture(scope="module")
def recording():
    depth = torch.full((5, 4), torch.nan)
    depth[3, 1] = 0.287
    return Recording(
        torch.from_numpy(noise()),
        qar50(),
        qar50_waveform(),
        meta={"subject": "A", "expression": "smile", "distance": 0.4, "trial": 3},
        calibration={"volume": {"bb_min": [-0.15, -0.15, 0.25]}},
        reference_depth=depth,
    )


def same(a: Recording, b: Recording) -> bool:
    return (
        torch.equal(a.signal, b.signal)
        and torch.equal(a.array.tx, b.array.tx)
        and torch.equal(a.array.rx, b.array.rx)
        and torch.equal(a.waveform.frequencies, b.waveform.frequencies)
        and dict(a.calibration) == dict(b.calibration)
        and torch.equal(a.reference_depth.nan_to_num(-1), b.reference_depth.nan_to_num(-1))
    )


def test_maroon_folder_and_back(tmp_path, recording):
    folder = tmp_path / "head" / "40"
    path = write_maroon(folder, recording, frame=2)
    assert path == folder / "radar_72.0_82.0_128" / "calibrated_data" / "000002.npy"
    for where in (folder, folder / "radar_72.0_82.0_128"):
        back = read_recording(where, frame=2)
        assert same(back, recording)
    assert back.meta["object"] == "head"
    assert back.meta["distance"] == 0.4
    assert back.meta["subject"] == "A"
    assert back.meta["frame"] == 2
    assert back.meta["empty_filtered"] is False
    # The picture on disk is upright and mirrored, in millimetres, 0 where there is nothing.
    picture = np.asarray(Image.open(folder / "radar_72.0_82.0_128" / "depth" / "000002.png"))
    assert picture.dtype == np.uint16
    assert picture[1, 2] == 287
    assert np.count_nonzero(picture) == 1


def test_the_empty_filtered_frame_is_preferred_and_both_can_be_asked_for(tmp_path, recording):
    folder = tmp_path / "head" / "30"
    filtered = replace(recording, signal=recording.signal * 2, meta={"empty_filtered": True})
    write_maroon(folder, recording)
    write_maroon(folder, filtered)
    assert torch.equal(read_recording(folder).signal, filtered.signal)
    assert torch.equal(read_recording(folder, empty_filtered=False).signal, recording.signal)
    for choice, count in ((None, 1), (True, 1), (False, 1)):
        found = list(find_recordings(tmp_path, empty_filtered=choice))
        assert len(found) == count
        assert found[0].meta["empty_filtered"] is (choice is not False)


def test_hdf5_and_back_with_any_array(tmp_path):
    array = Array(torch.rand(3, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64))
    waveform = Waveform(torch.tensor([60e9, 61e9], dtype=torch.float64))
    mine = Recording(
        torch.from_numpy(noise((5, 3, 2))),
        array,
        waveform,
        {"subject": "Zoë", "expression": "smile", "distance": 0.31, "awake": True},
        reference_depth=torch.rand(4, 4),
    )
    path = tmp_path / "one.h5"
    write_recording(path, mine)
    back = read_recording(path)
    assert same(back, mine)
    assert {k: back.meta[k] for k in mine.meta} == dict(mine.meta)
    # Without this library, by the names and units of the book's data page alone.
    with h5py.File(path) as file:
        assert file["signal"].shape == (5, 3, 2)
        assert [d.label for d in file["signal"].dims] == ["rx", "tx", "frequency"]
        assert np.array_equal(file["signal"][:], mine.signal)
        assert file["frequency"][:].tolist() == [60e9, 61e9]
        assert file["frequency"].attrs["unit"] == "Hz"
        assert file["rx"].attrs["unit"] == "m"
        assert file["meta"].attrs["subject"] == "Zoë"
        assert "exp(+j omega t)" in file.attrs["convention"]


def _published(path, signal, **entries):
    """A frame as the published dataset holds it: a pickled dictionary in a .npy file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"xr": signal, "number_of_measurements": np.array(1), **entries}
    np.save(path, content, allow_pickle=True)


def test_published_frames_are_dictionaries_with_reference_channels(tmp_path):
    radar = tmp_path / "01_bunny" / "30" / "radar_72.0_82.0_128" / "calibrated_data"
    signal = noise((96, 96, 128))
    frequencies = np.linspace(72e9, 82e9, 128)
    _published(
        radar / "000000.npy", signal, fvec=frequencies, timestamp_us=np.array([12], np.int64)
    )
    back = read_recording(tmp_path / "01_bunny" / "30")
    assert np.array_equal(back.signal, signal[1:-1, 1:-1])
    np.testing.assert_allclose(back.waveform.frequencies, frequencies)
    assert back.meta["object"] == "01_bunny"
    assert back.meta["distance"] == 0.3


def test_a_pickle_that_calls_anything_is_refused_unrun(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = tmp_path / "evil.npy"
    _published(path, noise((2, 2, 2)), payload=Bomb())
    with pytest.raises(InputError, match=r"evil.npy: expected .* it names .*mkdir"):
        read_recording(path)
    assert not (tmp_path / "exploded").exists()
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        pickle.dump(np.array({"other": 1}, dtype=object), file)
    with pytest.raises(InputError, match="'xr'"):
        read_recording(path)


def test_a_campaign_is_found_without_being_read(tmp_path, recording):
    # 12 names for one frame of 9 MB: the bytes are there, a reader that reads them would show.
    first = write_maroon(tmp_path / "s00" / "30", recording)
    for k in range(1, 12):
        path = tmp_path / f"s{k:02d}" / "30" / "radar_72.0_82.0_128" / "calibrated_data"
        path.mkdir(parents=True)
        os.link(first, path / "000000.npy")
    write_recording(tmp_path / "other" / "x.h5", recording)
    with h5py.File(tmp_path / "other" / "unrelated.h5", "w") as file:
        file["a"] = 1
    np.save(tmp_path / "other" / "unrelated.npy", np.zeros(3))
    tracemalloc.start()
    found = list(find_recordings(tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 13
    assert [f.meta.get("object") for f in found[1:]] == [f"s{k:02d}" for k in range(12)]
    assert found[0].meta["subject"] == "A"
    assert peak < 1e6
    assert torch.equal(found[7].read().signal, recording.signal)
    assert found[7].read().meta["object"] == "s06"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((94, 94, 64), np.complex64), r"\(94, 94, 128\).*\(94, 94, 64\)"),
        (np.zeros((94, 94, 128), np.float32), "complex numbers, found dtype float32"),
        (np.full((94, 94, 128), np.nan, np.complex64), "finite numbers, found 1131008 NaN"),
        (b"not an array", "expected a NumPy .npy array"),
    ],
)
def test_bad_frames_are_one_clear_line(tmp_path, content, message):
    path = tmp_path / "frame.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(InputError, match=message) as error:
        read_recording(path)
    assert "frame.npy" in str(error.value)
    assert "\n" not in str(error.value)


def test_other_bad_input_is_one_clear_line(tmp_path, recording):
    with pytest.raises(InputError, match="no such file or folder"):
        read_recording(tmp_path / "missing.npy")
    with pytest.raises(InputError, match=r"000000_emptyfiltered.npy or 000000.npy"):
        read_recording(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"found '.txt'"):
        read_recording(tmp_path / "a.txt")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["signal"] = 1
    with pytest.raises(InputError, match="layout = 'radarbook signal'"):
        read_recording(tmp_path / "b.h5")
    with pytest.raises(InputError, match="expected a folder of recordings"):
        list(find_recordings(tmp_path / "nowhere"))
    folder = tmp_path / "head" / "30"
    write_maroon(folder, recording)
    (folder / "radar_72.0_82.0_128" / "calibration.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match=r"calibration.json: expected a JSON object"):
        read_recording(folder)
    with pytest.raises(InputError, match="recording: expected a signal of shape"):
        replace(recording, waveform=qar50_waveform(64))
