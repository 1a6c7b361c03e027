"""Quantized NIR -> LoihiProgram: lower each node by its rule, in order, and prove that nothing overflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.read import read_nested_graph
from lavatube.convert.from_nir import QuantizedGraph, integers_of, read_quantized_nir
from lavatube.convert.program_metadata import PROGRAM_KEY, source_of, stated_program
from lavatube.convert.program_to_nir import refuse_contradictions
from lavatube.deploy.accept import accept
from lavatube.deploy.lower_float import is_float_nir, lower_float
from lavatube.deploy.lower_nodes import lower_affine, lower_conv2d, lower_neurons, lower_scale, pool_of
from lavatube.deploy.net_file.read import lower_net
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.files import sha256_of_file
from lavatube.program import InputNode, LoihiProgram, NeuronNode, Node, Overflow, ReadoutNode, Shape, Synapse

SYNAPSES: Mapping[type, Callable[..., Synapse]] = {
    nir.Affine: lower_affine,
    nir.Conv2d: lower_conv2d,
    nir.Scale: lower_scale,
}
NEURONS: Mapping[type, Callable[..., NeuronNode]] = {nir.CubaLIF: lower_neurons, nir.IF: lower_neurons}
BETWEEN = (nir.Flatten, nir.SumPool2d)  # a population, or the input, and a synapse
SUPPORTED = ", ".join(cls.__name__ for cls in (nir.Input, *SYNAPSES, *NEURONS, *BETWEEN, nir.Output))


def lower(
    model: Path | str | QuantizedGraph,
    *,
    out: Path | str | None = None,
    target: str = "loihi2",
    overflow: Overflow = "strict",
    strict: bool = False,
    contract: ExecutionContract | str | None = None,
    dt: float | None = None,
    **net: Any,
) -> LoihiProgram:
    """Lower a NIR file, a run folder with one, or a lava-dl .net file; write `out` if given.

    overflow: "strict" proves that no accumulator or register overflows; "hardware" reproduces wrap and saturation.
    strict:   make an entry in the report of lossy steps of this lowering an error.
    contract, dt: of a float NIR file, which is quantized to 8 bits by its weights alone (see `lower_float`).
    net:      what a .net file does not say: num_steps, input_bits, input_shape, reset_interval (see `lower_net`); of
              these, a float NIR file takes the first two.
    raises:   LavatubeError for an unsupported node, a target that lacks a capability, or a possible overflow.
    """
    if not isinstance(model, QuantizedGraph):
        path = Path(model) / "model.nir" if Path(model).is_dir() else Path(model)
        if path.suffix == ".nir" and is_float_nir(path):
            return _lower_float(path, net, contract, dt, out=out, target=target, overflow=overflow, strict=strict)
        if contract is not None or dt is not None:
            what = "a quantized file states its contract"
            raise LavatubeError(what, where=str(path), remedy="leave --contract and --dt out")
        if path.suffix == ".net":
            return lower_net(path, out=out, target=target, overflow=overflow, strict=strict, **net)
        graph = read_nested_graph(path)
        if PROGRAM_KEY in graph.metadata:
            return _lower_program(path, graph, net, out=out, target=target, overflow=overflow, strict=strict)
        model = read_quantized_nir(path)
    quantized = model
    if net:
        what = f"{', '.join(sorted(net))}: for .net files only"
        raise LavatubeError(what, where=quantized.path, remedy="leave it out: a NIR file says it itself")
    try:
        nodes, edges, scales = _nodes(quantized)
    except (KeyError, TypeError) as error:
        raise LavatubeError("malformed quantization metadata", where=quantized.path, got=str(error)) from error
    program = LoihiProgram(
        nodes=tuple(nodes),
        edges=tuple(edges),
        num_steps=quantized.num_steps,
        source={"kind": "nir", "sha256": quantized.sha256},
        scales=scales,
        lossy=quantized.lossy,
        overflow=overflow,
        target=target,
        contract=quantized.contract,
    )
    return accept(program, where=quantized.path, strict=strict, out=out)


def _lower_program(
    path: Path, graph: nir.NIRGraph, net: dict[str, Any], *, out: Path | str | None, target: str, overflow: Overflow,
    strict: bool,
) -> LoihiProgram:  # fmt: skip
    """What `program_to_nir` wrote: the program as it was, of this file."""
    if net:
        what = f"{', '.join(sorted(net))}: for .net files only"
        raise LavatubeError(what, where=str(path), remedy="leave it out: a NIR file says it itself")
    program = stated_program(graph, where=str(path)).program
    refuse_contradictions(program, graph, where=str(path))
    program = replace(program, target=target, overflow=overflow, source=source_of(program, sha256_of_file(path)))
    return accept(program, where=str(path), strict=strict, out=out)


def _lower_float(path: Path, net: dict[str, Any], contract: Any, dt: float | None, **settings: Any) -> LoihiProgram:
    if other := sorted(set(net) - {"num_steps", "input_bits"}):
        raise LavatubeError(f"{', '.join(other)}: for .net files only", where=str(path), remedy="leave it out")
    return lower_float(path, contract=contract, dt=dt, **net, **settings)


def _nodes(quantized: QuantizedGraph) -> tuple[list[Node], list[tuple[str, str]], dict[str, float]]:
    """Nodes in order, edges, and the float value of one activation unit by synapse."""
    before, nodes, edges = _wiring(quantized), list[Node](), list[tuple[str, str]]()
    scales: dict[str, float] = {}
    for name in quantized.order:
        node, where = quantized.graph.nodes[name], f"{quantized.path}:{name}"
        row: Any = quantized.rows.get(name, {})
        if isinstance(node, nir.Input):
            nodes.append(InputNode(name, quantized.input_shape, quantized.message_bits))
        elif type(node) in SYNAPSES:
            (source,) = before[name]
            shape = _shape(quantized, source)
            between = _between(quantized, name)
            pools = [pool_of(other, made, shape) for other, made in between if isinstance(made, nir.SumPool2d)]
            if len(pools) > 1 or (pools and isinstance(between[-1][1], nir.Flatten)):
                got = " after ".join(type(made).__name__ for _, made in between)
                raise UnsupportedError("one SumPool2d of an image can be part of a synapse", where=where, got=got)
            nodes.append(SYNAPSES[type(node)](name, node, row, shape, pools[0] if pools else None))
            flat = [made for _, made in between if isinstance(made, nir.Flatten)]
            if isinstance(node, nir.Affine) and len(shape) > 1 and not flat:
                raise UnsupportedError("Affine on an image needs a Flatten before it", where=where)
            scales[name] = row["scale"] / 2 ** row["headroom"]
            edges.append((source, name))
        elif type(node) in NEURONS or isinstance(node, nir.Output):
            edges += [(synapse, name) for synapse in before[name]]
            bias, synapse_row = _bias(quantized, before[name], where)
            if isinstance(node, nir.Output):
                if synapse_row["bias_scale"] != synapse_row["scale"] / 2 ** synapse_row["headroom"]:
                    raise LavatubeError("bias_scale of the read-out contradicts its scale", where=quantized.path)
                nodes.append(ReadoutNode(name, bias))
                continue
            shape = _shape(quantized, name)
            if len(bias) != shape[0]:
                expected = f"{shape[0]} channels"
                raise LavatubeError(
                    "synapses of another size than their population", where=where, expected=expected, got=str(len(bias))
                )
            spread = np.broadcast_to(bias.reshape(-1, *(1,) * (len(shape) - 1)), shape)
            nodes.append(NEURONS[type(node)](name, node, row, spread, synapse_row, quantized.contract.dt))
    return nodes, edges, scales


def _bias(quantized: QuantizedGraph, synapses: list[str], where: str) -> tuple[np.ndarray, Any]:
    """[O] int64, the sum of the biases of all synapses into a target, and the row of the first one.

    raises: LavatubeError if they do not have one activation unit and one unit of bias.
    """
    rows = [quantized.rows[name] for name in synapses]
    units = {(row["scale"] / 2 ** row["headroom"], row["bias_scale"]) for row in rows}
    if len(units) > 1:
        raise LavatubeError("synapses of one target with different units", where=where, got=str(sorted(units)))
    graph = quantized.graph
    parts = [
        integers_of(graph.nodes[name].bias, row["bias_scale"], where=f"{name}.bias")
        for name, row in zip(synapses, rows, strict=True)
        if not isinstance(graph.nodes[name], nir.Scale)
    ]
    if not parts:
        raise UnsupportedError("scales alone drive a node", where=where, expected="an Affine or Conv2d with its bias")
    sizes = {part.shape for part in parts}
    if len(sizes) > 1:
        raise LavatubeError("synapses of one target with different channels", where=where, got=str(sorted(sizes)))
    return np.sum(parts, 0), rows[0]


def _shape(quantized: QuantizedGraph, name: str) -> Shape:
    """Of the events of an input or a population."""
    node = quantized.graph.nodes[name]
    if isinstance(node, nir.Input):
        return quantized.input_shape
    return tuple(int(size) for size in np.shape(node.v_threshold))


def _between(quantized: QuantizedGraph, name: str) -> list[tuple[str, nir.NIRNode]]:
    """What lies between a synapse and its source, backwards; `_wiring` has checked that each has one source."""
    graph, found = quantized.graph, list[tuple[str, nir.NIRNode]]()
    while True:
        [name] = [a for a, b in graph.edges if b == name]
        if not isinstance(graph.nodes[name], BETWEEN):
            return found
        found.append((name, graph.nodes[name]))


def _wiring(quantized: QuantizedGraph) -> dict[str, list[str]]:
    """{synapse: [its source], target: its synapses}, flattening and pooling passed over.

    raises: UnsupportedError for a node or an edge that no program has; LavatubeError for an order that does not fit.
    """
    graph, where = quantized.graph, quantized.path
    for name, node in graph.nodes.items():
        if type(node) not in (nir.Input, *SYNAPSES, *NEURONS, *BETWEEN, nir.Output):
            raise UnsupportedError(
                f"node type {type(node).__name__}", where=f"{where}:{name}", expected=SUPPORTED, got=type(node).__name__
            )
    if sorted(quantized.order) != sorted(graph.nodes):
        raise LavatubeError("order of execution", where=where, expected="every node once", got=str(quantized.order))
    into: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for a, b in graph.edges:
        into[b].append(a)

    def origin(name: str, passed: tuple[type, ...]) -> str:
        seen = {name}
        while isinstance(node := graph.nodes[name], passed):
            if len(into[name]) != 1 or into[name][0] in seen:
                raise UnsupportedError(f"a {type(node).__name__} with no single source", where=f"{where}:{name}")
            name = into[name][0]
            seen.add(name)
        return name

    before = {}
    for name in quantized.order:
        node = graph.nodes[name]
        if isinstance(node, (nir.Input, *BETWEEN)):
            continue
        passed = BETWEEN if type(node) in SYNAPSES else (nir.Flatten,)
        before[name] = [origin(other, passed) for other in into[name]]
        sources = {type(graph.nodes[other]) for other in before[name]}
        wanted = {nir.Input, *NEURONS} if type(node) in SYNAPSES else set(SYNAPSES)
        if not sources or not sources <= wanted or (type(node) in SYNAPSES and len(before[name]) != 1):
            got = ", ".join(f"{other} ({type(graph.nodes[other]).__name__})" for other in before[name]) or "nothing"
            expected = "one input or population" if type(node) in SYNAPSES else "synapses"
            raise UnsupportedError("what drives a node", where=f"{where}:{name}", expected=expected, got=got)
    return before
