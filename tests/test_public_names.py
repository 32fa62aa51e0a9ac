"""The names that ``import radarbook`` serves."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import radarbook as rb


@pytest.mark.parametrize("name", rb.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(rb, name) is not None
    assert name in dir(rb)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, radarbook; print([m for m in ('torch', 'numpy', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_types_that_a_checker_sees_are_the_ones_that_are_served() -> None:
    source = Path(rb.__file__).read_text(encoding="utf-8")
    checked = source.split("if TYPE_CHECKING:")[1].split("#: Module of each")[0]
    seen = {line.split(" as ")[1] for line in checked.splitlines() if " as " in line}
    assert seen == set(rb.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'reconstrct'"):
        _ = rb.reconstrct


def test_the_lines_of_the_readme_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = Path(rb.__file__).parents[1] / "README.md"
    (lines,) = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    model = rb.load_model()
    vertices = rb.to_radar(model, rb.FaceParameters.neutral(1), 0.30)[0]
    signal = rb.simulate(vertices, model.triangles, rb.qar50(), rb.qar50_waveform(128))
    monkeypatch.chdir(tmp_path)
    np.save("signal.npy", signal.numpy())
    # Two steps of the fit are enough to see that the lines fit each other.
    monkeypatch.setattr(rb, "reconstruct", functools.partial(rb.reconstruct, steps=2))
    exec(compile(lines, str(readme), "exec"), {})
    assert "translation" in capsys.readouterr().out
    assert len(rb.load_image("image.h5")) == 1
    assert len(rb.read_mesh("face.ply", "mm").vertices) == model.n_vertices
