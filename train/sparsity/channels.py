"""Which channels of a network can go, and a network without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.networks.wiring import wiring
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Neurons

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


@dataclass(frozen=True)
class Prunable:
    """A layer whose channels nothing but the synapses of `readers` sees. name: of the layer's module."""

    name: str
    layer: SpikingLayer
    norm: TimeStatNorm
    neurons: Neurons
    readers: tuple[SpikingLayer, ...]


def prunable(network: SpikingNetwork) -> list[Prunable]:
    """Layers with normalisation and neurons, one synapse in, no shortcut or feedback out, in order of execution.

    raises: UnsupportedError as `wiring`, for a network that is not made of synapses and populations.
    """
    names = {id(module): name for name, module in network.named_modules()}
    drives, found = wiring(network), []
    for drive in drives:
        layer = drive.connections[0].layer
        readers = [each.layer for other in drives for each in other.connections if each.source == drive.name]
        weighted = tuple(reader for reader in readers if isinstance(reader, SpikingLayer))
        if len(drive.connections) > 1 or len(weighted) < len(readers) or not isinstance(layer, SpikingLayer):
            continue
        if layer.norm is not None and layer.neurons is not None:
            found.append(Prunable(names[id(layer)], layer, layer.norm, layer.neurons, weighted))
    return found


@torch.no_grad()
def keep_channels(part: Prunable, kept: Sequence[int]) -> None:
    """Leave only these channels of a layer, and what its readers do with them."""
    index, channels = torch.tensor(kept, device=part.norm.weight.device), len(part.norm.weight)
    if len(kept) == channels:
        return
    for module in (part.layer.synapse, part.norm):
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter[index].clone()))
    for name, buffer in list(part.norm.named_buffers(recurse=False)):
        setattr(part.norm, name, buffer[index].clone())
    part.layer.geometry["out_shape"][0] = len(kept)
    _resized(part.layer.synapse, outputs=len(kept))
    for reader in part.readers:
        weight = reader.synapse.weight  # [O, C, h, w], or [O, C places]: C order
        by_channel = weight.reshape(len(weight), channels, -1, *weight.shape[2:])[:, index]
        reader.synapse.weight = nn.Parameter(by_channel.flatten(1, 2).clone())
        reader.geometry["in_shape"][0] = len(kept)
        _resized(reader.synapse, inputs=reader.synapse.weight.shape[1])


def _resized(synapse: nn.Conv2d | nn.Linear, *, outputs: int | None = None, inputs: int | None = None) -> None:
    """What the module says of itself."""
    words = ("out_channels", "in_channels") if isinstance(synapse, nn.Conv2d) else ("out_features", "in_features")
    for word, size in zip(words, (outputs, inputs), strict=True):
        if size is not None:
            setattr(synapse, word, size)
