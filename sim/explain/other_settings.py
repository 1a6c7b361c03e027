"""Other values of dv, du or the threshold that would give what one neuron recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode
from lavatube.sim.explain.fan_in import neuron_activation
from lavatube.sim.explain.replay import neurons
from lavatube.sim.explain.rule import DEFINITION, Rule
from lavatube.sim.explain.side import Side

DECAYS = 4096  # values that dv and du may have
THRESHOLDS = 1024  # weight units up and down from the program's
AT_ONCE = 1 << 21  # neuron-steps
FIRST = 8  # of many, spread evenly over them
SAYS = {
    "dv": "leaks v by dv {} instead of {}",
    "du": "decays u by the du {} instead of {}",
    "threshold": "compares with the threshold {} instead of {}",
}


def other_settings(program: LoihiProgram, node: NeuronNode, neuron: tuple[int, ...], side: Side) -> list[Rule]:
    """Rules with one setting changed by more than one that reproduce the neuron in the samples of this side."""
    a = neuron_activation(program, node, neuron, side.recorded)
    bias = node.bias_mant[neuron].astype(np.int64)
    values = {"dv": np.arange(DECAYS) - node.dv, "du": np.arange(DECAYS) - node.du}
    values["threshold"] = np.arange(-min(THRESHOLDS, node.vth), THRESHOLDS + 1)
    found = []
    for name, changes in values.items():
        before = node.vth if name == "threshold" else getattr(node, name)
        right = [int(c) for c in _right(node, neuron, side, a, bias, name, changes[abs(changes) > 1])]
        spread = right[:: max(1, len(right) // FIRST)]
        for change in dict.fromkeys([*spread, *right]):
            says = SAYS[name].format(before + change, before)
            setting: dict[str, Any] = {name: change}
            found.append(Rule(f"another {name}", says, **setting))
    return found


def _right(
    node: NeuronNode, neuron: tuple[int, ...], side: Side, a: np.ndarray, bias: np.ndarray, name: str,
    changes: np.ndarray,
) -> Iterator[int]:  # fmt: skip
    many = max(1, AT_ONCE // max(a.size, 1))
    for part in (changes[k : k + many] for k in range(0, len(changes), many)):
        wide = np.broadcast_to(a[..., None], (*a.shape, len(part)))
        setting: dict[str, Any] = {name: part}
        got = neurons(node, wide, bias, replace(DEFINITION, **setting))
        yield from part[side.same_neuron(neuron, got)]
