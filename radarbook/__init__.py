"""radarbook: 3D faces from millimetre-wave radar images, from a face model and physics."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("radarbook")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
