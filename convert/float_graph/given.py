"""What a user gives beside a float file: the contract to step it by, and inputs in X.npz."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import PRESETS, parse_contract
from lavatube.convert.float_graph.contract_metadata import stated_contract
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.errors import LavatubeError
from lavatube.inputs import EVENTS_MAX, lengths_of
from lavatube.trace import read_npz


def choose_contract(
    graph: FloatGraph, asked: ExecutionContract | str | None
) -> tuple[ExecutionContract, list[dict[str, Any]]]:
    """The contract asked for, else the one that the file states; and a record where the two differ.

    raises: LavatubeError that lists the presets if neither says one.
    """
    stated = stated_contract(graph.metadata, where=graph.path)
    if asked is None:
        if stated is None:
            raise LavatubeError(
                "this file does not say how it is to be stepped in time", where=graph.path,
                expected=f"--contract with one of {', '.join(PRESETS)}", got="none",
                remedy="name the platform that it was made for",
            )  # fmt: skip
        return stated, []
    contract = parse_contract(asked) if isinstance(asked, str) else asked
    if stated is None or stated == contract:
        return contract, []
    why = f"the file states {stated.name}, {contract.name} was asked for"
    return contract, [{"node": "", "what": "another contract than the file's", "why": why}]


FloatInputs = Mapping[str, np.ndarray] | np.ndarray | Path | str


def float_inputs(
    graph: FloatGraph, inputs: FloatInputs, steps: int | None, *, default: int | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """({input node: [T, B, ...]}, length [B] or None). inputs: X.npz or arrays; steps: see `_shaped`;
    default: of a static input where `steps` is None.

    raises: LavatubeError for a file without the graph's inputs or with a key that would not be used, for an input that
            is too short or of another rank, and for a length beyond the timesteps that the input has.
    """
    arrays, length = _read(graph, inputs)
    given = {name: _shaped(graph, name, value, steps, default) for name, value in arrays.items()}
    if length is None or not given:
        return given, None
    name, value = next(iter(arrays.items()))
    timed = value.ndim == len(graph.shapes[name]) + 2
    total, batch = len(value) if timed else len(given[name]), given[name].shape[1]
    lengths = lengths_of(length, total, batch, graph.path if isinstance(inputs, Mapping) else str(inputs)[:80])
    return given, np.minimum(lengths, len(given[name]))


def _read(graph: FloatGraph, inputs: FloatInputs) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """(arrays by input node, length or None)."""
    if isinstance(inputs, Mapping):
        return {name: np.asarray(value) for name, value in inputs.items()}, None
    arrays = {"input": inputs} if isinstance(inputs, np.ndarray) else read_npz(Path(inputs), kind="X.npz")
    where = "input" if isinstance(inputs, np.ndarray) else str(inputs)
    names = ["input"] if "input" in arrays else [f"input/{name}" for name in graph.inputs]
    foreign = [key for key in arrays if key not in (*names, "length", "label")]
    if foreign and any(key.split("/", 1)[0] == "input" for key in arrays):
        got = ", ".join(foreign)
        raise LavatubeError("unknown keys", where=where, expected=", ".join((*names, "length", "label")), got=got)
    length = arrays.get("length")
    if length is not None and (length.ndim != 1 or length.dtype.kind not in "iu"):
        raise LavatubeError("length", where=where, expected="[B] integers", got=f"{length.dtype} {length.shape}")
    if "input" in arrays:
        if len(graph.inputs) != 1:
            expected = ", ".join(f"input/{name}" for name in graph.inputs)
            raise LavatubeError("this graph has several inputs", where=where, expected=expected, got="input")
        return {graph.inputs[0]: arrays["input"]}, length
    named = {name[6:]: value for name, value in arrays.items() if name.startswith("input/")}
    if not named:
        got = ", ".join(arrays)
        raise LavatubeError("no input in this file", where=where, expected="`input`, or `input/<node>`", got=got)
    return named, length


def _shaped(graph: FloatGraph, name: str, value: np.ndarray, steps: int | None, default: int | None) -> np.ndarray:
    """[T, B, ...]: a static input at every timestep, a long one cut.

    raises: LavatubeError if it is too short, not of the graph, or of another rank.
    """
    if steps is not None and steps < 1:
        raise LavatubeError("steps", expected="at least 1", got=str(steps))
    if name not in graph.inputs:
        raise LavatubeError("inputs", where=graph.path, expected=", ".join(graph.inputs), got=name)
    rank = len(graph.shapes[name])
    if value.ndim not in (rank + 1, rank + 2):
        sizes = ", ".join(map(str, graph.shapes[name]))
        expected = f"numbers [T, B, {sizes}] or [B, {sizes}]"
        raise LavatubeError(f"input {name}", where=graph.path, expected=expected, got=f"{value.dtype} {value.shape}")
    if value.ndim == rank + 1:
        if (steps := steps or default) is None:
            raise LavatubeError(
                f"input {name} is static", expected="--steps, how long it is presented", got=str(value.shape)
            )
        value = np.broadcast_to(value, (steps, *value.shape))
    elif steps is not None and value.ndim == rank + 2 and steps > len(value):
        raise LavatubeError("more steps asked than the input has", expected=f"at most {len(value)}", got=str(steps))
    if value.size > EVENTS_MAX:
        raise LavatubeError("input is too large", expected=f"at most {EVENTS_MAX} values", got=str(value.size))
    return value[:steps]
