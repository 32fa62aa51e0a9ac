"""Laws of the range gate: what is in it stays, what is not goes, whatever the frequencies."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.radar.array import Array, qar50
from radarbook.radar.gate import AngleGate, RangeGate
from radarbook.radar.renderer import mesh_signal
from radarbook.radar.waveform import Waveform, qar50_waveform

CENTRE = (0.0, 0.0, 0.325)
STEPS = torch.arange(3, 128, 15)


def point(position: tuple[float, float, float], array: Array, waveform: Waveform) -> Tensor:
    """(rx, tx, f) complex128: the exact signal of an isotropic point, by its path lengths."""
    place = torch.tensor(position, dtype=torch.float64)
    rx, tx = ((antennas - place).norm(dim=1) for antennas in (array.rx, array.tx))
    path = (rx[:, None] + tx)[..., None] * waveform.wavenumbers.double()
    return torch.polar(1 / (rx[:, None] * tx)[..., None].expand_as(path), -path)


@pytest.mark.parametrize("depth", [-0.03, 0.0, 0.04, 0.06])
@pytest.mark.parametrize("aside", [0.0, 0.06])
def test_what_is_in_the_gate_stays(depth: float, aside: float) -> None:
    """Closed form. The filter's error in the gate is 0.2 % of the amplitude by design (floor 1e-3)
    and more near its ends: 0.06 m behind and 0.06 m aside is 0.07 m of range. It has no mean phase,
    so 1 µm of range (0.003 rad) is far above what may be seen."""
    array, waveform = qar50(), qar50_waveform(128)
    signal = point((aside, -aside, CENTRE[2] + depth), array, waveform)
    gated, wanted = RangeGate()(signal, array, waveform, CENTRE, STEPS), signal[..., STEPS]
    assert float((gated - wanted).norm() / wanted.norm()) < 0.02
    shift = torch.angle((gated * wanted.conj()).sum()) / (2 * waveform.wavenumbers.mean())
    assert abs(float(shift)) < 1e-6


@pytest.mark.parametrize(("depth", "left"), [(0.6, 0.01), (0.8, 2e-3), (1.0, 1e-3), (1.5, 1e-3)])
def test_what_is_behind_it_goes(depth: float, left: float) -> None:
    """A point on the axis behind the gate. Without a gate all of its power falls onto the face,
    wherever it is. The bounds are twice what the filter's own response gives at these ranges."""
    array, waveform = qar50(), qar50_waveform(128)
    signal = point((0.0, 0.0, depth), array, waveform)
    gated = RangeGate()(signal, array, waveform, CENTRE, STEPS)
    power = signal[..., STEPS].abs().square().sum()
    assert float(gated.abs().square().sum() / power) < left


def test_white_noise_is_divided_by_the_ranges_left_out() -> None:
    """Of the unambiguous range's 1.905 m the gate keeps 0.16 m, 0.084 of white noise; a filter
    with ends and a transition keeps a third more. 94² · 9 samples: their mean power has a
    standard error of 0.4 %."""
    array, waveform = qar50(), qar50_waveform(128)
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(94, 94, 128, dtype=torch.complex64, generator=generator)
    gated = RangeGate()(noise, array, waveform, CENTRE, STEPS)
    assert 0.084 < float(gated.abs().square().mean()) < 0.12


def test_it_is_the_posterior_mean_of_what_is_in_the_gate() -> None:
    """Independent route: ranges in the gate as 401 explicit random scatterers, the posterior mean
    of their sum in white noise by normal equations in the scatterers. The quadrature of the range
    integral, 0.5 mm of 1 mm's phase cycle, bounds the difference."""
    waveform, gate = qar50_waveform(64), RangeGate(reach=0.08, floor=0.05)
    steps = torch.arange(2, 64, 7)
    ranges = torch.linspace(-0.08, 0.08, 4001, dtype=torch.float64)
    waves = torch.polar(
        torch.ones(64, 4001, dtype=torch.float64), -2 * waveform.wavenumbers[:, None] * ranges
    )
    share = torch.full((4001,), 1 / 4000, dtype=torch.float64)
    share[[0, -1]] /= 2  # trapezoids
    covariance = (waves * share) @ waves.mH
    noisy = covariance + 0.05 * torch.eye(64)
    wanted = covariance[steps] @ torch.linalg.inv(noisy)
    assert float(wanted.imag.abs().max()) < 1e-6
    assert float((wanted.real - gate.weights(waveform, steps)).abs().max()) < 1e-5


def test_unequal_frequencies() -> None:
    """Nothing in the filter needs equal steps."""
    generator = torch.Generator().manual_seed(3)
    jitter = torch.rand(128, generator=generator, dtype=torch.float64) - 0.5
    array = qar50()
    waveform = Waveform(qar50_waveform(128).frequencies + 60e6 * jitter)
    signal = point((0.0, 0.0, 0.36), array, waveform)
    gated = RangeGate()(signal, array, waveform, CENTRE, STEPS)
    wanted = signal[..., STEPS]
    assert float((gated - wanted).norm() / wanted.norm()) < 0.02


