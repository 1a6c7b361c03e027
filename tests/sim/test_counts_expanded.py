"""Counts equal a replay over connections that are written out one by one, per layer, core and timestep."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from expanded import connections

from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.program import Conv2dNode, DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.counts import Placement, count, count_cores, count_steps, layer_name
from lavatube.sim.reference import run_reference

SEEDS = range(0, 36)


def matrices(synapse):
    """(stored, nonzero), each [out, in] of 0 and 1."""
    stored = np.zeros((int(np.prod(synapse.out_shape)), int(np.prod(synapse.in_shape))), np.int64)
    nonzero = np.zeros_like(stored)
    for source, to, weight in connections(synapse):
        stored[to, source] += 1
        nonzero[to, source] += weight != 0
    assert stored.max() == 1
    return stored, nonzero


def arrivals(program, synapse, trace):
    """[T, B, in] events at the synapse: late by its lag, none beyond the sample's length."""
    source, lag = program.source_of(synapse), program.lag(synapse)
    sent = trace.inputs[source.name] if isinstance(source, InputNode) else trace.spikes[source.name]
    sent = sent.reshape(*sent.shape[:2], -1).astype(np.int64)
    found = np.zeros_like(sent)
    for b in range(trace.batch):
        for t in range(int(trace.length[b])):
            if t >= lag:
                found[t, b] = sent[t - lag, b]
    return found


def replay(program, trace):
    """{layer: {term: [T, B]}}"""
    rows = {}
    for target in program.targets:
        row = rows.setdefault(layer_name(program, target), {})
        shape = (trace.num_steps, trace.batch)
        within = np.arange(trace.num_steps)[:, None] < trace.length[None]
        neuron = isinstance(target, NeuronNode)
        reached = np.zeros((*shape, int(np.prod(target.shape))), bool)
        names = ("events_in", "synops_stored", "synops_nonzero", "synop_bits", "graded_stored", "graded_nonzero")
        row |= {term: np.zeros(shape, np.int64) for term in (*names, "synops_dense")}
        for synapse in program.inbound(target):
            stored, nonzero = matrices(synapse)
            here = arrivals(program, synapse, trace)
            fired = (here != 0).astype(np.int64)
            bits = np.vectorize(lambda value: int(value).bit_length(), otypes=[np.int64])(here)
            terms = {
                "events_in": fired.sum(-1),
                "synops_stored": (fired @ stored.T).sum(-1),
                "synops_nonzero": (fired @ nonzero.T).sum(-1),
                "synop_bits": (bits @ stored.T).sum(-1),
                "synops_dense": within * stored.sum(),
            }
            if max(program.source_of(synapse).event_range) > 1:
                terms |= {"graded_stored": terms["synops_stored"], "graded_nonzero": terms["synops_nonzero"]}
            for term, values in terms.items():
                row[term] = row[term] + values
            reached |= (fired @ stored.T) > 0
        if neuron:
            reached |= target.bias_mant.reshape(-1) != 0
            row["updates"] = (reached & within[..., None]).sum(-1)
            spikes = trace.spikes[target.name].reshape(*shape, -1) != 0
            row["spikes_out"] = (spikes & within[..., None]).sum(-1)
            row["neuron_accesses"] = within * reached.shape[-1]
            anew = [t == 0 or (target.reset_interval and t % target.reset_interval == target.reset_offset)
                    for t in range(trace.num_steps)]  # fmt: skip
            row["resets"] = within * np.array(anew)[:, None] * reached.shape[-1]
    return rows


