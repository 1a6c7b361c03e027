"""Fold norm, pooling and the input's scale into the weights: the float network as Loihi will see its events."""

from __future__ import annotations

import numpy as np

from lavatube.convert.registers import FoldedLayer
from lavatube.errors import UnsupportedError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.spiking_layer import SpikingLayer


def fold(network: SpikingNetwork, input_scale: float) -> list[FoldedLayer]:
    """Layers with threshold 1 and integer events; in eval mode the folded network spikes as the trained one.

    input_scale: what the float network saw for an event of 1.
    raises: UnsupportedError naming what in the network cannot be quantized yet.
    """
    chain = network.chain()
    for need in sorted(network.needs):
        raise UnsupportedError(
            f"the network needs {need}",
            where="quantize",
            expected="leaky neurons with binary spikes and reset to zero",
            got=need,
            remedy="train with decay < 1, reset: zero, output: binary, no v_initial and no refractory period",
        )
    layers, event_scale = [], input_scale
    for name, layer in chain:
        weight, bias = (value.double().numpy() for value in layer.folded())
        spec = None if layer.neurons is None else layer.neurons.spec
        threshold = 1.0 if spec is None else spec.v_threshold
        weight, geometry = fuse_pooling(layer, weight)
        layers.append(
            FoldedLayer(name, geometry, weight * event_scale / threshold, bias / threshold, spec.dv if spec else None)
        )
        event_scale = 1.0
    return layers


def fuse_pooling(layer: SpikingLayer, weight: np.ndarray) -> tuple[np.ndarray, dict[str, object]]:
    """The one synapse that does the work of average pooling over pool x pool windows and of the synapse after it.

    A convolution of window k, stride s, padding p becomes one of window k pool, stride s pool, padding p pool, each
    weight repeated pool x pool times and divided by pool^2; a dense layer's columns likewise. Exact: both are linear.
    """
    pool, geometry = layer.pool, dict(layer.geometry)
    if pool == 1:
        return weight, geometry
    spread = np.ones((1, 1, pool, pool)) / pool**2
    if geometry["kind"] == "conv2d":
        geometry |= {key: [pool * n for n in geometry[key]] for key in ("kernel", "stride", "padding")}
        return np.kron(weight, spread), geometry
    channels, height, width = geometry["in_shape"]
    maps = weight.reshape(len(weight), channels, height // pool, width // pool)
    return np.kron(maps, spread).reshape(len(weight), -1), geometry
