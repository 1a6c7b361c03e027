"""Fold batch norm and the input's scale into the weights: the float network as Loihi will see its events."""

from __future__ import annotations

from typing import Any

import torch

from lavatube.convert.registers import FoldedLayer
from lavatube.train.data import Dataset
from lavatube.train.network import SpikingNetwork
from lavatube.train.recipe import Recipe


def fold(network: SpikingNetwork, recipe: Recipe, data: Dataset) -> list[FoldedLayer]:
    """Layers with threshold 1 and integer events; in eval mode the folded network spikes as the trained one.

    The events of the data set are integers that the float network saw divided by 2^message_bits.
    """
    layers, shape = [], tuple(data.input_shape)
    event_scale = data.input_scale
    for name, layer in zip(network.names, network.layers(), strict=True):
        weight, bias = (value.double() for value in layer.folded())
        threshold = 1.0 if layer.lif is None else layer.lif.threshold
        geometry = _geometry(layer.synapse, shape)
        shape = tuple(geometry["out_shape"])
        layers.append(
            FoldedLayer(
                name,
                geometry,
                (weight * event_scale / threshold).numpy(),
                (bias / threshold).numpy(),
                None if layer.lif is None else recipe.neuron.dv,
            )
        )
        event_scale = 1.0
    return layers


def _geometry(synapse: torch.nn.Conv2d | torch.nn.Linear, shape: tuple[int, ...]) -> dict[str, Any]:
    if isinstance(synapse, torch.nn.Linear):
        return {"kind": "dense", "in_shape": list(shape), "out_shape": [synapse.out_features]}
    kernel, stride, padding = (list(pair) for pair in (synapse.kernel_size, synapse.stride, synapse.padding))
    sizes = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(shape[1:], padding, kernel, stride, strict=True)]
    out_shape = [synapse.out_channels, *sizes]
    return {
        "kind": "conv2d",
        "in_shape": list(shape),
        "out_shape": out_shape,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
    }
