"""The sums that the fast engine makes on the way are the counts of its trace."""

from __future__ import annotations

import numpy as np
import pytest
from random_programs import random_case

from lavatube.inputs import make_inputs
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
