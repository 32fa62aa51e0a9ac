"""Recordings of held-out faces by the referee, with their truth next to them.

    python -m benchmarks.referee --model procedural --faces 3 --draw tuning -o DIR

DIR receives ``000.json`` (parameters, normalised and by name, and what was simulated) and one
recording per variant, ``000_clean.h5``, in the library's own layout. A recording that exists is
kept, so an interrupted run continues. With ``--spacing 8e-4 --second-spacing 1.6e-3`` *full* takes
70 s of one thread instead of several minutes; against the defaults the first bounce then has a
coherence of 0.99985, the second of 0.954 and a power of 1.10 (one procedural face). The variants:

==============  ================================================================================
clean           first reflection of the smooth face, speckle of its own
second          clean + second reflection
instrument      clean by an array with :data:`NOMINAL` errors
wall            clean + a wall 1 m from the array, with the face's shadow on it
alone           face and wall, second reflection, :data:`NOMINAL` errors
full            alone + neck and torso
==============  ================================================================================
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.referee.faces import DRAWS, smooth_face
from benchmarks.referee.instrument import Instrument
from benchmarks.referee.scattering import Complex
from benchmarks.referee.scenery import neck, torso, wall
from benchmarks.referee.simulator import Body, Referee
from benchmarks.referee.surface import Real
from radarbook.datasets.distribution import random_parameters
from radarbook.datasets.recordings import Recording, write_recording
from radarbook.errors import InputError
from radarbook.faces.load import load_model
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.files import write_json
from radarbook.radar.array import Array
from radarbook.radar.waveform import Waveform

VARIANTS = ("clean", "second", "instrument", "wall", "alone", "full")
#: A calibrated array: noise 30 dB below the signal in each sample, channels right to half a
#: decibel and 5 degrees, antennas to a twentieth of a millimetre.
NOMINAL = Instrument(position=5e-5, gain_db=0.5, phase=0.087, snr_db=30.0)
#: m.
WALL_DISTANCE = 1.0
SECOND_SPACING = 1.3e-3


def qar50_positions() -> tuple[Real, Real]:
    """Transmitters (94, 3) and receivers (94, 3) of a QAR50 sub-module, m, as published."""
    middle = 3e-3 * np.arange(-22, 23)
    y = np.concatenate([[-0.069], middle, [0.069]])
    outer = np.zeros(47)
    outer[[0, -1]] = 1.5e-3
    columns = [np.stack([side * (0.0705 + outer), y, 0 * y], axis=1) for side in (-1, 1)]
    x = 3e-3 * np.arange(-23, 24)
    rows = [np.stack([x, np.full(47, side * 0.0705), 0 * x], axis=1) for side in (-1, 1)]
    return np.concatenate(columns), np.concatenate(rows)


def recordings_of(
    model: MorphableModel,
    truth: FaceParameters,
    frequencies: Real,
    variants: Sequence[str],
    *,
    distance: float = 0.30,
    number: int = 0,
    spacing: float = 5e-4,
    second_spacing: float = SECOND_SPACING,
) -> dict[str, Complex]:
    """Signals (rx, tx, f) of one face, by variant.

    ``number`` decides the speckle, the noise and the channels' errors.
    """
    material, antenna_size = (float(v) for v in truth.rendering[0, 1:])
    referee = Referee(antenna_size=antenna_size, spacing=spacing, seed=number, single=True)
    face = Body(smooth_face(model, truth, distance), material)
    behind = wall(WALL_DISTANCE)
    vertices = to_radar(model, truth.to(dtype=torch.float32), distance)[0].double().numpy()
    chin = vertices[vertices[:, 1].argmin()]
    tx, rx = qar50_positions()
    instrument = Instrument(**(vars(NOMINAL) | {"seed": number}))
    moved = instrument.positions(tx, rx)

    found: dict[str, Complex] = {}
    if {"clean", "second"} & {*variants}:
        wanted = referee.replace(second_spacing=second_spacing if "second" in variants else None)
        parts = wanted.parts([face], tx, rx, frequencies)
        second = parts.pop("second", None)
        found["clean"] = np.sum(list(parts.values()), axis=0)
        if second is not None:
            found["second"] = found["clean"] + second
    if "instrument" in variants:
        signal = referee.signal([face], *moved, frequencies)
        found["instrument"] = instrument.applied(signal, *moved, frequencies)
    if "wall" in variants:
        found["wall"] = referee.signal([face, behind], tx, rx, frequencies)
    scenes = {"alone": [face, behind], "full": [face, neck(chin), torso(chin), behind]}
    for name in {*scenes} & {*variants}:
        whole = referee.replace(second_spacing=second_spacing)
        signal = whole.signal(scenes[name], *moved, frequencies)
        found[name] = instrument.applied(signal, *moved, frequencies)
    return {name: found[name] for name in variants}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.referee",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="procedural")
    parser.add_argument("--modes", type=int, nargs=2, default=(10, 7), help="shape, expression")
    parser.add_argument("--faces", type=int, default=1)
    parser.add_argument("--draw", choices=tuple(DRAWS), default="tuning")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["clean"])
    parser.add_argument("--steps", type=int, default=128, help="frequencies, 72 to 82 GHz")
    parser.add_argument("--spacing", type=float, default=5e-4, help="m, first reflection")
    parser.add_argument("--second-spacing", type=float, default=SECOND_SPACING)
    parser.add_argument("-o", "--output", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    model = load_model(chosen.model, *chosen.modes)
    frequencies = np.linspace(72e9, 82e9, chosen.steps)
    draw = DRAWS[chosen.draw]
    settings = {
        "model": model.fingerprint,
        "draw": chosen.draw,
        "steps": chosen.steps,
        "spacing": chosen.spacing,
        "second_spacing": chosen.second_spacing,
    }
    for number, index in enumerate(draw.indices(chosen.faces)):
        truth = random_parameters([index], draw.seed, *chosen.modes)
        _begin(chosen.output / f"{number:03d}.json", truth, settings)
        paths = {v: chosen.output / f"{number:03d}_{v}.h5" for v in chosen.variants}
        missing = [v for v in chosen.variants if not paths[v].exists()]
        began = time.perf_counter()
        found = recordings_of(
            model,
            truth,
            frequencies,
            missing,
            number=index,
            spacing=chosen.spacing,
            second_spacing=chosen.second_spacing,
        )
        for variant, signal in found.items():
            _write(paths[variant], signal, frequencies, variant)
        seconds = time.perf_counter() - began
        print(f"face {number}: {', '.join(missing) or 'nothing missing'}, {seconds:.1f} s")


def _begin(path: Path, truth: FaceParameters, settings: dict[str, Any]) -> None:
    """Write the truth; refuse a folder that holds another run's."""
    value = {
        "settings": settings,
        "normalised": truth.normalised()[0].tolist(),
        **{name: getattr(truth, name)[0].tolist() for name in ("shape", "expression")},
        **{name: getattr(truth, name)[0].tolist() for name in ("translation", "rotation")},
        "material": float(truth.rendering[0, 1]),
        "antenna_size": float(truth.rendering[0, 2]),
    }
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != value:
            raise InputError(f"{path}: expected the truth of the same settings; use a new folder")
        return
    write_json(path, value)


def _write(path: Path, signal: Complex, frequencies: Real, variant: str) -> None:
    tx, rx = (torch.from_numpy(x) for x in qar50_positions())
    recording = Recording(
        torch.from_numpy(signal.astype(np.complex64)),
        Array(tx, rx),
        Waveform(torch.from_numpy(frequencies)),
        {"object": "face", "subject": path.stem, "variant": variant, "simulated": True},
    )
    write_recording(path, recording)
