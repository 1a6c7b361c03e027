"""Programs made of a chain of synapses, each into plain neurons."""

from __future__ import annotations

import numpy as np

from lavatube.program import InputNode, LoihiProgram, NeuronNode, ReadoutNode


def layered(*synapses, message_bits=1):
    """A chain input -> synapse -> LIF -> synapse -> LIF ..., read by its spikes."""
    nodes, edges, before = [InputNode("input", synapses[0].in_shape, message_bits)], [], "input"
    for number, synapse in enumerate(synapses):
        name = f"lif{number}"
        shape = synapse.out_shape
        nodes += [synapse, NeuronNode(name, shape, 4095, 100, 500, np.zeros(shape, np.int16), 0)]
        edges += [(before, synapse.name), (synapse.name, name)]
        before = name
    size = int(np.prod(synapses[-1].out_shape))
    nodes.append(ReadoutNode("output", np.zeros(size, np.int64), "spikes"))
    edges.append((before, "output"))
    return LoihiProgram(tuple(nodes), tuple(edges), 4, {"kind": "test", "sha256": ""}, overflow="hardware")


def full_weights(rng, shape, bits=8):
    """Of b bits, none zero."""
    value = rng.integers(1, 1 << (bits - 1), shape) * rng.choice([-1, 1], shape)
    value.flat[0], value.flat[-1] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return (value << (9 - bits)).astype(np.int16)
