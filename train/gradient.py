"""Gradient rules: how a forward for training is made differentiable. A new rule is a function and a row below."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lavatube.train.network import Outputs, SpikingLayer, SpikingNetwork, unfold_time
from lavatube.train.rate import Seq, rate_lif

GradientRule = Callable[[SpikingNetwork, torch.Tensor], Outputs]


def bptt_forward(network: SpikingNetwork, inputs: torch.Tensor) -> Outputs:
    """Backpropagation through all timesteps; memory grows with T."""
    outputs: Outputs = network(inputs)
    return outputs


def rate_forward(network: SpikingNetwork, inputs: torch.Tensor) -> Outputs:
    """Rate-based backpropagation: the same values, one graph on time averages; memory does not grow with T."""
    steps = network.present(inputs)
    seq = Seq(steps, steps[0] if len(steps) == 1 else steps.mean(0))
    rates: list[torch.Tensor] = []
    biases: list[torch.Tensor] = []
    for layer in network.layers():
        if layer.lif is None:
            return Outputs(layer.current(seq.rate), tuple(rates), tuple(biases))
        current = _synaptic(layer, seq)
        if layer.norm is not None:
            current, bias = layer.norm.rate(current, network.num_steps)
            biases.append(bias)
        seq = rate_lif(current, layer.lif, network.num_steps)
        rates.append(seq.rate)
    raise AssertionError("a network ends in a read-out")


def _synaptic(layer: SpikingLayer, seq: Seq) -> Seq:
    rate = layer.current(seq.rate)
    if seq.is_static:  # the current of a static input is its own mean: computed once, never T times
        return Seq(rate.detach().unsqueeze(0), rate)
    with torch.no_grad():
        steps = unfold_time(layer.current(seq.steps.flatten(0, 1)), seq.steps)
    return Seq(steps, rate)


GRADIENT_RULES: dict[str, GradientRule] = {
    "rate": rate_forward,
    "bptt": bptt_forward,
}
