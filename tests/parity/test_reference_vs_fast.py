"""The fast engine equals the reference: spikes, u, v, read-out and overflow counts, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavatube import fixed_point as fp
from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import NeuronState, step
from lavatube.sim.fast import run_fast
from lavatube.sim.reference import run_reference
from lavatube.train import integer_step

EXTREMES = st.one_of(
    st.integers(-(2**17), 2**17), st.sampled_from([0, 1, -1, 2**17 - 1, 2**17, 2**17 + 1, -(2**17), 2**20, -(2**20)])
)
STATES = st.one_of(
    st.integers(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX),
    st.sampled_from([fp.VOLTAGE_MAX, -fp.VOLTAGE_MAX, fp.STATE_LIMIT, 4095, -4095, 4096, -4096]),
)


def assert_equal(a, b):
    assert list(a.spikes) == list(b.spikes)
    for name in a.spikes:
        for group in ("spikes", "u", "v"):
            np.testing.assert_array_equal(getattr(a, group)[name], getattr(b, group)[name], err_msg=f"{group} {name}")
    np.testing.assert_array_equal(a.readout, b.readout)
    assert a.meta["overflow"] == b.meta["overflow"]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("du", [4095, 700, 0])
def test_fast_equals_reference_for_strided_padded_convolutions(small_program, random_inputs, bits, du):
    program = small_program(bits, bits=bits, du=du)
    inputs = random_inputs(program)
    both = [run(program, inputs, record=frozenset("uv")) for run in (run_reference, run_fast)]
    assert_equal(*both)
    assert bits == 1 or all(
        0 < value.mean() < 1 for value in both[0].spikes.values()
    )  # 1 bit is -1 or 0: inhibition only


@pytest.mark.parametrize(("batch", "steps"), [(1, 1), (1, 6), (7, 1), (3, 13)])
def test_fast_equals_reference_for_any_batch_and_number_of_steps(small_program, random_inputs, batch, steps):
    program = small_program(5)
    inputs = random_inputs(program, batch, steps)
    assert_equal(*(run(program, inputs, record=frozenset("uv")) for run in (run_reference, run_fast)))


def test_fast_equals_reference_when_chunked_with_delays_and_lengths(small_program, random_inputs, monkeypatch):
    program = small_program(6)
    delayed = replace(program.nodes[3], delay=2)
    program = replace(program, nodes=(*program.nodes[:3], delayed, *program.nodes[4:]))
    inputs = random_inputs(program, 5, length=np.array([0, 1, 3, 6, 5]))
    monkeypatch.setattr("lavatube.sim.fast.ELEMENTS_AT_ONCE", 1)
    assert_equal(*(run(program, inputs, record=frozenset("uv")) for run in (run_reference, run_fast)))


def test_fast_counts_wraps_and_saturations_like_the_reference(small_program, random_inputs):
    program = small_program(7)
    loud = replace(program.nodes[1], weight_exp=7)
    program = replace(program, nodes=(program.nodes[0], loud, *program.nodes[2:]))
    inputs = random_inputs(program)
    a, b = (run(program, inputs, record=frozenset("uv")) for run in (run_reference, run_fast))
    assert_equal(a, b)
    assert a.meta["overflow"]["wraps"]["layer1_lif"] > 0


@settings(max_examples=300, deadline=None)
@given(
    u=STATES, v=STATES, a=EXTREMES, bias=st.integers(-4096, 4095), exp=st.integers(0, 7),
    du=st.sampled_from([0, 1, 2047, 4094, 4095]), dv=st.sampled_from([0, 1, 410, 2048, 4095]),
    vth=st.sampled_from([0, 1, 100, 131071]),
)  # fmt: skip
def test_torch_step_equals_numpy_step_at_the_limits(u, v, a, bias, exp, du, dv, vth):
    node = NeuronNode("neuron", (1,), du, dv, vth, np.array([bias], np.int16), exp)
    state = NeuronState(*(np.array([[x]]) for x in (u, v, 0, 0)))
    numpy, out = step(node, state, np.array([[a]]), 0)
    tensors = integer_step.step_cuba_lif(*map(torch.tensor, (u, v, a, bias << exp)), du=du, dv=dv, vth=vth)
    new_u, new_v, spikes, _, wrapped, saturated = (int(x) for x in tensors)
    expected = numpy.u, numpy.v, out.events, out.wrapped, out.saturated
    assert [int(x[0, 0]) for x in expected] == [new_u, new_v, spikes, wrapped, saturated]


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10**9), chunk=st.sampled_from([1, 1 << 24]))
def test_fast_equals_reference_on_random_graphs_of_every_node(random_program, random_inputs, seed, chunk):
    program = random_program(seed)
    inputs = random_inputs(program, batch=3, steps=1 + seed % 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lavatube.sim.fast.ELEMENTS_AT_ONCE", chunk)
        assert_equal(*(run(program, inputs, record=frozenset("uv")) for run in (run_reference, run_fast)))
