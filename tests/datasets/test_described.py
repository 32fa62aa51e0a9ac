"""Recordings of other radars: signal, antennas and frequencies come back as they were measured.

The files are made here, by a simulator of a few lines in float64 that shares no code with the
library: point scatterers with exact spherical waves, time factor e^{+jωt}.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray

from radarbook.datasets.recordings import Recording, parse_description, read_recording
from radarbook.errors import InputError

C = 299_792_458.0
#: Scatterers: x, y, z (m) and strength.
POINTS = np.array([[0.02, -0.01, 0.30, 1.0], [-0.03, 0.02, 0.33, 0.7], [0.01, 0.03, 0.28, 0.5]])
RANDOM = np.random.default_rng(3)
TX = RANDOM.uniform(-0.05, 0.05, (4, 3)) * [1, 1, 0.1]
RX = RANDOM.uniform(-0.05, 0.05, (5, 3)) * [1, 1, 0.1]
FREQUENCIES = np.linspace(62e9, 69e9, 7)


def measured(tx: NDArray[Any], rx: NDArray[Any], f: NDArray[Any]) -> NDArray[np.complex128]:
    """(P, F): the signal of pairs of positions (P, 3)."""
    total = np.zeros((len(tx), len(f)), dtype=complex)
    for *place, strength in POINTS:
        path = np.linalg.norm(tx - place, axis=1) + np.linalg.norm(rx - place, axis=1)
        total += strength * np.exp(-2j * np.pi * np.multiply.outer(path, f) / C)
    return total


def product(f: NDArray[Any] = FREQUENCIES) -> NDArray[np.complex128]:
    """(rx, tx, F) of all pairs."""
    rx, tx = np.repeat(RX, len(TX), 0), np.tile(TX, (len(RX), 1))
    return measured(tx, rx, f).reshape(len(RX), len(TX), len(f))


def described(folder: Path, text: str, name: str, **options: Any) -> Recording:
    (folder / "radar.toml").write_text(text)
    return read_recording(folder / name, description=folder / "radar.toml", **options)


def require(
    recording: Recording, wanted: NDArray[Any], scale: float = 1.0, error: float = 2e-7
) -> None:
    """The signal is ``wanted``, of single precision: 2^-24, times the scatterers' sum of 2.2."""
    found = recording.signal.numpy() / scale
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= error * np.abs(wanted).max()


STEPS = '[frequencies]\nstart = 62\nstop = 69\nunit = "GHz"\n'
PRODUCT = '[antennas]\nfile = "array.csv"\nunit = "mm"\n' + STEPS


def write_antennas(path: Path) -> None:
    lines = ["# two boards", "antenna, x, y, z"]
    for name, positions in (("tx", TX), ("rx", RX)):
        lines += [f"{name}, {x!r}, {y!r}, {z!r}" for x, y, z in (positions * 1e3).tolist()]
    path.write_text("\n".join(lines))


def require_product(recording: Recording) -> None:
    assert np.allclose(recording.array.tx, TX, rtol=0, atol=1e-15)
    assert np.allclose(recording.array.rx, RX, rtol=0, atol=1e-15)
    assert recording.array.pairs is None
    assert np.allclose(recording.waveform.frequencies, FREQUENCIES, rtol=1e-15, atol=0)
    assert recording.notes == ()


