"""The connected Lava processes of a program. Lava's (x, y, channel) order exists only in this folder.

Time: each synapse adds one tick (`timing`). A source row j is emitted at tick j + 1; a population of latency l sees it
at tick j + 1 + l. Where nothing but state outlives a timestep, samples stream back to back in windows of T; that
population resets where tick = l + 1 (mod T), which is its first tick of a sample, so nothing of one sample reaches the
next. Delays and cycles would: such a run has one window. Either way `lanes` samples run side by side, as neurons of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.proc.io.source import RingBuffer

from lavatube.deploy.lava_backend.choose import choose_processes
from lavatube.deploy.lava_backend.make_process import make_neurons, make_synapse
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram, Shape

NO_WINDOW = 1 << 30  # ticks, more than any run has


@dataclass(frozen=True)
class LavaNetwork:
    """Connected processes of a program.

    processes: {node name: Lava process}; the read-out has none.
    source:    stock RingBuffer at the input, or None: connect your own process to all `input_ports`.
    latency:   {node name: ticks by which its output lags the input}.
    whc:       {node name: whether its Lava shape is (W, H, C)}, else it is flat in (lane, C, H, W) order.
    report:    {node name: {"process", "stock"}}, and "why" for a process of our own.
    output_ports: `a_out` of every synapse into the read-out; their sum is what it reads.
    readout_bias: [classes] to be added to that sum at every timestep, by the host.
    """

    processes: Mapping[str, Any]
    source: Any
    input_ports: tuple[Any, ...]
    output_ports: tuple[Any, ...]
    latency: Mapping[str, int]
    whc: Mapping[str, bool]
    report: Mapping[str, Mapping[str, Any]]
    readout_bias: np.ndarray

    def run(self, ticks: int) -> None:
        """Run or go on for so many ticks with the bit-accurate models."""
        from lava.magma.core.run_conditions import RunSteps
        from lava.magma.core.run_configs import Loihi2SimCfg

        # 'fixed_pt' selects the bit-accurate models; two slots a channel keep the shared memory small
        first = next(iter(self.processes.values()))
        first.run(
            condition=RunSteps(num_steps=ticks),
            run_cfg=Loihi2SimCfg(select_tag="fixed_pt"),
            compile_config={"pypy_channel_size": 2},
        )

    def stop(self) -> None:
        """Stop the runtime and its processes."""
        next(iter(self.processes.values())).stop()


def build(
    program: LoihiProgram,
    rows: np.ndarray | None = None,
    *,
    num_steps: int | None = None,
    conv: str = "auto",
    stock_only: bool = False,
) -> LavaNetwork:
    """Build the Lava processes of a program.

    rows:      [ticks, lanes, ...] integers for a RingBuffer that emits them and then silence, see `Schedule.rows`.
               None: no source, and one lane.
    num_steps: window T of one sample; default: the program's.
    conv, stock_only: see `choose_processes`.
    raises:    UnsupportedError for what Lava cannot do exactly.
    """
    steps, when = num_steps or program.num_steps, timing(program)
    chosen = choose_processes(program, conv, stock_only=stock_only, num_steps=steps)
    alone = next((name for name, choice in chosen.items() if choice.process == "Conv"), None)
    if alone is not None and rows is not None and rows.shape[1] > 1:
        got = f"{rows.shape[1]} samples"
        raise UnsupportedError("Lava's Conv runs one sample at a time", where=alone, expected="one lane", got=got)
    lanes, window = 1 if rows is None else rows.shape[1], steps if when.streams else NO_WINDOW
    users = [synapse for synapse in program.synapses if program.source_of(synapse) is program.input]
    in_order = len(program.input.shape) == 3 and all(synapse.in_shape == program.input.shape for synapse in users)
    whc = {"input": in_order and all(chosen[synapse.name].process == "Conv" for synapse in users)}
    source = None if rows is None else RingBuffer(data=stream(rows, when.depth, whc["input"]))
    processes: dict[str, Any] = {}
    for synapse in program.synapses:
        origin, choice = program.source_of(synapse), chosen[synapse.name]
        processes[synapse.name] = make_synapse(synapse, choice, origin, when.wait[synapse.name], lanes)
        whc[synapse.name] = choice.process == "Conv"
    for node in program.neurons:
        inbound = program.inbound(node)
        whc[node.name] = whc[inbound[0].name] and chosen[node.name].stock and node.shape == inbound[0].out_shape
        neurons = make_neurons(node, chosen[node.name], lanes, whc[node.name], window, when.latency[node.name] + 1)
        processes[node.name] = neurons
        for synapse in inbound:
            _connect(processes[synapse.name].a_out, whc[synapse.name], neurons.a_in, whc[node.name], node.shape)
    input_ports = []
    for synapse in program.synapses:
        origin, into = program.source_of(synapse), processes[synapse.name].s_in
        out = source if origin is program.input else processes[origin.name]
        if out is None:
            input_ports.append(into)
        else:
            _connect(out.s_out, whc[origin.name], into, whc[synapse.name], synapse.in_shape)
    report = {}
    for name, choice in chosen.items():  # what was built: Dense becomes Sparse where samples run side by side
        made = f"{'lava' if choice.stock else 'lavatube'} {type(processes[name]).__name__}"
        report[name] = {"process": made, "stock": choice.stock} | ({} if choice.stock else {"why": choice.why_own})
    last = tuple(processes[synapse.name].a_out for synapse in program.inbound(program.readout))
    bias = program.readout.bias
    return LavaNetwork(processes, source, tuple(input_ports), last, when.latency, whc, report, bias)


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
