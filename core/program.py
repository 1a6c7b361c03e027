"""LoihiProgram: a spiking network in Loihi integers only, as nodes and edges. docs/program.md is its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np

from lavatube.contract import LOIHI, ExecutionContract
from lavatube.end_nodes import InputNode, ReadoutNode
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.neuron_node import NeuronNode
from lavatube.node_checks import Shape, is_int, require
from lavatube.synapse_nodes import Conv2dNode, DenseNode, SparseNode, Synapse, as_stored, floors_sums

Node = InputNode | Synapse | NeuronNode | ReadoutNode
Source = InputNode | NeuronNode
Target = NeuronNode | ReadoutNode
Overflow = Literal["strict", "hardware"]


@dataclass(frozen=True)
class LoihiProgram:
    """Nodes in order of execution, the edges between them, and what is needed to run and to trust them.

    nodes:     each timestep executes them in this order. A synapse whose source comes later in the order sees the
               timestep before: that is what makes a cycle.
    edges:     (source, synapse), (synapse, target), and (population, read-out) where it reads spikes or voltages.
    num_steps: timesteps that the network was made for (a run may take another number).
    lossy:     every rounding, clamp or substitution on the way here, one record each.
    source:    {"kind": ..., "sha256": ...} of the file that it was lowered from.
    scales:    informational; float value of one activation unit, by synapse name.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    num_steps: int
    source: Mapping[str, str]
    scales: Mapping[str, float] = field(default_factory=dict)
    lossy: tuple[Mapping[str, Any], ...] = ()
    overflow: Overflow = "strict"
    target: str = "loihi2"
    contract: ExecutionContract = LOIHI

    def __post_init__(self) -> None:
        require(is_int(self.num_steps, 1, 1 << 24), "program", "num_steps", expected="1..2^24", got=self.num_steps)
        ok = self.overflow in ("strict", "hardware")
        require(ok, "program", "overflow", expected="strict or hardware", got=self.overflow)
        names = [node.name for node in self.nodes]
        require(len(set(names)) == len(names), "program", "node names", expected="unique names", got=names)
        check_graph(self)

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _before(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {node.name: [] for node in self.nodes}
        for a, b in self.edges:
            found[b].append(self.by_name[a])
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def _place(self) -> Mapping[str, int]:
        return {node.name: place for place, node in enumerate(self.nodes)}

    @cached_property
    def inputs(self) -> tuple[InputNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, InputNode))

    @cached_property
    def synapses(self) -> tuple[Synapse, ...]:
        return tuple(node for node in self.nodes if isinstance(node, Synapse))

    @cached_property
    def neurons(self) -> tuple[NeuronNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, NeuronNode))

    @cached_property
    def readouts(self) -> tuple[ReadoutNode, ...]:
        return tuple(node for node in self.nodes if isinstance(node, ReadoutNode))

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """What makes events."""
        return (*self.inputs, *self.neurons)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """What synapses drive, or a read-out that reads a population."""
        return (*self.neurons, *self.readouts)

    @property
    def input(self) -> InputNode:
        """The only input. raises: UnsupportedError if there are several."""
        return only({node.name: node for node in self.inputs}, "inputs")

    @property
    def readout(self) -> ReadoutNode:
        """The only read-out. raises: UnsupportedError if there are several."""
        return only({node.name: node for node in self.readouts}, "read-outs")

    def source_of(self, synapse: Synapse) -> Source:
        """The node whose events a synapse carries."""
        (source,) = self._before[synapse.name]
        assert isinstance(source, Source)
        return source

    def inbound(self, target: Target) -> tuple[Synapse, ...]:
        """The synapses whose activations a target adds up, in order of the nodes."""
        return tuple(node for node in self._before[target.name] if isinstance(node, Synapse))

    def read_by(self, readout: ReadoutNode) -> NeuronNode:
        """The population whose spikes or voltages a read-out reads."""
        (node,) = self._before[readout.name]
        assert isinstance(node, NeuronNode)
        return node

    def lag(self, synapse: Synapse) -> int:
        """Timesteps by which a synapse sees its source late: its delay, and one more where the source comes later."""
        return synapse.delay + (self._place[self.source_of(synapse).name] > self._place[synapse.name])

    @cached_property
    def is_recurrent(self) -> bool:
        return any(self.lag(synapse) > synapse.delay for synapse in self.synapses)

    def needs(self) -> frozenset[str]:
        """Capabilities that a target must offer."""
        needs = set().union(*(node.needs() for node in self.neurons)) if self.neurons else set()
        needs |= {"graded input"} if any(node.message_bits > 1 for node in self.inputs) else set()
        needs |= {"sums with fractions"} if any(floors_sums(synapse) for synapse in self.synapses) else set()
        needs |= {"delays"} if any(synapse.delay for synapse in self.synapses) else set()
        needs |= {"recurrence"} if self.is_recurrent else set()
        return frozenset(needs)