def test_one_complex_array_in_another_order(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    np.save(tmp_path / "s.npy", product().transpose(2, 1, 0).conj())
    text = f'[signal]\naxes = "f, tx, rx"\nconjugate = true\n{PRODUCT}'
    recording = described(tmp_path, text, "s.npy")
    require_product(recording)
    require(recording, product())
    assert recording.provenance == ("conjugated",)


def test_separate_parts_and_descending_frequencies_in_an_archive(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    signal = product()[..., ::-1]
    parts = {"in_phase": signal.real, "quadrature": signal.imag, "f": FREQUENCIES[::-1] / 1e9}
    np.savez(tmp_path / "s.npz", **parts)
    text = (
        '[signal]\naxes = ["rx", "tx", "f"]\ni = "in_phase"\nq = "quadrature"\n'
        '[frequencies]\nvalues = "f"\nunit = "GHz"\n[antennas]\nfile = "array.csv"\nunit = "mm"\n'
    )
    recording = described(tmp_path, text, "s.npz")
    assert [n.split(": ")[1] for n in recording.notes] == [
        "descending frequencies, reversed together with the signal"
    ]
    require(recording, product())
    assert np.allclose(recording.waveform.frequencies, FREQUENCIES, rtol=1e-15, atol=0)


def test_interleaved_whole_numbers_in_a_group_of_hdf5(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    scale = 10_000
    parts = np.stack([product().imag, product().real], -1)  # Q first
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["frame/raw"] = np.round(parts * scale).astype(np.int16).reshape(-1)
        file["frame/time"] = 1.5
    text = (
        '[signal]\naxes = "rx, tx, f, iq"\niq = "QI"\nshape = [5, 4, 7, 2]\n'
        f'variable = "frame/raw"\n{PRODUCT}'
    )
    recording = described(tmp_path, text, "s.h5")
    require_product(recording)
    # Rounding to whole numbers: at most half of one in each part.
    require(recording, product(), scale, error=np.sqrt(0.5) / scale)


def matlab_73(path: Path, content: dict[str, Any]) -> None:
    """As MATLAB writes it: a block of its own in front, axes reversed, compound complex numbers,
    structures as groups and cells as references."""
    with h5py.File(path, "w", userblock_size=512) as file:

        def write(name: str, values: Any) -> None:
            if isinstance(values, dict):
                for field, value in values.items():
                    write(f"{name}/{field}", value)
            elif isinstance(values, list):
                for n, value in enumerate(values):
                    write(f"#refs#/{name.replace('/', '_')}{n}", value)
                places = [
                    file[f"#refs#/{name.replace('/', '_')}{n}"].ref for n in range(len(values))
                ]
                file.create_dataset(name, data=np.array(places, h5py.ref_dtype)[:, None])
            else:
                turned = values.T
                if np.iscomplexobj(values):
                    compound = np.zeros(turned.shape, [("real", "<f8"), ("imag", "<f8")])
                    compound["real"], compound["imag"] = turned.real, turned.imag
                    turned = compound
                file[name] = turned

        for name, values in content.items():
            write(name, values)
    block = path.read_bytes()
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(512) + block[512:])


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_pairs_and_shots_of_matlab(tmp_path: Path, version: str) -> None:
    pairs = product().transpose(1, 0, 2).reshape(20, 7)  # 5 tx + rx
    antennas = np.concatenate([TX, RX])
    content = {"A": pairs, "B": 2 * pairs, "ants": antennas}
    if version == "5":
        scipy.io.savemat(tmp_path / "s.mat", content)
    else:
        matlab_73(tmp_path / "s.mat", content)
    text = (
        '[signal]\nvariable = ["A", "B"]\naxes = "pair, f"\n[antennas]\nvariable = "ants"\n'
        f'tx = "0-3"\nrx = "4-8"\npairs = "5*tx + rx"\n{STEPS}'
    )
    recording = described(tmp_path, text, "s.mat")
    require_product(recording)
    require(recording, product())
    for shot, factor in ((1, 2), ("mean", 1.5)):
        require(described(tmp_path, text, "s.mat", shot=shot), factor * product())
    with pytest.raises(InputError, match=r"radar.toml: signal.shot: expected 0 to 1 or 'mean'"):
        described(tmp_path, text, "s.mat", shot=2)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_structures_and_cells_of_matlab(tmp_path: Path, version: str) -> None:
    shots = np.empty(2, dtype=object)
    shots[:] = [product(), 2 * product()]
    antennas = {"tx": TX, "rx": RX}
    if version == "5":
        content = {"radar": {"shots": shots, "antennas": antennas, "unit": "m"}}
        scipy.io.savemat(tmp_path / "s.mat", content)
    else:
        matlab_73(tmp_path / "s.mat", {"radar": {"shots": list(shots), "antennas": antennas}})
    text = (
        '[signal]\nvariable = ["radar/shots/0", "radar/shots/1"]\naxes = "rx, tx, f"\n'
        '[antennas]\ntx = { variable = "radar/antennas/tx" }\n'
        f'rx = {{ variable = "radar/antennas/rx" }}\n{STEPS}'
    )
    recording = described(tmp_path, text, "s.mat")
    require_product(recording)
    require(recording, product())
    require(described(tmp_path, text, "s.mat", shot=1), 2 * product())
    wrong = text.replace("radar/shots/0", "radar.shots")
    with pytest.raises(InputError, match=r"variable 'radar.shots', found radar/"):
        described(tmp_path, wrong, "s.mat")


def fields(first: str, second: str, kind: str) -> NDArray[Any]:
    values = np.zeros((5, 4, 7), [(first, kind), (second, kind)])
    values[first], values[second] = product().real * 1000, product().imag * 1000
    return values


def test_numbers_as_other_programs_write_them(tmp_path: Path) -> None:
    """Order in memory, order of bytes, named parts, interleaved parts, extended precision."""
    write_antennas(tmp_path / "array.csv")
    whole = product()
    interleaved = np.stack([whole.real, whole.imag], -1).reshape(5, 4, 14)
    written: list[tuple[NDArray[Any], str, float]] = [
        (np.asfortranarray(whole), "rx, tx, f", 1.0),
        (whole.astype(">c8"), "rx, tx, f", 1.0),
        (whole.astype(np.clongdouble), "rx, tx, f", 1.0),
        (fields("I", "Q", ">f8"), "rx, tx, f", 1000.0),
        (fields("re", "im", "<f4"), "rx, tx, f", 1000.0),
        (interleaved, "rx, tx, f, iq", 1.0),
        (np.stack([whole.real, whole.imag]).astype(">f8"), "iq, rx, tx, f", 1.0),
    ]
    for values, axes, scale in written:
        np.save(tmp_path / "s.npy", values)
        recording = described(tmp_path, f'[signal]\naxes = "{axes}"\n{PRODUCT}', "s.npy")
        require_product(recording)
        require(recording, whole, scale)


@pytest.mark.parametrize(("separator", "unit"), [(",", "j"), (";", "i"), ("\t", "i"), (" ", "j")])
def test_a_signal_of_text(tmp_path: Path, separator: str, unit: str) -> None:
    write_antennas(tmp_path / "array.csv")
    rows = product().reshape(20, 7)
    lines = [separator.join(f"{v.real:.12g}{v.imag:+.12g}{unit}" for v in row) for row in rows]
    (tmp_path / "s.csv").write_text("\n".join(["# of 20 pairs", *lines]))
    pairs = PRODUCT.replace("file", "pairs = '4*rx + tx'\nfile", 1)
    recording = described(tmp_path, f"[signal]\naxes = 'pair, f'\n{pairs}", "s.csv")
    require_product(recording)
    require(recording, product())


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_antennas_with_decimal_commas(tmp_path: Path, separator: str) -> None:
    write_antennas(tmp_path / "array.csv")
    text = (tmp_path / "array.csv").read_text().replace(", ", separator).replace(".", ",")
    (tmp_path / "array.csv").write_text("\ufeff" + text)
    np.save(tmp_path / "s.npy", product())
    description = f'\ufeff[signal]\naxes = "rx, tx, f"\n{PRODUCT}'  # of Windows, too
    require_product(described(tmp_path, description, "s.npy"))


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    content = {"descr": "<c8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, content)
    return file.getvalue() + bytes(1000)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (header((94, 94, 40_000)), "the file ends early: expected 2827520000 bytes"),
        (header((2**40, 2**40, 4)), "the file ends early"),
        (header((-1, 4, 7)), "expected a NumPy .npy array, found the shape (-1, 4, 7)"),
        (b"raw samples" * 99, "expected a NumPy .npy array, found another kind of file"),
    ],
)
def test_a_header_that_is_wrong_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    write_antennas(tmp_path / "array.csv")
    (tmp_path / "s.npy").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(said)):
        described(tmp_path, f'[signal]\naxes = "rx, tx, f"\n{PRODUCT}', "s.npy")


