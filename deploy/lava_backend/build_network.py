"""The connected stock processes of a program. Lava's (x, y, channel) order exists only in this folder.

Time: each synapse adds one tick (`timing`). A source row j is emitted at tick j + 1; a population of latency l sees it
at tick j + 1 + l. Samples stream back to back in windows of T; that population resets where tick = l + 1 (mod T),
which is its first tick of a sample, so nothing of one sample reaches the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.source import RingBuffer
from lava.proc.lif.process import LIFReset
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode
from scipy.sparse import csr_matrix

from lavatube.deploy.lava_backend.choose import choose_processes, conv_weight, sparse_weight
from lavatube.deploy.lava_backend.timing import timing
from lavatube.program import InputNode, LoihiProgram, NeuronNode, Shape, Synapse

SIGN_MODES = {"mixed": SignMode.MIXED, "excitatory": SignMode.EXCITATORY, "inhibitory": SignMode.INHIBITORY}


@dataclass(frozen=True)
class LavaNetwork:
    """Connected processes of a program.

    processes: {node name: Lava process}; the read-out has none.
    source:    stock RingBuffer at the input, or None: connect your own process to all `input_ports`.
    latency:   {node name: ticks by which its output lags the input}.
    whc:       {node name: whether its Lava shape is (W, H, C)}, else it is flat in (C, H, W) order.
    report:    {node name: {"process", "stock"}}.
    output_ports: `a_out` of every synapse into the read-out; their sum is what it reads.
    readout_bias: [classes] to be added to the last synapse's output at every timestep, by the host.
    """

    processes: Mapping[str, Any]
    source: Any
    input_ports: tuple[Any, ...]
    output_ports: tuple[Any, ...]
    latency: Mapping[str, int]
    whc: Mapping[str, bool]
    report: Mapping[str, Mapping[str, Any]]
    window: int
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
    program: LoihiProgram, events: np.ndarray | None = None, *, num_steps: int | None = None, conv: str = "auto"
) -> LavaNetwork:
    """Build the Lava processes of a program.

    events:    [T, B, ...] integers, for a RingBuffer that streams the B samples and then drains. None: no source.
    num_steps: window T of one sample; default: that of `events`, else the program's.
    conv:      "auto", "conv" or "sparse": the process for convolutions.
    raises:    UnsupportedError for what stock Lava cannot do exactly.
    """
    window = num_steps or (program.num_steps if events is None else len(events))
    chosen, when = choose_processes(program, conv), timing(program)
    users = [synapse for synapse in program.synapses if program.source_of(synapse) is program.input]
    whc = {"input": all(chosen[synapse.name] == "Conv" for synapse in users)}
    source = None if events is None else RingBuffer(data=stream(events, when.depth, whc["input"]))
    outs: dict[str, Any] = {} if source is None else {"input": source.s_out}
    processes: dict[str, Any] = {}
    input_ports = []
    for target in program.targets:
        inbound = program.inbound(target)
        made = []
        for synapse in inbound:
            origin, is_conv = program.source_of(synapse), chosen[synapse.name] == "Conv"
            bits = origin.message_bits if isinstance(origin, InputNode) else 1
            process = _synapse(synapse, chosen[synapse.name], bits, when.wait[synapse.name])
            if origin.name in outs:
                _connect(outs[origin.name], whc[origin.name], process.s_in, is_conv, synapse.in_shape)
            else:
                input_ports.append(process.s_in)
            processes[synapse.name], whc[synapse.name] = process, is_conv
            made.append(process.a_out)
        if isinstance(target, NeuronNode):
            is_conv = chosen[inbound[0].name] == "Conv"
            neurons = _neurons(target, is_conv, window, when.latency[target.name])
            for port in made:
                port.connect(neurons.a_in)
            processes[target.name], whc[target.name] = neurons, is_conv
            outs[target.name] = neurons.s_out
    report = {name: {"process": f"lava {type(process).__name__}", "stock": True} for name, process in processes.items()}
    last = tuple(processes[synapse.name].a_out for synapse in program.inbound(program.readout))
    bias = program.readout.bias
    return LavaNetwork(processes, source, tuple(input_ports), last, when.latency, whc, report, window, bias)


def stream(events: np.ndarray, depth: int, whc: bool) -> np.ndarray:
    """Events [T, B, ...] as RingBuffer data (..., B * T + depth): samples back to back, then silence to drain.

    The silence also keeps the buffer from starting over, which stock Lava does without a word.
    """
    steps, batch, *shape = events.shape
    rows = events.swapaxes(0, 1).reshape(batch * steps, *shape)
    if whc:
        rows = rows.transpose(0, 3, 2, 1)
    else:
        rows = rows.reshape(batch * steps, -1)
    silence = np.zeros((depth, *rows.shape[1:]), np.int32)
    return np.moveaxis(np.concatenate([rows.astype(np.int32), silence]), 0, -1)


def _synapse(synapse: Synapse, kind: str, message_bits: int, wait: int) -> Any:
    message = {"num_message_bits": message_bits if message_bits > 1 else 0, "name": synapse.name}
    if kind == "Conv":
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
    if kind == "Dense":
        return Dense(weights=synapse.weight.astype(np.int32), **exact, **message)
    weights = sparse_weight(synapse)
    if kind == "DelaySparse":
        delays = csr_matrix((np.full(weights.nnz, wait), weights.indices, weights.indptr), shape=weights.shape)
        return DelaySparse(weights=weights, delays=delays, max_delay=wait, **exact, **message)
    return Sparse(weights=weights, **exact, **message)


def _neurons(node: NeuronNode, whc: bool, window: int, depth: int) -> Any:
    bias = node.bias_mant.astype(np.int32)
    bias = bias.transpose(2, 1, 0) if whc else bias.reshape(-1)
    return LIFReset(
        shape=bias.shape,
        du=node.du,
        dv=node.dv,
        vth=node.vth,
        bias_mant=np.ascontiguousarray(bias),
        bias_exp=node.bias_exp,
        reset_interval=window,
        reset_offset=(depth + 1) % window,
        name=node.name,
    )


def _connect(out: Any, out_whc: bool, into: Any, into_whc: bool, shape: Shape) -> None:
    """Connect events of logical shape (C, H, W) or (n,) across the two orders."""
    if out_whc == into_whc:
        out.connect(into)
    elif into_whc:
        out.reshape(shape).transpose((2, 1, 0)).connect(into)
    else:
        out.transpose((2, 1, 0)).flatten().connect(into)
