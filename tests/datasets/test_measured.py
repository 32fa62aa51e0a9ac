"""Measured recordings of other radars, from file to image, by the descriptions that ship."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from radarbook.datasets.recordings import Recording, inspect, read_recording
from radarbook.datasets.recordings.checks import range_profile
from radarbook.datasets.recordings.swaps import swapped_antennas
from radarbook.evaluation import hole_side
from radarbook.radar.autofocus import sharpness
from radarbook.radar.imaging import Grid, back_project, imaging_method

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT.parent / "shared" / "recordings"
pytestmark = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="no measured recordings: ../shared/recordings is absent"
)
#: Middle of the panel's hole in the image, m.
HOLE = -0.070, 0.005


def recording(name: str, shot: int | None = None, *, conjugate: bool = False) -> Recording:
    path = ROOT / "data" / "descriptions" / f"{name.split('.')[0]}.toml"
    return read_recording(RECORDINGS / name, description=path, shot=shot, conjugate=conjugate)


def volume(of: Recording, grid: Grid) -> NDArray[np.complex64]:
    method = imaging_method(of.array, of.waveform, grid)
    return back_project(of.signal, of.array, of.waveform, grid, method=method).numpy()


@cache
def panel(conjugate: bool = False) -> tuple[NDArray[np.complex64], list[float]]:
    """Planes (z, y, x) of 1 mm pixels around the hole, and their depths, m."""
    depths = [0.070, *np.arange(0.082, 0.1021, 0.004), 0.110]
    around = torch.arange(-80, 80, dtype=torch.float64) * 1e-3
    grid = Grid(around + HOLE[0], around + HOLE[1], torch.tensor(depths))
    return volume(recording("panel_24ghz.npy", conjugate=conjugate), grid), depths


def edges(plane: NDArray[np.complex64]) -> float:
    """Steepest change across the hole's four edges, each averaged along its middle third, relative
    to the image, per mm."""
    middle = slice(80 - 25, 80 + 25)
    profiles = np.stack([plane[middle].mean(0), plane[:, middle].mean(1)])
    change = np.abs(np.gradient(profiles, axis=1))
    sides = change[:, 80 - 48 : 80 - 30].max(1) + change[:, 80 + 30 : 80 + 48].max(1)
    return float(sides.sum() / 4 / np.abs(plane).mean())


def test_the_hole_of_the_panel_is_sharp_at_its_range() -> None:
    planes, depths = panel()
    sharp = np.array([edges(plane) for plane in planes])
    best = int(sharp[1:-1].argmax()) + 1
    before, here, after = sharp[best - 1 : best + 2]
    found = depths[best] + 0.004 * 0.5 * (before - after) / (before - 2 * here + after)
    assert abs(found - 0.090) < 0.003
    # Blurred 20 mm behind, and with the wrong sign of the phase; 20 mm before little is left.
    assert sharp[-1] < 0.9 * sharp[best]
    assert np.abs(planes[0]).mean() < 0.5 * np.abs(planes[best]).mean()
    assert edges(panel(conjugate=True)[0][best]) < 0.9 * sharp[best]


def test_the_hole_of_the_panel_at_half_amplitude() -> None:
    """66 mm of a hole that its authors call about 8 cm: two edges are gradual, over 20 mm, so their
    middles lie inside. Their feet are 80 mm apart: the outline, where the image departs from a
    smooth panel, is not what an aperture shows of an edge, and depends on the noise."""
    planes, depths = panel()
    plane = planes[int(np.abs(np.array(depths) - 0.090).argmin())]
    assert hole_side(torch.from_numpy(plane), 1e-3) == pytest.approx(0.066, abs=0.002)


def test_two_shots_of_a_mimo_board_agree() -> None:
    grid = Grid.regular(0.4, 64, 0.36, 0.48, 16)
    first, second = (
        np.abs(volume(recording("vayyar_62_69ghz.mat", shot), grid)).max(0) for shot in (0, 1)
    )
    assert np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1] > 0.95


def test_what_differs_between_two_shots() -> None:
    """Not the radar: one gain fits all frequencies. Something at a quarter of a metre moved, 10 dB
    above the noise; a gate from the image's first plane on removes most of what it does there."""
    shots = [recording("vayyar_62_69ghz.mat", shot) for shot in (0, 1)]
    a, b = (shot.signal.to(torch.complex128) for shot in shots)
    gain = (a.conj() * b).sum((0, 1)) / a.abs().square().sum((0, 1))
    assert float((gain - 1).abs().max()) < 0.03
    ranges, power = range_profile(b - a, shots[0].waveform, finer=2)
    inside = (ranges > 0.12) & (ranges < 0.5)
    assert 0.2 < float(ranges[inside][power[inside].argmax()]) < 0.3
    assert float(power[inside].max() / power.median()) > 10
    grid = Grid.regular(0.4, 64, 0.3, 0.5, 30)
    found = []
    for pair in (shots, [shot.without_coupling(0.3) for shot in shots]):
        tops = [np.abs(volume(shot, grid)).max(0).reshape(-1) for shot in pair]
        found.append(np.corrcoef(*tops)[0, 1])
    assert found[1] > found[0] + 0.02
    assert found[1] > 0.9


def test_sign_and_order_of_the_mimo_board_are_the_described_ones() -> None:
    found = inspect(recording("vayyar_62_69ghz.mat"))
    assert [test.gain < -3 for test in found.sign] == [True]
    assert found.swap_gain is not None
    assert found.swap_gain < -0.3
    assert found.unambiguous_range == pytest.approx(1.585, abs=1e-3)
    # No two antennas of a side are swapped; of two that are made so the image tells.
    assert found.swapped == ()
    order = torch.arange(20)
    order[8], order[12] = 12, 8
    whole = recording("vayyar_62_69ghz.mat").without_coupling(0.12)
    turned = whole.done(whole.signal[:, order], "two transmitters swapped")
    assert swapped_antennas(turned) == [("tx", 8, 12)]
    # The antennas' coupling is the strongest echo, at 2 cm, and again at 9 cm.
    assert 0.005 < found.peaks[0][0] < 0.035
    assert 0.07 < found.peaks[1][0] < 0.11


def test_the_sign_of_the_scans_is_found() -> None:
    """The panel is flat: neither sign has a focus. Its echo lies at the stated stand-off, within a
    cell of range; that of the conjugated signal does not. Conjugated, each is called wrong."""
    for name, last in (("panel_24ghz.npy", "at the stated 0.09 m"), ("class_22ghz.npy", "")):
        right, wrong = (inspect(recording(name, conjugate=c)) for c in (False, True))
        assert str(right.sign[-1]).startswith(last)
        assert str(right).split("sign of the phase")[1].splitlines()[0].endswith(": right")
        assert "likely wrong, --conjugate" in str(wrong)


def test_the_letter_of_the_class_scan_is_sharp_at_its_distance() -> None:
    """By the normalised fourth moment of each plane: dark ground, bright strokes."""
    grid = Grid.regular(0.2, 96, 0.15, 0.25, 3)
    right, wrong = (
        [sharpness(torch.from_numpy(plane)) for plane in volume(recording(name, conjugate=c), grid)]
        for name, c in (("class_22ghz.npy", False), ("class_22ghz.npy", True))
    )
    assert right[1] > 1.2 * max(right[0], right[2])
    assert right[1] > 1.5 * max(wrong)
