"""Commands of the radar: a mesh to a signal, a signal to an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radarbook.cli.app import app
from radarbook.cli.options import (
    AntennaSize,
    Between,
    Bounces,
    Delay,
    Depth,
    DynamicRange,
    Extent,
    Material,
    ModelFrame,
    Occlusion,
    OwnDepth,
    OwnExtent,
    Pixels,
    PolarisationName,
    Reading,
    Smooth,
    Units,
    check,
    layer_of,
    say_notes,
    say_outside,
    with_reading,
)
from radarbook.errors import InputError
from radarbook.radar.limits import LARGEST_REACH
from radarbook.targets import HDF5, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from radarbook.datasets.recordings import Recording
    from radarbook.radar.meshes import SceneMesh


@app.command()
def simulate(
    mesh: Annotated[Path, typer.Argument(help="PLY, OBJ or STL in the radar frame.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="signal.npy|signal.h5")],
    units: Units = "m",
    material: Material = 0.1,
    antenna_size: AntennaSize = 2e-3,
    layer: Between = None,
    occlusion: Occlusion = True,
    smooth: Smooth = False,
    bounces: Bounces = 1,
    polarisation: PolarisationName = "vertical",
    model_frame: ModelFrame = None,
    frequencies: Annotated[
        int, typer.Option(min=2, max=1024, help="Number of steps from 72 to 82 GHz.")
    ] = 128,
) -> None:
    """Simulate a mesh's radar signal: complex64 (94, 94, 128) = (rx, tx, f), MAROON order.

    A .h5 file has the project's recording layout. Frequencies other than 128 steps are written
    next to a .npy file, to signal.frequencies.json.
    """
    import torch

    from radarbook.datasets.recordings import Recording, save_recording, saved_files
    from radarbook.radar.array import qar50
    from radarbook.radar.scene_file import read_scene
    from radarbook.radar.waveform import qar50_waveform

    waveform = qar50_waveform(frequencies)
    name, *beside = saved_files(output, waveform)
    targets = {"--output": Target(name, (".npy", *HDF5))}
    if beside:
        targets["frequencies of --output"] = Target(beside[0])
    check(targets, {"MESH": mesh})
    scene, notes = read_scene(mesh, units, model_frame=model_frame)
    _say(mesh, notes)
    signal = _mesh_signal(
        mesh,
        scene,
        material,
        antenna_size,
        frequencies,
        layer,
        occlusion,
        smooth,
        bounces,
        polarisation,
    )
    about: dict[str, str | bool] = {"mesh": mesh.name, "simulated": True}
    save_recording(output, Recording(torch.from_numpy(signal), qar50(), waveform, about))
    where = f"; frequencies in {beside[0]}" if beside else ""
    typer.echo(f"wrote {output}: {signal.dtype} {tuple(signal.shape)} = (rx, tx, f){where}")


@app.command()
@with_reading()
def image(
    *,
    signal: Annotated[
        Path,
        typer.Argument(
            help="Recording: .npy of a QAR50, .h5 or a MAROON folder; with --describe or --array "
            "any .npy, .npz, .mat or .h5."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="image.h5")],
    pixels: Pixels = 128,
    extent: OwnExtent = None,
    depth: OwnDepth = None,
    plane: Annotated[
        float | None,
        typer.Option(min=1e-3, max=LARGEST_REACH, help="The only depth to image, metres."),
    ] = None,
    dynamic_range: DynamicRange = -20.0,
    png: Annotated[
        Path | None, typer.Option(help="Also write a picture with a scale bar, as PNG.")
    ] = None,
    volume: Annotated[
        Path | None,
        typer.Option(metavar="volume.h5", help="Also write the complex volume, as HDF5."),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            metavar="points.ply",
            help="Also write a point cloud, as PLY: peaks along depth within --dynamic-range.",
        ),
    ] = None,
    projections: Annotated[
        Path | None,
        typer.Option(
            metavar="views.png", help="Also write the maximum projections with a scale bar, as PNG."
        ),
    ] = None,
    reading: Reading,
    autofocus: Annotated[
        float | None,
        typer.Option(
            min=1e-12,
            max=1e-8,
            metavar="SECONDS",
            help="Find the common delay, of at most so many seconds, at which the image is "
            "sharpest, and remove it; 2e-10 is 30 mm of range.",
        ),
    ] = None,
    delay: Delay = None,
) -> None:
    """Back-project a recording to an amplitude and depth image (HDF5)."""
    from radarbook.datasets.recordings import files_read

    targets = _image_targets(output, png)
    for option, path, suffixes in (
        ("--volume", volume, HDF5),
        ("--points", points, (".ply",)),
        ("--projections", projections, (".png",)),
    ):
        targets[option] = None if path is None else Target(path, suffixes)
    check(targets, {"SIGNAL": files_read(signal), **reading.files()})
    if depth is not None:
        _require_depths(depth)
    recording = reading.read(signal)
    if delay is not None:
        recording = recording.without_delay(delay)
    depths = recording.depths(depth, plane)
    if autofocus is not None:
        recording, found = recording.focused(autofocus, depths, recording.extent(extent))
        typer.echo(str(found))
    say_outside(recording, signal, depths, recording.extent(extent))
    _write_image(
        recording, output, pixels, extent, depths, dynamic_range, png, volume, points, projections
    )


@app.command()
def render(
    mesh: Annotated[Path, typer.Argument(help="PLY, OBJ or STL in the radar frame.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="image.h5")],
    units: Units = "m",
    material: Material = 0.1,
    antenna_size: AntennaSize = 2e-3,
    layer: Between = None,
    occlusion: Occlusion = True,
    smooth: Smooth = False,
    bounces: Bounces = 1,
    polarisation: PolarisationName = "vertical",
    model_frame: ModelFrame = None,
    pixels: Pixels = 128,
    extent: Extent = 0.30,
    depth: Depth = (0.23, 0.47),
    dynamic_range: DynamicRange = -20.0,
    png: Annotated[
        Path | None, typer.Option(help="Also write a picture with a scale bar, as PNG.")
    ] = None,
) -> None:
    """Simulate a mesh's radar signal and back-project it to an image, in one step."""
    import torch

    from radarbook.datasets.recordings import Recording
    from radarbook.radar.array import qar50
    from radarbook.radar.scene_file import check_in_image, read_scene
    from radarbook.radar.waveform import qar50_waveform

    check(_image_targets(output, png), {"MESH": mesh})
    _require_depths(depth)
    scene, notes = read_scene(mesh, units, model_frame=model_frame)
    _say(mesh, notes)
    _say(mesh, check_in_image(scene, extent, depth, str(mesh), units))
    signal = _mesh_signal(
        mesh, scene, material, antenna_size, 128, layer, occlusion, smooth, bounces, polarisation
    )
    recording = Recording(torch.from_numpy(signal), qar50(), qar50_waveform(), {"mesh": mesh.name})
    _write_image(recording, output, pixels, extent, depth, dynamic_range, png)


