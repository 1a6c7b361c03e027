"""Registers are chosen as large as Loihi allows, and never larger: whatever the weights, nothing can overflow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lavatube.bounds import bound_layer
from lavatube.convert.registers import FoldedLayer, choose_registers
from lavatube.errors import LavatubeError
from lavatube.program import DenseNode, NeuronNode


def folded(seed, *, fan_in=20, spread=1.0, bias=0.5, dv=2048):
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, spread, (7, fan_in))
    return FoldedLayer(
        "layer1", {"kind": "dense", "in_shape": [fan_in], "out_shape": [7]}, weight, rng.normal(0, bias, 7), dv
    )


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6), fan_in=st.integers(1, 200), spread=st.floats(1e-4, 30), bias=st.floats(0, 30),
    dv=st.sampled_from([1, 41, 410, 2048, 4095]), bits=st.integers(2, 8), message_bits=st.sampled_from([1, 4, 8]),
)  # fmt: skip
def test_no_register_can_overflow_for_any_weights(seed, fan_in, spread, bias, dv, bits, message_bits):
    layer = folded(seed, fan_in=fan_in, spread=spread, bias=bias, dv=dv)
    try:
        (chosen,) = choose_registers([layer], message_bits=message_bits, weight_bits=bits, headroom=0.95)
    except LavatubeError:
        return  # refused: nothing fits; its words are tested below
    layout = chosen.layout
    q = np.rint(chosen.weight.astype(np.float64) / layout["scale"])
    assert np.abs(q).max() <= 2 ** (bits - 1) - 1
    unit = layout["scale"] / 2 ** layout["headroom"] * 2.0 ** (layout["neuron"]["bias_exp"] - 6)
    mantissa = np.rint(chosen.bias.astype(np.float64) / unit)
    assert np.abs(mantissa).max() <= 4095
    synapse = DenseNode("d", (fan_in,), (q.astype(np.int16) << (9 - bits)), bits, bits - 9 + layout["headroom"])
    neuron = NeuronNode("l", (7,), bias_mant=mantissa.astype(np.int16), **layout["neuron"])
    rounding = 0.5 * fan_in * (2**message_bits - 1) * 2 ** layout["headroom"] * 64 * 4096 / dv
    bound = bound_layer(neuron, [(synapse, (0, 2**message_bits - 1))], 8)
    assert bound.u[1] <= 2**23 * 0.95 + rounding
    assert -bound.v[0] <= (2**23 - 1) * 0.95 + rounding + 2 * 64 * 128 * 4096 / dv


def test_thresholds_weights_and_biases_keep_their_ratio():
    layer = folded(1)
    (chosen,) = choose_registers([layer], message_bits=1, weight_bits=8, headroom=0.9)
    theta = chosen.layout["neuron"]["vth"] * chosen.layout["scale"] / 2 ** chosen.layout["headroom"]
    np.testing.assert_allclose(chosen.weight / theta, layer.weight, rtol=1e-6)
    np.testing.assert_allclose(chosen.bias / theta, layer.bias, rtol=1e-6)
    assert np.abs(chosen.weight / chosen.layout["scale"]).max() > 63  # at least 7 of the 8 bits are used


def test_bad_settings_and_an_untrained_layer_are_refused():
    for arguments, words in [
        ({"weight_bits": 1}, "expected 2..8, got 1"),
        ({"weight_bits": 9}, "expected 2..8, got 9"),
        ({"headroom": 0.0}, "headroom"),
        ({"headroom": 1.5}, "headroom"),
    ]:
        with pytest.raises(LavatubeError, match=words):
            choose_registers([folded(1)], **{"message_bits": 1, "weight_bits": 8, "headroom": 0.9, **arguments})
    silent = FoldedLayer("layer9", {}, np.zeros((2, 2)), np.zeros(2), 2048)
    with pytest.raises(LavatubeError, match="layer9: all weights are zero"):
        choose_registers([silent], message_bits=1, weight_bits=8, headroom=0.9)
