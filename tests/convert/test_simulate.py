"""The float simulator: every primitive and every choice of a contract, against formulas written out here."""

from __future__ import annotations

import csv
from pathlib import Path

import nir
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.contract_presets import PRESETS, preset
from lavatube.convert.float_graph.linear_maps import linear_map
from lavatube.convert.float_graph.read import flat_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.convert.float_graph.voltage_biases import voltage_biases
from lavatube.errors import LavatubeError, UnsupportedError

DATA = Path(__file__).parents[1] / "data"
PLAIN = LOIHI.with_overrides(bias="input", state_rounding="none", weight_rounding="none", requires=())


def chain(node: nir.NIRNode, shape: tuple[int, ...], last: tuple[int, ...] | None = None) -> nir.NIRGraph:
    nodes = {"input": nir.Input(np.array(shape)), "n": node, "output": nir.Output(np.array(last or shape))}
    return nir.NIRGraph(nodes, [("input", "n"), ("n", "output")], type_check=False)


def full(value: float, size: int = 1) -> np.ndarray:
    return np.full(size, float(value))


def weighed(synapse: nir.NIRNode, neuron: nir.NIRNode) -> nir.NIRGraph:
    nodes = {"input": nir.Input(np.array([1])), "a": synapse, "n": neuron, "output": nir.Output(np.array([1]))}
    return nir.NIRGraph(nodes, [("input", "a"), ("a", "n"), ("n", "output")], type_check=False)


def lif(**change: float) -> nir.LIF:
    values = {"tau": 4e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0, **change}
    return nir.LIF(**{name: full(value) for name, value in values.items()})


def cuba(**change: float) -> nir.CubaLIF:
    values = {
        "tau_syn": 2e-4,
        "tau_mem": 4e-4,
        "r": 4.0,
        "v_leak": 0.0,
        "v_threshold": 1.0,
        "v_reset": 0.0,
        "w_in": 2.0,
    }
    return nir.CubaLIF(**{name: full(value) for name, value in {**values, **change}.items()})


def run(node: nir.NIRNode, contract: ExecutionContract, drive: list[float]) -> tuple[list[float], list[float]]:
    """(what leaves the node, v) of one neuron."""
    x = np.array(drive, float).reshape(-1, 1, 1)
    trace = simulate(flat_graph(chain(node, (1,))), contract, x, record=["v"])
    return trace.output["output"].ravel().tolist(), trace.v["n"].ravel().tolist()


