"""Records of what rounding did to one population: nothing is recorded of what stayed as it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from lavatube import fixed_point as fp
from lavatube.convert.post_training.integers import Made
from lavatube.program import NeuronNode


def records(made: Made, stage: str) -> list[dict[str, Any]]:
    """Of weights, biases, the start and the decays; {"stage", "layer", "what", ...} each."""
    found: list[dict[str, Any]] = []
    for each in (each for each in made.weights if not each.pulse):
        wrong = np.abs(each.rounded - each.exact)
        if wrong.any():
            there = each.exact != 0
            relative = wrong[there] / np.abs(each.exact[there])
            found.append({
                "stage": stage, "layer": each.name, "what": f"weights rounded to {made.bits} bits",
                "relative_error_mean": float(relative.mean()), "relative_error_largest": float(relative.max()),
                "weights_to_zero": int(((each.integers == 0) & there).sum()), "weights": int(there.sum()),
                "weights_clamped": int((wrong > 0.500001 * 2**each.shift).sum()), "unit": made.unit,
            })  # fmt: skip
    found += _floor_records(made, stage)
    found += _bias_records(made, stage)
    if isinstance(made.node, NeuronNode):
        found += _decay_records(made, made.node, stage)
    return found


def _floor_records(made: Made, stage: str) -> list[dict[str, Any]]:
    """Sums of weights that are finer than the population's unit, in that unit."""
    found: list[dict[str, Any]] = []
    for each in (each for each in made.weights if each.floors):
        found.append({
            "stage": stage, "layer": each.name, "what": "sums rounded down to the unit of their population",
            "lost_at_most": 1 - 2.0**each.shift,
        })  # fmt: skip
        if isinstance(made.node, NeuronNode) and made.node.output != "none":
            found[-1]["threshold"] = made.node.vth
    if made.lost is not None:
        what = "sums rounded down lose on average" + (", which the bias gives back" if made.given_back else "")
        found.append({"stage": stage, "layer": made.node.name, "what": what, "lost": float(made.lost.mean()),
                      "lost_largest": float(made.lost.max())})  # fmt: skip
    return found


def _bias_records(made: Made, stage: str) -> list[dict[str, Any]]:
    wrong = np.abs(made.used_bias - made.exact_bias)
    pulses = [each for each in made.weights if each.pulse]
    name, found = made.driven.name, list[dict[str, Any]]()
    if wrong.any():
        step = 1 << made.node.bias_exp if isinstance(made.node, NeuronNode) else 1
        largest = float(np.abs(made.exact_bias).max())
        found.append({
            "stage": stage, "layer": name, "what": "biases rounded to their register",
            "relative_error_largest": float(wrong.max()) / largest, "biases_clamped": int((wrong > step).sum()),
        })  # fmt: skip
    for lag, last in made.last_pulses().items():
        left = np.abs(last.rounded - last.exact).max()
        if left > 0:
            same = [each for each in pulses if each.lag == lag]
            found.append({
                "stage": stage, "layer": name, "what": f"biases rounded to {len(same)} x {made.bits} bits",
                "relative_error_largest": float(left / np.abs(same[0].exact).max()),
            })  # fmt: skip
    if isinstance(made.node, NeuronNode) and abs(made.node.v_initial - made.exact_start) not in (0, 1):
        what = "the initial potential rounded"
        found.append({"stage": stage, "layer": name, "what": what, "asked": made.exact_start,
                      "used": made.node.v_initial})  # fmt: skip
    return found


def _decay_records(made: Made, node: NeuronNode, stage: str) -> list[dict[str, Any]]:
    population = made.driven.population
    assert population is not None
    used_u, used_v = 1 - (node.du + 1) / fp.DECAY_ONE, 1 - node.dv / fp.DECAY_ONE
    found = []
    for what, asked, used in (("u", population.keep_u, used_u), ("v", population.keep_v, used_v)):
        worst = float(asked.flat[int(np.argmax(np.abs(asked - used)))])
        if worst != used and not (what == "v" and population.memoryless):
            leak = max(1 - worst, 1 / fp.DECAY_ONE)
            found.append({
                "stage": stage, "layer": node.name, "what": f"decay of {what} rounded to its register",
                "asked": worst, "used": used, "relative_error_of_the_leak": abs(worst - used) / leak,
            })  # fmt: skip
    return found
