"""The proven intervals hold every state that any input can reach, and are refused when they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lavatube.bounds import bound_program, prove_no_overflow
from lavatube.errors import LavatubeError
from lavatube.inputs import make_inputs
from lavatube.program import DenseNode, InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.reference import run_reference


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10**6), du=st.sampled_from([4095, 2000]), loud=st.booleans())
def test_no_state_leaves_its_interval(small_program, seed, du, loud):
    program = small_program(seed, message_bits=4, du=du)
    rng = np.random.default_rng(seed)
    shape = (12, 3, *program.input.shape)
    values = rng.choice([0, program.input.max_value], shape) if loud else rng.integers(0, 16, shape)
    trace = run_reference(program, make_inputs(values, program.input, default_steps=12), record=frozenset("uv"))
    for bound in bound_program(program, num_steps=12)[:-1]:
        assert bound.u[0] <= trace.u[bound.target].min()
        assert trace.u[bound.target].max() <= bound.u[1]
        assert bound.v[0] <= trace.v[bound.target].min()
        assert trace.v[bound.target].max() <= bound.v[1]


def test_the_accumulator_bound_is_reached(small_program):
    program = small_program(2)
    weight = program.nodes[1].weight
    best = np.maximum(weight.reshape(len(weight), -1), 0).sum(1).max() * 255
    assert bound_program(program)[0].accumulators["layer1_conv2d"][1] == best


def test_strict_refuses_what_could_wrap_and_names_layer_and_register(small_program):
    program = small_program(2, overflow="hardware")
    loud = replace(program, nodes=(program.nodes[0], replace(program.nodes[1], weight_exp=3), *program.nodes[2:]))
    assert prove_no_overflow(loud)
    with pytest.raises(LavatubeError, match=r"layer1_conv2d -> layer1_lif: u can reach .*its register holds"):
        prove_no_overflow(replace(loud, overflow="strict"))


def test_without_leak_the_bound_grows_with_the_steps(small_program):
    program = small_program(2)
    integrator = replace(program.nodes[2], dv=0)
    program = replace(program, nodes=(*program.nodes[:2], integrator, *program.nodes[3:]))
    short, long = (bound_program(program, num_steps=n)[0].v[0] for n in (2, 8))
    assert long == 4 * short < 0


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(seed=st.integers(0, 10**9))
@example(seed=64051)  # a negative spike with reset by subtraction lifts the voltage by the threshold
def test_no_state_of_a_random_graph_leaves_its_interval(random_program, random_inputs, seed):
    program = random_program(seed)
    inputs = random_inputs(program, batch=3, steps=10)
    bounds = bound_program(program, num_steps=10)
    if any(bound.violations() for bound in bounds):
        return
    trace = run_reference(program, inputs, record=frozenset("uv"))
    for bound in bounds:
        if bound.u is not None:
            assert bound.u[0] <= trace.u[bound.target].min()
            assert trace.u[bound.target].max() <= bound.u[1]
            assert bound.v[0] <= trace.v[bound.target].min()
            assert trace.v[bound.target].max() <= bound.v[1]


def test_a_voltage_whose_bound_is_not_found_in_time_counts_as_unbounded(small_program, monkeypatch):
    program = small_program(2)
    quiet, integrator = replace(program.nodes[1], weight_exp=-6), replace(program.nodes[2], dv=0, reset="subtract")
    program = replace(program, nodes=(program.nodes[0], quiet, integrator, *program.nodes[3:]))
    assert not bound_program(program, num_steps=8)[0].violations()
    monkeypatch.setattr("lavatube.bounds.STEPS_MAX", 4)
    assert "v can reach -" in bound_program(program, num_steps=8)[0].violations()[-1]
    assert not bound_program(program, num_steps=4)[0].violations()


@pytest.mark.parametrize(("second", "fits"), [(3, True), (4, False)])
def test_the_chips_21_bit_accumulator_holds_64_times_the_activation_of_all_synapses(second, fits):
    weights = [np.full((1, 1), value, np.int16) for value in (255, second)]
    nodes = (
        InputNode("in", (1,), 7),
        *(DenseNode(f"w{n}", (1,), weight, 8, 0, 0, "excitatory") for n, weight in enumerate(weights)),
        NeuronNode("n", (1,), 4095, 4095, 9, np.zeros(1, np.int16), 0),
        DenseNode("last", (1,), weights[0], 8, 7, 0, "excitatory"),
        ReadoutNode("out", np.zeros(1, np.int64)),
    )
    edges = (("in", "w0"), ("in", "w1"), ("w0", "n"), ("w1", "n"), ("n", "last"), ("last", "out"))
    bounds = bound_program(LoihiProgram(nodes, edges, 1, {}))
    assert bounds[0].activation == (0, 127 * (255 + second))
    assert [bound.fits_dendrite for bound in bounds] == [fits, None]
    assert (64 * bounds[0].activation[1] < 2**21) is fits