def _image_targets(output: Path, png: Path | None) -> dict[str, Target | None]:
    picture = None if png is None else Target(png, (".png",))
    return {"--output": Target(output, HDF5), "--png": picture}


def _require_depths(depth: tuple[float, float]) -> None:
    near, far = depth
    if not 0 < near < far <= LARGEST_REACH:
        raise InputError(
            f"--depth: expected 0 < NEAR < FAR metres, at most {LARGEST_REACH:g}, "
            f"found {near} {far}"
        )


def _say(mesh: Path, notes: list[str]) -> None:
    say_notes(f"{mesh}: {note}" for note in notes)


def _mesh_signal(
    path: Path,
    mesh: SceneMesh,
    material: float,
    antenna_size: float,
    frequencies: int,
    layer: tuple[float, float, str] | None,
    occlusion: bool,
    smooth: bool,
    bounces: int,
    polarisation: str,
) -> NDArray[np.complex64]:
    """Signal of a mesh, read from ``path``, in front of the QAR50; complex64 (rx, tx, f)."""
    import torch

    from radarbook.radar.array import qar50
    from radarbook.radar.polarisation import Polarisation
    from radarbook.radar.renderer import mesh_signal
    from radarbook.radar.surface import SmoothSurface
    from radarbook.radar.waveform import qar50_waveform

    vertices, triangles = mesh
    with torch.no_grad():
        signal = mesh_signal(
            vertices.float(),
            triangles,
            qar50(),
            qar50_waveform(frequencies),
            material=material,
            antenna_size=antenna_size,
            layer=layer_of(layer),
            occlusion=occlusion,
            surface=SmoothSurface.of(vertices, triangles) if smooth else None,
            bounces=bounces,
            polarisation=Polarisation.named(polarisation),
        )
    if not signal.any():
        raise InputError(
            f"{path}: the mesh reflects nothing to the array, which sees it edge-on or not at all"
        )
    return signal.numpy()


def _write_image(
    recording: Recording,
    output: Path,
    pixels: int,
    extent: float | None,
    depths: tuple[float, float],
    dynamic_range: float,
    png: Path | None,
    volume: Path | None = None,
    points: Path | None = None,
    projections: Path | None = None,
) -> None:
    """Image, pictures, volume and point cloud; equal depths are one plane."""
    from radarbook.radar.image import image_from_volume, save_image

    near, far = depths
    values, grid = recording.volume(
        pixels,
        extent,
        None if near == far else depths,
        plane=near if near == far else None,
        progress=True,
    )
    picture = image_from_volume(values, grid, dynamic_range)
    save_image(output, picture)
    typer.echo(f"wrote {output}: {pixels} x {pixels} pixels, clipped at {dynamic_range:g} dB")
    if png is not None:
        from radarbook.figures import radar_image, save_png, scale_bar

        figure = radar_image(picture, 0)
        scale_bar(figure)
        save_png(figure, png)
        typer.echo(f"wrote {png}")
    if volume is not None:
        from radarbook.radar.volume import save_volume

        save_volume(volume, values, grid)
        typer.echo(f"wrote {volume}: {tuple(values.shape)} = (z, y, x), complex")
    if points is not None:
        from radarbook.radar.volume import point_cloud, save_points

        places, level = point_cloud(values, grid, dynamic_range)
        save_points(points, places, level)
        typer.echo(f"wrote {points}: {len(places)} points from {dynamic_range:g} dB on")
    if projections is not None:
        from radarbook.figures import save_png, volume_projections

        save_png(volume_projections(values, grid, floor_db=dynamic_range), projections)
        typer.echo(f"wrote {projections}")
