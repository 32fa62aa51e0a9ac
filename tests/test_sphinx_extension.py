"""What a page gets: interactive JSON with a picture behind it, formulas as MathML."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from docutils import nodes
from myst_nb.core.render import MimeData, load_mime_renders

from radarbook import figures
from radarbook.book.sphinx_extension import PlotlyRenderer, _plain_docstring, to_mathml
from radarbook.figures.display import PLOTLY_MIME
from tests.figures.test_figures import SQUARE, TRIANGLES


def test_notebook_output_is_both_interactive_and_static():
    data, metadata = figures.mime_bundle(figures.face(SQUARE, TRIANGLES))
    assert set(data) == {PLOTLY_MIME, "image/png"}
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert metadata["image/png"]["width"] == 760
    json.dumps(data[PLOTLY_MIME])


def test_show_displays_what_a_notebook_file_can_hold(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    figures.show(figures.face(SQUARE, TRIANGLES))
    output = nbformat.v4.new_output("display_data", data=shown[0])
    cell = nbformat.v4.new_code_cell(outputs=[output])
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))


def test_alternative_text_and_caption_go_with_a_figure(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **more: shown.append((data, more.get("metadata")))
    )
    figure = figures.face(SQUARE, TRIANGLES)
    figures.show(figure, alt="A square.", caption="Figure of a square.")
    (data, metadata), (caption, _) = shown
    assert metadata["image/png"]["alt"] == "A square."
    assert caption.data == "*Figure of a square.*"
    assert figure.layout.meta is None
    [box] = PlotlyRenderer.handle_mime(None, MimeData(PLOTLY_MIME, data[PLOTLY_MIME]), False)
    assert box["radarbook_alt"] == "A square."


def test_myst_nb_finds_the_renderer():
    assert PlotlyRenderer in load_mime_renders()


def test_renderer_writes_json_that_cannot_end_its_element():
    spec = {"data": [{"name": "</script><b>"}], "layout": {"width": 300, "height": 200}}
    [box] = PlotlyRenderer.handle_mime(None, MimeData(PLOTLY_MIME, spec), False)
    assert box["radarbook_size"] == (300, 200)
    [raw] = box.findall(nodes.raw)
    text = raw.astext()
    assert text.count("</script>") == 1
    body = text[text.index(">") + 1 : text.rindex("</script>")]
    assert json.loads(body) == spec


@pytest.mark.parametrize("mime", ["image/png", "text/html"])
def test_renderer_leaves_other_outputs_alone(mime):
    assert PlotlyRenderer.handle_mime(None, MimeData(mime, "x"), False) is None


FORMULAS = [
    r"S = \sum_i a_i\,e^{-jk(d_\mathrm{tx}+d_\mathrm{rx})}",
    r"\begin{align} a &= b \\ c &= \frac{1}{2} \end{align}",
    r"\begin{aligned} a &= b \\ c &= d \end{aligned}",
    r"a &= b \\ c &= d",
    r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
    r"\left|\Gamma\right| \approx 0.6",
    r"\operatorname*{arg\,min}_x \lVert x \rVert_2",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_become_well_formed_mathml(formula):
    tree = ElementTree.fromstring(to_mathml(formula, display=True))
    assert tree.tag.endswith("math")
    assert tree.get("display") == "block"
    assert len(list(tree.iter())) > 5


def test_aligned_lines_become_a_table():
    assert to_mathml(r"a &= b \\ c &= d", display=True).count("<mtr>") == 2


def test_bold_and_script_letters_are_those_of_unicode():
    text = to_mathml(r"\mathbf v + \mathcal L_\mathrm{image} + \mathbf{p}", display=False)
    assert 'mathvariant="bold"' not in text
    assert 'mathvariant="script"' not in text
    assert all(f"&#x{code:05X};" in text for code in (0x1D42F, 0x2112, 0x1D429))


def test_names_of_functions_stand_apart_from_their_arguments():
    for formula, spaces in ((r"\sin 2x", 1), (r"20\log_{10} x", 2), (r"2\cos\theta", 2)):
        assert to_mathml(formula, display=False).count("<mspace") == spaces
    assert "<mspace" not in to_mathml(r"\sin(x) + \ln\left(x\right)", display=False)


def test_bars_of_a_magnitude_are_brackets():
    tree = ElementTree.fromstring(to_mathml(r"|\Gamma| = \|x\|", display=False))
    bars = [e for e in tree.iter() if e.text in ("|", "‖")]
    assert len(bars) == 4
    assert all(e.get("lspace") == e.get("rspace") == "0" for e in bars)


def test_formula_that_cannot_be_drawn_is_an_error():
    with pytest.raises(ValueError, match=r"\\\\foo"):
        to_mathml(r"\foo x", display=False)
    with pytest.raises(ValueError, match=r"\\\\langle"):  # the converter enlarges no such bracket
        to_mathml(r"\Big\langle x \Big\rangle", display=False)


def test_docstrings_keep_magnitudes_and_end_their_sections():
    lines = ["The factor |Γ| of ``a|b``.", "", "Parameters", "----------", "x : int"]
    lines += ["    Count.", "", "Returns nothing."]
    _plain_docstring(None, "function", "f", None, None, lines)
    assert lines[0] == r"The factor \|Γ\| of ``a|b``."
    assert lines[-3:] == ["", "", "Returns nothing."]


def _sources() -> list[Path]:
    root = Path(__file__).parents[1]
    return sorted([*root.glob("jupyter_book/*.md"), *root.glob("notebooks/*.md")])


@pytest.mark.parametrize("page", _sources(), ids=lambda page: page.name)
def test_every_formula_of_a_page_can_be_drawn(page: Path) -> None:
    """A formula that cannot would end the build of the book, minutes later."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    displayed = re.findall(r"\$\$(.+?)\$\$", text, re.S)
    inline = re.findall(
        r"(?<![\\$])\$([^$]+?)\$(?!\$)", re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
    )
    for formulas, display in ((displayed, True), (inline, False)):
        for formula in formulas:
            assert "<math" in to_mathml(formula, display=display)
