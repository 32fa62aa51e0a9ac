import json
import os
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from radarbook.datasets.recordings import (
    Recording,
    find_recordings,
    read_recording,
    save_recording,
    saved_files,
    write_maroon,
    write_recording,
)
from radarbook.errors import InputError
from radarbook.radar.array import Array, qar50
from radarbook.radar.signal import write_signal
from radarbook.radar.waveform import Waveform, qar50_waveform, stepped


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


def test_hdf5_keeps_pose_and_pairs(tmp_path):
    turn = torch.tensor([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]], dtype=torch.float64)
    product = Array(torch.rand(3, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64))
    moved = product.moved(turn, torch.tensor([0.1, 0.0, 0.05], dtype=torch.float64))
    waveform = Waveform(torch.tensor([60e9, 61e9], dtype=torch.float64))
    path = tmp_path / "moved.h5"
    write_recording(path, Recording(torch.from_numpy(noise((5, 3, 2))), moved, waveform))
    back = read_recording(path)
    assert back.array.pairs is None
    assert torch.equal(back.array.rotation, moved.rotation)
    assert torch.equal(back.array.origin, moved.origin)
    assert torch.allclose(back.array.own().tx, product.tx, atol=1e-12)
    with h5py.File(path, "a") as file:
        file["pose/rotation"][0, 0] = 2.0
    with pytest.raises(InputError, match=r"moved.h5: pose rotation: expected orthonormal rows"):
        read_recording(path)
    # A file without a pose is one of an array that was not moved.
    with h5py.File(path, "a") as file:
        del file["pose"]
    assert not read_recording(path).array.is_moved
    some = product.replace(pairs=torch.tensor([[0, 4], [2, 1], [1, 1]]))
    path = tmp_path / "pairs.h5"
    write_recording(path, Recording(torch.from_numpy(noise((3, 2))), some, waveform))
    back = read_recording(path)
    assert back.array.pairs.tolist() == [[0, 4], [2, 1], [1, 1]]
    with h5py.File(path, "a") as file:
        assert [d.label for d in file["signal"].dims] == ["pair", "frequency"]
        file["pairs"][0, 0] = 7
    with pytest.raises(InputError, match=r"pairs.h5: array pairs: expected tx numbers of 0 to 2"):
        read_recording(path)


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


# -- units, order and kinds of numbers ------------------------------------------------------------


def small(frequencies=(60e9, 61e9, 63e9)) -> Recording:
    random = np.random.default_rng(1)
    array = Array(*(torch.from_numpy(random.uniform(-0.1, 0.1, (n, 3))) for n in (4, 5)))
    waveform = Waveform(torch.tensor(frequencies, dtype=torch.float64))
    return Recording(torch.from_numpy(noise((5, 4, len(frequencies)))), array, waveform)


def rewritten(path, recording, **values):
    """Our layout with other datasets; a name with ``None`` is left out, ``_attrs`` are root's."""
    write_recording(path, recording)
    with h5py.File(path, "r+") as file:
        for name, value in values.pop("_attrs", {}).items():
            file.attrs[name] = value
        for name, value in values.items():
            del file[name]
            if value is not None:
                file[name] = value
    return path


def test_frequencies_travel_with_a_npy_signal(tmp_path):
    path = tmp_path / "s.npy"
    signal = noise((94, 94, 24))
    recording = Recording(torch.from_numpy(signal), qar50(), qar50_waveform(24))
    save_recording(path, recording)
    back = read_recording(path)
    assert torch.equal(back.signal, recording.signal)
    assert torch.equal(back.waveform.frequencies, recording.waveform.frequencies)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.frequencies.json", "s.npy"]
    # Without its frequencies, with those of another signal, and with damaged ones: refused.
    side = tmp_path / "s.frequencies.json"
    whole = side.read_text()
    np.save(path, signal * 2)
    with pytest.raises(InputError, match=r"s\.frequencies\.json: belongs to another signal"):
        read_recording(path)
    np.save(path, signal)
    for damaged, says in (
        ("{", "expected JSON"),
        ("[]", "layout = 'radarbook signal frequencies'"),
        (whole.replace('"layout_version": 1', '"layout_version": 2'), "layout_version 1, found 2"),
        (whole.replace("72000000000.0", '"72"'), "a list of numbers"),
        (whole.replace("72000000000.0", "72.0"), "expected frequencies of 1e9 to 1e12 Hz"),
        (whole.replace("72000000000.0,", ""), r"\(94, 94, 23\).*found \(94, 94, 24\)"),
    ):
        assert damaged != whole
        side.write_text(damaged)
        with pytest.raises(InputError, match=says):
            read_recording(path)
    side.unlink()
    with pytest.raises(InputError, match=r"s\.npy: expected .*128.*--frequencies START STOP COUNT"):
        read_recording(path)
    given = read_recording(path, frequencies=stepped(72, 82, 24, "GHz"))
    assert torch.equal(given.waveform.frequencies, recording.waveform.frequencies)


