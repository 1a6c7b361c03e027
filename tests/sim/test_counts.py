"""Counts equal an explicit list of connections, whatever the geometry, and keep the laws of counting."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.counts import Placement, count, load_counts, save_counts
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference


def connections(synapse):
    """[(from flat index, to flat index, weight)]: every stored connection, one by one."""
    if isinstance(synapse, DenseNode):
        return [(i, o, int(synapse.weight[o, i])) for o, i in np.ndindex(synapse.weight.shape)]
    found = []
    _, height, width = synapse.in_shape
    for o, y, x in np.ndindex(synapse.out_shape):
        for i, j, k in np.ndindex(synapse.weight.shape[1:]):
            yy, xx = y * synapse.stride[0] + j - synapse.padding[0], x * synapse.stride[1] + k - synapse.padding[1]
            if 0 <= yy < height and 0 <= xx < width:
                to = np.ravel_multi_index((o, y, x), synapse.out_shape)
                found.append((i * height * width + yy * width + xx, int(to), int(synapse.weight[o, i, j, k])))
    return found


def by_hand(program, trace):
    """Replay every event over the connection list."""
    rows, events = {}, trace.input
    for synapse, target in zip(program.synapses, program.targets, strict=True):
        table = connections(synapse)
        row = dict.fromkeys(("events_in", "synops_stored", "synops_nonzero", "synop_bits", "updates", "spikes_out"), 0)
        biased = target.bias_mant.reshape(-1) != 0 if isinstance(target, NeuronNode) else None
        for b in range(trace.batch):
            for t in range(int(trace.length[b])):
                late = t - synapse.delay
                now = events[late, b].reshape(-1) if late >= 0 else np.zeros(int(np.prod(synapse.in_shape)), int)
                reached = set()
                row["events_in"] += int((now != 0).sum())
                for i, o, w in table:
                    if now[i]:
                        row["synops_stored"] += 1
                        row["synops_nonzero"] += w != 0
                        row["synop_bits"] += int(now[i]).bit_length()
                        reached.add(o)
                if biased is not None:
                    row["updates"] += sum(o in reached or bool(biased[o]) for o in range(len(biased)))
                    row["spikes_out"] += int(trace.spikes[target.name][t, b].sum())
        rows[synapse.name] = row
        if isinstance(target, NeuronNode):
            events = trace.spikes[target.name]
    return rows


def random_program(seed):
    rng = np.random.default_rng(seed)

    def weight(*shape):
        return (rng.integers(-20, 20, shape) * rng.integers(0, 2, shape) * 2).astype(np.int16)

    def neurons(name, shape):
        bias = rng.integers(-300, 300, shape) * rng.integers(0, 2, shape)
        return NeuronNode(name, shape, 4095, 1000, int(rng.integers(1, 60)), bias.astype(np.int16), 2)

    kernel = tuple(int(k) for k in rng.integers(1, 4, 2))
    geometry = {
        "stride": tuple(int(s) for s in rng.integers(1, 4, 2)),
        "padding": tuple(int(p) for p in rng.integers(0, 3, 2)),
        "delay": int(rng.integers(0, 3)),
    }
    bits = int(rng.choice([1, 6]))
    conv = Conv2dNode("c", (2, 4, 5), weight(3, 2, *kernel), 8, -1, **geometry)
    first = neurons("c_lif", conv.out_shape)
    dense = DenseNode("d", conv.out_shape, weight(4, int(np.prod(conv.out_shape))), 8, -1)
    second = neurons("d_lif", (4,))
    last = DenseNode("e", (4,), weight(3, 4), 8, -1, delay=1)
    nodes = (
        InputNode("input", (2, 4, 5), bits),
        conv,
        first,
        dense,
        second,
        last,
        ReadoutNode("o", np.zeros(3, np.int64)),
    )
    names = [node.name for node in nodes]
    edges = tuple(pairwise(names))
    return LoihiProgram(nodes, edges, 4, {}, overflow="hardware")


def run_on(program, seed, steps=4, batch=3, **more):
    rng = np.random.default_rng(seed)
    shape = (steps, batch, 2, 4, 5)
    events = rng.integers(0, program.input.max_value + 1, shape) * (rng.random(shape) < 0.4)
    return run_reference(program, make_inputs(events, program.input, default_steps=steps, **more))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), lengths=st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_counts_equal_a_replay_over_explicit_connections(seed, lengths):
    program = random_program(seed)
    trace = run_on(program, seed, length=np.array(lengths))
    counts = count(program, trace)
    for name, row in by_hand(program, trace).items():
        assert {term: getattr(counts.layers[name], term) for term in row} == row
    neurons = sum(node.bias_mant.size for node in program.neurons)
    assert counts.total.neuron_accesses == neurons * sum(lengths)
    assert counts.total.host_additions == 3 * sum(lengths)


def test_silence_costs_accesses_and_nothing_else():
    program = random_program(3)
    nodes = tuple(
        replace(node, bias_mant=np.zeros(node.shape, np.int16)) if isinstance(node, NeuronNode) else node
        for node in program.nodes
    )
    program = replace(program, nodes=nodes)
    inputs = make_inputs(np.zeros((4, 2, 2, 4, 5), int), program.input, default_steps=4)
    total = count(program, run_reference(program, inputs)).total
    assert total.neuron_accesses == total.idles > 0
    assert (total.events_in, total.synops_stored, total.updates, total.spikes_out) == (0, 0, 0, 0)


def test_events_into_a_layer_are_the_spikes_of_the_one_before():
    program = random_program(5)
    program = replace(program, nodes=tuple(replace(n, delay=0) if hasattr(n, "delay") else n for n in program.nodes))
    counts = count(program, run_on(program, 6)).layers
    assert counts["d"].events_in == counts["c"].spikes_out
    assert counts["e"].events_in == counts["d"].spikes_out


def test_counts_add_over_samples():
    program = random_program(7)
    trace = run_on(program, 8, batch=4)

    def part(rows):
        spikes = {name: value[:, rows] for name, value in trace.spikes.items()}
        return count(
            program,
            replace(
                trace,
                inputs={"input": trace.input[:, rows]},
                spikes=spikes,
                readouts={"o": trace.readout[rows]},
                length=trace.length[rows],
            ),
        )

    a, b, whole = part(slice(0, 1)), part(slice(1, 4)), count(program, trace)
    for name, layer in whole.layers.items():
        for term in ("events_in", "synops_stored", "updates", "spikes_out", "neuron_accesses"):
            assert getattr(a.layers[name], term) + getattr(b.layers[name], term) == getattr(layer, term)


def test_chunks_of_samples_change_no_count(monkeypatch):
    program = random_program(9)
    trace = run_on(program, 10, batch=5)
    whole = count(program, trace)
    monkeypatch.setattr("lavatube.sim.counts.steps.AT_ONCE", 1)
    assert count(program, trace) == whole


def test_counts_survive_their_file_and_a_broken_one_is_refused(tmp_path):
    counts = count(random_program(1), run_on(random_program(1), 1))
    save_counts(counts, tmp_path / "counts.json")
    assert load_counts(tmp_path / "counts.json") == counts
    text = (tmp_path / "counts.json").read_text()
    for old, new in [
        ('"kind": "counts"', '"kind": "energy"'), ('"samples": 3', '"samples": -3'), ("{", "["),
        ('"samples": 3', '"samples": 4'), ('"updates": ', '"updates": 9'), ('"traffic": null', '"traffic": 7'),
    ]:  # fmt: skip
        (tmp_path / "bad.json").write_text(text.replace(old, new, 1))
        with pytest.raises(LavatubeError, match=r"bad\.json"):
            load_counts(tmp_path / "bad.json")


def without_a_term(value):
    del value["per_sample"]["updates"]


def with_more_graded_than_stored(value):
    value["per_sample"] = {}
    more = value["layers"][0]["synops_stored"] + 1 - value["layers"][0]["graded_stored"]
    for row in (value["layers"][0], value["total"]):
        row["graded_stored"] += more


def with_too_large_a_count(value):
    value["per_sample"] = {}
    for row in (value["layers"][0], value["total"]):
        row["synops_dense"] = 10**330


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_term, "not all terms: updates"),
        (with_more_graded_than_stored, "more graded_stored than synops_stored"),
        (with_too_large_a_count, "expected a count up to"),
        (lambda value: value.update(samples=10**400), "expected a count up to"),
        (lambda value: value["layers"].append(value["layers"][-1]), "layers"),
        (lambda value: value["layers"][0].update(colour=1), "layers"),
        (lambda value: value["layers"][0].update(idles=10**6), "layers"),
        (lambda value: value["total"].update(resets=10**6), "total"),
        (lambda value: value.update(barriers=10**6), "barriers"),
        (lambda value: value.update(colour="red"), "colour"),
        (lambda value: value.update(graded_input="no"), "graded_input"),
        (lambda value: value.update(program_sha256=7), "malformed counts"),
        (lambda value: value.update(program_sha256="zz"), "program_sha256"),
    ],
)
def test_a_counts_file_that_contradicts_itself_is_refused(tmp_path, change, words):
    save_counts(count(random_program(1), run_on(random_program(1), 1)), tmp_path / "counts.json")
    value = json.loads((tmp_path / "counts.json").read_text())
    change(value)
    (tmp_path / "bad.json").write_text(json.dumps(value))
    with pytest.raises(LavatubeError, match=rf"bad\.json.*{words}"):
        load_counts(tmp_path / "bad.json")


def test_a_trace_of_another_program_is_refused(small_program, random_inputs):
    other = small_program(1)
    with pytest.raises(LavatubeError, match="not one of this program"):
        count(random_program(1), run_reference(other, random_inputs(other)))


@pytest.mark.parametrize(("kind", "value"), [("spikes", 7), ("spikes", -1), ("inputs", 256)])
def test_events_that_the_program_cannot_emit_are_not_counted(kind, value):
    program = random_program(3)
    trace = run_on(program, 3)
    name, events = list(getattr(trace, kind).items())[-1]
    changed = events.astype(np.int32)
    changed[-1, -1].flat[-1] = value
    with pytest.raises(LavatubeError, match=f"{name}.*expected events"):
        count(program, replace(trace, **{kind: {**getattr(trace, kind), name: changed}}))


@pytest.mark.parametrize("seed", range(12))
def test_the_engines_give_equal_counts_of_every_term_and_sample(seed, random_case):
    program, inputs = random_case(seed)
    reference, fast = run_reference(program, inputs), run_fast(program, inputs)
    assert count(program, reference) == count(program, fast)
    place = Placement(
        {node.name: np.arange(int(np.prod(node.shape))) % 3 for node in program.neurons},
        np.array([[0, 0], [0, 0], [1, 2]]), np.zeros(3, np.int64),
    )  # fmt: skip
    assert count(program, reference, place) == count(program, fast, place)


def test_counts_of_parts_add_up_to_those_of_the_whole_and_two_programs_do_not_add():
    program = random_program(7)
    inputs = make_inputs(run_on(program, 8, batch=5).input, program.input, default_steps=4)
    parts = [count(program, run_reference(program, inputs.samples(stop, start))) for start, stop in ((0, 2), (2, 5))]
    assert parts[0] + parts[1] == count(program, run_reference(program, inputs))
    other = random_program(1)
    with pytest.raises(LavatubeError, match="counts of two programs do not add"):
        parts[0] + count(other, run_on(other, 1))


def test_per_sample_counts_sum_to_the_totals():
    program = random_program(11)
    counts = count(program, run_on(program, 12, batch=4, length=np.array([4, 0, 2, 3])))
    for term, values in counts.per_sample.items():
        assert len(values) == 4
        assert sum(values) == getattr(counts.total, term)
        assert values[1] == 0


def test_connections_of_weight_zero_are_stored_but_not_non_zero():
    program = random_program(13)
    dense = program.by_name["d"]
    weight = np.array(dense.weight)
    weight[:, ::2] = 0
    zeroed = replace(program, nodes=tuple(replace(n, weight=weight) if n.name == "d" else n for n in program.nodes))
    trace = run_on(program, 14)
    meta = {key: value for key, value in trace.meta.items() if key != "program_sha256"}
    before, after = (count(p, replace(trace, meta=meta)).layers["d"] for p in (program, zeroed))
    assert (before.synops_stored, before.updates) == (after.synops_stored, after.updates)
    assert before.synops_nonzero > after.synops_nonzero


def test_renumbering_the_neurons_of_a_layer_changes_no_total():
    program = random_program(15)
    order = np.random.default_rng(0).permutation(4)
    change = {
        "d": {"weight": program.by_name["d"].weight[order]},
        "d_lif": {"bias_mant": program.by_name["d_lif"].bias_mant[order]},
        "e": {"weight": program.by_name["e"].weight[:, order]},
    }
    other = replace(program, nodes=tuple(replace(n, **change.get(n.name, {})) for n in program.nodes))
    assert count(program, run_on(program, 16)).layers == count(other, run_on(other, 16)).layers


def test_doubling_the_events_in_a_recording_of_two_samples_doubles_what_counts_events_only():
    program = random_program(17)
    trace = run_on(program, 18, batch=2)
    twice = make_inputs(np.concatenate([trace.input, trace.input], 1), program.input, default_steps=4)
    one, two = count(program, trace), count(program, run_reference(program, twice))
    assert two.layers == {name: layer + layer for name, layer in one.layers.items()}
    assert two.host_bytes_in == 2 * one.host_bytes_in
    assert two.weight_bits == one.weight_bits


def test_every_event_makes_a_message_for_each_core_that_it_reaches_and_hops_only_between_tiles():
    program = random_program(31)
    sizes = {node.name: int(np.prod(node.shape)) for node in program.neurons}
    trace = run_on(program, 32)
    one = Placement(
        {name: np.zeros(size, int) for name, size in sizes.items()}, np.zeros((1, 2), int), np.zeros(1, int)
    )
    two = Placement(
        {name: np.arange(size) % 2 for name, size in sizes.items()}, np.array([[0, 0], [3, 1]]), np.zeros(2, int)
    )
    alone, apart = (count(program, trace, place).traffic for place in (one, two))
    counts = count(program, trace)
    reaching = counts.layers["d"].events_in  # the read-out is on no core
    assert alone.messages - alone.messages_host == alone.messages_local == reaching
    assert (alone.hops_x, alone.hops_y, alone.cores, alone.tiles) == (0, 0, 1, 1)
    assert apart.messages >= alone.messages
    assert apart.hops_x == 3 * apart.hops_y > 0
    assert apart.messages == apart.messages_host + apart.messages_local + apart.hops_y


def test_host_bytes_are_four_for_each_event_in_and_each_event_that_the_host_reads():
    program = random_program(33)
    trace = run_on(program, 34, length=np.array([4, 1, 0]))
    counts = count(program, trace)
    assert counts.host_bytes_in == 4 * counts.layers["c"].events_in > 0
    assert counts.host_bytes_out == 4 * counts.layers["d"].spikes_out > 0
    assert counts.barriers == 5
    assert counts.weight_bits == {name: program.by_name[name].weight.size * 8 for name in "cde"}


def test_an_integrator_fires_as_often_as_its_charge_holds_thresholds():
    """Bias b in 1/64 a step, threshold v, soft reset, strictly above: ceil(b T / 64 v) - 1 spikes while b <= 64 v."""
    for bias, vth, steps in [(100, 7, 50), (64, 1, 20), (448, 7, 9), (447, 7, 30), (1, 1, 64)]:
        neuron = NeuronNode("n", (1,), 4095, 0, vth, np.array([bias], np.int16), 0, reset="subtract")
        nodes = (
            InputNode("input", (1,), 1), DenseNode("d", (1,), np.full((1, 1), 2, np.int16), 8, 0), neuron,
            ReadoutNode("o", np.zeros(1, np.int64), "spikes"),
        )  # fmt: skip
        program = LoihiProgram(nodes, (("input", "d"), ("d", "n"), ("n", "o")), steps, {}, overflow="hardware")
        inputs = make_inputs(np.zeros((steps, 1, 1), int), program.input, default_steps=steps)
        layer = count(program, run_reference(program, inputs)).layers["d"]
        assert layer.spikes_out == max(-(-bias * steps // (64 * vth)) - 1, 0), (bias, vth, steps)
        assert layer.updates == steps
