"""Recordings without a face: their highlights, and what becomes of them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

import radarbook as rb
from radarbook import cli
from radarbook.fitting.recognise import Highlights, highlights, resolves_highlights
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.radar.array import qar50
from radarbook.radar.meshes import plate, sphere
from radarbook.radar.renderer import PhysicalRenderer, mesh_signal
from radarbook.radar.signal import write_signal
from radarbook.radar.surface import SmoothSurface
from radarbook.radar.waveform import qar50_waveform


@pytest.fixture(scope="module")
def renderer() -> PhysicalRenderer:
    """The shipped face, every second antenna and 24 steps."""
    whole = qar50()
    array = whole.replace(tx=whole.tx[::2], rx=whole.rx[::2])
    return physical_renderer(rb.load_model(), array, qar50_waveform(24), 0.30, bounces=1)


def recorded(renderer: PhysicalRenderer, mesh: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    vertices, triangles = mesh
    return mesh_signal(
        vertices.float(),
        triangles,
        renderer.array,
        renderer.waveform,
        material=0.2,
        surface=SmoothSurface.of(vertices, triangles),
        seed=7,
    )


@pytest.fixture(scope="module")
def of_plate(renderer: PhysicalRenderer) -> torch.Tensor:
    return recorded(renderer, plate((0.01, 0.02, 0.31), 0.15, 0.18, 4e-3, (0.1, -0.1)))


def test_statistics_of_a_gaussian_are_its_own() -> None:
    # A power exp(-r²/2σ²): its area is 4πσ², and it extends by σ each way.
    pixel, sigma, tall = 2e-3, 12e-3, 1.5
    side = torch.arange(-60, 61, dtype=torch.float64) * pixel
    power = torch.exp(-0.5 * ((side[:, None] / (tall * sigma)) ** 2 + (side / sigma) ** 2))
    # Of a bowl with radii of 50 and 80 mm, tilted, and a ripple of 1 mm.
    depth = side[:, None] ** 2 / 0.16 + side**2 / 0.1 + 0.2 * side + 0.3
    ripple = 1e-3 * torch.cos(2 * math.pi * torch.arange(121, dtype=torch.float64) / 4)
    found = Highlights.of(power, depth + ripple, pixel)
    assert (found.bright, found.maxima) == (1, 1)
    assert found.area == pytest.approx(4 * math.pi * (100 * sigma) ** 2 * tall, rel=1e-3)
    assert found.width == pytest.approx(1e3 * sigma, rel=1e-3)
    assert found.height == pytest.approx(1e3 * sigma * tall, rel=1e-3)
    # In dB it is a paraboloid down to 20 dB: a² = 2σ² ln 100, whose mean square is a² / 6.
    level = 1e3 * sigma * math.sqrt(2 * math.log(100) / 6)
    assert found.level_width == pytest.approx(level, rel=0.01)
    assert found.across == pytest.approx(20.0, rel=0.02)
    assert found.along == pytest.approx(12.5, rel=0.02)
    assert found.rest == pytest.approx(math.sqrt(0.5), rel=0.02)
    found = Highlights.of(power, depth, pixel)
    # Neither gain nor the pixels' number decide.
    again = Highlights.of(1e-6 * power[::2, ::2], depth[::2, ::2] + 0.1, 2 * pixel)
    assert again.vector().tolist() == pytest.approx(found.vector().tolist(), abs=0.02)


@pytest.mark.parametrize("index", [3, 9])
def test_a_face_has_the_highlights_of_one(renderer: PhysicalRenderer, index: int) -> None:
    signal = renderer.signal(rb.random_parameters([index], 77), seeds=[index])
    found = highlights(signal, renderer)
    assert found is not None
    assert found.of_a_face, found
    louder = highlights((3 - 4j) * signal, renderer)
    assert louder is not None
    assert louder.distance == pytest.approx(found.distance, rel=0.05)


def test_plates_and_balls_have_not(renderer: PhysicalRenderer, of_plate: torch.Tensor) -> None:
    ball = recorded(renderer, sphere((0.0, 0.01, 0.40), 0.09, 4e-3))
    for signal in (of_plate, ball):
        found = highlights(signal, renderer)
        assert found is not None
        assert not found.of_a_face
        assert "its highlights are not those of a face" in str(found)


def test_images_of_other_resolution_are_not_judged(renderer: PhysicalRenderer) -> None:
    wavelength = renderer.waveform.wavelength
    assert resolves_highlights(renderer.array, wavelength, 0.30)
    assert not resolves_highlights(renderer.array, 3 * wavelength, 0.30)
    first = torch.arange(40)
    pairs = renderer.array.replace(pairs=torch.stack([first, first], 1))
    assert not resolves_highlights(pairs, wavelength, 0.30)


@pytest.mark.slow
def test_a_recording_without_a_face_is_not_fitted(
    renderer: PhysicalRenderer, of_plate: torch.Tensor
) -> None:
    recording = rb.Recording(of_plate, renderer.array, renderer.waveform)
    found = rb.reconstruct(recording, renderer.model)
    assert not found.accepted
    assert not found.verdict.face_found
    assert found.fit.steps == 0
    assert found.vertex_deviation() is None
    assert str(found).startswith("no face found: its highlights are not those of a face")
    # As many steps as are asked for are made.
    fitted = rb.reconstruct(recording, renderer.model, steps=1)
    assert fitted.fit.steps == 1


def test_the_command_refuses_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    array, waveform = qar50(), qar50_waveform(128)
    vertices, triangles = plate((0.0, 0.0, 0.30), 0.12, 0.12, 8e-3)
    signal = mesh_signal(vertices.float(), triangles, array, waveform)
    write_signal(tmp_path / "plate.npy", signal.numpy())
    mesh = tmp_path / "face.ply"
    command = ["radarbook", "reconstruct", str(tmp_path / "plate.npy"), "-o", str(mesh)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("radarbook: no face found: its highlights are not those of a face")
    assert said.endswith("--any-shape fits it all the same")
    assert not mesh.exists()
