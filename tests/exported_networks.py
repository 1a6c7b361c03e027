"""Quantized networks to export: convolutions, pooled, with shortcuts, recurrent, and one that meets thresholds."""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np

from lavatube.convert.to_nir import export_nir
from lavatube.integer_layer import IntegerLayer, IntegerNeuron, IntegerSynapse
from lavatube.pooling import Pool
from lavatube.program import InputNode, Shape

BITS, SCALE, STEPS, BATCH = 8, 2.0**-7, 40, 3
KINDS = ("conv", "pooled", "residual", "recurrent", "ties")
Layers = list[IntegerLayer]


def network(kind: str, seed: int = 0) -> tuple[Layers, InputNode]:
    rng = np.random.default_rng(seed)

    def synapse(name: str, source: str, what: str, into: Shape, out: Shape, *weight: int, **more: object):
        integers = rng.integers(-60, 90, weight).astype(np.int8)
        return IntegerSynapse(name, source, what, into, out, integers, BITS, 0, SCALE, **more)

    def neuron(channels: int, threshold: int, dv: int = 1000) -> IntegerNeuron:
        return IntegerNeuron(4095, dv, threshold, rng.integers(-200, 400, channels).astype(np.int16), 3)

    def readout(name: str, source: str, into: Shape) -> IntegerLayer:
        last = synapse(name, source, "dense", into, (5,), 5, int(np.prod(into)))
        return IntegerLayer(name, (last,), None, rng.integers(-9, 9, 5))

    same = {"padding": (1, 1)}
    if kind == "recurrent":
        forward = synapse("layer1", "input", "dense", (12,), (20,), 20, 12)
        back = synapse("layer1_recurrent", "layer1", "dense", (20,), (20,), 20, 20)
        second = synapse("layer2", "layer1", "dense", (20,), (9,), 9, 20)
        hidden = [
            IntegerLayer("layer1", (forward, back), neuron(20, 600)),
            IntegerLayer("layer2", (second,), neuron(9, 200)),
        ]
        return [*hidden, readout("layer3", "layer2", (9,))], InputNode("input", (12,), 1)
    if kind == "ties":  # few values, no bias, half of v kept: v is often the threshold itself
        weights = [rng.integers(-1, 3, shape).astype(np.int8) * 4 for shape in ((20, 12), (9, 20))]
        parts = [
            IntegerSynapse(f"layer{i + 1}", source, "dense", (w.shape[1],), (w.shape[0],), w, BITS, 0, SCALE)
            for i, (source, w) in enumerate(zip(("input", "layer1"), weights, strict=True))
        ]
        quiet = [IntegerNeuron(4095, 2048, vth, np.zeros(n, np.int16), 0) for vth, n in ((16, 20), (24, 9))]
        hidden = [IntegerLayer(part.name, (part,), each) for part, each in zip(parts, quiet, strict=True)]
        return [*hidden, readout("layer3", "layer2", (9,))], InputNode("input", (12,), 1)
    image, half = (4, 6, 6), (6, 3, 3)
    first = synapse("layer1", "input", "conv2d", (1, 6, 6), image, 4, 1, 3, 3, **same)
    if kind == "conv":
        second = synapse("layer2", "layer1", "conv2d", image, half, 6, 4, 3, 3, stride=(2, 2), **same)
        hidden = [
            IntegerLayer("layer1", (first,), neuron(4, 900)),
            IntegerLayer("layer2", (second,), neuron(6, 400, dv=2048)),
        ]
        return [*hidden, readout("layer3", "layer2", half)], InputNode("input", (1, 6, 6), 2)
    if kind == "pooled":
        second = synapse("layer2", "layer1", "conv2d", image, half, 6, 4, 3, 3, pool=Pool(2, 2), **same)
        last = synapse("layer3", "layer2", "dense", half, (5,), 5, 6, pool=Pool(3, 3))
        return [
            IntegerLayer("layer1", (first,), neuron(4, 900)),
            IntegerLayer("layer2", (second,), neuron(6, 900, dv=2048)),
            IntegerLayer("layer3", (last,), None, rng.integers(-9, 9, 5)),
        ], InputNode("input", (1, 6, 6), 2)
    inner = synapse("layer2", "layer1", "conv2d", image, image, 4, 4, 3, 3, **same)
    shortcut = synapse("layer2_shortcut", "layer1", "scale", image, image, 4)
    outer = synapse("layer3", "layer2", "conv2d", image, half, 6, 4, 3, 3, stride=(2, 2), **same)
    around = synapse("layer3_shortcut", "layer1", "conv2d", image, half, 6, 4, 1, 1, stride=(2, 2))
    hidden = [
        IntegerLayer("layer1", (first,), neuron(4, 900)),
        IntegerLayer("layer2", (inner, shortcut), neuron(4, 700)),
        IntegerLayer("layer3", (outer, around), neuron(6, 250)),
    ]
    return [*hidden, readout("layer4", "layer3", half)], InputNode("input", (1, 6, 6), 2)


def exported(kind: str, path: Path, seed: int = 0) -> tuple[nir.NIRGraph, np.ndarray]:
    """The file written to `path`, read back, and an input [T, B, ...] for it."""
    layers, node = network(kind, seed)
    graph = export_nir(layers, node, path, num_steps=STEPS, method="test")
    rng = np.random.default_rng(seed + 1)
    return graph, rng.integers(0, node.max_value + 1, (STEPS, BATCH, *node.shape)).astype(np.uint8)
