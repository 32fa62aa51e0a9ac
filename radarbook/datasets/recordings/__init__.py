"""Measured signals: recordings of any radar, as they are in its files.

The MAROON / QAR50 layout and a plain HDF5 layout of our own state everything themselves. For files
of other radars a description says the rest (:mod:`~radarbook.datasets.recordings.description`).

MAROON (Wirth et al., arXiv 2411.00527; Zenodo 18254440) keeps a recording as ::

    <object>/<distance>/metadata.json
    <object>/<distance>/radar_72.0_82.0_128/calibrated_data/000000.npy
    <object>/<distance>/radar_72.0_82.0_128/calibrated_data/000000_emptyfiltered.npy
    <object>/<distance>/radar_72.0_82.0_128/calibration.json
    <object>/<distance>/radar_72.0_82.0_128/depth/000000.png          uint16, mm, 0 = none

A frame is a complex array (94, 94, 128) = (rx, tx, frequency). The published files wrap it in a
pickled dictionary, with the array's two outer reference channels and the frequencies next to it;
both forms are read, and nothing of a pickle but numbers is ever loaded.
"""

from radarbook.datasets.recordings.checks import check_recording, outside_depths
from radarbook.datasets.recordings.description import (
    Description,
    describe_array,
    parse_description,
    read_description,
)
from radarbook.datasets.recordings.files import (
    RecordingFile,
    files_read,
    find_recordings,
    read_recording,
    save_recording,
    saved_files,
)
from radarbook.datasets.recordings.inspection import Inspection, inspect
from radarbook.datasets.recordings.maroon import RADAR_FOLDER, write_maroon
from radarbook.datasets.recordings.own_layout import (
    SIGNAL_LAYOUT,
    SIGNAL_LAYOUT_VERSION,
    write_recording,
)
from radarbook.datasets.recordings.recording import Recording, View

__all__ = [
    "RADAR_FOLDER",
    "SIGNAL_LAYOUT",
    "SIGNAL_LAYOUT_VERSION",
    "Description",
    "Inspection",
    "Recording",
    "RecordingFile",
    "View",
    "check_recording",
    "describe_array",
    "files_read",
    "find_recordings",
    "inspect",
    "outside_depths",
    "parse_description",
    "read_description",
    "read_recording",
    "save_recording",
    "saved_files",
    "write_maroon",
    "write_recording",
]
