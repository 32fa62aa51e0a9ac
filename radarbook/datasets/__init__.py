"""Datasets: what is sampled, generated, stored and recorded."""

from radarbook.datasets.distribution import ParameterDistribution, random_parameters
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.recordings import (
    Recording,
    find_recordings,
    read_recording,
    write_maroon,
    write_recording,
)
from radarbook.datasets.storage import FaceDataset
from radarbook.datasets.workers import measured_signal

__all__ = [
    "FaceDataset",
    "Imperfections",
    "ParameterDistribution",
    "Recording",
    "find_recordings",
    "measured_signal",
    "random_parameters",
    "read_recording",
    "write_maroon",
    "write_recording",
]
