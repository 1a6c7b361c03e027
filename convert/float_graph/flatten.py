"""Graphs in graphs become one: names joined, inner Inputs and Outputs kept as ports until their shapes are checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import nir
import numpy as np

from lavatube.convert.float_graph.fields import Record
from lavatube.convert.float_graph.graph import Edge, Shape
from lavatube.convert.float_graph.raw import EDGES_MAX, RawGraph, RawNode
from lavatube.errors import LavatubeError, UnsupportedError

NODES_MAX = 2_500
NAME_LENGTH = 100
ODD = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass
class Flat:
    """nodes: {name: raw node}; ports: names of inner Inputs and Outputs, which pass on what they get."""

    nodes: dict[str, RawNode] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    ports: set[str] = field(default_factory=set)


def flattened(graph: RawGraph, record: Record) -> Flat:
    """One graph of all nested ones. raises: LavatubeError for dangling, duplicate or ambiguous edges, and for names."""
    flat = Flat()
    _descend(graph, (), flat, record)
    return flat


def _descend(graph: RawGraph, path: tuple[str, ...], flat: Flat, record: Record) -> tuple[list[str], list[str]]:
    """Add a graph; its (Inputs, Outputs) by their flat names."""
    made: dict[str, tuple[list[str], list[str]]] = {}
    for name, item in graph.nodes.items():
        if isinstance(item, RawGraph):
            made[name] = _descend(item, (*path, name), flat, record)
            continue
        unique = _name((*path, name), flat.nodes, item.where, record)
        flat.nodes[unique] = item
        if len(flat.nodes) > NODES_MAX:
            raise LavatubeError("too many nodes", where=item.where, expected=f"at most {NODES_MAX}")
        made[name] = ([unique], [unique])
    kinds = {name: item.kind if isinstance(item, RawNode) else "NIRGraph" for name, item in graph.nodes.items()}
    seen = set()
    for a, b in graph.edges:
        for end in (a, b):
            if end not in made:
                got = ascii(f"{a} -> {b}")[:200]
                raise LavatubeError("an edge to a node that is not there", where=f"{graph.where}/edges", got=got)
        where = f"{graph.where}/edges: {a} -> {b}"
        if (a, b) in seen:
            raise LavatubeError("duplicate edge", where=where, remedy="write it once; for a sum of two, use two nodes")
        seen.add((a, b))
        if kinds[b] == "Input" or kinds[a] == "Output":
            raise LavatubeError("an edge into an Input or out of an Output", where=where)
        flat.edges.append((_only(made[a][1], "Outputs", where), _only(made[b][0], "Inputs", where)))
        if len(flat.edges) > EDGES_MAX:
            raise LavatubeError("too many edges", where=where, expected=f"at most {EDGES_MAX}")
    inner = {kind: [made[name][0][0] for name in kinds if kinds[name] == kind] for kind in ("Input", "Output")}
    if path:
        flat.ports |= {*inner["Input"], *inner["Output"]}
    return inner["Input"], inner["Output"]


def _only(names: list[str], what: str, where: str) -> str:
    if len(names) != 1:
        remedy = "NIR's edges name no ports: make it one graph, or give each nested graph one Input and one Output"
        raise UnsupportedError(f"a nested graph with {len(names)} {what} in an edge", where=where, remedy=remedy)
    return names[0]


def _name(path: tuple[str, ...], taken: Mapping[str, RawNode], where: str, record: Record) -> str:
    """Joined by dots, of letters, digits, `_`, `.` and `-`, at most 100, unique."""
    written = ".".join(path)
    name = ODD.sub("_", written).lstrip(".") or "_"
    if not all(path) or not written.isprintable() or "/" in written:
        rule = "printable, at least one letter, no /"
        raise LavatubeError("name of a node", where=ascii(where)[1:-1][:300], expected=rule, got=ascii(path[-1])[:60])
    if len(name) > NAME_LENGTH:
        name = f"{name[: NAME_LENGTH - 20]}_{hashlib.sha256(written.encode()).hexdigest()[:8]}"
    unique, count = name, 1
    while unique in taken:
        count += 1
        unique = f"{name}_{count}"
    if unique != written:
        record(unique, f"named {unique}", f"{ascii(written)[1:-1][:300]} is not a name here, or there is one already")
    return unique


def without_ports(
    nodes: dict[str, nir.NIRNode], edges: list[Edge], ports: set[str], shapes: dict[str, Shape]
) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
    """Splice the ports away; one that would make an edge twice, or edges without end, stays as a Scale of ones."""
    nodes, kept = dict(nodes), set(edges)
    before: dict[str, set[str]] = {name: set() for name in nodes}
    after: dict[str, set[str]] = {name: set() for name in nodes}
    for a, b in kept:
        after[a].add(b)
        before[b].add(a)
    for port in [name for name in nodes if name in ports]:
        pairs = {(a, b) for a in before[port] for b in after[port]}
        if pairs & kept or len(pairs) > len(before[port]) + len(after[port]) or port in after[port]:
            nodes[port] = nir.Scale(np.broadcast_to(1.0, shapes[port]))
            continue
        del nodes[port]
        for a in before[port]:
            after[a].discard(port)
        for b in after[port]:
            before[b].discard(port)
        for a, b in pairs:
            after[a].add(b)
            before[b].add(a)
        kept -= {(a, port) for a in before.pop(port)} | {(port, b) for b in after.pop(port)}
        kept |= pairs
    return nodes, sorted(kept)