def written(kind: str, path: Path) -> str:
    """A file of each kind, and the description of its signal."""
    signal = product()
    text = f'[signal]\naxes = "rx, tx, f"\n{PRODUCT}'
    if kind == ".mat":
        scipy.io.savemat(path, {"radar": {"data": signal, "unit": "m"}, "f": FREQUENCIES})
    elif kind == ".packed.mat":
        scipy.io.savemat(path, {"data": signal, "f": FREQUENCIES}, do_compression=True)
    elif kind == ".h5":
        with h5py.File(path, "w") as file:
            file["radar/data"] = signal
            file["radar/f"] = FREQUENCIES
    elif kind == ".npz":
        np.savez(path, data=signal, f=FREQUENCIES)
    elif kind == ".npy":
        np.save(path, signal)
    else:
        np.savetxt(path, signal.reshape(20, 7), delimiter=",")
        text = text.replace('"rx, tx, f"', '"pair, f"').replace("file", 'pairs = "4*rx + tx"\nfile')
    return text


@pytest.mark.parametrize("kind", [".mat", ".packed.mat", ".h5", ".npz", ".npy", ".csv"])
def test_a_damaged_file_is_read_or_named(tmp_path: Path, kind: str) -> None:
    """Bytes changed, set to 0 or cut off: one line, and neither a traceback nor a crash."""
    write_antennas(tmp_path / "array.csv")
    text = written(kind, tmp_path / f"sound{kind}")
    require(described(tmp_path, text, f"sound{kind}"), product())
    content, random = (tmp_path / f"sound{kind}").read_bytes(), np.random.default_rng(4)
    for n in range(40):
        spoiled = bytearray(content)
        places = random.integers(0, len(content) if n % 2 else min(len(content), 400), 1 + n % 5)
        for place in places.tolist():
            spoiled[place] = 0 if n % 4 == 0 else int(random.integers(256))
        if n % 5 == 0:
            del spoiled[int(places[0]) :]
        (tmp_path / f"s{kind}").write_bytes(spoiled)
        try:
            found = described(tmp_path, text, f"s{kind}")
        except InputError as error:
            lines = str(error).splitlines()
        else:
            lines = ["read"]
            assert bool(torch.isfinite(torch.view_as_real(found.signal)).all())
        assert len(lines) == 1


