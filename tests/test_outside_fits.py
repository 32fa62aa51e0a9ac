"""Benchmarks of what no face model made: their targets, summaries and statistics."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch

from benchmarks.outside import sampled, summary, turned
from benchmarks.refusals import discriminant, squared, trimmed
from radarbook.faces.load import load_model
from radarbook.reports.fits import outside_rows


def test_a_scan_is_turned_as_a_face_is() -> None:
    nose, pivot = torch.tensor([[0.0, 0.0, 0.30]]).double(), torch.tensor([0.0, 0.0, 0.40]).double()
    # Positive yaw turns the nose to the subject's left, which is -x of the radar frame.
    x, y, z = turned(nose, (25.0, 0.0), pivot)[0].tolist()
    assert math.isclose(x, -0.1 * math.sin(math.radians(25.0)), abs_tol=1e-7)
    assert (abs(y) < 1e-9, z > 0.30) == (True, True)
    # Positive pitch turns it down.
    x, y, z = turned(nose, (0.0, 25.0), pivot)[0].tolist()
    assert math.isclose(y, -0.1 * math.sin(math.radians(25.0)), abs_tol=1e-7)


def test_test_faces_have_the_full_width() -> None:
    model = load_model("procedural")
    scales = [
        torch.stack([sampled(model, first + n, 0).shape[0] for n in range(40)]).std()
        for first in (1_100_300, 2_000_300)
    ]
    assert 0.9 < float(scales[0]) < 1.1
    assert not torch.equal(*scales)


def test_a_summary_has_the_face_that_is_kept(tmp_path: Path) -> None:
    def face(median: float, share: float) -> dict[str, object]:
        within = {"within": share, "within_model": share - 0.1}
        about = {"median_mm": median, "mean_mm": 1.5 * median, **within}
        return about | {"residual": 0.2, "accepted": False}

    rows = [
        {"kept": kept, "mean_face": {"median_mm": 2.0}, "power": face(0.8, 0.7),
         "phase": face(1.2, 0.5), "seconds": 100.0}
        for kept in ("power", "phase")
    ]  # fmt: skip
    about = {"target": "scan", "turn": [25.0, 0.0], "compare": None, "model": "ict_face"}
    path = tmp_path / "one.json"
    settings = about | {"modes": [80, 40], "errors": False}
    path.write_text(json.dumps({"settings": settings, "rows": rows}))
    found = summary([path])
    # Medians of 0.8 by power and 1.2 by phases.
    keys = "median_mm", "ratio", "within_90", "within_90_model", "smoothed", "seconds"
    assert [found["rows"][0][key] for key in keys] == [1.0, 0.5, 0.6, 0.5, 1, 100.0]
    (tmp_path / "outside_ict.json").write_text(json.dumps(found))
    start = ["scan, yaw 25°, pitch 0°", "ict_face, 80 + 40", "2", 2.0, 1.5, 1.0]
    assert outside_rows(tmp_path / "outside_ict.json") == [[*start, None, "20%", "0 of 2"]]


def test_statistics_leave_out_what_is_far_and_separate_two_clouds() -> None:
    stream = torch.Generator().manual_seed(0)
    cloud = torch.randn(400, 3, generator=stream, dtype=torch.float64)
    cloud[0] += 50
    mean, covariance = trimmed(cloud)
    assert float(mean.abs().max()) < 0.15
    assert float(squared(cloud[:1], mean, covariance)) > 1000
    others = cloud[1:] + torch.tensor([6.0, 0.0, 0.0], dtype=torch.float64)
    slope, offset = discriminant(mean, covariance, others)
    assert float((cloud[1:] @ slope > offset).double().mean()) < 0.01
    assert float((others @ slope > offset).double().mean()) > 0.99
