"""Inputs become integers times a scale; what cannot become a program is refused by name."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from quantized_floats import PLAIN, lif, lossy, one_layer, spikes_of

from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.encoding import encoding_of, events_of
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.deploy.lower_float import encoded
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.sim.run import run


def test_a_population_of_four_axes_and_an_input_that_nothing_reads_are_refused_by_name():
    shape = (2, 1, 2, 2)
    neuron = nir.IF(np.ones(shape), np.ones(shape) / 2, np.zeros(shape))
    nodes = {"input": nir.Input(np.array(shape)), "n": neuron, "o": nir.Output(np.array(shape))}
    with pytest.raises(UnsupportedError, match=r":n: a population's shape.*got \(2, 1, 2, 2\); put a Flatten"):
        quantize_graph(flat_graph(nir.NIRGraph(nodes, [("input", "n"), ("n", "o")], type_check=False)), PLAIN)
    flat = nir.Flatten({"input": np.array(shape)}, 0, -1)
    nodes |= {"f": flat, "n": lif(8, tau=1.0, r=1.0, v_threshold=0.5), "o": nir.Output(np.array([8]))}
    edges = [("input", "f"), ("f", "n"), ("n", "o")]
    graph = flat_graph(nir.NIRGraph(nodes, edges, type_check=False))
    program = quantize_graph(graph, PLAIN, num_steps=4)
    data = spikes_of(graph, 4)
    made = run(program, encoded(program, data, None), backend="reference")
    assert np.array_equal(made.spikes["n"], simulate(graph, PLAIN, data).spikes["n"])
    nodes |= {"b": nir.Input(np.array([8])), "m": lif(8)}
    edges.append(("b", "m"))
    with pytest.raises(UnsupportedError, match=r":b: an input that nothing read by an Output.*; leave it out"):
        quantize_graph(flat_graph(nir.NIRGraph(nodes, edges, type_check=False)), PLAIN)


def test_a_voltage_that_drives_a_node_is_refused():
    full = np.ones(2)
    nodes = {"input": nir.Input(np.array([2])), "li": nir.LI(full * 9, full, full * 0), "n": lif(2),
             "o": nir.Output(np.array([2]))}  # fmt: skip
    graph = flat_graph(nir.NIRGraph(nodes, [("input", "li"), ("li", "n"), ("n", "o")], type_check=False))
    with pytest.raises(UnsupportedError, match=r"li: a voltage drives a node.*LI into n"):
        quantize_graph(graph, PLAIN)


@pytest.mark.parametrize(
    ("values", "bits", "scale", "error"),
    [
        ([0, 1, 1], 1, 1.0, 0.0), ([0, 200], 8, 1.0, 0.0), ([0, 0.25, 0.75], 2, 0.25, 0.0),
        ([0, 0.3, 0.9], 2, 0.3, 0.0), ([0.1, 0.77, 1.0], 8, 1 / 255, None), ([1e-320, 0.77, 1.0], 8, 1 / 255, None),
    ],
)  # fmt: skip
def test_inputs_become_integers_times_a_scale(values, bits, scale, error):
    found = encoding_of("x", np.array(values), None, "")
    assert (found.bits, found.scale) == (bits, pytest.approx(scale))
    assert np.abs(events_of(np.array(values), found.scale, found.bits) * found.scale - values).max() <= scale / 2
    assert found.error == error if error is not None else found.error > 0


@pytest.mark.parametrize("seed", range(4))
def test_negative_numbers_are_the_events_of_an_input_of_their_own(seed):
    rng = np.random.default_rng(seed)
    graph = one_layer(nir.IF(np.ones(4), np.ones(4), np.zeros(4)), rng.integers(-3, 5, (4, 6)) / 8)
    data = {"input": rng.integers(-3, 4, (20, 3, 6)) / 4}
    program = quantize_graph(graph, PLAIN, data=data)
    assert {node.name: program.scales[node.name] for node in program.inputs} == {"input": 0.25, "input.neg": -0.25}
    assert not lossy(program)
    batch = encoded(program, data, None)
    there, here = simulate(graph, PLAIN, data).spikes["n"], run(program, batch, backend="reference").spikes["n"]
    assert there.any()
    np.testing.assert_array_equal(here, there)
    only_positive = quantize_graph(graph, PLAIN, data={"input": np.abs(data["input"])})
    with pytest.raises(LavatubeError, match=r"outside the program.s encoding.*quantize with data that reach as far"):
        encoded(only_positive, data, None)


def test_a_name_that_the_negative_part_needs_is_asked_for():
    graph = one_layer(nir.IF(np.ones(2), np.ones(2), np.zeros(2)), np.eye(2))
    other = flat_graph(nir.NIRGraph(
        {"input": graph.nodes["input"], "input.neg": graph.nodes["w"], "n": graph.nodes["n"], "o": graph.nodes["o"]},
        [("input", "input.neg"), ("input.neg", "n"), ("n", "o")], type_check=False,
    ))  # fmt: skip
    with pytest.raises(LavatubeError, match=r"no name for the negative part.*another name"):
        quantize_graph(other, PLAIN, data={"input": -np.ones((3, 1, 2))})


def test_inputs_too_small_for_a_scale_are_refused():
    with pytest.raises(UnsupportedError, match=r"f.nir:x: input values.*got 9.8.*e-323"):
        encoding_of("x", np.array([3e-323, 1e-322]), None, "f.nir")


def test_a_population_that_no_unit_keeps_within_the_registers_is_refused_with_the_remedy():
    full = np.ones(2)
    graph = one_layer(nir.IF(full, full * 0.05, full * 0), -np.ones((2, 300)))
    with pytest.raises(LavatubeError, match=r"no unit keeps this population.*v can reach.*--overflow hardware"):
        quantize_graph(graph, PLAIN, num_steps=10_000)
    assert quantize_graph(graph, PLAIN, num_steps=10_000, overflow="hardware")
