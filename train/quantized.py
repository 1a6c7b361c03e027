"""The quantized network in torch: Brevitas weights, and a forward that *is* the integer timestep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.inject.enum import RestrictValueType, ScalingImplType
from brevitas.quant import Int8WeightPerTensorFloat
from torch import nn

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.integer_layer import IntegerLayer, IntegerNeuron
from lavatube.train.exact_sums import exact_conv2d, exact_linear
from lavatube.train.integer_step import LifRun, run_lif
from lavatube.train.layout import check_layout
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import Trace, at_rest
from lavatube.train.passes.rate import RateStraightThrough


class PopulationWeightQuant(Int8WeightPerTensorFloat):  # type: ignore[misc]
    """Signed weights on the scale of the population that they drive: a constant, given when the layer is made."""

    scaling_impl_type = ScalingImplType.CONST
    restrict_scaling_type = RestrictValueType.FP


@dataclass(frozen=True)
class LayerRun:
    """activation: [T, B, ...] int64, bias included at the read-out only; lif: None at the read-out."""

    name: str
    activation: torch.Tensor
    lif: LifRun | None


class QuantizedLayer(nn.Module):
    """A Brevitas synapse and, but for the read-out, the integer neurons behind it.

    layout: geometry, bits, headroom, scale and registers (see `QuantizedModule`).
    Master weights are floats in units where one integer weight is `scale`; the bias is in the same unit.
    """

    def __init__(self, layout: Mapping[str, Any]) -> None:
        super().__init__()
        self.layout = layout
        bits, scale = layout["bits"], layout["scale"]
        quant = {
            "weight_quant": PopulationWeightQuant,
            "weight_bit_width": bits,
            "weight_scaling_init": scale * max(2 ** (bits - 1) - 1, 1),
        }
        if layout["kind"] == "conv2d":
            kernel, stride, padding = (tuple(layout[key]) for key in ("kernel", "stride", "padding"))
            channels = layout["in_shape"][0], layout["out_shape"][0]
            self.synapse = qnn.QuantConv2d(*channels, kernel, stride=stride, padding=padding, bias=False, **quant)
        else:
            size = math.prod(layout["in_shape"]), layout["out_shape"][0]
            self.synapse = qnn.QuantLinear(*size, bias=False, **quant)
        self.bias = nn.Parameter(torch.zeros(layout["out_shape"][0]))

    @property
    def activation_scale(self) -> float:
        return float(self.layout["scale"] / (1 << self.layout["headroom"]))

    @property
    def theta(self) -> float:
        """The threshold in the unit of the master weights; 1 activation unit is `activation_scale`."""
        return float(self.layout["neuron"]["vth"] * self.activation_scale)

    def integer_weight(self) -> torch.Tensor:
        """Brevitas' integers, int64; exact because the scale is a power of two."""
        return torch.round(self.synapse.quant_weight().value.detach() / self.layout["scale"]).to(torch.int64)

    def integer_bias(self) -> torch.Tensor:
        """[O] int64: bias mantissas (13 bits) of the neurons, or the read-out's bias in activation units."""
        neuron = self.layout["neuron"]
        if neuron is None:
            return torch.round(self.bias.detach().double() / self.activation_scale).to(torch.int64)
        step = self.activation_scale * 2.0 ** (neuron["bias_exp"] - fp.ACTIVATION_SHIFT)
        mantissa = torch.round(self.bias.detach().double() / step)
        return mantissa.clamp(fp.BIAS_MANTISSA_MIN, fp.BIAS_MANTISSA_MAX).to(torch.int64)

    def run(self, events: torch.Tensor, max_event: int, keep: Iterable[str] = ()) -> LayerRun:
        """The integer timesteps. events: [T, B, ...] int64; an input expanded over T is summed once."""
        with torch.no_grad():
            static = events.stride(0) == 0
            seen = events[:1] if static else events
            weight, flat = self.integer_weight(), seen.flatten(0, 1)
            if self.layout["kind"] == "conv2d":
                stride, padding = tuple(self.layout["stride"]), tuple(self.layout["padding"])
                total = exact_conv2d(flat, weight, stride, padding, max_event)
            else:
                total = exact_linear(flat.flatten(1), weight, max_event)
            a = (
                (total << self.layout["headroom"])
                .unflatten(0, seen.shape[:2])
                .expand(len(events), -1, *total.shape[1:])
            )
            bias = self.integer_bias()
            neuron = self.layout["neuron"]
            if neuron is None:
                return LayerRun(self.layout["name"], a + bias, None)
            register = (bias << neuron["bias_exp"]).reshape(-1, *(1,) * (a.ndim - 3))
            lif = run_lif(a, register, du=neuron["du"], dv=neuron["dv"], vth=neuron["vth"], keep=keep)
            return LayerRun(self.layout["name"], a, lif)

    def rate_current(self, rate: torch.Tensor) -> torch.Tensor:
        """Mean current of mean events [B, ...], with straight-through gradients, in the unit of the master weights."""
        weight = self.synapse.quant_weight().value
        exact_bias = self.integer_bias() * self._bias_step()
        bias = self.bias + (exact_bias.to(self.bias.dtype) - self.bias).detach()
        if self.layout["kind"] == "conv2d":
            stride, padding = tuple(self.layout["stride"]), tuple(self.layout["padding"])
            return nn.functional.conv2d(rate, weight, bias, stride, padding)
        return nn.functional.linear(rate.flatten(1), weight, bias)

    def _bias_step(self) -> float:
        neuron = self.layout["neuron"]
        exponent = neuron["bias_exp"] - fp.ACTIVATION_SHIFT if neuron else 0
        return float(self.activation_scale * 2.0**exponent)

    def rates(self, lif: LifRun, spec: NeuronSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """(rate, eligibility) [B, ...] of the integer neurons, in units where their threshold is that of `spec`.

        The eligibility is that of the trained neuron at the integer voltages; the truncation by the leak is ignored.
        """
        unit = spec.v_threshold / (self.layout["neuron"]["vth"] << fp.ACTIVATION_SHIFT)
        voltages = lif.states["membrane"]
        running = Trace(spec, at_rest(spec, voltages[0].to(torch.float32)))
        for voltage, spikes in zip(voltages, lif.spikes, strict=True):
            running.follow(voltage.to(torch.float32) * unit, spikes.to(torch.float32))
        return running.means()


class QuantizedModule(nn.Module):
    """A chain of `QuantizedLayer`s.

    layout: {"num_steps", "input": {"shape", "message_bits"}, "layers": [{"name", "kind", "in_shape", "out_shape",
             "kernel", "stride", "padding" (conv2d), "bits", "headroom", "scale", "neuron": {du, dv, vth, bias_exp}}]}.
    """

    def __init__(self, layout: Mapping[str, Any], tensors: Mapping[str, np.ndarray] | None = None) -> None:
        super().__init__()
        self.layout = check_layout(layout)
        self.layers = nn.ModuleList(QuantizedLayer(layer) for layer in self.layout["layers"])
        if tensors is not None:
            self._load(tensors)

    def _load(self, tensors: Mapping[str, np.ndarray]) -> None:
        wanted = {name: tuple(value.shape) for name, value in self.state_dict().items()}
        got = {name: tuple(value.shape) for name, value in tensors.items()}
        if wanted != got:
            raise LavatubeError(
                "tensors do not fit the layout", where="quantized network", expected=str(wanted), got=str(got)
            )
        if any(not np.isfinite(value).all() for value in tensors.values()):
            raise LavatubeError("weights hold NaN or infinity", where="quantized network", expected="finite numbers")
        self.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})

    def chain(self) -> list[QuantizedLayer]:
        """The layers from input to read-out."""
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    @property
    def max_input(self) -> int:
        return (1 << int(self.layout["input"]["message_bits"])) - 1

    def run(self, events: torch.Tensor, keep: Iterable[str] = ()) -> list[LayerRun]:
        """Integer forward of events [T, B, ...] int64; exact on every device."""
        runs, max_event = [], self.max_input
        for layer in self.chain():
            runs.append(layer.run(events, max_event, keep))
            if runs[-1].lif is not None:
                events, max_event = runs[-1].lif.spikes.to(torch.int64), 1
        return runs

    def rate_logits(self, events: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
        """Mean read-out [B, classes] with rate-based gradients; its value is the integer network's own.

        The spiking pass is `run`, without autograd; the rate path carries the gradients (specs: rate-based
        backpropagation with straight-through weights). spec: the neuron that was trained.
        """
        rate = events.to(torch.float32).mean(0)
        for layer, run in zip(self.chain(), self.run(events, keep=("membrane",)), strict=True):
            current = layer.rate_current(rate)
            if run.lif is not None:
                in_units_of_spec = current * (spec.v_threshold / layer.theta)
                rate = RateStraightThrough.apply(in_units_of_spec, *layer.rates(run.lif, spec))
        return current

    def integer_layers(self) -> list[IntegerLayer]:
        """What the exports need."""
        return [_integer_layer(layer) for layer in self.chain()]


def _integer_layer(layer: QuantizedLayer) -> IntegerLayer:
    layout, neuron = layer.layout, layer.layout["neuron"]
    bias = layer.integer_bias().cpu().numpy()
    registers = None
    if neuron is not None:
        registers = IntegerNeuron(neuron["du"], neuron["dv"], neuron["vth"], bias.astype(np.int16), neuron["bias_exp"])
    return IntegerLayer(
        name=layout["name"],
        kind=layout["kind"],
        in_shape=tuple(layout["in_shape"]),
        out_shape=tuple(layout["out_shape"]),
        weight=layer.integer_weight().cpu().numpy().astype(np.int8),
        num_weight_bits=layout["bits"],
        headroom=layout["headroom"],
        scale=layout["scale"],
        neuron=registers,
        stride=tuple(layout["stride"] or (1, 1)),
        padding=tuple(layout["padding"] or (0, 0)),
        readout_bias=None if registers else bias,
    )
