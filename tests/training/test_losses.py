"""Losses: what counts as an error and what does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from radarbook.training.losses import amplitude_error, image_loss, parameter_loss
from tests.training.toys import toy_image, toy_parameters


@pytest.fixture
def target():
    return toy_image(toy_parameters(3, seed=0), 32).with_dynamic_range(-20.0)


def test_the_target_itself_costs_nothing(target):
    assert image_loss(target.amplitude_db, target.depth, target) == 0


def test_below_the_clip_only_what_rises_above_it_is_wrong(target):
    """The target says "below −20 dB" there: −35 dB is right, −12 dB is 8 dB too bright."""
    dark = torch.where(target.mask, target.amplitude_db, -35.0)
    assert amplitude_error(dark, target).abs().max() == 0
    bright = torch.where(target.mask, target.amplitude_db, -12.0)
    assert torch.equal(amplitude_error(bright, target), torch.where(target.mask, 0.0, 8.0))


def test_a_pixel_drawn_too_dark_still_has_a_gradient(target):
    """Clipping the drawing before comparing would leave a missing highlight without one."""
    drawn = torch.full_like(target.amplitude_db, -35.0, requires_grad=True)
    image_loss(drawn, target.depth, target, "amplitude").backward()
    assert (drawn.grad[target.mask] < 0).all()
    assert (drawn.grad[~target.mask] == 0).all()


def test_depth_counts_inside_the_mask_alone(target):
    depth = torch.where(target.mask, target.depth, target.depth + 1.0)
    assert image_loss(target.amplitude_db, depth, target) == 0
    wrong = image_loss(target.amplitude_db, target.depth + 0.006, target)
    # 6 mm of 6 cm, squared, a tenth
    assert float(wrong) == pytest.approx(0.1 * 0.1**2, rel=1e-4)


def test_inputs_choose_the_images(target):
    amplitude, depth = target.amplitude_db - 1, target.depth + 0.01
    parts = [image_loss(amplitude, depth, target, i) for i in ("amplitude", "depth")]
    assert all(p > 0 for p in parts)
    assert torch.isclose(sum(parts), image_loss(amplitude, depth, target, "both"))


def test_an_image_without_a_valid_pixel(target):
    empty = replace(target, mask=torch.zeros_like(target.mask))
    assert image_loss(empty.amplitude_db, empty.depth, empty, "depth") == 0


def test_parameter_loss_is_the_papers():
    a, b = torch.randn(4, 26), torch.randn(4, 26)
    assert torch.isclose(parameter_loss(a, b), ((a - b) ** 2).sum() / (4 * 26))
