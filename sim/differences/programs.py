"""What changed between two programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from lavatube.program import LoihiProgram, Node
from lavatube.sim.differences.difference import Difference, changed, differences_of_arrays
from lavatube.sim.differences.flat import differences_of_json

PARTS = {"weight": "weights", "bias_mant": "biases", "bias": "biases", "vth": "thresholds", "vth_low": "thresholds"}


def differences_of_programs(a: LoihiProgram, b: LoihiProgram) -> Iterator[Difference]:
    """Nodes and edges that came or went; of common nodes every setting, and how many weights and biases changed."""
    yield from differences_of_json("program", *({"program": _whole(program)} for program in (a, b)))
    for name in dict.fromkeys([*a.by_name, *b.by_name]):
        mine, other = a.by_name.get(name), b.by_name.get(name)
        if mine is None or other is None or mine.kind != other.kind:
            yield Difference("nodes", name, "node", _kind(mine), _kind(other))
        else:
            yield from _of_nodes(mine, other)
    for edge in sorted(set(a.edges) ^ set(b.edges)):
        there = edge in a.edges
        yield Difference("edges", " -> ".join(edge), "edge", there, not there)
    orders = [[node.name for node in program.nodes] for program in (a, b)]
    if orders[0] != orders[1] and set(orders[0]) == set(orders[1]):
        yield Difference("nodes", "program", "order of execution", *map(str, orders))


def _whole(program: LoihiProgram) -> dict[str, Any]:
    names = ("num_steps", "target", "overflow", "source", "scales")
    lossy = {f"lossy step {number}": dict(record) for number, record in enumerate(program.lossy)}
    return {name: getattr(program, name) for name in names} | {"contract": program.contract.to_json()} | lossy


def _kind(node: Node | None) -> str | None:
    return None if node is None else node.kind


def _of_nodes(a: Node, b: Node) -> Iterator[Difference]:
    for field in fields(a):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        part = PARTS.get(field.name, "settings")
        if not isinstance(mine, np.ndarray):
            yield from changed(part, a.name, {field.name: mine}, {field.name: other})
        else:
            yield from differences_of_arrays(part, a.name, field.name, mine, other)
