"""What a program's counts are sums of: for every source and lag, weighted sums of its events. Memory order, `order.py`.

An event of timestep t - lag that reaches a synapse at t counts if t is within the sample's length: so each lag of a
source has sums of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lavatube.program import Conv2dNode, DenseNode, LoihiProgram, NeuronNode, Source, Synapse
from lavatube.sim.connectivity import fan_out
from lavatube.sim.counts.host import weight_bits
from lavatube.sim.fast_kernels.order import c_order_of

Key = tuple[str, int]  # source, lag
Sum = tuple[int, int]  # column, factor
BYTE = 255


@dataclass
class Columns:
    """Weights of the sums over a source's neurons; column 0 is all ones. source: whose events; lag: timesteps late."""

    source: Source
    lag: int
    weights: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights.append(np.ones(int(np.prod(self.source.shape)), np.int32))

    def add(self, weight: np.ndarray) -> Sum:
        """weight: [in_shape] int64; returns the column whose sum, times a factor, is that of these weights."""
        flat = weight.reshape(-1)
        if flat.min() == flat.max():
            return 0, int(flat[0])
        self.weights.append(flat[c_order_of(self.source.shape)].astype(np.int32))
        return len(self.weights) - 1, 1

    @cached_property
    def matrix(self) -> np.ndarray:
        """[columns, neurons] int32."""
        return np.stack(self.weights)

    @cached_property
    def together(self) -> int:
        """Products of a byte and a weight that certainly add up to less than 2^31."""
        return ((1 << 31) - 1) // (BYTE * max(1, int(self.matrix.max())))

    @cached_property
    def most_bits(self) -> int:
        """Bits of the largest event."""
        return max(-self.source.event_range[0], self.source.event_range[1]).bit_length()

    @property
    def kinds(self) -> int:
        """1: sums of events; 2: of events, then of bits."""
        return 1 + (self.most_bits > 1)


@dataclass(frozen=True)
class SynapseSums:
    """Where a synapse's terms stand. connections: stored, in all."""

    key: Key
    stored: Sum
    nonzero: Sum
    connections: int


@dataclass(frozen=True)
class CountPlan:
    """groups: {(source, lag): columns}, for every source those of lag 0, too; synapses: {name: their sums}."""

    program: LoihiProgram
    groups: Mapping[Key, Columns]
    synapses: Mapping[str, SynapseSums]

    @cached_property
    def events(self) -> Mapping[Key, int]:
        """Where the sums of each group's events begin among those of a sample."""
        starts = np.cumsum([0, *(len(columns.weights) * columns.kinds for columns in self.groups.values())])
        return dict(zip(self.groups, starts.tolist(), strict=False))

    @cached_property
    def bits(self) -> Mapping[Key, int]:
        """The same of their bits: behind the events where these are graded, else they are the events."""
        return {key: self.events[key] + len(of.weights) * (of.kinds - 1) for key, of in self.groups.items()}

    @cached_property
    def hits(self) -> Mapping[Key, int]:
        """Where the number of timesteps with any event of each group stands: behind all of the above."""
        first = sum(len(columns.weights) * columns.kinds for columns in self.groups.values())
        return {key: first + place for place, key in enumerate(self.groups)}

    @cached_property
    def updates(self) -> Mapping[str, int]:
        """Where the updates of each population stand, as far as they do not follow from other sums."""
        first = max(self.hits.values()) + 1
        return {node.name: first + place for place, node in enumerate(self.program.neurons)}

    @property
    def width(self) -> int:
        """Sums of a sample that are made on the way."""
        return max(self.hits.values()) + 1 + len(self.updates)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        return self.program.sources

    @cached_property
    def weight_bits(self) -> Mapping[str, int]:
        return weight_bits(self.program)


def only_inbound(program: LoihiProgram, node: NeuronNode) -> DenseNode | Conv2dNode | None:
    """The only synapse into a population, where it reaches all neurons of a place alike."""
    inbound = program.inbound(node)
    return inbound[0] if len(inbound) == 1 and isinstance(inbound[0], (DenseNode, Conv2dNode)) else None


def count_plan(program: LoihiProgram) -> CountPlan:
    groups = {(source.name, 0): Columns(source, 0) for source in program.sources}
    synapses = {synapse.name: _sums_of(program, synapse, groups) for synapse in program.synapses}
    return CountPlan(program, groups, synapses)


def _sums_of(program: LoihiProgram, synapse: Synapse, groups: dict[Key, Columns]) -> SynapseSums:
    source, lag = program.source_of(synapse), program.lag(synapse)
    columns = groups.setdefault((source.name, lag), Columns(source, lag))
    stored, nonzero = fan_out(synapse)
    return SynapseSums((source.name, lag), columns.add(stored), columns.add(nonzero), int(stored.sum()))
