"""The sums that the fast engine makes on the way are the counts of its trace."""

from __future__ import annotations

import numpy as np
import pytest
from random_programs import random_case

from lavatube.inputs import make_inputs
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.counts import count
from lavatube.sim.fast import FastEngine
from lavatube.sim.fast_kernels import populations, synapse
from lavatube.sim.reference import run_reference

SEEDS = range(24)


def ragged(seed, program, inputs):
    length = np.random.default_rng(seed).integers(0, inputs.num_steps + 1, inputs.batch)
    return make_inputs(inputs.by_name, program.inputs, default_steps=1, length=length)


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_made_on_the_way_equal_those_of_the_references_trace(seed):
    program, inputs = random_case(seed)
    inputs = ragged(seed, program, inputs)
    expected = count(program, run_reference(program, inputs))
    for threads, elements in ((1, None), (2, 64)):
        trace, counts = FastEngine(program, threads=threads, elements=elements).run_counted(inputs)
        assert counts.to_json() == expected.to_json()
        assert count(program, trace) == counts


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_counts_are_the_same_in_torch(seed, monkeypatch):
    import lavatube.sim.fast as fast

    monkeypatch.setattr(fast, "HAS_NUMBA", False)
    monkeypatch.setattr(synapse, "HAS_NUMBA", False)
    program, inputs = random_case(seed)
    inputs = ragged(seed, program, inputs)
    engine = FastEngine(program, elements=256)
    assert engine.ready.population is populations.TorchPopulation
    trace, counts = engine.run_counted(inputs)
    assert counts == count(program, trace)


def test_long_and_graded_recordings_do_not_overflow_the_bytes_of_the_sums(small_program):
    program = small_program(message_bits=8)
    shape = program.input.shape
    inputs = make_inputs(np.full((700, 2, *shape), 255), program.inputs, default_steps=1, length=np.array([700, 600]))
    trace, counts = FastEngine(program).run_counted(inputs)
    assert counts == count(program, trace)
    assert counts.layers["layer1_conv2d"].events_in == 1300 * int(np.prod(shape))


@pytest.mark.parametrize("compiled", [True, False])
def test_updates_of_a_population_that_drives_itself_are_those_of_the_trace(compiled, monkeypatch):
    """Few events, so that in some timesteps only those of one synapse arrive, in others none."""
    if not compiled:
        monkeypatch.setattr("lavatube.sim.fast.HAS_NUMBA", False)
        monkeypatch.setattr(synapse, "HAS_NUMBA", False)
    rng = np.random.default_rng(5)
    nodes = (
        InputNode("input", (5,), 1),
        DenseNode("forward", (5,), (2 * rng.integers(0, 9, (6, 5))).astype(np.int16), 8, 0),
        DenseNode("back", (6,), (2 * rng.integers(-3, 9, (6, 6))).astype(np.int16), 8, 0),
        NeuronNode("lif", (6,), 4095, 0, 20, np.zeros(6, np.int16), 0),
        ReadoutNode("out", np.zeros(6, np.int64), "spikes"),
    )  # fmt: skip
    edges = (("input", "forward"), ("forward", "lif"), ("lif", "back"), ("back", "lif"), ("lif", "out"))
    program = LoihiProgram(nodes, edges, 30, {}, overflow="hardware")
    inputs = make_inputs((rng.random((30, 4, 5)) < 0.05).astype(np.uint8), program.inputs, default_steps=30)
    trace, counts = FastEngine(program).run_counted(inputs)
    assert counts == count(program, trace)
    assert 0 < counts.total.updates < counts.total.neuron_accesses


def test_what_a_run_works_in_is_kept_for_the_next_one_and_shows_nothing_of_the_one_before(small_program):
    program = small_program(8)
    engine = FastEngine(program, threads=1)
    shape = program.input.shape
    rng = np.random.default_rng(0)
    full = make_inputs(np.full((20, 3, *shape), program.input.max_value), program.inputs, default_steps=1)
    few = make_inputs((rng.random((20, 3, *shape)) < 0.05).astype(np.uint8), program.inputs, default_steps=1)
    for inputs in (full, few, full, few):
        trace, counts = engine.run_counted(inputs)
        assert counts == count(program, run_reference(program, inputs)) == count(program, trace)
    held = engine.ready.rooms.free
    assert len({id(room) for room in held}) == len(held) == 1
    sizes = {room.size for room in held}
    for batch in range(1, 9):
        engine.run(
            full.samples(1)
            if batch == 1
            else make_inputs(np.zeros((20, batch, *shape), np.uint8), program.inputs, default_steps=1)
        )
        sizes |= {room.size for room in held}
        assert len(held) <= 4
    assert len(sizes) == 8


def test_the_memory_that_is_kept_between_runs_is_bounded_with_the_state_of_the_neurons(
    small_program, random_inputs, monkeypatch
):
    program = small_program(3, overflow="hardware")
    engine = FastEngine(program, threads=1)
    engine.run(random_inputs(program, 5))
    [room] = engine.ready.rooms.free
    state = 4 * 5 * sum(node.bias_mant.size for node in program.neurons)  # v, of 5 samples
    assert room.bytes >= state + sum(made.nbytes for made in room.made.values())
    monkeypatch.setattr("lavatube.sim.fast_kernels.rooms.MOST_BYTES", room.bytes - 1)
    engine.run(random_inputs(program, 5))
    assert not engine.ready.rooms.free
