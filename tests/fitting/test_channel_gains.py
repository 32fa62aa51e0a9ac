"""Unknown gains of antennas: what they remove, and what they must not."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import radarbook as rb
from radarbook.errors import InputError
from radarbook.fitting.acceptance import judge
from radarbook.fitting.channel_gains import channel_gains
from radarbook.fitting.decimation import decimate
from radarbook.fitting.forward import ReducedPhysics
from radarbook.fitting.objectives import PhaseObjective
from radarbook.fitting.objectives.focused import Pixels
from radarbook.fitting.start import foreground
from radarbook.radar.channel_errors import ChannelErrors
from tests.fitting.scenes import face, renderer

NOMINAL = ChannelErrors()
TRUTH = face((0.5, -0.5), 0.3, material=0.0)


def _physics(channels: ChannelErrors | None = NOMINAL) -> ReducedPhysics:
    physical = renderer().replace(channels=channels)
    return ReducedPhysics(physical, decimate(physical.array, physical.waveform))


def _objective(signal: Tensor, channels: ChannelErrors | None = NOMINAL) -> PhaseObjective:
    # Neighbouring antennas differ by a cycle across the image; narrower ones mix them.
    small = Pixels(pixel=0.006, half_width=0.09)
    centre = torch.tensor([[0.0, 0.0, 0.30]])
    return PhaseObjective.of(signal, _physics(channels), centre, pixels=small, prior=0.0)


def _planted(signal: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A recording (1, rx, tx, f) with nominal errors, and the factors of its antennas."""
    stream = torch.Generator().manual_seed(seed)
    factors = []
    for count in signal.shape[1:3]:
        normal = torch.randn(2, count, generator=stream, dtype=torch.float64)
        level = 10 ** (NOMINAL.gain_db * normal[0] / 20)
        factors.append(level * torch.exp(1j * NOMINAL.phase * normal[1]))
    rx, tx = factors
    return (signal * rx[:, None, None] * tx[:, None]).to(torch.complex64), rx, tx


def _loss(objective: PhaseObjective, where: rb.FaceParameters = TRUTH) -> float:
    with torch.no_grad():
        return float(objective.residuals(where).double().square().sum())


@pytest.fixture(scope="module")
def clean() -> Tensor:
    with torch.no_grad():
        return _physics().signal(TRUTH)


def test_planted_gains_are_recovered_and_leave_no_residual(clean: Tensor) -> None:
    recording, rx, tx = _planted(clean)
    exact, unknown = _objective(recording, None), _objective(recording)
    gains = unknown.target(TRUTH, 0).gains
    assert gains is not None
    for found, factor in ((gains.of_receivers, rx), (gains.of_transmitters, tx)):
        planted = factor / factor.mean() - 1
        error = found - found.mean() - planted
        assert float(error.norm()) < 0.15 * float(planted.norm())
    assert _loss(exact) > 0.01
    assert _loss(unknown) < 0.1 * _loss(exact)


def test_a_recording_without_errors_has_no_gains(clean: Tensor) -> None:
    unknown = _objective((2 - 1j) * clean)
    gains = unknown.target(TRUTH, 0).gains
    assert gains is not None
    assert float(gains.deviations.abs().max()) < 1e-3
    assert _loss(unknown) < 1e-8


def test_a_common_gain_is_no_deviation(clean: Tensor) -> None:
    recording = _planted(clean)[0]
    one, other = (_objective(factor * recording) for factor in (1.0, -0.6 + 0.8j))
    found = [o.target(TRUTH, 0).gains for o in (one, other)]
    assert found[0] is not None
    assert found[1] is not None
    torch.testing.assert_close(found[0].deviations, found[1].deviations, atol=1e-4, rtol=0)
    assert _loss(one) == pytest.approx(_loss(other), rel=1e-2)


def test_another_face_is_not_explained_by_gains(clean: Tensor) -> None:
    other = face((0.5, 0.5), -0.7, material=0.0)
    exact, unknown = _objective(clean, None), _objective(clean)
    assert _loss(unknown, other) > 0.5 * _loss(exact, other)


