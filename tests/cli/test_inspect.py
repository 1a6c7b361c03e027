"""`lavatube inspect` says what is in a file of anyone's, who takes it, and why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import nir
import numpy as np
import pytest
from exported_networks import exported
from layered_programs import full_weights, layered
from rich.console import Console

from lavatube.bounds import LayerBound
from lavatube.cli.app import invoke
from lavatube.cli.program_tables import bounds_table
from lavatube.contract_presets import PRESETS
from lavatube.deploy.onnx_file.write import write_onnx
from lavatube.program import DenseNode
from lavatube.program_file import save_program
from lavatube.sim.run import run

DATA = Path(__file__).parents[1] / "data"


def inspected(capsys, *arguments):
    assert invoke(["inspect", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_foreign_float_file_is_said_with_its_nodes_contracts_and_assumptions(capsys):
    said = inspected(capsys, DATA / "nir" / "nirtorch_braille.nir")
    assert said["is"] == "a float network"
    assert said["nodes"]["fc1"] == {
        "type": "Affine", "shape": [38], "weight": "38x12 in -3.19663..0.950463", "bias": "-2.70167..0.321849",
        "parameters": 494,
    }  # fmt: skip
    assert ["lif1.lif", "lif1.w_rec", "a timestep late"] in said["edges"]
    assert set(said["contracts"]) == set(PRESETS)
    assert said["contracts"]["snntorch"] == "takes it"
    assert "sinabs has no CubaLIF" in said["contracts"]["sinabs"]
    assert "forward Euler is unstable" in said["contracts"]["norse"]
    assert said["states contract"] == "none"
    assert any("v_reset = 0" in record["what"] for record in said["assumptions"])
    assert said["memory"]["parameters"] == 2564
    assert inspected(capsys, DATA / "nir" / "nirtorch_braille.nir", "--dt", "1e-4")["contracts"]["norse"] == "takes it"


def test_what_a_contract_leaves_out_of_a_file_is_said(capsys, tmp_path):
    one = np.ones(2)
    neuron = nir.LIF(tau=one * 2e-3, r=one * 3, v_leak=one * 0, v_threshold=one, v_reset=one * 0)
    nir.write(str(tmp_path / "f.nir"), nir.NIRGraph.from_list(nir.Affine(np.eye(2), one * 0), neuron))
    verdicts = inspected(capsys, tmp_path / "f.nir")["contracts"]
    assert verdicts["norse"] == "takes it, but lif LIF r is not used"
    assert verdicts["snntorch"] == "takes it"


def test_our_own_file_has_its_program_behind_it(capsys, tmp_path):
    exported("residual", tmp_path / "m.nir")
    said = inspected(capsys, tmp_path / "m.nir")
    assert said["is"] == "quantized by lavatube: integers in its metadata"
    assert said["states contract"] == "loihi"
    assert said["targets"]["loihi2"] == "accepts it"
    assert "needs graded input" in said["targets"]["loihi1"]
    assert said["memory"]["program_neurons"] == 144 * 2 + 54


@pytest.mark.parametrize("kind", ["nir", "net", "onnx", "safetensors"])
def test_each_kind_of_file_is_said_and_drawn(kind, capsys, tmp_path):
    path = tmp_path / f"p.{kind}"
    path = {"nir": DATA / "nir" / "nirtorch_braille.nir", "net": DATA / "lava_dl_tiny.net"}.get(kind, path)
    program = layered(DenseNode("a", (4,), full_weights(np.random.default_rng(0), (3, 4)), 8, 0))
    if kind == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
        write_onnx(program, path)
    elif kind == "safetensors":
        save_program(program, path)
    said = inspected(capsys, path, "--svg", tmp_path / "g.svg")
    assert said
    assert "memory" in said or kind == "onnx"
    assert ElementTree.parse(tmp_path / "g.svg").getroot().tag.endswith("svg")
    assert invoke(["inspect", str(path)]) == 0
    assert "{" not in capsys.readouterr().out.replace("{}", "")


def test_a_population_that_never_fires_is_said_of_programs_and_traces(capsys, tmp_path):
    program = layered(DenseNode("a", (4,), full_weights(np.random.default_rng(0), (3, 4)), 8, 0))
    nodes = tuple(replace(n, vth=131071, bias_mant=n.bias_mant * 0) if n.kind == "neuron" else n for n in program.nodes)
    program = replace(program, nodes=nodes)
    silent = [node.name for node in program.neurons]
    save_program(program, tmp_path / "p.safetensors")
    run(program, np.ones((3, 2, 4), int), backend="reference", out=tmp_path / "t.npz")
    for name in ("p.safetensors", "t.npz"):
        assert inspected(capsys, tmp_path / name)["never_spiking"] == silent
        assert invoke(["inspect", str(tmp_path / name)]) == 0
        assert f"never spikes:\n  {silent[0]}\n" in capsys.readouterr().out


@pytest.mark.parametrize("width", [76, 120])
def test_no_number_of_the_bounds_is_broken_in_a_narrow_terminal(width, monkeypatch, capsys):
    monkeypatch.setattr("lavatube.cli.program_tables.console", lambda: Console(width=width))
    row = LayerBound("n", {"conv1": (-9, 9)}, (-130_979, 130_979), (-8_382_656, 8_382_656), (-8_382_656, 64))
    Console(width=width).print(bounds_table([row]))
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    assert all(number in said for number in ("-8,382,656", "8,382,656", "-130,979", "conv1"))
    assert ("-130,979 .. 130,979" in said) is (width == 120)


def test_a_trace_of_parts_is_said_as_one_of_one_piece(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("lavatube.cli.inspect.SAMPLES", 2)
    program = layered(DenseNode("d", (4,), full_weights(np.random.default_rng(0), (3, 4)), 8, 0))
    x = np.random.default_rng(1).integers(0, 2, (6, 5, 4))
    for name in ("t.npz", "t.h5"):
        run(program, x, backend="reference", out=tmp_path / name, record=["v"])
    whole, parts = (inspected(capsys, tmp_path / name) for name in ("t.npz", "t.h5"))
    assert parts == whole
    assert (whole["samples"], whole["steps"], whole["recorded"]) == (5, 6, ["v"])
    assert whole["inputs"] == {"input": [6, 5, 4]}
    (tmp_path / "t.h5").write_bytes(b"no trace")
    assert invoke(["inspect", str(tmp_path / "t.h5")]) == 2


def test_a_trace_has_no_picture(capsys, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    assert invoke(["inspect", str(tmp_path / "x.json"), "--svg", str(tmp_path / "g.svg")]) == 2
    assert "expected .nir, .net, .onnx or program.safetensors" in capsys.readouterr().err
