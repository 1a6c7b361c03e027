"""FloatGraph: a NIR graph from anywhere, flat, checked and in order; what the float simulator and quantization take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nir

Shape = tuple[int, ...]
Edge = tuple[str, str]


@dataclass(frozen=True)
class FloatGraph:
    """Nodes of NIR 1.0.8 without nested graphs, in an order of execution that depends on the wiring alone.

    nodes:       {name: node} in order of execution; arrays are float64 (some are read-only views of one value), every
                 neuron parameter has the population's shape, missing fields are filled in, input_type and output_type
                 are right. Inputs and outputs are nodes too (nir.Input, nir.Output). Strides, paddings and dilations
                 of a Conv2d are pairs, of a Conv1d integers; "same" is left only where the padding is uneven.
    edges:       (from, to); several into one node add up.
    feedback:    the edges whose source comes at or after their target in the order: what they carry is of an earlier
                 timestep. Each cycle has one, and it leaves a neuron.
    shapes:      {name: shape of what the node puts out}, without time and batch.
    assumptions: one record for each thing that the file does not say and that was filled in: {"node", "what", "why"}.
    path:        of the file, for errors; sha256: its digest ("" for a graph that was given).
    metadata:    of the outermost graph.
    """

    nodes: Mapping[str, nir.NIRNode]
    edges: tuple[Edge, ...]
    feedback: frozenset[Edge]
    shapes: Mapping[str, Shape]
    assumptions: tuple[Mapping[str, Any], ...]
    path: str
    sha256: str
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(name for name, node in self.nodes.items() if isinstance(node, nir.Input))

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(name for name, node in self.nodes.items() if isinstance(node, nir.Output))

    def before(self, name: str) -> tuple[str, ...]:
        """The nodes whose sum drives a node, in order of execution."""
        sources = {a for a, b in self.edges if b == name}
        return tuple(other for other in self.nodes if other in sources)
