"""Run a float NIR file under an execution contract, and write what every neuron did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import PRESETS, parse_contract
from lavatube.convert.float_graph.contract_metadata import stated_contract
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.raw import RawGraph, raw_from_file
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.errors import LavatubeError
from lavatube.files import require_writable_file
from lavatube.float_trace import FloatTrace, save_float_trace
from lavatube.inputs import EVENTS_MAX
from lavatube.trace import read_npz


def run_float(
    source: FloatGraph | Path | str,
    inputs: Mapping[str, np.ndarray] | np.ndarray | Path | str,
    *,
    contract: ExecutionContract | str | None = None,
    dt: float | None = None,
    steps: int | None = None,
    record: Iterable[str] = (),
    out: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FloatTrace:
    """Simulate and return the trace; write it to `out` if given.

    inputs:   X.npz (`input`, or `input/<node>` for each of several), or arrays [T, B, ...] or static [B, ...].
    contract: a preset's name, NAME,FIELD=VALUE,... or a contract; None: the one that the file states.
    dt:       the timestep, instead of the contract's. steps: timesteps of a static input, or fewer than there are.
    record:   "v" for the membrane potentials.
    raises:   LavatubeError for bad input or where no contract is known, UnsupportedError for what it cannot compute.
    """
    if out is not None:
        require_writable_file(Path(out))
    graph = source if isinstance(source, FloatGraph) else read_float_graph(source)
    chosen, noted = choose_contract(source, contract)
    if dt is not None:
        chosen = chosen.with_overrides(dt=dt)
    values, length = _given(graph, inputs)
    shaped = {name: _shaped(graph, name, value, steps) for name, value in values.items()}
    if length is not None and steps is not None:
        length = np.minimum(length, steps)
    trace = simulate(graph, chosen, shaped, length=length, record=record, progress=progress)
    trace = FloatTrace(
        trace.input, trace.spikes, trace.output, trace.length,
        {**trace.meta, "assumptions": [*noted, *trace.meta["assumptions"]]}, trace.v,
    )  # fmt: skip
    if out is not None:
        save_float_trace(trace, Path(out))
    return trace


def choose_contract(
    source: FloatGraph | Path | str, asked: ExecutionContract | str | None
) -> tuple[ExecutionContract, list[dict[str, Any]]]:
    """The contract asked for, else the one that the file states; and a record where the two differ.

    raises: LavatubeError that lists the presets if neither says one.
    """
    stated = None
    if not isinstance(source, FloatGraph):
        raw = raw_from_file(Path(source))
        stated = stated_contract(raw.metadata, where=str(source)) if isinstance(raw, RawGraph) else None
    if asked is None:
        if stated is None:
            where = source.path if isinstance(source, FloatGraph) else str(source)
            raise LavatubeError(
                "this file does not say how it is to be stepped in time", where=where,
                expected=f"--contract with one of {', '.join(PRESETS)}", got="none",
                remedy="name the platform that it was made for",
            )  # fmt: skip
        return stated, []
    contract = parse_contract(asked) if isinstance(asked, str) else asked
    if stated is None or stated == contract:
        return contract, []
    why = f"the file states {stated.name}, {contract.name} was asked for"
    return contract, [{"node": "", "what": "another contract than the file's", "why": why}]


def _given(
    graph: FloatGraph, inputs: Mapping[str, np.ndarray] | np.ndarray | Path | str
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """(arrays by input node, length or None)"""
    if isinstance(inputs, Mapping):
        return dict(inputs), None
    arrays = {"input": inputs} if isinstance(inputs, np.ndarray) else read_npz(Path(inputs), kind="X.npz")
    where = "input" if isinstance(inputs, np.ndarray) else str(inputs)
    if "input" in arrays:
        if len(graph.inputs) != 1:
            expected = ", ".join(f"input/{name}" for name in graph.inputs)
            raise LavatubeError("this graph has several inputs", where=where, expected=expected, got="input")
        return {graph.inputs[0]: arrays["input"]}, arrays.get("length")
    named = {name[6:]: value for name, value in arrays.items() if name.startswith("input/")}
    if not named:
        got = ", ".join(arrays)
        raise LavatubeError("no input in this file", where=where, expected="`input`, or `input/<node>`", got=got)
    return named, arrays.get("length")


def _shaped(graph: FloatGraph, name: str, value: np.ndarray, steps: int | None) -> np.ndarray:
    """[T, B, ...]: a static input at every timestep, a long one cut."""
    if steps is not None and steps < 1:
        raise LavatubeError("steps", expected="at least 1", got=str(steps))
    rank = len(graph.shapes[name]) if name in graph.shapes else value.ndim - 2
    if value.ndim == rank + 1:
        if steps is None:
            raise LavatubeError(
                f"input {name} is static", expected="--steps, how long it is presented", got=str(value.shape)
            )
        value = np.broadcast_to(value, (steps, *value.shape))
    elif steps is not None and value.ndim == rank + 2 and steps > len(value):
        raise LavatubeError("more steps asked than the input has", expected=f"at most {len(value)}", got=str(steps))
    if value.size > EVENTS_MAX:
        raise LavatubeError("input is too large", expected=f"at most {EVENTS_MAX} values", got=str(value.size))
    return value[:steps]
