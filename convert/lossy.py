"""Records of what a quantization changed; they travel with the network, its NIR file and its program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lavatube.convert.registers import ChosenLayer, FoldedLayer
from lavatube.fixed_point import ACTIVATION_SHIFT, BIAS_MANTISSA_MAX, BIAS_MANTISSA_MIN, INT32_MAX
from lavatube.lossy_text import AFTER, BEFORE
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


def rounding(chosen: Sequence[ChosenLayer], module: QuantizedModule, *, tuned: bool) -> list[dict[str, Any]]:
    """What rounding and clamping does: to the folded floats before fine-tuning, and to the master weights after it.

    tuned: else nothing was fine-tuned, and there is one record of each, from the folded floats to the integers in use.
    """
    records = []
    for values, layer, made in zip(chosen, module.in_order(), module.integer_layers(), strict=True):
        bias_range = (BIAS_MANTISSA_MIN, BIAS_MANTISSA_MAX) if made.neuron else (-INT32_MAX, INT32_MAX)
        for number, (synapse, row) in enumerate(zip(layer.inbound(), made.synapses, strict=True)):
            limit, what = 2 ** (row.num_weight_bits - 1) - 1, f"weights rounded to {row.num_weight_bits} bits"
            before, after = values.weights[number], synapse.master.cpu().numpy()
            sides = [
                (BEFORE, before, _nearest(before, row.scale, (-limit, limit))),
                (AFTER, after, row.weight.reshape(after.shape)),  # where signs are kept, no magnitude is below 0
            ]
            for when, weight, integers in sides if tuned else [("", before, sides[1][2])]:
                found = _difference("weight", weight, integers, row.scale)
                records.append(_record(row.node_name, when, what) | found)
            if row.headroom < 0:
                records.append({
                    "stage": "quantize", "layer": row.node_name,
                    "what": "sums rounded down to the unit of their population", "lost_at_most": 1 - 2.0**row.headroom,
                    "threshold": made.neuron.vth if made.neuron else None,
                })  # fmt: skip
        sides = [
            (BEFORE, values.bias, _nearest(values.bias, made.bias_scale, bias_range)),
            (AFTER, layer.bias.detach().cpu().numpy(), made.bias),
        ]
        for when, bias, integers in sides if tuned else [("", values.bias, made.bias)]:
            found = _difference("bias", bias, integers, made.bias_scale)
            records.append(_record(made.name, when, "biases rounded to their register") | found)
    return records


def _record(layer: str, when: str, what: str) -> dict[str, Any]:
    return {"stage": "quantize", "layer": layer, **({"when": when} if when else {}), "what": what}


def _nearest(value: np.ndarray, scale: float, limits: tuple[int, int]) -> np.ndarray:
    return np.asarray(np.clip(np.rint(value.astype(np.float64) / scale), *limits))


def _difference(what: str, value: np.ndarray, integers: np.ndarray, scale: float) -> dict[str, Any]:
    """Of floats, and of the integers that stand for them, each worth `scale`."""
    exact = value.astype(np.float64) / scale
    return {
        f"{what}_largest": int(np.abs(integers.astype(np.int64)).max()),
        f"{what}_to_zero": int(((integers == 0) & (exact != 0)).sum()),
        f"{what}_clamped": int((np.rint(exact) != integers).sum()),
        f"{what}_largest_error": float(np.abs(integers - exact).max() * scale),
    }
