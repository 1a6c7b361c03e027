"""Any NIR graph becomes one flat graph in an order of its own: nested or flat, under any names, in any order."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from fuzz_nir import DATA, broken_promise
from hypothesis import given, settings
from hypothesis import strategies as st
from random_nir import random_graph, shuffled

from lavatube.convert.float_graph.read import flat_graph, read_float_graph
from lavatube.convert.from_nir import read_nested_graph
from lavatube.errors import LavatubeError


def ones(*shape):
    return np.ones(shape)


def lif(n, tau=0.01):
    return nir.LIF(tau * ones(n), ones(n), 0 * ones(n), ones(n))


def graph(nodes, *edges):
    return nir.NIRGraph(nodes, [tuple(edge.split(">")) for edge in edges], type_check=False)


def ends(n, out=None):
    return {"input": nir.Input(np.array([n])), "output": nir.Output(np.array([out or n]))}


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_graph_from_a_file_is_the_graph_that_was_written(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("nir") / "x.nir"
    made = random_graph(seed)
    nir.write(str(path), made, compression=None)
    read, given_ = read_float_graph(path), flat_graph(made)
    assert broken_promise(read) == ""
    assert (list(read.nodes), read.edges, read.feedback) == (list(given_.nodes), given_.edges, given_.feedback)
    assert (read.shapes, read.assumptions) == (given_.shapes, given_.assumptions)
    for name, node in read.nodes.items():
        for field, value in vars(node).items():
            if field not in ("input_type", "output_type", "metadata"):
                np.testing.assert_array_equal(value, getattr(given_.nodes[name], field))


@given(st.integers(0, 2**31), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_names_and_their_order_change_nothing(seed, other):
    made = random_graph(seed)
    again, names = shuffled(made, other)
    first, second = flat_graph(made), flat_graph(again)

    def renamed(name):
        top, *rest = name.split(".")
        return ".".join([names[top], *rest])

    assert {(renamed(a), renamed(b)) for a, b in first.edges} == set(second.edges)
    assert {(renamed(a), renamed(b)) for a, b in first.feedback} == second.feedback
    if len(first.inputs) == 1:  # two Inputs (or Outputs) alike are told apart by name alone
        order = [renamed(name) for name in first.nodes if name not in first.outputs]
        assert order == [name for name in second.nodes if name not in second.outputs]


def test_nested_graphs_give_the_flat_graph_with_joined_names():
    loop = {"w": nir.Linear(0.5 * ones(3, 3)), "lif": lif(3)}
    flat = graph(
        {**ends(2, 3), "fc": nir.Linear(ones(3, 2)), "a.b.w": loop["w"], "a.b.lif": loop["lif"]},
        "input>fc", "fc>a.b.lif", "a.b.lif>a.b.w", "a.b.w>a.b.lif", "a.b.lif>output",
    )  # fmt: skip
    inner = graph({**ends(3), **loop}, "input>lif", "lif>w", "w>lif", "lif>output")
    middle = graph({**ends(3), "b": inner}, "input>b", "b>output")
    nested = graph({**ends(2, 3), "fc": flat.nodes["fc"], "a": middle}, "input>fc", "fc>a", "a>output")
    one, two = flat_graph(flat), flat_graph(nested)
    assert list(one.nodes) == list(two.nodes) == ["input", "a.b.w", "fc", "a.b.lif", "output"]
    assert (one.edges, one.feedback, one.shapes) == (two.edges, two.feedback, two.shapes)
    assert two.feedback == {("a.b.lif", "a.b.w")}


def test_joined_names_that_collide_or_are_odd_stay_unique_and_are_told():
    inner = graph({**ends(2), "c": lif(2)}, "input>c", "c>output")
    made = graph(
        {**ends(2), "b": inner, "b.c": lif(2), "häß lich": nir.Scale(ones(2))},
        "input>b", "b>b.c", "b.c>häß lich", "häß lich>output",
    )  # fmt: skip
    flat = flat_graph(made)
    assert list(flat.nodes) == ["input", "b.c", "b.c_2", "h___lich", "output"]
    assert {record["node"] for record in flat.assumptions} == {"b.c_2", "h___lich"}


def test_a_nested_graph_that_only_passes_on_counts_twice_where_it_is_a_second_way():
    through = graph(ends(2), "input>output")
    made = graph({**ends(2), "p": through, "n": lif(2)}, "input>p", "input>n", "p>n", "n>output")
    flat = flat_graph(made)
    ways = flat.before("n")
    assert len(ways) == 2
    assert any(isinstance(flat.nodes[way], nir.Scale) for way in ways)


CYCLES = [
    # a neuron by itself; a layer of weights; both ways through a nested pair
    ({"n": lif(2)}, ["input>n", "n>n", "n>output"], {("n", "n")}),
    ({"n": lif(2), "w": nir.Linear(ones(2, 2))}, ["input>n", "n>w", "w>n", "n>output"], {("n", "w")}),
    # a way back over two layers is cut at its start, also with a second way in (the skip)
    (
        {"a": lif(2), "w": nir.Linear(ones(2, 2)), "b": lif(2), "back": nir.Linear(ones(2, 2))},
        ["input>a", "a>w", "w>b", "b>back", "back>a", "b>output"],
        {("b", "back")},
    ),
    (
        {"a": lif(2), "w": nir.Linear(ones(2, 2)), "b": lif(2), "back": nir.Linear(ones(2, 2))},
        ["input>a", "input>b", "a>w", "w>b", "b>back", "back>a", "b>output"],
        {("b", "back")},
    ),
    # two that are alike see each other's past
    (
        {"a": lif(2), "ab": nir.Linear(ones(2, 2)), "b": lif(2), "ba": nir.Linear(ones(2, 2))},
        ["input>a", "input>b", "a>ab", "ab>b", "b>ba", "ba>a", "a>output", "b>output"],
        {("a", "ab"), ("b", "ba")},
    ),
    ({"a": lif(2), "b": lif(2)}, ["input>a", "input>b", "a>b", "b>a", "a>output", "b>output"],
     {("a", "a.to.b"), ("b", "b.to.a")}),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "edges", "feedback"), CYCLES)
def test_a_cycle_is_cut_where_it_leaves_the_neuron_that_the_input_reaches_last(nodes, edges, feedback):
    flat = flat_graph(graph({**ends(2), **nodes}, *edges))
    assert flat.feedback == feedback
    assert broken_promise(flat) == ""
    assert {record["node"] for record in flat.assumptions} == {a for a, _ in feedback}


def test_what_leads_into_a_cycle_is_not_delayed():
    nodes = {**ends(2), "a": lif(2), "b": lif(2), "c": lif(2)}
    flat = flat_graph(graph(nodes, "input>a", "a>a", "a>b", "b>c", "c>b", "c>output"))
    assert flat.feedback == {("a", "a"), ("c", "b")}


def test_what_old_files_do_not_say_is_filled_in_and_told(tmp_path):
    flat = read_float_graph(DATA / "nirtorch_braille.nir")
    assert flat.feedback == {("lif1.lif", "lif1.w_rec")}
    np.testing.assert_array_equal(flat.nodes["lif1.lif"].v_reset, np.zeros(38))
    assert flat.nodes["fc1"].weight.dtype == np.float64
    assert [record["what"] for record in flat.assumptions if record["node"] == "lif2"] == ["v_reset = 0"]
    assert len(flat.sha256) == 64


FILES = {
    "lif_norse": ["input", "0", "1", "output"],
    "two_lif_neurons": ["in", "linear1", "lif1", "linear2", "lif2", "out"],
    "nir4s_lif": ["input", "0", "output"],
    "nir4s_li": ["input", "0", "output"],
    "nir4s_conv1": ["input", "0", "output"],
    "nirtorch_braille": ["input", "lif1.w_rec", "fc1", "lif1.lif", "fc2", "lif2", "output"],
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_other_frameworks_load(name):
    assert list(read_float_graph(DATA / f"{name}.nir").nodes) == FILES[name]
    assert set(read_nested_graph(DATA / f"{name}.nir").nodes) == set(FILES[name])


def test_a_file_with_negative_time_constants_and_boolean_biases_is_refused_with_the_reason():
    with pytest.raises(LavatubeError, match=r"srnn\.nir:/node/nodes/affine1/bias: Affine: type, .* got bool"):
        read_float_graph(DATA / "nirviz_srnn.nir")


def test_one_value_for_a_wider_population_is_spread_and_told():
    flat = flat_graph(graph({**ends(4), "n": lif(1)}, "input>n", "n>output"))
    assert flat.nodes["n"].tau.shape == flat.shapes["n"] == (4,)
    assert flat.assumptions[0]["what"] == "one value for all of (4,)"


def test_a_single_node_is_wrapped_between_an_input_and_an_output(tmp_path):
    nir.write(str(tmp_path / "one.nir"), lif(3))
    flat = read_float_graph(tmp_path / "one.nir")
    assert (list(flat.nodes), flat.shapes["output"]) == (["input", "lif", "output"], (3,))
    assert len(flat.assumptions) == 2


def test_the_graph_that_is_given_stays_as_it_is():
    made = random_graph(5)
    before = {name: dict(vars(node)) for name, node in made.nodes.items()}
    flat_graph(made)
    assert all(vars(node)[k] is v for name, node in made.nodes.items() for k, v in before[name].items())
