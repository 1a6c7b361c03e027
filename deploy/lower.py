"""NIR -> LoihiProgram: walk the chain, lower each node by its rule, prove that nothing overflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.convert.from_nir import QuantizedGraph, integers_of, read_quantized_nir
from lavatube.deploy.accept import accept
from lavatube.deploy.lower_nodes import lower_affine, lower_conv2d, lower_cuba_lif
from lavatube.deploy.net_file.read import lower_net
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.program import InputNode, LoihiProgram, NeuronNode, Node, Overflow, ReadoutNode, Shape, Synapse

SYNAPSES: Mapping[type, Callable[..., Synapse]] = {nir.Affine: lower_affine, nir.Conv2d: lower_conv2d}
NEURONS: Mapping[type, Callable[..., NeuronNode]] = {nir.CubaLIF: lower_cuba_lif}
IDENTITY = (nir.Flatten, nir.Output)
SUPPORTED = ", ".join(cls.__name__ for cls in (nir.Input, *SYNAPSES, *NEURONS, *IDENTITY))


def lower(
    model: Path | str | QuantizedGraph,
    *,
    out: Path | str | None = None,
    target: str = "loihi2",
    overflow: Overflow = "strict",
    strict: bool = False,
) -> LoihiProgram:
    """Lower a quantized NIR file (or graph), or a lava-dl .net file, to Loihi integers; write `out` if given.

    overflow: "strict" proves that no accumulator or register overflows; "hardware" reproduces wrap and saturation.
    strict:   make an entry in the report of lossy steps of this lowering an error.
    raises:   LavatubeError for an unsupported node, a target that lacks a capability, or a possible overflow.
    """
    if not isinstance(model, QuantizedGraph) and Path(model).suffix == ".net":
        return lower_net(model, out=out, target=target, overflow=overflow, strict=strict)
    quantized = model if isinstance(model, QuantizedGraph) else read_quantized_nir(Path(model))
    try:
        nodes, scales = _nodes(quantized)
    except (KeyError, TypeError) as error:
        raise LavatubeError("malformed quantization metadata", where=quantized.path, got=str(error)) from error
    names = [node.name for node in nodes]
    program = LoihiProgram(
        nodes=tuple(nodes),
        edges=tuple(pairwise(names)),
        num_steps=quantized.num_steps,
        source={"kind": "nir", "sha256": quantized.sha256},
        scales=scales,
        lossy=quantized.lossy,
        overflow=overflow,
        target=target,
        contract=quantized.contract,
    )
    return accept(program, where=quantized.path, strict=strict, out=out)


def _nodes(quantized: QuantizedGraph) -> tuple[list[Node], dict[str, float]]:
    shape: Shape = quantized.input_shape
    nodes: list[Node] = [InputNode("input", shape, quantized.message_bits)]
    scales: dict[str, float] = {}
    bias = np.zeros(0)
    synapse_row: Any = {}
    for name in _chain(quantized):
        node = quantized.graph.nodes[name]
        row: Any = quantized.rows.get(name, {})
        if type(node) in SYNAPSES:
            flat = nir.Flatten in [type(quantized.graph.nodes[a]) for a, b in quantized.graph.edges if b == name]
            lowered: Synapse = SYNAPSES[type(node)](name, node, row, shape)
            if isinstance(node, nir.Affine) and len(shape) > 1 and not flat:
                raise UnsupportedError("Affine on an image needs a Flatten before it", where=name)
            nodes.append(lowered)
            scales[name] = row["scale"] / 2 ** row["headroom"]
            bias = integers_of(node.bias, row["bias_scale"], where=f"{name}.bias")
            shape, synapse_row = lowered.out_shape, row
        elif type(node) in NEURONS:
            spread = np.broadcast_to(bias.reshape(-1, *(1,) * (len(shape) - 1)), shape)
            nodes.append(NEURONS[type(node)](name, node, row, spread, synapse_row, quantized.contract.dt))
    if synapse_row["bias_scale"] != synapse_row["scale"] / 2 ** synapse_row["headroom"]:
        raise LavatubeError("bias_scale of the read-out contradicts its scale", where=quantized.path)
    nodes.append(ReadoutNode("output", bias.astype(np.int64)))
    return nodes, scales


def _chain(quantized: QuantizedGraph) -> list[str]:
    """Node names in order of execution, from after the input to the output."""
    graph, where = quantized.graph, quantized.path
    for name, node in graph.nodes.items():
        if type(node) not in (nir.Input, *SYNAPSES, *NEURONS, *IDENTITY):
            raise UnsupportedError(
                f"node type {type(node).__name__}", where=f"{where}:{name}", expected=SUPPORTED, got=type(node).__name__
            )
    starts = [name for name, node in graph.nodes.items() if isinstance(node, nir.Input)]
    followers: dict[str, list[str]] = {}
    for a, b in graph.edges:
        followers.setdefault(a, []).append(b)
    if len(starts) != 1 or any(len(after) != 1 for after in followers.values()):
        raise UnsupportedError("only a chain with one input is supported", where=where, got=f"edges {graph.edges}")
    order, name = [], starts[0]
    while name in followers:
        name = followers[name][0]
        order.append(name)
        if len(order) > len(graph.nodes):
            raise UnsupportedError("recurrent graphs are not supported yet", where=where)
    if len(order) != len(graph.nodes) - 1 or not isinstance(graph.nodes[name], nir.Output):
        raise UnsupportedError("only a chain from input to output is supported", where=where, got=f"order {order}")
    return order
