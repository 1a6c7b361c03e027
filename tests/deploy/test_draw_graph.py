"""The picture of a graph shows every node and edge, and says in words what it shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from exported_networks import KINDS, exported
from hypothesis import given, settings
from hypothesis import strategies as st
from random_programs import random_program

from lavatube.cli.inspect_nir import nir_picture
from lavatube.deploy.draw_graph import NODES_MAX, Picture, draw_graph
from lavatube.deploy.program_picture import program_memory, program_picture
from lavatube.errors import UnsupportedError

SVG = "{http://www.w3.org/2000/svg}"


def rectangles(text):
    fields = ("x", "y", "width", "height")
    return [tuple(float(box.get(field)) for field in fields) for box in ElementTree.fromstring(text).iter(f"{SVG}rect")]


def check(picture):
    text = draw_graph(picture)
    root = ElementTree.fromstring(text)
    assert root.get("role") == "img"
    assert root.find(f"{SVG}title").text == picture.title
    words = root.find(f"{SVG}desc").text
    assert all(name in words for name in picture.nodes)
    boxes = rectangles(text)
    assert len(boxes) == len(picture.nodes)
    width, height = float(root.get("width")), float(root.get("height"))
    for index, (x, y, w, h) in enumerate(boxes):
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height  # noqa: PT018
        for a, b, c, d in boxes[:index]:
            assert x + w <= a + 0.2 or a + c <= x + 0.2 or y + h <= b + 0.2 or b + d <= y + 0.2, "boxes overlap"
    wires = [path for path in root.iter(f"{SVG}path") if path.get("marker-end")]
    assert [path.get("class") == "late" for path in wires] == [late for _, _, late in picture.edges]
    assert "prefers-color-scheme: dark" in text


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_program_is_drawn_whole_and_no_box_lies_on_another(seed):
    program = random_program(seed)
    picture = program_picture(program, f"program {seed}")
    late = {(a, b) for a, b, is_late in picture.edges if is_late}
    assert late == {(program.source_of(s).name, s.name) for s in program.synapses if program.lag(s)}
    check(picture)
    assert program_memory(program)["weights"] == sum(s.weight.size for s in program.synapses)


@pytest.mark.parametrize("kind", KINDS)
def test_a_nir_file_is_drawn_from_input_to_output(kind, tmp_path):
    exported(kind, tmp_path / "m.nir")
    picture = nir_picture(tmp_path / "m.nir")
    assert sum(late for _, _, late in picture.edges) == (kind == "recurrent")
    check(picture)
    height = dict(zip(picture.nodes, (y for _, y, _, _ in rectangles(draw_graph(picture))), strict=True))
    assert all(height[a] < height[b] for a, b, late in picture.edges if not late)


def test_names_cannot_break_out_of_the_picture():
    picture = Picture("<script>", {"a&<b>": ("end", ['"x"'])}, [])
    text = draw_graph(picture)
    assert not re.search(r"<script|<b>", text)
    check(picture)


def test_too_many_nodes_are_refused():
    nodes = {f"n{index}": ("other", []) for index in range(NODES_MAX + 1)}
    with pytest.raises(UnsupportedError, match="too large a graph to draw"):
        draw_graph(Picture("large", nodes, []))