def test_the_usual_frequencies_need_no_file_and_take_a_stale_one_away(tmp_path, recording):
    path = tmp_path / "s.npy"
    few = Recording(torch.from_numpy(noise((94, 94, 2))), qar50(), qar50_waveform(2))
    save_recording(path, few)
    save_recording(path, recording)
    assert [p.name for p in tmp_path.iterdir()] == ["s.npy"]
    assert torch.equal(read_recording(path).waveform.frequencies, recording.waveform.frequencies)
    # 128 steps of another band are not taken for the usual ones.
    other = replace(recording, waveform=stepped(60, 64, 128, "GHz"))
    save_recording(path, other)
    assert torch.equal(read_recording(path).waveform.frequencies, other.waveform.frequencies)


def test_saved_in_the_layout_of_the_name(tmp_path, recording):
    save_recording(tmp_path / "s.H5", recording)
    assert h5py.is_hdf5(tmp_path / "s.H5")
    assert same(read_recording(tmp_path / "s.H5"), recording)
    with pytest.raises(InputError, match=r"s: expected a name ending in .npy, .h5 or .hdf5"):
        save_recording(tmp_path / "s", recording)
    with pytest.raises(InputError, match=r"a.npy: expected the QAR50 array"):
        save_recording(tmp_path / "a.npy", small())
    assert [p.name for p in tmp_path.iterdir()] == ["s.H5"]


def test_a_file_that_is_not_ours_stays(tmp_path, recording):
    """Of a name that the frequencies would have."""
    side = tmp_path / "s.frequencies.json"
    side.write_text("mine")
    save_recording(tmp_path / "s.npy", recording)
    few = Recording(torch.from_numpy(noise((94, 94, 2))), qar50(), qar50_waveform(2))
    with pytest.raises(
        InputError, match=r"s\.frequencies\.json: expected the frequencies of a signal"
    ):
        save_recording(tmp_path / "s.npy", few)
    assert side.read_text() == "mine"
    assert saved_files(tmp_path / "s.npy", few.waveform) == [tmp_path / "s.npy", side]
    assert saved_files(tmp_path / "s.h5", few.waveform) == [tmp_path / "s.h5"]
    with pytest.raises(InputError, match="/dev/null: expected a file for a signal of other freq"):
        saved_files("/dev/null", few.waveform)
    assert saved_files("/dev/null", recording.waveform) == [Path("/dev/null")]


def test_upper_case_suffixes_are_found_and_read(tmp_path, recording):
    first = write_maroon(tmp_path / "head" / "30", recording)
    first.rename(first.with_suffix(".NPY"))
    filtered = write_maroon(
        tmp_path / "head" / "30", replace(recording, meta={"empty_filtered": True})
    )
    write_recording(tmp_path / "x.HDF5", recording)
    write_signal(tmp_path / "y.NPY", recording.signal.numpy())
    found = list(find_recordings(tmp_path))
    assert [f.path.name for f in found] == ["x.HDF5", "y.NPY", filtered.name]
    assert all(torch.equal(f.read().signal, recording.signal) for f in found)
    assert (
        read_recording(tmp_path / "head" / "30", empty_filtered=False).meta["path"].endswith(".NPY")
    )