@given(
    tau=st.floats(1.0, 20.0), r=st.floats(0.1, 5), v_leak=st.floats(-1, 1), threshold=st.floats(0.2, 2),
    drive=st.lists(st.floats(-2, 3), min_size=1, max_size=25), decay=st.sampled_from(["forward-euler", "exponential"]),
    comparator=st.sampled_from([">", ">="]), reset=st.sampled_from(["zero", "v_reset", "subtract", "none"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_lif_follows_the_formula_of_the_page(tau, r, v_leak, threshold, drive, decay, comparator, reset):
    contract = PLAIN.with_overrides(dt=1.0, decay=decay, comparator=comparator, reset=reset)
    node = lif(tau=tau, r=r, v_leak=v_leak, v_threshold=threshold, v_reset=-0.25)
    spikes, v = run(node, contract, drive)
    a = 1 - 1 / tau if decay == "forward-euler" else np.exp(-1 / tau)
    state = 0.0
    for t, x in enumerate(drive):
        state = a * state + (1 - a) * (r * x + v_leak)
        if abs(state - threshold) < 1e-9:
            return  # the last bit decides
        fired = state > threshold
        state = {"zero": 0.0, "v_reset": -0.25, "subtract": state - threshold, "none": state}[reset] if fired else state
        assert spikes[t] == fired
        assert v[t] == pytest.approx(state, abs=1e-12)


@pytest.mark.parametrize("order", ["new", "old"])
def test_the_current_of_a_cuba_drives_v_in_its_own_step_or_in_the_next(order):
    _, v = run(cuba(v_threshold=9.0), PLAIN.with_overrides(current_order=order), [1.0, 0, 0])
    currents = [1.0, 0.5, 0.25] if order == "new" else [0.0, 1.0, 0.5]
    state, expected = 0.0, []
    for current in currents:
        state = 0.75 * state + current
        expected.append(state)
    assert v == expected


def test_equal_to_the_threshold_is_a_spike_only_under_the_weak_comparator():
    node = lif(tau=1e-4)
    assert run(node, PLAIN, [1.0])[0] == [0]
    assert run(node, PLAIN.with_overrides(comparator=">="), [1.0])[0] == [1]


@pytest.mark.parametrize(
    ("change", "spikes", "v"),
    [
        ({"reset": "zero"}, [1, 1, 0, 0], [0, 0, 0, 0]),
        ({"reset": "subtract"}, [1, 1, 1, 1], [5, 4, 3, 2]),
        ({"reset": "none"}, [1, 1, 1, 1], [6, 6, 6, 6]),
        ({"reset": "zero", "output_lag": 1}, [0, 1, 1, 0], [0, 0, 0, 0]),
        ({"reset": "subtract", "reset_lag": 1}, [1, 1, 1, 1], [6, 5, 4, 3]),
        ({"reset": "zero", "reset_lag": 1}, [1, 0, 0, 0], [6, 0, 0, 0]),
        # above before: taken off before firing, so the second step lowers once, not twice
        ({"reset": "subtract-guarded"}, [1, 1, 1, 1], [5, 4, 3, 2]),
        ({"reset": "subtract", "spikes_per_step": "many"}, [6, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_a_reset_of_if_is_what_its_field_says(change, spikes, v):
    drive = [6.0, 0, 0, 0] if change != {"reset": "zero"} else [6.0, 2.0, 0, 0]
    drive = [6.0, 2.0, 0, 0] if change == {"reset": "zero", "output_lag": 1} else drive
    change = {f"if_{name}" if name.startswith("reset") else name: value for name, value in change.items()}
    contract = PLAIN.with_overrides(if_input="one", **change)
    assert run(nir.IF(full(1), full(1)), contract, drive) == (spikes, v)


def test_the_guarded_reset_gives_back_what_it_took_where_no_spike_follows():
    """Residual 1.5 above threshold 1; an inhibition brings it below: snnTorch adds the threshold again."""
    contract = PLAIN.with_overrides(if_input="one", if_reset="subtract-guarded")
    assert run(nir.IF(full(1), full(1)), contract, [2.5, -1.0]) == ([1, 0], [1.5, 0.5])


def test_a_lower_clip_holds_v_after_the_reset():
    contract = PLAIN.with_overrides(if_input="one", if_lower_clip="-threshold")
    assert run(nir.IF(full(1), full(1)), contract, [-3.0, 0.5])[1] == [-1.0, -0.5]


def test_leaky_integrators_put_out_v_and_integrate_dt_only_where_the_contract_says_so():
    li = nir.LI(tau=full(2e-4), r=full(3), v_leak=full(0))
    assert run(li, PLAIN, [2.0, 0])[0] == [3.0, 1.5]
    cubali = nir.CubaLI(tau_syn=full(1e-4), tau_mem=full(2e-4), r=full(2), v_leak=full(1), w_in=full(1))
    assert run(cubali, PLAIN, [1.0, 0])[0] == [1.5, 1.25]
    assert run(nir.I(r=full(2)), PLAIN, [1.0, 1.0])[0] == pytest.approx([2e-4, 4e-4])
    assert run(nir.I(r=full(2)), PLAIN.with_overrides(if_input="r"), [1.0, 1.0])[0] == [2.0, 4.0]


def test_a_delay_is_counted_in_timesteps_for_each_element():
    node = nir.Delay(np.array([0.0, 1e-4, 3e-4]))
    x = np.arange(1, 6, dtype=float)[:, None, None] * np.ones((1, 1, 3))
    got = simulate(flat_graph(chain(node, (3,))), PLAIN, x).output["output"][:, 0]
    assert got.T.tolist() == [[1, 2, 3, 4, 5], [0, 1, 2, 3, 4], [0, 0, 0, 1, 2]]


def test_a_delay_between_two_timesteps_is_refused_or_rounded_as_said():
    graph = flat_graph(chain(nir.Delay(np.array([1.6e-4])), (1,)))
    x = np.array([1.0, 0, 0, 0]).reshape(-1, 1, 1)
    with pytest.raises(UnsupportedError, match=r"delay, expected multiples of dt = 0\.0001"):
        simulate(graph, PLAIN, x)
    for rounding, place in (("nearest", 2), ("down", 1), ("up", 2)):
        got = simulate(graph, PLAIN.with_overrides(delay_rounding=rounding), x).output["output"]
        assert got.ravel().argmax() == place


def test_threshold_is_a_spiking_node_without_state():
    trace = simulate(flat_graph(chain(nir.Threshold(full(1, 2)), (2,))), PLAIN, np.array([[[1.0, 1.5]]]))
    assert trace.spikes["n"].tolist() == [[[0, 1]]]


def torch_map(node: nir.NIRNode, x: np.ndarray) -> np.ndarray:
    value, weight = torch.from_numpy(x), torch.from_numpy(getattr(node, "weight", np.zeros(1)))
    if isinstance(node, (nir.Conv1d, nir.Conv2d)):
        call = torch.nn.functional.conv1d if isinstance(node, nir.Conv1d) else torch.nn.functional.conv2d
        padding = node.padding if isinstance(node.padding, str) else np.ravel(node.padding).tolist()
        more = {name: np.ravel(getattr(node, name)).tolist() for name in ("stride", "dilation")}
        groups = int(np.ravel(node.groups)[0])
        return call(value, weight, torch.from_numpy(node.bias), padding=padding, groups=groups, **more).numpy()
    kernel, stride, padding = (np.ravel(getattr(node, n)).tolist() for n in ("kernel_size", "stride", "padding"))
    mean = torch.nn.functional.avg_pool2d(value, kernel, stride, padding).numpy()
    return mean * np.prod(kernel) if isinstance(node, nir.SumPool2d) else mean


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("case", range(9))
def test_linear_maps_are_torchs(case):
    rng = np.random.default_rng(case)
    w2, w1, b = rng.normal(size=(4, 2, 3, 5)), rng.normal(size=(4, 2, 3)), rng.normal(size=4)
    node, shape = [
        (nir.Conv2d((9, 11), w2, (2, 1), (1, 3), (1, 2), 1, b), (2, 9, 11)),
        (nir.Conv2d((9, 11), w2, 1, "same", (2, 1), 2, b), (4, 9, 11)),
        (nir.Conv2d((9, 11), w2, (3, 2), "valid", 1, 1, b), (2, 9, 11)),
        (nir.Conv2d((9, 9), rng.normal(size=(4, 2, 4, 4)), 1, "same", 1, 1, b), (2, 9, 9)),
        (nir.Conv1d(12, w1, 2, 1, 2, 1, b), (2, 12)),
        (nir.Conv1d(12, w1, 1, "same", 1, 2, b), (4, 12)),
        (nir.SumPool2d(np.array([2, 3]), np.array([2, 1]), np.array([1, 1])), (2, 9, 11)),
        (nir.AvgPool2d(np.array([3, 2]), np.array([1, 2]), np.array([0, 1])), (2, 9, 11)),
        (nir.AvgPool2d(np.array([2, 2]), np.array([3, 3]), np.array([0, 0])), (3, 9, 9)),
    ][case]
    x = rng.normal(size=(3, *shape))
    got = linear_map("n", node, (), np.float64)(x)
    np.testing.assert_allclose(got, torch_map(node, x), rtol=0, atol=1e-12)


def test_affine_linear_scale_and_flatten_are_their_formulas():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(5, 3, 4)), rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2))
    got = linear_map("n", nir.Affine(weight, bias), (3, 2), np.float64)(x)
    np.testing.assert_allclose(got, (weight @ x[..., None])[..., 0] + bias, atol=1e-12)
    np.testing.assert_allclose(linear_map("n", nir.Linear(weight[0]), (2,), np.float64)(x[:, 0]), x[:, 0] @ weight[0].T)
    assert np.array_equal(linear_map("n", nir.Scale(x[0]), (3, 4), np.float64)(x), x * x[0])
    node = nir.Flatten(input_type={"input": np.array([3, 4])}, start_dim=0, end_dim=-1)
    assert np.array_equal(linear_map("n", node, (12,), np.float64)(x), x.reshape(5, 12))


def loop(bias: float) -> nir.NIRGraph:
    nodes = {
        "input": nir.Input(np.array([1])), "n": nir.IF(full(1), full(100)), "output": nir.Output(np.array([1])),
        "w": nir.Affine(np.array([[2.0]]), full(bias)),
    }  # fmt: skip
    return nir.NIRGraph(nodes, [("input", "n"), ("n", "w"), ("w", "n"), ("n", "output")], type_check=False)


def test_the_cut_of_a_cycle_decides_about_the_recurrent_bias_at_first():
    graph, x = flat_graph(loop(5.0)), np.zeros((3, 1, 1))
    contract = PLAIN.with_overrides(if_input="one")
    assert simulate(graph, contract, x, record=["v"]).v["n"].ravel().tolist() == [5, 10, 15]
    cut = contract.with_overrides(feedback_cut="after-synapse")
    assert simulate(graph, cut, x, record=["v"]).v["n"].ravel().tolist() == [0, 5, 10]


def test_a_recurrent_synapse_that_also_drives_what_is_outside_is_refused_where_only_its_cycle_is_late():
    graph = loop(0.0)
    graph.nodes["other"], graph.edges = nir.Output(np.array([1])), [*graph.edges, ("w", "other")]
    contract = PLAIN.with_overrides(feedback_cut="after-synapse")
    with pytest.raises(UnsupportedError, match="other: under contract loihi a recurrent synapse drives its cycle late"):
        simulate(flat_graph(graph), contract, np.zeros((2, 1, 1)))


def test_feedback_arrives_one_step_after_the_spike_or_with_it_where_spikes_leave_late():
    graph, x = flat_graph(loop(0.0)), np.array([101.0, 0, 0, 0]).reshape(-1, 1, 1)
    contract = PLAIN.with_overrides(if_input="one")
    assert simulate(graph, contract, x, record=["v"]).v["n"].ravel().tolist() == [0, 2, 2, 2]
    late = contract.with_overrides(output_lag=1, feedback_delay=0)
    trace = simulate(graph, late, x, record=["v"])
    assert (trace.spikes["n"].ravel().tolist(), trace.v["n"].ravel().tolist()) == ([0, 1, 0, 0], [0, 2, 2, 2])


def test_a_bias_that_acts_on_v_is_what_the_settled_current_would_give():
    graph, x = (
        flat_graph(weighed(nir.Affine(np.array([[1.0]]), full(0.2)), cuba(v_threshold=99))),
        np.zeros((200, 1, 1)),
    )
    through, direct = (
        simulate(graph, PLAIN.with_overrides(bias=bias), x, record=["v"]).v["n"].ravel()
        for bias in ("input", "voltage")
    )
    assert direct[0] == pytest.approx(0.4)
    assert through[0] == pytest.approx(0.2)
    assert through[-1] == pytest.approx(direct[-1])


def test_a_bias_that_acts_on_v_does_so_through_nodes_without_state():
    conv = nir.Conv2d((2, 2), np.ones((2, 1, 1, 1)), 1, 0, 1, 1, np.array([3.0, 5.0]))
    neuron = nir.CubaLIF(*(np.full(8, value) for value in (4e-4, 1e-2, 100.0, 0.0, 1e6, 0.0, 4.0)))
    between = {
        "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0, -1),
        "twice": nir.Affine(2 * np.eye(8), np.arange(8.0)),
    }  # fmt: skip
    nodes = {"input": nir.Input(np.array([1, 2, 2])), "c": conv, "n": neuron, "output": nir.Output(np.array([8]))}
    wires = [("input", "c"), ("c", "flat"), ("flat", "twice"), ("twice", "n"), ("n", "output")]
    contract = LOIHI.with_overrides(dt=1e-4)
    silence = np.zeros((2, 1, 1, 2, 2))
    graph = flat_graph(nir.NIRGraph(nodes | between, wires, type_check=False))
    v = simulate(graph, contract, silence, record=["v"]).v["n"][0, 0]
    assert v == pytest.approx(4 * (np.repeat([6.0, 10.0], 4) + np.arange(8)))
    wires.append(("flat", "output"))
    graph = flat_graph(nir.NIRGraph(nodes | between, wires, type_check=False))
    with pytest.raises(UnsupportedError, match=r":c: .*drives more than CubaLIF.*got n, output"):
        simulate(graph, contract, silence)


def test_a_current_that_never_settles_gives_a_bias_that_acts_on_v_no_value():
    graph = flat_graph(weighed(nir.Affine(np.array([[1.0]]), full(0.2)), cuba(tau_syn=1e20)))
    with pytest.raises(UnsupportedError, match=r":n: tau_syn is so long.*got 1e\+20; shorten it"):
        voltage_biases(graph, PLAIN.with_overrides(bias="voltage"))


def test_loihis_measured_states_come_out_of_the_rounding_toward_zero():
    """The NIR paper's neuron on its grid: weight 10 << 6, threshold 25 << 6, decay 1 - 163/4096; a chip probed it."""
    rows = np.array(list(csv.reader((DATA / "lif_lava_loihi_fixed.csv").read_text().splitlines())), float)
    node = lif(tau=4096 / 163, v_threshold=25 * 64)
    contract = PLAIN.with_overrides(dt=1.0, gain="one", state_rounding="toward-zero")
    spikes, v = run(node, contract, (rows[:, 0] * 640).tolist())
    spiking = rows[1:, 2] == 1  # Lava's synapse is one step late; the probe shows a marker of 128 while it spikes
    assert np.array_equal(np.array(spikes[:-1]) == 1, spiking)
    assert spiking.sum() == 4
    assert np.array_equal(np.array(v[:-1])[~spiking], rows[1:, 1][~spiking])


def test_several_inputs_and_outputs_go_by_name_and_fan_in_adds_up():
    nodes = {
        "left": nir.Input(np.array([2])), "right": nir.Input(np.array([2])), "s": nir.Scale(full(2, 2)),
        "sum": nir.Output(np.array([2])), "twice": nir.Output(np.array([2])),
    }  # fmt: skip
    edges = [("left", "s"), ("s", "twice"), ("s", "sum"), ("right", "sum")]
    graph = flat_graph(nir.NIRGraph(nodes, edges, type_check=False))
    left, right = np.ones((3, 2, 2)), np.full((3, 2, 2), 0.5)
    trace = simulate(graph, PLAIN, {"left": left, "right": right}, length=np.array([3, 1]))
    assert trace.output["sum"][:, 0].max() == trace.output["sum"][:, 0].min() == 2.5
    assert trace.readout["twice"].tolist() == [[6, 6], [2, 2]]
    for inputs, error in (
        (left, "several inputs"), ({"left": left}, "expected left, right"),
        ({"left": left, "right": right[:2]}, "differ"),
        ({"left": left, "right": right * np.nan}, "NaN"), ({"left": left, "right": right[..., :1]}, r"\[T, B, 2\]"),
    ):  # fmt: skip
        with pytest.raises(LavatubeError, match=error):
            simulate(graph, PLAIN, inputs)


def test_an_unstable_dt_is_refused_where_forward_euler_is_used():
    graph, x = flat_graph(chain(lif(tau=1e-5), (1,))), np.ones((2, 1, 1))
    with pytest.raises(UnsupportedError, match="n: dt is longer than a time constant: forward Euler is unstable"):
        simulate(graph, LOIHI, x)
    assert simulate(graph, LOIHI.with_overrides(decay="exponential"), x).spikes["n"].size == 2


REFUSED = [
    ("sinabs", cuba(), "sinabs has no CubaLIF"),
    ("snntorch", cuba(r=1.0), "expected r = tau_mem/dt"),
    ("snntorch", lif(v_leak=0.5), "expected v_leak = 0"),
    ("snntorch", nir.IF(full(2), full(1)), "expected r = 1"),
    ("snntorch", lif(v_threshold=0.0), "expected v_threshold > 0"),
    ("spikingjelly", lif(r=2.0), "expected r = 1 or r = tau/dt"),
    ("spikingjelly", nir.IF(full(1), full(1)), "expected r = 1/dt"),
    ("spikingjelly", cuba(w_in=1.0), "expected w_in = tau_syn/dt"),
    ("spikingjelly", lif(v_reset=0.5), "expected v_leak = v_reset"),
    ("norse", nir.LI(tau=full(1), r=full(1), v_leak=full(0)), "norse has no LI"),
    ("nengo", lif(r=2.0), "expected r = 1"),
    ("loihi", lif(v_reset=0.5), "expected v_reset = 0"),
    ("spyx", cuba(), "spyx has no CubaLIF"),
    ("lava", nir.Affine(np.ones((1, 1)), full(1)), "expected bias = 0"),
]


@pytest.mark.parametrize(("name", "node", "error"), REFUSED)
def test_what_a_platform_cannot_compute_is_refused_by_name(name, node, error):
    with pytest.raises(UnsupportedError, match=error):
        simulate(flat_graph(chain(node, (1,))), preset(name), np.ones((2, 1, 1)))


def test_recurrence_is_refused_where_the_platform_has_none():
    for name in ("sinabs", "nengo"):
        with pytest.raises(UnsupportedError, match=f"contract {name} has no recurrence"):
            simulate(flat_graph(loop(0.0)), preset(name).with_overrides(nodes=LOIHI.nodes), np.ones((2, 1, 1)))
    with pytest.raises(UnsupportedError, match="leaves out the bias of a recurrent synapse"):
        simulate(flat_graph(loop(1.0)), preset("spyx-1.0"), np.ones((2, 1, 1)))


def test_what_a_contract_leaves_out_of_a_file_is_listed():
    trace = simulate(flat_graph(chain(lif(r=3.0), (1,))), preset("norse").with_overrides(dt=1e-4), np.ones((1, 1, 1)))
    assert {"node": "n", "what": "LIF r is not used", "why": "norse takes r as 1"} in trace.meta["assumptions"]
    trace = simulate(flat_graph(chain(lif(v_reset=0.5), (1,))), preset("snntorch"), np.ones((1, 1, 1)))
    assert "LIF v_reset is not used" in [record["what"] for record in trace.meta["assumptions"]]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_steps_a_chain_of_affine_and_lif(name):
    graph = flat_graph(weighed(nir.Affine(np.array([[4.0]]), full(0)), lif()))
    trace = simulate(graph, preset(name).with_overrides(dt=1e-4), np.ones((20, 1, 1)))
    assert 0 < trace.spikes["n"].sum()
    assert trace.meta["contract"]["name"] == name
