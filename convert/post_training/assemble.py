"""Integers of every population -> the nodes and edges of a program, in order of execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lavatube import fixed_point as fp
from lavatube.convert.post_training.encoding import Encoding
from lavatube.convert.post_training.integers import Made, Weights
from lavatube.convert.post_training.network import FloatNetwork, unique
from lavatube.errors import UnsupportedError
from lavatube.program import DenseNode, InputNode, NeuronNode, Node, ReadoutNode

Edges = tuple[tuple[str, str], ...]


def with_own_names(made: Sequence[Made], network: FloatNetwork) -> list[Made]:
    """Synapses of the clock and parts of others are named after populations and nodes, which others may be called."""
    used = dict(network.names)

    def named(weights: Weights) -> Weights:
        own = weights.name in network.names and not weights.pulse
        return weights if own else replace(weights, name=unique(weights.name, used))

    return [replace(one, weights=tuple(named(each) for each in one.weights)) for one in made]


def assembled(
    network: FloatNetwork, made: Sequence[Made], encodings: Mapping[str, Encoding], where: str
) -> tuple[tuple[Node, ...], Edges]:
    """raises: UnsupportedError for a delay beyond the register."""
    bits = {node: each.bits for name, each in encodings.items() for node in each.inputs(name)}
    nodes: list[Node] = [InputNode(name, image(shape), bits[name]) for name, shape in network.inputs.items()]
    edges: list[tuple[str, str]] = []
    used = dict(network.names) | {each.name: 1 for one in made for each in one.weights}
    clock, silent_name = unique("clock", used), unique("clock.none", used)
    if any(each.pulse for one in made for each in one.weights):
        first = nodes[0]
        assert isinstance(first, InputNode)
        silent = np.zeros((1, int(np.prod(first.shape))), np.int16)
        bias = np.ones(1, np.int16)  # above the threshold of 0 at every timestep, whatever comes in
        nodes += [
            DenseNode(silent_name, first.shape, silent, 8, 0),
            NeuronNode(clock, (1,), fp.DECAY_MAX, fp.DECAY_MAX, 0, bias, 0),
        ]
        edges += [(first.name, silent_name), (silent_name, clock)]
    place = {name: -1 for name in (*network.inputs, clock)} | {one.driven.name: i for i, one in enumerate(made)}
    for index, one in enumerate(made):
        for synapse, each in zip(one.synapses(), one.weights, strict=True):
            source = clock if each.pulse else each.source
            delay = each.lag - (place[source] >= index)
            if not 0 <= delay <= fp.DELAY_MAX:
                expected = f"a delay of 0..{fp.DELAY_MAX} timesteps"
                raise UnsupportedError(
                    "a synapse's delay", where=f"{where}:{each.name}", expected=expected, got=str(delay)
                )
            nodes.append(replace(synapse, delay=delay))
            edges += [(source, each.name), (each.name, one.node.name)]
        node = one.node
        nodes.append(replace(node, shape=image(node.shape), bias_mant=node.bias_mant.reshape(image(node.shape)))
                     if isinstance(node, NeuronNode) else node)  # fmt: skip
    sizes = {one.driven.name: int(np.prod(one.driven.shape)) for one in made}
    spiking = {one.driven.name: isinstance(one.node, NeuronNode) and one.node.output != "none" for one in made}
    for name, source in network.reads.items():
        reads = "spikes" if spiking[source] else "voltage"
        nodes.append(ReadoutNode(name, np.zeros(sizes[source], np.int64), reads))  # type: ignore[arg-type]
        edges.append((source, name))
    return tuple(nodes), tuple(edges)


def image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A program's shapes have one to three sizes."""
    return shape if len(shape) <= 3 else (int(np.prod(shape)),)
