"""Graphs: what may be connected, and what every node does in a few steps that can be followed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, Node, ReadoutNode, SparseNode
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

ENGINES = pytest.mark.parametrize("run", [run_reference, run_fast])


def one_to_one(name: str, weight: int = 2, **options: Any) -> DenseNode:
    """One neuron to one neuron; the activation is weight x events."""
    return DenseNode(name, (1,), np.array([[weight]], np.int16), 8, 0, **options)


def neuron(name: str = "n", vth: int = 10, bias: int = 0, **options: Any) -> NeuronNode:
    registers = {"du": 4095, "dv": 0, "bias_exp": 6} | options
    return NeuronNode(name, (1,), vth=vth, bias_mant=np.array([bias], np.int16), **registers)


def program(*nodes: Node, edges: str, steps: int = 8) -> LoihiProgram:
    """edges: "a>b b>c"."""
    pairs = tuple((a, b) for a, b in (edge.split(">") for edge in edges.split()))
    return LoihiProgram(nodes, pairs, steps, {"kind": "test", "sha256": ""})


def single(node: NeuronNode, *, reads: str = "spikes", weight: int = 2, bits: int = 8) -> LoihiProgram:
    out = ReadoutNode("out", np.zeros(1, np.int64), reads)  # type: ignore[arg-type]
    return program(InputNode("in", (1,), bits), one_to_one("w", weight), node, out, edges="in>w w>n n>out")


def events_of(run: Any, built: LoihiProgram, values: list[int], name: str = "n") -> list[int]:
    trace = run(built, make_inputs(np.array(values).reshape(-1, 1, 1), built.input, default_steps=len(values)))
    return list(trace.spikes[name].reshape(-1))


@ENGINES
@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({}, [3, 3, 3, 3, 3, 3], [0, 1, 0, 1, 0, 1]),  # 6, 12 > 10 -> 0, 6, 12, ...
        ({"vth": 12}, [3, 3, 3, 3], [0, 0, 1, 0]),  # 12 is not above 12
        ({"reset": "subtract"}, [3, 3, 3, 3, 3, 3], [0, 1, 0, 1, 0, 1]),  # 6, 12 -> 2, 8, 14 -> 4, 10, 16 -> 6
        ({"v_initial": 5 * 64}, [3, 3, 3], [1, 0, 1]),
        ({"refractory": 2}, [6, 6, 6, 6, 6], [1, 0, 0, 1, 0]),
        ({"output": "graded", "payload_bits": 4, "payload_shift": 6}, [6, 4, 4, 9], [12, 0, 15, 15]),
        ({"output": "none"}, [100, 100], [0, 0]),
        ({"reset_interval": 3, "reset_offset": 0}, [3, 1, 1, 3, 1, 3], [0, 0, 0, 0, 0, 1]),
    ],
    ids=str,
)
def test_a_neuron_spikes_as_by_hand(run: Any, options: dict[str, Any], values: list[int], expected: list[int]) -> None:
    assert events_of(run, single(neuron(**options)), values) == expected


@ENGINES
def test_negative_spikes_wait_for_a_positive_one_behind_the_memory_gate(run: Any) -> None:
    options: dict[str, Any] = {"output": "signed", "reset": "subtract", "vth_low": 4, "bias": -6}
    free, gated = neuron(**options), neuron(**options, memory_gate=True)
    values = [0, 12, 12, 0, 0, 0]
    # free:  -6 -> 4, 22 -> 12, 30 -> 20, 14 -> 4, -2, -8;  gated: -6, 12 -> 2, 20 -> 10, 4, -2, -8
    assert events_of(run, single(free), values) == [-1, 1, 1, 1, 0, -1]
    assert events_of(run, single(gated), values) == [0, 1, 1, 0, 0, -1]


@ENGINES
def test_branches_join_in_one_sum_and_a_delay_moves_one_of_them(run: Any) -> None:
    joined = program(
        InputNode("in", (1,), 8), one_to_one("a"), one_to_one("b", 4, delay=2), neuron(vth=9),
        ReadoutNode("out", np.zeros(1, np.int64), "spikes"), edges="in>a in>b a>n b>n n>out",
    )  # fmt: skip
    assert events_of(run, joined, [2, 0, 2, 0, 0]) == [0, 0, 1, 0, 0]  # 4, 4, 4 + 4 + 8 > 9, 0, 8 (of t = 2)


@ENGINES
def test_a_population_hears_itself_one_step_late(run: Any) -> None:
    looped = program(
        InputNode("in", (1,), 8), one_to_one("w"), one_to_one("again", 20), neuron(),
        ReadoutNode("out", np.zeros(1, np.int64), "spikes"), edges="in>w w>n again>n n>again n>out",
    )  # fmt: skip
    assert looped.is_recurrent
    assert "recurrence" in looped.needs()
    assert events_of(run, looped, [0, 6, 0, 0, 0]) == [0, 1, 1, 1, 1]


@ENGINES
@pytest.mark.parametrize(("reads", "expected"), [("spikes", 2), ("voltage", 6 * 64)])
def test_a_readout_counts_spikes_or_reads_the_last_voltage(run: Any, reads: str, expected: int) -> None:
    built = single(neuron(), reads=reads)
    trace = run(built, make_inputs(np.full((5, 1, 1), 3), built.input, default_steps=5))
    assert trace.readout.tolist() == [[expected]]


def test_a_maximum_of_spikes_is_a_neuron_with_threshold_zero() -> None:
    pool = Conv2dNode("w", (1, 2, 4), np.full((1, 1, 2, 2), 2, np.int16), 8, -1, (2, 2))
    node = NeuronNode("n", (1, 1, 2), 4095, 4095, 0, np.zeros((1, 1, 2), np.int16), 0)
    built = program(
        InputNode("in", (1, 2, 4), 1), pool, node, ReadoutNode("out", np.zeros(2, np.int64), "spikes"),
        edges="in>w w>n n>out",
    )  # fmt: skip
    events = np.random.default_rng(0).integers(0, 2, (9, 3, 1, 2, 4)) * (np.arange(4) % 3 > 0)
    trace = run_reference(built, make_inputs(events, built.input, default_steps=9))
    wanted = events.reshape(9, 3, 1, 2, 2, 2).max((3, 5))
    np.testing.assert_array_equal(trace.spikes["n"].reshape(wanted.shape), wanted)


IN, OUT = InputNode("in", (1,), 1), ReadoutNode("out", np.zeros(1, np.int64))
W = one_to_one("w")


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        ((IN, W, one_to_one("x"), OUT), "in>w w>x x>out", "an edge that may not be.*dense into dense"),
        ((IN, W, OUT), "in>w", "edges of this node"),
        ((IN, W, OUT), "in>w w>out in>w", "edge twice"),
        ((IN, W, OUT), "in>w w>none", "edge, expected two node names"),
        ((InputNode("in", (2,), 1), W, OUT), "in>w w>out", "in -> w.*sizes, expected 1 values, got 2"),
        ((IN, neuron(), W, OUT), "in>w w>n n>w w>out", "n: order of nodes, expected w before n"),
        ((IN, OUT, W), "in>w w>out", "w before out"),
        ((IN, W, neuron(), OUT), "in>w w>n", "edges of this node"),
        ((W, OUT), "w>out", "edges of this node"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(nodes: tuple[Node, ...], edges: str, message: str) -> None:
    with pytest.raises(LavatubeError, match=message):
        program(*nodes, edges=edges)


def test_several_inputs_are_refused_by_what_needs_one() -> None:
    two = program(IN, InputNode("in2", (1,), 1), W, one_to_one("x"), OUT, edges="in>w in2>x w>out x>out")
    with pytest.raises(UnsupportedError, match=r"several inputs.*in, in2"):
        _ = two.input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": np.array([0, 0], np.int32)}, "rising within each neuron"),
        ({"index": np.array([0, 3], np.int32)}, "index, expected 0..2"),
        ({"indptr": np.array([0, 3], np.int64)}, "rising from 0 to 2"),
        ({"indptr": np.array([0, 1, 2], np.int64)}, "indptr"),
        ({"weight": np.array([2, 3], np.int16)}, "off Loihi's grid"),
        ({"weight": np.array([2, -2], np.int16), "sign": "excitatory"}, "off Loihi's grid"),
        ({"sign": "both"}, "sign, expected mixed"),
    ],
)
def test_a_sparse_synapse_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {
        "weight": np.array([2, 4], np.int16), "index": np.array([0, 2], np.int32), "indptr": np.array([0, 2], np.int64),
    }  # fmt: skip
    SparseNode("s", (3,), (1,), **values, num_weight_bits=8, weight_exp=0)
    with pytest.raises(LavatubeError, match=message):
        SparseNode("s", (3,), (1,), **(values | change), num_weight_bits=8, weight_exp=0)
