"""Runs again, with u and v recorded, the samples around the first divergence, and explains them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.inputs import InputBatch
from lavatube.program import LoihiProgram
from lavatube.sim.compare import compare, keyed
from lavatube.sim.explain.explain import SAMPLES, explain
from lavatube.sim.explain.explanation import Explanation
from lavatube.sim.parity_report import EngineParity, ParityReport
from lavatube.sim.run import BACKENDS, run
from lavatube.trace import SpikeTrace

AGAIN = 32  # samples at most
AT_ONCE = 1 << 26  # neuron-steps of these, each with u and v in two traces
RunAgain = Callable[[str, InputBatch], SpikeTrace]  # engine, samples -> a trace with u and v


def explained(report: ParityReport, program: LoihiProgram, batch: InputBatch, again: RunAgain) -> ParityReport:
    """The report with an explanation at every engine that differs from the reference."""

    def one(engine: EngineParity) -> EngineParity:
        if engine.comparison.first is None:
            return engine
        start = engine.comparison.first.sample
        part = batch.samples(start + _again(program, batch.num_steps), start)
        found = explain(program, again(report.reference, part), again(engine.engine, part))
        if found is None:
            return replace(engine, explanation={"verdict": "The difference did not come again in a second run."})
        return replace(engine, explanation=_renumbered(found, start).to_json())

    return replace(report, engines=tuple(one(engine) for engine in report.engines))


def explain_traces(
    program: LoihiProgram, a: SpikeTrace, b: SpikeTrace, *, folder: Path | None = None, names: tuple[str, str]
) -> Explanation | None:
    """Of two traces. Where u and v are missing, the trace's engine runs the samples again, if it is here.

    What it gives is used only where its spikes and read-out are the trace's own.
    """
    first = compare(a, b, names=names).first
    if first is None:
        return None
    start = first.sample
    parts = [_part(trace, start, _again(program, trace.num_steps)) for trace in (a, b)]
    found = explain(program, *(_with_state(part, program, folder) for part in parts), names=names)
    return None if found is None else _renumbered(found, start)


def _again(program: LoihiProgram, num_steps: int) -> int:
    """Samples to run again: more of them tell more rules apart."""
    states = num_steps * sum(node.bias_mant.size for node in program.neurons)
    return max(SAMPLES, min(AGAIN, AT_ONCE // max(states, 1)))


def _part(trace: SpikeTrace, start: int, samples: int) -> SpikeTrace:
    chosen = slice(start, start + samples)
    rows = {
        kind: {name: value[:, chosen] for name, value in getattr(trace, kind).items()}
        for kind in ("inputs", "spikes", "u", "v")
    }
    readouts = {name: value[chosen] for name, value in trace.readouts.items()}
    return replace(trace, readouts=readouts, length=trace.length[chosen], **rows)


def _with_state(trace: SpikeTrace, program: LoihiProgram, folder: Path | None) -> SpikeTrace:
    engine = str(trace.meta.get("engine"))
    if (trace.u and trace.v) or engine not in BACKENDS or (engine == "torch" and folder is None):
        return trace
    origin: Any = folder if engine == "torch" else program
    events = {name: value.astype(np.int64) for name, value in trace.inputs.items()}
    batch = InputBatch(events, trace.length.astype(np.int64))
    try:
        fresh = run(origin, batch, backend=engine, record=("u", "v"), overflow=program.overflow)
    except LavatubeError:
        return trace  # this machine lacks the engine: the spikes must do
    return replace(trace, u=fresh.u, v=fresh.v) if _same(trace, fresh) else trace


def _same(trace: SpikeTrace, fresh: SpikeTrace) -> bool:
    there, here = keyed("readout", trace.readouts), keyed("readout", fresh.readouts)
    pairs = [(value, here[key]) for key, value in there.items()]
    pairs += [(value, fresh.spikes[name]) for name, value in trace.spikes.items()]
    return all(np.array_equal(mine, other) for mine, other in pairs)


def _renumbered(found: Explanation, start: int) -> Explanation:
    return replace(found, sample=found.sample + start, samples=tuple(sample + start for sample in found.samples))
