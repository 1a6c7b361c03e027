"""Run a float NIR file under an execution contract, and write what every neuron did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.contract_presets import with_timestep
from lavatube.convert.float_graph.given import choose_contract, float_inputs
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.files import refuse_same_file, require_writable_file
from lavatube.float_trace import FloatTrace, save_float_trace


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
    refuse_same_file(network=source, input=inputs, out=out)
    if out is not None:
        require_writable_file(Path(out))
    graph = source if isinstance(source, FloatGraph) else read_float_graph(source)
    chosen, noted = choose_contract(graph, contract)
    chosen = with_timestep(chosen, dt, contract)
    given, length = float_inputs(graph, inputs, steps)
    trace = simulate(graph, chosen, given, length=length, record=record, progress=progress)
    trace = FloatTrace(
        trace.input, trace.spikes, trace.output, trace.length,
        {**trace.meta, "assumptions": [*noted, *trace.meta["assumptions"]]}, trace.v,
    )  # fmt: skip
    if out is not None:
        save_float_trace(trace, Path(out))
    return trace
