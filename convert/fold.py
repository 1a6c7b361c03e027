"""Fold norm, pooling and the input's scale into the weights: the float network as Loihi will see its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lavatube.convert.registers import FoldedLayer, FoldedNeuron, FoldedSynapse
from lavatube.errors import UnsupportedError
from lavatube.train.layout import INPUT
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.networks.wiring import Connection, Drive, wiring
from lavatube.train.neuron import NeuronSpec

# needs of a network that quantization serves; the target has its own say
LOWERED = frozenset(
    {"recurrence", "soft reset", "initial potential", "signed spikes", "graded spikes", "refractory period"}
)


def fold(network: SpikingNetwork, input_scale: float) -> list[FoldedLayer]:
    """Layers with threshold 1 and integer events; in eval mode the folded network spikes as the trained one.

    input_scale: what the float network saw for an event of 1.
    raises: UnsupportedError naming what in the network cannot be quantized yet.
    """
    for need in sorted(network.needs - LOWERED):
        raise UnsupportedError(
            f"the network needs {need}",
            where="quantize",
            expected="neurons with binary, signed or limited graded spikes, between synapses that add up currents",
            got=need,
            remedy="train with output: binary or signed, or graded with a graded_max, and with a network of kind "
            "chain, vgg or resnet, or recurrent without graded spikes",
        )
    drives = wiring(network)
    shapes = {INPUT: list(network.input_shape)}
    for drive in drives:
        layers = [each.layer for each in drive.connections if isinstance(each.layer, SpikingLayer)]
        if not layers:
            raise UnsupportedError("a population without a synapse that has weights of its own", where=drive.name)
        shapes[drive.name] = list(layers[0].out_shape)
    specs = {drive.name: drive.spec for drive in drives}
    return [_fold_layer(drive, shapes, specs, input_scale) for drive in drives]


def _fold_layer(
    drive: Drive, shapes: dict[str, list[int]], specs: Mapping[str, NeuronSpec | None], input_scale: float
) -> FoldedLayer:
    threshold = 1.0 if drive.spec is None else drive.spec.v_threshold
    units = shapes[drive.name][0]
    total, synapses = np.zeros(units), []
    for connection in drive.connections:
        weight, bias, geometry = _fold_connection(connection, shapes)
        source = specs.get(connection.source)
        event = input_scale if connection.source == INPUT else 1.0
        if source is not None and source.output == "graded":  # an event of 1 is one threshold of its population
            event = source.v_threshold
        synapses.append(FoldedSynapse(connection.name, connection.source, geometry, weight * event / threshold))
        total = total + bias / threshold
    neuron, moved = (None, 0.0) if drive.spec is None else _fold_neuron(drive.spec)
    return FoldedLayer(drive.name, shapes[drive.name], tuple(synapses), total + moved, neuron)


def _fold_neuron(spec: NeuronSpec) -> tuple[FoldedNeuron, float]:
    """(the neuron, what it gets besides at every timestep), in thresholds: `fire_at` is gone."""
    spec, current = spec.firing_at_threshold()
    signed = spec.output == "signed"
    neuron = FoldedNeuron(
        dv=spec.dv, reset=spec.reset, output=spec.output,
        low=-spec.fires_below / spec.v_threshold if signed else 0.0, memory_gate=spec.memory_gate,
        v_initial=spec.v_initial / spec.v_threshold, refractory=spec.refractory,
        graded_max=spec.graded_max or 0.0, payload_bits=spec.payload_bits if spec.output == "graded" else 0,
    )  # fmt: skip
    return neuron, current / spec.v_threshold


def _fold_connection(
    connection: Connection, shapes: dict[str, list[int]]
) -> tuple[np.ndarray, np.ndarray | float, dict[str, Any]]:
    """(weight, bias, geometry) of one synapse, float64."""
    layer, shape = connection.layer, shapes[connection.source]
    if isinstance(layer, SpikingLayer):
        weight, bias = (value.double().numpy() for value in layer.folded())
        geometry = {name: value for name, value in layer.geometry.items() if name != "out_shape"}
        weight, geometry = pooled(connection.pool, weight, geometry | {"in_shape": shape})
        return weight, bias, geometry
    if layer is not None:
        return layer.weight.detach().double().numpy(), 0.0, {"kind": "dense", "in_shape": shape}
    weight, geometry = pooled(connection.pool, np.ones((shape[0], 1, 1, 1)), {"kind": "scale", "in_shape": shape})
    return weight, 0.0, geometry


def pooled(pool: SpikePool | None, weight: np.ndarray, geometry: dict[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
    """(weights, geometry) of the synapse behind a pool: weights on sums of events.

    Windows that overlap would make integers of more bits than a weight has where the program adds them up, so there
    the synapse is one on events from here on, and fine-tuning trains each of its weights for itself.
    """
    if pool is None:
        return weight, geometry
    weight = weight if pool.sums else weight / pool.kernel**2
    if not pool.overlaps:
        return weight, geometry | {"pool": [pool.kernel, pool.stride]}
    if geometry["kind"] == "dense":
        return pool.fused_columns(weight, tuple(geometry["in_shape"])), geometry
    if geometry["kind"] == "scale":
        raise UnsupportedError("an identity of spikes pooled by overlapping windows", where=str(geometry["in_shape"]))
    fused = pool.fused_kernel(weight)
    stride, padding = ([pool.stride * size for size in geometry[key]] for key in ("stride", "padding"))
    return fused, geometry | {"kernel": list(fused.shape[2:]), "stride": stride, "padding": padding}
