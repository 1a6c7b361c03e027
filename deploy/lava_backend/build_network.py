"""The connected stock processes of a program. Lava's (x, y, channel) order exists only in this folder.

Time: each synapse adds one tick. A source row j is emitted at tick j + 1; layer l (1 is the first) sees it at tick
j + 1 + l. Samples stream back to back in windows of T; layer l resets where tick = l + 1 (mod T), which is its first
tick of a sample, so nothing of one sample reaches the next.
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
from lava.proc.sparse.process import Sparse
from lava.utils.weightutils import SignMode

from lavatube.deploy.lava_backend.choose import choose_processes, conv_weight, sparse_weight
from lavatube.program import LoihiProgram, NeuronNode, Shape, Synapse


@dataclass(frozen=True)
class LavaNetwork:
    """Connected processes of a program.

    processes: {node name: Lava process}; the read-out has none, its input is the last synapse's `a_out`.
    source:    stock RingBuffer at the input, or None: connect your own process to `input_port`.
    latency:   {node name: ticks by which its output lags the input}.
    whc:       {node name: whether its Lava shape is (W, H, C)}, else it is flat in (C, H, W) order.
    report:    {node name: {"process", "stock"}}.
    readout_bias: [classes] to be added to the last synapse's output at every timestep, by the host.
    """

    processes: Mapping[str, Any]
    source: Any
    input_port: Any
    output_port: Any
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
    chosen = choose_processes(program, conv)
    processes: dict[str, Any] = {}
    latency: dict[str, int] = {"input": 0}
    whc: dict[str, bool] = {}
    first = program.chain()[0][0]
    whc["input"] = chosen[first.name] == "Conv"
    source = None if events is None else RingBuffer(data=stream(events, len(program.chain()), whc["input"]))
    input_port = None
    out = None if source is None else source.s_out
    out_whc, message_bits = whc["input"], program.input.message_bits
    for depth, (synapse, target) in enumerate(program.chain(), 1):
        process = _synapse(synapse, chosen[synapse.name], message_bits)
        message_bits = 1
        is_conv = chosen[synapse.name] == "Conv"
        if out is None:
            input_port = process.s_in
        else:
            _connect(out, out_whc, process.s_in, is_conv, synapse.in_shape)
        processes[synapse.name], whc[synapse.name] = process, is_conv
        latency[synapse.name] = depth
        out, out_whc = process.a_out, is_conv
        if isinstance(target, NeuronNode):
            neurons = _neurons(target, is_conv, window, depth)
            process.a_out.connect(neurons.a_in)
            processes[target.name], whc[target.name], latency[target.name] = neurons, is_conv, depth
            out = neurons.s_out
    report = {name: {"process": f"lava {type(process).__name__}", "stock": True} for name, process in processes.items()}
    return LavaNetwork(processes, source, input_port, out, latency, whc, report, window, program.readout.bias)


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


def _synapse(synapse: Synapse, kind: str, message_bits: int) -> Any:
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
        "sign_mode": SignMode.MIXED,
    }
    if kind == "Sparse":
        return Sparse(weights=sparse_weight(synapse), **exact, **message)
    return Dense(weights=synapse.weight.astype(np.int32), **exact, **message)


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
