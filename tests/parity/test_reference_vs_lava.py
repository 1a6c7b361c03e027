"""Stock Lava 0.10.0 equals the reference: spikes, u, v and read-out, for every way that we build a network in it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lavatube.deploy.lava_backend.choose import Choice, choose_processes
from lavatube.deploy.lava_backend.schedule import schedules
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.inputs import make_inputs
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.compare import compare
from lavatube.sim.lava_parts import run_lava
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.reference import run_reference

BOTH = frozenset("uv")


def dense_program(seed=0, *, du=4095, dv=2048, exponent=-1, vth=500, message_bits=8, bias=4000, bits=8):
    rng = np.random.default_rng(seed)

    def weight(*shape):
        return (rng.integers(-(1 << bits - 1), 1 << bits - 1, shape) << (9 - bits)).astype(np.int16)

    nodes = (
        InputNode("input", (6,), message_bits),
        DenseNode("layer1_dense", (6,), weight(9, 6), bits, exponent),
        NeuronNode("layer1_lif", (9,), du, dv, vth, rng.integers(-bias, bias + 1, 9).astype(np.int16), 3),
        DenseNode("layer2_dense", (9,), weight(7, 9), bits, exponent),
        NeuronNode("layer2_lif", (7,), du, dv, max(vth // 8, 1), rng.integers(-bias, bias + 1, 7).astype(np.int16), 0),
        DenseNode("layer3_dense", (7,), weight(4, 7), bits, exponent),
        ReadoutNode("output", rng.integers(-5, 6, 4)),
    )
    edges = tuple(pairwise(node.name for node in nodes))
    return LoihiProgram(nodes, edges, 7, {"kind": "test", "sha256": ""}, overflow="hardware")


def assert_all_equal(jobs, traces):
    for job, trace in zip(jobs, traces, strict=True):
        comparison = compare(run_reference(job.program, job.inputs, record=job.record), trace)
        assert comparison.equal, str(comparison.first)
        assert {row.quantity for row in comparison.rows} >= job.record | {"spikes", "readout"}


@pytest.mark.parametrize("conv", ["conv", "sparse"])
def test_lava_equals_reference_for_strided_padded_non_square_convolutions(small_program, random_inputs, conv):
    jobs = []
    for seed, bits, message_bits, du in [
        (1, 8, 8, 4095),
        (2, 4, 8, 4095),
        (3, 8, 1, 1000),
        (4, 2, 4, 4095),
        (5, 1, 4, 9),
    ]:
        program = small_program(seed, bits=bits, message_bits=message_bits, du=du)
        jobs.append(LavaJob(program, random_inputs(program, 5, seed=seed), BOTH, conv))
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    kinds = {row["process"] for trace in traces for name, row in trace.meta["processes"].items() if "conv" in name}
    assert kinds == {f"lava {conv.capitalize()}"}
    assert all(row["stock"] for trace in traces for row in trace.meta["processes"].values())
    assert traces[0].spikes["layer2_lif"].any()


def test_lava_equals_reference_for_every_length_of_window_and_any_number_of_samples(small_program, random_inputs):
    program = small_program(6)
    silent = make_inputs(np.zeros((3, 2, 6, 5), int), program.input, default_steps=6)
    full = make_inputs(np.full((3, 2, 6, 5), 255), program.input, default_steps=6)
    ragged = random_inputs(program, 4, length=np.array([0, 1, 4, 6]))
    sizes = [(1, 1), (1, 2), (9, 1), (40, 2), (1, 6), (3, 11)]
    jobs = [LavaJob(program, random_inputs(program, batch, steps), BOTH) for batch, steps in sizes]
    jobs += [LavaJob(program, inputs, BOTH) for inputs in (silent, full, ragged)]
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    dense = [trace.meta["processes"]["layer3_dense"]["process"] for trace in traces]
    assert dense == ["lava Dense" if job.inputs.batch == 1 else "lava Sparse" for job in jobs]


def test_lava_equals_reference_for_decays_exponents_and_overflowing_registers():
    loud = {"exponent": 7, "vth": 131071, "bias": 4095}
    cases = [
        {"du": 0, "dv": 0}, {"du": 4094, "dv": 4095}, {"du": 7, "dv": 1}, {"exponent": -8}, {"exponent": 0, "vth": 0},
        {**loud}, {**loud, "du": 3000}, {"bits": 3, "exponent": -6}, {"bits": 1, "vth": 3}, {"message_bits": 20},
    ]  # fmt: skip
    jobs = []
    for seed, case in enumerate(cases):
        program = dense_program(seed, **case)
        events = np.random.default_rng(seed).integers(0, program.input.max_value + 1, (7, 4, 6))
        jobs.append(LavaJob(program, make_inputs(events, program.input, default_steps=7), BOTH))
    assert_all_equal(jobs, run_lava_jobs(jobs))
    overflow = [run_reference(job.program, job.inputs).meta["overflow"] for job in jobs]
    assert sum(row["wraps"]["layer1_lif"] for row in overflow) > 0
    assert sum(row["saturations"]["layer1_lif"] for row in overflow) > 0


FEW = (*range(17), 18, 20, 29, 48, 60, 67, 81)  # each starts a Lava of its own: with all that is rare among a hundred


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [FEW, pytest.param(range(100), marks=pytest.mark.long)], ids=len)
def test_lava_equals_reference_on_random_graphs_of_every_node(random_case, seeds):
    jobs = [LavaJob(*random_case(seed), BOTH) for seed in seeds]
    when = [timing(job.program) for job in jobs]
    assert sum(each.streams and max(each.wait.values()) > 0 for each in when) > 5  # the premises: paths that differ
    assert sum(job.program.is_recurrent for job in jobs) > 5 < sum(each.pace > 1 for each in when)
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    used = {row["process"] for trace in traces for row in trace.meta["processes"].values()}
    assert used >= {"lava Sparse", "lava DelaySparse", "lava LIFReset", "lavatube Population"}


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, pytest.param(20, marks=pytest.mark.long)])
def test_our_own_synapses_equal_reference_on_random_graphs(random_case, count):
    jobs = [LavaJob(*random_case(seed), BOTH, "own") for seed in range(100, 100 + count)]
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    assert any(row["process"] == "lavatube Projection" for trace in traces for row in trace.meta["processes"].values())


def recurrent_program(seed=0, *, delay=3):
    """Stock processes only: a population that excites itself, with a leak, and a delay on the way in and out."""
    rng = np.random.default_rng(seed)

    def dense(name, size, units, delay=0):
        return DenseNode(name, (size,), (rng.integers(-60, 90, (units, size)) * 2).astype(np.int16), 8, 0, delay)

    nodes = (
        InputNode("input", (6,), 1),
        dense("into", 6, 12, delay),
        dense("again", 12, 12),
        NeuronNode("lif", (12,), 4095, 1000, 150, np.full(12, 90, np.int16), 5),
        dense("out", 12, 4, delay),
        ReadoutNode("output", np.zeros(4, np.int64)),
    )
    edges = (
        ("input", "into"), ("into", "lif"), ("lif", "again"), ("again", "lif"), ("lif", "out"), ("out", "output"),
    )  # fmt: skip
    return LoihiProgram(nodes, edges, 9, {"kind": "test", "sha256": ""}, overflow="hardware")


def test_windows_padded_to_a_power_of_two_change_nothing(small_program, random_inputs):
    program = small_program(2)
    biased = replace(program.nodes[2], bias_mant=np.full_like(program.nodes[2].bias_mant, 900))  # fires in the silence
    program = replace(program, nodes=(*program.nodes[:2], biased, *program.nodes[3:]))
    jobs = [LavaJob(program, random_inputs(program, 150, steps), BOTH, pad_windows=True) for steps in (3, 4)]
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    for trace in traces:
        assert trace.meta["samples_in_lava"] == {"lanes": 64, "windows": 3, "window": 4, "runs": 1}


def test_samples_of_a_delayed_recurrent_network_are_as_each_one_alone_in_stock_lava(random_inputs):
    program = recurrent_program()
    inputs = random_inputs(program, 5, 9)
    alone = [LavaJob(program, inputs.samples(n + 1, n), BOTH, stock_only=True) for n in range(5)]
    together = LavaJob(program, inputs, BOTH, stock_only=True)
    *single, side_by_side = run_lava_jobs([*alone, together])
    for n, trace in enumerate(single):
        for group in ("spikes", "u", "v"):
            assert (getattr(trace, group)["lif"][:, 0] == getattr(side_by_side, group)["lif"][:, n]).all()
        assert (trace.readout[0] == side_by_side.readout[n]).all()
    assert side_by_side.spikes["lif"].any()
    assert side_by_side.meta["samples_in_lava"] == {"lanes": 5, "windows": 1, "window": 9, "runs": 1}
    assert_all_equal([together], [side_by_side])


def ring(size, *, du=4095, dv=0):
    """As many populations in a circle of synapses without delay: one timestep around it, and a tick for each."""
    rng = np.random.default_rng(size)

    def dense(name, sources, units):
        return DenseNode(name, (sources,), (rng.integers(-60, 90, (units, sources)) * 2).astype(np.int16), 8, 0)

    names = [f"lif{n}" for n in range(size)]
    nodes, edges = [InputNode("input", (6,), 1), dense("into", 6, 5), dense("back", 5, 5)], [("input", "into")]
    edges += [("into", "lif0"), (names[-1], "back"), ("back", "lif0")]
    for n, name in enumerate(names):
        if n:
            nodes.append(dense(f"to_{name}", 5, 5))
            edges += [(names[n - 1], f"to_{name}"), (f"to_{name}", name)]
        nodes.append(NeuronNode(name, (5,), du, dv, 90, np.zeros(5, np.int16), 0))
    nodes += [dense("out", 5, 3), ReadoutNode("output", np.zeros(3, np.int64))]
    edges += [(names[-1], "out"), ("out", "output")]
    return LoihiProgram(tuple(nodes), tuple(edges), 9, {"kind": "test", "sha256": ""}, overflow="hardware")


@pytest.mark.parametrize("leak", [False, True])
def test_samples_of_a_cycle_tighter_than_lavas_ticks_are_as_each_one_alone(random_inputs, leak):
    program = ring(3, du=300, dv=700) if leak else ring(3)
    assert timing(program).pace == 3
    inputs = random_inputs(program, 2, 9)
    alone = [LavaJob(program, inputs.samples(n + 1, n), BOTH, stock_only=not leak) for n in range(2)]
    together = LavaJob(program, inputs, BOTH, stock_only=not leak)
    *single, side_by_side = run_lava_jobs([*alone, together])
    for n, trace in enumerate(single):
        for group in ("spikes", "u", "v"):
            for name, value in getattr(trace, group).items():
                assert (value[:, 0] == getattr(side_by_side, group)[name][:, n]).all(), (group, name)
    assert all(events.any() for events in side_by_side.spikes.values())
    assert_all_equal([together], [side_by_side])
    if leak:  # stock neurons would leak at every tick
        assert choose_processes(program)["lif0"].process == "Population"
        with pytest.raises(UnsupportedError, match="3 ticks a timestep, and state rests in between"):
            choose_processes(program, stock_only=True)


def test_a_bias_that_would_fire_early_does_not_reach_a_delay_through_others(random_inputs):
    """A fires before its first timestep and makes B fire before its own; a delay brings that into the sample."""

    def dense(name, weight, delay=0):
        return DenseNode(name, (1,), np.array([[weight]], np.int16), 8, 0, delay)

    def neuron(name, bias):
        return NeuronNode(name, (1,), 4095, 4095, 1, np.array([bias], np.int16), 0)

    nodes = (
        InputNode("input", (1,), 1), dense("to_a", 2), neuron("a", 200), dense("to_b", 100), neuron("b", 0),
        dense("to_c", 100, delay=1), neuron("c", 0), dense("out", 2), ReadoutNode("output", np.zeros(1, np.int64)),
    )  # fmt: skip
    edges = tuple(pairwise(node.name for node in nodes))
    program = LoihiProgram(nodes, edges, 5, {"kind": "test", "sha256": ""}, overflow="hardware")
    assert {name for name, choice in choose_processes(program).items() if not choice.stock} == {"a"}
    jobs = [LavaJob(program, make_inputs(np.zeros((5, 2, 1), int), program.input, default_steps=5), BOTH)]
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    assert traces[0].spikes["c"][:, 0, 0].tolist() == [0, 1, 1, 1, 1]


def test_conv_takes_a_flat_input_and_one_sample_at_a_time(small_program, random_inputs):
    program = small_program(1)
    flat = replace(program, nodes=(replace(program.input, shape=(60,)), *program.nodes[1:]))
    jobs = [LavaJob(flat, random_inputs(flat, 3), BOTH, "conv")]
    traces = run_lava_jobs(jobs)
    assert_all_equal(jobs, traces)
    assert traces[0].meta["samples_in_lava"]["lanes"] == 1


def test_the_number_of_samples_side_by_side_changes_nothing(small_program, random_inputs, monkeypatch):
    feed_forward, recurrent = small_program(3), recurrent_program(1, delay=0)
    jobs = [LavaJob(program, random_inputs(program, 7, 4), BOTH) for program in (feed_forward, recurrent)]
    for job in jobs:
        plans = []
        for most in (1, 3, 64):
            monkeypatch.setattr("lavatube.deploy.lava_backend.schedule.LANES_MAX", most)
            plans.append(schedules(job.program, 4, 7))
        events = job.inputs.events
        for plan in plans:
            shape = (plan[0].lanes, *events.shape[2:])
            parts = [schedule.samples(schedule.rows(events).reshape(-1, *shape)) for schedule in plan]
            assert (np.concatenate(parts, 1) == events).all()
    assert [len(plan) for plan in plans] == [7, 3, 1]  # of the recurrent one
    assert_all_equal(jobs, run_lava_jobs(jobs))


@pytest.mark.parametrize("reads", ["spikes", "voltage"])
def test_lava_equals_reference_for_a_population_that_is_read(small_program, random_inputs, reads):
    program = small_program(4)
    shape = program.neurons[-1].shape
    out = ReadoutNode("output", np.arange(np.prod(shape)), reads)
    nodes = (*program.nodes[:5], out)
    program = replace(program, nodes=nodes, edges=tuple(pairwise(node.name for node in nodes)))
    inputs = random_inputs(program, 5, length=np.array([0, 1, 6, 3, 6]))
    jobs = [LavaJob(program, inputs)]
    assert_all_equal(jobs, run_lava_jobs(jobs))


def test_what_lava_cannot_do_is_refused_by_name(small_program):
    program = small_program(1)
    soft = replace(program, nodes=(*program.nodes[:2], replace(program.nodes[2], reset="subtract"), *program.nodes[3:]))
    assert choose_processes(soft)["layer1_lif"] == Choice("Population", "soft reset")
    with pytest.raises(UnsupportedError, match=r"layer1_lif: no stock Lava process: soft reset"):
        choose_processes(soft, stock_only=True)
    with pytest.raises(LavatubeError, match="--conv own, expected a stock process, for --stock-only"):
        choose_processes(program, "own", stock_only=True)
    quiet = recurrent_program(delay=0)
    loud = replace(quiet.nodes[3], bias_mant=np.full(12, 900, np.int16))
    assert choose_processes(quiet)["lif"].stock  # its bias alone does not reach the threshold in one tick
    assert choose_processes(replace(quiet, nodes=(*quiet.nodes[:3], loud, *quiet.nodes[4:])))["lif"].why_own == (
        "a bias that would fire before the first timestep, into a delay"
    )


def with_weight_bit_flipped(program):
    weight = program.nodes[3].weight.copy()
    weight[2, 1, 1, 0] ^= 64
    return replace(program, nodes=(*program.nodes[:3], replace(program.nodes[3], weight=weight), *program.nodes[4:]))


def with_neuron(program, index, **change):
    node = replace(program.nodes[index], **change)
    return replace(program, nodes=(*program.nodes[:index], node, *program.nodes[index + 1 :]))


FAULTS = {
    "one weight bit": (with_weight_bit_flipped, "layer2_lif"),
    "one threshold": (lambda p: with_neuron(p, 2, vth=p.nodes[2].vth - 900), "layer1_lif"),
    "one decay": (lambda p: with_neuron(p, 4, dv=p.nodes[4].dv + 300), "layer2_lif"),
}


def test_a_fault_in_the_lava_path_is_named_by_layer_and_step(small_program, random_inputs):
    program = small_program(8)
    inputs = random_inputs(program, 6)
    expected = run_reference(program, inputs)
    jobs = [LavaJob(change(program), inputs) for change, _ in FAULTS.values()]
    for (name, (change, layer)), trace in zip(FAULTS.items(), run_lava_jobs(jobs), strict=True):
        comparison = compare(expected, trace)
        assert not comparison.equal, name
        assert comparison.first.layer == layer, name
        by_reference = compare(expected, run_reference(change(program), inputs))
        assert comparison.first == by_reference.first, name
        step, sample, neuron = comparison.first.step, comparison.first.sample, comparison.first.neuron
        earlier = expected.spikes[layer][:step] == trace.spikes[layer][:step]
        assert earlier.all(), name
        assert expected.spikes[layer][(step, sample, *neuron)] == comparison.first.a != comparison.first.b


def test_one_delay_is_named_by_layer_and_step(small_program, random_inputs):
    program = small_program(8)
    inputs = random_inputs(program, 6)
    late = replace(program, nodes=(*program.nodes[:3], replace(program.nodes[3], delay=1), *program.nodes[4:]))
    comparison = compare(run_reference(program, inputs), run_lava(late, inputs))
    assert (comparison.first.layer, comparison.first.step) == ("layer2_lif", 0)


def test_conv_is_refused_where_it_would_not_be_exact(small_program, random_inputs):
    program = small_program(9, bits=8)
    inputs = random_inputs(program)
    dropping = with_neuron(program, 1, weight_exp=-2)
    with pytest.raises(UnsupportedError, match=r"layer1_conv2d \(Lava Conv\): sums that are rounded down"):
        run_lava(dropping, inputs, conv="conv")
    wrapping = with_neuron(program, 1, weight_exp=5)
    with pytest.raises(UnsupportedError, match="Conv wraps at 24 bits; use --conv sparse"):
        run_lava(wrapping, inputs, conv="conv")
    with pytest.raises(LavatubeError, match="--conv, expected auto, conv, sparse, own, got dense"):
        run_lava(program, inputs, conv="dense")
    jobs = [LavaJob(dropping, inputs), LavaJob(wrapping, inputs)]
    assert_all_equal(jobs, run_lava_jobs(jobs))
