"""Post-training quantization: exact where the numbers and the contract allow it, recorded where they do not."""

from __future__ import annotations

import nir
import numpy as np
import pytest
from dyadic_nir import DT, Dyadic, random_contract
from hypothesis import given, settings
from hypothesis import strategies as st
from quantized_floats import NIR, PLAIN, differences, lif, lossy, one_layer, spikes_of

from lavatube.contract import LOIHI
from lavatube.contract_presets import preset
from lavatube.convert.float_graph.linear_maps import linear_map
from lavatube.convert.float_graph.read import flat_graph, read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.operators import operator_of
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.errors import UnsupportedError
from lavatube.program import Conv2dNode
from lavatube.sim.run import run


@pytest.mark.parametrize("start", [0, 25, 50])
def test_dyadic_networks_spike_as_in_float_under_random_contracts(start):
    exact = 0
    for seed in range(start, start + 25):
        contract = random_contract(seed)
        graph = flat_graph(Dyadic(seed, unit=4096 if contract.state_rounding == "toward-zero" else 1).graph)
        program = quantize_graph(graph, contract, num_steps=8)
        if not lossy(program):
            exact += 1
            assert not any(differences(graph, contract, program, 8).values()), seed
    assert exact >= 10


@pytest.mark.parametrize("seed", range(12))
def test_dyadic_networks_spike_as_in_float_under_the_lava_and_loihi_contracts(seed):
    graph = flat_graph(Dyadic(seed, kinds="lava", bias=False).graph)
    for contract in (preset("lava").with_overrides(dt=DT), LOIHI.with_overrides(dt=DT)):
        program = quantize_graph(graph, contract, num_steps=8)
        assert not lossy(program)
        assert not any(differences(graph, contract, program, 8).values())
    graph = flat_graph(Dyadic(seed).graph)
    contract = LOIHI.with_overrides(dt=DT, requires=())
    program = quantize_graph(graph, contract, num_steps=8)
    assert not lossy(program)
    assert not any(differences(graph, contract, program, 8).values())


@pytest.mark.parametrize("seed", range(5))
def test_states_that_the_contract_truncates_are_the_programs_for_any_time(seed):
    rng = np.random.default_rng(seed)
    full = np.ones(5)
    weight = rng.integers(-100, 120, (5, 4)) * 64.0
    neuron = nir.CubaLIF(full * 4, full * 8, full * 8, full * 0, full * 64 * 300, full * 0, full * 4)
    nodes = {"input": nir.Input(np.array([4])), "w": nir.Linear(weight), "n": neuron, "o": nir.Output(np.array([5]))}
    graph = flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
    contract = PLAIN.with_overrides(state_rounding="toward-zero")
    program = quantize_graph(graph, contract, num_steps=200)
    assert [dict(record) for record in program.lossy if record["stage"] != "read"] == []
    assert differences(graph, contract, program, 200) == {"n": 0}


