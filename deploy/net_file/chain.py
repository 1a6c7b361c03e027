"""The program while it grows, block by block."""

from __future__ import annotations

from dataclasses import dataclass, field

from lavatube.deploy.net_file.integers import Lossy
from lavatube.program import InputNode, NeuronNode, Node, ReadoutNode, Shape, Synapse


@dataclass
class Chain:
    """The program so far. shape, source: of the last block's events; ended: why nothing may follow."""

    input_shape: Shape
    input_bits: int | None
    reset_interval: int
    nodes: list[Node] = field(default_factory=list)
    edges: list[tuple[str, str]] = field(default_factory=list)
    lossy: Lossy = field(default_factory=list)
    scales: dict[str, float] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    shape: Shape = ()
    source: str = ""
    flat: bool = True
    ended: str = ""

    def add_input(self, shape: Shape, bits: int) -> None:
        self.nodes.append(InputNode("input", shape, bits if self.input_bits is None else self.input_bits))
        self.shape, self.source, self.flat = shape, "input", len(shape) == 1 or shape[1:] == (1, 1)

    def add_synapse(self, synapse: Synapse, source: str, target: str) -> None:
        self.nodes.append(synapse)
        self.edges += [(source, synapse.name), (synapse.name, target)]

    def add_neurons(self, neurons: NeuronNode, *, flat: bool) -> None:
        self.nodes.append(neurons)
        self.shape, self.source, self.flat = neurons.shape, neurons.name, flat

    def add_readout(self, readout: ReadoutNode, why: str) -> None:
        self.nodes.append(readout)
        self.ended = why
