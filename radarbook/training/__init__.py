"""Training: one loop, three tasks, checkpoints that can be gone on from."""

from radarbook.training.checkpoints import load_autoencoder, load_encoder, load_renderer
from radarbook.training.loop import History, read_history
from radarbook.training.tasks import train_autoencoder, train_encoder, train_renderer

__all__ = [
    "History",
    "load_autoencoder",
    "load_encoder",
    "load_renderer",
    "read_history",
    "train_autoencoder",
    "train_encoder",
    "train_renderer",
]
