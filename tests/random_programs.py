"""Random programs over every node, width and extreme, from a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.inputs import InputBatch, make_inputs
from lavatube.program import (
    Conv2dNode,
    DenseNode,
    InputNode,
    LoihiProgram,
    NeuronNode,
    Node,
    ReadoutNode,
    Shape,
    SparseNode,
    Synapse,
)

Rng = np.random.Generator
STEPS_MAX = 200


def random_case(seed: int, batch: int = 5, *, ends: bool = True) -> tuple[LoihiProgram, InputBatch]:
    """A program and inputs for it: a third of every node, a third of plain neurons, a third of these without lags.

    One in ten runs for up to 200 timesteps, the others for up to 9.
    """
    program = random_program(seed, plain=seed % 3 > 0, recurrent=seed % 3 < 2, ends=ends)
    if seed % 3 == 2:
        nodes = tuple(node if not isinstance(node, Synapse) else replace(node, delay=0) for node in program.nodes)
        program = replace(program, nodes=nodes)
    rng = np.random.default_rng([seed, 1])
    steps = int(rng.integers(1, STEPS_MAX + 1 if seed % 10 == 0 else 10))
    events = {}
    for node in program.inputs:
        static = len(events) > 0 and rng.random() < 0.2
        shape = (batch, *node.shape) if static else (steps, batch, *node.shape)
        events[node.name] = rng.integers(0, node.max_value + 1, shape)
        events[node.name][rng.random(shape) < rng.choice([0.0, 0.5, 0.95])] = 0
    return program, make_inputs(events, program.inputs, default_steps=steps)


def random_program(seed: int, *, plain: bool = False, recurrent: bool = True, ends: bool = True) -> LoihiProgram:
    """A network of one to four populations that join, skip, delay and feed back, in overflow mode "hardware".

    Half of them have one input and one read-out, the others, unless `ends` is false, up to three of each.
    plain: only LIF neurons with binary spikes and reset to zero.
    """
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 4)), int(rng.integers(3, 6)), int(rng.integers(3, 6)))
    source = InputNode("input", shape, int(rng.choice([1, 1, 4, 8])))
    nodes: list[Node] = [source]
    edges: list[tuple[str, str]] = []
    sources: list[InputNode | NeuronNode] = [source]
    for number in range(int(rng.integers(1, 5))):
        name = f"population{number}"
        first = random_synapse(rng, f"{name}_from_{sources[-1].name}", sources[-1].shape)
        inbound = [(sources[-1].name, first)]
        for other in sources[:-1]:  # a skip connection, into the shape that is there now
            if rng.random() < 0.4:
                inbound.append(
                    (other.name, random_synapse(rng, f"{name}_from_{other.name}", other.shape, first.out_shape))
                )
        neuron = random_neuron(rng, name, first.out_shape, plain=plain)
        if recurrent and rng.random() < 0.3:
            inbound.append((name, random_synapse(rng, f"{name}_from_{name}", neuron.shape, neuron.shape)))
        for before, synapse in inbound:
            nodes.append(synapse)
            edges += [(before, synapse.name), (synapse.name, name)]
        nodes.append(neuron)
        sources.append(neuron)
    if recurrent and len(sources) > 2 and rng.random() < 0.3:  # from the last population into the first
        last, into = sources[-1], sources[1]
        synapse = random_synapse(rng, "feedback", last.shape, into.shape)
        nodes.insert(1, synapse)
        edges += [(last.name, synapse.name), (synapse.name, into.name)]
    reads = str(rng.choice(["current", "current", "spikes", "voltage"])) if not plain else "current"
    if reads == "voltage" and seed % 2:  # a leaky integrator: nothing but its voltage says anything
        silent = {"output": "none", "reset": "zero", "refractory": 0}
        other = {"vth_low": 0, "memory_gate": False, "payload_bits": 0, "payload_shift": 0}
        nodes[nodes.index(sources[-1])] = sources[-1] = replace(sources[-1], **silent, **other)  # type: ignore[arg-type]
    classes = int(np.prod(sources[-1].shape)) if reads != "current" else int(rng.integers(1, 5))
    readout = ReadoutNode("output", rng.integers(-50, 50, classes).astype(np.int64), reads)  # type: ignore[arg-type]
    if reads == "current":
        synapse = random_synapse(rng, "readout", sources[-1].shape, (classes,))
        nodes.append(synapse)
        edges += [(sources[-1].name, synapse.name), (synapse.name, "output")]
    else:
        edges.append((sources[-1].name, "output"))
    nodes.append(readout)
    used = {a for a, _ in edges}
    for node in list(nodes):  # whoever nobody listens to is heard by the read-out, if it sums currents
        if isinstance(node, InputNode | NeuronNode) and node.name not in used:
            assert reads == "current"
            synapse = random_synapse(rng, f"readout_from_{node.name}", node.shape, (classes,))
            nodes.insert(-1, synapse)
            edges += [(node.name, synapse.name), (synapse.name, "output")]
    steps = int(rng.integers(1, 9))
    if ends and (seed + seed // 10) % 2:
        add_ends(np.random.default_rng([seed, 2]), nodes, edges, plain=plain, late=recurrent)
    return LoihiProgram(tuple(nodes), tuple(edges), steps, {"kind": "random", "sha256": ""}, overflow="hardware")


def add_ends(rng: Rng, nodes: list[Node], edges: list[tuple[str, str]], *, plain: bool, late: bool) -> None:
    """Up to two more inputs, into what is there or into populations of their own, and up to two more read-outs.

    late: an input may come after its synapse in the order of nodes, which then sees the timestep before.
    """

    def connect(synapse: Synapse, source: str, target: Node) -> None:
        nodes.insert(nodes.index(target), synapse)
        edges.extend([(source, synapse.name), (synapse.name, target.name)])

    unread: list[NeuronNode] = []
    for number in range(1, 1 + int(rng.integers(0, 3))):
        shape = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4))))
        source = InputNode(f"input{number}", shape, int(rng.choice([1, 1, 3, 8])))
        name = f"from_{source.name}"
        if rng.random() < 0.5:
            synapse = random_synapse(rng, name, shape)
            target: Node = random_neuron(rng, f"alone{number}", synapse.out_shape, plain=plain)
            nodes.insert(-1, target)
            unread.append(target)
        else:
            drive = [n for n in nodes if isinstance(n, NeuronNode) or (n.kind == "readout" and n.reads == "current")]
            target = drive[int(rng.integers(len(drive)))]
            synapse = random_synapse(rng, name, shape, target.shape)
        connect(synapse, source.name, target)
        nodes.insert(int(rng.integers(len(nodes) + 1)) if late and rng.random() < 0.3 else 0, source)
    more = max(int(rng.integers(0, 3)), len(unread))
    for number in range(1, 1 + more):
        populations = [node for node in nodes if isinstance(node, NeuronNode)]
        read = unread.pop() if unread else populations[int(rng.integers(len(populations)))]
        reads = str(rng.choice(["current", "spikes", "voltage"]))
        classes = int(np.prod(read.shape)) if reads != "current" else int(rng.integers(1, 5))
        bias = rng.integers(-50, 50, classes).astype(np.int64)
        readout = ReadoutNode(f"output{number}", bias, reads)  # type: ignore[arg-type]
        nodes.append(readout)
        if reads == "current":
            sources = [read, *(n for n in nodes if isinstance(n, InputNode) and rng.random() < 0.3)]
            for each in sources:
                connect(
                    random_synapse(rng, f"{readout.name}_of_{each.name}", each.shape, (classes,)), each.name, readout
                )
        else:
            edges.append((read.name, readout.name))


def random_synapse(rng: Rng, name: str, shape: Shape, out: Shape | None = None) -> Synapse:
    """From events of `shape`; into `out` if given."""
    bits = int(rng.integers(1, 9))
    sign = str(rng.choice(["mixed", "mixed", "excitatory", "inhibitory"]))
    low, high, grid = fp.weight_range(bits, sign)
    common: dict[str, Any] = {
        "num_weight_bits": bits,
        "weight_exp": int(rng.integers(-8, 3)),
        "delay": int(rng.choice([0, 0, 0, 1, 3, 62])),
        "sign": sign,
    }

    def weights(*size: int) -> np.ndarray:
        value = rng.integers(low // grid, high // grid + 1, size) * grid
        value.flat[0], value.flat[-1] = low, high
        return value.astype(np.int16)

    kind = (
        rng.choice(["dense", "sparse", "conv2d"])
        if len(shape) == 3 and out is None
        else rng.choice(["dense", "sparse"])
    )
    if kind == "conv2d":
        groups = shape[0] if rng.random() < 0.3 else 1
        kernel = tuple(int(rng.integers(1, min(n, 3) + 1)) for n in shape[1:])
        dilation = tuple(
            int(rng.integers(1, 3)) if k == 1 or 2 * (k - 1) < n else 1 for k, n in zip(kernel, shape[1:], strict=True)
        )
        window = {
            "stride": tuple(int(n) for n in rng.integers(1, 3, 2)),
            "padding": tuple(int(n) for n in rng.integers(0, 2, 2)),
            "dilation": dilation,
            "groups": groups,
        }
        channels = groups * int(rng.integers(1, 3))
        return Conv2dNode(name, shape, weights(channels, shape[0] // groups, *kernel), **common, **window)
    size, out = int(np.prod(shape)), out or (int(rng.integers(1, 12)),)
    units = int(np.prod(out))
    if kind == "dense":
        return DenseNode(name, shape, weights(units, size), **common)
    there = rng.random((units, size)) < 0.3
    there[0, 0] = True
    index = np.nonzero(there)[1].astype(np.int32)
    indptr = np.concatenate([[0], there.sum(1).cumsum()]).astype(np.int64)
    return SparseNode(name, shape, out, weights(len(index)), index, indptr, **common)


def random_neuron(rng: Rng, name: str, shape: Shape, *, plain: bool = False) -> NeuronNode:
    """With registers at both ends of their ranges and in between."""
    du, dv = (int(rng.choice([4095, 4095, 0, 1, 700, int(rng.integers(0, 4096))])) for _ in range(2))
    vth = int(rng.choice([0, 1, 60, int(rng.integers(0, 4000)), fp.THRESHOLD_MAX]))
    bias_exp = int(rng.integers(0, fp.BIAS_EXPONENT_MAX + 1))
    bias = rng.integers(fp.BIAS_MANTISSA_MIN, fp.BIAS_MANTISSA_MAX + 1, shape) >> int(rng.integers(0, 10))
    options: dict[str, Any] = {}
    if not plain:
        options["output"] = output = str(rng.choice(["binary", "binary", "signed", "graded"]))
        options["reset"] = str(rng.choice(["zero", "subtract"])) if output in ("binary", "signed") else "zero"
        if output == "signed":
            options |= {"vth_low": int(rng.choice([0, vth, 30])), "memory_gate": bool(rng.random() < 0.5)}
        if output == "graded":
            options |= {
                "payload_bits": int(rng.choice([1, 4, 8])),
                "payload_shift": int(rng.integers(0, 7)) if vth else 0,
            }
        options["v_initial"] = int(rng.choice([0, 0, vth << 5, -100]))
        options["refractory"] = int(rng.choice([0, 0, 1, 3]))
        interval = int(rng.choice([0, 0, 2, 5]))
        options |= {"reset_interval": interval, "reset_offset": int(rng.integers(0, interval)) if interval else 0}
    return NeuronNode(name, shape, du, dv, vth, bias.astype(np.int16), bias_exp, **options)