@pytest.mark.parametrize("rotation", ["[0, 40, 0]", "matrix"])
def test_an_array_elsewhere_in_the_scene(tmp_path: Path, rotation: str) -> None:
    """The positions are those of the array's own frame, turned about y and moved."""
    cosine, sine = np.cos(np.radians(40)), np.sin(np.radians(40))
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    write_antennas(tmp_path / "array.csv")
    np.save(tmp_path / "s.npy", product())
    text = f'[signal]\naxes = "rx, tx, f"\n{PRODUCT}[pose]\norigin = [-193, 0, 70]\nunit = "mm"\n'
    said = str(turn.tolist()) if rotation == "matrix" else rotation
    recording = described(tmp_path, f"{text}rotation = {said}\n", "s.npy")
    shift = np.array([-0.193, 0, 0.07])
    assert np.allclose(recording.array.tx, TX @ turn.T + shift, rtol=0, atol=1e-12)
    assert np.allclose(recording.array.own().rx, RX, rtol=0, atol=1e-12)
    require(recording, product())
    for wrong, line in (
        ("[[1, 0, 0], [0, 2, 0], [0, 0, 1]]", "pose: array rotation: expected orthonormal rows"),
        ("40", "pose.rotation: expected an axis times an angle"),
        ("[1, nan, 0]", "pose.rotation: expected an axis times an angle"),
    ):
        with pytest.raises(InputError, match=line):
            described(tmp_path, f"{text}rotation = {wrong}\n", "s.npy")
    with pytest.raises(InputError, match=r"pose.origin: expected three numbers"):
        described(tmp_path, text.replace("[-193, 0, 70]", "[1, 2]"), "s.npy")


