"""Speed, memory and accuracy of the physical renderer compared with the formulation others use.

    python -m benchmarks.renderer [--json FILE] [--model MODEL] [--threads N] [--quick]

One run on one machine prints the time of an image (simulation, imaging, the whole; forward and
backward), peak memory, and throughput in voxel·pair·frequency a second, which is

    voxels x 94·94 pairs x 128 frequencies of the instrument / seconds,

for the whole and the reference alike. The reference sums every voxel, pair and frequency with a
sine and a cosine each, as published code does: here a parallel numba kernel on the CPU and chunked
torch on a GPU where there is one. It is measured on a part of the voxels and scaled by their
number, since its cost is the same for each. Where there is a GPU, batches of images are timed too;
where there is none, the output says so.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from radarbook.datasets.distribution import random_parameters
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.radar.array import Array, qar50
from radarbook.radar.image import image_from_volume
from radarbook.radar.imaging import MEMORY_BUDGET, Grid, back_project, imaging_method
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.radar.simulate import FACET_SIZE, simulate
from radarbook.radar.waveform import Waveform, qar50_waveform

ICT = Path(__file__).resolve().parents[2] / "shared/models/ict_face.h5"
#: The prototype's grid: 24 planes over a face's depth.
PLANES = 24
STEPS = 24


def grid_of(pixels: int, planes: int = PLANES) -> Grid:
    """Images of ``pixels`` on 0.3 m, planes from 0.28 to 0.42 m."""
    return Grid.regular(0.30, pixels, 0.28, 0.42, planes)


@numba.njit(parallel=True, fastmath=True)  # type: ignore[misc, unused-ignore]
def _reference_kernel(
    signal: NDArray[np.complex64],
    tx: NDArray[np.float32],
    rx: NDArray[np.float32],
    k: NDArray[np.float32],
    voxels: NDArray[np.float32],
) -> NDArray[np.complex64]:
    out = np.zeros(len(voxels), np.complex64)
    for v in numba.prange(len(voxels)):
        real, imaginary = np.float32(0), np.float32(0)
        for r in range(len(rx)):
            dr = np.sqrt(np.sum((voxels[v] - rx[r]) ** 2))
            for t in range(len(tx)):
                d = dr + np.sqrt(np.sum((voxels[v] - tx[t]) ** 2))
                for f in range(len(k)):
                    phase = k[f] * d
                    c, s = np.cos(phase), np.sin(phase)
                    value = signal[r, t, f]
                    real += value.real * c - value.imag * s
                    imaginary += value.real * s + value.imag * c
        out[v] = real + 1j * imaginary
    return out


def reference_cpu(signal: Tensor, array: Array, waveform: Waveform, points: Tensor) -> Tensor:
    """All voxels x pairs x frequencies with a sine each, numba on all threads."""
    arrays = (array.tx, array.rx, waveform.wavenumbers, points)
    return torch.from_numpy(
        _reference_kernel(signal.cpu().numpy(), *(a.float().cpu().numpy() for a in arrays))
    )


def reference_torch(
    signal: Tensor, array: Array, waveform: Waveform, points: Tensor, memory: int = 2**28
) -> Tensor:
    """The same formulation in torch on the signal's device: every voxel, pair and frequency with a
    sine and a cosine, float32, as many voxels at a time as ``memory`` bytes hold. Not fused: phases
    go through memory once for each of them, as in code that is written like this."""
    device = signal.device
    real = signal.real.contiguous().flatten()
    imaginary = signal.imag.contiguous().flatten()
    tx, rx, k, points = (
        v.float().to(device) for v in (array.tx, array.rx, waveform.wavenumbers, points)
    )
    out = []
    for chunk in points.split(max(1, memory // (12 * len(real)))):
        # Not by a matrix product, which loses the digits that a phase needs.
        legs = [(chunk[:, None] - antennas).square().sum(-1).sqrt() for antennas in (rx, tx)]
        path = legs[0][:, :, None] + legs[1][:, None]
        phase = (path[..., None] * k).flatten(1)
        c, s = phase.cos(), phase.sin_()
        out.append(torch.complex(c @ real - s @ imaginary, s @ real + c @ imaginary))
    return torch.cat(out)


def seconds(work: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Median wall-clock time of ``work`` after one run to warm up."""
    times = []
    for i in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if i:
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def peak_memory(device: torch.device) -> float:
    """GB: of the process so far on a CPU, of the allocator on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def image_times(
    model: MorphableModel, pixels: int, repeats: int, device: torch.device
) -> dict[str, float]:
    """Times of one image, forward and backward."""
    renderer = PhysicalRenderer(model, grid=grid_of(pixels), waveform=qar50_waveform(STEPS))
    face = FaceParameters.neutral(
        n_shape=model.n_shape, n_expression=model.n_expression, device=device
    )
    with torch.no_grad():
        signal = renderer.signal(face)
        image = seconds(
            lambda: image_from_volume(
                back_project(signal, renderer.array, renderer.waveform, renderer.grid),
                renderer.grid,
            ),
            repeats,
            device,
        )
        simulation = seconds(lambda: renderer.signal(face), repeats, device)
        whole = seconds(lambda: renderer.render(face), repeats, device)
    leaves = {n: v.clone().requires_grad_() for n, v in face.as_dict().items()}

    def both() -> None:
        volume = renderer.volume(FaceParameters(**leaves))
        volume.abs().square().mean().backward()

    total = seconds(both, repeats, device)
    work = math.prod(renderer.grid.shape) * 94 * 94 * 128
    return {
        "simulation_s": simulation,
        "imaging_s": image,
        "whole_s": whole,
        "forward_and_backward_s": total,
        "backward_over_forward": (total - whole) / whole,
        "imaging_voxel_pair_frequency_per_s": work / image,
        "peak_memory_gb": peak_memory(device),
    }


def reference_times(
    signal: Tensor, array: Array, device: torch.device, voxels: int
) -> tuple[float, float]:
    """Seconds for a 64 x 64 x 24 volume, scaled from a part, and voxel·pair·frequency a second."""
    points = grid_of(64).points().reshape(-1, 3)
    part = points[torch.linspace(0, len(points) - 1, voxels).long()]
    work = reference_torch if device.type == "cuda" else reference_cpu
    measured = seconds(lambda: work(signal, array, qar50_waveform(128), part), 1, device)
    return measured * len(points) / voxels, voxels * 94 * 94 * 128 / measured


def batch_times(
    model: MorphableModel,
    pixels: int,
    counts: Sequence[int],
    device: torch.device,
    memory: int = MEMORY_BUDGET,
    planes: int = PLANES,
) -> list[list[float]]:
    """[images, seconds an image] of batches of different faces, rendered whole in one call each:
    the median of three runs within ``memory`` bytes of working memory."""
    renderer = PhysicalRenderer(
        model, grid=grid_of(pixels, planes), waveform=qar50_waveform(STEPS), memory=memory
    )
    rows = []
    for count in counts:
        faces = random_parameters(range(count), 0, model.n_shape, model.n_expression).to(device)
        with torch.no_grad():
            taken = seconds(lambda f=faces: renderer.render(f), 3, device)  # type: ignore[misc]
        rows.append([count, taken / count])
    return rows


def accuracy(vertices: Tensor, triangles: Tensor, array: Array) -> dict[str, float]:
    """Of the -30 dB amplitude image, against 0.7 mm facets and 128 frequencies; and of imaging
    alone, against the sum over all antennas in float64."""
    grid = grid_of(64)

    def picture(steps: int, facet_size: float) -> tuple[Tensor, Tensor]:
        waveform = qar50_waveform(steps)
        signal = simulate(vertices, triangles, array, waveform, facet_size=facet_size)
        volume = back_project(signal, array, waveform, grid)
        return signal, image_from_volume(volume, grid, -30.0).amplitude_db[0]

    _, converged = picture(128, 0.7e-3)
    signal, default = picture(STEPS, FACET_SIZE)
    _, whole_facets = picture(STEPS, 1.0)
    few = Grid(grid.x[24:40], grid.y[24:40], grid.z[4:16])
    waveform = qar50_waveform(STEPS)
    fast = back_project(signal, array, waveform, few)
    exact = back_project(signal.to(torch.complex128), array, waveform, few, method="direct")

    def correlation(a: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), converged.flatten()]))[0, 1])

    return {
        "image_correlation": correlation(default),
        "image_correlation_undivided_facets": correlation(whole_facets),
        "imaging_relative_error": float((fast - exact).abs().max() / exact.abs().max()),
    }


#: The default volume of the MAROON recordings: 301 x 301 x 151 voxels of 1 and 1.3 mm.
LARGE = 301, 151


def large_volume(array: Array, device: torch.device) -> dict[str, float]:
    """Seconds and peak memory (GB) of one volume of :data:`LARGE` from 128 frequencies."""
    waveform = qar50_waveform(128)
    side = torch.linspace(-0.15, 0.15, LARGE[0], dtype=torch.float64)
    depth = torch.linspace(0.25, 0.45, LARGE[1], dtype=torch.float64)
    stream = torch.Generator().manual_seed(0)
    shape = len(array.rx), len(array.tx), len(waveform)
    signal = torch.randn(shape, dtype=torch.complex64, generator=stream).to(device)
    grid = Grid(side, side, depth)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    taken = seconds(
        lambda: back_project(signal, array, waveform, grid, method="interpolated"), 1, device
    )
    return {"seconds": taken, "peak_memory_gb": peak_memory(device)}


#: Positions of the raster scan that is timed, and its frequencies (22.2 to 26.2 GHz).
RASTER, RASTER_STEPS = (187, 144), 11


def apertures(*, quick: bool = False) -> list[list[Any]]:
    """[array, method, seconds, voxel·pair·frequency per second] on the CPU, of each kind of array.

    The volume is that of :data:`LARGE`; ``"direct"`` is timed on a thousandth of it. Each array has
    the raster's frequencies and the method that :func:`~radarbook.radar.imaging.imaging_method`
    chooses for it.
    """
    x, y = ((torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * 3e-3 for n in RASTER)
    places = torch.cartesian_prod(x, y)
    places = torch.cat([places, torch.zeros(len(places), 1, dtype=torch.float64)], 1)
    half = 15 if quick else 150
    side = torch.linspace(-0.15, 0.15, 2 * half + 1, dtype=torch.float64)
    grid = Grid(side, side, torch.linspace(0.05, 0.20, half + 1, dtype=torch.float64))
    waveform = Waveform(torch.linspace(22.2e9, 26.2e9, RASTER_STEPS, dtype=torch.float64))
    few = Grid(grid.x[:: len(grid.x) // 10], grid.y[:: len(grid.y) // 10], grid.z[::15])
    numbers = torch.arange(94 * 94).reshape(94, 94) % 10
    arrays = {
        "monostatic raster": Array.monostatic(places),
        "one transmitter 1 km away": Array.of_pairs(
            torch.tensor([[0.0, 0.0, -1000.0]]), places, unit="m"
        ),
        "product": qar50(),
        "product, a tenth missing": qar50().subset(channels=numbers != 3),
        "product, moved": _beside(qar50()),
        "every tenth pair": qar50().subset(channels=numbers == 3),
    }
    rows: list[list[Any]] = []
    for name, array in arrays.items():
        signal = torch.randn(
            array.signal_shape(RASTER_STEPS),
            dtype=torch.complex64,
            generator=torch.Generator().manual_seed(0),
        )
        for method, where in ((imaging_method(array, waveform, grid), grid), ("direct", few)):
            work = signal.numel() * math.prod(where.shape)
            with torch.no_grad():
                taken = seconds(
                    lambda a=array, m=method, g=where, s=signal: back_project(  # type: ignore[misc]
                        s, a, waveform, g, method=m
                    ),
                    1,
                    torch.device("cpu"),
                )
            rows.append([name, method, taken, work / taken])
    return rows


def _beside(array: Array) -> Array:
    """The array turned by 40° about the middle of the volume."""
    cosine, sine = math.cos(math.radians(40)), math.sin(math.radians(40))
    turn = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], dtype=torch.float64)
    middle = torch.tensor([0.0, 0.0, 0.125], dtype=torch.float64)
    return array.moved(turn, middle - turn @ middle)


def growth(
    vertices: Tensor, triangles: Tensor, array: Array, device: torch.device
) -> dict[str, list[list[float]]]:
    """[size, seconds] of simulation over facet size, imaging over voxels and over the batch."""
    waveform = qar50_waveform(STEPS)
    signal = simulate(vertices, triangles, array, waveform)
    out: dict[str, list[list[float]]] = {"facet_size_mm": [], "voxels": [], "batch": []}
    for size in (6e-3, 3e-3, 1.5e-3):
        work = seconds(
            lambda size=size: simulate(vertices, triangles, array, waveform, facet_size=size),  # type: ignore[misc]
            1,
            device,
        )
        out["facet_size_mm"].append([size * 1e3, work])
    for pixels in (32, 64, 96):
        grid = grid_of(pixels)
        work = seconds(lambda g=grid: back_project(signal, array, waveform, g), 1, device)  # type: ignore[misc]
        out["voxels"].append([math.prod(grid.shape), work])
    for count in (1, 2, 4):
        many = signal.expand(count, -1, -1, -1)
        work = seconds(
            lambda s=many: back_project(s, array, waveform, grid_of(32)),  # type: ignore[misc]
            1,
            device,
        )
        out["batch"].append([count, work])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--model", help="face model (default: the ICT face, else procedural)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="64 px only, no growth")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    numba.set_num_threads(min(arguments.threads, os.cpu_count() or 1))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = arguments.model or (str(ICT) if ICT.exists() else "procedural")
    model = load_model(name).to(device)
    array = qar50()
    face = FaceParameters.neutral(n_shape=model.n_shape, n_expression=model.n_expression)
    with torch.no_grad():
        vertices = to_radar(model, face.to(device), 0.30)[0]
    device_name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor()
    result: dict[str, Any] = {
        "device": device_name or platform.machine(),
        "threads": arguments.threads,
        "torch": torch.__version__,
        "model": Path(name).stem,
        "triangles": len(model.triangles),
        "load_average": os.getloadavg()[0],
    }
    print(
        f"{result['device']}, {arguments.threads} threads, torch {torch.__version__}, load "
        f"{result['load_average']:.1f}; "
        f"face of {result['triangles']} triangles, {STEPS} frequencies"
    )
    for pixels in (64,) if arguments.quick else (64, 128):
        times = image_times(model, pixels, 3, device)
        result[f"image_{pixels}"] = times
        print(f"\n{pixels} x {pixels} x {PLANES} voxels")
        print(f"  simulation            {times['simulation_s']:8.3f} s")
        print(f"  imaging               {times['imaging_s']:8.3f} s")
        print(f"  whole image           {times['whole_s']:8.3f} s")
        print(f"  forward and backward  {times['forward_and_backward_s']:8.3f} s")
        print(f"  backward / forward    {times['backward_over_forward']:8.2f}")
        print(f"  voxel·pair·frequency  {times['imaging_voxel_pair_frequency_per_s']:8.2e} /s")
        print(f"  peak memory           {times['peak_memory_gb']:8.2f} GB (process so far)")
    with torch.no_grad():
        signal = simulate(
            vertices.float(), model.triangles, array, qar50_waveform(128), facet_size=6e-3
        )
        # Enough voxels to keep the machine busy for a while.
        part = 8192 if device.type == "cuda" else 512
        scaled, rate = reference_times(signal, array, device, part)
        result["reference"] = {
            "seconds_64": scaled,
            "voxel_pair_frequency_per_s": rate,
            "formulation": "torch" if device.type == "cuda" else "numba",
        }
        ratio = scaled / result["image_64"]["imaging_s"]
        result["imaging_ratio_to_reference"] = ratio
        kind = result["reference"]["formulation"]
        print(f"\nreference formulation in {kind}, 64 x 64 x 24 voxels ({part} measured, scaled)")
        print(f"  imaging               {scaled:8.1f} s")
        print(f"  voxel·pair·frequency  {rate:8.2e} /s")
        print(f"  ratio to ours         {ratio:8.0f}")
        result["large_volume"] = large_volume(array, device)
        size = f"{LARGE[0]} x {LARGE[0]} x {LARGE[1]}"
        print(f"\n{size} voxels, 128 frequencies: {result['large_volume']['seconds']:.2f} s")
        if device.type == "cpu":
            result["apertures"] = apertures(quick=arguments.quick)
            print(
                "\nkinds of arrays (rasters of 187 x 144 positions), 11 frequencies: seconds, rate"
            )
            for name, method, taken, rate in result["apertures"]:
                print(f"  {name:26s} {method:12s} {taken:8.2f} s  {rate:8.2e} /s")
        result["accuracy"] = accuracy(vertices.float(), model.triangles, array)
        print("\naccuracy")
        for key, value in result["accuracy"].items():
            print(f"  {key.replace('_', ' '):36s} {value:.5f}")
        if not arguments.quick:
            result["growth"] = growth(vertices.float(), model.triangles, array, device)
            print("\ngrowth: [size, seconds]")
            for key, rows in result["growth"].items():
                print(f"  {key:14s} " + "  ".join(f"{a:g}: {b:.2f} s" for a, b in rows))
        if device.type == "cuda":
            result["batch_128"] = batch_times(model, 128, (1, 10, 100), device, 8 * 2**30)
            print("\nbatches at 128 x 128: [images, seconds an image]")
            print("  " + "  ".join(f"{a:g}: {b:.4f} s" for a, b in result["batch_128"]))
        else:
            print("\nreference in torch and batches at 128 x 128: not measured on a GPU")
    if arguments.json:
        write_json(arguments.json, result)


if __name__ == "__main__":
    main()
