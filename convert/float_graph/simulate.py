"""The float simulator: a graph, stepped node by node under an execution contract, in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.check_contract import check_contract, ignored, silent_at_first
from lavatube.convert.float_graph.cost import Limits, check_cost
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.inputs import checked_inputs
from lavatube.convert.float_graph.linear_maps import linear_map
from lavatube.convert.float_graph.population import POPULATIONS, SPIKING, Crossing, DelayLine, Population
from lavatube.convert.float_graph.voltage_biases import voltage_biases
from lavatube.errors import LavatubeError
from lavatube.float_trace import FloatTrace
from lavatube.inputs import lengths_of
from lavatube.trace import versions, within_length

Progress = Callable[[int, int], None]


@np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")  # what becomes infinite is refused
def simulate(
    graph: FloatGraph,
    contract: ExecutionContract,
    inputs: Mapping[str, np.ndarray] | np.ndarray,
    *,
    length: np.ndarray | None = None,
    record: Iterable[str] = (),
    progress: Progress | None = None,
    limits: Limits | None = None,
) -> FloatTrace:
    """Run a float graph.

    inputs: {input node: [T, B, ...] real numbers}, or one array where the graph has one input.
    length: [B] steps that count for each sample; beyond it, spikes, outputs and v are zero.
    record: "v" for the membrane potentials.
    limits: of memory and work, checked before either is taken; by default those of `Limits`.
    raises: UnsupportedError for what the contract cannot compute, LavatubeError for inputs that do not fit, for too
            large a run, and where a number leaves the range of the contract's precision.
    """
    check_contract(graph, contract)
    kept = frozenset(record)
    if not kept <= {"v"}:
        raise LavatubeError("record", expected="v", got=", ".join(sorted(kept - {"v"})))
    given = checked_inputs(graph, inputs)
    limit = float(np.finfo(contract.precision).max)
    for name, value in given.items():
        if (largest := max(abs(float(value.min())), abs(float(value.max())))) > limit:
            expected = f"at most {limit:g}, as {contract.precision} holds"
            raise LavatubeError(f"input {name}", where=graph.path, expected=expected, got=f"{largest:g}")
    steps, batch = next(iter(given.values())).shape[:2]
    lengths = lengths_of(None if length is None else np.asarray(length), steps, batch, graph.path)
    check_cost(graph, contract, steps, batch, "v" in kept, limits or Limits())
    run = _Run(graph, contract, steps, batch, "v" in kept)
    for t in range(steps):
        run.step(t, {name: value[t] for name, value in given.items()})
        if progress is not None:
            progress(t + 1, steps)
    assumptions = [*(dict(record) for record in graph.assumptions), *ignored(graph, contract)]
    meta = {"engine": "float", "device": "cpu", "versions": versions(), "contract": contract.to_json(),
            "assumptions": assumptions, "path": graph.path, "sha256": graph.sha256}  # fmt: skip
    return FloatTrace(
        input=given, length=lengths, meta=meta,
        spikes={name: within_length(_small(value), lengths) for name, value in run.spikes.items()},
        output={name: within_length(value, lengths) for name, value in run.output.items()},
        v={name: within_length(value, lengths) for name, value in run.v.items()},
    )  # fmt: skip


@dataclass
class _Edge:
    source: str
    late: bool  # carries what the source put out in the timestep before


class _Run:
    """The nodes with their states, and what is recorded of them."""

    def __init__(self, graph: FloatGraph, contract: ExecutionContract, steps: int, batch: int, record_v: bool) -> None:
        self.graph, self.contract, self.batch = graph, contract, batch
        dtype = np.dtype(contract.precision).type
        self.edges = {
            name: [_Edge(source, (source, name) in graph.feedback) for source in graph.before(name)]
            for name in graph.nodes
        }
        self.silent = silent_at_first(graph) if contract.feedback_cut == "after-synapse" else frozenset()
        offsets, bare = voltage_biases(graph, contract)
        self.states: dict[str, Any] = {}
        self.maps: dict[str, Callable[[np.ndarray], np.ndarray]] = {}
        self.spikes: dict[str, np.ndarray] = {}
        self.output: dict[str, np.ndarray] = {}
        self.v: dict[str, np.ndarray] = {}
        self.last: dict[str, np.ndarray] = {}
        for name, node in graph.nodes.items():
            shape = tuple(graph.shapes[name])
            if isinstance(node, POPULATIONS):
                loops = any(source == name for source, _ in graph.feedback)
                self.states[name] = Population(name, node, contract, shape, batch, offsets.get(name), loops)
            elif isinstance(node, nir.Threshold):
                self.states[name] = Crossing(node, contract)
            elif isinstance(node, nir.Delay):
                self.states[name] = DelayLine(name, node, contract, shape, batch)
            elif not isinstance(node, (nir.Input, nir.Output)):
                self.maps[name] = linear_map(name, node, shape, dtype, with_bias=name not in bare)
            if isinstance(node, (*SPIKING, nir.Threshold)):
                self.spikes[name] = np.zeros((steps, batch, *shape), dtype)
            if isinstance(node, nir.Output):
                self.output[name] = np.zeros((steps, batch, *shape), dtype)
            if record_v and isinstance(node, POPULATIONS):
                self.v[name] = np.zeros((steps, batch, *shape), dtype)
            self.last[name] = np.zeros((batch, *shape), dtype)

    def step(self, t: int, given: Mapping[str, np.ndarray]) -> None:
        """One timestep of all nodes in order of execution."""
        now: dict[str, np.ndarray] = {}
        for name, node in self.graph.nodes.items():
            if isinstance(node, nir.Input):
                now[name] = given[name].astype(self.contract.precision)
                continue
            drive = self._drive(name, now)
            if t == 0 and name in self.silent:
                now[name] = self.last[name]
            elif name in self.maps:
                now[name] = self.maps[name](drive)
            elif name in self.states:
                now[name] = self.states[name].step(drive)
            else:
                now[name] = drive
            self._require_finite(t, name, now[name])
            if name in self.spikes:
                self.spikes[name][t] = now[name]
            if name in self.output:
                self.output[name][t] = now[name]
            if name in self.v:
                self.v[name][t] = self.states[name].v
        self.last = now

    def _require_finite(self, t: int, name: str, value: np.ndarray) -> None:
        state = self.states.get(name)
        held = (state.v, state.current) if isinstance(state, Population) else ()
        if not all(np.isfinite(each).all() for each in (value, *held)):
            raise LavatubeError(
                "a number left the range that there is", where=f"{self.graph.path}:{name}, timestep {t}",
                expected=f"finite {self.contract.precision}", remedy="scale the weights or the input down",
            )  # fmt: skip

    def _drive(self, name: str, now: Mapping[str, np.ndarray]) -> np.ndarray:
        """The sum of what arrives at a node."""
        total: np.ndarray | None = None
        for edge in self.edges[name]:
            value = now[edge.source] if not edge.late else self._late(edge.source)
            total = value if total is None else total + value
        if total is None:
            raise LavatubeError(
                "nothing drives this node", where=f"{self.graph.path}:{name}", expected="an edge into it"
            )
        return total

    def _late(self, source: str) -> np.ndarray:
        if self.contract.feedback_delay == 0 and isinstance(self.graph.nodes[source], SPIKING):
            return np.asarray(self.states[source].pending)  # leaves in this very timestep
        return self.last[source]


def _small(value: np.ndarray) -> np.ndarray:
    return value.astype(np.uint8 if value.max(initial=0) <= 255 else np.int32)
