"""The fast engine equals the reference: spikes, u, v, read-out and overflow counts, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch, make_inputs
from lavatube.integer_layer import IntegerNeuron
from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import NeuronState, step
from lavatube.program import DenseNode, InputNode, LoihiProgram, ReadoutNode
from lavatube.sim.fast import FastEngine, run_fast
from lavatube.sim.fast_kernels import gemm_sums
from lavatube.sim.fast_kernels.choice import KERNELS
from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.populations import CompiledPopulation, TorchPopulation, bias_of
from lavatube.sim.fast_kernels.walk import Walk
from lavatube.sim.reference import run_reference
from lavatube.train import exact_sums, integer_step
from lavatube.train.exact_sums import exact_conv2d

EXTREMES = st.one_of(
    st.integers(-(2**17), 2**17), st.sampled_from([0, 1, -1, 2**17 - 1, 2**17, 2**17 + 1, -(2**17), 2**20, -(2**20)])
)
STATES = st.one_of(
    st.integers(-fp.VOLTAGE_MAX, fp.VOLTAGE_MAX),
    st.sampled_from([fp.VOLTAGE_MAX, -fp.VOLTAGE_MAX, fp.STATE_LIMIT, 4095, -4095, 4096, -4096]),
)


def lengths(seed, steps):
    return np.random.default_rng(seed).integers(0, steps + 1, 3) if seed % 2 else None


def assert_equal(a, b):
    assert list(a.spikes) == list(b.spikes)
    for name in a.spikes:
        for group in ("spikes", "u", "v"):
            np.testing.assert_array_equal(getattr(a, group)[name], getattr(b, group)[name], err_msg=f"{group} {name}")
    assert list(a.readouts) == list(b.readouts)
    for name in a.readouts:
        np.testing.assert_array_equal(a.readouts[name], b.readouts[name], err_msg=name)
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


def test_fast_equals_reference_when_chunked_with_delays_and_lengths(small_program, random_inputs):
    program = small_program(6)
    delayed = replace(program.nodes[3], delay=2)
    program = replace(program, nodes=(*program.nodes[:3], delayed, *program.nodes[4:]))
    inputs = random_inputs(program, 5, length=np.array([0, 1, 3, 6, 5]))
    expected = run_reference(program, inputs, record=frozenset("uv"))
    for elements in (1, 200, 1000):
        assert_equal(expected, FastEngine(program, elements=elements, threads=2).run(inputs, record=frozenset("uv")))


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
    registers = IntegerNeuron(du, dv, vth, node.bias_mant, exp)
    before, activation, added = integer_step.IntegerState(*torch.tensor([u, v])), *torch.tensor([a, bias << exp])
    made = integer_step.step_neurons(registers, before, activation, added)
    expected = numpy.u, numpy.v, out.events, out.wrapped, out.saturated
    got = made.state.u, made.state.v, made.events, made.wrapped, made.saturated
    assert [int(x[0, 0]) for x in expected] == [int(x) for x in got]


@pytest.mark.slow
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    seed=st.integers(0, 10**9),
    kernel=st.sampled_from([None, *KERNELS]),
    elements=st.sampled_from([1, 37, 1 << 24]),
    threads=st.sampled_from([1, 3]),
    compiled=st.booleans(),
)
def test_no_kernel_block_or_thread_count_changes_an_integer_of_a_random_graph(
    random_program, random_inputs, seed, kernel, elements, threads, compiled
):
    program = random_program(seed)
    inputs = random_inputs(program, batch=3, steps=1 + seed % 12, length=lengths(seed, 1 + seed % 12))
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr("lavatube.sim.fast.HAS_NUMBA", False)
            patch.setattr("lavatube.sim.fast_kernels.synapse.HAS_NUMBA", False)
        engine = FastEngine(program, kernel=kernel, elements=elements, threads=threads)
        fast = engine.run(inputs, record=frozenset("uv"))
    assert_equal(run_reference(program, inputs, record=frozenset("uv")), fast)


def test_a_new_order_of_the_samples_only_reorders_the_trace(small_program, random_inputs):
    program = small_program(9)
    inputs = random_inputs(program, 6)
    order = np.array([3, 1, 5, 0, 2, 4])
    engine = FastEngine(program, elements=500)
    a, b = engine.run(inputs), engine.run(InputBatch({"input": inputs.events[:, order]}, inputs.length[order]))
    for name in a.spikes:
        np.testing.assert_array_equal(a.spikes[name][:, order], b.spikes[name])
    np.testing.assert_array_equal(a.readout[order], b.readout)


def test_an_engine_runs_again_from_rest(small_program, random_inputs):
    program = small_program(10)
    inputs = random_inputs(program, 2)
    engine = FastEngine(program)
    assert_equal(engine.run(inputs, record=frozenset("uv")), engine.run(inputs, record=frozenset("uv")))


def test_working_memory_does_not_grow_with_the_number_of_timesteps(small_program, random_inputs):
    """What is held beside the trace itself, between two stretches."""
    program = small_program(11)
    held = []
    for steps in (200, 2000):
        inputs = random_inputs(program, 2, steps)
        engine = FastEngine(program, elements=2000, threads=1)
        at_once, _ = engine.block(inputs.num_steps, inputs.batch)
        walk = Walk(engine.ready, torch.tensor(inputs.length), at_once, frozenset())
        held.append(sum(room.numel() for room in walk.made.values()))
    assert held[0] == held[1]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("sign", ["mixed", "excitatory", "inhibitory"])
@pytest.mark.parametrize("message_bits", [1, 7, 8, 16])
def test_every_kernel_is_exact_at_the_ends_of_its_widths(kernel, sign, message_bits):
    """All weights and events at their largest: sums leave 16 bits, and with 16-bit events 32 bits."""
    low, high, _ = fp.weight_range(8, sign)
    rng = np.random.default_rng(3)
    weight = rng.choice([low, high], (40, 600)).astype(np.int16)
    dense = DenseNode("dense", (600,), weight, 8, 7, sign=sign)
    neurons = NeuronNode("neurons", (40,), 0, 1, 131071, np.zeros(40, np.int16), 0)
    source, read = InputNode("input", (600,), message_bits), ReadoutNode("read", np.zeros(40, np.int64), "spikes")
    nodes = (source, dense, neurons, read)
    edges = tuple(pairwise(node.name for node in nodes))
    program = LoihiProgram(nodes, edges, 3, {"kind": "test", "sha256": ""}, overflow="hardware")
    inputs = make_inputs(np.full((3, 2, 600), source.max_value), source, default_steps=3)
    fast = FastEngine(program, kernel=kernel).run(inputs, record=frozenset("uv"))
    assert_equal(run_reference(program, inputs, record=frozenset("uv")), fast)


@pytest.mark.parametrize("population", [CompiledPopulation, TorchPopulation])
@settings(max_examples=300, deadline=None)
@given(
    u=STATES, v=STATES, a=EXTREMES, bias=st.integers(-4096, 4095), exp=st.integers(0, 7),
    du=st.sampled_from([0, 1, 2047, 4094, 4095]), dv=st.sampled_from([0, 1, 410, 2048, 4095]),
    vth=st.sampled_from([0, 1, 100, 131071]), reset=st.sampled_from(["zero", "subtract"]),
)  # fmt: skip
def test_fused_neurons_equal_the_definition_at_the_limits(population, u, v, a, bias, exp, du, dv, vth, reset):
    if population is CompiledPopulation and not HAS_NUMBA:
        pytest.skip("numba is not installed")
    node = NeuronNode("neuron", (1,), du, dv, vth, np.array([bias], np.int16), exp, reset=reset)
    made = population(node, bias_of(node), 1, "cpu", frozenset("uv"))
    made.u[:], made.v[:] = u, v
    events = torch.zeros(1, 1, 1, dtype=torch.uint8)
    steps = made.run(torch.tensor([[[a]]], dtype=torch.int32), events)
    state, out = step(node, NeuronState(*(np.array([[x]]) for x in (u, v, 0, 0))), np.array([[a]]), 0)
    expected = [int(x[0, 0]) for x in (state.u, state.v, out.events, out.wrapped, out.saturated)]
    assert [int(steps.u), int(steps.v), int(events), *steps.overflows.flatten().tolist()] == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_fault_in_any_kernel_is_seen(small_program, random_inputs, monkeypatch, kernel):
    program = small_program(12)
    inputs = random_inputs(program)
    engine = FastEngine(program, kernel=kernel)
    if not any(kernel in synapse.usable for synapse in engine.ready.synapses.values()):
        pytest.skip(f"no {kernel} kernel here: the float kernel stands in, and has its own fault")
    for synapse in engine.ready.synapses.values():
        broken = synapse.small.copy()
        broken.flat[0] ^= 1  # one weight bit
        synapse.small = broken
        if kernel == "float":
            synapse._on_device["weight"].view(-1)[0] ^= 2
    with pytest.raises(AssertionError):
        assert_equal(run_reference(program, inputs, record=frozenset("uv")), engine.run(inputs, record=frozenset("uv")))


def test_int8_products_are_left_out_where_the_processor_saturates_them(small_program, monkeypatch):
    monkeypatch.setattr(gemm_sums, "int8_gemm_is_exact", lambda: False)
    assert all("int8" not in each.usable for each in FastEngine(small_program(5)).ready.synapses.values())


def test_an_unknown_kernel_is_refused(small_program):
    with pytest.raises(LavatubeError, match="kernel, expected event, dot, int8, float, got cuda"):
        FastEngine(small_program(5), kernel="cuda")


@pytest.mark.parametrize("rows", [1, 2, 6, 12])
def test_a_convolution_of_one_channel_is_exact_however_its_strides_are_written(rows):
    """torch 2.15 sums something else where the strides of one channel may be those of channels last."""
    rng = np.random.default_rng(rows)
    events = torch.tensor(rng.integers(0, 2, (rows, 3, 3, 1))).permute(0, 3, 1, 2)
    weight = torch.tensor(rng.integers(-9, 9, (1, 1, 3, 3)))
    wanted = torch.nn.functional.conv2d(events.double(), weight.double(), None, (1, 2), (1, 0))
    assert torch.equal(exact_conv2d(events, weight, (1, 2), (1, 0), 1).double(), wanted)


@pytest.mark.parametrize("channels", [1, 57])
def test_the_self_check_sees_float32_sums_of_one_channel_or_many_that_are_wrong(channels, monkeypatch):
    def wrong(events, weight, *rest):
        return conv2d(events, weight, *rest) + (events.shape[1] == channels and events.dtype == torch.float32)

    conv2d = torch.nn.functional.conv2d
    assert exact_sums.float32_is_exact.__wrapped__("cpu")
    monkeypatch.setattr(exact_sums.F, "conv2d", wrong)
    assert not exact_sums.float32_is_exact.__wrapped__("cpu")