@pytest.mark.parametrize("unit", ["GHz", "MHz"])
def test_frequencies_in_another_unit(tmp_path, recording, unit):
    factor = {"GHz": 1e9, "MHz": 1e6}[unit]
    frequencies = recording.waveform.frequencies.numpy()
    radar = tmp_path / "bunny" / "30" / "radar_72.0_82.0_128" / "calibrated_data"
    _published(radar / "000000.npy", noise((96, 96, 128)), fvec=frequencies / factor)
    h5 = rewritten(tmp_path / "a.h5", small(), frequency=np.array([60e9, 61e9, 63e9]) / factor)
    for path, wanted in ((radar / "000000.npy", frequencies), (h5, [60e9, 61e9, 63e9])):
        says = rf"{path.name}: .*expected frequencies of 1e9 to 1e12 Hz.*--frequency-unit {unit}"
        with pytest.raises(InputError, match=says):
            read_recording(path)
        back = read_recording(path, frequency_unit=unit)
        np.testing.assert_allclose(back.waveform.frequencies, wanted, rtol=1e-12)
    # A unit in the file is believed, and one that is not known is not.
    for name, expected in ((unit, None), ("1/cm", r"frequency: expected unit Hz, .*'1/cm'")):
        with h5py.File(h5, "r+") as file:
            file["frequency"].attrs["unit"] = name
        if expected is None:
            assert read_recording(h5).waveform.frequencies.tolist() == [60e9, 61e9, 63e9]
        else:
            with pytest.raises(InputError, match=expected):
                read_recording(h5)


def test_positions_in_another_unit(tmp_path):
    mine = small()
    tx, rx = mine.array.tx.numpy(), mine.array.rx.numpy()
    path = rewritten(tmp_path / "a.h5", mine, tx=tx * 1e3, rx=rx * 1e3)
    with pytest.raises(InputError, match=r"a.h5: array tx: .*within 2 m.*likely in mm.*--units mm"):
        read_recording(path)
    back = read_recording(path, units="mm")
    np.testing.assert_allclose(back.array.tx, tx, rtol=1e-12)
    np.testing.assert_allclose(back.array.rx, rx, rtol=1e-12)
    with h5py.File(path, "r+") as file:
        file["tx"].attrs["units"] = file["rx"].attrs["units"] = np.bytes_(b"mm")
    np.testing.assert_allclose(read_recording(path).array.rx, rx, rtol=1e-12)
    # Metres that are taken for millimetres would be an array smaller than a wavelength.
    write_recording(path, mine)
    with pytest.raises(InputError, match=r"a.h5: .*antennas within .*wavelength"):
        read_recording(path, units="mm")


def test_an_antenna_far_away_is_read_again(tmp_path):
    """A transmitter a kilometre away: its unit is in the file or stated; else it is refused."""
    line = torch.tensor([[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0]], dtype=torch.float64)
    array = Array.of_pairs(torch.tensor([[0.0, 10.0, -1000.0]]), line, unit="m")
    mine = Recording(torch.ones(3, 4, dtype=torch.complex64), array, qar50_waveform(4))
    write_recording(tmp_path / "a.h5", mine)
    assert torch.equal(read_recording(tmp_path / "a.h5").array.tx, array.tx)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        for name in ("tx", "rx"):
            del file[name].attrs["unit"]
    with pytest.raises(InputError, match="array tx: expected positions within 2 m"):
        read_recording(tmp_path / "a.h5")
    assert torch.equal(read_recording(tmp_path / "a.h5", units="m").array.tx, array.tx)


def test_other_orders_of_frequencies(tmp_path):
    mine = small()
    signal = mine.signal.numpy()
    for order, says in (([2, 1, 0], "descending frequencies, reversed"), ([1, 2, 0], "sorted")):
        path = rewritten(
            tmp_path / "a.h5",
            mine,
            frequency=mine.waveform.frequencies.numpy()[order],
            signal=signal[..., order],
        )
        back = read_recording(path)
        assert torch.equal(back.signal, mine.signal)
        assert torch.equal(back.waveform.frequencies, mine.waveform.frequencies)
        [note] = back.notes
        assert says in note
        assert "a.h5: " in note
    path = rewritten(tmp_path / "a.h5", mine, frequency=[60e9, 61e9, 60e9])
    with pytest.raises(
        InputError, match=r"a.h5: expected each frequency once, found 6e\+10 Hz twice"
    ):
        read_recording(path)


