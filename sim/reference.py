"""The reference engine: NumPy int64, one timestep after another, slow and obvious. Every other engine must equal it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from lavatube import fixed_point
from lavatube.inputs import InputBatch
from lavatube.neuron_step import NeuronState, at_rest, step
from lavatube.program import (
    Conv2dNode,
    DenseNode,
    InputNode,
    LoihiProgram,
    NeuronNode,
    ReadoutNode,
    SparseNode,
    Synapse,
)
from lavatube.sim.engine import Recording, finish_trace
from lavatube.trace import SpikeTrace

History = dict[str, dict[int, np.ndarray]]  # source -> timestep -> its events


def activation(synapse: Synapse, events: np.ndarray) -> np.ndarray:
    """a = (weights applied to events) shifted by weight_exp. events: [B, in_shape]; returns [B, out_shape]; int64."""
    if isinstance(synapse, DenseNode):
        total = dense_sums(synapse, events)
    elif isinstance(synapse, SparseNode):
        total = sparse_sums(synapse, events)
    else:
        total = conv_sums(synapse, events)
    return fixed_point.activation(total.reshape(-1, *synapse.out_shape), synapse.weight_exp)


def dense_sums(synapse: DenseNode, events: np.ndarray) -> np.ndarray:
    return np.asarray(events.reshape(len(events), -1) @ synapse.weight.astype(np.int64).T)


def sparse_sums(synapse: SparseNode, events: np.ndarray) -> np.ndarray:
    terms = events.reshape(len(events), -1)[:, synapse.index] * synapse.weight.astype(np.int64)
    running = np.concatenate([np.zeros((len(events), 1), np.int64), terms.cumsum(1)], 1)
    return np.asarray(running[:, synapse.indptr[1:]] - running[:, synapse.indptr[:-1]])


def conv_sums(synapse: Conv2dNode, events: np.ndarray) -> np.ndarray:
    """Kernel element by kernel element; each group of channels by NumPy's own int64 matrix product, no floats."""
    weight = synapse.weight.astype(np.int64)
    (pad_y, pad_x), (stride_y, stride_x), (far_y, far_x) = synapse.padding, synapse.stride, synapse.dilation
    padded = np.pad(events, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    channels, height, width = synapse.out_shape
    per_out, per_in = channels // synapse.groups, weight.shape[1]
    total = np.zeros((len(events), channels, height * width), np.int64)
    for y in range(weight.shape[2]):
        rows = slice(y * far_y, y * far_y + stride_y * height, stride_y)
        for x in range(weight.shape[3]):
            columns = slice(x * far_x, x * far_x + stride_x * width, stride_x)
            seen = padded[:, :, rows, columns].reshape(len(events), padded.shape[1], -1)
            for group in range(synapse.groups):
                out, into = slice(group * per_out, (group + 1) * per_out), slice(group * per_in, (group + 1) * per_in)
                total[:, out] += weight[out, :, y, x] @ seen[:, into]
    return total


def run_reference(
    program: LoihiProgram,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run a program over all samples at once.

    record: any of {"u", "v"}; progress: called with (steps done, steps).
    Returns a SpikeTrace; its meta counts wraps of u and saturations of v.
    """
    recording = Recording(program, inputs, record)
    states = {node.name: at_rest(node, inputs.batch) for node in program.neurons}
    readouts = {node.name: np.zeros((inputs.batch, *node.shape), np.int64) for node in program.readouts}
    made: History = {node.name: {} for node in program.sources}
    activations: dict[str, np.ndarray] = {}
    oldest = 1 + max(program.lag(synapse) for synapse in program.synapses)
    for t in range(inputs.num_steps):
        alive = (t < inputs.length)[:, None]
        for node in program.nodes:
            if isinstance(node, InputNode):
                made[node.name][t] = inputs.by_name[node.name][t]
            elif isinstance(node, NeuronNode):
                made[node.name][t] = _step(program, node, states, activations, recording, t)
            elif isinstance(node, ReadoutNode):
                readouts[node.name] = _read(program, node, readouts[node.name], states, activations, made, alive, t)
            else:
                seen = made[program.source_of(node).name].get(t - program.lag(node))
                zeros = np.zeros((inputs.batch, *node.in_shape), np.int64)
                activations[node.name] = activation(node, zeros if seen is None else seen.reshape(zeros.shape))
        for events in made.values():
            events.pop(t - oldest, None)
        if progress is not None:
            progress(t + 1, inputs.num_steps)
    for node in program.readouts:
        if node.reads == "voltage":
            readouts[node.name] = readouts[node.name] + node.bias
    return finish_trace(recording, readouts, engine="reference", device="cpu")


def received(
    program: LoihiProgram, target: NeuronNode | ReadoutNode, activations: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The sum of a target's activations, kept in int32 (wrap): [B, shape] int64."""
    parts = [activations[synapse.name] for synapse in program.inbound(target)]
    return fixed_point.int32(sum(part.reshape(len(part), *target.shape) for part in parts))  # type: ignore[arg-type]


def _step(
    program: LoihiProgram,
    node: NeuronNode,
    states: dict[str, NeuronState],
    activations: Mapping[str, np.ndarray],
    recording: Recording,
    t: int,
) -> np.ndarray:
    state, now = step(node, states[node.name], received(program, node, activations), t)
    states[node.name] = state
    recording.step(node.name, t, now.events, u=state.u, v=state.v, wrapped=now.wrapped, saturated=now.saturated)
    return now.events


def _read(
    program: LoihiProgram,
    node: ReadoutNode,
    readout: np.ndarray,
    states: Mapping[str, NeuronState],
    activations: Mapping[str, np.ndarray],
    made: History,
    alive: np.ndarray,
    t: int,
) -> np.ndarray:
    if node.reads == "voltage":
        v = states[program.read_by(node).name].v
        return np.where(alive, v.reshape(readout.shape), readout)
    if node.reads == "spikes":
        events = made[program.read_by(node).name][t].reshape(readout.shape)
        return np.asarray(readout + np.where(alive, events + node.bias, 0))
    return np.asarray(readout + np.where(alive, received(program, node, activations) + node.bias, 0))
