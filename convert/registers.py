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
from lavatube.train.layout import INPUT


@dataclass(frozen=True)
class FoldedSynapse:
    """weight: [O, I, h, w] (conv2d), [O, I] (dense) or [C, 1, 1, 1] (scale) float64. source: a layer, or "input".

    geometry: kind, in_shape and for conv2d kernel, stride, padding.
    """

    name: str
    source: str
    geometry: Mapping[str, Any]
    weight: np.ndarray


@dataclass(frozen=True)
class FoldedLayer:
    """A float population after batch norm was folded: threshold 1, events as integers.

    bias: [O] float64, added every step; dv: leak in 1/4096 per step, None at the read-out.
    """

    name: str
    out_shape: Sequence[int]
    synapses: tuple[FoldedSynapse, ...]
    bias: np.ndarray
    dv: int | None


@dataclass(frozen=True)
class ChosenLayer:
    """layout: JSON row of the quantized layout; weights by synapse, and bias: float32 master values in its unit."""

    layout: Mapping[str, Any]
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray


def choose_registers(
    layers: Sequence[FoldedLayer], *, message_bits: int, weight_bits: int, headroom: float
) -> list[ChosenLayer]:
    """Registers for every layer. headroom: share of the proven range to use, 0..1; the rest is for fine-tuning.

    raises: LavatubeError if weight_bits or headroom are out of range, or a synapse has no weights but zero.
    """
    if not 2 <= weight_bits <= fp.WEIGHT_BITS_MAX:
        raise LavatubeError("weight bits", where="quantize", expected="2..8", got=str(weight_bits))
    if not 0 < headroom <= 1:
        raise LavatubeError("headroom", where="quantize", expected="above 0, at most 1", got=str(headroom))
    for layer in layers:
        for synapse in layer.synapses:
            if not (np.isfinite(synapse.weight).all() and np.isfinite(layer.bias).all()):
                raise LavatubeError(
                    "weights are not finite after folding the normalisation", where=synapse.name,
                    remedy="its running variance may be negative or infinite: train again",
                )  # fmt: skip
            if not np.abs(synapse.weight).max() > 0:
                raise LavatubeError("all weights are zero", where=synapse.name, remedy="train the network first")
    return [_choose(layer, (1 << message_bits) - 1, weight_bits, headroom) for layer in layers]


def _choose(layer: FoldedLayer, max_input: int, bits: int, headroom: float) -> ChosenLayer:
    limit, scale = 2 ** (bits - 1) - 1, 2.0 ** (1 - bits)
    largest = [float(np.abs(synapse.weight).max()) for synapse in layer.synapses]
    layout: dict[str, Any] = {"name": layer.name, "out_shape": list(layer.out_shape), "neuron": None}
    if layer.dv is None:
        factor = limit / largest[0] * scale
        layout["logit_scale"] = 1 / factor
        return _chosen(layer, layout, factor, [0], bits)
    if layer.dv == 0:
        raise UnsupportedError(
            "a neuron without leak", where=layer.name, expected="dv of at least 1", got="dv = 0", remedy="use decay < 1"
        )
    vth = int(headroom * largest_threshold(layer, max_input))
    k_max = fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX + 1 - bits
    vth = min(vth, int(limit * 2**k_max / max(largest)))
    if vth < 1:
        raise LavatubeError(
            "no threshold keeps this layer inside Loihi's registers", where=layer.name, got=f"vth {vth}"
        )
    shifts = [max(0, math.ceil(math.log2(value * vth / limit))) for value in largest]
    bias_units = float(np.abs(layer.bias).max()) * vth * (1 << fp.ACTIVATION_SHIFT)
    bias_exp = max(0, math.ceil(math.log2(max(bias_units, 1) / headroom / fp.BIAS_MANTISSA_MAX)))
    layout["neuron"] = {
        "du": fp.DECAY_MAX, "dv": layer.dv, "vth": vth, "bias_exp": min(bias_exp, fp.BIAS_EXPONENT_MAX)
    }  # fmt: skip
    return _chosen(layer, layout, vth * scale / 2 ** max(shifts), shifts, bits)


def _chosen(layer: FoldedLayer, layout: dict[str, Any], factor: float, shifts: Sequence[int], bits: int) -> ChosenLayer:
    """Master values are those of the folded layer times `factor`; one integer of a synapse is worth its scale.

    The synapse with the largest shift has the scale 2^(1 - bits); all have one activation unit, scale / 2^shift.
    """
    rows = [
        {
            "name": synapse.name, "source": synapse.source, **synapse.geometry,
            "bits": bits, "headroom": shift, "scale": 2.0 ** (1 - bits + shift - max(shifts)),
        }
        for synapse, shift in zip(layer.synapses, shifts, strict=True)
    ]  # fmt: skip
    weights = tuple((synapse.weight * factor).astype(np.float32) for synapse in layer.synapses)
    return ChosenLayer({**layout, "synapses": rows}, weights, (layer.bias * factor).astype(np.float32))


def largest_threshold(layer: FoldedLayer, max_input: int) -> int:
    """Largest vth at which no input in 0..max_input can wrap u, saturate v or overflow the bias (threshold 1 = vth).

    The same intervals as `lavatube.bounds`, solved for the scale.
    """
    assert layer.dv is not None
    high, low = np.zeros(len(layer.bias)), np.zeros(len(layer.bias))
    for synapse in layer.synapses:
        rows = synapse.weight.reshape(len(synapse.weight), -1) * (max_input if synapse.source == INPUT else 1)
        high, low = high + np.maximum(rows, 0).sum(1), low - np.minimum(rows, 0).sum(1)
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
