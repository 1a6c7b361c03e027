"""Any NIR file or graph -> FloatGraph: flat, checked, in order; or one line that says what is wrong and where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np

from lavatube.convert.float_graph.fields import Record
from lavatube.convert.float_graph.flatten import flattened, without_ports
from lavatube.convert.float_graph.graph import Edge, FloatGraph, Shape
from lavatube.convert.float_graph.order import execution_order, feedback_edges
from lavatube.convert.float_graph.primitives import checked_node
from lavatube.convert.float_graph.raw import RawGraph, RawNode, raw_from_file, raw_from_nir
from lavatube.convert.float_graph.shapes import infer_shapes
from lavatube.errors import LavatubeError
from lavatube.files import sha256_of_file


def read_float_graph(path: Path | str) -> FloatGraph:
    """Read a .nir file from anywhere.

    raises: LavatubeError naming the HDF5 path and the rule, if it is unsafe, damaged, not NIR, or makes no sense;
            UnsupportedError for a node type that NIR 1.0.8 does not have.
    """
    path = Path(path)
    raw = raw_from_file(path)
    return _float_graph(raw, str(path), sha256_of_file(path))


def flat_graph(graph: nir.NIRNode, *, path: str = "", sha256: str = "") -> FloatGraph:
    """The same of a NIR graph in memory, which stays as it is.

    path:   stands before the place in errors; sha256: digest of the file that it came from.
    raises: as `read_float_graph`.
    """
    return _float_graph(raw_from_nir(graph, f"{path}:/node"), path, sha256)


def read_nested_graph(path: Path | str) -> nir.NIRGraph:
    """The file as it is, graphs in graphs, each node checked alone; a single node becomes a graph of one.

    raises: as `read_float_graph`, without what concerns edges and shapes.
    """
    return _nested(raw_from_file(Path(path)))


def _nested(raw: RawGraph | RawNode) -> nir.NIRGraph:
    if isinstance(raw, RawNode):
        raw = RawGraph({raw.kind.lower(): raw}, (), raw.where)
    nodes: dict[str, nir.NIRNode] = {}
    for name, item in raw.nodes.items():
        if isinstance(item, RawGraph):
            nodes[name] = _nested(item)
        else:
            nodes[name] = checked_node(item, name, lambda *_: None)
            nodes[name].metadata = dict(item.metadata)
    return nir.NIRGraph(nodes=nodes, edges=list(raw.edges), metadata=dict(raw.metadata), type_check=False)


def _float_graph(raw: RawGraph | RawNode, path: str, sha256: str) -> FloatGraph:
    records: list[dict[str, Any]] = []

    def record(node: str, what: str, why: str) -> None:
        records.append({"node": node, "what": what, "why": why})

    if isinstance(raw, RawNode):
        raw = RawGraph({raw.kind.lower(): raw}, (), raw.where)
    flat = flattened(raw, record)
    wheres = {name: node.where for name, node in flat.nodes.items()}
    nodes = {name: checked_node(node, name, record) for name, node in flat.nodes.items()}
    if not nodes:
        raise LavatubeError("a graph without nodes", where=raw.where)
    edges = [*flat.edges, *_missing_inputs(nodes, flat.edges, flat.ports, wheres, record)]
    _driven(nodes, edges, flat.ports, wheres)
    shapes = infer_shapes(nodes, edges, wheres, record)
    if lost := [name for name in nodes if name not in shapes]:
        raise LavatubeError("no Input leads to this node", where=wheres[lost[0]], remedy="connect it, or leave it out")
    nodes, edges = without_ports(nodes, edges, flat.ports, shapes)
    edges += _missing_outputs(nodes, edges, shapes, record)
    feedback, alike = feedback_edges(nodes, edges, raw.where)
    edges, feedback = _apart(nodes, edges, feedback, alike, shapes)
    for a, b in sorted(feedback):
        record(a, f"{b} gets its output of the timestep before", "a cycle: NIR does not say where its delay is")
    order = execution_order(nodes, edges, feedback)
    place = {name: index for index, name in enumerate(order)}
    return FloatGraph(
        nodes={name: nodes[name] for name in order},
        edges=tuple(sorted(edges, key=lambda edge: (place[edge[0]], place[edge[1]]))),
        feedback=feedback,
        shapes={name: shapes[name] for name in order},
        assumptions=tuple(sorted(records, key=lambda each: (each["node"], each["what"]))),
        path=path,
        sha256=sha256,
        metadata=dict(raw.metadata),
    )


def _missing_inputs(
    nodes: dict[str, nir.NIRNode], edges: list[Edge], ports: set[str], wheres: dict[str, str], record: Record
) -> list[Edge]:
    """A graph without any Input (a single node) gets one before each node that nothing drives, as nir does."""
    if any(isinstance(node, nir.Input) and name not in ports for name, node in nodes.items()):
        return []
    roots = [name for name in nodes if name not in {b for _, b in edges}]
    made: list[Edge] = []
    for root in roots:
        shape = _shape_taken(nodes[root])
        if shape is None:
            remedy = "write an Input before it"
            raise LavatubeError("a graph without Input, of unknown shape", where=wheres[root], remedy=remedy)
        name = _unused("input" if len(roots) == 1 else f"input_{root}", nodes)
        nodes[name], wheres[name] = nir.Input(np.array(shape)), wheres[root]
        record(name, f"an Input before {root}", "the graph has no Input")
        made.append((name, root))
    if not made:
        raise LavatubeError("a graph without Input", where=next(iter(wheres.values())), remedy="write an Input")
    return made


def _shape_taken(node: nir.NIRNode) -> Shape | None:
    if isinstance(node, nir.Conv1d | nir.Conv2d):
        size = node.input_shape
        return None if size is None else (node.weight.shape[1] * node.groups, *np.atleast_1d(size).tolist())
    shape = (node.input_type or {}).get("input")
    return None if shape is None else tuple(int(n) for n in shape) or (1,)


def _missing_outputs(
    nodes: dict[str, nir.NIRNode], edges: list[Edge], shapes: dict[str, Shape], record: Record
) -> list[Edge]:
    """A graph without any Output gets one after each node that leads nowhere; else such a node is told of."""
    ends = sorted(set(nodes) - {a for a, _ in edges})
    if any(isinstance(node, nir.Output) for node in nodes.values()):
        for name in ends:
            if not isinstance(nodes[name], nir.Output):
                record(name, "runs, and nothing reads it", "no edge leaves it")
        return []
    made: list[Edge] = []
    for end in ends:
        name = _unused("output" if len(ends) == 1 else f"output_{end}", nodes)
        nodes[name], shapes[name] = nir.Output(np.array(shapes[end])), shapes[end]
        record(name, f"an Output after {end}", "the graph has no Output")
        made.append((end, name))
    if not made:
        raise LavatubeError("a graph without Output", where=", ".join(sorted(nodes)[:8]), remedy="write an Output")
    return made


def _driven(nodes: Mapping[str, nir.NIRNode], edges: list[Edge], ports: set[str], wheres: Mapping[str, str]) -> None:
    driven = {b for _, b in edges}
    for name, node in nodes.items():
        if name not in driven and (name in ports or not isinstance(node, nir.Input)):
            what = f"{type(node).__name__}: nothing leads into this node"
            raise LavatubeError(what, where=wheres[name], remedy="connect it, or leave it out")


def _apart(
    nodes: dict[str, nir.NIRNode],
    edges: list[Edge],
    feedback: frozenset[Edge],
    alike: set[Edge],
    shapes: dict[str, Shape],
) -> tuple[list[Edge], frozenset[Edge]]:
    """Two neurons that see each other's past without a node between get one, a Scale of ones, to keep an order."""
    for a, b in sorted(alike):
        name = _unused(f"{a}.to.{b}"[-90:].lstrip("."), nodes)
        nodes[name], shapes[name] = nir.Scale(np.broadcast_to(1.0, shapes[a])), shapes[a]
        edges = [*(edge for edge in edges if edge != (a, b)), (a, name), (name, b)]
        feedback = feedback - {(a, b)} | {(a, name)}
    return edges, feedback


def _unused(name: str, nodes: Mapping[str, nir.NIRNode]) -> str:
    return name if name not in nodes else next(n for i in range(2, len(nodes) + 3) if (n := f"{name}_{i}") not in nodes)
