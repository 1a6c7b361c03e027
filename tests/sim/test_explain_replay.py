"""The replay that judges engines equals the reference under the definition, on any program."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_programs import random_case

from lavatube.fixed_point import weight_range
from lavatube.program import NeuronNode
from lavatube.sim.explain.explain import explain
from lavatube.sim.explain.fan_in import fan_in, neuron_activation
from lavatube.sim.explain.replay import activation, recorded, replay
from lavatube.sim.explain.rule import ALTERNATIVES
from lavatube.sim.reference import run_reference


@pytest.mark.parametrize("seed", range(40))
def test_the_replay_of_every_population_and_read_out_equals_the_reference(seed):
    program, inputs = random_case(seed)
    trace = run_reference(program, inputs, record=frozenset("uv"))
    side = recorded(program, trace, range(trace.batch))
    for target in program.targets:
        got = replay(program, target, side)
        if isinstance(target, NeuronNode):
            for mine, there in ((got.spikes, trace.spikes), (got.u, trace.u), (got.v, trace.v)):
                assert np.array_equal(mine, there[target.name])
        else:
            assert np.array_equal(got.readout, trace.readouts[target.name])


@pytest.mark.parametrize("seed", range(20))
def test_the_fan_in_of_every_neuron_adds_up_to_its_activation(seed):
    program, inputs = random_case(seed, batch=2)
    side = recorded(program, run_reference(program, inputs), range(2))
    for target in program.targets:
        if not program.inbound(target):
            continue
        whole = activation(program, target, side)
        for flat in range(0, int(np.prod(target.shape)), 3):
            neuron = tuple(int(i) for i in np.unravel_index(flat, target.shape))
            total = 0
            for each in fan_in(program, target, neuron):
                part, exponent = (each.events(program, side) * each.weight).sum(-1), each.synapse.weight_exp
                total = total + (part << exponent if exponent >= 0 else part >> -exponent)
            assert np.array_equal(total, whole[(slice(None), slice(None), *neuron)])
            rule = ALTERNATIVES[(seed + flat) % len(ALTERNATIVES)]
            expected = activation(program, target, side, rule)[(slice(None), slice(None), *neuron)]
            assert np.array_equal(neuron_activation(program, target, neuron, side, rule), expected)


@pytest.mark.parametrize("seed", range(40))
def test_one_changed_weight_of_any_program_is_explained_to_the_last_neuron(seed):
    program, inputs = random_case(seed)
    rng = np.random.default_rng(seed)
    synapse = program.synapses[int(rng.integers(len(program.synapses)))]
    weight = synapse.weight.copy()
    place, (_, high, grid) = int(rng.integers(weight.size)), weight_range(synapse.num_weight_bits, synapse.sign)
    weight.reshape(-1)[place] += grid if weight.reshape(-1)[place] + grid <= high else -grid
    changed = tuple(replace(node, weight=weight) if node.name == synapse.name else node for node in program.nodes)
    traces = [run_reference(p, inputs, record=frozenset("uv")) for p in (program, replace(program, nodes=changed))]
    found = explain(program, *traces)
    if found is None:  # no event ever met that weight, or a shift swallowed it
        return
    assert found.sides[0].follows
    assert found.sides[1].causes[0].neurons == found.neurons