def test_frequencies_given_replace_those_of_the_file(tmp_path):
    path = rewritten(tmp_path / "a.h5", small(), frequency=[60e9, 61e9, 60e9])
    back = read_recording(path, frequencies=stepped(60e9, 62e9, 3))
    assert back.waveform.frequencies.tolist() == [60e9, 61e9, 62e9]
    assert back.notes == (f"{path}: the frequencies in the file are not used",)
    with pytest.raises(InputError, match=r"a.h5: expected a signal of shape \(5, 4, 4\)"):
        read_recording(path, frequencies=stepped(60e9, 62e9, 4))


@pytest.mark.parametrize("version", [1.0, np.array([[1.0]]), np.int8(1), "1", np.bytes_(b"1")])
def test_layout_version_of_any_type(tmp_path, version):
    mine = small()
    path = rewritten(tmp_path / "a.h5", mine, _attrs={"layout_version": version})
    assert torch.equal(read_recording(path).signal, mine.signal)


def test_hdf5_of_other_writers(tmp_path):
    mine = small()
    signal = mine.signal.numpy()
    big = {
        "frequency": mine.waveform.frequencies.numpy().astype(">f8"),
        "tx": mine.array.tx.numpy().astype(">f4"),
        "rx": np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [1, -1, 0]], ">i2"),
        "signal": signal.astype(">c16"),
    }
    back = read_recording(rewritten(tmp_path / "a.h5", mine, **big))
    assert torch.equal(back.signal, mine.signal)
    assert back.array.rx[4].tolist() == [1, -1, 0]
    np.testing.assert_allclose(back.array.tx, mine.array.tx, atol=1e-7)
    for fields in (("re", "im"), ("real", "imag"), ("R", "I")):
        pairs = np.empty(signal.shape, [(name, "<f8") for name in fields])
        pairs[fields[0]], pairs[fields[1]] = signal.real, signal.imag
        back = read_recording(rewritten(tmp_path / "a.h5", mine, signal=pairs))
        assert torch.equal(back.signal, mine.signal)
    layouts = (
        np.bytes_(b"radarbook signal"),
        np.bytes_(b"radarbook signal\0\0\0"),
        np.array([b"radarbook signal"]),
        np.array(["radarbook signal"], h5py.string_dtype()),
    )
    for layout in layouts:
        path = rewritten(tmp_path / "a.h5", mine, _attrs={"layout": layout}, meta=None)
        assert torch.equal(read_recording(path).signal, mine.signal)
        assert [f.path for f in find_recordings(tmp_path)] == [path]
    with h5py.File(path, "r+") as file:
        file.attrs["calibration"] = np.array([b'{"gain": 2}'])
        file.create_group("meta").attrs["subject"] = np.bytes_(b"A")
        file["meta"].attrs["distance"] = np.array([0.3])
    back = read_recording(path)
    assert back.calibration == {"gain": 2}
    assert (back.meta["subject"], back.meta["distance"]) == ("A", 0.3)


