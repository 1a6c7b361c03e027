"""A program goes to NIR and comes back as it was, or runs there with the same spikes, or is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import h5py
import numpy as np
import pytest
from exported_networks import KINDS, exported
from hypothesis import given, settings
from hypothesis import strategies as st
from layered_programs import full_weights, layered
from random_programs import random_program

from lavatube.cli.app import invoke
from lavatube.contract import LOIHI
from lavatube.convert.float_graph.contract_metadata import CONTRACT_KEY
from lavatube.convert.float_graph.read import read_float_graph, read_nested_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.program_metadata import stated_program
from lavatube.convert.program_to_nir import program_to_nir
from lavatube.deploy.lower import lower
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, SparseNode
from lavatube.program_file import save_program
from lavatube.sim.reference import run_reference


def same(a: LoihiProgram, b: LoihiProgram) -> bool:
    def plain(node):
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in vars(node).items()}

    ours, theirs = ({node.name: plain(node) for node in program.nodes} for program in (a, b))
    return ours == theirs and set(a.edges) == set(b.edges) and a.num_steps == b.num_steps


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_that_a_quantized_file_can_hold_comes_back_as_it_was(kind, tmp_path):
    exported(kind, tmp_path / "a.nir")
    program = lower(tmp_path / "a.nir")
    program_to_nir(program, tmp_path / "b.nir")
    again = lower(tmp_path / "b.nir")
    assert same(program, again)
    assert dict(program.scales) == dict(again.scales)


def test_the_command_writes_it_and_says_what_it_is(tmp_path, capsys):
    exported("conv", tmp_path / "a.nir")
    save_program(lower(tmp_path / "a.nir"), tmp_path / "p.safetensors")
    assert invoke(["export", str(tmp_path / "p.safetensors"), "--nir", str(tmp_path / "b.nir")]) == 0
    assert "layer1_conv2d (Conv2d)" in capsys.readouterr().out
    assert same(lower(tmp_path / "b.nir"), lower(tmp_path / "a.nir"))
    assert invoke(["export", str(tmp_path / "p.safetensors")]) == 2
    assert "give --nir, --net, --onnx, --lava-script FILE" in capsys.readouterr().err


def integrators(rng, *, delay=0, sparse=False, loop=False, groups=False):
    """A chain without leak: no state is ever rounded, so floats are exact."""
    first = Conv2dNode("a", (2, 4, 4), full_weights(rng, (4, 2, 3, 3), 4), 4, 1, padding=(1, 1), delay=delay)
    if groups:
        first = Conv2dNode("a", (4, 4, 4), full_weights(rng, (4, 2, 3, 3), 4), 4, 1, padding=(1, 1), groups=2)
    second = DenseNode("b", (4, 4, 4), full_weights(rng, (6, 64)), 8, -1, delay=delay)
    if sparse:
        index, indptr = np.arange(0, 60, 10, dtype=np.int32), np.arange(7, dtype=np.int64)
        second = SparseNode("b", (4, 4, 4), (6,), full_weights(rng, 6), index, indptr, 8, 0)
    program = layered(first, second)
    nodes = [
        replace(node, dv=0, bias_mant=rng.integers(-100, 300, node.shape[:1]).astype(np.int16).reshape(-1, *(1,) * (
            len(node.shape) - 1)) * np.ones(node.shape, np.int16), bias_exp=3)
        if isinstance(node, NeuronNode) else node for node in program.nodes
    ]  # fmt: skip
    edges = list(program.edges)
    if loop:
        nodes.insert(nodes.index(next(n for n in nodes if n.name == "lif1")),
                     DenseNode("loop", (6,), full_weights(rng, (6, 6)), 8, 0))  # fmt: skip
        edges += [("lif1", "loop"), ("loop", "lif1")]
    return replace(program, nodes=tuple(nodes), edges=tuple(edges), num_steps=30, overflow="strict")


@pytest.mark.parametrize(
    "what", [{}, {"delay": 2}, {"sparse": True}, {"loop": True}, {"groups": True}, {"delay": 1, "loop": True}], ids=str
)
def test_floats_without_leak_spike_exactly_as_the_integers(what, tmp_path):
    rng = np.random.default_rng(len(str(what)))
    program = integrators(rng, **what)
    program_to_nir(program, tmp_path / "m.nir")
    x = rng.integers(0, 2, (30, 3, *program.input.shape))
    trace = run_reference(program, make_inputs(x, program.inputs, default_steps=30))
    floats = simulate(read_float_graph(tmp_path / "m.nir"), LOIHI, x)
    for name, spikes in floats.spikes.items():
        ours = trace.spikes[next(n.name for n in program.neurons if name.endswith(n.name))]
        assert ours.any()
        np.testing.assert_array_equal(ours, spikes)


def without_leak(program):
    """The same network with neurons and weights that NIR can say and that never round."""
    nodes = []
    for node in program.nodes:
        if isinstance(node, NeuronNode):
            node = NeuronNode(node.name, node.shape, 4095, 0, node.vth, np.full(node.shape, 40, np.int16), 2)
        elif hasattr(node, "weight_exp"):
            node = replace(node, weight_exp=0)
        nodes.append(node)
    return replace(program, nodes=tuple(nodes), num_steps=4)


def own(name: str, names: Iterable[str]) -> str:
    """The node of a program that a node of its file is; names that are not portable have their place in front."""
    (found,) = (each for each in names if name == each or re.fullmatch(rf"n\d+_{re.escape(each)}", name))
    return found


@pytest.mark.slow
@given(st.integers(0, 100_000))
@settings(max_examples=25, deadline=None)
def test_any_program_is_written_with_its_spikes_or_refused(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("nir") / "m.nir"
    program = without_leak(random_program(seed, plain=True, recurrent=seed % 2 > 0, ends=seed % 5 == 0))
    try:
        program_to_nir(program, path)
    except UnsupportedError:
        assert not path.exists()
        return
    assert same(lower(path), program)
    rng, graph = np.random.default_rng(seed), read_float_graph(path)
    names = {name: name if len(graph.inputs) > 1 else "input" for name in graph.inputs}
    if len(graph.inputs) > 1:
        names = {name: own(name, [node.name for node in program.inputs]) for name in graph.inputs}
    x = {node.name: rng.integers(0, node.max_value + 1, (4, 2, *node.shape)) for node in program.inputs}
    trace = run_reference(program, make_inputs(x, program.inputs, default_steps=4))
    floats = simulate(graph, LOIHI, {name: next(iter(x.values())) if len(x) == 1 else x[names[name]] for name in names})
    assert len(floats.spikes) == len(program.neurons)
    for name, spikes in floats.spikes.items():
        ours = trace.spikes[own(name, [node.name for node in program.neurons])]
        np.testing.assert_array_equal(ours.reshape(spikes.shape), spikes)
    scale = {program.scales.get(synapse.name, 1.0) for synapse in program.synapses}
    if len(program.readouts) == 1 and program.readout.reads != "voltage" and scale == {1.0}:
        (readout,) = floats.readout.values()
        np.testing.assert_array_equal(trace.readout, readout.reshape(trace.readout.shape))


@pytest.mark.parametrize("seed", range(25))
def test_any_program_that_can_be_drawn_comes_back_from_its_integers(seed, tmp_path):
    program = replace(random_program(seed), overflow="hardware")
    try:
        unsaid = program_to_nir(program, tmp_path / "m.nir", partly=True).unsaid
    except UnsupportedError as error:
        assert "nir infers another shape" in str(error)  # noqa: PT017
        return
    assert same(stated_program(read_nested_graph(tmp_path / "m.nir"), where="").program, program)
    stated = CONTRACT_KEY in read_float_graph(tmp_path / "m.nir").metadata
    assert stated is not bool(unsaid)


def test_a_soft_reset_is_said_by_the_contract_of_the_file(tmp_path):
    program = integrators(np.random.default_rng(0))
    nodes = tuple(replace(n, reset="subtract") if isinstance(n, NeuronNode) else n for n in program.nodes)
    program = replace(program, nodes=nodes, overflow="hardware")
    unsaid = program_to_nir(program, tmp_path / "m.nir", partly=True).unsaid
    assert [text.split(": ")[1].split(" (")[0] for text in unsaid] in (
        [],
        ["a register can overflow, and floats do not"],
    )
    x = np.random.default_rng(1).integers(0, 2, (30, 3, *program.input.shape))
    trace = run_reference(program, make_inputs(x, program.inputs, default_steps=30))
    floats = simulate(read_float_graph(tmp_path / "m.nir"), LOIHI.with_overrides(if_reset="subtract"), x)
    for name, spikes in floats.spikes.items():
        np.testing.assert_array_equal(trace.spikes[own(name, [n.name for n in program.neurons])], spikes)


def test_a_changed_graph_makes_its_integers_void(tmp_path):
    program_to_nir(integrators(np.random.default_rng(0)), tmp_path / "m.nir")
    with h5py.File(tmp_path / "m.nir", "r+") as opened:
        weights = next(node["weight"] for node in opened["node/nodes"].values() if "weight" in node)
        weights[0] = weights[0] + 1
    with pytest.raises(UnsupportedError, match="the graph was changed after export"):
        lower(tmp_path / "m.nir")


@pytest.mark.parametrize("key", ["quant_weight_scale", "quant_weight_bit_width", "quant_bias_scale"])
def test_a_nodes_quantization_for_others_must_be_the_programs(key, tmp_path):
    program_to_nir(integrators(np.random.default_rng(0)), tmp_path / "m.nir")
    lower(tmp_path / "m.nir")
    with h5py.File(tmp_path / "m.nir", "r+") as opened:
        name, node = next((n, each) for n, each in opened["node/nodes"].items() if "weight" in each)
        node[f"metadata/{key}"][()] = node[f"metadata/{key}"][()] * 2
    with pytest.raises(LavatubeError, match=f"{name}: {key} contradicts the integers in the metadata"):
        lower(tmp_path / "m.nir")


@pytest.mark.parametrize("seed", range(40))
def test_any_other_program_is_written_or_refused(seed, tmp_path):
    try:
        program_to_nir(random_program(seed), tmp_path / "m.nir")
    except UnsupportedError:
        return
    assert read_float_graph(tmp_path / "m.nir").nodes


def test_what_nir_cannot_say_is_refused_by_name(tmp_path):
    program = integrators(np.random.default_rng(0))
    for change, words in [
        ({"output": "signed", "vth_low": 3}, "NIR's neurons have no signed spikes"),
        ({"refractory": 2}, "NIR's neurons have no refractory period"),
        ({"v_initial": 5}, "NIR's neurons have no initial potential"),
        ({"reset_interval": 5}, "NIR's neurons have no periodic reset"),
        ({"du": 5}, "a stored current and no leak"),
        ({"reset": "subtract"}, "neurons of one kind with two kinds of reset"),
    ]:
        nodes = tuple(replace(n, **change) if n.name == "lif0" else n for n in program.nodes)
        changed = replace(program, nodes=nodes, overflow="hardware")
        with pytest.raises(LavatubeError, match=words):
            program_to_nir(changed, tmp_path / "m.nir")
        assert any(words in text for text in program_to_nir(changed, tmp_path / "part.nir", partly=True).unsaid)
    assert not (tmp_path / "m.nir").exists()
