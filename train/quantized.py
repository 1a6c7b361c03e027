"""The quantized network in torch: Brevitas weights, and a forward that *is* the integer timestep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.integer_layer import IntegerLayer, IntegerNeuron, IntegerSynapse
from lavatube.train.integer_step import LifRun, run_lif, step_cuba_lif
from lavatube.train.layout import INPUT, check_layout
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import Trace, at_rest
from lavatube.train.passes.rate import RateStraightThrough
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
        a = self.activation(events, max_input)
        bias, neuron = self.integer_bias(), self.layout["neuron"]
        if neuron is None:
            return LayerRun(self.name, a + bias, None)
        register = (bias << neuron["bias_exp"]).reshape(-1, *(1,) * (a.ndim - 3))
        lif = run_lif(a, register, du=neuron["du"], dv=neuron["dv"], vth=neuron["vth"], keep=keep)
        return LayerRun(self.name, a, lif)

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


class StepByStep:
    """A layer that is stepped one timestep at a time, and what comes of it."""

    def __init__(self, layer: QuantizedLayer, keep: Iterable[str]) -> None:
        self.layer, self.keep = layer, tuple(keep)
        self.state: tuple[torch.Tensor, torch.Tensor] | None = None
        self.made: list[tuple[torch.Tensor, ...]] = []  # activation, spikes, u, v, membrane, wrapped, saturated

    def step(self, activation: torch.Tensor) -> torch.Tensor:
        """Spikes [B, ...] int64 (at the read-out: its activation) of an activation [B, ...]."""
        bias, neuron = self.layer.integer_bias(), self.layer.layout["neuron"]
        if neuron is None:
            self.made.append((activation + bias,))
            return activation
        u, v = self.state or (torch.zeros_like(activation), torch.zeros_like(activation))
        register = (bias << neuron["bias_exp"]).reshape(-1, *(1,) * (activation.ndim - 2))
        registers = {name: neuron[name] for name in ("du", "dv", "vth")}
        u, v, spikes, membrane, wrapped, saturated = step_cuba_lif(u, v, activation, register, **registers)
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


class QuantizedModule(nn.Module):
    """Layers in order of execution; layout: a `NetworkLayout`."""

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

    def in_order(self) -> list[QuantizedLayer]:
        """The layers in order of execution, the read-out last."""
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    @property
    def max_input(self) -> int:
        return (1 << int(self.layout["input"]["message_bits"])) - 1

    @property
    def is_recurrent(self) -> bool:
        """Whether a synapse carries events of the timestep before."""
        seen = {INPUT}
        for layer in self.in_order():
            if any(synapse.source not in seen for synapse in layer.inbound()):
                return True
            seen.add(layer.name)
        return False

    def run(self, events: torch.Tensor, keep: Iterable[str] = ()) -> list[LayerRun]:
        """Integer forward of events [T, B, ...] int64; exact on every device."""
        if self.is_recurrent:
            return self._run_step_by_step(events, keep)
        made, runs = {INPUT: events}, []
        for layer in self.in_order():
            runs.append(layer.run(made, self.max_input, keep))
            if runs[-1].lif is not None:
                made[layer.name] = runs[-1].lif.spikes.to(torch.int64)
        return runs

    @torch.no_grad()
    def _run_step_by_step(self, events: torch.Tensor, keep: Iterable[str]) -> list[LayerRun]:
        """One timestep of all layers after another, as long as a synapse may see the step before."""
        runs = {layer.name: StepByStep(layer, keep) for layer in self.in_order()}
        rest = [events.new_zeros(1, events.shape[1], *layer.layout["out_shape"]) for layer in self.in_order()]
        made = dict(zip(runs, rest, strict=True))
        for now in events:
            made[INPUT] = now.unsqueeze(0)
            for layer in self.in_order():
                made[layer.name] = runs[layer.name].step(layer.activation(made, self.max_input)[0]).unsqueeze(0)
        return [run.finish() for run in runs.values()]

    def rate_logits(self, events: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
        """Mean read-out [B, classes] with rate-based gradients; its value is the integer network's own.

        The spiking pass is `run`, without autograd; the rate path carries the gradients (specs: rate-based
        backpropagation with straight-through weights). spec: the neuron that was trained.
        raises: UnsupportedError for a recurrent network, which has no rate path.
        """
        if self.is_recurrent:
            what, remedy = "fine-tuning of a recurrent network by its rates", "give --epochs 0: rounding only"
            raise UnsupportedError(what, where="quantize", remedy=remedy)
        rates = {INPUT: events.to(torch.float32).mean(0)}
        for layer, run in zip(self.in_order(), self.run(events, keep=("membrane",)), strict=True):
            current = layer.rate_current(rates)
            if run.lif is not None:
                in_units_of_spec = current * (spec.v_threshold / layer.theta)
                rates[layer.name] = RateStraightThrough.apply(in_units_of_spec, *layer.rates(run.lif, spec))
        return current

    def integer_layers(self) -> list[IntegerLayer]:
        """What the exports need."""
        return [_integer_layer(layer) for layer in self.in_order()]


def _integer_layer(layer: QuantizedLayer) -> IntegerLayer:
    neuron, bias, registers = layer.layout["neuron"], layer.integer_bias().cpu().numpy(), None
    if neuron is not None:
        registers = IntegerNeuron(neuron["du"], neuron["dv"], neuron["vth"], bias.astype(np.int16), neuron["bias_exp"])
    synapses = tuple(_integer_synapse(synapse, layer.layout["out_shape"]) for synapse in layer.inbound())
    return IntegerLayer(layer.name, synapses, registers, None if registers else bias)


def _integer_synapse(synapse: QuantizedSynapse, out_shape: list[int]) -> IntegerSynapse:
    layout, weight = synapse.layout, synapse.integer_weight().cpu().numpy().astype(np.int8)
    return IntegerSynapse(
        name=synapse.name,
        source=synapse.source,
        kind=layout["kind"],
        in_shape=tuple(layout["in_shape"]),
        out_shape=tuple(out_shape),
        weight=weight.reshape(-1) if synapse.kind == "scale" else weight,
        num_weight_bits=layout["bits"],
        headroom=layout["headroom"],
        scale=layout["scale"],
        stride=tuple(layout["stride"] or (1, 1)),
        padding=tuple(layout["padding"] or (0, 0)),
    )
