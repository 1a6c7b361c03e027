"""The spiking network of a recipe: layers of synapse, normalisation and neurons, and its plain forward."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train import recipe as r
from lavatube.train.neuron import Lif, run_lif
from lavatube.train.norm import TimeBatchNorm
from lavatube.trained import TrainedNetwork


@dataclass(frozen=True)
class Outputs:
    """logits: [B, classes], the read-out's mean over timesteps; rates: per hidden layer [B, ...], mean spikes.

    biases: per normalised layer [C], what folding this batch's normalisation would add to the current.
    """

    logits: torch.Tensor
    rates: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor, ...] = ()


class SpikingLayer(nn.Module):
    """A synapse and, but for the read-out, normalisation and neurons. Inputs of a dense layer flatten in C order.

    geometry: "kind", "in_shape", "out_shape" and, of a conv2d, "kernel", "stride", "padding", all as lists.
    """

    def __init__(
        self, synapse: nn.Conv2d | nn.Linear, geometry: Mapping[str, Any], *, batch_norm: bool, lif: Lif | None
    ) -> None:
        super().__init__()
        self.synapse, self.geometry, self.lif = synapse, dict(geometry), lif
        self.norm = TimeBatchNorm(len(synapse.weight)) if batch_norm else None

    def current(self, events: torch.Tensor) -> torch.Tensor:
        """Synaptic current of events [N, ...] (spikes, graded inputs or rates; it is linear)."""
        result: torch.Tensor = self.synapse(events.flatten(1) if isinstance(self.synapse, nn.Linear) else events)
        return result

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(weight, bias) of the one synapse that does the work of synapse and running normalisation, detached."""
        weight = self.synapse.weight.detach()
        bias = weight.new_zeros(len(weight)) if self.synapse.bias is None else self.synapse.bias.detach()
        if self.norm is None:
            return weight, bias
        gain = self.norm.weight.detach() * torch.rsqrt(self.norm.running_var + self.norm.eps)
        shift = self.norm.bias.detach() - gain * self.norm.running_mean
        return weight * gain.reshape(-1, *(1,) * (weight.ndim - 1)), bias * gain + shift


