"""Adaptation without labels: the losses, the match of amplitudes, and one short training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from radarbook.errors import InputError
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.training.adaptation import AmplitudeMatch, adapt_encoder, contrast
from radarbook.training.facts import ModelFacts
from radarbook.training.loop import Settings
from radarbook.training.tasks import fine_tune_encoder
from tests.training.toys import toy_samples

SETTINGS = Settings(2, 8, 1e-3)
FACTS = ModelFacts("toy", torch.eye(5) / 5, None, torch.zeros(2))


def network(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return Encoder("both", "small", 3, 2, pixels=32).eval()


def test_contrast_pulls_one_person_together() -> None:
    torch.manual_seed(0)
    shape = torch.randn(12, 4, requires_grad=True)
    person = torch.arange(12) % 3
    before = contrast(shape, person)
    (slope,) = torch.autograd.grad(before, shape)
    assert contrast(shape - 0.5 * slope, person) < before
    # People without a second take say nothing.
    assert float(contrast(shape, torch.arange(12)).detach()) == 0.0


def test_amplitudes_get_the_statistics_of_others() -> None:
    image = toy_samples(4, 32).image.with_dynamic_range(-20.0)
    wanted = toy_samples(4, 32, seed=1).image.with_dynamic_range(-20.0)
    darker = AmplitudeMatch(torch.tensor([-20.0, 0.0]), torch.tensor([-20.0, -6.0]))(wanted)
    found = AmplitudeMatch.of(image, darker)(image)
    parts = [0.1, 0.5, 0.9]
    both = [torch.quantile(i.amplitude_db[i.mask], torch.tensor(parts)) for i in (found, darker)]
    assert torch.allclose(*both, atol=0.2)
    assert torch.equal(found.mask, image.mask)
    assert torch.equal(found.depth, image.depth)
    with pytest.raises(InputError, match="found none"):
        AmplitudeMatch.of(image.with_dynamic_range(-0.0), darker)


def test_a_fine_tuned_encoder_goes_on_from_the_one_given(tmp_path: Path) -> None:
    begun = network()
    kept = {name: value.clone() for name, value in begun.state_dict().items()}
    train, held = toy_samples(24, 32), toy_samples(8, 32, seed=1)
    still = Settings(1, 8, 1e-12, weight_decay=0.0)
    same, history = fine_tune_encoder(begun, train, held, still, tmp_path / "still", device="cpu")
    assert history.finished
    for (name, value), (_, other) in zip(
        same.named_parameters(), begun.named_parameters(), strict=True
    ):
        assert torch.allclose(value, other, atol=1e-6), name
    assert all(torch.equal(value, kept[name]) for name, value in begun.state_dict().items())
    with pytest.raises(InputError, match="another training"):
        fine_tune_encoder(network(1), train, held, still, tmp_path / "still", device="cpu")


def test_adaptation_lowers_the_losses_that_it_is_given(tmp_path: Path) -> None:
    unknown = toy_samples(16, 32, seed=2).image
    person = torch.arange(16) % 4
    renderer = LearnedRenderer("small", 3, 2, pixels=32).eval()
    source, held = toy_samples(24, 32), toy_samples(8, 32, seed=1)
    begun = network()
    adapted, history = adapt_encoder(
        begun, renderer, source, held, unknown, person, Settings(4, 8, 1e-3), tmp_path,
        facts=FACTS, image_weight=0.0, contrast_weight=1.0,
    )  # fmt: skip
    assert history.finished
    rows = history.column("contrast")
    assert rows[-1] < rows[0]
    assert history.column("image") == [0.0] * 4
    assert not adapted.training
    with pytest.raises(InputError, match="numbers"):
        adapt_encoder(
            begun, renderer, source, held, unknown, person[1:], SETTINGS, tmp_path, facts=FACTS
        )
