"""Neurons of NIR: every parameter an array of the population's shape, in its range, or the reason why not."""

from __future__ import annotations

from typing import Any

import nir
import numpy as np

from lavatube.convert.float_graph.fields import Fields

NEURONS: dict[str, tuple[type[nir.NIRNode], tuple[str, ...]]] = {
    "I": (nir.I, ("r",)),
    "LI": (nir.LI, ("tau", "r", "v_leak")),
    "IF": (nir.IF, ("r", "v_threshold", "v_reset")),
    "LIF": (nir.LIF, ("tau", "r", "v_leak", "v_threshold", "v_reset")),
    "CubaLI": (nir.CubaLI, ("tau_syn", "tau_mem", "r", "v_leak", "w_in")),
    "CubaLIF": (nir.CubaLIF, ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in")),
}
OTHER: dict[str, tuple[type[nir.NIRNode], tuple[str, ...]]] = {
    "Scale": (nir.Scale, ("scale",)),
    "Threshold": (nir.Threshold, ("threshold",)),
    "Delay": (nir.Delay, ("delay",)),
}
ELEMENTWISE = {**NEURONS, **OTHER}
NEURON_TYPES = tuple(cls for cls, _ in NEURONS.values())
ELEMENTWISE_TYPES = tuple(cls for cls, _ in ELEMENTWISE.values())
PARAMETERS = {cls: names for cls, names in ELEMENTWISE.values()}
MISSING = {"v_reset": 0.0, "w_in": 1.0}  # what files of nir before 1.0 do not have, and how nir reads them
REMEDIES = {
    "tau": "write time constants in seconds; a neuron without leak is an IF",
    "r": "move the sign into the weights before the neuron",
    "delay": "an output before its input cannot be",
}


def elementwise(fields: Fields) -> nir.NIRNode:
    """A node that works element by element. raises: LavatubeError naming the field and the rule."""
    cls, names = ELEMENTWISE[fields.kind]
    values: dict[str, np.ndarray] = {}
    for name in names:
        if name in MISSING and not fields.has(name):
            values[name] = np.array(MISSING[name])
            fields.assume(
                f"{name} = {MISSING[name]:g}", "the file has no such field (written by an old version of NIR)"
            )
        else:
            values[name] = fields.floats(name)
    fields.done()
    spread = _same_shape(fields, values)
    _in_range(fields, spread)
    return cls(**spread)


def _same_shape(fields: Fields, values: dict[str, np.ndarray]) -> dict[str, Any]:
    shapes = {name: value.shape for name, value in values.items()}
    full = sorted({shape for name, shape in shapes.items() if values[name].size > 1})
    if len(full) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise fields.refuse("", "parameters of different shapes", expected="one shape for all", got=got)
    shape = full[0] if full else max((s for name, s in shapes.items() if name not in MISSING), key=len)
    narrow = [name for name, value in values.items() if value.shape != shape and name not in MISSING]
    if narrow and full:
        fields.assume(f"{', '.join(narrow)}: one value for all of {shape}", "the other parameters have this shape")
    return {
        name: np.broadcast_to(value.reshape(()) if value.size == 1 else value, shape) for name, value in values.items()
    }


def _in_range(fields: Fields, values: dict[str, np.ndarray]) -> None:
    for name, value in values.items():
        group = name.split("_")[0]
        positive = group in ("tau", "r")
        if (positive and (value <= 0).any()) or (group == "delay" and (value < 0).any()):
            expected = "positive" if positive else "0 or more"
            raise fields.refuse(name, "value", expected=expected, got=f"{value.min():g}", remedy=REMEDIES[group])
    if "v_threshold" in values and (values["v_reset"] > values["v_threshold"]).any():
        index = int(np.argmax(values["v_reset"] > values["v_threshold"]))
        got = f"v_reset {values['v_reset'].flat[index]:g} above v_threshold {values['v_threshold'].flat[index]:g}"
        remedy = "a neuron that is reset above its threshold fires without end: write another v_reset"
        raise fields.refuse("v_threshold", "value", expected="at least v_reset", got=got, remedy=remedy)