def test_batches_and_single_precision() -> None:
    """complex64 keeps 1e-6 of the amplitude: phases come from float64 lengths."""
    array, waveform = qar50(), qar50_waveform(128)
    signal = torch.stack([point((0.0, 0.0, z), array, waveform) for z in (0.3, 0.7)])
    exact = RangeGate()(signal, array, waveform, CENTRE, STEPS)
    single = RangeGate()(signal.to(torch.complex64), array, waveform, CENTRE, STEPS)
    assert single.dtype == torch.complex64
    assert float((single - exact).norm() / exact.norm()) < 1e-5
    alone = RangeGate()(signal[1], array, waveform, CENTRE, STEPS)
    assert float((exact[1] - alone).norm() / alone.norm()) < 1e-12  # products of other sizes


def test_pairs_are_gated_as_the_product_is() -> None:
    """Channel for channel the same arithmetic."""
    array, waveform = qar50(), qar50_waveform(32)
    signal, steps = point((0.02, 0.0, 0.4), array, waveform), torch.arange(0, 32, 4)
    whole = RangeGate()(signal, array, waveform, CENTRE, steps)
    kept = torch.zeros(94, 94, dtype=torch.bool)
    kept[::7, ::5] = True
    some = RangeGate()(signal[kept], array.subset(channels=kept), waveform, CENTRE, steps)
    assert float((some - whole[kept]).abs().max()) < 1e-12 * float(whole.abs().max())


@pytest.mark.parametrize("values", [{"reach": 0.0}, {"floor": -1.0}, {"reach": math.nan}])
def test_refuses(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match="range gate"):
        RangeGate(**values)


#: Every second antenna of each line, as a fit keeps them.
HALF = torch.tensor([i for line in (range(47), range(47, 94)) for i in line[::2]])


def boxed(position: tuple[float, float, float]) -> tuple[Tensor, Tensor]:
    """Samples of a point through the gate, and as they are, at the antennas of :data:`HALF`."""
    array, waveform = qar50(), qar50_waveform(3)
    signal = point(position, array, waveform)
    gated = AngleGate()(signal, array, waveform, CENTRE, tx=HALF, rx=HALF)
    return gated, signal[HALF][:, HALF]


@pytest.mark.parametrize("aside", [(0.0, 0.0), (0.06, -0.07), (0.0, 0.09)])
@pytest.mark.parametrize("depth", [-0.03, 0.0, 0.05])
def test_what_is_in_the_box_stays(aside: tuple[float, float], depth: float) -> None:
    """Closed form; phases are bent within the box, which the filter takes for straight. It has
    no mean phase error: 2 um of range is far below what a fit sees."""
    gated, wanted = boxed((*aside, CENTRE[2] + depth))
    assert float((gated - wanted).norm() / wanted.norm()) < 0.05
    shift = torch.angle((gated * wanted.conj()).sum()) / (2 * qar50_waveform(3).wavenumbers.mean())
    assert abs(float(shift)) < 2e-6


@pytest.mark.parametrize("height", [-0.24, -0.3, 0.26])
def test_what_is_beside_the_box_goes(height: float) -> None:
    """A point as high as shoulders are below a face: of every second antenna alone it is as bright
    as in the middle, somewhere in the box. What passes is at the ends of the lines, where antennas
    have neighbours on one side alone."""
    gated, ghost = boxed((0.02, height, 0.40))
    assert float(gated.abs().square().sum() / ghost.abs().square().sum()) < 0.15


def test_an_angle_gate_is_linear_and_refuses_what_is_no_box() -> None:
    array, waveform = qar50(), qar50_waveform(2)
    generator = torch.Generator().manual_seed(3)
    one, other = torch.randn(2, 94, 94, 2, dtype=torch.complex128, generator=generator)
    gate, kept = AngleGate(), {"tx": HALF, "rx": HALF}
    both = gate(one + 2j * other, array, waveform, CENTRE, **kept)
    each = [gate(s, array, waveform, CENTRE, **kept) for s in (one, other)]
    torch.testing.assert_close(both, each[0] + 2j * each[1])
    with pytest.raises(InputError, match="angle gate: expected values > 0"):
        AngleGate(reach=(0.1, 0.0, 0.05))


def test_a_face_wider_and_deeper_than_the_box_passes_it() -> None:
    """What a head sends comes from where it faces the array, and the box has soft sides. The mean
    face a third larger than it is, 24 cm high and 13 cm deep, and 2 cm off the middle of a box of
    20 and 10 cm: 2.6e-4 of its power changes, a tenth of the least residual that decides anything
    (0.003). A box of a quarter of these sides does cut it."""
    model = load_model("procedural")
    points = to_radar(model, FaceParameters.neutral(1), 0.30)[0]
    middle = torch.tensor(CENTRE)
    points = middle + (points - points.mean(0)) * 4 / 3 + torch.tensor([0.0, 0.02, 0.01])
    low, high = points.amin(0), points.amax(0)
    assert bool((high - low > torch.tensor([0.19, 0.24, 0.12])).all())
    array, waveform = qar50(), qar50_waveform(3)
    with torch.no_grad():
        signal = mesh_signal(points, model.triangles, array, waveform, material=0.0)

    def changed(gate: AngleGate) -> float:
        gated = gate(signal, array, waveform, CENTRE, tx=HALF, rx=HALF)
        kept = signal[HALF][:, HALF]
        gain = (gated.conj() * kept).sum() / gated.abs().square().sum()
        return float((gain * gated - kept).abs().square().sum() / kept.abs().square().sum())

    assert changed(AngleGate()) < 1e-3
    assert changed(AngleGate(reach=(0.025, 0.025, 0.0125))) > 0.1
