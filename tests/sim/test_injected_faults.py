"""Tests of the tests: each fault that an engine or a lowering could have is caught, at the layer and step it enters."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lavatube import fixed_point, neuron_step
from lavatube.inputs import make_inputs
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference

STEPS = 7


def program_with(**change):
    """Two inputs -> one relay each -> one integrator. The second input fires at step 4 only, the first before."""
    relay = NeuronNode("relay", (2,), 4095, 0, 0, np.zeros(2, np.int16), 0)
    synapse = DenseNode("into_integrator", (2,), np.array([[40, -6]], np.int16), 8, -2)
    nodes = (
        InputNode("input", (2,), 1),
        DenseNode("into_relay", (2,), np.diag([2, 2]).astype(np.int16), 8, 0),
        relay,
        replace(synapse, **change),
        NeuronNode("integrator", (1,), 4095, 0, 20, np.zeros(1, np.int16), 0),
        ReadoutNode("output", np.zeros(1, np.int64), "spikes"),
    )
    names = [node.name for node in nodes]
    return LoihiProgram(nodes, tuple(pairwise(names)), STEPS, {"kind": "test", "sha256": ""})


def events(program):
    value = np.zeros((STEPS, 1, 2), int)
    value[:4, 0, 0] = value[4, 0, 1] = 1
    return make_inputs(value, program.input, default_steps=STEPS)


def trace_of(program, run=run_reference):
    return run(program, events(program), record=frozenset("uv"))


def first(honest, faulty):
    found = compare(honest, faulty).first
    return found and (found.layer, found.quantity, found.step, found.a, found.b)


@pytest.fixture
def honest():
    """From the fast engine, which shares no arithmetic with the reference that the faults go into."""
    return trace_of(program_with(), run_fast)


def test_without_a_fault_nothing_differs(honest):
    assert first(honest, trace_of(program_with())) is None
    assert honest.v["integrator"].reshape(-1).tolist() == [640, 1280, 0, 640, 512, 512, 512]


@pytest.mark.parametrize("bit", [1, 2, 3, 4, 5, 6, 7])
def test_a_flipped_weight_bit_is_caught_where_its_source_first_fires(bit):
    weight = np.array([[10, -6]], np.int16)
    honest = trace_of(program_with(weight=weight, weight_exp=0), run_fast)
    flipped = weight ^ np.array([[0, 1 << bit]], np.int16)
    faulty = trace_of(program_with(weight=flipped, weight_exp=0))
    assert first(honest, faulty) == ("integrator", "u", 4, 64 * -6, 64 * int(flipped[0, 1]))


@pytest.mark.parametrize("run", [run_reference, run_fast])
def test_a_delay_that_is_off_by_one_is_caught_at_the_first_event(run):
    honest, faulty = trace_of(program_with(delay=2)), trace_of(program_with(delay=3), run)
    assert first(honest, faulty) == ("integrator", "u", 2, 640, 0)


def test_a_comparator_that_fires_on_the_threshold_is_caught_where_v_equals_it(honest, monkeypatch):
    monkeypatch.setattr(
        neuron_step, "emitted", lambda node, v, balance: (v >= node.vth << 6).astype(np.int64) * (v > 0)
    )
    assert first(honest, trace_of(program_with())) == ("integrator", "v", 1, 1280, 0)


def test_truncation_for_floor_is_caught_at_the_first_negative_sum(honest, monkeypatch):
    def truncating(value, exponent):
        return value << exponent if exponent >= 0 else np.sign(value) * (np.abs(value) >> -exponent)

    monkeypatch.setattr(fixed_point, "shift", truncating)
    assert first(honest, trace_of(program_with())) == ("integrator", "u", 4, -128, -64)


def test_floor_for_truncation_in_the_leak_is_caught(monkeypatch):
    """The other way round: decays round toward zero."""
    leaky = program_with(weight=np.array([[-40, -6]], np.int16))
    nodes = tuple(replace(node, dv=1) if node.name == "integrator" else node for node in leaky.nodes)
    leaky = replace(leaky, nodes=nodes)
    honest = trace_of(leaky, run_fast)
    monkeypatch.setattr(
        fixed_point, "decay", lambda state, constant, offset=0: (state * (4096 - constant - offset)) >> 12
    )
    assert first(honest, trace_of(leaky)) == ("integrator", "v", 1, -1279, -1280)
