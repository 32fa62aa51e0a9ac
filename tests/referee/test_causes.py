"""Slopes of a fit's residuals by the gains of its channels."""

from __future__ import annotations

import torch

import radarbook as rb
from benchmarks.referee_causes import gain_slopes
from radarbook.fitting.plan import final_objective
from radarbook.fitting.reconstruct import physical_renderer
from radarbook.radar.array import Array


def test_slopes_predict_the_residuals_of_wrong_gains() -> None:
    """A recording whose channels all have errors of their own, against the linear prediction; the
    face's own recording leaves nothing."""
    whole = rb.qar50()
    array = Array(whole.tx[::12], whole.rx[::12])
    renderer = physical_renderer(
        rb.load_model("procedural", 10, 7), array, rb.qar50_waveform(32), 0.3
    )
    renderer = renderer.replace(bounces=1)
    face = rb.random_parameters([0], 0, 10, 7).to(dtype=torch.float64)
    smooth = face.replace(rendering=face.rendering * torch.tensor([1.0, 0.0, 1.0]))
    with torch.no_grad():
        signal = renderer.signal(smooth)
        objective = final_objective(signal, renderer)
        kept = objective.physics.signal(smooth, like=smooth)[0]
        slopes = gain_slopes(objective, kept, smooth)
        rx, tx = kept.shape[:2]
        assert slopes.shape[1] == 2 * (rx + tx)
        stream = torch.Generator().manual_seed(0)
        wrong = 0.01 * torch.randn(rx + tx, 2, generator=stream, dtype=torch.float64)
        gains = 1 + torch.view_as_complex(wrong)
        moved = kept * (gains[:rx, None, None] * gains[None, rx:, None])
        against = objective.comparison(kept, smooth)
        found = (against(moved.to(kept.dtype)) - against(kept)).double()
        predicted = -slopes @ wrong.flatten()
    assert found.norm() > 1e-3
    assert (found - predicted).norm() < 0.05 * found.norm()
