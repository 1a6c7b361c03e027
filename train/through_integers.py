"""Backpropagation through time of a quantized network: values are the integer run's, gradients those of its twin."""

from __future__ import annotations

from typing import Any

import torch

from lavatube.train.layout import INPUT
from lavatube.train.neuron import NeuronSpec
from lavatube.train.neuron_run import Slopes
from lavatube.train.quantized import QuantizedModule


class IntegerSpikes(torch.autograd.Function):
    """(current, carrier of the timestep before) -> (the integer neurons' events, carrier), [B, ...].

    The carrier takes d(loss)/d(v) from timestep to timestep; it has no value, as v is known already.
    """

    @staticmethod
    def forward(
        ctx: Any, current: torch.Tensor, carrier: torch.Tensor, events: torch.Tensor, decay: float, slopes: Slopes
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.decay, ctx.slopes = decay, slopes
        return events.to(current.dtype), torch.zeros_like(current)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        (by_s, by_v), slopes = gradients, ctx.slopes
        by_u = slopes.gain * by_s + slopes.carry * by_v
        if slopes.awake is None:
            return by_u, ctx.decay * by_u, None, None, None
        by_u = slopes.awake * by_u
        return by_u, ctx.decay * by_u + (1 - slopes.awake) * by_v, None, None, None


def logits_through_time(module: QuantizedModule, events: torch.Tensor, spec: NeuronSpec) -> torch.Tensor:
    """Mean read-out [B, classes] of events [T, B, ...] int64, in master units, differentiable through time.

    The spiking pass is `QuantizedModule.run`, without autograd. The gradient is that of a float network with the
    straight-through weights and the neuron that was trained, `spec`, at the integers' voltages and spikes: surrogate
    for the comparator, truncation by the leak ignored. Synapses may see the timestep before.
    """
    layers = module.in_order()
    runs = dict(zip((layer.name for layer in layers), module.run(events, keep=("membrane",)), strict=True))
    maps = {layer.name: layer.straight_through() for layer in layers}
    rest = {layer.name: layer.bias.new_zeros(events.shape[1], *layer.layout["out_shape"]) for layer in layers}
    slopes = {layer.name: layer.slopes(run, spec) for layer in layers if (run := runs[layer.name].neurons) is not None}
    made, carried, total = dict(rest), dict(rest), rest[layers[-1].name]
    for t, now in enumerate(events):
        made[INPUT] = now.to(torch.float32)
        for layer in layers:
            current, neurons = maps[layer.name](made), runs[layer.name].neurons
            if neurons is None:
                total = total + current
                continue
            made[layer.name], carried[layer.name] = IntegerSpikes.apply(
                current * (spec.v_threshold / layer.theta), carried[layer.name], neurons.events[t], spec.decay,
                next(slopes[layer.name]),
            )  # fmt: skip
    exact = runs[layers[-1].name].activation.sum(0) * layers[-1].activation_scale
    return (total + (exact.to(total.dtype) - total).detach()) / len(events)
