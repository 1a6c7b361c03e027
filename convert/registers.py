"""Choose every register of a quantized network: the population's scale, as large as Loihi's widths allow.

A neuron does not change when its weights, thresholds, bias and initial potential are multiplied by one factor. So each
population picks the largest integer threshold `vth` (the factor) for which nothing can overflow, and its weights,
threshold and bias land on that one grid: threshold exactly, weights and biases rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.bounds import UNBOUNDED, voltage_bounds
from lavatube.convert.rounding_error import mean_square, squared_error
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.neuron_node import NeuronNode, Output, Reset
from lavatube.train.layout import INPUT

NEGLIGIBLE = 1 / 32  # of a threshold: so far a sum may be wrong in a timestep before weights become finer than a unit
Events = Mapping[str, tuple[int, int]]  # by source: the lowest and the highest


@dataclass(frozen=True)
class FoldedSynapse:
    """weight: [O, I, h, w] (conv2d), [O, I] (dense) or [C, 1, 1, 1] (scale) float64. source: a layer, or "input".

    geometry: kind, in_shape, for conv2d kernel, stride, padding, and pool as in `SynapseLayout`.
    """

    name: str
    source: str
    geometry: Mapping[str, Any]
    weight: np.ndarray

    @property
    def window(self) -> int:
        """Events that each weight sees: places of a pooling window."""
        return int(self.geometry["pool"][0] ** 2) if self.geometry.get("pool") else 1


@dataclass(frozen=True)
class FoldedNeuron:
    """dv: leak in 1/4096 per step; low (threshold of -1) and v_initial in thresholds; the rest as in `NeuronNode`."""

    dv: int
    reset: Reset = "zero"
    output: Output = "binary"
    low: float = 0.0
    memory_gate: bool = False
    v_initial: float = 0.0
    refractory: int = 0
    graded_max: float = 0.0
    payload_bits: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it leaks, has no negative spikes, is reset to zero, from rest: then v has a bound in closed form."""
        return self.dv > 0 and self.reset == "zero" and self.output != "signed" and self.v_initial == 0

    @property
    def event_range(self) -> tuple[int, int]:
        return {"signed": (-1, 1), "graded": (0, (1 << self.payload_bits) - 1)}.get(self.output, (0, 1))

    def payload_shift(self, vth: int) -> int:
        """Of v, such that the largest payload is just not below graded_max thresholds."""
        if self.output != "graded":
            return 0
        return max(0, math.ceil(math.log2(self.graded_max * (vth << fp.ACTIVATION_SHIFT) / 2**self.payload_bits)))

    def threshold_of_payload(self, limit: int) -> int:
        """The largest vth <= limit at which the largest payload is graded_max thresholds, rounded down."""
        steps = 2.0**self.payload_bits / (self.graded_max * (1 << fp.ACTIVATION_SHIFT))
        vth = math.floor(steps * 2.0 ** math.floor(math.log2(limit / steps)))
        return vth if vth >= 1 else limit

    def event(self, vth: int) -> float:
        """What an event of 1 is, in events of the folded network: there, a graded one counts thresholds."""
        return 2.0 ** self.payload_shift(vth) / (vth << fp.ACTIVATION_SHIFT) if self.output == "graded" else 1.0

    def registers(self, vth: int) -> dict[str, Any]:
        """As in `NeuronNode`, for a threshold of `vth`, rounded to the nearest."""
        return {
            "du": fp.DECAY_MAX, "dv": self.dv, "vth": vth, "reset": self.reset, "output": self.output,
            "vth_low": round(self.low * vth), "memory_gate": self.memory_gate,
            "v_initial": round(self.v_initial * (vth << fp.ACTIVATION_SHIFT)), "refractory": self.refractory,
            "payload_shift": self.payload_shift(vth), "payload_bits": self.payload_bits,
        }  # fmt: skip


@dataclass(frozen=True)
class FoldedLayer:
    """A float population after batch norm was folded: threshold 1, events as integers.

    bias: [O] float64, added every step; neuron: None at the read-out.
    """

    name: str
    out_shape: Sequence[int]
    synapses: tuple[FoldedSynapse, ...]
    bias: np.ndarray
    neuron: FoldedNeuron | None


@dataclass(frozen=True)
class ChosenLayer:
    """layout: JSON row of the quantized layout; weights by synapse, and bias: float32 master values in its unit."""

    layout: Mapping[str, Any]
    weights: tuple[np.ndarray, ...]
    bias: np.ndarray


