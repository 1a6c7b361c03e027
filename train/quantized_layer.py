"""A population of a quantized network: its synapses, and the integer neurons behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube import fixed_point as fp
from lavatube.integer_layer import IntegerLayer, IntegerNeuron
from lavatube.train import neuron_run
from lavatube.train.integer_step import IntegerState, IntegerStep, NeuronRun, at_rest, int32, run_neurons, step_neurons
from lavatube.train.neuron import NeuronSpec, partials
from lavatube.train.quantized_synapse import QuantizedSynapse

Events = dict[str, torch.Tensor]  # by source, [T, B, ...] of any integers


@dataclass(frozen=True)
class LayerRun:
    """activation: [T, B, ...], int32 or int64; of a read-out int64 and with the bias; its neurons: None."""

    name: str
    activation: torch.Tensor
    neurons: NeuronRun | None


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
        return float(first["scale"] / 2.0 ** first["headroom"])

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
    def run(self, events: Events, largest: Mapping[str, int], keep: Iterable[str] = ()) -> LayerRun:
        """The integer timesteps from rest."""
        a, bias = self.activation(events, largest), self.bias_register()
        neuron = self.neuron()
        if neuron is None:
            return LayerRun(self.name, a + bias, None)
        return LayerRun(self.name, a, run_neurons(neuron, a, bias, keep=keep))

    def neuron(self) -> IntegerNeuron | None:
        """The registers of the neurons; None at the read-out."""
        if self.layout["neuron"] is None:
            return None
        return IntegerNeuron(bias_mant=self.integer_bias().cpu().numpy().astype(np.int16), **self.layout["neuron"])

    def bias_register(self) -> torch.Tensor:
        """What is added every step, int64, [O] or [O, 1, 1]: to v of the neurons, or to the read-out's activation."""
        exponent = self.layout["neuron"]["bias_exp"] if self.layout["neuron"] else 0
        return (self.integer_bias() << exponent).reshape(-1, *(1,) * (len(self.layout["out_shape"]) - 1))

    def activation(self, events: Events, largest: Mapping[str, int]) -> torch.Tensor:
        """The sum over the synapses, [T, B, ...], int32 or int64. largest: |event| by source."""
        parts = [synapse.activation(events[synapse.source], largest[synapse.source]) for synapse in self.inbound()]
        return int32(torch.stack(parts).sum(0)) if len(parts) > 1 else parts[0]

    def straight_through(self) -> Callable[[Mapping[str, torch.Tensor]], torch.Tensor]:
        """The map from (mean) events [B, ...] by source to the current, in master units.

        Its weights and bias are those on the grid, now, with straight-through gradients.
        """
        exact_bias = self.integer_bias() * self._bias_step()
        bias = self.bias + (exact_bias.to(self.bias.dtype) - self.bias).detach()
        synapses = [(synapse, synapse.straight_through()) for synapse in self.inbound()]

        def current(events: Mapping[str, torch.Tensor]) -> torch.Tensor:
            parts = [synapse.current(events[synapse.source], weight) for synapse, weight in synapses]
            return torch.stack(parts).sum(0) + bias.reshape(-1, *(1,) * (parts[0].ndim - 2))

        return current

    def _bias_step(self) -> float:
        neuron = self.layout["neuron"]
        exponent = neuron["bias_exp"] - fp.ACTIVATION_SHIFT if neuron else 0
        return float(self.activation_scale * 2.0**exponent)

    def rates(self, run: NeuronRun, spec: NeuronSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """(rate, eligibility) [B, ...] of the integer neurons: events per timestep, and their change with the current.

        The current is in units where their threshold is that of `spec`. The eligibility is that of the trained neuron
        at the integer voltages; the truncation by the leak is ignored.
        """
        unit, event = self._unit(spec), self.event(spec)
        voltages = run.states["membrane"]
        state = neuron_run.at_rest(spec, voltages[0].to(torch.float32))
        running = neuron_run.Trace(spec, state)
        for voltage, events in zip(voltages, run.events, strict=True):
            s = events.to(torch.float32) * event
            running.follow(voltage.to(torch.float32) * unit, s, state)
            state = neuron_run.counted(spec, state, s)
        rate, eligibility = running.means()
        return rate / event, eligibility / event

    def slopes(self, run: NeuronRun, spec: NeuronSpec) -> Iterator[neuron_run.Slopes]:
        """Of each timestep of the integer neurons, in units where their threshold is that of `spec`."""
        unit, event = self._unit(spec), self.event(spec)
        state = neuron_run.at_rest(spec, run.states["membrane"][0].to(torch.float32))
        for voltage, events in zip(run.states["membrane"], run.events, strict=True):
            s = events.to(torch.float32) * event
            gain, carry = partials(spec, voltage.to(torch.float32) * unit, s, state.gate)
            awake = None if state.resting is None else (state.resting <= 0).to(gain.dtype)
            yield neuron_run.Slopes(gain / event, carry, awake)
            state = neuron_run.counted(spec, state, s)

    def _unit(self, spec: NeuronSpec) -> float:
        """What 1 of the integer voltage is in that of `spec`."""
        return float(spec.v_threshold / (self.layout["neuron"]["vth"] << fp.ACTIVATION_SHIFT))

    def event(self, spec: NeuronSpec) -> float:
        """What an event of 1 is in events of `spec`: a graded one of those carries its voltage."""
        return self._unit(spec) * 2.0 ** self.layout["neuron"]["payload_shift"] if spec.output == "graded" else 1.0

    def integers(self) -> IntegerLayer:
        """What the exports need."""
        neuron = self.neuron()
        synapses = tuple(synapse.integers(self.layout["out_shape"]) for synapse in self.inbound())
        return IntegerLayer(self.name, synapses, neuron, None if neuron else self.integer_bias().cpu().numpy())


class StepByStep:
    """A layer that is stepped one timestep at a time, and what comes of it."""

    def __init__(self, layer: QuantizedLayer, keep: Iterable[str]) -> None:
        self.name, self.keep, self.neuron, self.bias = layer.name, tuple(keep), layer.neuron(), layer.bias_register()
        self.state: IntegerState | None = None
        self.activations: list[torch.Tensor] = []
        self.made: list[IntegerStep] = []

    def step(self, activation: torch.Tensor) -> torch.Tensor:
        """Spikes [B, ...] (at the read-out: its activation) of an activation [B, ...] of integers."""
        activation = activation.to(torch.int64)  # how many timesteps come is not known, so nothing bounds u below int32
        if self.neuron is None:
            self.activations.append(activation + self.bias)
            return activation
        self.activations.append(activation)
        state = self.state or at_rest(self.neuron, activation)
        self.made.append(step_neurons(self.neuron, state, activation, self.bias))
        self.state = self.made[-1].state
        return self.made[-1].events

    def finish(self) -> LayerRun:
        """All timesteps."""
        activation = torch.stack(self.activations)
        if self.neuron is None:
            return LayerRun(self.name, activation, None)
        steps = {
            "u": [each.state.u for each in self.made],
            "v": [each.state.v for each in self.made],
            "membrane": [each.membrane for each in self.made],
        }
        states = {name: torch.stack(values) for name, values in steps.items() if name in self.keep}
        wrapped, saturated = (
            torch.stack([getattr(each, name).flatten(1).sum(1) for each in self.made])
            for name in ("wrapped", "saturated")
        )
        events = torch.stack([each.events for each in self.made])
        return LayerRun(self.name, activation, NeuronRun(events, states, wrapped, saturated))
