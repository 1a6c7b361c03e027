"""What changed between two programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from lavatube.program import LoihiProgram, Node
from lavatube.sim.differences.difference import Difference, changed

PARTS = {"weight": "weights", "bias_mant": "biases", "bias": "biases", "vth": "thresholds", "vth_low": "thresholds"}


def differences_of_programs(a: LoihiProgram, b: LoihiProgram) -> Iterator[Difference]:
    """Nodes and edges that came or went; of common nodes every setting, and how many weights and biases changed."""
    yield from changed("program", "program", _whole(a), _whole(b))
    for name in dict.fromkeys([*a.by_name, *b.by_name]):
        mine, other = a.by_name.get(name), b.by_name.get(name)
        if mine is None or other is None or mine.kind != other.kind:
            yield Difference("nodes", name, "node", _kind(mine), _kind(other))
        else:
            yield from _of_nodes(mine, other)
    for edge in sorted(set(a.edges) ^ set(b.edges)):
        there = edge in a.edges
        yield Difference("edges", " -> ".join(edge), "edge", there, not there)


def _whole(program: LoihiProgram) -> dict[str, Any]:
    names = ("num_steps", "target", "overflow", "contract")
    return {name: getattr(program, name) for name in names} | {"lossy steps": len(program.lossy)}


def _kind(node: Node | None) -> str | None:
    return None if node is None else node.kind


def _of_nodes(a: Node, b: Node) -> Iterator[Difference]:
    for field in fields(a):
        mine, other = getattr(a, field.name), getattr(b, field.name)
        part = PARTS.get(field.name, "settings")
        if not isinstance(mine, np.ndarray):
            yield from changed(part, a.name, {field.name: mine}, {field.name: other})
        elif mine.shape != other.shape:
            yield Difference(part, a.name, f"{field.name} shape", str(mine.shape), str(other.shape))
        elif (different := mine != other).any():
            number, change = int(different.sum()), int(np.abs(mine.astype(np.int64) - other).max())
            what = f"{number:,} of {mine.size:,} {field.name} values differ, by up to {change:,}; sums"
            yield Difference(part, a.name, what, int(mine.sum(dtype=np.int64)), int(other.sum(dtype=np.int64)))
