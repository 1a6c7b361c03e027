"""What makes no sense is refused in one line that names the place in the file, the rule and the remedy."""

from __future__ import annotations

from itertools import pairwise

import h5py
import nir
import numpy as np
import pytest

from lavatube.convert.float_graph.read import flat_graph, read_float_graph
from lavatube.errors import LavatubeError


def lif(**changes):
    n = np.ones(2)
    return nir.CubaLIF(
        **{"tau_syn": n, "tau_mem": n, "r": n, "v_leak": n, "v_threshold": n, "v_reset": 0 * n, **changes}
    )


def chain(*nodes, shape=(2,)):
    named = {"input": nir.Input(np.array(shape)), **{f"n{i}": node for i, node in enumerate(nodes)}}
    named["output"] = nir.Output(np.array([2]))
    names = list(named)
    return nir.NIRGraph(named, list(pairwise(names)), type_check=False)


def conv(**changes):
    fields = {"input_shape": None, "weight": np.ones((2, 1, 3, 3)), "stride": 1, "padding": 0, "dilation": 1,
              "groups": 1, "bias": np.ones(2)}  # fmt: skip
    made = nir.Conv2d(**fields)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


two, one = np.ones(2), np.array([1, 1])
NODES = [
    (lif(tau_mem=-two), r"n0/tau_mem: CubaLIF: value, expected positive, got -1; write time constants in seconds"),
    (lif(tau_syn=0 * two), "n0/tau_syn: CubaLIF: value, expected positive, got 0"),
    (lif(r=-two), "n0/r: CubaLIF: value, expected positive, got -1; move the sign into the weights"),
    (lif(v_leak=two * np.nan), "n0/v_leak: CubaLIF: holds NaN or infinity"),
    (lif(v_threshold=two * np.inf), "n0/v_threshold: CubaLIF: holds NaN or infinity"),
    (lif(v_reset=two * 2), r"n0/v_threshold: .* got v_reset 2 above v_threshold 1; .* fires without end"),
    (lif(r=two * 1j), "n0/r: CubaLIF: type, expected float or integer of up to 64 bits, got complex128"),
    (lif(r=two > 0), "n0/r: CubaLIF: type, .* got bool"),
    (lif(r=two.astype(object)), "n0/r: CubaLIF: type, .* got object"),
    (lif(r=np.array([2**53 + 1, 1])), "n0/r: CubaLIF: integers that float64 does not hold"),
    (lif(r=two.astype(np.longdouble)), "n0/r: CubaLIF: type"),
    (nir.Delay(-two), "n0/delay: Delay: value, expected 0 or more"),
    (nir.Scale(np.ones((0,))), r"n0/scale: Scale: shape, .* no axis of size 0"),
    (nir.Scale(np.ones(3)), r"n0: shape of what comes in, expected \(3,\), got \(2,\)"),
    (nir.Linear(np.ones((2, 3))), r"n0: shape of what comes in, expected \(3,\), got \(2,\)"),
    (nir.Affine(np.ones((2, 2)), np.ones(3)), r"n0/bias: Affine: shape, expected \(2,\), got \(3,\)"),
    (nir.Threshold(two * np.nan), "n0/threshold: Threshold: holds NaN"),
    (conv(groups=3), "n0/groups: Conv2d: value, expected a divisor of 2 output channels"),
    (conv(groups=0), "n0/groups: Conv2d: value"),
    (conv(stride=(1, 0)), "n0/stride: Conv2d: value"),
    (conv(stride=(1, 1, 1)), "n0/stride: Conv2d: shape, expected 1 or 2 integers"),
    (conv(padding=(-1, 1)), "n0/padding: Conv2d: value"),
    (conv(padding="full"), "n0/padding: Conv2d: value, expected integers, same or valid, got 'full'"),
    (conv(dilation=1.5), "n0/dilation: Conv2d: type, expected integers, got 1.5"),
    (conv(bias=np.ones(5)), "n0/bias: Conv2d: shape, expected .*, one for each channel"),
    (conv(padding=2**31), "n0/padding: Conv2d: value"),
    (conv(), r"n0: shape of what comes in, expected \(1, 'any', 'any'\), got \(2,\)"),
    (nir.SumPool2d(one, one, 2 * one), "n0/padding: SumPool2d: value, expected at most half"),
    (nir.AvgPool2d(one, one, 0 * one), "n0: shape of what comes in"),
    (nir.Flatten(None, 1, -1), r"n0: Flatten, expected axes of \(2,\), got start_dim 1.*torch's start_dim - 1"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "words"), NODES, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_node_is_refused_by_field(node, words):
    with pytest.raises(LavatubeError, match=words) as caught:
        flat_graph(chain(node))
    assert "\n" not in str(caught.value)


def graph(nodes, *edges):
    named = {"input": nir.Input(np.array([2])), "output": nir.Output(np.array([2])), **nodes}
    return nir.NIRGraph(named, [tuple(edge.split(">")) for edge in edges], type_check=False)


def weights():
    return nir.Linear(np.eye(2))


two_ports = graph({"more": nir.Input(np.array([2]))}, "input>output")
GRAPHS = [
    (graph({}, "input>output", "input>gone"), "edges: an edge to a node that is not there, got 'input -> gone'"),
    (graph({}, "input>output", "input>output"), "input -> output: duplicate edge"),
    (graph({"a": weights()}, "input>output", "a>output"), "/a: Linear: nothing leads into this node; connect it"),
    (graph({"a": weights()}, "input>output", "a>a"), "/a: no Input leads to this node"),
    (graph({"a": weights()}, "input>a", "a>a", "a>output"), "a cycle without a neuron, got a;"),
    (graph({"a": weights(), "b": weights()}, "input>a", "a>b", "b>a", "b>output"), "without a neuron, got a -> b"),
    (graph({"a": nir.Input(np.array([2]))}, "input>a", "input>output"), "an edge into an Input or out of an Output"),
    (graph({"a": weights()}, "input>output", "output>a"), "an edge into an Input or out of an Output"),
    (graph({}), "/output: Output: nothing leads into this node"),
    (graph({"a": two_ports}, "input>a", "a>output"), "nested graph with 2 Inputs in an edge; NIR's edges"),
    (
        graph({"a": nir.Linear(np.ones((3, 2)))}, "input>a", "input>output", "a>output"),
        r"/output: shape of what comes in, expected \(2,\), got \(3,\) from a",
    ),
    (graph({"a/b": weights()}, "input>a/b", "a/b>output"), "name of a node, expected printable"),
    (graph({"": weights()}, "input>", ">output"), "name of a node, expected printable"),
    (nir.NIRGraph({}, [], type_check=False), "a graph without nodes"),
]  # fmt: skip


@pytest.mark.parametrize(("made", "words"), GRAPHS, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_graph_is_refused_by_edge_or_node(made, words):
    with pytest.raises(LavatubeError, match=words) as caught:
        flat_graph(made)
    assert "\n" not in str(caught.value)


def test_graphs_in_graphs_without_end_and_too_many_nodes_are_refused():
    loop = graph({}, "input>output")
    loop.nodes["me"] = loop
    with pytest.raises(LavatubeError, match="nested too deep"):
        flat_graph(loop)
    wide = graph({}, "input>output")
    for _ in range(4):  # the same graph eight times in itself, four times over: 8^4 * 2 nodes
        wide = graph({f"g{i}": wide for i in range(8)}, "input>output", *(f"input>g{i}" for i in range(8)))
    with pytest.raises(LavatubeError, match="too many"):
        flat_graph(wide)


def test_a_small_graph_that_grows_in_time_or_memory_is_refused():
    with pytest.raises(LavatubeError, match="too many elements"):
        flat_graph(chain(*[nir.Scale(np.broadcast_to(1.0, (1 << 22,)))] * 40, shape=(1 << 22,)))
    for padded in (conv(padding=20_000), conv(padding=1 << 20, dilation=1 << 20), conv(padding=4000)):
        with pytest.raises(LavatubeError, match="too much work in a timestep"):
            flat_graph(chain(padded, shape=(1, 8, 8)))
    pool = nir.SumPool2d(np.array([3000, 3000]), np.array([1, 1]), np.array([0, 0]))
    with pytest.raises(LavatubeError, match="too much work in a timestep"):
        flat_graph(chain(pool, shape=(1, 6000, 6000)))


def stored(path, change):
    nir.write(str(path), chain(lif(), nir.Linear(np.eye(2))), compression=None)
    with h5py.File(path, "r+") as file:
        change(file, file["node/nodes/n0"])
    return path


def replaced(name, value):
    def change(file, node):
        del node[name]
        node[name] = value

    return change


def removed(name):
    return lambda file, node: file.__delitem__(name)


STORED = [
    (replaced("type", "Foo"), r"nir:/node/nodes/n0: unknown node type, expected Input, .*, NIRGraph, got Foo"),
    (replaced("type", 3), "/node/nodes/n0: a node without a type"),
    (replaced("tau_mem", "fast"), "/node/nodes/n0/tau_mem: CubaLIF: type, .* got <U4"),
    (replaced("tau_mem", h5py.Empty("f8")), "/node/nodes/n0/tau_mem: not a value, .* got an empty data set"),
    (removed("node/nodes/n0/tau_mem"), "/node/nodes/n0/tau_mem: CubaLIF: missing field"),
    (removed("node/nodes"), "/node: graph, expected a group nodes, a table edges, nothing else, got edges"),
    (removed("node"), r"nir: not NIR, expected a group /node, got groups version"),
    (lambda file, node: node.create_dataset("bits", data=8), "/node/nodes/n0/bits: CubaLIF: unknown field"),
    (lambda file, node: node.create_group("tau"), "/node/nodes/n0/tau: a group where a field should be"),
    (lambda file, node: file["node"].create_dataset("x", data=1), "/node: graph, .* got x, nodes, edges"),
    (lambda file, node: file["node/nodes"].create_dataset("x", data=1), "/node/nodes/x: not a node"),
]


@pytest.mark.parametrize(("change", "words"), STORED, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_file_is_refused_by_path(tmp_path, change, words):
    with pytest.raises(LavatubeError, match=words) as caught:
        read_float_graph(stored(tmp_path / "x.nir", change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [np.zeros((2, 2)), np.array(["a", "b"], dtype=object), np.array([["a", "b", "c"]], dtype=object)],
)
def test_edges_that_are_no_table_of_names_are_refused(tmp_path, rows):
    def change(file, node):
        del file["node/edges"]
        options = {"dtype": h5py.string_dtype()} if rows.dtype == object else {}
        file["node"].create_dataset("edges", data=rows, **options)

    with pytest.raises(LavatubeError, match="/node/edges: edges, expected a table of two names a row"):
        read_float_graph(stored(tmp_path / "x.nir", change))


def test_missing_v_reset_and_w_in_are_filled_in_and_a_missing_leak_is_not(tmp_path):
    def change(file, node):
        del node["v_reset"], node["w_in"]

    flat = read_float_graph(stored(tmp_path / "x.nir", change))
    assert {record["what"] for record in flat.assumptions} == {"v_reset = 0", "w_in = 1"}
    with pytest.raises(LavatubeError, match="v_leak: CubaLIF: missing field"):
        read_float_graph(stored(tmp_path / "y.nir", removed("node/nodes/n0/v_leak")))
