"""Training: one loop, three tasks, checkpoints from which training resumes."""

from radarbook.training.augmentation import mirrored, moved, turned, with_dynamic_range
from radarbook.training.checkpoints import (
    load_autoencoder,
    load_encoder,
    load_renderer,
    read_about,
    shipped,
    shipped_path,
)
from radarbook.training.data import ResidentSamples, resident
from radarbook.training.facts import ModelFacts
from radarbook.training.loop import History, read_history
from radarbook.training.losses import image_loss
from radarbook.training.tasks import train_autoencoder, train_encoder, train_renderer

__all__ = [
    "History",
    "ModelFacts",
    "ResidentSamples",
    "image_loss",
    "load_autoencoder",
    "load_encoder",
    "load_renderer",
    "mirrored",
    "moved",
    "read_about",
    "read_history",
    "resident",
    "shipped",
    "shipped_path",
    "train_autoencoder",
    "train_encoder",
    "train_renderer",
    "turned",
    "with_dynamic_range",
]