@pytest.mark.parametrize(("place", "value"), [(184, 248), (135, 9)])
def test_elements_of_matlab_are_checked_before_they_are_read(
    tmp_path: Path, place: int, value: int
) -> None:
    """A type that is none, at which SciPy ends the process, and a length beyond the file."""
    write_antennas(tmp_path / "array.csv")
    scipy.io.savemat(tmp_path / "s.mat", {"data": product()})
    content = bytearray((tmp_path / "s.mat").read_bytes())
    assert content[128] == 14  # the variable; its own elements follow
    content[place] = value
    (tmp_path / "s.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"s.mat: expected a MATLAB file, found an element of"):
        described(tmp_path, f'[signal]\naxes = "rx, tx, f"\n{PRODUCT}', "s.mat")


def test_samples_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    signal = product()
    signal[1, 2, :3] = np.nan
    np.save(tmp_path / "s.npy", signal)
    with pytest.raises(InputError, match="found NaN or infinity in 3 of 140"):
        described(tmp_path, f'[signal]\naxes = "rx, tx, f"\n{PRODUCT}', "s.npy")


def test_a_table_of_some_pairs_keeps_their_order(tmp_path: Path) -> None:
    chosen = np.array([[3, 1], [0, 0], [2, 4], [1, 1]])  # tx, rx
    signal = measured(TX[chosen[:, 0]], RX[chosen[:, 1]], FREQUENCIES)
    write_antennas(tmp_path / "array.csv")
    np.savetxt(tmp_path / "pairs.csv", chosen, fmt="%d", delimiter=",", header="tx,rx", comments="")
    np.save(tmp_path / "s.npy", signal)
    text = f'[signal]\naxes = "pair, f"\n{PRODUCT}[antennas.x]'.replace("[antennas.x]", "")
    text = text.replace('unit = "mm"', 'unit = "mm"\npairs = { file = "pairs.csv" }')
    recording = described(tmp_path, text, "s.npy")
    require(recording, signal)
    assert recording.array.pairs is not None
    assert recording.array.pairs.tolist() == chosen.tolist()


def test_raster_scan_in_blocks_with_a_phase_of_each_frequency(tmp_path: Path) -> None:
    """As a module with a converter of 16 bits writes it: offset, Q first, I - jQ, phase errors."""
    x, y = (np.arange(6) - 2.5) * 3e-3, (np.arange(4) - 1.5) * 2e-3
    places = np.stack([*(a.reshape(-1) for a in np.meshgrid(x, y, indexing="ij")), np.zeros(24)], 1)
    signal = measured(places, places, FREQUENCIES)
    phase = RANDOM.uniform(-np.pi, np.pi, 7)
    leakage = RANDOM.normal(size=7) + 1j * RANDOM.normal(size=7)
    scale, offset = 5000, 32768
    raw = (signal * np.exp(-1j * phase) + leakage).reshape(6, 4, 7).transpose(2, 0, 1)
    parts = np.stack([-raw.imag, raw.real])  # Q, I of I - jQ = raw
    with open(tmp_path / "s.npy", "wb") as file:
        np.save(file, np.round(parts * scale + offset).astype(np.uint16))
        for value in (62e9, 69e9, 7, np.array([3e-3, 2e-3]), 0.3):
            np.save(file, value)
    np.savetxt(tmp_path / "phase.txt", [FREQUENCIES, phase])
    text = """
        signal = { axes = "iq, f, x, y", iq = "QI", conjugate = true }
        frequencies = { start = "block 1", stop = "block 2", count = "block 3" }
        scan = { step = "block 4" }
        image = { stand_off = "block 5" }
        [corrections]
        background = "mean"
        phase = { file = "phase.txt" }
        """
    recording = described(tmp_path, text, "s.npy")
    assert np.allclose(recording.array.tx[:, :2], places[:, :2], rtol=0, atol=1e-15)
    assert np.allclose(recording.array.virtual, places, rtol=0, atol=1e-15)
    assert recording.view.stand_off == 0.3
    require(recording, signal - signal.mean(0), scale, error=1.0 / scale)
    assert len(recording.provenance) == 4
    assert "mean over 24 channels subtracted" in recording.provenance[2]


def test_positions_of_a_synthetic_aperture_and_a_moved_board(tmp_path: Path) -> None:
    places = RANDOM.uniform(-0.1, 0.1, (9, 3))
    np.savetxt(tmp_path / "track.txt", places * 100)
    np.save(tmp_path / "s.npy", measured(places, places, FREQUENCIES).T)
    text = f'signal.axes = "f, position"\n[antennas]\nfile = "track.txt"\nunit = "cm"\n{STEPS}'
    recording = described(tmp_path, text, "s.npy")
    require(recording, measured(places, places, FREQUENCIES))
    assert np.allclose(recording.array.virtual, places, rtol=0, atol=1e-15)

    shifts = np.array([[0, -10e-3, 0], [0, -6e-3, 0], [0, -2e-3, 0]])
    every = [
        measured(np.tile(TX + s, (5, 1)), np.repeat(RX + s, 4, 0), FREQUENCIES) for s in shifts
    ]
    signal = np.concatenate(every)
    write_antennas(tmp_path / "array.csv")
    np.save(tmp_path / "s.npy", signal.reshape(3, 5, 4, 7).transpose(3, 1, 0, 2))
    text = (
        f'signal.axes = "f, rx, y, tx"\nscan = {{ step = [4], start = [-10], unit = "mm" }}\n'
        f"{PRODUCT}"
    )
    recording = described(tmp_path, text, "s.npy")
    require(recording, signal)
    assert recording.array.channels == (60,)
    middles = np.concatenate([(np.tile(TX, (5, 1)) + np.repeat(RX, 4, 0)) / 2 + s for s in shifts])
    assert np.allclose(recording.array.virtual, middles, rtol=0, atol=1e-15)


def test_empty_scene_channel_phases_and_delay(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    room = RANDOM.normal(size=(5, 4, 7)) + 1j * RANDOM.normal(size=(5, 4, 7))
    phase, delay = RANDOM.uniform(-180, 180, (5, 4)), 2.3e-10
    error = np.exp(-1j * np.deg2rad(phase))[..., None]
    error = error * np.exp(-2j * np.pi * FREQUENCIES * delay)
    np.savez(tmp_path / "s.npz", scene=product() * error + room, empty=room, phase=phase)
    text = f"""
        signal = {{ axes = "rx, tx, f", variable = "scene" }}
        {PRODUCT}
        [corrections]
        background = {{ variable = "empty" }}
        channel_phase = {{ variable = "phase", unit = "deg" }}
        delay = {delay}
        """
    recording = described(tmp_path, text, "s.npz")
    # The phase of the delay is rounded once more.
    require(recording, product(), error=1e-6)
    assert [line.split(",")[0] for line in recording.provenance] == [
        "empty scene s.npz subtracted",
        "phase of each channel corrected",
        "delay of 2.3e-10 s removed",
    ]


def test_clipped_samples_are_counted(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    # A converter of 12 bits in numbers of 16: the extreme is no limit of the type.
    noise = RANDOM.normal(size=(2, 5, 4, 2000)) * 1500
    np.save(tmp_path / "s.npy", np.clip(np.round(noise), -2048, 2047).astype(np.int16))
    text = f'signal.axes = "iq, rx, tx, f"\n{PRODUCT}'
    notes = [n for n in described(tmp_path, text, "s.npy").notes if "clipped" in n]
    assert [re.sub(r"\d+ of", "n of", n.split(": ", 1)[1]) for n in notes] == [
        "I: n of 40000 samples are at -2048, the least: likely clipped",
        "I: n of 40000 samples are at 2047, the largest: likely clipped",
        "Q: n of 40000 samples are at -2048, the least: likely clipped",
        "Q: n of 40000 samples are at 2047, the largest: likely clipped",
    ]
    count = int((noise[0] < -2047.5).sum())
    assert f"I: {count} of" in notes[0]
    np.save(tmp_path / "s.npy", np.round(noise).astype(np.int16))
    assert described(tmp_path, text, "s.npy").notes == ()


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    text = f'signal.axes = "rx, tx, f"\n{PRODUCT}'
    np.save(tmp_path / "s.npy", np.array({"xr": product()}), allow_pickle=True)
    with pytest.raises(InputError, match=r"s.npy: block 0: expected numbers, found a pickle"):
        described(tmp_path, text, "s.npy")
    np.savez(tmp_path / "s.npz", a=np.array([print], dtype=object))
    with pytest.raises(InputError, match=r"s.npz: a: cannot be read"):
        described(tmp_path, text, "s.npz")


#: A sound description and, for each fault, what is replaced and what the line says.
SOUND = """
[signal]
axes = "iq, f, x, y"
iq = "QI"
[frequencies]
start = 62
stop = 69
count = 7
unit = "GHz"
[scan]
step = [3, 3]
unit = "mm"
[corrections]
background = "mean"
phase = { file = "phase.txt" }
[image]
stand_off = 0.3
"""
FAULTS = [
    ('axes = "iq, f, x, y"', "", "signal.axes: expected the order"),
    ("iq, f, x, y", "iq, f, x, g", "signal.axes: expected axes of shot, iq, x"),
    ("iq, f, x, y", "iq, f, x, x", "signal.axes: expected each axis once, found x twice"),
    ("iq, f, x, y", "iq, x, y", "signal.axes: expected an axis f"),
    ("iq, f, x, y", "iq, f", "signal.axes: expected the channels"),
    ("iq, f, x, y", "iq, f, x, rx", "signal.axes: expected the channels"),
    ('"QI"', '"qi"', "signal.iq: expected 'IQ' or 'QI', found 'qi'"),
    ('iq = "QI"', "conjgate = true", "signal.conjgate: unknown field, expected one of axes"),
    ('iq = "QI"', "conjugate = 1", "signal.conjugate: expected boolean, found 1"),
    ('iq = "QI"', "shape = [0]", "signal.shape.0: expected greater than 0, found 0"),
    ('iq = "QI"', "shot = -1", "signal.shot: expected the number of a shot"),
    ('iq = "QI"', 'i = "a"', "signal: expected both i and q"),
    ("stop = 69", "", "frequencies: expected both start and stop"),
    ("stop = 69", "stop = [69]", "frequencies.stop: expected a number or the name"),
    ("count = 7", "values = [1, 2]", "frequencies: expected either start and stop, or values"),
    ('unit = "GHz"', 'unit = "THz"', "frequencies.unit: expected 'Hz', 'kHz', 'MHz' or 'GHz'"),
    ("[scan]", "[scam]", "scam: unknown field, expected one of title, signal"),
    ("[scan]", "[scan", "expected TOML, found"),
    ('[scan]\nstep = [3, 3]\nunit = "mm"', "", "expected a table [scan] with the step along x, y"),
    ("step = [3, 3]", "step = 3", "scan.step: expected a list of numbers or the name"),
    ("step = [3, 3]", "", "scan.step: expected the step along each axis of the scan"),
    ('"mm"', '"inch"', "scan.unit: expected 'm', 'cm' or 'mm', found 'inch'"),
    ('"mean"', '"men"', 'corrections.background: expected "none", "mean", or'),
    ('"phase.txt"', '"phase.txt", sign = 1', 'corrections.phase.sign: expected "+" or "-"'),
    ('"phase.txt"', '"p.txt", unit = "gon"', "corrections.phase.unit: expected 'rad' or 'deg'"),
    ('"phase.txt"', '"p.txt", uni = "m"', "corrections.phase.uni: unknown field"),
    ('background = "mean"', "delay = 3", "corrections.delay: expected less than or equal"),
    ("[corrections]", '[antennas]\ntx = "a"\n[corrections]', "antennas.tx: expected rows from 0"),
    ("[corrections]", '[antennas]\npairs = "tx"\n[corrections]', "antennas.pairs: expected a rule"),
    ("stand_off = 0.3", "extent = -1", "image.extent: expected greater than 0, found -1"),
    ("stand_off = 0.3", "stand_off = true", "image.stand_off: expected a number"),
    # Faults that show when the file is there.
    ("count = 7", "count = 8", "frequencies.count: expected 7 frequencies, the length of the axis"),
    ("iq, f, x, y", "f, x, y", "signal: expected iq only with an axis iq"),
    (
        "iq, f, x, y",
        "iq, f, x",
        "signal.axes: expected a name for each axis of the shape (2, 7,",
    ),
    ("iq, f, x, y", "f, iq, x, y", "signal.axes: expected an axis iq of 2, found 7"),
    ("step = [3, 3]", "step = [3]", "scan.step: expected 2 numbers for the axes x, y, found 1"),
    ("step = [3, 3]", "step = [3, 0]", "scan.step: expected steps other than 0"),
    ("step = [3, 3]", 'step = "steps"', "expected a variable 'steps', found block 0 (2, 7, 6, 4)"),
    ('unit = "GHz"', 'unit = "MHz"', "likely in GHz"),
    ("stop = 69", "stop = 6900", "expected frequencies of 1e9 to 1e12 Hz"),
    ("step = [3, 3]", "step = [3000, 3]", "antennas or scan: array tx: expected positions within"),
    ("step = [3, 3]", "step = [0.003, 0.003]", "expected antennas farther apart, found all"),
    ('"phase.txt"', '"none.txt"', "none.txt: no such file"),
    ('"phase.txt"', '"short.txt"', "corrections.phase: expected 7 phases, or columns of frequency"),
    ('"phase.txt"', '"other.txt"', "corrections.phase: expected phases at 6.2e+10 to 6.9e+10 Hz"),
    ('background = "mean"', 'background = { file = "short.txt" }', "signal.axes: expected a name"),
    ("stand_off = 0.3", "stand_off = 300.0", "image.stand_off: expected 0 to 10 m, found 300"),
    ("stand_off = 0.3", "depth = [0.3, 0.2]", "image.depth: expected [near, far]"),
]


@pytest.mark.parametrize(("good", "bad", "said"), FAULTS, ids=lambda value: value[:30])
def test_a_malformed_field_is_named_in_one_line(
    tmp_path: Path, good: str, bad: str, said: str
) -> None:
    raw = RANDOM.integers(0, 60_000, (2, 7, 6, 4)).astype(np.uint16)
    np.save(tmp_path / "s.npy", raw)
    np.savetxt(tmp_path / "phase.txt", [FREQUENCIES, np.zeros(7)])
    np.savetxt(tmp_path / "short.txt", np.zeros(3))
    np.savetxt(tmp_path / "other.txt", [FREQUENCIES / 2, np.zeros(7)])
    described(tmp_path, SOUND, "s.npy")
    assert good in SOUND
    with pytest.raises(InputError) as error:
        described(tmp_path, SOUND.replace(good, bad), "s.npy")
    line = str(error.value)
    assert said in line
    assert "\n" not in line
    assert str(tmp_path) in line  # the description or the file


def test_sizes_that_do_not_fit_the_antennas_are_named(tmp_path: Path) -> None:
    write_antennas(tmp_path / "array.csv")
    np.save(tmp_path / "s.npy", product().transpose(1, 0, 2))
    with pytest.raises(InputError, match=r"antennas: expected 4 antennas, the length of the axis"):
        described(tmp_path, f'signal.axes = "rx, tx, f"\n{PRODUCT}', "s.npy")
    np.save(tmp_path / "s.npy", product().reshape(20, 7))
    rule = PRODUCT.replace('unit = "mm"', 'unit = "mm"\npairs = "7*tx + rx"')
    with pytest.raises(InputError, match=r"antennas.pairs: expected '7\*tx \+ rx' to give each"):
        described(tmp_path, f'signal.axes = "pair, f"\n{rule}', "s.npy")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a, b\n1, 2\n", "expected columns x, y, z"),
        ("antenna, x, y, z\ntx, 1, 2\n", "array.csv, line 2: expected antenna, x, y, z"),
        ("antenna, x, y, z\ntr, 1, 2, 3\n", "array.csv, line 2: expected antenna, x, y, z"),
        ("antenna, x, y, z\nrx, 1, 2, 3\n", "antennas.tx: expected a row with tx in the table"),
        ("x, y, z\n1, 2, 3\n", 'antennas.tx: expected rows of the table, such as "0-19"'),
        ("", "array.csv: expected numbers, found none"),
        ("# nothing\n", "array.csv: expected numbers, found none"),
    ],
)
def test_a_malformed_table_of_antennas_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "array.csv").write_text(text)
    np.save(tmp_path / "s.npy", product())
    with pytest.raises(InputError) as error:
        described(tmp_path, f'signal.axes = "rx, tx, f"\n{PRODUCT}', "s.npy")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_description_is_a_value() -> None:
    first, second = (parse_description(SOUND, "a.toml") for _ in range(2))
    assert first == second
    assert first.image.stand_off == 0.3


