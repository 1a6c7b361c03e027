"""Choose every register of a quantized network: the population's scale, as large as Loihi's widths allow.

A LIF with reset to zero does not change when its weights, threshold and bias are multiplied by one factor. So each
population picks the largest integer threshold `vth` (the factor) for which nothing can overflow, and its weights,
threshold and bias land on that one grid: threshold exactly, weights and biases rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError, UnsupportedError


@dataclass(frozen=True)
class FoldedLayer:
    """A float layer after batch norm was folded: threshold 1, events as integers.

    weight: [O, I, h, w] or [O, I] float64; bias: [O] float64, added every step; dv: leak in 1/4096 per step,
    None at the read-out. geometry: kind, in_shape, out_shape and for conv2d kernel, stride, padding.
    """

    name: str
    geometry: Mapping[str, Any]
    weight: np.ndarray
    bias: np.ndarray
    dv: int | None


@dataclass(frozen=True)
class ChosenLayer:
    """layout: JSON row of the quantized layout; weight, bias: float32 master values in its unit."""

    layout: Mapping[str, Any]
    weight: np.ndarray
    bias: np.ndarray


def choose_registers(
    layers: Sequence[FoldedLayer], *, message_bits: int, weight_bits: int, headroom: float
) -> list[ChosenLayer]:
    """Registers for every layer. headroom: share of the proven range to use, 0..1; the rest is for fine-tuning.

    raises: LavatubeError if weight_bits or headroom are out of range, or a layer has no weights but zero.
    """
    if not 2 <= weight_bits <= fp.WEIGHT_BITS_MAX:
        raise LavatubeError("weight bits", where="quantize", expected="2..8", got=str(weight_bits))
    if not 0 < headroom <= 1:
        raise LavatubeError("headroom", where="quantize", expected="above 0, at most 1", got=str(headroom))
    chosen, max_event = [], (1 << message_bits) - 1
    for layer in layers:
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise LavatubeError(
                "weights are not finite after folding the normalisation", where=layer.name,
                remedy="its running variance may be negative or infinite: train again",
            )  # fmt: skip
        if not np.abs(layer.weight).max() > 0:
            raise LavatubeError("all weights are zero", where=layer.name, remedy="train the network first")
        chosen.append(_choose(layer, max_event, weight_bits, headroom))
        max_event = 1
    return chosen


def _choose(layer: FoldedLayer, max_event: int, bits: int, headroom: float) -> ChosenLayer:
    largest, limit, scale = float(np.abs(layer.weight).max()), 2 ** (bits - 1) - 1, 2.0 ** (1 - bits)
    layout: dict[str, Any] = {"name": layer.name, **layer.geometry, "bits": bits, "scale": scale, "neuron": None}
    if layer.dv is None:
        factor = limit / largest * scale
        layout |= {"headroom": 0, "logit_scale": 1 / factor}
        return ChosenLayer(layout, (layer.weight * factor).astype(np.float32), (layer.bias * factor).astype(np.float32))
    if layer.dv == 0:
        raise UnsupportedError(
            "a neuron without leak", where=layer.name, expected="dv of at least 1", got="dv = 0", remedy="use decay < 1"
        )
    vth = int(headroom * largest_threshold(layer, max_event))
    k_max = fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX + 1 - bits
    vth = min(vth, int(limit * 2**k_max / largest))
    if vth < 1:
        raise LavatubeError(
            "no threshold keeps this layer inside Loihi's registers", where=layer.name, got=f"vth {vth}"
        )
    k = max(0, math.ceil(math.log2(largest * vth / limit)))
    factor = vth * scale / 2**k
    bias_units = float(np.abs(layer.bias).max()) * vth * (1 << fp.ACTIVATION_SHIFT)
    bias_exp = max(0, math.ceil(math.log2(max(bias_units, 1) / headroom / fp.BIAS_MANTISSA_MAX)))
    neuron = {"du": fp.DECAY_MAX, "dv": layer.dv, "vth": vth, "bias_exp": min(bias_exp, fp.BIAS_EXPONENT_MAX)}
    layout |= {"headroom": k, "neuron": neuron}
    return ChosenLayer(layout, (layer.weight * factor).astype(np.float32), (layer.bias * factor).astype(np.float32))


def largest_threshold(layer: FoldedLayer, max_event: int) -> int:
    """Largest vth at which no input in 0..max_event can wrap u, saturate v or overflow the bias (threshold 1 = vth).

    The same intervals as `lavatube.bounds`, solved for the scale.
    """
    assert layer.dv is not None
    rows = layer.weight.reshape(len(layer.weight), -1)
    high = np.maximum(rows, 0).sum(1) * max_event
    low = -np.minimum(rows, 0).sum(1) * max_event
    kept = 1 - layer.dv / fp.DECAY_ONE
    settle = fp.DECAY_ONE / layer.dv
    reach = max(
        float(np.maximum(high, low).max()),
        float((kept + high + np.maximum(layer.bias, 0)).max()),
        float(((low + np.maximum(-layer.bias, 0)) * settle).max()),
        1e-12,
    )
    by_state = (fp.VOLTAGE_MAX >> fp.ACTIVATION_SHIFT) / reach
    bias_max = fp.BIAS_MANTISSA_MAX << fp.BIAS_EXPONENT_MAX >> fp.ACTIVATION_SHIFT
    by_bias = bias_max / max(float(np.abs(layer.bias).max()), 1e-12)
    return int(min(by_state, by_bias, fp.THRESHOLD_MAX))
