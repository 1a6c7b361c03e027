"""lavatube diff says what changed, and nothing where nothing did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lavatube import trained
from lavatube.cli.app import invoke
from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file, write_tensors
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


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("runs") / "one", network())


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


EDITS = {
    "counts.json": [
        (["barriers"], 99, ("counts", "run", "barriers")),
        (["host_bytes_in"], 99, ("counts", "run", "host_bytes_in")),
        (["layers", 0, "updates"], 99, ("counts", "into_hidden", "updates")),
        (["per_sample", "updates", 0], 99, ("counts", "per_sample", "updates")),
    ],
    "energy.json": [
        (["tables", 0, "static_chips"], {"low": 1}, ("energy", "loihi1-band", "static_chips.low")),
        (["tables", 0, "latency"], {"unit": "ps"}, ("energy", "loihi1-band", "latency.unit")),
        (["tables", 1, "terms", "synop", "energy", "low"], 1, ("energy", "loihi1-davies2018", "synop.energy.low")),
        (["tables", 1, "dynamic", "high"], 0, ("energy", "loihi1-davies2018", "dynamic.high")),
        (["labels"], ["all new"], ("energy", "run", "labels: all new")),
        (["unpriced", 0], "everything", ("energy", "run", "unpriced: everything")),
        (["samples"], 0, ("energy", "run", "samples")),
    ],
    "parity.json": [
        (["engines", 0, "counts_equal"], False, ("parity", "fast", "counts_equal")),
        (["engines", 0, "rows", 0, "total_b"], 7, ("parity", "fast hidden", "total_b")),
        (["accuracy"], 1.5, ("accuracy", "run", "accuracy")),
        (["equal"], 1, ("parity", "run", "equal")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "value", "expected"), [(name, *row) for name, rows in EDITS.items() for row in rows]
)
def test_any_other_value_of_a_report_is_a_difference(one, tmp_path, name, path, value, expected):
    whole = json.loads((one / name).read_text())
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / name).write_text(json.dumps(whole))
    found = [(each.part, each.where, each.what) for each in diff(one / name, tmp_path / name)]
    assert any(part == expected[0] and where == expected[1] and expected[2] in what for part, where, what in found)
    assert len(found) <= 4
    assert diff(tmp_path / name, tmp_path / name) == []


def test_how_long_a_run_took_is_no_difference(one, tmp_path):
    whole = json.loads((one / "parity.json").read_text())
    whole["engines"][0]["seconds"] += 1
    (tmp_path / "parity.json").write_text(json.dumps(whole))
    assert diff(one / "parity.json", tmp_path / "parity.json") == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"lossy": ({"stage": "x", "layer": "y", "what": "clamped"},)}, "lossy step 0.what"),
        ({"source": {"kind": "other", "sha256": "ab"}}, "source.kind"),
        ({"scales": {"into_hidden": 0.5}}, "scales.into_hidden"),
    ],
)
def test_whatever_else_a_program_says_is_a_difference(tmp_path, change, what):
    first = {"lossy": ({"stage": "x", "layer": "y", "what": "rounded"},)}
    for name, program in (("a", replace(network(), **first)), ("b", replace(network(), **first | change))):
        save_program(program, tmp_path / f"{name}.safetensors")
    assert what in [each.what for each in diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")]


def test_every_file_of_two_folders_is_compared(one, tmp_path):
    shutil.copytree(one, tmp_path / "a")
    for name in ("quantized", "model"):
        write = save_quantized if name == "quantized" else save_model
        write(np.zeros(3), tmp_path / "a" / f"{name}.safetensors")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name, seconds in (("a", 1), ("b", 2)):
        (tmp_path / name / "report.html").write_text(name)
        (tmp_path / name / ".training.lock").write_text(name)
        (tmp_path / name / "history.csv").write_text(f"epoch,loss,seconds\n1,0.5,{seconds}\n")
    assert diff(tmp_path / "a", tmp_path / "b") == []
    np.savez(tmp_path / "b" / "input.npz", input=np.zeros((5, 4), int))
    (tmp_path / "b" / "model.nir").write_bytes(b"x")
    (tmp_path / "b" / "history.csv").write_text("epoch,loss,seconds\n1,0.25,2\n")
    save_quantized(np.array([0.0, 0.5, 0.0]), tmp_path / "b" / "quantized.safetensors")
    save_model(np.array([0.0, 0.0, 2.0]), tmp_path / "b" / "model.safetensors")
    found = {(each.part, each.where, each.what, each.a, each.b) for each in diff(tmp_path / "a", tmp_path / "b")}
    digest = [sha256_of_file(tmp_path / name / "input.npz") for name in "ab"]
    assert found == {
        ("files", "input.npz", "SHA-256", *digest),
        ("files", "model.nir", "is there", False, True),
        ("training", "history.csv", "loss differs; in the last epoch", "0.5", "0.25"),
        ("weights", "w", "1 of 3 values differ, by up to 0.5; sums", 0.0, 0.5),
        ("weights", "w", "1 of 3 values differ, by up to 2; sums", 0.0, 2.0),
    }


def save_quantized(weight, path):
    trained.save_quantized(trained.QuantizedNetwork({}, {}, {"w": weight}, (), {}), path)


def save_model(weight, path):
    write_tensors(path, {"w": weight}, {"kind": trained.TRAINED})


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