def test_frequencies_of_single_precision_have_equal_steps(tmp_path):
    equal = Recording(torch.from_numpy(noise((5, 4, 50))), small().array, stepped(60e9, 64e9, 50))
    single = equal.waveform.frequencies.numpy().astype(np.float32)
    assert np.ptp(np.diff(single.astype(float))) > 1000
    back = read_recording(rewritten(tmp_path / "a.h5", equal, frequency=single))
    gaps = back.waveform.frequencies.diff()
    assert float(gaps.max() - gaps.min()) < 1e-6 * float(gaps.mean())
    np.testing.assert_allclose(back.waveform.frequencies, equal.waveform.frequencies, rtol=1e-7)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tx": np.array([b"a", b"b"])}, "tx: expected numbers, found text"),
        ({"tx": np.array(["left", "right"], dtype=h5py.string_dtype())}, "tx: .*found text"),
        ({"tx": None}, "expected a dataset 'tx', found none"),
        ({"frequency": np.array([b"60 GHz"])}, "frequency: expected numbers, found text"),
        ({"frequency": [60e9, 61e9, np.nan]}, "expected finite frequencies"),
        ({"frequency": np.zeros(0)}, r"expected frequencies \(F,\)"),
        ({"tx": np.zeros((3, 4))}, r"tx: .*\(antennas, 3\), found \(3, 4\), which is transposed"),
        ({"signal": noise((4, 5, 3))}, "receivers and transmitters are likely swapped"),
        ({"signal": np.zeros((5, 4, 3), np.complex64)}, "expected a signal, found zeros only"),
        ({"signal": np.ones((5, 4, 3))}, r"found dtype float64; join the parts, I \+ 1j \* Q"),
        ({"signal": np.full((5, 4, 3), 1e300 + 0j)}, "single precision holds.*1e\\+300"),
        ({"signal": np.full((5, 4, 3), 1e-200 + 0j)}, "single precision holds.*1e-200"),
        # Of these single precision holds the numbers, but not the powers.
        ({"signal": np.full((5, 4, 3), 1e-23, np.complex64)}, "single precision holds.*1e-23"),
        ({"signal": np.full((5, 4, 3), 1e22, np.complex64)}, "single precision holds.*1e\\+22"),
        ({"reference_depth": np.zeros(3)}, r"reference_depth: expected an image \[y, x\]"),
        (
            {"_attrs": {"calibration": "gain = 2"}},
            "calibration: expected a JSON object.*'gain = 2'",
        ),
        ({"_attrs": {"calibration": "[1]"}}, "calibration: expected a JSON object"),
        ({"_attrs": {"calibration": 3.0}}, "calibration: expected a JSON object as text.*float64"),
        ({"_attrs": {"layout_version": 2}}, "expected layout_version 1, found 2"),
        ({"_attrs": {"layout_version": 1.5}}, "expected layout_version 1, found 1.5"),
        ({"_attrs": {"layout_version": "one"}}, "expected layout_version 1, found one"),
        ({"_attrs": {"layout": 1}}, "layout = 'radarbook signal'"),
    ],
)
def test_hdf5_that_is_refused_is_one_clear_line(tmp_path, values, says):
    mine = replace(small(), reference_depth=torch.zeros(2, 2))
    path = rewritten(tmp_path / "a.h5", mine, **values)
    with pytest.raises(InputError, match=says) as error:
        read_recording(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_huge_signal_is_refused_by_its_shape(tmp_path):
    path = rewritten(tmp_path / "a.h5", small(), signal=None)
    with h5py.File(path, "r+") as file:
        file.create_dataset("signal", (10**6, 10**6, 3), np.complex64, chunks=(10, 10, 3))
    with pytest.raises(InputError, match=r"\(5, 4, 3\).*found \(1000000, 1000000, 3\)"):
        read_recording(path)


# -- .npy files -----------------------------------------------------------------------------------


def saved(path, *arrays):
    with open(path, "wb") as file:
        for array in arrays:
            np.save(file, array)
    return path


def test_several_arrays_in_one_file(tmp_path):
    signal, path = noise(), tmp_path / "a.npy"
    back = read_recording(saved(path, signal.real, signal.imag))
    assert np.array_equal(back.signal, signal)
    assert back.notes == (f"{path}: two arrays, read as real and imaginary part",)
    few = signal[..., :5]
    frequencies = np.linspace(60, 62, 5)
    path = saved(path, few, frequencies)
    with pytest.raises(InputError, match=r"a.npy: .*--frequency-unit GHz"):
        read_recording(path)
    back = read_recording(path, frequency_unit="GHz")
    assert np.array_equal(back.signal, few)
    np.testing.assert_allclose(back.waveform.frequencies, frequencies * 1e9)
    assert back.notes == (f"{path}: two arrays, read as signal and frequencies",)
    back = read_recording(saved(path, *np.moveaxis(signal, 2, 0)))
    assert np.array_equal(back.signal, signal)
    assert back.notes == (f"{path}: 128 arrays, read as one for each frequency",)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ([noise((94, 94, 2))] * 3, r"found 3 arrays \(complex64 \(94, 94, 2\), .*--describe"),
        ([noise((94, 94))] * 94, r"found 94 arrays \(complex64 \(94, 94\), .*, \.\.\.\)"),
        ([noise((94, 94, 2)), np.zeros((94, 94, 2))], "found 2 arrays"),
        ([np.zeros((2, 11, 7, 4), np.uint16), 22e9, 26e9], r"3 arrays \(uint16 \(2, 11, 7, 4\), "),
    ],
)
def test_arrays_that_cannot_be_joined_are_refused(tmp_path, arrays, says):
    with pytest.raises(InputError, match=rf"a.npy: expected one signal .*{says}"):
        read_recording(saved(tmp_path / "a.npy", *arrays))


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((128, 94, 94), r"axis 0 is likely the frequency: numpy.moveaxis\(signal, 0, -1\)"),
        ((94, 24, 94), r"axis 1 is likely the frequency: numpy.moveaxis\(signal, 1, -1\)"),
        ((1, 94, 94, 128), r"drop the axes of length 1 \(numpy.squeeze\)"),
        ((6, 75, 75), r"found \(6, 75, 75\); describe the file of another radar, --describe"),
        ((94, 94), r"found \(94, 94\)"),
    ],
)
def test_axes_in_another_order(tmp_path, shape, says):
    with pytest.raises(InputError, match=says):
        read_recording(saved(tmp_path / "a.npy", noise(shape)))