@pytest.mark.parametrize("kind", ["product", "pairs", "raster", "moved"])
def test_the_image_of_each_kind_of_array_has_the_scatterer_where_it_is(
    tmp_path: Path, kind: str
) -> None:
    """The strongest point: its place within half a pixel of 2 mm, on the plane where it is."""
    side = (np.arange(16) - 7.5) * 5e-3
    f = np.linspace(62e9, 69e9, 12)
    steps = STEPS
    if kind == "raster":
        text = 'signal.axes = "f, x, y"\nscan = { step = [5, 5], unit = "mm" }\n'
        x, y = (a.reshape(-1) for a in np.meshgrid(side, side, indexing="ij"))
        places = np.stack([x, y, 0 * x], 1)
        signal = measured(places, places, f).T.reshape(12, 16, 16)
    else:
        column = np.stack([0 * side, side, 0 * side], 1)
        row = np.stack([side, 0 * side + 0.01, 0 * side], 1)
        lines = [f"tx, {a}, {b}, {c}" for a, b, c in column] * (kind != "moved")
        lines += ["tx, 0, 0, 0"] * (kind == "moved")
        lines += [f"rx, {a}, {b}, {c}" for a, b, c in row]
        (tmp_path / "array.csv").write_text("\n".join(["antenna, x, y, z", *lines]))
        every = measured(np.repeat(column, 16, 0), np.tile(row, (16, 1)), f)  # tx slower
        text = 'signal.axes = "tx, rx, f"\n[antennas]\nfile = "array.csv"\n'
        signal = every.reshape(16, 16, 12)
        if kind == "pairs":
            text = text.replace("tx, rx, f", "pair, f") + 'pairs = "16*tx + rx"\n'
            signal = every
        elif kind == "moved":
            text = text.replace("tx, rx, f", "y, tx, rx, f")
            text += '[scan]\nstep = [5]\nunit = "mm"\n'
            tx = np.repeat(column, 16, 0)
            signal = measured(tx, tx + np.tile(row, (16, 1)), f).reshape(16, 1, 16, 12)
    np.save(tmp_path / "s.npy", signal)
    image = described(tmp_path, text + steps, "s.npy").image(49, 0.098, plane=0.30)
    row_, column_ = divmod(int(image.amplitude_db.argmax()), 49)
    assert abs(float(image.x[column_]) - POINTS[0, 0]) < 1.1e-3
    assert abs(float(image.y[row_]) - POINTS[0, 1]) < 1.1e-3


