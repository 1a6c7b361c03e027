"""The connected Lava processes of a program. Lava's (x, y, channel) order exists only in this folder.

Time: each synapse adds one tick (`timing`). A source row j is emitted at tick j + 1; a population of latency l sees it
at tick j + 1 + l. Where nothing but state outlives a timestep, samples stream back to back in windows of T; that
population resets where tick = l + 1 (mod T), which is its first tick of a sample, so nothing of one sample reaches the
next. Delays and cycles would: such a run has one window. Either way `lanes` samples run side by side, as neurons of
their own. With a pace of p ticks a timestep (tight cycles), row j is emitted at tick p * j + 1, and between is silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from lava.magma.compiler.compiler_graphs import find_processes
from lava.proc.io.source import RingBuffer

from lavatube.deploy.lava_backend.choose import Choice, choose_processes
from lavatube.deploy.lava_backend.make_process import make_neurons, make_synapse
from lavatube.deploy.lava_backend.processes.boundary import Boundary
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import UnsupportedError
from lavatube.program import InputNode, LoihiProgram, Shape


@dataclass(frozen=True)
class LavaNetwork:
    """Connected processes of a program.

    processes: {name of a synapse or population: Lava process}.
    inputs:    {input: stock RingBuffer that emits its rows, or a `Boundary`: connect a process of yours to its `a_in`}.
    outputs:   {read-out of currents or spikes: a `Boundary` whose `a_out` is what it reads, without its bias, `latency`
               ticks after the input}. A read-out of voltages reads `v` of its population's process.
    ports:     {read-out of currents: `a_out` of every synapse into it}.
    latency:   {node name: ticks by which its output lags the input}.
    pace:      ticks of a timestep; what you send to inputs comes at the first of them. See `Timing`.
    whc:       {node name: whether its Lava shape is (W, H, C)}, else it is flat in (lane, C, H, W) order.
    report:    {name of a synapse or population: {"process", "stock"}}, and "why" for a process of our own.
    """

    processes: Mapping[str, Any]
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    ports: Mapping[str, tuple[Any, ...]]
    latency: Mapping[str, int]
    pace: int
    whc: Mapping[str, bool]
    report: Mapping[str, Mapping[str, Any]]

    @cached_property
    def firsts(self) -> tuple[Any, ...]:
        """One process of each part that nothing connects to another; Lava runs a part at a time."""
        left, found = list(self.processes.values()), []
        while left:
            found.append(left[0])
            part = find_processes(left[0])
            left = [process for process in left if process not in part]
        return tuple(found)

    def run(self, ticks: int) -> None:
        """Run or go on for so many ticks with the bit-accurate models."""
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg

        # 'fixed_pt' selects the bit-accurate models; two slots a channel keep the shared memory small
        for first in self.firsts:
            first.run(
                condition=RunSteps(num_steps=ticks),
                run_cfg=Loihi2SimCfg(select_tag="fixed_pt"),
                compile_config={"pypy_channel_size": 2},
            )

    def stop(self) -> None:
        """Stop the runtime and its processes."""
        for first in self.firsts:
            first.stop()


def build(
    program: LoihiProgram,
    rows: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    num_steps: int | None = None,
    conv: str = "auto",
    stock_only: bool = False,
    outputs: bool = True,
) -> LavaNetwork:
    """Build the Lava processes of a program.

    rows:      [ticks, lanes, ...] integers for a RingBuffer that emits them and then silence, see `Schedule.rows`; with
               several inputs {input: rows}. An input without rows has a `Boundary`; without any there is one lane.
    num_steps: window T of one sample; default: the program's.
    conv, stock_only: see `choose_processes`.  outputs: whether read-outs have a `Boundary`; else `ports` are open.
    raises:    UnsupportedError for what Lava cannot do exactly.
    """
    steps, when = num_steps or program.num_steps, timing(program)
    chosen = choose_processes(program, conv, stock_only=stock_only, num_steps=steps)
    alone = next((name for name, choice in chosen.items() if choice.process == "Conv"), None)
    by_input = {program.input.name: rows} if isinstance(rows, np.ndarray) else dict(rows or {})
    lanes = next((each.shape[1] for each in by_input.values()), 1)
    if alone is not None and lanes > 1:
        got = f"{lanes} samples"
        raise UnsupportedError("Lava's Conv runs one sample at a time", where=alone, expected="one lane", got=got)
    window = when.window(steps)
    whc = {node.name: node.name in by_input and _wants_lava_order(program, node, chosen) for node in program.inputs}
    inputs = {
        node.name: RingBuffer(data=stream(by_input[node.name], when.depth, whc[node.name]))
        if node.name in by_input
        else Boundary(size=int(np.prod(node.shape)), name=node.name)
        for node in program.inputs
    }
    emits = {name: each.s_out if name in by_input else each.a_out for name, each in inputs.items()}
    processes: dict[str, Any] = {}
    for synapse in program.synapses:
        origin, choice = program.source_of(synapse), chosen[synapse.name]
        processes[synapse.name] = make_synapse(synapse, choice, origin, when.wait[synapse.name], lanes)
        whc[synapse.name] = choice.process == "Conv"
    for node in program.neurons:
        inbound = program.inbound(node)
        whc[node.name] = whc[inbound[0].name] and chosen[node.name].stock and node.shape == inbound[0].out_shape
        start = when.first_tick(node.name)
        neurons = make_neurons(node, chosen[node.name], lanes, whc[node.name], window, start, when.pace)
        processes[node.name], emits[node.name] = neurons, neurons.s_out
        for synapse in inbound:
            _connect(processes[synapse.name].a_out, whc[synapse.name], neurons.a_in, whc[node.name], node.shape)
    for synapse in program.synapses:
        source, into = program.source_of(synapse).name, processes[synapse.name].s_in
        _connect(emits[source], whc[source], into, whc[synapse.name], synapse.in_shape)
    report = {}
    for name, choice in chosen.items():  # what was built: Dense becomes Sparse where samples run side by side
        made = f"{'lava' if choice.stock else 'lavatube'} {type(processes[name]).__name__}"
        report[name] = {"process": made, "stock": choice.stock} | ({} if choice.stock else {"why": choice.why_own})
    sums = {synapse.name: processes[synapse.name].a_out for synapse in program.synapses}
    heard = {readout.name: program.inbound(readout) for readout in program.readouts}
    ports = {name: tuple(sums[each.name] for each in inbound) for name, inbound in heard.items() if inbound}
    ends = _ends(program, sums | emits, whc, lanes) if outputs else {}
    return LavaNetwork(processes, inputs, ends, ports, when.latency, when.pace, whc, report)


def _ends(program: LoihiProgram, out: Mapping[str, Any], whc: Mapping[str, bool], lanes: int) -> dict[str, Any]:
    """{read-out of currents or spikes: its `Boundary`}. out: {node: port of what it emits}."""
    ends = {}
    for readout in program.readouts:
        if readout.reads != "voltage":
            ends[readout.name] = Boundary(size=lanes * readout.bias.size, name=readout.name)
            for name in [a for a, b in program.edges if b == readout.name]:
                _connect(out[name], whc[name], ends[readout.name].a_in, False, readout.shape)
    return ends


def _wants_lava_order(program: LoihiProgram, node: InputNode, chosen: Mapping[str, Choice]) -> bool:
    users = [synapse for synapse in program.synapses if program.source_of(synapse) is node]
    in_order = len(node.shape) == 3 and all(synapse.in_shape == node.shape for synapse in users)
    return in_order and all(chosen[synapse.name].process == "Conv" for synapse in users)


def stream(rows: np.ndarray, depth: int, whc: bool) -> np.ndarray:
    """Rows [ticks, lanes, ...] as RingBuffer data (..., ticks + depth), with silence to drain.

    The silence also keeps the buffer from starting over, which stock Lava does without a word.
    """
    rows = rows[:, 0].transpose(0, 3, 2, 1) if whc else rows.reshape(len(rows), -1)
    silence = np.zeros((depth, *rows.shape[1:]), np.int32)
    return np.moveaxis(np.concatenate([rows.astype(np.int32), silence]), 0, -1)


def _connect(out: Any, out_whc: bool, into: Any, into_whc: bool, shape: Shape) -> None:
    """Connect events across the two orders; shape: what `into` takes, (C, H, W) if it is in Lava's order."""
    if out.shape == into.shape and out_whc == into_whc:
        out.connect(into)
        return
    flat = out.transpose((2, 1, 0)).flatten() if out_whc else out
    (flat.reshape(shape).transpose((2, 1, 0)) if into_whc else flat).connect(into)
