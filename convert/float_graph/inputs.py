"""What a float graph is driven with: real numbers [T, B, ...] for every input, checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.errors import LavatubeError


def checked_inputs(graph: FloatGraph, inputs: Mapping[str, np.ndarray] | np.ndarray) -> dict[str, np.ndarray]:
    """{input node: [T, B, ...]} with the numbers as given.

    raises: LavatubeError for a missing or unknown input, a wrong shape, NaN, or a T and B that differ.
    """
    names = graph.inputs
    if isinstance(inputs, np.ndarray):
        if len(names) != 1:
            expected = f"arrays by name: {', '.join(names)}"
            raise LavatubeError("this graph has several inputs", where=graph.path, expected=expected, got="one array")
        inputs = {names[0]: inputs}
    if set(inputs) != set(names):
        got = ", ".join(sorted(inputs)) or "none"
        raise LavatubeError("inputs", where=graph.path, expected=", ".join(names), got=got)
    checked: dict[str, np.ndarray] = {}
    for name in names:
        value, shape = np.asarray(inputs[name]), tuple(graph.shapes[name])
        sizes = ", ".join(map(str, shape))
        if value.dtype.kind not in "iufb" or value.ndim < 2 or value.shape[2:] != shape or 0 in value.shape:
            got = f"{value.dtype} {value.shape}"
            raise LavatubeError(f"input {name}", where=graph.path, expected=f"numbers [T, B, {sizes}]", got=got)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise LavatubeError(f"input {name} holds NaN or infinity", where=graph.path, expected="finite numbers")
        checked[name] = value
    if len({value.shape[:2] for value in checked.values()}) > 1:
        got = ", ".join(f"{name} {value.shape[:2]}" for name, value in checked.items())
        raise LavatubeError("inputs differ in T or B", where=graph.path, got=got)
    return checked