@given(
    st.lists(
        st.sampled_from(["conv", "depthwise", "pool", "average", "scale", "flatten", "dense"]), min_size=1, max_size=3
    ),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_linear_nodes_without_a_neuron_between_become_one_operator(kinds, seed):
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = (2, int(rng.integers(5, 9)), int(rng.integers(5, 9)))
    first, path = shape, []
    for number, kind in enumerate(kinds):
        node: nir.NIRNode
        if len(shape) == 3 and kind in ("conv", "depthwise"):
            groups = shape[0] if kind == "depthwise" else 1
            stride, pad = int(rng.integers(1, 3)), int(rng.integers(0, 3))
            kernel = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
            weight = rng.integers(-4, 5, (2 * groups, shape[0] // groups, *kernel)) * 0.5
            node = nir.Conv2d(shape[1:], weight, stride, pad, 1, groups, np.zeros(2 * groups))
        elif len(shape) == 3 and kind in ("pool", "average"):
            cls = nir.SumPool2d if kind == "pool" else nir.AvgPool2d
            size, pad = int(rng.integers(1, 3)), 0
            node = cls(np.array([size, size]), np.array([size, size]), np.array([pad, pad]))
        elif kind == "flatten" and len(shape) == 3:
            node = nir.Flatten({"input": np.array(shape)}, 0, -1)
        elif len(shape) == 1 and kind == "dense":
            node = nir.Linear(rng.integers(-3, 4, (4, shape[0])) * 1.0)
        else:
            node = nir.Scale(rng.integers(1, 4, shape) * 0.5 if kind == "average" else np.full(shape, 0.5))
        run_node = linear_map("n", node, (int(np.prod(shape)),), np.float64)
        try:
            shape = run_node(np.zeros((1, *shape))).shape[1:]
        except ValueError:
            return  # a window larger than the picture
        if 0 in shape:
            return
        path.append((f"n{number}", node, shape))
    x = rng.integers(0, 2, (3, *first)).astype(float)
    want = x
    for _, node, out in path:
        want = linear_map("n", node, out, np.float64)(want)
    assert np.array_equal(operator_of(path, first, "")(x), want.reshape(3, -1))


def test_a_pool_before_a_convolution_is_fused_into_it():
    full = np.ones((2, 3, 3))
    nodes = {
        "input": nir.Input(np.array([2, 6, 6])), "pool": nir.SumPool2d(*(np.array([n, n]) for n in (2, 2, 0))),
        "conv": nir.Conv2d((3, 3), np.ones((2, 2, 3, 3)) / 4, 1, 1, 1, 1, np.zeros(2)),
        "n": nir.IF(full, full, full * 0), "o": nir.Output(np.array([2, 3, 3])),
    }  # fmt: skip
    edges = [("input", "pool"), ("pool", "conv"), ("conv", "n"), ("n", "o")]
    graph = flat_graph(nir.NIRGraph(nodes, edges, type_check=False))
    program = quantize_graph(graph, PLAIN, num_steps=5)
    (node,) = program.synapses
    assert isinstance(node, Conv2dNode)
    assert (node.weight.shape, node.stride, node.padding) == ((2, 2, 6, 6), (2, 2), (2, 2))
    assert differences(graph, PLAIN, program, 5) == {"n": 0}


@pytest.mark.parametrize(
    ("unit", "change"),
    [
        (64.0, {}), (1.0, {}), (64.0, {"v_threshold": [19200.0, 9600.0]}), (64.0, {"v_reset": -6400.0}),
        (64.0, {"r": 16.0}),
    ],
)  # fmt: skip
def test_states_truncated_in_another_unit_than_the_contracts_are_recorded(unit, change):
    values = {"tau_syn": 4.0, "tau_mem": 8.0, "r": 8.0, "v_leak": 0.0, "v_threshold": 300 * unit, "v_reset": 0.0}
    values |= {"w_in": 4.0, **change}
    neuron = nir.CubaLIF(**{name: np.broadcast_to(value, 2).astype(float) for name, value in values.items()})
    graph = one_layer(neuron, np.array([[60.0, 37.0], [13.0, 87.0]]) * unit)
    contract = PLAIN.with_overrides(state_rounding="toward-zero", cuba_reset="v_reset")
    program = quantize_graph(graph, contract, num_steps=200)
    alike = unit == 64 and not change
    assert ("decayed states lose another fraction" not in [record["what"] for record in program.lossy]) == alike
    assert not alike or differences(graph, contract, program, 200) == {"n": 0}


@pytest.mark.parametrize(
    ("neuron", "change"),
    [
        (lif(4, tau=1, r=1, v_threshold=1.5), {"reset_lag": 1, "late_zero": "instead-of-update"}),
        (lif(4, tau=1, r=1, v_reset=-1), {"reset": "v_reset"}),
        (nir.CubaLIF(*np.full((7, 4), [[1], [2], [1], [0], [3], [0], [1]])), {"current_order": "old"}),
    ],
)
def test_a_time_constant_of_one_timestep_keeps_what_else_takes_time(neuron, change):
    graph = one_layer(neuron, np.array([[1.0, 2.0], [3.0, 1.0], [-1.0, 2.0], [1.0, 1.0]]))
    contract = PLAIN.with_overrides(gain="one", **change)
    assert differences(graph, contract, quantize_graph(graph, contract, num_steps=12), 12) == {"n": 0}


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("late", [1, 2])
def test_a_delay_before_an_output_is_kept(lag, late):
    full = np.ones(2)
    ends = {"input": nir.Input(np.array([2])), "d": nir.Delay(full * late * DT), "o": nir.Output(np.array([2]))}
    edges = [("input", "n"), ("n", "d"), ("d", "o")]
    contract = PLAIN.with_overrides(output_lag=lag)
    graph = flat_graph(nir.NIRGraph({**ends, "n": nir.IF(full, full / 2, full * 0)}, edges, type_check=False))
    assert differences(graph, contract, quantize_graph(graph, contract, num_steps=8), 8) == {"n": 0, "o": 0}
    graph = flat_graph(nir.NIRGraph({**ends, "n": nir.LI(full * 2, full * 2, full * 0)}, edges, type_check=False))
    with pytest.raises(UnsupportedError, match=r"n: a voltage drives a node.*LI into o"):
        quantize_graph(graph, contract)


def test_a_leaky_integrator_is_read_as_a_voltage():
    full = np.ones(2)
    graph = one_layer(nir.LI(full * 2, full * 2, full * 0), np.array([[0.5, -1.0], [1.0, 0.25]]))
    program = quantize_graph(graph, PLAIN, num_steps=8)
    data = spikes_of(graph, 8)
    v = simulate(graph, PLAIN, data, record=["v"]).v["n"][-1]
    trace = run(program, data["input"].astype(int), backend="reference")
    assert program.readout.reads == "voltage"
    assert np.array_equal(trace.readout * program.scales["w"] / 64, v)


@pytest.mark.parametrize(("reset", "register"), [("zero", {"vth": -1}), ("subtract", {"v_initial": 1})])
def test_at_least_becomes_above_where_that_is_exact(reset, register):
    full = np.ones(2)
    graph = one_layer(nir.IF(full, full, full * 0), np.array([[0.5, 0.25], [1.0, -0.5]]))
    strictly = PLAIN.with_overrides(if_reset=reset)
    above = quantize_graph(graph, strictly, num_steps=8).neurons[0]
    contract = strictly.with_overrides(comparator=">=")
    program = quantize_graph(graph, contract, num_steps=8)
    for name, change in register.items():
        assert getattr(program.neurons[0], name) == getattr(above, name) + change
    assert not lossy(program)
    assert differences(graph, contract, program, 8) == {"n": 0}
    assert any(differences(graph, strictly, program, 8).values())  # the comparator decides here


def test_what_the_contract_computes_and_the_program_does_not_is_recorded_with_its_damage():
    full = np.ones(4)
    weight = np.random.default_rng(1).normal(size=(4, 6))
    graph = one_layer(nir.IF(full, full, full * 0), weight)
    contract = PLAIN.with_overrides(if_reset="subtract", spikes_per_step="many", if_lower_clip="-threshold")
    data = spikes_of(graph, 30)
    program = quantize_graph(graph, contract, data=data)
    records = {tuple(r["computes"]): r for r in program.lossy if "computes" in r}
    clip = records[("if_lower_clip",)]
    there = simulate(graph, contract, data).spikes["n"].astype(int).sum(0)
    without = simulate(graph, contract.with_overrides(if_lower_clip="none"), data).spikes["n"].astype(int).sum(0)
    assert clip["stage"] == "lower"
    assert clip["spike_count_error"] == np.abs(there - without).sum() / there.sum() > 0


@pytest.mark.parametrize(("name", "contract"), [("lif_norse", "norse"), ("two_lif_neurons", "norse")])
def test_files_of_other_platforms_keep_their_spike_counts(name, contract):
    graph = read_float_graph(NIR / f"{name}.nir")
    chosen = preset(contract).with_overrides(dt=1e-4)
    data = spikes_of(graph, 300)
    program = quantize_graph(graph, chosen, data=data)
    there = simulate(graph, chosen, data).spikes
    here = run(program, next(iter(data.values())).astype(int), backend="reference").spikes
    assert sum(spikes.sum() for spikes in there.values()) > 10
    for population, spikes in there.items():
        assert np.abs(spikes.sum(0).astype(int) - here[population].sum(0)).max() <= 1
