"""Fold batch norm and the input's scale into the weights: the float network as Loihi will see its events."""

from __future__ import annotations

from lavatube.convert.registers import FoldedLayer
from lavatube.train.data import Dataset
from lavatube.train.network import SpikingNetwork
from lavatube.train.recipe import Recipe


def fold(network: SpikingNetwork, recipe: Recipe, data: Dataset) -> list[FoldedLayer]:
    """Layers with threshold 1 and integer events; in eval mode the folded network spikes as the trained one.

    The events of the data set are integers that the float network saw divided by 2^message_bits.
    """
    layers, event_scale = [], data.input_scale
    for name, layer in zip(network.names, network.layers(), strict=True):
        weight, bias = (value.double() for value in layer.folded())
        threshold = 1.0 if layer.lif is None else layer.lif.threshold
        layers.append(
            FoldedLayer(
                name,
                layer.geometry,
                (weight * event_scale / threshold).numpy(),
                (bias / threshold).numpy(),
                None if layer.lif is None else recipe.neuron.dv,
            )
        )
        event_scale = 1.0
    return layers
