"""What a simulation of a float graph takes, before it takes it: values held in memory, products computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.population import POPULATIONS, SPIKING
from lavatube.errors import LavatubeError

STATES = 16  # arrays of its own size that a population holds: states, coefficients, what a step makes of them


@dataclass(frozen=True)
class Limits:
    """Most that one call of `simulate` may take.

    values:   numbers held at once, recorded ones included; 4 GiB in float64.
    products: multiplications in all timesteps of all samples together.
    """

    values: int = 1 << 29
    products: int = 1 << 50


@dataclass(frozen=True)
class Cost:
    """values: numbers held at once; products: multiplications of one node in the whole run."""

    values: int
    products: int


def node_cost(
    graph: FloatGraph, name: str, contract: ExecutionContract, steps: int, batch: int, record_v: bool = False
) -> Cost:
    """Of one node over a run; an upper bound that a small file cannot make overflow."""
    node = graph.nodes[name]
    size, taken = math.prod(graph.shapes[name]), sum(math.prod(graph.shapes[source]) for source in graph.before(name))
    recorded = isinstance(node, (*SPIKING, nir.Threshold)) + isinstance(node, nir.Output)
    recorded += record_v and isinstance(node, POPULATIONS)
    values, products = batch * size * (2 + steps * recorded), size
    if isinstance(node, nir.Input):
        values += batch * size * steps
    elif isinstance(node, POPULATIONS):
        values, products = values + STATES * batch * size, STATES * size
    elif isinstance(node, nir.Delay):
        with np.errstate(over="ignore"):
            longest = float(np.max(node.delay) / contract.dt) if np.size(node.delay) else 0.0
        values += batch * size * (math.ceil(longest) + 4 if math.isfinite(longest) else 1 << 62)
    elif isinstance(node, (nir.Affine, nir.Linear)):
        values, products = values + node.weight.size, node.weight.size
    elif isinstance(node, (nir.Conv1d, nir.Conv2d)):
        window = node.weight[0, 0].size
        values += node.weight.size + batch * (taken + size // len(node.weight) * math.prod(node.weight.shape[1:])
                                              * node.groups) + batch * 4 * taken  # fmt: skip
        products = size * window * node.weight.shape[1]
    elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
        values += batch * 4 * taken
        products = size * math.prod(int(n) for n in np.broadcast_to(node.kernel_size, 2))
    return Cost(values, products * steps * batch)


def check_cost(
    graph: FloatGraph, contract: ExecutionContract, steps: int, batch: int, record_v: bool, limits: Limits
) -> None:
    """raises: LavatubeError naming the node that takes most, before any memory is taken."""
    costs = {name: node_cost(graph, name, contract, steps, batch, record_v) for name in graph.nodes}
    for what, most in (("values", limits.values), ("products", limits.products)):
        each = {name: getattr(cost, what) for name, cost in costs.items()}
        if sum(each.values()) > most:
            worst = max(each, key=lambda name: each[name])
            kind = type(graph.nodes[worst]).__name__
            raise LavatubeError(
                f"this simulation takes too {'much memory' if what == 'values' else 'many products'}",
                where=f"{graph.path}:{worst} ({kind})", expected=f"at most {most:,} {what}",
                got=f"{sum(each.values()):,}, {each[worst]:,} of them here",
                remedy="fewer timesteps or samples at a time"
                + (", or a larger dt" if kind == "Delay" else "") + "; in Python, other limits",
            )  # fmt: skip