def test_damaged_and_foreign_npy_files(tmp_path):
    path = saved(tmp_path / "a.npy", noise((94, 94, 128)))
    whole = path.read_bytes()
    for content, says in (
        (whole[:-1], "the file ends early: expected 9048064 bytes for the array complex64"),
        (whole[:40], "expected a NumPy .npy array, found"),
        (b"", "found an empty file"),
        (whole + b"more", "expected nothing after the array, found 4 bytes that are no NumPy"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"a.npy: {says}" if says[:3] == "the" else says):
            read_recording(path)
    np.savez(tmp_path / "b.npz", noise((2, 2, 2)))
    (tmp_path / "b.npz").rename(path)
    with pytest.raises(InputError, match=r"a.npy: .*an .npz archive; save its signal alone"):
        read_recording(path)
    with pytest.raises(InputError, match="expected complex numbers, found dtype float64; join"):
        read_recording(saved(path, np.ones((94, 94, 128))))
    loop = tmp_path / "loop.npy"
    loop.symlink_to(loop)
    with pytest.raises(
        InputError, match=r"loop.npy: expected a recording, found a loop of symbolic"
    ):
        read_recording(loop)
    pairs = np.ones((94, 94, 128), [("re", "<f4"), ("im", "<f4")])
    assert bool((read_recording(saved(path, pairs)).signal == 1 + 1j).all())


def test_conjugated_on_reading(tmp_path):
    path = tmp_path / "a.h5"
    mine = small()
    write_recording(path, mine)
    assert torch.equal(read_recording(path, conjugate=True).signal, mine.signal.conj())
    with pytest.raises(InputError, match="frequency unit: expected one of Hz, kHz, MHz, GHz"):
        read_recording(path, frequency_unit="THz")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("panel_24ghz.npy", r"found 6 arrays \(uint16 \(2, 11, 187, 144\).*--describe"),
        ("class_22ghz.npy", r"found 6 arrays \(complex128 \(6, 75, 75\).*--describe"),
        ("vayyar_62_69ghz.mat", "found '.mat'; describe the file of another radar, --describe"),
    ],
)
def test_measured_recordings_of_other_instruments_get_advice(name, says):
    path = Path(__file__).parents[3] / "shared" / "recordings" / name
    if not path.is_file():
        pytest.skip(f"needs ../shared/recordings/{name}, which is not part of the project")
    with pytest.raises(InputError, match=says) as error:
        read_recording(path)
    assert "\n" not in str(error.value)