# -- recordings of others -------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT.parent / "shared" / "recordings"
measured_ones = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="no measured recordings: ../shared/recordings is absent"
)


@measured_ones
@pytest.mark.parametrize(
    ("name", "channels", "steps"),
    [
        ("panel_24ghz.npy", (26928,), 11),
        ("class_22ghz.npy", (5625,), 6),
        ("vayyar_62_69ghz.mat", (20, 20), 75),
    ],
)
def test_shipped_descriptions_read_measured_recordings(
    name: str, channels: tuple[int, ...], steps: int
) -> None:
    path = ROOT / "data" / "descriptions" / f"{name.split('.')[0]}.toml"
    recording = read_recording(RECORDINGS / name, description=path)
    assert recording.array.channels == channels
    assert len(recording.waveform) == steps
    assert torch.isfinite(recording.signal.real).all()


#: Sound descriptions of three kinds of array, whose fields are spoiled one by one.
FUZZED = {
    "product": """
[signal]
axes = "rx, tx, f"
conjugate = false
shot = 0
variable = "block 0"
[frequencies]
start = 62
stop = 69
count = 7
unit = "GHz"
[antennas]
file = "antennas.csv"
unit = "m"
tx = "0-3"
rx = "4-6"
[pose]
origin = [0, 0, 0]
rotation = [0, 0, 0]
unit = "m"
[corrections]
background = "none"
delay = 0.0
phase = { file = "phase.txt", sign = "+", unit = "rad" }
[image]
stand_off = 0.3
depth = [0.2, 0.4]
extent = 0.3
""",
    "pairs": """
[signal]
axes = "pair, f"
[frequencies]
values = [62e9, 63e9, 64e9, 65e9, 66e9, 67e9, 68e9]
[antennas]
tx = [[0.0, 0, 0]]
rx = [[0.0, 0, 0], [0.01, 0, 0], [0.02, 0, 0], [0.03, 0, 0], [0.04, 0, 0]]
pairs = "tx + rx"
""",
    "scan": """
title = "scan"
[signal]
axes = "x, y, f"
[frequencies]
start = 62e9
stop = 69e9
[scan]
step = [3, 3]
start = [0, 0]
unit = "mm"
[corrections]
background = "mean"
""",
}
SHAPES = {"product": (3, 4, 7), "pairs": (5, 7), "scan": (6, 4, 7)}
SPOILED = [
    *("nan", "inf", "-inf", "true", "-1", "0", "1e400", "1e30", "99999999999999999999"),
    *('""', '"zzz"', '"0-"', r'"\u0000"', '"../../x"', '"tx*"', '"1e9*tx+rx"', "1979-05-27"),
    *("[]", "[nan]", "[[]]", "[[1, 2, 3]]", '[1, "a"]', "[0, 1]", "[-1]", "[1.5]"),
    *("{}", "{ file = 3 }", '{ file = "" }', '{ file = "no.npy" }', '{ file = "phase.txt" }'),
    *('{ file = "." }', '{ variable = "v" }', '["rx", "tx", "f", "f"]'),
]