def choose_registers(
    layers: Sequence[FoldedLayer], *, message_bits: int, weight_bits: int, headroom: float, num_steps: int,
    fractions: bool = True,
) -> list[ChosenLayer]:  # fmt: skip
    """Registers for every layer. headroom: share of the proven range to use, 0..1; the rest is for fine-tuning.

    num_steps: without leak, a voltage has a bound for so many timesteps only. fractions: whether sums of weights that
    are finer than the population's unit may be rounded down, where that errs less than weights of whole units.

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
    events = {layer.name: layer.neuron.event_range for layer in layers if layer.neuron is not None}
    events[INPUT] = (0, (1 << message_bits) - 1)
    chosen, worth = list[ChosenLayer](), {INPUT: 1.0}
    graded = {layer.name for layer in layers if layer.neuron is not None and layer.neuron.output == "graded"}
    for layer in layers:
        for synapse in layer.synapses:
            if synapse.source in graded - set(worth):
                raise UnsupportedError("graded spikes of the timestep before", where=synapse.name)
        synapses = tuple(replace(each, weight=each.weight * worth.get(each.source, 1.0)) for each in layer.synapses)
        folded = replace(layer, synapses=synapses)
        chosen.append(_choose(folded, events, weight_bits, headroom, num_steps, fractions))
        if layer.neuron is not None:
            worth[layer.name] = layer.neuron.event(chosen[-1].layout["neuron"]["vth"])
    return chosen


def _choose(
    layer: FoldedLayer, events: Events, bits: int, headroom: float, num_steps: int, fractions: bool
) -> ChosenLayer:
    largest = [float(np.abs(synapse.weight).max()) for synapse in layer.synapses]
    vth = 0 if layer.neuron is None else int(headroom * largest_threshold(layer, events, num_steps))
    one_size = len(largest) == 1 and is_signs(layer.synapses[0].weight, per_layer=True)
    one_size = one_size and (layer.neuron is None or largest[0] * vth >= 1)
    bits = 2 if one_size else bits  # 1 and -1: what rounding there is goes to the threshold
    limit, scale = 2 ** (bits - 1) - 1, 2.0 ** (1 - bits)
    layout: dict[str, Any] = {"name": layer.name, "out_shape": list(layer.out_shape), "neuron": None}
    if layer.neuron is None:
        factor = limit / largest[0] * scale
        layout["logit_scale"] = 1 / factor
        return _chosen(layer, layout, factor, [0], bits)
    k_max = fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX + 1 - bits
    vth = min(vth, int(limit * 2**k_max / max(largest)))
    if vth < 1:
        raise UnsupportedError(
            "no threshold keeps this layer inside Loihi's registers", where=layer.name, got=f"vth {vth}",
            remedy="its sums are too large for its threshold: train with a larger neuron.v_threshold",
        )  # fmt: skip
    shifts = _shifts(layer, events, vth, bits, fractions)
    if one_size:  # the largest threshold at which a weight is just below a power of two
        shifts = [math.floor(math.log2(largest[0] * vth))]
        vth = math.floor(2.0 ** shifts[0] / largest[0])
    elif layer.neuron.output == "graded":
        vth = layer.neuron.threshold_of_payload(vth)
        shifts = _shifts(layer, events, vth, bits, fractions)
    bias_units = float(np.abs(layer.bias).max()) * vth * (1 << fp.ACTIVATION_SHIFT)
    bias_exp = max(0, math.ceil(math.log2(max(bias_units, 1) / headroom / fp.BIAS_MANTISSA_MAX)))
    layout["neuron"] = layer.neuron.registers(vth) | {"bias_exp": min(bias_exp, fp.BIAS_EXPONENT_MAX)}
    return _chosen(layer, layout, vth * scale / 2 ** max(shifts), shifts, bits)


def _shifts(layer: FoldedLayer, events: Events, vth: int, bits: int, fractions: bool) -> list[int]:
    """By synapse, the power of two at which its largest weight is the largest integer.

    Below 0 only where that errs less than a larger one, and 0 errs by more than NEGLIGIBLE.
    """
    limit, found = 2 ** (bits - 1) - 1, []
    for synapse in layer.synapses:
        exact, power = synapse.weight * vth, mean_square(events[synapse.source]) * synapse.window**2
        shift = max(1 - bits, math.ceil(math.log2(float(np.abs(exact).max()) / limit)))
        if shift < 0:
            shifts = range(shift, 1) if fractions else [0]
            errors = [squared_error(np.rint(exact / 2.0**each) * 2.0**each, exact, each, power) for each in shifts]
            enough = errors[-1] <= len(exact) * (NEGLIGIBLE * vth) ** 2
            shift = 0 if enough else shifts[int(np.argmin(errors))]
        found.append(shift)
    return found


def _chosen(layer: FoldedLayer, layout: dict[str, Any], factor: float, shifts: Sequence[int], bits: int) -> ChosenLayer:
    """Master values are those of the folded layer times `factor`; one integer of a synapse is worth its scale.

    The synapse with the largest shift has the scale 2^(1 - bits); all have one activation unit, scale / 2^shift.
    """
    rows = [
        {
            "name": synapse.name, "source": synapse.source, **synapse.geometry,
            "bits": bits, "headroom": shift, "scale": 2.0 ** (1 - bits + shift - max(shifts)),
            "form": "signs" if is_signs(synapse.weight) else "free",
        }
        for synapse, shift in zip(layer.synapses, shifts, strict=True)
    ]  # fmt: skip
    weights = tuple((synapse.weight * factor).astype(np.float32) for synapse in layer.synapses)
    return ChosenLayer({**layout, "synapses": rows}, weights, (layer.bias * factor).astype(np.float32))


def largest_threshold(layer: FoldedLayer, events: Events, num_steps: int) -> int:
    """Largest vth at which no events can wrap u, saturate v or overflow the bias (threshold 1 = vth).

    The same intervals as `lavatube.bounds`, solved for the scale.
    """
    neuron = layer.neuron
    assert neuron is not None
    high, low = np.zeros(len(layer.bias)), np.zeros(len(layer.bias))
    for synapse in layer.synapses:
        rows = synapse.weight.reshape(len(synapse.weight), -1)
        least, most = (synapse.window * event for event in events[synapse.source])
        high = high + np.maximum(rows * most, rows * least).sum(1)
        low = low - np.minimum(rows * most, rows * least).sum(1)
    if neuron.is_plain:
        kept, settle = 1 - neuron.dv / fp.DECAY_ONE, fp.DECAY_ONE / neuron.dv
        of_v = max(
            float((kept + high + np.maximum(layer.bias, 0)).max()),
            float(((low + np.maximum(-layer.bias, 0)) * settle).max()),
        )
    else:
        of_v = _voltage_reach(neuron, layer.bias - low, layer.bias + high, num_steps)
    by_state = (fp.VOLTAGE_MAX >> fp.ACTIVATION_SHIFT) / max(float(np.maximum(high, low).max()), of_v, 1e-12)
    bias_max = fp.BIAS_MANTISSA_MAX << fp.BIAS_EXPONENT_MAX >> fp.ACTIVATION_SHIFT
    by_bias = bias_max / max(float(np.abs(layer.bias).max()), 1e-12)
    return int(min(by_state, by_bias, fp.THRESHOLD_MAX / max(neuron.low, 1)))


def _voltage_reach(neuron: FoldedNeuron, low: np.ndarray, high: np.ndarray, num_steps: int) -> float:
    """The largest |v| in thresholds, from `lavatube.bounds`; low, high: [O], what a timestep adds to v, in thresholds.

    Everything there grows in proportion to vth, so one vth tells of all: the largest with which nothing can leave what
    that analysis counts as bounded.
    """
    steps = fp.DECAY_ONE / neuron.dv if neuron.dv else num_steps
    most = steps * float(np.maximum(np.abs(low), np.abs(high)).max()) + abs(neuron.v_initial) + neuron.low + 2
    within = (fp.VOLTAGE_MAX >> fp.ACTIVATION_SHIFT) / max(abs(neuron.v_initial), 1)
    if within < 1:
        return math.inf
    fits = min((UNBOUNDED >> fp.ACTIVATION_SHIFT) / most, fp.THRESHOLD_MAX / max(neuron.low, 1), within)
    vth = max(1, int(fits))
    unit = vth << fp.ACTIVATION_SHIFT
    registers = neuron.registers(vth) | {"bias_mant": np.zeros(len(low), np.int16), "bias_exp": 0}
    drive = np.floor(low * unit).astype(np.int64), np.ceil(high * unit).astype(np.int64)
    lowest, highest = voltage_bounds(NeuronNode("v", low.shape, **registers), drive, num_steps)
    return float(np.maximum(np.abs(lowest), np.abs(highest)).max()) / unit


def is_signs(weight: np.ndarray, *, per_layer: bool = False) -> bool:
    """Whether the weights [O, ...] of every output channel (of the layer) have one magnitude, zeros apart."""
    size = np.abs(weight.reshape(1 if per_layer else len(weight), -1))
    return size.shape[1] > 1 and bool(((size == 0) | (size == size.max(1, keepdims=True))).all())
