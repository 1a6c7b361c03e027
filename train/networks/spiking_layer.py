"""The one building block of every architecture: pooling, synapse, norm and neurons; all but the synapse optional."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.networks.synaptic_current import convolve, in_fast_layout
from lavatube.train.neuron import NeuronSpec
from lavatube.train.norms.estimators import Estimator
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Neurons, Pass
from lavatube.train.seq import Seq


@dataclass(frozen=True)
class Conv:
    """A convolution's channels and window; square."""

    channels: int
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Cell:
    """What follows a synapse. estimator: of the normalisation, None for none; neuron: None for currents."""

    num_steps: int
    estimator: Estimator | None = None
    neuron: NeuronSpec | None = None


class SpikingLayer(nn.Module):
    """Events in; spikes out, or currents if it has no neurons. Inputs of a dense layer flatten in C order.

    pool:     what the events pass first.
    geometry: "kind", "in_shape", "out_shape" and, of a conv2d, "kernel", "stride", "padding", all as lists.
    """

    def __init__(
        self, synapse: nn.Conv2d | nn.Linear, geometry: dict[str, Any], cell: Cell, pool: SpikePool | None
    ) -> None:
        super().__init__()
        self.synapse, self.geometry, self.pool = synapse, geometry, pool
        units = len(synapse.weight)
        self.norm = None if cell.estimator is None else TimeStatNorm(units, cell.estimator, cell.num_steps)
        self.neurons = None if cell.neuron is None else Neurons(cell.neuron)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.geometry["out_shape"])

    def forward(self, x: Seq, run: Pass) -> Seq:
        x = run.linear(self.current, x).full_precision()
        x = x if self.norm is None else run.norm(self.norm, x)
        return x if self.neurons is None else run.neurons(self.neurons, x)

    def current(self, events: torch.Tensor, value: torch.Tensor | None = None) -> torch.Tensor:
        """Synaptic current of events [N, ...] (spikes, graded inputs or rates; it is linear).

        value: the current itself, where it is at hand; then a convolution adds its graph alone.
        """
        if self.pool is not None:
            events = self.pool(events)
        synapse = self.synapse
        if isinstance(synapse, nn.Linear):
            dense: torch.Tensor = synapse(events.flatten(1))
            return dense
        if value is not None and value.dtype != events.dtype:  # under autocast
            value = None
        window = self.geometry["stride"], self.geometry["padding"]
        return convolve(in_fast_layout(synapse, events), synapse.weight, synapse.bias, *window, value)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight, bias) of the one synapse that does the work of synapse and running normalisation, detached."""
        weight = self.synapse.weight.detach()
        bias = weight.new_zeros(len(weight)) if self.synapse.bias is None else self.synapse.bias.detach()
        if self.norm is None:
            return weight, bias
        gain = self.norm.weight.detach() * torch.rsqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias.detach() - gain * self.norm.running_mean
        return weight * gain.reshape(-1, *(1,) * (weight.ndim - 1)), bias * gain + shift


def conv_layer(
    shape: tuple[int, ...], conv: Conv, cell: Cell, *, pool: SpikePool | None = None, where: str = "network"
) -> SpikingLayer:
    """A convolutional layer on events of `shape` (C, H, W). raises: LavatubeError if the window does not fit."""
    if len(shape) != 3:
        raise LavatubeError("a convolution needs images", where=where, expected="(C, H, W)", got=str(shape))
    pooled = shape if pool is None else pool.checked(shape, where, conv.padding)
    height, width = ((size + 2 * conv.padding - conv.kernel) // conv.stride + 1 for size in pooled[1:])
    if height < 1 or width < 1:
        raise LavatubeError(
            "kernel is larger than its input", where=where, expected=f"at most {pooled[1:]}", got=str(conv.kernel)
        )
    window = conv.kernel, conv.stride, conv.padding
    synapse = nn.Conv2d(shape[0], conv.channels, *window, bias=cell.estimator is None)
    geometry = {
        "kind": "conv2d",
        "in_shape": list(shape),
        "out_shape": [conv.channels, height, width],
        **{key: [value] * 2 for key, value in zip(("kernel", "stride", "padding"), window, strict=True)},
    }
    return SpikingLayer(synapse, geometry, cell, pool)


def dense_layer(
    shape: tuple[int, ...], units: int, cell: Cell, *, pool: SpikePool | None = None, where: str = "network"
) -> SpikingLayer:
    """A dense layer on events of any shape. raises: LavatubeError if pooling does not fit."""
    inputs = math.prod(shape if pool is None else pool.checked(shape, where))
    geometry = {"kind": "dense", "in_shape": list(shape), "out_shape": [units]}
    synapse = nn.Linear(inputs, units, bias=cell.estimator is None)
    return SpikingLayer(synapse, geometry, cell, pool)