def test_the_map_leaves_the_least_loss_over_the_gains() -> None:
    """Eq. (P6.14) against a least-squares solution with the prior as further rows."""
    stream = torch.Generator().manual_seed(1)

    def noise(*size: int) -> Tensor:
        return torch.randn(*size, generator=stream, dtype=torch.complex64)

    waves = noise(2, 30, 4), noise(2, 30, 3)
    mine = waves[0].sum(-1)
    parts = waves[0], waves[1] - (waves[1].sum(-1) - mine)[..., None] / 3
    wanted = mine + 0.3 * noise(2, 30)
    found = channel_gains(parts, mine, wanted, NOMINAL, independent=50.0)
    left = found.without(wanted)
    # Of the face itself nothing is removed.
    torch.testing.assert_close(found.without(mine), mine, atol=1e-4, rtol=0)
    face_, target = mine.flatten().to(torch.complex128), wanted.flatten().to(torch.complex128)
    gain = (face_.conj() @ target) / face_.abs().square().sum()
    columns = gain * torch.cat([p.flatten(0, 1) for p in parts], 1).to(torch.complex128)
    columns = columns - torch.outer(face_, face_.conj() @ columns) / face_.abs().square().sum()
    loss = float((left.flatten() - gain * face_).abs().square().sum())
    weight = math.sqrt(loss / 50) / NOMINAL.deviation
    rows = torch.cat([columns, weight * torch.eye(7, dtype=torch.complex128)])
    right = torch.cat([target - gain * face_, torch.zeros(7, dtype=torch.complex128)])
    solution = torch.linalg.lstsq(rows, right[:, None]).solution[:, 0]
    least = float((right - rows @ solution).abs().square().sum())
    assert loss == pytest.approx(least, rel=1e-3)
    torch.testing.assert_close(found.deviations, solution, atol=2e-3, rtol=0)


def test_several_versions_pass_through_the_same_map(clean: Tensor) -> None:
    """One row at a time, or together, and frozen or not."""
    unknown = _objective(_planted(clean)[0])
    versions = rb.FaceParameters.cat(
        [TRUTH.replace(translation=TRUTH.translation + shift) for shift in (0.0, 1e-5)]
    )
    together = unknown.jacobian(TRUTH, versions, 0)
    frozen = unknown.frozen_at(TRUTH, 0)
    assert frozen.channels is None
    assert frozen.targets[0].gains is not None
    torch.testing.assert_close(frozen.jacobian(TRUTH, versions, 0), together)
    torch.testing.assert_close(together[0], together[1], atol=1e-5, rtol=0)


def test_a_face_with_channel_errors_is_accepted_with_unknown_gains(clean: Tensor) -> None:
    recording = _planted(clean)[0]
    (exact,) = judge(_objective(recording, None), TRUTH)
    (unknown,) = judge(_objective(recording), TRUTH)
    assert not exact.explained
    assert unknown.explained, str(unknown)


def test_gains_take_little_of_the_diffuse_share() -> None:
    rough = face((0.5, -0.5), 0.3, material=0.3)
    physical = renderer().replace(seed=3)
    part = decimate(physical.array, physical.waveform)
    signal = part(physical.signal(rough)).to(torch.complex64)
    exact, unknown = _objective(signal, None), _objective(signal)
    shares = [float(o.diffuse_share(rough)) for o in (exact, unknown)]
    assert 0.8 < shares[1] / shares[0] <= 1
    assert judge(unknown, rough)[0].level_explained


def test_pairs_of_a_product_have_the_gains_of_the_product_and_few_pairs_none(clean: Tensor) -> None:
    physics = _physics()
    signal = _planted(clean)[0][0]
    rx, tx = signal.shape[:2]
    of_rx, of_tx = torch.meshgrid(torch.arange(rx), torch.arange(tx), indexing="ij")
    pairs = torch.stack([of_tx.flatten(), of_rx.flatten()], dim=1)
    listed = physics.array.replace(pairs=pairs)
    focus = _objective(signal[None]).targets[0].focus
    same = type(focus)(_with_array(physics, listed), focus.points)
    for one, other in zip(
        focus.by_antenna(signal) or (), same.by_antenna(signal.flatten(0, 1)) or (), strict=True
    ):
        torch.testing.assert_close(one, other)
    few = physics.array.replace(pairs=torch.arange(rx)[:, None].expand(-1, 2))
    alone = type(focus)(_with_array(physics, few), focus.points)
    assert alone.by_antenna(signal[torch.arange(rx), torch.arange(rx)]) is None


def _with_array(physics: ReducedPhysics, array: rb.Array) -> ReducedPhysics:
    part = decimate(array, physics.waveform, antennas=1)
    whole = replace(part, steps=torch.arange(len(physics.waveform)))
    return ReducedPhysics(
        physics.renderer.replace(array=array, waveform=physics.waveform, bounces=1), whole
    )


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ({"gain_db": -1.0}, "gain_db of 0 or more, found -1"),
        ({"phase": math.inf}, "phase of 0 or more, found inf"),
        ({"gain_db": 0.0, "phase": 0.0}, "expected errors"),
    ],
)
def test_impossible_errors_are_refused(errors: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ChannelErrors(**errors)


def test_what_is_far_behind_the_face_is_no_foreground() -> None:
    """A few pixels in front do not move the limit; an empty image has none."""
    depth = torch.full((1, 10, 10), 0.33)
    depth[:, 5:], depth[0, 0, 0] = 0.42, 0.20
    level, axis = torch.zeros(1, 10, 10), torch.arange(10.0)
    image = rb.RadarImage(level, depth, level == 0, axis, axis, torch.tensor([-30.0]))
    assert torch.equal(foreground(image).mask, depth < 0.40)
    nothing = replace(image, mask=level > 0)
    assert not bool(foreground(nothing).mask.any())
