"""What drives a population: every way back through linear nodes to a source, and the constants that biases make."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.check_contract import silent_at_first
from lavatube.convert.float_graph.graph import FloatGraph, Shape
from lavatube.convert.float_graph.linear_maps import bias_of, linear_map
from lavatube.convert.float_graph.population import SPIKING, DelayLine
from lavatube.errors import UnsupportedError

LINEAR = (nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, nir.SumPool2d, nir.AvgPool2d, nir.Flatten)
WITH_BIAS = (nir.Affine, nir.Conv1d, nir.Conv2d)
WAYS_MAX = 64


@dataclass(frozen=True)
class Way:
    """From a source's events, `lag` timesteps late, through linear nodes (name, node, shape put out)."""

    source: str
    lag: int
    path: tuple[tuple[str, nir.NIRNode, Shape], ...]

    @property
    def name(self) -> str:
        """The last node on it with weights, else the last one, else the source."""
        weighty = [name for name, node, _ in self.path if isinstance(node, (*WITH_BIAS, nir.Linear))]
        return (weighty or [name for name, _, _ in self.path] or [self.source])[-1]


@dataclass(frozen=True)
class Constant:
    """What biases add to the drive at every timestep from `lag` on. value: float64 of the target's shape."""

    value: np.ndarray
    lag: int


class Ways:
    """Of one graph under one contract. bare: synapses whose bias acts elsewhere (see `simulate`)."""

    def __init__(self, graph: FloatGraph, contract: ExecutionContract, bare: set[str]) -> None:
        self.graph, self.contract, self.bare = graph, contract, bare

    @cached_property
    def _silent(self) -> frozenset[str]:
        return silent_at_first(self.graph) if self.contract.feedback_cut == "after-synapse" else frozenset()

    def into(self, name: str) -> tuple[list[Way], list[Constant]]:
        """raises: UnsupportedError for more than WAYS_MAX ways, or a delay that is not the same for all."""
        ways: list[Way] = []
        constants: list[Constant] = []
        for source in self.graph.before(name):
            late = (source, name) in self.graph.feedback
            found, fixed = self._from(source, late)
            ways, constants = ways + found, constants + fixed
        if len(ways) > WAYS_MAX:
            where = f"{self.graph.path}:{name}"
            raise UnsupportedError("ways into this node", where=where, expected=f"{WAYS_MAX}", got=str(len(ways)))
        return ways, constants

    def _from(self, name: str, late: bool) -> tuple[list[Way], list[Constant]]:
        """What a node puts out."""
        node, shape = self.graph.nodes[name], tuple(self.graph.shapes[name])
        if isinstance(node, nir.Delay):
            return self._delayed(name, node, shape)
        if not isinstance(node, LINEAR):
            lag = self.contract.output_lag if isinstance(node, SPIKING) else 0
            return [Way(name, lag + (self.contract.feedback_delay if late else 0), ())], []
        ways, constants = self.into(name)
        ways = [Way(way.source, way.lag, (*way.path, (name, node, shape))) for way in ways]
        run = linear_map(name, node, shape, np.float64, with_bias=False)
        constants = [Constant(run(fixed.value[None])[0], fixed.lag) for fixed in constants]
        if isinstance(node, WITH_BIAS) and name not in self.bare and np.any(node.bias):
            value = np.broadcast_to(bias_of(node, len(shape)), shape)
            constants.append(Constant(value, 1 if name in self._silent else 0))
        return ways, constants

    def _delayed(self, name: str, node: nir.NIRNode, shape: Shape) -> tuple[list[Way], list[Constant]]:
        steps = np.unique(DelayLine(name, node, self.contract, shape, 1).where)
        if steps.size != 1:
            raise UnsupportedError(
                "delays that differ within a node", where=f"{self.graph.path}:{name}", expected="one delay",
                got=f"{steps.min()}..{steps.max()} timesteps", remedy="split it into one Delay for each",
            )  # fmt: skip
        ways, constants = self.into(name)
        more = int(steps[0])
        return [Way(w.source, w.lag + more, w.path) for w in ways], [Constant(c.value, c.lag + more) for c in constants]
