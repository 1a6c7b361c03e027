"""Records of what a quantization changed; they travel with the network, its NIR file and its program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lavatube.convert.registers import ChosenLayer, FoldedLayer
from lavatube.fixed_point import ACTIVATION_SHIFT, BIAS_MANTISSA_MAX, BIAS_MANTISSA_MIN, INT32_MAX
from lavatube.train.quantized import QuantizedModule
from lavatube.train.recipe import Recipe


def snapped(recipe: Recipe) -> list[dict[str, Any]]:
    """What the recipe asked for and the chip's registers cannot hold; training already used the register's value."""
    neuron = recipe.neuron
    if neuron.decay_asked is None:
        return []
    what = "decay snapped to the register dv, before training"
    return [{"stage": "train", "what": what, "asked": neuron.decay_asked, "used": neuron.decay, "dv": neuron.dv}]


def rounded_registers(folded: Sequence[FoldedLayer], module: QuantizedModule) -> list[dict[str, Any]]:
    """Thresholds and initial potentials that are no integers in the unit of their population."""
    records = []
    for layer, made in zip(folded, module.integer_layers(), strict=True):
        if layer.neuron is None or made.neuron is None:
            continue
        vth = made.neuron.vth
        exact = {"vth_low": layer.neuron.low * vth, "v_initial": layer.neuron.v_initial * (vth << ACTIVATION_SHIFT)}
        for name, asked in exact.items():
            if (used := getattr(made.neuron, name)) != asked:
                what = f"{name} rounded to its register"
                records.append({"stage": "quantize", "layer": layer.name, "what": what, "asked": asked, "used": used})
        if made.neuron.output == "graded":
            unit, highest = vth << ACTIVATION_SHIFT, (1 << made.neuron.payload_bits) - 1
            records.append({
                "stage": "quantize", "layer": layer.name,
                "what": f"graded spikes rounded down to payloads of {made.neuron.payload_bits} bits, in thresholds",
                "step": 2**made.neuron.payload_shift / unit,
                "largest_asked": layer.neuron.graded_max,
                "largest_used": (highest << made.neuron.payload_shift) / unit,
            })  # fmt: skip
    return records


def rounding(chosen: Sequence[ChosenLayer], module: QuantizedModule) -> list[dict[str, Any]]:
    """What rounding and clamping does: to the folded floats before fine-tuning, and to the master weights after it."""
    records = []
    for values, layer, made in zip(chosen, module.in_order(), module.integer_layers(), strict=True):
        bias_range = (BIAS_MANTISSA_MIN, BIAS_MANTISSA_MAX) if made.neuron else (-INT32_MAX, INT32_MAX)
        masters = [synapse.master.cpu().numpy() for synapse in layer.inbound()]
        biases = values.bias, layer.bias.detach().cpu().numpy()
        for number, synapse in enumerate(made.synapses):
            limit = 2 ** (synapse.num_weight_bits - 1) - 1
            for when, weight in (("before", values.weights[number]), ("after", masters[number])):
                what = f"weights rounded to {synapse.num_weight_bits} bits"
                found = _range_of("weight", weight, synapse.scale, (-limit, limit))
                records.append(_record(synapse.node_name, when, what) | found)
        for when, bias in zip(("before", "after"), biases, strict=True):
            found = _range_of("bias", bias, made.bias_scale, bias_range)
            records.append(_record(made.name, when, "biases rounded to their register") | found)
    return records


def _record(layer: str, when: str, what: str) -> dict[str, Any]:
    return {"stage": "quantize", "layer": layer, "when": f"{when} fine-tuning", "what": what}


def _range_of(what: str, value: np.ndarray, scale: float, limits: tuple[int, int]) -> dict[str, Any]:
    exact = value.astype(np.float64) / scale
    integers = np.clip(np.rint(exact), *limits)
    return {
        f"{what}_largest": int(np.abs(integers).max()),
        f"{what}_to_zero": int(((integers == 0) & (exact != 0)).sum()),
        f"{what}_clamped": int((np.rint(exact) != integers).sum()),
        f"{what}_largest_error": float(np.abs(integers - exact).max() * scale),
    }
