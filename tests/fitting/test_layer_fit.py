"""A layer of unknown thickness is found with the face behind it."""

import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.fitting.layer_fit import LayerFit, fit_layer
from radarbook.radar.layer import Layer
from radarbook.radar.renderer import PhysicalRenderer
from tests.fitting.scenes import face, renderer

EPS = 1.6 - 0.05j
COTTON = Layer(0.2, 4e-3, EPS)


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


@pytest.fixture(scope="module")
def covered() -> tuple[PhysicalRenderer, FaceParameters, torch.Tensor, FaceParameters]:
    """A renderer, a smooth face's recording behind cotton, and where a fit that knows of no layer
    would have it: too far back by the delay."""
    physical = renderer(layer=COTTON)
    truth = face((0.5, -0.3), 0.2, material=0.0)
    signal = physical.signal(truth.to(dtype=torch.float32))
    back = torch.tensor([0.0, 0.0, COTTON.delay(physical.waveform)])
    return physical, truth, signal, truth.replace(translation=truth.translation + back)


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_layer_and_face_are_found_together(
    covered: tuple[PhysicalRenderer, FaceParameters, torch.Tensor, FaceParameters], factor: float
) -> None:
    """From no layer, and a permittivity that is wrong by a tenth: a standard deviation. Of a smooth
    face the ripple tells the optical thickness to hundredths, and slanting paths the rest."""
    physical, truth, signal, start = covered
    found = fit_layer(signal, physical, Layer(0.2, 0.0, factor * EPS), start, thickest=8e-3)
    thickness, permittivity = float(found.layer.thickness), complex(found.layer.permittivity)
    path = thickness * permittivity.real**0.5
    assert path == pytest.approx(4e-3 * EPS.real**0.5, abs=5e-5)
    assert permittivity.real == pytest.approx(EPS.real, rel=0.03)
    # The loss tangent is taken as it is.
    assert permittivity.imag / permittivity.real == pytest.approx(EPS.imag / EPS.real)
    off = found.parameters.translation - truth.translation
    assert float(off.norm()) < 1e-4
    coefficients = torch.cat([found.parameters.shape, found.parameters.expression], dim=1)
    true = torch.cat([truth.shape, truth.expression], dim=1)
    assert float((coefficients - true).abs().max()) < 0.05
    # Nothing else explains as much.
    assert len(found.likely) == 1
    assert found.likely[0] == found.layer
    assert found.loss < 1e-3
    losses = sorted(loss for _, loss in found.minima)
    assert found.loss <= losses[0]
    assert len(losses) > 1
    assert found.tried > len(losses)


def test_layers_that_are_as_likely_are_told() -> None:
    layers = [Layer(0.2, t, EPS) for t in (1e-3, 2e-3, 3e-3)]
    losses = (0.1004, 0.1001, 0.1)
    found = LayerFit(face(), layers[2], 0.1, tuple(zip(layers, losses, strict=True)), 3)
    # Four parts in 1500 of the loss are two standard deviations.
    assert found.likely == (layers[2], layers[1])


def test_nonsense_is_refused() -> None:
    physical = renderer()
    signal = physical.signal(face().to(dtype=torch.float32))
    with pytest.raises(InputError, match="expected one face, found 2"):
        fit_layer(signal, physical, COTTON, FaceParameters.cat([face(), face()]), thickest=5e-3)
    with pytest.raises(InputError, match="thickest > 0 m, found 0"):
        fit_layer(signal, physical, COTTON, face(), thickest=0.0)
    with pytest.raises(
        InputError, match=r"in front of the face, 0\.\d+ m .* thickness of up to 0.2"
    ):
        fit_layer(signal, physical, COTTON, face(), thickest=0.2)
