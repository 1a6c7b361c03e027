"""Registers are chosen as large as Loihi allows, and never larger: whatever the weights, nothing can overflow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.bounds import bound_layer
from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse, choose_registers
from lavatube.errors import LavatubeError
from lavatube.integer_layer import IntegerNeuron
from lavatube.program import DenseNode, NeuronNode


def folded(seed, *, fan_in=20, spread=1.0, bias=0.5, dv=2048):
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, spread, (7, fan_in))
    synapse = FoldedSynapse("layer1", "input", {"kind": "dense", "in_shape": [fan_in]}, weight)
    return FoldedLayer("layer1", [7], (synapse,), rng.normal(0, bias, 7), FoldedNeuron(dv))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6), fan_in=st.integers(1, 200), spread=st.floats(1e-4, 30), bias=st.floats(0, 30),
    dv=st.sampled_from([1, 41, 410, 2048, 4095]), bits=st.integers(2, 8), message_bits=st.sampled_from([1, 4, 8]),
)  # fmt: skip
def test_no_register_can_overflow_for_any_weights(seed, fan_in, spread, bias, dv, bits, message_bits):
    layer = folded(seed, fan_in=fan_in, spread=spread, bias=bias, dv=dv)
    try:
        (chosen,) = choose_registers([layer], message_bits=message_bits, weight_bits=bits, headroom=0.95, num_steps=8)
    except LavatubeError:
        return  # refused: nothing fits; its words are tested below
    layout, (row,) = chosen.layout, chosen.layout["synapses"]
    q = np.rint(chosen.weights[0].astype(np.float64) / row["scale"])
    assert np.abs(q).max() <= 2 ** (bits - 1) - 1
    unit = row["scale"] / 2 ** row["headroom"] * 2.0 ** (layout["neuron"]["bias_exp"] - 6)
    mantissa = np.rint(chosen.bias.astype(np.float64) / unit)
    assert np.abs(mantissa).max() <= 4095
    synapse = DenseNode("d", (fan_in,), (q.astype(np.int16) << (9 - bits)), bits, bits - 9 + row["headroom"])
    neuron = NeuronNode("l", (7,), bias_mant=mantissa.astype(np.int16), **layout["neuron"])
    rounding = 0.5 * fan_in * (2**message_bits - 1) * 2 ** row["headroom"] * 64 * 4096 / dv
    bound = bound_layer(neuron, [(synapse, (0, 2**message_bits - 1))], 8)
    assert bound.u[1] <= 2**23 * 0.95 + rounding
    assert -bound.v[0] <= (2**23 - 1) * 0.95 + rounding + 2 * 64 * 128 * 4096 / dv


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6), fan_in=st.integers(1, 60), spread=st.floats(1e-3, 10), bias=st.floats(0, 5),
    dv=st.sampled_from([0, 410, 2048]), reset=st.sampled_from(["zero", "subtract"]),
    output=st.sampled_from(["binary", "signed"]), gate=st.booleans(), low=st.sampled_from([0.0, 0.33, 1.0, 2.5]),
    v_initial=st.sampled_from([-3.0, -0.7, 0.0, 0.5, 3.0]), num_steps=st.sampled_from([1, 4, 40]),
)  # fmt: skip
def test_no_register_can_overflow_for_any_neuron(
    seed, fan_in, spread, bias, dv, reset, output, gate, low, v_initial, num_steps
):
    signed = output == "signed"
    neuron = FoldedNeuron(dv, reset, output, low * signed, gate and signed, v_initial)
    layer = replace(folded(seed, fan_in=fan_in, spread=spread, bias=bias), neuron=neuron)
    (chosen,) = choose_registers([layer], message_bits=1, weight_bits=8, headroom=0.9, num_steps=num_steps)
    (row,), registers = chosen.layout["synapses"], chosen.layout["neuron"]
    q = np.rint(chosen.weights[0].astype(np.float64) / row["scale"]).astype(np.int16)
    unit = row["scale"] / 2 ** row["headroom"] * 2.0 ** (registers["bias_exp"] - 6)
    mantissa = np.rint(chosen.bias.astype(np.float64) / unit).astype(np.int16)
    synapse = DenseNode("d", (fan_in,), q << 1, 8, row["headroom"] - 1)
    target = IntegerNeuron(bias_mant=mantissa, **registers).node("l", (7,))
    rounding = 32 * (fan_in * 2 ** row["headroom"] + 2 ** registers["bias_exp"])
    settled = num_steps if dv == 0 else min(4096 / dv, 4096)
    bound = bound_layer(target, [(synapse, (0, 1))], num_steps)
    assert max(map(abs, bound.u)) <= 2**23 * 0.9 + rounding
    assert max(map(abs, bound.v)) <= (2**23 - 1) * 0.9 + (rounding + 64) * (settled + 1)
    assert abs(registers["v_initial"] / 64 / registers["vth"] - v_initial) <= 0.01


def test_thresholds_weights_and_biases_keep_their_ratio():
    layer = folded(1)
    (chosen,) = choose_registers([layer], message_bits=1, weight_bits=8, headroom=0.9, num_steps=8)
    (row,) = chosen.layout["synapses"]
    theta = chosen.layout["neuron"]["vth"] * row["scale"] / 2 ** row["headroom"]
    np.testing.assert_allclose(chosen.weights[0] / theta, layer.synapses[0].weight, rtol=1e-6)
    np.testing.assert_allclose(chosen.bias / theta, layer.bias, rtol=1e-6)
    assert np.abs(chosen.weights[0] / row["scale"]).max() > 63  # at least 7 of the 8 bits are used


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), ratio=st.floats(1e-3, 1e3), bits=st.integers(2, 8))
def test_synapses_of_one_population_share_its_unit_and_never_overflow_together(seed, ratio, bits):
    rng = np.random.default_rng(seed)
    made = [
        FoldedSynapse(name, source, {"kind": "dense", "in_shape": [size]}, rng.normal(0, spread, (7, size)))
        for name, source, size, spread in (("a", "input", 20, 0.1), ("b", "layer1", 9, 0.1 * ratio))
    ]
    layer = FoldedLayer("layer1", [7], tuple(made), rng.normal(0, 0.5, 7), FoldedNeuron(2048))
    (chosen,) = choose_registers([layer], message_bits=4, weight_bits=bits, headroom=0.8, num_steps=8)
    rows, vth = chosen.layout["synapses"], chosen.layout["neuron"]["vth"]
    assert len({row["scale"] / 2 ** row["headroom"] for row in rows}) == 1
    inbound = []
    for row, weight, synapse in zip(rows, chosen.weights, made, strict=True):
        q, worth = np.rint(weight.astype(np.float64) / row["scale"]), 2 ** row["headroom"] / vth
        assert np.abs(q).max() <= 2 ** (bits - 1) - 1
        np.testing.assert_allclose(q * worth, synapse.weight, atol=0.51 * worth)
        exponent = bits - 9 + row["headroom"]
        node = DenseNode(row["name"], tuple(row["in_shape"]), q.astype(np.int16) << (9 - bits), bits, exponent)
        inbound.append((node, (0, 15 if row["source"] == "input" else 1)))
    neuron = NeuronNode("l", (7,), bias_mant=np.zeros(7, np.int16), **chosen.layout["neuron"])
    rounding = 0.5 * (20 * 15 + 9) * max(2 ** row["headroom"] for row in rows) * 64
    assert bound_layer(neuron, inbound, 8).u[1] <= 2**23 * 0.8 + rounding


def test_bad_settings_and_an_untrained_layer_are_refused():
    usual = {"message_bits": 1, "weight_bits": 8, "headroom": 0.9}
    for arguments, words in [
        ({"weight_bits": 1}, "expected 2..8, got 1"),
        ({"weight_bits": 9}, "expected 2..8, got 9"),
        ({"headroom": 0.0}, "headroom"),
        ({"headroom": 1.5}, "headroom"),
    ]:
        with pytest.raises(LavatubeError, match=words):
            choose_registers([folded(1)], num_steps=8, **{**usual, **arguments})
    synapse = FoldedSynapse("layer9", "input", {}, np.zeros((2, 2)))
    silent = FoldedLayer("layer9", [2], (synapse,), np.zeros(2), FoldedNeuron(2048))
    with pytest.raises(LavatubeError, match="layer9: all weights are zero"):
        choose_registers([silent], message_bits=1, weight_bits=8, headroom=0.9, num_steps=8)
    high = replace(folded(1), neuron=FoldedNeuron(2048, v_initial=-(2.0**18)))
    with pytest.raises(LavatubeError, match="layer1: no threshold keeps this layer inside Loihi's registers"):
        choose_registers([high], num_steps=8, **usual)
