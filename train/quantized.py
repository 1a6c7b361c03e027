"""The quantized network in torch: Brevitas weights, and a forward that *is* the integer timestep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.integer_layer import IntegerLayer
from lavatube.train.layout import INPUT, check_layout
from lavatube.train.neuron import NeuronSpec
from lavatube.train.passes.rate import RateStraightThrough
from lavatube.train.quantized_layer import LayerRun, QuantizedLayer, StepByStep


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
        for synapse in (synapse for layer in self.in_order() for synapse in layer.inbound()):
            synapse.check_signs()

    def in_order(self) -> list[QuantizedLayer]:
        """The layers in order of execution, the read-out last."""
        return [layer for layer in self.layers if isinstance(layer, QuantizedLayer)]

    @property
    def max_input(self) -> int:
        return (1 << int(self.layout["input"]["message_bits"])) - 1

    @property
    def largest(self) -> dict[str, int]:
        """The largest event, without its sign, by source."""
        graded = {layer.name: (layer.layout["neuron"] or {}).get("payload_bits", 0) for layer in self.in_order()}
        return {INPUT: self.max_input, **{name: (1 << bits) - 1 if bits else 1 for name, bits in graded.items()}}

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
        """Integer forward of integer events [T, B, ...]; exact on every device."""
        if self.is_recurrent:
            return self._run_step_by_step(events, keep)
        made, runs = {INPUT: events}, []
        for layer in self.in_order():
            runs.append(layer.run(made, self.largest, keep))
            if (neurons := runs[-1].neurons) is not None:
                made[layer.name] = neurons.events
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
                made[layer.name] = runs[layer.name].step(layer.activation(made, self.largest)[0]).unsqueeze(0)
        return [run.finish() for run in runs.values()]

    def rate_logits(self, events: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
        """Mean read-out [B, classes] with rate-based gradients; its value is the integer network's own. See `rates`."""
        return list(self.rates(events, spec).values())[-1]

    def rates(self, events: torch.Tensor, spec: NeuronSpec, *, local: bool = False) -> dict[str, torch.Tensor]:
        """Rates by layer, the mean read-out last, with rate-based gradients; values are the integer network's own.

        The spiking pass is `run`, without autograd; the rate path carries the gradients (specs: rate-based
        backpropagation with straight-through weights). spec: the neuron that was trained. local: no gradient crosses
        from one population to the next.
        raises: UnsupportedError for a recurrent network, which has no rate path.
        """
        if self.is_recurrent:
            what, remedy = "rates of a recurrent network", "give --teach labels: it is fine-tuned through time"
            raise UnsupportedError(what, where="quantize", remedy=remedy)
        rates, made = {INPUT: events.to(torch.float32).mean(0)}, dict[str, torch.Tensor]()
        for layer, run in zip(self.in_order(), self.run(events, keep=("membrane",)), strict=True):
            current = made[layer.name] = layer.straight_through()(rates)
            if run.neurons is not None:
                in_units_of_spec = current * (spec.v_threshold / layer.theta)
                rate = made[layer.name] = RateStraightThrough.apply(in_units_of_spec, *layer.rates(run.neurons, spec))
                rates[layer.name] = rate.detach() if local else rate
        return made

    def integer_layers(self) -> list[IntegerLayer]:
        """What the exports need."""
        return [layer.integers() for layer in self.in_order()]
