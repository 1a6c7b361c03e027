"""The order of execution, from the wiring alone, and where cycles are cut: at edges that leave a neuron.

A cycle is opened before the neuron that an Input reaches first (fewest neurons on the way); of those as near, before
the one farthest from an Output; neurons that are alike in both see each other's past. So what leads from there into
the opened neurons is of the timestep before. See docs/decisions/0010-where-a-cycle-is-cut.md.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import nir
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lavatube.convert.float_graph.graph import Edge
from lavatube.convert.float_graph.neurons import NEURON_TYPES
from lavatube.errors import LavatubeError

ROUNDS_MAX = 20
Neighbours = dict[str, list[str]]


def feedback_edges(
    nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge], path: str
) -> tuple[frozenset[Edge], set[Edge]]:
    """The edges to cut so that no cycle is left, each leaves a neuron and lies on a cycle; and which of them lead
    straight from one to another of two neurons that are alike, so that no order of the two is right.

    raises: LavatubeError for a cycle without a neuron, naming its nodes.
    """
    neurons = {name for name, node in nodes.items() if isinstance(node, NEURON_TYPES)}
    far = len(nodes) + 1
    near = _neurons_between(
        (n for n, node in nodes.items() if isinstance(node, nir.Input)), _next(nodes, edges), neurons
    )
    turned = [(b, a) for a, b in edges]
    end = _neurons_between(
        (n for n, node in nodes.items() if isinstance(node, nir.Output)), _next(nodes, turned), neurons
    )
    cut, alike = set[Edge](), set[Edge]()
    left = _cycles(list(nodes), edges)
    while left:
        cycle, inside = left.pop()
        rank = {name: (near.get(name, far), -end.get(name, far)) for name in cycle if name in neurons}
        if not rank:
            got = " -> ".join(sorted(cycle)[:8])
            what, remedy = "a cycle without a neuron", "what goes round needs a neuron that holds it for a timestep"
            raise LavatubeError(what, where=path, got=got, remedy=remedy)
        least = min(rank.values())
        first = {name for name in rank if rank[name] == least}
        found = _into(first, inside, neurons)
        alike |= {(a, b) for a, b in found if a != b and {a, b} <= first}
        cut |= found
        left += _cycles(cycle, [edge for edge in inside if edge not in found])
    return frozenset(cut), alike


def execution_order(nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge], feedback: frozenset[Edge]) -> list[str]:
    """Names in order: by the longest way from an Input, then by what they compute, and by name where that is equal."""
    # what carries the past is executed before its source
    forward = [edge for edge in edges if edge not in feedback]
    turned = [(b, a) for a, b in feedback if a != b]
    before, after = _next(nodes, [(b, a) for a, b in forward]), _next(nodes, [*forward, *turned])
    level = dict.fromkeys(nodes, 0)
    missing = {name: 0 for name in nodes}
    for _, b in [*forward, *turned]:
        missing[b] += 1
    ready, placed = deque(name for name in nodes if not missing[name]), list[str]()
    while ready:
        name = ready.popleft()
        placed.append(name)
        for other in after[name]:
            level[other] = max(level[other], level[name] + 1)
            missing[other] -= 1
            if not missing[other]:
                ready.append(other)
    assert len(placed) == len(nodes), "a cycle is left"
    past = _next(nodes, [(b, a) for a, b in feedback])
    digest = _computes(nodes, placed, before, past)
    inputs = {name for name, node in nodes.items() if isinstance(node, nir.Input)}
    return sorted(nodes, key=lambda name: (level[name], name not in inputs, digest[name], name))


def _into(first: set[str], inside: Sequence[Edge], neurons: set[str]) -> set[Edge]:
    """Edges of a cycle that leave a neuron and lead, without another neuron between, into one of `first`."""
    before: Neighbours = {}
    for a, b in inside:
        before.setdefault(b, []).append(a)
    found, seen, ready = set[Edge](), set(first), deque(first)
    while ready:
        name = ready.popleft()
        for source in before.get(name, ()):
            if source in neurons:
                found.add((source, name))
            elif source not in seen:
                seen.add(source)
                ready.append(source)
    return found


def _cycles(names: Sequence[str], edges: Sequence[Edge]) -> list[tuple[list[str], list[Edge]]]:
    """(nodes, edges between them) of each strongly connected part that has a cycle."""
    index = {name: i for i, name in enumerate(names)}
    rows, columns = [index[a] for a, _ in edges], [index[b] for _, b in edges]
    size = (len(names), len(names))
    _, label = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), size), True, "strong")
    of = dict(zip(names, label.tolist(), strict=True))
    inside: dict[int, list[Edge]] = {}
    for a, b in edges:
        if of[a] == of[b]:
            inside.setdefault(of[a], []).append((a, b))
    members: dict[int, list[str]] = {part: [] for part in inside}
    for name in names:
        if of[name] in members:
            members[of[name]].append(name)
    return [(members[part], inside[part]) for part in inside]


def _neurons_between(starts: Iterable[str], after: Neighbours, neurons: set[str]) -> dict[str, int]:
    """{name: fewest neurons on a way from a start to it, itself among them}."""
    found = dict.fromkeys(starts, 0)
    ready = deque(found)
    while ready:
        name = ready.popleft()
        for other in after[name]:
            steps = found[name] + (other in neurons)
            if steps < found.get(other, len(after) + 1):
                found[other] = steps
                (ready.append if other in neurons else ready.appendleft)(other)
    return found


def _computes(
    nodes: Mapping[str, nir.NIRNode], placed: Sequence[str], before: Neighbours, past: Neighbours
) -> dict[str, str]:
    """A digest of each node's parameters and all that leads to it: equal where two nodes compute the same."""
    own = {name: _digest_of(nodes[name]) for name in nodes}
    digest, kinds = dict(own), 0
    for _ in range(ROUNDS_MAX):
        earlier, digest = digest, {}
        for name in placed:
            sources = sorted(digest[a] for a in before[name]) + sorted("past" + earlier[a] for a in past[name])
            digest[name] = hashlib.sha256("|".join([own[name], *sources]).encode()).hexdigest()
        if (found := len(set(digest.values()))) == kinds:
            break
        kinds = found
    return digest


def _digest_of(node: nir.NIRNode) -> str:
    found = hashlib.sha256(type(node).__name__.encode())
    for name, value in sorted(vars(node).items()):
        if name != "metadata":
            found.update(f"{name}{value if not isinstance(value, np.ndarray) else value.shape}".encode())
        if isinstance(value, np.ndarray):
            found.update(
                b"one" + value.flat[0].tobytes() if not any(value.strides) else np.ascontiguousarray(value).tobytes()
            )
    return found.hexdigest()


def _next(nodes: Iterable[str], edges: Iterable[Edge]) -> Neighbours:
    found: Neighbours = {name: [] for name in nodes}
    for a, b in edges:
        found[a].append(b)
    return found
