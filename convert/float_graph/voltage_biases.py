"""Biases under a contract that lets them act on v itself, past a CubaLIF's current."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.check_contract import CUBA, STATELESS
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.linear_maps import bias_of, linear_map
from lavatube.convert.float_graph.population import Population
from lavatube.errors import UnsupportedError

WITH_BIAS = (nir.Affine, nir.Conv1d, nir.Conv2d)


def voltage_biases(graph: FloatGraph, contract: ExecutionContract) -> tuple[dict[str, np.ndarray], set[str]]:
    """({population: (shape) what is added to v at every step}, the synapses that are without their bias).

    A bias is looked at where it arrives: nodes without state between it and a CubaLI or CubaLIF change its value only.
    raises: UnsupportedError for a bias that arrives at other nodes too.
    """
    if contract.bias != "voltage":
        return {}, set()
    ends = _ends(graph)
    arriving: dict[str, np.ndarray] = {}  # of each node without state: what biases make it put out
    bare: set[str] = set()
    for name, node in graph.nodes.items():
        if not isinstance(node, STATELESS):
            continue
        shape = tuple(graph.shapes[name])
        if (value := _sum(graph, name, arriving)) is not None:
            arriving[name] = linear_map(name, node, shape, np.float64, with_bias=False)(value[None])[0]
        if not isinstance(node, WITH_BIAS) or not np.any(node.bias):
            continue
        others = {end for end in ends[name] if not isinstance(graph.nodes[end], CUBA)}
        if len(others) == len(ends[name]):
            continue
        if others:
            what = f"under contract {contract.name} a bias acts on v, but this node drives more than CubaLIF"
            raise UnsupportedError(
                what, where=f"{graph.path}:{name}", expected="one kind of target", got=", ".join(sorted(ends[name]))
            )
        bare.add(name)
        arriving[name] = arriving.get(name, 0) + np.broadcast_to(bias_of(node, len(shape)), shape)
    offsets = {}
    for name, node in graph.nodes.items():
        if isinstance(node, CUBA) and (value := _sum(graph, name, arriving)) is not None:
            offsets[name] = _settled(node, contract, f"{graph.path}:{name}") * value
    return offsets, bare


def _ends(graph: FloatGraph) -> dict[str, set[str]]:
    """{node without state: the nodes with state, and Outputs, that it leads to through others without}"""
    found: dict[str, set[str]] = {}
    for name in reversed(list(graph.nodes)):
        if isinstance(graph.nodes[name], STATELESS):
            after = [b for a, b in graph.edges if a == name]
            found[name] = {end for b in after for end in (found[b] if isinstance(graph.nodes[b], STATELESS) else {b})}
    return found


def _sum(graph: FloatGraph, name: str, arriving: dict[str, np.ndarray]) -> np.ndarray | None:
    values = [arriving[source] for source in graph.before(name) if source in arriving] if arriving else []
    return np.asarray(sum(values)) if values else None


def _settled(node: Any, contract: ExecutionContract, where: str) -> np.ndarray:
    """What one unit of constant input adds to v per step once the current has settled.

    raises: UnsupportedError if it never does.
    """
    part = Population("", node, contract, np.shape(node.r), 1).parts
    assert part.current is not None
    keep, gain = np.asarray(part.current.keep, np.float64), np.asarray(part.current.gain, np.float64)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        settled = np.asarray(part.membrane.gain * gain / (1 - keep))
    if not np.isfinite(settled).all():
        raise UnsupportedError(
            f"tau_syn is so long that a bias, which under contract {contract.name} acts on v as the settled current "
            "would, has no value", where=where, expected=f"below {contract.dt * 2**53:g}",
            got=f"{np.max(node.tau_syn):g}", remedy="shorten it, or take a contract with bias=input",
        )  # fmt: skip
    return settled