class SpikingNetwork(nn.Module):
    """A chain of `SpikingLayer`s named layer1, layer2, ...

    input_shape: of one sample (C, H, W). Neurons are at rest before each sample.
    """

    def __init__(self, layers: list[SpikingLayer], num_steps: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.num_steps, self.input_shape = num_steps, input_shape
        self.names = [f"layer{index}" for index in range(1, len(layers) + 1)]
        for name, layer in zip(self.names, layers, strict=True):
            self.add_module(name, layer)

    def layers(self) -> list[SpikingLayer]:
        found = [self.get_submodule(name) for name in self.names]
        return [layer for layer in found if isinstance(layer, SpikingLayer)]

    def present(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] as [1, B, ...] (the same at every timestep); [T, B, C, H, W] as it is.

        raises: LavatubeError if the shape is neither.
        """
        static = inputs.ndim == len(self.input_shape) + 1
        steps = inputs.unsqueeze(0) if static else inputs
        if tuple(steps.shape[2:]) != tuple(self.input_shape) or (not static and len(steps) != self.num_steps):
            expected = f"[B, {self.input_shape}] or [{self.num_steps}, B, {self.input_shape}]"
            raise LavatubeError("input of the wrong shape", where="network", expected=expected, got=str(inputs.shape))
        return steps

    def forward(self, inputs: torch.Tensor) -> Outputs:
        """All timesteps, layer by layer; differentiable through time (BPTT). inputs: see `present`."""
        x = self.present(inputs)
        rates: list[torch.Tensor] = []
        biases: list[torch.Tensor] = []
        for layer in self.layers():
            current = unfold_time(layer.current(x.flatten(0, 1)), x)
            if layer.norm is not None:
                current, bias = layer.norm(current, self.num_steps)
                biases.append(bias)
            if layer.lif is None:
                return Outputs(current.mean(0), tuple(rates), tuple(biases))
            x = run_lif(current.expand(self.num_steps, *current.shape[1:]), layer.lif)
            rates.append(x.mean(0))
        raise AssertionError("a network ends in a read-out")


def unfold_time(flat: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """[T·B, ...] as [T, B, ...], with T and B those of `like`."""
    return flat.reshape(*like.shape[:2], *flat.shape[1:])


def build_network(recipe: r.Recipe, shape: tuple[int, ...], classes: int) -> SpikingNetwork:
    """The network of a recipe for samples of `shape`, initialised from the recipe's seed alone.

    raises: LavatubeError if a layer does not fit its input or the read-out does not fit the classes.
    """
    lif = Lif(recipe.neuron.decay, recipe.neuron.v_threshold, recipe.neuron.surrogate.slope)
    layers: list[SpikingLayer] = []
    input_shape = shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        for index, spec in enumerate(recipe.network.layers, start=1):
            is_readout = index == len(recipe.network.layers)
            norm = recipe.network.batch_norm and not is_readout
            synapse, geometry = _synapse(spec, shape, bias=not norm, where=f"recipe {recipe.name}: layer{index}")
            layers.append(SpikingLayer(synapse, geometry, batch_norm=norm, lif=None if is_readout else lif))
            shape = tuple(geometry["out_shape"])
    if shape != (classes,):
        raise LavatubeError(
            "read-out does not fit the data",
            where=f"recipe {recipe.name}",
            expected=f"{classes} units",
            got=str(shape[0]),
        )
    return SpikingNetwork(layers, recipe.num_steps, input_shape)


def _synapse(
    spec: r.Conv2dLayer | r.DenseLayer, shape: tuple[int, ...], *, bias: bool, where: str
) -> tuple[nn.Conv2d | nn.Linear, dict[str, Any]]:
    """(synapse, geometry). shape: of its input."""
    if isinstance(spec, r.DenseLayer):
        units = spec.dense.units
        geometry = {"kind": "dense", "in_shape": list(shape), "out_shape": [units]}
        return nn.Linear(math.prod(shape), units, bias=bias), geometry
    conv = spec.conv2d
    height, width = ((size + 2 * conv.padding - conv.kernel) // conv.stride + 1 for size in shape[1:])
    if height < 1 or width < 1:
        raise LavatubeError(
            "kernel is larger than its input", where=where, expected=f"at most {shape[1:]}", got=str(conv.kernel)
        )
    synapse = nn.Conv2d(shape[0], conv.channels, conv.kernel, conv.stride, conv.padding, bias=bias)
    numbers = {"kernel": [conv.kernel] * 2, "stride": [conv.stride] * 2, "padding": [conv.padding] * 2}
    out_shape = [conv.channels, height, width]
    return synapse, {"kind": "conv2d", "in_shape": list(shape), "out_shape": out_shape, **numbers}


def load_network(trained: TrainedNetwork, shape: tuple[int, ...], classes: int) -> SpikingNetwork:
    """The torch network of a finished run, in evaluation mode. shape, classes: of its data set.

    raises: LavatubeError if recipe and tensors do not belong together or hold NaN.
    """
    network = build_network(r.parse_recipe(dict(trained.recipe), where="recipe of the run"), shape, classes)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    got = {name: tuple(value.shape) for name, value in trained.tensors.items()}
    if wanted != got:
        raise LavatubeError("tensors do not fit the recipe", where="model", expected=str(wanted), got=str(got))
    broken = [name for name, value in trained.tensors.items() if not np.isfinite(value).all()]
    if broken:
        raise LavatubeError("weights hold NaN or infinity", where="model", got=", ".join(broken))
    network.load_state_dict({name: torch.tensor(value) for name, value in trained.tensors.items()})
    return network.eval()
