"""Post-training quantization: exact where the numbers allow it, recorded where they do not, refused where it cannot."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np
import pytest
from dyadic_nir import DT, Dyadic, random_contract
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.contract_presets import preset
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.linear_maps import linear_map
from lavatube.convert.float_graph.read import flat_graph, read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.post_training.choose import Calibration, score
from lavatube.convert.post_training.encoding import encoding_of, events_of
from lavatube.convert.post_training.integers import Made
from lavatube.convert.post_training.operators import operator_of
from lavatube.convert.post_training.quantize_graph import quantize_graph
from lavatube.deploy.lower_float import encoded
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import Conv2dNode, LoihiProgram
from lavatube.program_file import program_sha256
from lavatube.sim.run import run

NIR = Path(__file__).parents[1] / "data" / "nir"
PLAIN = LOIHI.with_overrides(dt=DT, bias="input", state_rounding="none", weight_rounding="none", requires=())


def spikes_of(graph: FloatGraph, steps: int, seed: int = 0, batch: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: (rng.random((steps, batch, *graph.shapes[name])) < 0.5).astype(float) for name in graph.inputs}


def differences(graph: FloatGraph, contract: ExecutionContract, program: LoihiProgram, steps: int) -> dict[str, int]:
    """{population: spikes that are not the float network's}, and of read-outs of sums values that are not.

    Of read-outs of spikes only where they differ, and where the contract has no spikes on their way at the end.
    """
    data = spikes_of(graph, steps)
    there = simulate(graph, contract, data)
    here = run(program, {name: value.astype(int) for name, value in data.items()}, backend="reference")
    found = {}
    for name, spikes in there.spikes.items():
        if name not in here.spikes:
            continue
        ours = here.spikes[name].reshape(spikes.shape).astype(int)
        if contract.output_lag and not isinstance(graph.nodes[name], nir.Threshold):
            ours = np.concatenate([ours[:1] * 0, ours[:-1]])
        found[name] = int(np.abs(ours - spikes).sum())
    for node in program.readouts:
        if node.reads == "current":
            unit = program.scales[program.inbound(node)[0].name]
            value = there.output[node.name].reshape(steps, 3, -1).sum(0)
            found[node.name] = int((here.readouts[node.name] * unit != value).sum())
        elif node.reads == "spikes" and not contract.output_lag:
            if wrong := int((here.readouts[node.name] != there.output[node.name].reshape(steps, 3, -1).sum(0)).sum()):
                found[node.name] = wrong
    return found


def lossy(program: LoihiProgram) -> list[dict]:
    """What may change a spike, but the fraction that decayed states lose."""
    ours = ("decayed states lose their fraction", "counts the spikes decided in the last timestep")
    return [dict(r) for r in program.lossy if r["stage"] != "read" and not r["what"].startswith(ours)]


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


def one_layer(neuron: nir.NIRNode, weight: np.ndarray) -> FloatGraph:
    out, size = weight.shape
    nodes = {"input": nir.Input(np.array([size])), "w": nir.Linear(weight), "n": neuron,
             "o": nir.Output(np.array([out]))}  # fmt: skip
    return flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))


def lif(size: int, **change: np.ndarray | float) -> nir.LIF:
    values = {"tau": 10.0, "r": 10.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **change}
    return nir.LIF(**{name: np.ones(size) * value for name, value in values.items()})


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


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_rounding_is_recorded_with_its_damage(bits):
    weight = np.random.default_rng(0).normal(size=(6, 20)) * 0.3
    program = quantize_graph(one_layer(lif(6), weight), PLAIN, weight_bits=bits)
    by_what = {record["what"]: record for record in program.lossy}
    record = by_what[f"weights rounded to {bits} bits"]
    (node,) = program.synapses
    unit = program.scales["w"]
    used = node.weight * 2.0**node.weight_exp * unit
    relative = np.abs(used - weight) / np.abs(weight)
    assert record["relative_error_mean"] == pytest.approx(relative.mean())
    assert record["relative_error_largest"] == pytest.approx(relative.max())
    assert record["weights_to_zero"] == (used == 0).sum()
    assert node.num_weight_bits == bits
    assert len(np.unique(node.weight)) <= 2**bits
    assert by_what["decay of v rounded to its register"]["used"] == 1 - 410 / 4096


def test_the_units_are_chosen_by_the_spikes_of_the_calibration_data():
    rng = np.random.default_rng(3)
    graph = one_layer(lif(12), rng.normal(size=(12, 30)) * 0.25)
    data = spikes_of(graph, 60, seed=5, batch=6)

    def count_error(program: LoihiProgram) -> int:
        there = simulate(graph, PLAIN, data).spikes["n"].sum(0).astype(int)
        here = run(program, data["input"].astype(int), backend="reference").spikes["n"].sum(0)
        return int(np.abs(there - here).sum())

    blind = quantize_graph(graph, PLAIN, weight_bits=3, num_steps=60)
    shown = quantize_graph(graph, PLAIN, weight_bits=3, data=data)
    assert count_error(shown) < count_error(blind)


def test_channels_of_different_size_get_powers_of_two_of_their_own_and_stay_exact():
    rng = np.random.default_rng(0)
    rows = 2.0 ** -np.arange(4)
    for weight, shape in (
        (rng.integers(-127, 128, (4, 12)), (12,)),
        (rng.integers(-127, 128, (4, 3, 2, 2)), (3, 2, 2)),
    ):
        weight[:, 0] = 127  # each needs all of its 8 bits
        each = weight * rows.reshape(-1, *(1,) * (weight.ndim - 1)) / 64
        node = nir.Linear(each) if each.ndim == 2 else nir.Conv2d(shape[1:], each, 1, 0, 1, 1, np.zeros(4))
        out = (4,) if each.ndim == 2 else (4, 1, 1)
        nodes = {"input": nir.Input(np.array(shape)), "w": node, "o": nir.Output(np.array(out)),
                 "n": nir.IF(np.ones(out), np.full(out, 2.0), np.zeros(out))}  # fmt: skip
        graph = flat_graph(nir.NIRGraph(nodes, [("input", "w"), ("w", "n"), ("n", "o")], type_check=False))
        program = quantize_graph(graph, PLAIN, num_steps=8)
        assert [synapse.name for synapse in program.synapses] == ["w", "w.by1", "w.by2", "w.by3"]
        assert not lossy(program)
        assert differences(graph, PLAIN, program, 8) == {"n": 0}


@pytest.mark.parametrize("bits", [3, 6])
def test_powers_of_two_by_channel_keep_more_spike_counts(bits, monkeypatch):
    rng = np.random.default_rng(0)
    rows = 2.0 ** rng.uniform(-3, 0, (16, 1))
    graph = one_layer(lif(16), (rng.normal(size=(16, 40)) * 0.5 + 0.08) * rows)
    data, held = spikes_of(graph, 40, seed=5, batch=4), spikes_of(graph, 60, seed=9, batch=16)
    there = simulate(graph, PLAIN, held).spikes["n"].sum(0).astype(int)

    def count_error() -> int:
        program = quantize_graph(graph, PLAIN, weight_bits=bits, data=data)
        here = run(program, held["input"].astype(int), backend="reference").spikes["n"].sum(0)
        return int(np.abs(there - here).sum())

    by_channel = count_error()
    monkeypatch.setattr("lavatube.convert.post_training.choose.WORTH_MORE_SYNAPSES", 0)
    assert by_channel < 0.9 * count_error()


@pytest.mark.parametrize(
    "neuron", [lif(12, v_threshold=0.61), nir.LI(*(np.full(12, value) for value in (4.0, 4.0, 0.0)))]
)
def test_what_is_beyond_a_samples_length_chooses_no_unit(neuron, monkeypatch):
    graph = one_layer(neuron, np.random.default_rng(3).normal(size=(12, 30)) * 0.25)
    (data,) = spikes_of(graph, 10, seed=5, batch=6).values()
    padded = np.concatenate([data, np.full((20, 6, 30), 37.3)])
    scores: list[list[tuple[float, float]]] = []

    def seen(made: Made, calibration: Calibration) -> tuple[float, float]:
        scores[-1].append(score(made, calibration))
        return scores[-1][-1]

    monkeypatch.setattr("lavatube.convert.post_training.choose.score", seen)
    programs = []
    for values, length in ((data, None), (padded, np.full(6, 10))):
        scores.append([])
        made = quantize_graph(graph, PLAIN, data={"input": values}, length=length, weight_bits=3, num_steps=10)
        programs.append([program_sha256(made), made.lossy])
    assert scores[0]
    assert np.allclose(scores[0], scores[1], rtol=1e-12)
    assert programs[0] == programs[1]


@pytest.mark.parametrize(
    "names",
    [
        ("input", "n1", "n2"), ("clock", "n1", "n2"), ("input", "clock", "clock.none"), ("n2.bias.1", "n1", "n2"),
        ("input", "n" * 82 + "1", "n" * 82 + "2"),
    ],
)  # fmt: skip
def test_no_name_of_a_file_is_in_the_way_of_the_clock_that_carries_biases(names):
    full = np.ones(2)
    kinds = (
        nir.Input(np.array([2])),
        *(nir.CubaLIF(full * 2, full * 2, full, full * 0, full * level, full * 0, full) for level in (3, 1)),
    )
    weight = np.array([[1.0, 2.0], [3.0, 1.0]])
    nodes = {"w1": nir.Affine(weight, full / 2), "w2": nir.Affine(weight, full), "o": nir.Output(np.array([2]))}
    edges = [(names[0], "w1"), ("w1", names[1]), (names[1], "w2"), ("w2", names[2]), (names[2], "o")]
    nodes |= dict(zip(names, kinds, strict=True))
    graph = flat_graph(nir.NIRGraph(nodes, edges, type_check=False))
    contract = PLAIN.with_overrides(gain="one")
    program = quantize_graph(graph, contract, num_steps=8)
    assert len(program.neurons) == 3
    assert not lossy(program)
    assert differences(graph, contract, program, 8) == dict.fromkeys(names[1:], 0)


def test_thresholds_that_differ_between_neurons_are_scaled_into_their_weights():
    weight = np.array([[0.5, 0.25], [1.0, -0.5], [0.25, 0.75]])
    graph = one_layer(lif(3, v_threshold=np.array([1.0, 2.0, 0.5]), tau=2.0, r=2.0), weight)
    program = quantize_graph(graph, PLAIN, num_steps=8)
    assert not lossy(program)
    assert differences(graph, PLAIN, program, 8) == {"n": 0}


@pytest.mark.parametrize(
    ("neuron", "weight"),
    [
        (lif(2, v_threshold=1e-310), 1e-310), (lif(2, v_threshold=1e-290, v_leak=1e30), 1e-290),
        (lif(2, v_threshold=5e-324), 1.0), (lif(2, v_threshold=np.array([1e300, 1e-300])), 1.0),
        (nir.LI(*np.ones((3, 2))), 1e-310),
    ],
)  # fmt: skip
def test_numbers_beside_which_no_unit_can_be_chosen_are_refused(neuron, weight):
    with pytest.raises(LavatubeError, match=r":n: numbers that are too small, or too far apart.*; scale this"):
        quantize_graph(one_layer(neuron, np.full((2, 2), weight)), PLAIN)


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
