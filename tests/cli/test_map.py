"""`lavatube map`: tables within 100 columns, mapping.json, a drawing that can be read, refusals in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.deploy.mapping.map_program import map_program
from lavatube.program import DenseNode, InputNode, NeuronNode
from lavatube.program_file import load_program, program_sha256, save_program

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def path(tmp_path, small_program):
    save_program(small_program(1), tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def test_it_prints_what_binds_each_population_and_each_core_within_100_columns(path, capsys):
    assert invoke(["map", str(path), "--cores"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    for word in (
        "layer1_lif",
        "layer2_lif",
        "output",
        "neurons 2%",
        "synapse memory",
        "inferred",
        "3 x 6 x 5",
        "0..2",
        "messages of one spike",
        "host",
    ):
        assert word in out
    assert "3 cores on 1 chip of 120 cores; 143 neurons" in out


def test_the_json_says_program_limits_and_every_core_and_is_the_same_as_the_file(path, tmp_path, capsys):
    assert invoke(["map", str(path), "--json", "--out", str(tmp_path / "mapping.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "mapping.json").read_text())
    program = load_program(path)
    assert printed["program_sha256"] == program_sha256(program)
    assert printed == json.loads(json.dumps(map_program(program).to_json()))
    assert [core["population"] for core in printed["cores"]] == ["layer1_lif", "layer2_lif", "output"]
    assert printed["total"]["neurons"] == sum(core["loads"]["neurons"] for core in printed["cores"]) == 143
    assert {limit["key"] for limit in printed["limits"]} >= {"neurons", "synapse_words", "input_axons", "output_axons"}
    assert all(limit["source"] for limit in printed["limits"])
    assert printed["cores"][0]["formats"] == {"layer1_conv2d": "shared, 8 bits"}


def test_the_drawing_has_every_core_with_its_loads_a_title_and_colours_for_light_and_dark(path, tmp_path, capsys):
    assert invoke(["map", str(path), "--svg", str(tmp_path / "chip.svg")]) == 0
    root = ElementTree.parse(tmp_path / "chip.svg").getroot()
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "title desc"
    assert root.find(f"{SVG}title").text == "3 cores on Loihi 2, 1 chip"
    assert "1 layer1_lif: 1 core, neurons" in root.find(f"{SVG}desc").text
    used = root.findall(f"{SVG}g")
    assert len(used) == 3
    assert len([rect for rect in root.findall(f"{SVG}rect") if rect.get("class") == "empty"]) == 117
    assert used[0].find(f"{SVG}title").text.startswith("core 0, layer1_lif: neurons 90 of 4,095, synapse memory ")
    assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
    width, height = float(root.get("width")), float(root.get("height"))
    for rect in root.iter(f"{SVG}rect"):
        assert 0 <= float(rect.get("x")) <= width - float(rect.get("width"))
        assert 0 <= float(rect.get("y")) <= height - float(rect.get("height"))


def test_what_does_not_fit_is_one_line_and_exit_code_2_and_writes_nothing(path, tmp_path, capsys, small_program):
    program = small_program(1)
    weight = np.full((2000, 2000), 254, np.int16)
    weight[0, :2] = 2, -256
    nodes = (
        InputNode("input", (2000,), 1),
        DenseNode("dense", (2000,), weight, 8, 0),
        NeuronNode("large", (2000,), 0, 0, 1, np.zeros(2000, np.int16), 0),
        replace(program.readout, bias=np.zeros(2000, np.int64), reads="spikes"),
    )
    edges = (("input", "dense"), ("dense", "large"), ("large", "output"))
    save_program(replace(program, nodes=nodes, edges=edges), path)
    cores = {"number": 5, "key": "cores", "value": 8, "unit": "per chip", "grade": "inferred", "source": "a test"}
    limits = {"schema": 1, "name": "tiny", "extends": "loihi2", "limits": [cores]}
    (tmp_path / "tiny.json").write_text(json.dumps(limits))
    command = ["map", str(path), "--target", str(tmp_path / "tiny.json"), "--chips", "1"]
    assert invoke([*command, "--out", str(tmp_path / "m.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "at most 8 cores" in error
    assert "got 80 cores, 80 of them for large; prune channels, use fewer weight bits" in error
    assert not (tmp_path / "m.json").exists()


def test_a_graded_program_is_not_drawn_on_loihi_1(path, capsys):
    assert invoke(["map", str(path), "--target", "loihi1"]) == 2
    assert "the program needs graded input" in capsys.readouterr().err


def test_the_map_and_its_drawing_do_not_go_to_one_file(path, tmp_path, capsys):
    both = tmp_path / "m.json"
    assert invoke(["map", str(path), "--out", str(both), "--svg", str(tmp_path / "x" / ".." / "m.json")]) == 2
    assert "--out and --svg are one file" in capsys.readouterr().err
    assert not both.exists()
