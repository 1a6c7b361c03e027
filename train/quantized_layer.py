"""A population of a quantized network: its synapses, and the integer neurons behind them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube import fixed_point as fp
from lavatube.integer_layer import IntegerLayer, IntegerNeuron
from lavatube.train.integer_step import LifRun, run_lif, step_cuba_lif
from lavatube.train.layout import INPUT
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import Trace, at_rest
from lavatube.train.quantized_synapse import QuantizedSynapse

Events = dict[str, torch.Tensor]  # by source, [T, B, ...] int64


@dataclass(frozen=True)
class LayerRun:
    """activation: [T, B, ...] int64, bias included at the read-out only; lif: None at the read-out."""

    name: str
    activation: torch.Tensor
    lif: LifRun | None


class QuantizedLayer(nn.Module):
    """The integer neurons of a population, or the read-out, behind the synapses that drive it.

    layout: a `LayerLayout`. The bias is in the unit of the synapses' master weights.
    """

    def __init__(self, layout: Mapping[str, Any]) -> None:
        super().__init__()
        self.layout, self.name, out_shape = layout, str(layout["name"]), layout["out_shape"]
        self.synapses = nn.ModuleList(QuantizedSynapse(row, out_shape) for row in layout["synapses"])
        self.bias = nn.Parameter(torch.zeros(out_shape[0]))

    def inbound(self) -> list[QuantizedSynapse]:
        """The synapses, in order."""
        return [synapse for synapse in self.synapses if isinstance(synapse, QuantizedSynapse)]

    @property
    def activation_scale(self) -> float:
        """Of one activation unit, in the unit of the master weights."""
        first = self.layout["synapses"][0]
        return float(first["scale"] / (1 << first["headroom"]))

    @property
    def theta(self) -> float:
        """The threshold in the unit of the master weights."""
        return float(self.layout["neuron"]["vth"] * self.activation_scale)

    def integer_bias(self) -> torch.Tensor:
        """[O] int64: bias mantissas (13 bits) of the neurons, or the read-out's bias in activation units."""
        neuron = self.layout["neuron"]
        if neuron is None:
            return torch.round(self.bias.detach().double() / self.activation_scale).to(torch.int64)
        step = self.activation_scale * 2.0 ** (neuron["bias_exp"] - fp.ACTIVATION_SHIFT)
        mantissa = torch.round(self.bias.detach().double() / step)
        return mantissa.clamp(fp.BIAS_MANTISSA_MIN, fp.BIAS_MANTISSA_MAX).to(torch.int64)

    @torch.no_grad()
    def run(self, events: Events, max_input: int, keep: Iterable[str] = ()) -> LayerRun:
        """The integer timesteps from rest."""
        a, bias = self.activation(events, max_input), self.bias_register()
        if self.layout["neuron"] is None:
            return LayerRun(self.name, a + bias, None)
        return LayerRun(self.name, a, run_lif(a, bias, **self.registers, keep=keep))

    @property
    def registers(self) -> dict[str, int]:
        """du, dv and vth of the neurons."""
        return {name: int(self.layout["neuron"][name]) for name in ("du", "dv", "vth")}

    def bias_register(self) -> torch.Tensor:
        """What is added every step, int64, [O] or [O, 1, 1]: to v of the neurons, or to the read-out's activation."""
        exponent = self.layout["neuron"]["bias_exp"] if self.layout["neuron"] else 0
        return (self.integer_bias() << exponent).reshape(-1, *(1,) * (len(self.layout["out_shape"]) - 1))

    def activation(self, events: Events, max_input: int) -> torch.Tensor:
        """The sum over the synapses, [T, B, ...] int64."""
        parts = [
            synapse.activation(events[synapse.source], max_input if synapse.source == INPUT else 1)
            for synapse in self.inbound()
        ]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    def rate_current(self, rates: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Mean current of mean events [B, ...] by source, with straight-through gradients, in master units."""
        exact_bias = self.integer_bias() * self._bias_step()
        bias = self.bias + (exact_bias.to(self.bias.dtype) - self.bias).detach()
        parts = [synapse.rate_current(rates[synapse.source]) for synapse in self.inbound()]
        return torch.stack(parts).sum(0) + bias.reshape(-1, *(1,) * (parts[0].ndim - 2))

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

    def integers(self) -> IntegerLayer:
        """What the exports need."""
        neuron, bias, registers = self.layout["neuron"], self.integer_bias().cpu().numpy(), None
        if neuron is not None:
            registers = IntegerNeuron(**self.registers, bias_mant=bias.astype(np.int16), bias_exp=neuron["bias_exp"])
        synapses = tuple(synapse.integers(self.layout["out_shape"]) for synapse in self.inbound())
        return IntegerLayer(self.name, synapses, registers, None if registers else bias)


class StepByStep:
    """A layer that is stepped one timestep at a time, and what comes of it."""

    def __init__(self, layer: QuantizedLayer, keep: Iterable[str]) -> None:
        self.layer, self.keep = layer, tuple(keep)
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None
        self.made: list[tuple[torch.Tensor, ...]] = []  # activation, spikes, u, v, membrane, wrapped, saturated

    def step(self, activation: torch.Tensor) -> torch.Tensor:
        """Spikes [B, ...] int64 (at the read-out: its activation) of an activation [B, ...]."""
        bias = self.layer.bias_register()
        if self.layer.layout["neuron"] is None:
            self.made.append((activation + bias,))
            return activation
        u, v = self.state or (torch.zeros_like(activation), torch.zeros_like(activation))
        u, v, spikes, membrane, wrapped, saturated = step_cuba_lif(u, v, activation, bias, **self.layer.registers)
        self.state = u, v
        self.made.append((activation, spikes, u, v, membrane, wrapped.flatten(1).sum(1), saturated.flatten(1).sum(1)))
        return spikes.long()

    def finish(self) -> LayerRun:
        """All timesteps."""
        stacked = [torch.stack(each) for each in zip(*self.made, strict=True)]
        if len(stacked) == 1:
            return LayerRun(self.layer.name, stacked[0], None)
        activation, spikes, u, v, membrane, wrapped, saturated = stacked
        states = {name: value for name, value in (("u", u), ("v", v), ("membrane", membrane)) if name in self.keep}
        return LayerRun(self.layer.name, activation, LifRun(spikes, states, wrapped, saturated))
