"""The explorer's sliders move the drawn face to where the model says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.faces.load import load_model

pytest.importorskip("anywidget", reason="anywidget is not installed: run `make setup`")

from radarbook.figures.explorer import face_explorer


def test_sliders_move_the_face_and_the_button_brings_it_back():
    model = load_model("procedural", 3, 2)
    box = face_explorer(model, shape=2, expression=1)
    assert [s.description for s in box.sliders] == ["shape 1", "shape 2", "expression 1"]
    box.sliders[1].value = 1.5
    box.sliders[2].value = -2.0
    expected = model.vertices(torch.tensor([[0, 1.5, 0]]), torch.tensor([[-2.0, 0]]))[0]
    drawn = np.stack([box.figure.data[0][axis] for axis in "xyz"], 1)
    np.testing.assert_allclose(drawn, expected, atol=1e-4)
    box.children[0].children[-1].click()
    drawn = np.stack([box.figure.data[0][axis] for axis in "xyz"], 1)
    np.testing.assert_allclose(drawn, model.mean, atol=1e-4)


def test_more_sliders_than_modes_are_refused():
    with pytest.raises(InputError, match="expression: expected 0 to 2"):
        face_explorer(load_model("procedural", 3, 2), shape=2, expression=5)