@pytest.mark.parametrize("kind", FUZZED)
def test_whatever_stands_in_a_field_is_read_or_named(tmp_path: Path, kind: str) -> None:
    """33 values in place of each field's: a finite signal, or one line with the field's name."""
    np.save(tmp_path / "s.npy", RANDOM.normal(size=SHAPES[kind]) + 1j)
    np.savetxt(tmp_path / "phase.txt", np.linspace(0, 1, 7))
    table = [f"tx,{0.01 * i},0,0" for i in range(4)] + [f"rx,0,{0.01 * i},0" for i in range(3)]
    (tmp_path / "antennas.csv").write_text("\n".join(["antenna,x,y,z", *table]))
    described(tmp_path, FUZZED[kind], "s.npy")
    lines, where = FUZZED[kind].splitlines(), ""
    for n, line in enumerate(lines):
        where = line[1:-1] if line.startswith("[") else where
        if " = " not in line:
            continue
        name = line.split(" = ")[0]
        for value in SPOILED:
            text = "\n".join([*lines[:n], f"{name} = {value}", *lines[n + 1 :]])
            try:
                found = described(tmp_path, text, "s.npy")
            except InputError as error:
                said = str(error)
                assert "\n" not in said, (name, value)
                assert where in said, (name, value, said)
                # Start and stop are implausible together.
                assert name in said or "frequencies of 1e9" in said, (name, value, said)
            else:
                assert bool(torch.isfinite(torch.view_as_real(found.signal)).all()), (name, value)
