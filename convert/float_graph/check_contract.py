"""What a contract cannot compute is refused here, by name; what it leaves out of a file is listed as an assumption."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.errors import UnsupportedError

CLOSE = 1e-5  # what the importers of the platforms take as equal (NumPy's allclose)
LEAKY = (nir.LI, nir.LIF, nir.CubaLI, nir.CubaLIF)
CUBA = (nir.CubaLI, nir.CubaLIF)
INTEGRATE = (nir.I, nir.IF)
POOLS = (nir.SumPool2d, nir.AvgPool2d)
STATELESS = (nir.Affine, nir.Linear, nir.Scale, nir.Conv1d, nir.Conv2d, *POOLS, nir.Flatten)
Rule = Callable[[Any, ExecutionContract], bool]

# requirement: (the nodes that it is about, whether a node keeps it, what is asked for)
RULES: dict[str, tuple[tuple[type, ...], Rule, str]] = {
    "threshold>0": ((nir.IF, nir.LIF, nir.CubaLIF), lambda n, c: bool((n.v_threshold > 0).all()), "v_threshold > 0"),
    "uniform-threshold": (
        (nir.IF, nir.LIF, nir.CubaLIF), lambda n, c: np.unique(n.v_threshold).size == 1, "one v_threshold for all"
    ),
    "uniform-parameters": (
        (nir.IF, nir.LIF, nir.CubaLIF),
        lambda n, c: all(np.unique(v).size == 1 for v in vars(n).values() if isinstance(v, np.ndarray)),
        "the same parameters for all neurons",
    ),
    "v_leak=0": (LEAKY, lambda n, c: bool(np.allclose(n.v_leak, 0)), "v_leak = 0"),
    "cuba-v_leak=0": (CUBA, lambda n, c: bool(np.allclose(n.v_leak, 0)), "v_leak = 0"),
    "v_leak=v_reset": ((nir.LIF,), lambda n, c: bool(np.allclose(n.v_leak, n.v_reset)), "v_leak = v_reset"),
    "v_reset=0": ((nir.IF, nir.LIF, nir.CubaLIF), lambda n, c: not np.any(n.v_reset), "v_reset = 0"),
    "r=1": ((nir.LI, nir.LIF), lambda n, c: bool((n.r == 1).all()), "r = 1"),
    "li-r=1": ((nir.LI,), lambda n, c: bool((n.r == 1).all()), "r = 1"),
    "if-r=1": (INTEGRATE, lambda n, c: bool((n.r == 1).all()), "r = 1"),
    "if-r=1/dt": (INTEGRATE, lambda n, c: bool(np.allclose(n.r * c.dt, 1, rtol=CLOSE)), "r = 1/dt"),
    "lif-r=1-or-tau/dt": (
        (nir.LIF,),
        lambda n, c: bool((n.r == 1).all() or np.allclose(n.r * c.dt, n.tau, rtol=CLOSE, atol=0)),
        "r = 1 or r = tau/dt",
    ),
    "cuba-r=tau_mem/dt": (
        CUBA, lambda n, c: bool(np.allclose(n.r * c.dt, n.tau_mem, rtol=CLOSE, atol=0)), "r = tau_mem/dt"
    ),
    "cuba-w_in=tau_syn/dt": (
        CUBA, lambda n, c: bool(np.allclose(n.w_in * c.dt, n.tau_syn, rtol=CLOSE, atol=0)), "w_in = tau_syn/dt"
    ),
    "bias=0": ((nir.Affine, nir.Conv1d, nir.Conv2d), lambda n, c: not np.any(n.bias), "bias = 0"),
    "pool-padding=0": (POOLS, lambda n, c: not np.any(n.padding), "padding = 0"),
    "groups=1": ((nir.Conv1d, nir.Conv2d), lambda n, c: bool(np.all(np.asarray(n.groups) == 1)), "groups = 1"),
}  # fmt: skip


def check_contract(graph: FloatGraph, contract: ExecutionContract) -> None:
    """raises: UnsupportedError naming the node, the rule and the contract."""
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        if not isinstance(node, (nir.Input, nir.Output)) and kind not in contract.nodes:
            expected = ", ".join(contract.nodes)
            raise _refusal(graph, contract, name, f"contract {contract.name} has no {kind}", expected, kind)
        for rule in contract.requires:
            if rule in RULES and isinstance(node, RULES[rule][0]) and not RULES[rule][1](node, contract):
                what = f"contract {contract.name} cannot compute this {kind}"
                raise _refusal(graph, contract, name, what, RULES[rule][2], "another value")
    _check_recurrence(graph, contract)


def ignored(graph: FloatGraph, contract: ExecutionContract) -> list[dict[str, str]]:
    """Values of the file that the contract does not use, one record each: {"node", "what", "why"}."""
    records = []
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        integrates, cuba = isinstance(node, INTEGRATE), isinstance(node, CUBA)
        reset = contract.if_reset if integrates else contract.cuba_reset if cuba else contract.reset
        fields: Mapping[str, tuple[bool, str, float]] = {
            "r": (
                contract.if_input == "one" if integrates
                else contract.cuba_input == "one" if cuba else contract.resistance == "ignored",
                "takes r as 1", 1.0,
            ),
            "w_in": (contract.cuba_input == "one", "takes w_in as 1", 1.0),
            "v_reset": (reset != "v_reset", f"has the reset {reset}", 0.0),
        }  # fmt: skip
        for field, (unused, how, neutral) in fields.items():
            if unused and np.any(np.asarray(getattr(node, field, neutral)) != neutral):
                records.append({"node": name, "what": f"{kind} {field} is not used", "why": f"{contract.name} {how}"})
    for field in ("state_rounding", "weight_rounding"):
        if getattr(contract, field) == "integer-grid":
            why = "the grid is that of a program's integers, which a float graph does not have"
            records.append({"node": "", "what": f"{field} is not done", "why": why})
    return records


def silent_at_first(graph: FloatGraph) -> frozenset[str]:
    """Nodes without state that only see what recurrent edges carry: a recurrent synapse, before the first spike."""
    found: set[str] = set()
    for name, node in graph.nodes.items():
        sources = graph.before(name)
        if sources and isinstance(node, STATELESS):
            if all((source, name) in graph.feedback or source in found for source in sources):
                found.add(name)
    return frozenset(found)


def _check_recurrence(graph: FloatGraph, contract: ExecutionContract) -> None:
    if graph.feedback and "no-recurrence" in contract.requires:
        source, target = min(graph.feedback)
        what = f"contract {contract.name} has no recurrence"
        raise _refusal(graph, contract, source, what, "a graph without cycles", f"{source} -> {target}")
    late = silent_at_first(graph)
    for source, target in sorted(graph.feedback):
        after = [b for a, b in graph.edges if a == target]
        plain = target == source or (target in late and after == [source])
        if not plain and "plain-recurrence" in contract.requires:
            what = f"contract {contract.name} knows only neuron -> Linear or Affine -> the same neuron"
            raise _refusal(graph, contract, source, what, "such a cycle", f"{source} -> {target}")
        if "recurrent-bias=0" in contract.requires and np.any(getattr(graph.nodes[target], "bias", 0)):
            what = f"contract {contract.name} leaves out the bias of a recurrent synapse"
            raise _refusal(graph, contract, target, what, "bias = 0", "a bias")
        if contract.feedback_cut == "after-synapse" and not (target in late or _holds_state(graph, target)):
            what = f"contract {contract.name} delays the output of a recurrent synapse, which here has other inputs too"
            raise _refusal(graph, contract, target, what, "a synapse of its own for the recurrent edge", target)
    if contract.feedback_cut == "after-synapse":
        for a, b in graph.edges:
            if a in late and not _leads(graph, b, a):
                what = (
                    f"under contract {contract.name} a recurrent synapse drives its cycle late, and this node at once"
                )
                raise _refusal(graph, contract, b, what, "a synapse of its own for what is outside the cycle", a)


def _leads(graph: FloatGraph, start: str, goal: str) -> bool:
    """Whether a way along the edges leads from one node to another."""
    seen, ahead = {start}, [start]
    while ahead:
        here = ahead.pop()
        if here == goal:
            return True
        following = {b for a, b in graph.edges if a == here} - seen
        seen |= following
        ahead += following
    return False


def _holds_state(graph: FloatGraph, name: str) -> bool:
    return isinstance(graph.nodes[name], (*LEAKY, *INTEGRATE, nir.Threshold, nir.Delay))


def _refusal(
    graph: FloatGraph, contract: ExecutionContract, name: str, what: str, expected: str, got: str
) -> UnsupportedError:
    remedy = f"docs/contract.md says what {contract.name} computes"
    return UnsupportedError(what, where=f"{graph.path}:{name}", expected=expected, got=got, remedy=remedy)