def placement_of(program, seed, *, chips=1):
    """Every neuron on a random core of a small grid."""
    rng = np.random.default_rng(seed)
    cores = 5
    core_of = {node.name: rng.integers(0, cores, int(np.prod(node.shape))) for node in program.neurons}
    tile = rng.integers(0, 3, (cores, 2))
    return Placement(core_of, tile, rng.integers(0, chips, cores))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_term_of_every_timestep_equals_the_replay(seed, random_case):
    program, inputs = random_case(seed)
    trace = run_reference(program, inputs)
    found = count_steps(program, trace)
    for layer, row in replay(program, trace).items():
        for term, values in row.items():
            np.testing.assert_array_equal(found[layer][term], values, err_msg=f"{layer} {term}")
    total = count(program, trace).layers
    assert {name: row.synops_stored for name, row in total.items()} == {
        name: int(row["synops_stored"].sum()) for name, row in found.items()
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_every_core_and_message_equals_the_replay(seed, random_case):
    program, inputs = random_case(seed)
    length = np.random.default_rng(seed).integers(0, inputs.num_steps + 1, inputs.batch)
    inputs = make_inputs(inputs.by_name, program.inputs, default_steps=inputs.num_steps, length=length)
    trace = run_reference(program, inputs)
    place = placement_of(program, seed, chips=1 + seed % 2)
    activity = count_cores(program, trace, place)
    cores, shape = len(place.tile), (trace.num_steps, trace.batch)
    within = np.arange(trace.num_steps)[:, None] < trace.length[None]
    synops, into = np.zeros((*shape, cores), int), np.zeros((*shape, cores), int)
    out, hops, messages, local, away = np.zeros((*shape, cores), int), np.zeros(2, int), 0, 0, 0
    links = {}
    for source in program.sources:
        synapses = [synapse for synapse in program.synapses if program.source_of(synapse).name == source.name]
        reach = np.zeros((cores, int(np.prod(source.shape))), bool)
        for synapse in synapses:
            target = dict(edge for edge in program.edges if edge[0] == synapse.name)[synapse.name]
            if target not in place.core_of:
                continue
            stored, _ = matrices(synapse)
            fired = (arrivals(program, synapse, trace) != 0).astype(np.int64)
            for core in range(cores):
                part = stored[place.core_of[target] == core]
                synops[..., core] += (fired @ part.T).sum(-1)
                reach[core] |= part.any(0)
        sent = trace.inputs[source.name] if isinstance(source, InputNode) else trace.spikes[source.name]
        fired = (sent.reshape(*shape, -1) != 0) & within[..., None]
        for t, b, neuron in zip(*np.nonzero(fired), strict=True):
            for core in np.flatnonzero(reach[:, neuron]):
                messages += 1
                into[t, b, core] += 1
                if isinstance(source, InputNode):
                    continue
                home = place.core_of[source.name][neuron]
                out[t, b, home] += 1
                if place.chip[home] != place.chip[core]:
                    away += 1
                    continue
                step = np.abs(place.tile[core] - place.tile[home])
                hops += step
                local += not step.any()
                here = place.tile[home].copy()
                for axis in (0, 1):
                    while here[axis] != place.tile[core][axis]:
                        before = tuple(here)
                        here[axis] += np.sign(place.tile[core][axis] - here[axis])
                        key = (t, b, place.chip[home], before, tuple(here))
                        links[key] = links.get(key, 0) + 1
    np.testing.assert_array_equal(activity.synops, synops)
    np.testing.assert_array_equal(activity.messages_in, into)
    np.testing.assert_array_equal(activity.messages_out, out)
    busiest = np.zeros(shape, int)
    for (t, b, *_), load in links.items():
        busiest[t, b] = max(busiest[t, b], load)
    np.testing.assert_array_equal(activity.link, busiest)
    traffic = activity.traffic
    assert (traffic.messages, traffic.messages_local, traffic.messages_chips) == (messages, local, away)
    assert (traffic.hops_x, traffic.hops_y) == tuple(hops)
    layers = count_steps(program, trace)
    for node in program.neurons:
        layer = layers[layer_name(program, node)]
        assert layer["spikes_out"].sum() <= activity.spikes.sum()
    for term, field in (("updates", "updates"), ("neuron_accesses", "accesses"), ("spikes_out", "spikes")):
        whole = sum(rows[term] for rows in layers.values())
        np.testing.assert_array_equal(getattr(activity, field).sum(-1), whole)


def test_one_spike_at_a_corner_of_a_strided_dilated_grouped_convolution_reaches_what_paper_and_pencil_say():
    """4x4 images, 2 groups of 2 channels, kernel 3x3 dilated by 2 (5 wide), padding 2, stride 2: 2x2 outputs.

    Output (0, 0) meets rows -2, 0, 2; output (1, 1) rows 0, 2, 4. The corner (0, 0) is met by both, in each axis, so by
    4 outputs of each of the 3 channels of its group: 12 connections, of which the centre weights are zero: of output
    (0, 0), kernel place (1, 1), in 3 channels. The opposite corner (3, 3) is met by none.
    """
    weight = np.full((6, 2, 3, 3), 2, np.int16)
    weight[:, :, 1, 1] = 0
    conv = Conv2dNode("c", (4, 4, 4), weight, 8, 0, (2, 2), (2, 2), dilation=(2, 2), groups=2)
    neuron = NeuronNode("n", conv.out_shape, 4095, 0, 1000, np.zeros(conv.out_shape, np.int16), 0)
    last = DenseNode("d", conv.out_shape, np.full((1, 24), 2, np.int16), 8, 0)
    nodes = (InputNode("input", (4, 4, 4), 1), conv, neuron, last, ReadoutNode("o", np.zeros(1, np.int64)))
    edges = tuple(pairwise(node.name for node in nodes))
    program = LoihiProgram(nodes, edges, 1, {}, overflow="hardware")
    assert conv.out_shape == (6, 2, 2)
    for y, x, stored, nonzero in [(0, 0, 12, 9), (3, 3, 0, 0), (0, 2, 12, 9), (1, 1, 0, 0)]:
        events = np.zeros((1, 1, 4, 4, 4), int)
        events[0, 0, 3, y, x] = 1  # a channel of the second group
        row = count(program, run_reference(program, make_inputs(events, program.input, default_steps=1))).layers["c"]
        assert (row.events_in, row.synops_stored, row.synops_nonzero, row.updates) == (1, stored, nonzero, stored)


def test_a_mappers_own_routes_decide_where_messages_go(small_program, random_inputs):
    """It may leave out connections of weight zero, or join axons: the synops stay, the messages are its own."""
    program = small_program(0)
    trace = run_reference(program, random_inputs(program))
    place = placement_of(program, 0)
    name = program.neurons[0].name
    nowhere = {core: np.zeros(place.core_of[name].size, bool) for core in range(5)}
    own = Placement(place.core_of, place.tile, place.chip, {name: nowhere})
    before, after = (count_cores(program, trace, each) for each in (place, own))
    np.testing.assert_array_equal(before.synops, after.synops)
    assert before.traffic.messages > after.traffic.messages
    everywhere = {core: np.ones(place.core_of[name].size, bool) for core in range(5)}
    other = count_cores(program, trace, Placement(place.core_of, place.tile, place.chip, {name: everywhere}))
    fired = count_steps(program, trace)[layer_name(program, program.neurons[0])]["spikes_out"].sum()
    assert other.traffic.messages - after.traffic.messages == 5 * fired


def test_a_placement_that_does_not_fit_is_refused_by_name(small_program, random_inputs):
    program = small_program(0)
    trace = run_reference(program, random_inputs(program))
    place = placement_of(program, 0)
    name = program.neurons[0].name
    for core in (place.core_of[name][:-1], place.core_of[name] + 5, place.core_of[name] - 9):
        with pytest.raises(LavatubeError, match=f"{name}: placement"):
            count(program, trace, Placement({**place.core_of, name: core}, place.tile, place.chip))
    with pytest.raises(LavatubeError, match="got nothing"):
        count(program, trace, Placement({}, place.tile, place.chip))
