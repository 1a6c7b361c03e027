"""The membrane voltage of chosen neurons, on every engine that recorded it."""

from __future__ import annotations

import numpy as np

from lavatube.sim.report.artifacts import Artifacts
from lavatube.sim.report.parts import Choice, Missing, Part, Picture, Section, Table, Words
from lavatube.sim.report.pictures import Plot
from lavatube.sim.report.watched import Watched
from lavatube.trace import SpikeTrace


def membrane(found: Artifacts, watched: Watched | None) -> Section:
    traces = {} if watched is None else {"fast": watched.trace, **watched.others}
    if watched is None:
        traces = {name: trace for name, trace in found.traces.items() if trace.v}
    if not traces or found.program is None:
        command = f"lavatube run {found.folder} --input X.npz --record v,u --out {found.folder}/trace.npz"
        return Section("membrane", "Membrane", [Missing("a trace with v", command)])
    panels = []
    for node in found.program.neurons:
        kept = {name: trace for name, trace in traces.items() if node.name in trace.v}
        if kept:
            neuron = _liveliest(next(iter(kept.values())), node.name)
            panels.append((f"{node.name} {list(neuron)}", [_one(node.name, neuron, node.vth * 64, kept)]))
    words = Words(
        "Sample 0, of each layer the spiking neuron whose v moves most; v in 1/64 of a weight unit, after the reset. "
        f"Another engine is drawn, too, when its trace is here: lavatube run {found.folder} --backend lava "
        f"--input {found.folder}/input.npz --record v,u --out {found.folder}/lava.npz"
    )
    parts: list[Part] = [words, Choice("Neuron", panels)]
    return Section("membrane", "Membrane", parts)


def _liveliest(trace: SpikeTrace, name: str) -> tuple[int, ...]:
    """The neuron that spikes whose v moves most; the first if none spikes."""
    v, spikes = trace.v[name][:, 0], trace.spikes[name][:, 0]
    moves = v.std(0) * (spikes != 0).any(0)
    return tuple(int(i) for i in np.unravel_index(int(moves.argmax()), moves.shape))


def _one(name: str, neuron: tuple[int, ...], threshold: int, traces: dict[str, SpikeTrace]) -> Part:
    lines = {engine: trace.v[name][:, 0].reshape(trace.num_steps, -1) for engine, trace in traces.items()}
    first = next(iter(traces.values()))
    flat = int(np.ravel_multi_index(neuron, first.spikes[name].shape[2:]))
    series = {engine: value[:, flat].astype(int).tolist() for engine, value in lines.items()}
    same = len({tuple(line) for line in series.values()}) == 1
    values = [v for line in series.values() for v in line]
    low, high = min([0, *values]), max([threshold, *values])
    title = f"v of {name} {list(neuron)}"
    says = f"{', '.join(series)}: {'the same at every timestep' if same else 'NOT the same at every timestep'}"
    plot = Plot(title, says, (0, max(first.num_steps - 1, 1)), (low, high * 1.08 or 1), "timestep", "v")
    plot.level(threshold, "threshold")
    for number, line in enumerate(series.values()):
        plot.line(list(enumerate(line)), number, key=f"k{number}", dots=first.num_steps <= 64)
    spikes = first.spikes[name][:, 0].reshape(first.num_steps, -1)[:, flat]
    rows = [(t, *(f"{line[t]:,}" for line in series.values()), int(spikes[t])) for t in range(first.num_steps)]
    table = Table(title, ("timestep", *(f"v, {engine}" for engine in series), "event"), rows)
    names = [(f"k{number}", engine) for number, engine in enumerate(series)]
    return Picture(f"{title}: {says}", plot.svg(whole_x=True), table, names)
