"""Each fault that an engine could have is named first, from the traces and the program alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lavatube import fixed_point, neuron_step
from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.explain import causes
from lavatube.sim.explain.explain import explain
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

STEPS, BATCH = 12, 6
HIDDEN = {"du": 1500, "dv": 400, "vth": 300, "reset": "zero"}


def network(synapse=None, readout=None, weight_exp=-1, delay=0, **neuron):
    """12 graded inputs -> 10 leaky neurons with biases -> 6 neurons -> 3 classes."""
    rng = np.random.default_rng(7)

    def weights(*shape):
        return (rng.integers(-40, 60, shape) * 2).astype(np.int16)

    settings = HIDDEN | neuron
    bias = settings.pop("bias", rng.integers(-200, 300, 10).astype(np.int16))
    into = synapse or DenseNode("into_hidden", (12,), weights(10, 12), 8, weight_exp, delay)
    shape = into.out_shape
    nodes = (
        InputNode("input", into.in_shape, 4),
        into,
        NeuronNode("hidden", shape, bias_mant=np.resize(bias, shape), bias_exp=settings.pop("bias_exp", 2), **settings),
        DenseNode("into_second", shape, weights(6, int(np.prod(shape))), 8, 0),
        NeuronNode("second", (6,), 4095, 0, 90, np.zeros(6, np.int16), 0),
        readout or DenseNode("into_output", (6,), weights(3, 6), 8, 0),
        ReadoutNode("output", np.array([5, -3, 40])),
    )
    names = [node.name for node in nodes]
    return LoihiProgram(nodes, tuple(pairwise(names)), STEPS, {"kind": "test", "sha256": ""}, overflow="hardware")


def trace_of(program, run=run_reference, *, record="uv", top=8, busy=0.5, batch=BATCH):
    rng = np.random.default_rng(3)
    shape = (STEPS, batch, *program.input.shape)
    value = rng.integers(0, top, shape) * (rng.random(shape) < busy)
    inputs = make_inputs(value, program.input, default_steps=STEPS)
    return run(program, inputs, record=frozenset(record))


def with_node(program, name, **change):
    return replace(program, nodes=tuple(replace(n, **change) if n.name == name else n for n in program.nodes))


def named(program, faulty, **options):
    """(layer, the rule that is named first, neurons that it reproduces, neurons) of the second side."""
    found = explain(program, trace_of(program, run_fast, **options), faulty)
    assert found.sides[0].follows
    assert not found.sides[1].follows
    first = found.sides[1].causes[0]
    return found.layer, first.rule, first.neurons == found.neurons


def test_equal_traces_need_no_explanation():
    program = network()
    assert explain(program, trace_of(program, run_fast), trace_of(program)) is None


CHANGES = {
    "reset by subtraction": {"reset": "subtract"},
    "threshold one higher": {"vth": 301},
    "threshold one lower": {"vth": 299},
    "dv one higher": {"dv": 401},
    "dv one lower": {"dv": 399},
    "du without the chip's one": {"du": 1499},
    "du one higher": {"du": 1501},
    "one more step of rest": {"refractory": 1},
    "bias without exponent": {"bias_exp": 0},
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_changed_setting_of_the_neurons_is_named(rule):
    program = network()
    assert named(program, trace_of(with_node(program, "hidden", **CHANGES[rule]))) == ("hidden", rule, True)


@pytest.mark.parametrize("rule", ["reset by subtraction", "one more step of rest", "bias without exponent"])
def test_spikes_alone_leave_few_rules_and_the_right_one_is_among_them(rule):
    program = network()
    honest, faulty = (trace_of(p, record="") for p in (program, with_node(program, "hidden", **CHANGES[rule])))
    side = explain(program, honest, faulty).sides[1]
    best = [cause.rule for cause in side.causes if cause.neurons == side.causes[0].neurons]
    assert rule in best
    assert len(best) <= 2
    assert side.state == "not recorded"


def test_a_missing_or_doubled_bias_is_named():
    program = network()
    bias = program.by_name["hidden"].bias_mant
    for rule, changed in (("missing bias", bias * 0), ("doubled bias", bias * 2), ("bias of the other sign", -bias)):
        faulty = trace_of(with_node(program, "hidden", bias_mant=changed))
        assert named(program, faulty) == ("hidden", rule, True)


def test_one_changed_bias_is_named_with_its_value():
    program = network()
    bias = program.by_name["hidden"].bias_mant.copy()
    bias[4] += 16
    found = explain(program, trace_of(program, run_fast), trace_of(with_node(program, "hidden", bias_mant=bias)))
    assert found.neuron == (4,)
    assert found.sides[1].causes[0].says == f"has the bias mantissa {bias[4]} instead of {bias[4] - 16} at this neuron"


@pytest.mark.parametrize(("delay", "rule"), [(3, "input one step late"), (1, "input one step early")])
def test_a_delay_that_is_off_by_one_is_named(delay, rule):
    assert named(network(delay=2), trace_of(network(delay=delay))) == ("hidden", rule, True)


@pytest.mark.parametrize("bit", range(1, 8))
def test_a_flipped_weight_bit_is_named_with_its_place(bit):
    program = network(weight_exp=-2)
    weight = program.by_name["into_hidden"].weight.copy()
    before = int(weight[5, 3])
    weight[5, 3] ^= 1 << bit
    faulty = trace_of(with_node(program, "into_hidden", weight=weight))
    found = explain(program, trace_of(program, run_fast), faulty)
    cause = found.sides[1].causes[0]
    assert (found.layer, found.neuron) == ("hidden", (5,))
    assert cause.says == f"has {weight[5, 3]} instead of {before} at weight [5, 3] of into_hidden"
    assert cause.neurons == 10


def test_weights_of_one_bit_less_are_named():
    program = network()
    weight = program.by_name["into_hidden"].weight
    for rule, changed in (
        ("weights one bit shorter, down", weight // 4 * 4),
        ("weights one bit shorter, to zero", np.sign(weight) * (np.abs(weight) // 4 * 4)),
    ):
        faulty = trace_of(with_node(program, "into_hidden", weight=changed.astype(np.int16)))
        assert named(program, faulty) == ("hidden", rule, True)


def test_a_kernel_applied_the_other_way_round_is_named():
    weight = (np.random.default_rng(1).integers(-40, 60, (2, 1, 3, 3)) * 2).astype(np.int16)
    program = network(synapse=Conv2dNode("into_hidden", (1, 6, 6), weight, 8, -1, padding=(1, 1)))
    faulty = trace_of(with_node(program, "into_hidden", weight=np.ascontiguousarray(weight[..., ::-1, ::-1])))
    assert named(program, faulty) == ("hidden", "weights turned", True)
    weight = weight.copy()
    weight[1, 0, 2, 1] += 32
    layer, cause, whole = named(program, trace_of(with_node(program, "into_hidden", weight=weight)))
    assert (layer, cause, whole) == ("hidden", "one changed weight", True)


def test_events_cut_to_bits_are_named():
    program = network()
    rng_trace = trace_of(program, run_fast)
    faulty = run_reference(
        program, make_inputs(np.minimum(rng_trace.input, 1), program.input, default_steps=STEPS), record=frozenset("uv")
    )
    assert named(program, replace(faulty, inputs=rng_trace.inputs)) == ("hidden", "events as bits", True)


def test_a_comparator_that_fires_on_the_threshold_is_named(monkeypatch):
    program = network(du=4095, dv=0, bias=np.zeros(10, np.int16), weight_exp=0, vth=100)
    monkeypatch.setattr(
        neuron_step, "emitted", lambda node, v, balance: (v >= node.vth << 6).astype(np.int64) * (v > 0)
    )
    assert named(program, trace_of(program)) == ("second", "comparator", True)
    assert named(program, trace_of(program, record=""), record="") == ("second", "comparator", True)


@pytest.mark.parametrize(
    ("rule", "round_u", "round_v"),
    [("both decays rounded down", 1, 1), ("decay of v rounded down", 0, 1), ("decay of u rounded down", 1, 0)],
)
def test_floor_for_truncation_in_a_decay_is_named(monkeypatch, rule, round_u, round_v):
    program, honest = network(), fixed_point.decay

    def floored(state, constant, offset=0):
        return (
            (state * (4096 - constant - offset)) >> 12
            if (round_u if offset else round_v)
            else honest(state, constant, offset=offset)
        )

    monkeypatch.setattr(fixed_point, "decay", floored)
    assert named(program, trace_of(program)) == ("hidden", rule, True)


def test_truncation_for_floor_of_the_sums_is_named(monkeypatch):
    def truncating(value, exponent):
        return value << exponent if exponent >= 0 else np.sign(value) * (np.abs(value) >> -exponent)

    program = network(weight_exp=-3)
    monkeypatch.setattr(fixed_point, "shift", truncating)
    assert named(program, trace_of(program)) == ("hidden", "shift toward zero", True)


def test_overflow_that_wraps_or_saturates_where_it_must_not_is_named(monkeypatch):
    program = network(vth=131071, dv=0, du=0, weight_exp=7)
    with monkeypatch.context() as patch:
        patch.setattr(fixed_point, "saturate_voltage", lambda v: (v + 2**23) % 2**24 - 2**23)
        assert named(program, trace_of(program)) == ("hidden", "v wraps", True)
    with monkeypatch.context() as patch:
        patch.setattr(fixed_point, "wrap_current", lambda u: np.clip(u, -(2**23) + 1, 2**23 - 1))
        assert named(program, trace_of(program)) == ("hidden", "u saturates", True)


@pytest.mark.parametrize("rule", ["no reset", "late reset", "v before its reset"])
def test_a_reset_that_is_missing_or_late_is_named(monkeypatch, rule):
    program, honest = network(), neuron_step.step
    spiked = {}

    def faulty(node, state, activation, t):
        spiked_before = spiked.get(node.name, np.zeros_like(state.v))
        if rule == "v before its reset":
            state = replace(state, v=np.where(spiked_before != 0, 0, state.v))
        integrated = honest(replace(node, output="none"), state, activation, t)[0].v
        after, events = honest(node, state, activation, t)
        v = np.where(spiked_before != 0, 0, integrated) if rule == "late reset" else integrated
        spiked[node.name] = events.events
        return replace(after, v=v), events

    monkeypatch.setattr("lavatube.sim.reference.step", faulty)
    assert named(program, trace_of(program)) == ("hidden", rule, True)


def test_a_fault_of_the_read_out_is_named():
    program = network()
    for rule, change in (
        ("missing bias", {"bias": np.zeros(3, np.int64)}),
        ("doubled bias", {"bias": np.array([10, -6, 80])}),
    ):
        assert named(program, trace_of(with_node(program, "output", **change))) == ("output", rule, True)
    weight = program.by_name["into_output"].weight.copy()
    weight[1, 3] ^= 16
    faulty = trace_of(with_node(program, "into_output", weight=weight))
    assert named(program, faulty) == ("output", "one changed weight", True)


def test_a_fault_in_the_second_layer_is_found_there_and_the_first_agrees():
    program = network()
    found = explain(program, trace_of(program, run_fast), trace_of(with_node(program, "second", dv=1)))
    assert (found.layer, found.sides[1].causes[0].rule) == ("second", "dv one higher")
    assert [(up.layer, up.equal) for up in found.upstream] == [("hidden", True)]


def test_a_fault_that_no_rule_gives_is_said_to_be_unexplained():
    program = network()
    honest = trace_of(program, run_fast)
    spikes = {name: value.copy() for name, value in honest.spikes.items()}
    spikes["hidden"][5:9, 0, 2] ^= 1
    found = explain(program, honest, replace(honest, spikes=spikes, meta={**honest.meta, "engine": "odd"}))
    assert found.sides[1].causes == ()
    assert "none of" in found.verdict
    assert found.step == 5


def test_a_trace_of_another_program_is_refused():
    program = network()
    honest = trace_of(program, run_fast)
    other = network(synapse=DenseNode("into_hidden", (12,), np.zeros((4, 12), np.int16), 8, 0))
    faulty = trace_of(with_node(program, "hidden", vth=310))
    with pytest.raises(LavatubeError, match="not of this program"):
        explain(other, honest, faulty)


def test_a_rule_that_gives_one_neuron_but_not_its_layer_is_not_called_the_cause():
    program = network()
    weight = program.by_name["into_hidden"].weight.copy()
    honest = trace_of(program, run_fast)
    for row in range(4):
        weight[row, 3] ^= 64
    changed = trace_of(with_node(program, "into_hidden", weight=weight))
    found = explain(program, honest, changed)
    assert "no rule gives its layer: that it has" in found.verdict
    assert "reproduces this neuron, but 7 of 10 neurons of the layer, 6 by the definition" in found.verdict
    bias = np.maximum(program.by_name["hidden"].bias_mant, 1)
    program, doubled = with_node(program, "hidden", bias_mant=bias), 2 * bias
    doubled[9] += 16
    found = explain(program, trace_of(program, run_fast), trace_of(with_node(program, "hidden", bias_mant=doubled)))
    assert "adds the bias twice: that reproduces 9 of 10 neurons of the layer," in found.verdict
    assert "1 other it does not explain." in found.verdict


def test_rules_that_a_few_samples_do_not_tell_apart_are_tried_on_all_and_the_rest_is_counted(monkeypatch):
    program = network()
    weight = program.by_name["into_output"].weight.copy()
    weight[1, 2] -= 6
    says = f"has {weight[1, 2]} instead of {weight[1, 2] + 6} at weight [1, 2] of into_output"
    changed = with_node(program, "into_output", weight=weight)
    few = explain(program, trace_of(program, run_fast, batch=1), trace_of(changed, batch=1))
    many = explain(program, trace_of(program, run_fast, batch=40), trace_of(changed, batch=40))
    assert (few.checked, many.checked, len(many.samples)) == (1, 40, 4)
    assert [cause.says for cause in many.sides[1].causes] == [says]
    side = few.sides[1]
    assert len(side.causes) + side.more > 5
    assert f"; and {len(side.causes) + side.more - 4} more." in few.verdict
    monkeypatch.setattr(causes, "KEPT", 3)
    few = explain(program, trace_of(program, run_fast, batch=1), trace_of(changed, batch=1))
    assert f" {len(side.causes) + side.more - 3} further rules give this neuron;" in few.verdict


@pytest.mark.parametrize(("neuron", "by"), [(1, 3), (2, -40)])
def test_one_changed_bias_of_a_read_out_is_named_with_its_value(neuron, by):
    program = network()
    bias = np.array([5, -3, 40])
    bias[neuron] += by
    found = explain(program, trace_of(program, run_fast), trace_of(with_node(program, "output", bias=bias)))
    assert found.neuron == (neuron,)
    says = f"has the bias {bias[neuron]} instead of {bias[neuron] - by} at this class"
    assert says in [cause.says for cause in found.sides[1].causes]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dv": 900}, "leaks v by dv 900 instead of 400"),
        ({"du": 1300}, "decays u by the du 1300 instead of 1500"),
        ({"vth": 307}, "compares with the threshold 307 instead of 300"),
    ],
)
@pytest.mark.parametrize("record", ["uv", ""])
def test_a_setting_that_is_off_by_more_than_one_is_named(change, says, record):
    program = network()
    honest = trace_of(program, run_fast, record=record)
    found = explain(program, honest, trace_of(with_node(program, "hidden", **change), record=record))
    side = found.sides[1]
    if record:
        assert says in [cause.says for cause in side.causes]
    name = {"vth": "threshold"}.get(*change, *change)
    assert side.causes[0].rule == f"another {name}"
    assert side.causes[0].neurons > side.neurons_by_definition
