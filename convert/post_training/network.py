"""A float graph as a program is built: inputs, populations with synapses and biases, read-outs; still in floats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.check_contract import CUBA, check_contract
from lavatube.convert.float_graph.graph import FloatGraph, Shape
from lavatube.convert.float_graph.population import POPULATIONS, SPIKING
from lavatube.convert.float_graph.voltage_biases import voltage_biases
from lavatube.convert.post_training.operators import Operator, identity, operator_of
from lavatube.convert.post_training.paths import Constant, Way, Ways
from lavatube.convert.post_training.population import FloatPopulation, float_population, threshold_population
from lavatube.errors import UnsupportedError


@dataclass(frozen=True)
class FloatSynapse:
    """lag: timesteps from the events of its source to the drive of its target."""

    name: str
    source: str
    operator: Operator
    lag: int


@dataclass(frozen=True)
class Driven:
    """A population, or with None a read-out of sums, with its synapses and the constants that biases are."""

    name: str
    shape: Shape
    population: FloatPopulation | None
    synapses: tuple[FloatSynapse, ...]
    constants: tuple[Constant, ...]


@dataclass(frozen=True)
class FloatNetwork:
    """inputs: {name: shape}. driven: in order of execution, read-outs of sums last. reads: {read-out: population}.

    names: those that are taken, for `unique`.
    """

    inputs: Mapping[str, Shape]
    driven: tuple[Driven, ...]
    reads: Mapping[str, str]
    unread: tuple[str, ...]
    names: Mapping[str, int]


@np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore")  # what becomes infinite is refused
def float_network(graph: FloatGraph, contract: ExecutionContract) -> FloatNetwork:
    """raises: UnsupportedError naming the node and the remedy, for what no program computes."""
    check_contract(graph, contract)
    offsets, bare = voltage_biases(graph, contract)
    ways = Ways(graph, contract, bare)
    used = _names(graph)
    driven: list[Driven] = []
    sums: list[Driven] = []
    reads: dict[str, str] = {}
    for name, node in graph.nodes.items():
        shape, where = tuple(graph.shapes[name]), f"{graph.path}:{name}"
        if isinstance(node, nir.Output):
            found, constants = ways.into(name)
            if (source := _plain(graph, contract, found, constants)) is not None:
                reads[name] = source
                continue
            sums.append(_driven(graph, name, shape, None, found, constants, used))
        elif isinstance(node, (*POPULATIONS, nir.Threshold)):
            if len(shape) > 3:
                raise UnsupportedError(
                    "a population's shape", where=where, expected="1 to 3 axes", got=str(shape),
                    remedy="put a Flatten before it",
                )  # fmt: skip
            found, constants = ways.into(name)
            if isinstance(node, nir.Threshold):
                population = threshold_population(name, node, contract, shape, where)
            else:
                population = float_population(
                    name, node, contract, shape, offset=offsets.get(name), where=where,
                    recurrent=any(source == name for source, _ in graph.feedback),
                )  # fmt: skip
            if contract.current_order == "old" and isinstance(node, CUBA):
                found = [Way(way.source, way.lag + 1, way.path) for way in found]
                constants = [Constant(fixed.value, fixed.lag + 1) for fixed in constants]
            driven.append(_driven(graph, name, shape, population, found, constants, used))
    kept, unread = _needed(driven, sums, reads)
    seen = {synapse.source for each in (*kept, *sums) for synapse in each.synapses}
    if idle := [name for name in graph.inputs if name not in seen]:
        raise UnsupportedError(
            "an input that nothing read by an Output depends on", where=f"{graph.path}:{idle[0]}",
            remedy="leave it out of the file, or connect what it leads to to an Output",
        )  # fmt: skip
    return FloatNetwork(
        {name: tuple(graph.shapes[name]) for name in graph.inputs},
        (*kept, *sums),
        reads,
        tuple(unread),
        used,
    )


def _driven(
    graph: FloatGraph, name: str, shape: Shape, population: FloatPopulation | None, ways: list[Way],
    constants: list[Constant], used: dict[str, int],
) -> Driven:  # fmt: skip
    synapses = []
    gain = np.ones(shape) if population is None else population.gain
    where = f"{graph.path}:{name}"
    for way in ways:
        if not isinstance(graph.nodes[way.source], (nir.Input, nir.Threshold, *SPIKING)):
            kind = type(graph.nodes[way.source]).__name__
            raise UnsupportedError(
                "a voltage drives a node; what travels on Loihi is spikes", where=f"{graph.path}:{way.source}",
                expected="a spiking neuron, or an Output that reads it at once", got=f"{kind} into {name}",
                remedy="use IF, LIF or CubaLIF there, or fold it away",
            )  # fmt: skip
        before = tuple(graph.shapes[way.source])
        operator = operator_of(way.path, before, where) if way.path else identity(before)
        called = unique(way.name if way.path else f"{way.source}.to.{name}"[-90:].lstrip(".-"), used)
        synapses.append(FloatSynapse(called, way.source, operator.scaled(gain, shape), way.lag))
    fixed = [Constant(np.broadcast_to(each.value * gain, shape), each.lag) for each in constants]
    return Driven(name, shape, population, tuple(synapses), tuple(fixed))


def _names(graph: FloatGraph) -> dict[str, int]:
    """Names that are taken: those of nodes that become nodes of the program."""
    kinds = (nir.Input, nir.Output, nir.Threshold, *POPULATIONS)
    return {name: 1 for name, node in graph.nodes.items() if isinstance(node, kinds)}


def unique(name: str, used: dict[str, int]) -> str:
    """The name, or one like it, that nothing else has; from now on it is taken."""
    while name in used:
        used[name] += 1
        name = f"{name[:90]}.{used[name]}"
    used[name] = 1
    return name


def _plain(
    graph: FloatGraph, contract: ExecutionContract, ways: list[Way], constants: list[Constant]
) -> str | None:  # fmt: skip
    """The population that an Output reads as it is, if it does."""
    if len(ways) != 1 or constants or any(not isinstance(node, nir.Flatten) for _, node, _ in ways[0].path):
        return None
    source = graph.nodes[ways[0].source]
    at_once = ways[0].lag == (contract.output_lag if isinstance(source, SPIKING) else 0)
    return ways[0].source if isinstance(source, (nir.Threshold, *POPULATIONS)) and at_once else None


def _needed(driven: list[Driven], sums: list[Driven], reads: Mapping[str, str]) -> tuple[list[Driven], list[str]]:
    """The populations that lead to a read-out, and those that nothing reads, which a program cannot hold."""
    by_name = {each.name: each for each in (*driven, *sums)}
    wanted = [*reads.values(), *(each.name for each in sums)]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in by_name and name not in seen:
            seen.add(name)
            wanted += [synapse.source for synapse in by_name[name].synapses]
    return [each for each in driven if each.name in seen], [each.name for each in driven if each.name not in seen]
