"""A population whose neurons need different registers becomes several, and not one spike changes."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from dyadic_nir import DT

from lavatube.contract import LOIHI
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.network import float_network
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.convert.post_training.split import joined, split
from lavatube.convert.program_to_nir import program_to_nir
from lavatube.deploy.lower import lower
from lavatube.deploy.lower_float import quantize_float
from lavatube.errors import UnsupportedError
from lavatube.program_file import program_sha256
from lavatube.sim.float_parity import float_parity
from lavatube.sim.run import run

PLAIN = LOIHI.with_overrides(dt=DT, bias="input", state_rounding="none", weight_rounding="none", requires=())
STEPS = 8  # of halved and quartered multiples of 1/8: no state loses a fraction


def mixed(rng: np.random.Generator, shape: tuple[int, ...], *, by_channel: bool) -> nir.LIF:
    size = (shape[0], *(1,) * (len(shape) - 1)) if by_channel else shape
    tau = np.broadcast_to(rng.choice([1.0, 2.0], size), shape).copy()
    tau[0], tau[-1] = 1.0, 2.0
    full = np.ones(shape)
    return nir.LIF(tau * DT, tau, full * 0, full * float(rng.choice([0.5, 1.0])), full * 0)


def network(seed: int) -> FloatGraph:
    """conv -> neurons -> conv -> neurons (one read-out) -> dense with a loop -> neurons (another)"""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return rng.integers(-3, 6, shape) / 8

    one, two = rng.random(2) < 0.5
    nodes = {
        "input": nir.Input(np.array([2, 4, 4])),
        "a": nir.Conv2d((4, 4), weights(4, 2, 3, 3), 1, 1, 1, 1, weights(4)),
        "b": nir.Conv2d((4, 4), weights(4, 1, 3, 3), 1, 1, 1, 4, weights(4)),
        "n1": mixed(rng, (4, 4, 4), by_channel=one), "n2": mixed(rng, (4, 4, 4), by_channel=two),
        "flat": nir.Flatten({"input": np.array([4, 4, 4])}, 0, -1),
        "c": nir.Affine(weights(5, 64), weights(5)), "n3": mixed(rng, (5,), by_channel=False),
        "loop": nir.Linear(weights(5, 5)), "out": nir.Output(np.array([5])), "early": nir.Output(np.array([4, 4, 4])),
    }  # fmt: skip
    edges = [("input", "a"), ("a", "n1"), ("n1", "b"), ("b", "n2"), ("n2", "flat"), ("flat", "c"), ("c", "n3"),
             ("n3", "loop"), ("loop", "n3"), ("n3", "out"), ("n2", "early")]  # fmt: skip
    return flat_graph(nir.NIRGraph(nodes, edges, type_check=False))


@pytest.mark.parametrize("seed", range(6))
def test_every_spike_of_the_parts_is_the_float_networks(seed):
    graph = network(seed)
    x = (np.random.default_rng(seed).random((STEPS, 3, 2, 4, 4)) < 0.5).astype(np.int64)
    program = quantize_graph(graph, PLAIN, num_steps=STEPS)
    parts = split(float_network(graph, PLAIN), "")[1]
    assert set(parts) == {"n1", "n2", "n3"}
    assert {len(found) for found in parts.values()} == {2}
    changed = ("weights", "biases", "the initial")
    assert not [r for r in program.lossy if str(r["what"]).startswith(changed)]
    there, here = simulate(graph, PLAIN, {"input": x}), run(program, x, backend="reference")
    for name, found in parts.items():
        assert there.spikes[name].any()
        np.testing.assert_array_equal(joined(here.spikes, found, tuple(graph.shapes[name])), there.spikes[name])
    for name, value in here.readouts.items():
        unit = program.scales[program.inbound(program.by_name[name])[0].name]
        np.testing.assert_array_equal(value * unit, there.output[name].sum(0).reshape(3, -1))
    assert {record["node"] for record in program.lossy if "populations" in str(record["what"])} == set(parts)
    other = run(program, x, backend="fast")
    assert all(np.array_equal(other.spikes[name], value) for name, value in here.spikes.items())


def test_channels_stay_convolutions_and_other_neurons_do_not():
    rng = np.random.default_rng(0)
    full = np.ones((2, 3, 3))
    for by_channel, kinds in ((True, {"conv2d"}), (False, {"dense"})):
        nodes = {"input": nir.Input(np.array([2, 3, 3])), "a": nir.Conv2d((3, 3), np.ones((2, 2, 3, 3)) / 8, 1, 1, 1, 1,
                 np.zeros(2)), "n": mixed(rng, (2, 3, 3), by_channel=by_channel)}  # fmt: skip
        nodes |= {"b": nir.Conv2d((3, 3), np.ones((2, 2, 3, 3)) / 8, 1, 1, 1, 1, np.zeros(2)),
                  "m": nir.IF(full / DT, full, full * 0), "o": nir.Output(np.array([2, 3, 3]))}  # fmt: skip
        if not by_channel:
            nodes["n"].tau[0, 0, 0], nodes["n"].r[0, 0, 0] = 2.0, 2.0
        edges = [("input", "a"), ("a", "n"), ("n", "b"), ("b", "m"), ("m", "o")]
        program = quantize_graph(flat_graph(nir.NIRGraph(nodes, edges, type_check=False)), PLAIN, num_steps=4)
        assert {node.kind for node in program.synapses} == kinds
        assert len(program.neurons) == 3


def test_units_are_chosen_with_the_parts_spikes_and_level_1_compares_the_whole(tmp_path):
    rng = np.random.default_rng(1)
    tau = rng.choice([5.0, 11.0, 23.0], 10) * 1e-3
    full = np.ones(10)
    nodes = {"input": nir.Input(np.array([8])), "w": nir.Linear(rng.normal(size=(10, 8)) * 0.4),
             "n": nir.LIF(tau, full, full * 0, full * 0.06, full * 0), "o": nir.Output(np.array([10]))}  # fmt: skip
    path = tmp_path / "f.nir"
    nir.write(str(path), nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
    data = {"input": (rng.random((30, 3, 8)) < 0.5).astype(float)}
    program = quantize_float(path, out=tmp_path / "q", contract="norse,resistance=r", data=data)
    assert [node.name for node in program.neurons] == ["n.0", "n.1", "n.2"]
    report = float_parity(tmp_path / "q", data=data)
    assert report.energy, report.no_energy
    (row,) = report.layers
    assert row.layer == "n"
    assert all((cost.error.value > 0) == (row.spikes_program > row.spikes_float) for cost in report.energy)
    assert row.spikes_float > 20
    assert row.count_error.value < 0.1
    again = lower(tmp_path / "q" / "model.nir")
    assert program_sha256(again) == program_sha256(program)


def test_initial_potentials_that_differ_are_parts_too():
    full = np.ones(2)
    nodes = {"input": nir.Input(np.array([2])), "w": nir.Linear(np.eye(2) / 4),
             "n": nir.LIF(full * 2, full * 2, full / [2, 4], full, full * 0)}  # fmt: skip
    nodes["o"] = nir.Output(np.array([2]))
    graph = flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
    program = quantize_graph(graph, PLAIN.with_overrides(initial_v="v_leak"), num_steps=4)
    assert [node.v_initial / (64 * node.vth) for node in program.neurons] == [0.5, 0.25]
    with pytest.raises(UnsupportedError, match="no initial potential"):
        program_to_nir(program, "unused.nir")


@pytest.mark.parametrize(("count", "node", "words"), [
    (100, nir.LIF, "at most 32 different ones, got 88; round them"),
    (3, nir.LI, "reads its voltages, got 3 sets; split the node"),
])  # fmt: skip
def test_what_cannot_be_split_is_refused_with_the_remedy(count, node, words):
    full, tau = np.ones(count), np.linspace(3, 90, count)
    ends = () if node is nir.LI else (full, full * 0)
    nodes = {"input": nir.Input(np.array([2])), "w": nir.Linear(np.ones((count, 2)) / 4),
             "n": node(tau, tau, full * 0, *ends), "o": nir.Output(np.array([count]))}  # fmt: skip
    graph = flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
    with pytest.raises(UnsupportedError, match=words):
        quantize_graph(graph, PLAIN, num_steps=4)
