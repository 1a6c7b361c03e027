"""The kernels in vector registers equal sums written out in 64 bits, whatever the shapes, widths and extremes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the kernels are compiled by numba")

from lavatube.neuron_node import NeuronNode
from lavatube.neuron_step import NeuronState, step
from lavatube.program import Conv2dNode, DenseNode
from lavatube.sim.fast_kernels import dot_sums, row_sums, synapse
from lavatube.sim.fast_kernels.order import lay_out
from lavatube.sim.fast_kernels.populations import CompiledPopulation, bias_of
from lavatube.sim.fast_kernels.synapse import ReadySynapse

HAS_DOTS = dot_sums.dots_are_exact()


def expected(node, events, exp):
    """Sums of [rows, C, H, W] or [rows, in] events in int64, then int32 and its shift."""
    seen, weight = torch.from_numpy(events.astype(np.int64)), torch.from_numpy(node.weight.astype(np.int64))
    if isinstance(node, DenseNode):
        total = seen @ weight.T
    else:
        window = node.stride, node.padding, node.dilation, node.groups
        total = torch.nn.functional.conv2d(seen.double(), weight.double(), None, *window).long()
    sums = total.numpy().astype(np.int32)
    return (sums << max(exp, 0)) >> max(-exp, 0)


def weights(rng, shape, low, high):
    """Random, or at the ends, or all at one of them."""
    ends = [low, high] if rng.random() < 0.5 else [low] if rng.random() < 0.5 else [high]
    return (rng.choice(ends, shape) if rng.random() < 0.7 else rng.integers(low, high + 1, shape)).astype(np.int16)


def check(node, kernel, limits, rng, density):
    """Into fresh sums and onto those there are. limits: (least, largest) event."""
    low, high = limits
    events = rng.choice([low, high], (3, *node.in_shape)) if rng.random() < 0.3 else None
    events = rng.integers(low, high + 1, (3, *node.in_shape)) if events is None else events
    events = (events * (rng.random(events.shape) < density)).astype(np.int8 if low < 0 else np.uint8)
    ready = ReadySynapse(node, node.in_shape, node.out_shape, limits, "cpu", kernel)
    assert kernel in ready.usable
    given = torch.from_numpy(np.ascontiguousarray(lay_out(events, node.in_shape)))
    sums = lay_out(expected(node, events, node.weight_exp), node.out_shape)
    before = rng.integers(-(2**31), 2**31, sums.shape).astype(np.int32)
    out = torch.from_numpy(before.copy())
    ready.add(given, out, False)
    np.testing.assert_array_equal(out.numpy(), sums)
    out = torch.from_numpy(before.copy())
    ready.add(given, out, True)
    np.testing.assert_array_equal(out.numpy(), before + sums)


KINDS = st.sampled_from(["event", "event, places one by one", *["dot"] * HAS_DOTS])
WEIGHTS = {"mixed": (-256, 254), "excitatory": (0, 255)}


def case(seed, kind, sign):
    """(random state, kernel, limits of the events, density, weights of a shape)"""
    rng = np.random.default_rng(seed)
    if kind == "dot":
        low, high = WEIGHTS["mixed"]
        limits = [(0, 1), (0, 255), (0, 9), (-1, 1), (-128, 127)][seed % 5]
    else:
        (low, high), limits = WEIGHTS[sign], (0, 1)
    grid = 2 if low < 0 else 1
    density = [0.05, 0.3, 1.0][seed % 3]
    return (
        rng,
        kind.split(",")[0],
        limits,
        density,
        lambda *shape: weights(rng, shape, low // grid, high // grid) * grid,
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), kind=KINDS, sign=st.sampled_from(sorted(WEIGHTS)))
def test_dense_sums_are_exact(seed, kind, sign):
    rng, kernel, limits, density, weight = case(seed, kind, sign)
    inputs, outputs = (int(rng.choice([1, 3, 31, 64, 67, 300, 900])), int(rng.choice([1, 10, 32, 65, 96, 128, 230])))
    node = DenseNode(
        "dense", (inputs,), weight(outputs, inputs), 8, int(rng.integers(-3, 3)), sign=sign_of(kernel, sign)
    )
    with pytest.MonkeyPatch.context() as patch:
        if kind != kernel:
            patch.setattr(row_sums, "presses_bytes", lambda: False)
        check(node, kernel, limits, rng, density)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), kind=KINDS, sign=st.sampled_from(sorted(WEIGHTS)))
def test_sums_of_a_convolution_are_exact(seed, kind, sign):
    rng, kernel, limits, density, weight = case(seed, kind, sign)
    groups = int(rng.choice([1, 1, 2, 3])) if kernel == "event" else 1
    channels, outputs = groups * int(rng.choice([1, 3, 5, 64, 70])), groups * int(rng.choice([1, 10, 48, 130]))
    kernels = tuple(int(n) for n in rng.integers(1, 4, 2))
    window = {
        "stride": tuple(int(n) for n in rng.integers(1, 3, 2)),
        "padding": tuple(int(n) for n in rng.integers(0, 3, 2)),
        "dilation": tuple(int(n) for n in rng.integers(1, 3, 2)),
        "groups": groups,
    }
    shape = channels, *(int(n) for n in rng.integers(5, 8, 2))
    exp = int(rng.integers(-3, 3))
    node = Conv2dNode(
        "conv", shape, weight(outputs, channels // groups, *kernels), 8, exp, sign=sign_of(kernel, sign), **window
    )
    with pytest.MonkeyPatch.context() as patch:
        if kind != kernel:
            patch.setattr(row_sums, "presses_bytes", lambda: False)
        check(node, kernel, limits, rng, density)


def sign_of(kernel, sign):
    return "mixed" if kernel == "dot" else sign


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    dv=st.sampled_from([0, 1, 1024, 4095]),
    largest=st.sampled_from([1 << 10, (1 << 15) - 1, 1 << 15, 1 << 17, 1 << 25]),
    reset=st.sampled_from(["zero", "subtract"]),
)
def test_neurons_that_are_calm_for_some_steps_only_equal_the_definition(seed, dv, largest, reset):
    """More neurons than are worked on together; one loud step in the middle."""
    rng = np.random.default_rng(seed)
    size, steps = row_sums.LANES * 70 + 5, 5
    bias = rng.integers(-4096, 4096, size).astype(np.int16)
    vth = int(rng.choice([0, 60, 5000, 131071]))
    node = NeuronNode("neuron", (size,), 4095, dv, vth, bias, int(rng.integers(0, 8)), reset=reset)
    a = rng.integers(-(1 << 9), 1 << 9, (steps, 1, size)).astype(np.int32)
    a[seed % steps, 0, rng.integers(0, size, 9)] = rng.choice([-largest, largest], 9)
    population = CompiledPopulation(node, bias_of(node), 1, "cpu", frozenset("v"))
    population.v[:] = rng.choice([0, 1 << 18, (1 << 22) - 1, 1 << 22, (1 << 23) - 1]) * rng.choice([-1, 1], size)
    state = NeuronState(*(np.array(x, np.int64) for x in (population.u, population.v, population.u, population.u)))
    events = torch.zeros(steps, 1, size, dtype=torch.uint8)
    made = population.run(torch.from_numpy(a), events)
    for t in range(steps):
        state, out = step(node, state, a[t].astype(np.int64), t)
        np.testing.assert_array_equal(events[t].numpy(), out.events)
        np.testing.assert_array_equal(made.v[t].numpy(), state.v)
        assert made.overflows[:, t, 0].tolist() == [out.wrapped.sum(), out.saturated.sum()]


@pytest.mark.parametrize("weight", [-256, 254, 255])
def test_more_active_rows_than_fit_16_bits_are_added_exactly(weight):
    sign = "mixed" if weight % 2 == 0 else "excitatory"
    node = DenseNode("dense", (2000,), np.full((40, 2000), weight, np.int16), 8, 0, sign=sign)
    ready = ReadySynapse(node, node.in_shape, node.out_shape, (0, 1), "cpu", "event")
    out = torch.zeros(1, 40, dtype=torch.int32)
    ready.add(torch.ones(1, 2000, dtype=torch.uint8), out, False)
    assert (out == weight * 2000).all()


def test_without_the_instruction_other_kernels_take_its_place(monkeypatch):
    node = DenseNode("dense", (40,), np.full((200, 40), -256, np.int16), 8, 0)
    events = torch.ones(2, 40, dtype=torch.uint8)
    for has in (True, False):
        monkeypatch.setattr(synapse, "dots_are_exact", lambda has=has: has and HAS_DOTS)
        ready = ReadySynapse(node, node.in_shape, node.out_shape, (0, 255), "cpu", None)
        assert ("dot" in ready.usable) == (has and HAS_DOTS)
        out = torch.zeros(2, 200, dtype=torch.int32)
        ready.add(events, out, False)
        assert (out == -256 * 40).all()
        assert ready.chosen == ("dot" if has and HAS_DOTS else "int8" if "int8" in ready.usable else "float")


def test_a_processor_without_the_instruction_is_told_from_its_features(monkeypatch):
    class Codegen:
        def magic_tuple(self):
            return "triple", "older", "+avx2,+avx512f"

    monkeypatch.setattr(type(dot_sums.cpu_target.target_context), "codegen", lambda self: Codegen())
    assert not dot_sums.processor_has_dots()
    dot_sums.dots_are_exact.cache_clear()
    assert not dot_sums.dots_are_exact()
    dot_sums.dots_are_exact.cache_clear()


def test_the_dot_kernel_holds_its_own_arrays_as_long_as_their_addresses_are_read() -> None:
    """Numba frees an array after the last line that names it; that an address of it is in use it cannot know."""
    from numba.core.compiler import run_frontend

    blocks = run_frontend(dot_sums.add_dots.py_func, emit_dels=True).blocks.values()
    for name in ("there", "words", "tile"):
        freeing = [block for block in blocks if any(str(each) == f"del {name}" for each in block.body)]
        assert freeing
        assert all(str(block.terminator).startswith("return") for block in freeing)
