"""The programs of the simulation benchmark: random 8-bit weights, each layer with a stated activity.

Weights are uniform over all 8-bit mantissas, centred; neurons leak (du = 4095, dv = 1024) and have no bias. Layer by
layer, the threshold is bisected on random input until the share of active neurons per step is as wanted.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lavatube.inputs import InputBatch, make_inputs
from lavatube.program import (
    Conv2dNode,
    DenseNode,
    InputNode,
    LoihiProgram,
    NeuronNode,
    Node,
    ReadoutNode,
    Synapse,
    Target,
)  # fmt: skip
from lavatube.sim.fast import run_fast

STEPS = 20
INPUT_ACTIVITY = 0.1
ACTIVITY = {"mlp": 0.1, "conv": 0.15}


def synapses(network: str, rng: np.random.Generator) -> list[Synapse]:
    """784-512-10, or 3-64-128-128-256 with strides 1-2-1-2 on 32 x 32 and ten classes."""

    def weight(*shape: int) -> np.ndarray:
        return (rng.integers(-128, 128, shape) * 2).astype(np.int16)

    if network == "mlp":
        return [
            DenseNode("dense1", (1, 28, 28), weight(512, 784), 8, -1),
            DenseNode("dense2", (512,), weight(10, 512), 8, -1),
        ]
    found: list[Synapse] = []
    shape: tuple[int, ...] = (3, 32, 32)
    for number, (channels, stride) in enumerate(((64, 1), (128, 2), (128, 1), (256, 2)), 1):
        conv = Conv2dNode(f"conv{number}", shape, weight(channels, shape[0], 3, 3), 8, -1, (stride,) * 2, (1, 1))
        found.append(conv)
        shape = conv.out_shape
    return [*found, DenseNode("dense", shape, weight(10, int(np.prod(shape))), 8, -1)]


def events(network: str, batch: int, *, steps: int = STEPS, seed: int = 1) -> np.ndarray:
    """Binary input [T, B, ...], each neuron active with INPUT_ACTIVITY."""
    shape = (1, 28, 28) if network == "mlp" else (3, 32, 32)
    return (np.random.default_rng(seed).random((steps, batch, *shape)) < INPUT_ACTIVITY).astype(np.uint8)


def make_program(network: str, seed: int = 0) -> LoihiProgram:
    rng = np.random.default_rng(seed)
    layers = synapses(network, rng)
    nodes: list[Node] = [InputNode("input", layers[0].in_shape, 1)]
    for synapse in layers[:-1]:
        nodes += [synapse, _with_activity(nodes, synapse, ACTIVITY[network])]
    nodes += [layers[-1], ReadoutNode("output", np.zeros(10, np.int64))]
    return _chain(nodes)


def _with_activity(before: list[Node], synapse: Synapse, wanted: float) -> NeuronNode:
    """The population behind a synapse, at the threshold where `wanted` of it is active."""
    shape = synapse.out_shape
    low, high = 0, 1 << 16
    while high - low > max(1, low >> 7):
        vth = (low + high) // 2
        bias = np.zeros(shape, np.int16)
        neurons = NeuronNode(f"{synapse.name}_lif", shape, 4095, 1024, vth, bias, 0)
        read = ReadoutNode("read", np.zeros(int(np.prod(shape)), np.int64), "spikes")
        program = _chain([*before, synapse, neurons, read])
        network = "mlp" if before[0].shape == (1, 28, 28) else "conv"  # type: ignore[union-attr]
        trace = run_fast(program, inputs_of(program, events(network, 2, seed=7)))
        low, high = (vth, high) if trace.spikes[neurons.name].mean() > wanted else (low, vth)
    return neurons


def _chain(nodes: list[Node]) -> LoihiProgram:
    edges = tuple(pairwise(node.name for node in nodes))
    return LoihiProgram(tuple(nodes), edges, STEPS, {"kind": "benchmark", "sha256": ""})


def pairs(program: LoihiProgram) -> list[tuple[Synapse, Target]]:
    """Each synapse of a chain and what it drives."""
    after = dict(program.edges)
    targets = {node.name: node for node in program.targets}
    return [(synapse, targets[after[synapse.name]]) for synapse in program.synapses]


def inputs_of(program: LoihiProgram, value: np.ndarray) -> InputBatch:
    return make_inputs(value, program.input, default_steps=STEPS)