Item = TypeVar("Item")


def only(found: Mapping[str, Item], what: str) -> Item:
    """What there is one of, by name. raises: UnsupportedError if there are several."""
    if len(found) != 1:
        raise UnsupportedError(f"several {what}", where="program", expected="one", got=", ".join(found))
    return next(iter(found.values()))


def check_graph(program: LoihiProgram) -> None:
    """raises: LavatubeError for an edge that may not be, a node without its edges, or sizes that do not fit."""
    names = {node.name: node for node in program.nodes}
    into: dict[str, list[str]] = {name: [] for name in names}
    out: dict[str, list[str]] = {name: [] for name in names}
    for edge in program.edges:
        require(len(edge) == 2 and set(edge) <= set(names), "program", "edge", expected="two node names", got=edge)
        a, b = edge
        require(b not in out[a], "program", "edge twice", expected="each edge once", got=edge)
        out[a].append(b)
        into[b].append(a)
        _check_edge(names[a], names[b])
    place = {node.name: number for number, node in enumerate(program.nodes)}
    for a, b in program.edges:
        late = isinstance(names[b], Target) and place[a] > place[b]
        require(
            not late, b, "order of nodes", expected=f"{a} before {b}, which uses it in the same timestep", got="after"
        )
    for node in program.nodes:
        _check_ends(node, [names[name] for name in into[node.name]], [names[name] for name in out[node.name]])
    require(bool(program.inputs), "program", "nodes", expected="an input", got="none")
    require(bool(program.readouts), "program", "nodes", expected="a read-out", got="none")


def _check_edge(a: Node, b: Node) -> None:
    where = f"edge {a.name} -> {b.name}"
    if isinstance(a, Source) and isinstance(b, Synapse):
        sizes = int(np.prod(a.shape)), int(np.prod(b.in_shape))
    elif isinstance(a, Synapse) and isinstance(b, Target):
        sizes = int(np.prod(a.out_shape)), int(np.prod(b.shape))
    elif isinstance(a, NeuronNode) and isinstance(b, ReadoutNode):
        sizes = int(np.prod(a.shape)), int(np.prod(b.shape))
    else:
        expected = "from input or neurons into a synapse, from there into neurons or a read-out"
        raise LavatubeError("an edge that may not be", where=where, expected=expected, got=f"{a.kind} into {b.kind}")
    require(sizes[0] == sizes[1], where, "sizes", expected=f"{sizes[1]} values", got=f"{sizes[0]}")


def _check_ends(node: Node, before: list[Node], after: list[Node]) -> None:
    def needs(ok: bool, expected: str) -> None:
        got = f"{[n.name for n in before]} before, {[n.name for n in after]} after"
        require(ok, node.name, "edges of this node", expected=expected, got=got)

    if isinstance(node, InputNode):
        needs(not before and bool(after), "nothing before, a synapse after")
    elif isinstance(node, Synapse):
        needs(len(before) == 1 and len(after) == 1, "one source and one target")
    elif isinstance(node, NeuronNode):
        needs(bool(before) and bool(after), "a synapse before, and what uses its events after")
    elif node.reads == "current":
        needs(bool(before) and all(isinstance(n, Synapse) for n in before) and not after, "synapses before")
    else:
        needs(len(before) == 1 and isinstance(before[0], NeuronNode) and not after, "one population before")


__all__ = [
    "Conv2dNode",
    "DenseNode",
    "InputNode",
    "LoihiProgram",
    "NeuronNode",
    "Node",
    "Overflow",
    "ReadoutNode",
    "Shape",
    "Source",
    "SparseNode",
    "Synapse",
    "Target",
    "as_stored",
    "floors_sums",
    "only",
]
