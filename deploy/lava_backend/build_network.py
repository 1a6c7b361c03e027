"""The connected Lava processes of a program. Lava's (x, y, channel) order exists only in this folder.

Time: each synapse adds one tick (`timing`). A source row j is emitted at tick j + 1; a population of latency l sees it
at tick j + 1 + l. Where nothing but state outlives a timestep, samples stream back to back in windows of T; that
population resets where tick = l + 1 (mod T), which is its first tick of a sample, so nothing of one sample reaches the
next. Delays and cycles would: such a run has one window. Either way `lanes` samples run side by side, as neurons of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix, identity, kron

from lavatube.deploy.lava_backend.choose import Choice, choose_processes
from lavatube.deploy.lava_backend.processes.population import Population
from lavatube.deploy.lava_backend.processes.projection import Projection
from lavatube.deploy.lava_backend.synapse_arrays import conv_weight, sparse_weight
from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import UnsupportedError
from lavatube.fixed_point import THRESHOLD_MAX
from lavatube.program import Conv2dNode, LoihiProgram, NeuronNode, Shape, Source, Synapse

SIGN_MODES = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}
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
    report = {
        name: {"process": f"{'lava' if choice.stock else 'lavatube'} {choice.process}", "stock": choice.stock}
        | ({} if choice.stock else {"why": choice.why_own})
        for name, choice in chosen.items()
    }
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


def make_synapse(synapse: Synapse, choice: Choice, origin: Source, wait: int, lanes: int) -> Any:
    """The process of a synapse for so many samples side by side, which holds its sums back for `wait` ticks."""
    low, high = origin.event_range
    if choice.process == "Projection":
        return _projection(synapse, max(-low, high), wait, lanes)
    graded = (low, high) != (0, 1)
    message = {"num_message_bits": max(-low, high).bit_length() if graded else 0, "name": synapse.name}
    if choice.process == "Conv":
        (stride_y, stride_x), (pad_y, pad_x) = synapse.stride, synapse.padding  # type: ignore[union-attr]
        channels, height, width = synapse.in_shape
        return Conv(
            weight=conv_weight(synapse),  # type: ignore[arg-type]
            input_shape=(width, height, channels),
            stride=(stride_x, stride_y),
            padding=(pad_x, pad_y),
            **message,
        )
    # always say the sign mode: Lava's guess fails for layers without positive weights
    exact = {
        "weight_exp": synapse.weight_exp,
        "num_weight_bits": synapse.num_weight_bits,
        "sign_mode": SIGN_MODES[synapse.sign],
    }
    if choice.process == "Dense" and lanes == 1:
        return Dense(weights=synapse.weight.astype(np.int32), **exact, **message)
    weights = csr_matrix(kron(identity(lanes, np.int32), sparse_weight(synapse), "csr"))
    if choice.process == "DelaySparse":
        delays = csr_matrix((np.full(weights.nnz, wait), weights.indices, weights.indptr), shape=weights.shape)
        return DelaySparse(weights=weights, delays=delays, max_delay=wait, **exact, **message)
    return Sparse(weights=weights, **exact, **message)


def _projection(synapse: Synapse, largest: int, wait: int, lanes: int) -> Projection:
    is_conv, sizes = isinstance(synapse, Conv2dNode), (int(np.prod(synapse.in_shape)), int(np.prod(synapse.out_shape)))
    names = ("in_shape", "stride", "padding", "dilation", "groups")
    return Projection(
        weight=synapse.weight if is_conv else sparse_weight(synapse),
        weight_exp=synapse.weight_exp, lanes=lanes, sizes=sizes, largest=largest, wait=wait, name=synapse.name,
        window={name: getattr(synapse, name) for name in names} if is_conv else None,
    )  # fmt: skip


def make_neurons(node: NeuronNode, choice: Choice, lanes: int, whc: bool, window: int, start: int) -> Any:
    """The process of a population; start: tick of its first timestep."""
    bias = node.bias_mant.astype(np.int32)
    bias = np.ascontiguousarray(bias.transpose(2, 1, 0)) if whc else np.tile(bias.reshape(-1), lanes)
    if not choice.stock:
        names = {field.name for field in fields(node)} - {"name", "shape"}
        options = {name: getattr(node, name) for name in names} | {"bias_mant": bias}
        return Population(shape=bias.shape, options=options, start=start, window=window, name=node.name)
    interval = node.reset_interval or window
    return LIFReset(
        shape=bias.shape,
        du=node.du,
        dv=node.dv,
        vth=THRESHOLD_MAX + 1 if node.output == "none" else node.vth,  # above what v can reach
        bias_mant=bias,
        bias_exp=node.bias_exp,
        reset_interval=interval,
        reset_offset=start % interval,
        name=node.name,
    )


def _connect(out: Any, out_whc: bool, into: Any, into_whc: bool, shape: Shape) -> None:
    """Connect events across the two orders; shape: what `into` takes, (C, H, W) if it is in Lava's order."""
    if out.shape == into.shape and out_whc == into_whc:
        out.connect(into)
        return
    flat = out.transpose((2, 1, 0)).flatten() if out_whc else out
    (flat.reshape(shape).transpose((2, 1, 0)) if into_whc else flat).connect(into)
