"""The drawings of the architecture page agree with the code and need no script."""

import re
import xml.etree.ElementTree as ET

import pytest

from benchmarks.drawings import BASE, IMAGES, data_flow, direct, imports, overview, packages
from radarbook.errors import InputError


@pytest.mark.parametrize(
    ("name", "drawing"),
    [("packages", packages), ("data_flow", data_flow), ("overview", overview)],
)
def test_shipped_drawing_is_the_one_of_this_source(name, drawing):
    shipped = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    assert drawing() == shipped, "run `python -m benchmarks.drawings`"


@pytest.mark.parametrize("name", ["packages", "data_flow", "overview"])
def test_drawing_is_a_described_svg_in_the_page_colour_and_loads_nothing(name):
    text = (IMAGES / f"{name}.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    described = {e.get("id") for tag in ("title", "desc") for e in root.iter(space + tag)}
    assert set(root.attrib["aria-labelledby"].split()) == described
    assert set(re.findall(r'(?:fill|stroke)="([^"]*)"', text)) == {"currentColor", "none"}
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in text
    assert float(root.attrib["viewBox"].split()[2]) == 360.0  # as wide as a telephone's page
    assert min(float(e.attrib["font-size"]) for e in root.iter(space + "text")) >= 11


def test_imports_are_found_in_functions_and_below_packages():
    found = imports()
    assert {"radar", BASE} <= found["fitting"]
    assert "datasets" in found["cli"]  # imported inside functions only
    assert found["faces"] == {BASE}
    assert found[BASE] == set()


def test_an_arrow_is_left_out_where_others_lead_there():
    graph = {"a": {"b", "c", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert direct(graph) == [("a", "b"), ("b", "c"), ("c", "d")]


def test_a_circle_and_an_unknown_package_are_refused():
    with pytest.raises(InputError, match="no circle, found one through 'a'"):
        direct({"a": {"b"}, "b": {"a"}})
    with pytest.raises(InputError, match="expected a place for 'elsewhere'"):
        packages({"cli": {"elsewhere"}})
