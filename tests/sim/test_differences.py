"""lavatube diff says what changed, and nothing where nothing did."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lavatube.cli.app import invoke
from lavatube.errors import LavatubeError
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.program_file import save_program
from lavatube.sim.counts import count, save_counts
from lavatube.sim.differences.diff import diff
from lavatube.sim.energy import energy, save_energy
from lavatube.sim.parity import parity
from lavatube.sim.run import run


def network(**neuron):
    weight = np.arange(-6, 6, dtype=np.int16).reshape(3, 4) * 8
    nodes = (
        InputNode("input", (4,), 3),
        DenseNode("into_hidden", (4,), weight, 6, 0),
        NeuronNode("hidden", (3,), 4095, 100, neuron.pop("vth", 40), np.zeros(3, np.int16), 0, **neuron),
        DenseNode("into_output", (3,), np.full((2, 3), 8, np.int16), 6, 0),
        ReadoutNode("output", np.zeros(2, np.int64)),
    )
    return LoihiProgram(nodes, tuple(pairwise(node.name for node in nodes)), 6, {"kind": "test", "sha256": ""})


def changed_weight(program, by=8):
    weight = program.by_name["into_hidden"].weight.copy()
    weight[1, 2] += by
    nodes = tuple(replace(node, weight=weight) if node.name == "into_hidden" else node for node in program.nodes)
    return replace(program, nodes=nodes)


def folder_of(folder, program):
    folder.mkdir()
    save_program(program, folder / "program.safetensors")
    images = np.random.default_rng(0).integers(0, 8, (5, 4))
    np.savez(folder / "input.npz", input=images, label=np.zeros(5, int))
    parity(folder / "program.safetensors", data=folder / "input.npz", against=["fast"], out=folder / "parity.json")
    counts = count(program, run(program, folder / "input.npz", backend="fast", out=folder / "trace.npz"))
    save_counts(counts, folder / "counts.json")
    save_energy(energy(counts), folder / "energy.json")
    return folder


@pytest.fixture
def two(tmp_path):
    return folder_of(tmp_path / "a", network()), folder_of(tmp_path / "b", changed_weight(network(vth=10)))


def test_a_run_has_no_difference_from_itself(two):
    assert diff(two[0], two[0]) == []
    for name in ("program.safetensors", "parity.json", "counts.json", "energy.json", "trace.npz"):
        assert diff(two[0] / name, two[0] / name) == []


def test_programs_differ_by_weights_thresholds_and_settings(two):
    differences = diff(*(folder / "program.safetensors" for folder in two))
    found = [(each.part, each.where, each.what, each.a, each.b) for each in differences]
    total = int(network().by_name["into_hidden"].weight.sum())
    assert found == [
        ("weights", "into_hidden", "1 of 12 weight values differ, by up to 8; sums", total, total + 8),
        ("thresholds", "hidden", "vth", 40, 10),
    ]


def test_nodes_and_edges_that_came_are_named(tmp_path):
    program = network()
    extra = DenseNode("skip", (4,), np.full((2, 4), 8, np.int16), 6, 0)
    more = replace(
        program,
        nodes=(*program.nodes[:-1], extra, program.nodes[-1]),
        edges=(*program.edges, ("input", "skip"), ("skip", "output")),
    )
    for name, each in (("a", program), ("b", more)):
        save_program(each, tmp_path / f"{name}.safetensors")
    found = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert [(each.part, each.where, each.a, each.b) for each in found] == [
        ("nodes", "skip", None, "dense"),
        ("edges", "input -> skip", False, True),
        ("edges", "skip -> output", False, True),
    ]


def test_runs_differ_in_counts_and_energy_and_traces_in_spikes(two):
    parts = {each.part for each in diff(*two)}
    assert {"weights", "thresholds", "counts", "energy"} <= parts
    total = next(each for each in diff(*two) if (each.where, each.what) == ("total", "spikes_out"))
    assert total.b > total.a
    sums = [each for each in diff(two[0] / "trace.npz", two[1] / "trace.npz") if each.where == "hidden"]
    assert (sums[0].a, sums[0].b) == (total.a, total.b)


def test_the_command_prints_a_table_or_json(two, capsys):
    assert invoke(["diff", *map(str, two)]) == 0
    shown = capsys.readouterr().out
    assert "vth" in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert invoke(["diff", *map(str, two), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["differences"]) == len(diff(*two))
    assert invoke(["diff", str(two[0]), str(two[0])]) == 0
    assert capsys.readouterr().out == "no difference\n"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("", "program.safetensors", "a folder and a file"),
        ("parity.json", "counts.json", "kinds of reports"),
        ("trace.npz", "counts.json", "two kinds of files"),
        ("gone.npz", "trace.npz", "no such file"),
    ],
)
def test_what_does_not_compare_is_refused(two, a, b, message):
    with pytest.raises(LavatubeError, match=message):
        diff(two[0] / a, two[1] / b)
