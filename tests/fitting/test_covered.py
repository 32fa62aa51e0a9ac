"""A layer of unknown thickness is found with the face behind it."""

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.covered import fit_thickness
from radarbook.radar.layer import Layer
from tests.fitting.scenes import face, renderer

COTTON = Layer(0.2, 4e-3, 1.6 - 0.05j)


def test_the_delay_is_that_of_the_slab() -> None:
    # Internal reflections of a matched slab are weak, so it is thickness · (n - 1) within a tenth.
    waveform = renderer().waveform
    assert COTTON.delay(waveform) == pytest.approx(4e-3 * (1.6**0.5 - 1), rel=0.1)
    assert Layer(0.2, 0.0, 1.6).delay(waveform) == 0.0
    assert Layer(0.2, 4e-3, 1.0).delay(waveform) == pytest.approx(0.0, abs=1e-12)
    # Exact for one crossing without echoes: losses so large that the second is gone.
    thick = Layer(0.2, 0.2, 1.6 - 0.4j)
    index = complex(1.6 - 0.4j) ** 0.5
    assert thick.delay(waveform) == pytest.approx(0.2 * (index.real - 1), rel=1e-6)


def test_thickness_and_face_are_found_together() -> None:
    physical = renderer(layer=COTTON)
    truth = face((0.5, -0.3), 0.2, material=0.0)
    signal = physical.signal(truth.to(dtype=torch.float32))
    # As a fit that knows of no layer would have it: too far back by the delay.
    back = torch.tensor([0.0, 0.0, COTTON.delay(physical.waveform)])
    start = truth.replace(translation=truth.translation + back)
    found = fit_thickness(
        signal, physical, Layer(0.2, 0.0, 1.6 - 0.05j), start, thickest=8e-3, looks=4
    )
    assert float(found.layer.thickness) == pytest.approx(4e-3, abs=1e-3)
    off = found.result.parameters.translation - truth.translation
    assert float(off.norm()) < 1e-4
    assert len(found.losses) <= 4
    # Ignoring it explains less.
    assert min(found.losses) < 0.5 * found.losses[0]


def test_nonsense_is_refused() -> None:
    physical = renderer()
    signal = physical.signal(face().to(dtype=torch.float32))
    with pytest.raises(InputError, match="expected one face, found 2"):
        fit_thickness(signal, physical, COTTON, FaceParameters.cat([face(), face()]), thickest=5e-3)
    with pytest.raises(InputError, match="thickest > 0 m, found 0"):
        fit_thickness(signal, physical, COTTON, face(), thickest=0.0)
