"""radarbook: 3D faces from millimetre-wave radar images, from a face model and physics.

The names below are what a notebook or a script needs; each is imported when it is first used::

    import radarbook as rb

    recording = rb.read_recording("signal.npy")
    rb.save_image("image.h5", recording.image())
    face = rb.reconstruct(recording, rb.load_model())
    print(face)
    face.save("face.ply")
"""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from radarbook import datasets as datasets
    from radarbook import evaluation as evaluation
    from radarbook import faces as faces
    from radarbook import figures as figures
    from radarbook import fitting as fitting
    from radarbook import networks as networks
    from radarbook import radar as radar
    from radarbook import reports as reports
    from radarbook import seeds as seeds
    from radarbook import training as training
    from radarbook.batch.folder import reconstruct_folder as reconstruct_folder
    from radarbook.batch.page import write_report as write_report
    from radarbook.book.notebook import start_chapter as start_chapter
    from radarbook.datasets.distribution import ParameterDistribution as ParameterDistribution
    from radarbook.datasets.distribution import random_parameters as random_parameters
    from radarbook.datasets.recordings import Recording as Recording
    from radarbook.datasets.recordings import read_recording as read_recording
    from radarbook.datasets.recordings import write_recording as write_recording
    from radarbook.errors import InputError as InputError
    from radarbook.evaluation.surfaces import compare as compare
    from radarbook.faces.load import load_model as load_model
    from radarbook.faces.mesh import read_mesh as read_mesh
    from radarbook.faces.mesh import write_mesh as write_mesh
    from radarbook.faces.parameters import FaceParameters as FaceParameters
    from radarbook.faces.pose import to_radar as to_radar
    from radarbook.fitting.fit import fit as fit
    from radarbook.fitting.frames import FramesReconstruction as FramesReconstruction
    from radarbook.fitting.frames import reconstruct_frames as reconstruct_frames
    from radarbook.fitting.reconstruction import Reconstruction as Reconstruction
    from radarbook.fitting.reconstruction import reconstruct as reconstruct
    from radarbook.profiles import get_profile as get_profile
    from radarbook.radar import meshes as meshes
    from radarbook.radar.array import Array as Array
    from radarbook.radar.array import qar50 as qar50
    from radarbook.radar.image import RadarImage as RadarImage
    from radarbook.radar.image import image_from_volume as image_from_volume
    from radarbook.radar.image import load_image as load_image
    from radarbook.radar.image import save_image as save_image
    from radarbook.radar.imaging import Grid as Grid
    from radarbook.radar.imaging import back_project as back_project
    from radarbook.radar.layer import Layer as Layer
    from radarbook.radar.renderer import PhysicalRenderer as PhysicalRenderer
    from radarbook.radar.simulate import simulate as simulate
    from radarbook.radar.simulate import simulate_points as simulate_points
    from radarbook.radar.waveform import Waveform as Waveform
    from radarbook.radar.waveform import qar50_waveform as qar50_waveform

#: Module of each public name, below the package.
_HOMES = {
    "Array": "radar.array",
    "FaceParameters": "faces.parameters",
    "FramesReconstruction": "fitting.frames",
    "Grid": "radar.imaging",
    "InputError": "errors",
    "Layer": "radar.layer",
    "ParameterDistribution": "datasets.distribution",
    "PhysicalRenderer": "radar.renderer",
    "RadarImage": "radar.image",
    "Reconstruction": "fitting.reconstruction",
    "Recording": "datasets.recordings",
    "Waveform": "radar.waveform",
    "back_project": "radar.imaging",
    "compare": "evaluation.surfaces",
    "fit": "fitting.fit",
    "get_profile": "profiles",
    "image_from_volume": "radar.image",
    "load_image": "radar.image",
    "load_model": "faces.load",
    "qar50": "radar.array",
    "qar50_waveform": "radar.waveform",
    "random_parameters": "datasets.distribution",
    "read_mesh": "faces.mesh",
    "read_recording": "datasets.recordings",
    "reconstruct": "fitting.reconstruction",
    "reconstruct_folder": "batch.folder",
    "reconstruct_frames": "fitting.frames",
    "save_image": "radar.image",
    "simulate": "radar.simulate",
    "simulate_points": "radar.simulate",
    "start_chapter": "book.notebook",
    "to_radar": "faces.pose",
    "write_mesh": "faces.mesh",
    "write_recording": "datasets.recordings",
    "write_report": "batch.page",
}
#: Public modules and packages.
_MODULES = {
    "datasets": "radarbook.datasets",
    "evaluation": "radarbook.evaluation",
    "faces": "radarbook.faces",
    "figures": "radarbook.figures",
    "fitting": "radarbook.fitting",
    "meshes": "radarbook.radar.meshes",
    "networks": "radarbook.networks",
    "radar": "radarbook.radar",
    "reports": "radarbook.reports",
    "seeds": "radarbook.seeds",
    "training": "radarbook.training",
}

__all__ = ["__version__", *sorted([*_HOMES, *_MODULES])]

try:
    __version__ = version("radarbook")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"radarbook.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'radarbook' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
