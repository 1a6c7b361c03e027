"""The reference engine: NumPy int64, one timestep after another, slow and obvious. Every other engine must equal it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lavatube import fixed_point
from lavatube.fixed_point import bias_register, step_cuba_lif
from lavatube.inputs import InputBatch
from lavatube.program import Conv2dNode, LifNode, LoihiProgram, ReadoutNode, Synapse
from lavatube.sim.engine import Recording, finish_trace
from lavatube.trace import SpikeTrace


def activation(synapse: Synapse, events: np.ndarray) -> np.ndarray:
    """a = (weights applied to events) shifted by weight_exp. events: [B, ...] int64. Returns [B, ...] int64."""
    weight = synapse.weight.astype(np.int64)
    if not isinstance(synapse, Conv2dNode):
        return fixed_point.activation(events.reshape(len(events), -1) @ weight.T, synapse.weight_exp)
    (pad_y, pad_x), (stride_y, stride_x) = synapse.padding, synapse.stride
    padded = np.pad(events, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    channels, height, width = synapse.out_shape
    total = np.zeros((len(events), channels, height * width), np.int64)
    for y in range(weight.shape[2]):
        for x in range(weight.shape[3]):
            seen = padded[:, :, y : y + stride_y * height : stride_y, x : x + stride_x * width : stride_x]
            total += weight[:, :, y, x] @ seen.reshape(*seen.shape[:2], -1)  # NumPy's own int64 loop, no floats
    return fixed_point.activation(total.reshape(-1, *synapse.out_shape), synapse.weight_exp)


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
    u = {node.name: np.zeros((inputs.batch, *node.shape), np.int64) for node in program.neurons}
    v = {name: np.zeros_like(value) for name, value in u.items()}
    readout = np.zeros((inputs.batch, *program.readout.shape), np.int64)
    history: list[list[np.ndarray]] = [[] for _ in program.layers]  # events into each synapse, oldest first
    for t in range(inputs.num_steps):
        events = inputs.events[t]
        for layer, (synapse, target) in enumerate(program.layers):
            history[layer].append(events)
            seen = history[layer][t - synapse.delay] if t >= synapse.delay else np.zeros_like(events)
            a = activation(synapse, seen)
            if isinstance(target, ReadoutNode):
                readout += np.where((t < inputs.length)[:, None], a + target.bias, 0)
            else:
                events = _step(target, a, u, v, recording, t)
        if progress is not None:
            progress(t + 1, inputs.num_steps)
    return finish_trace(recording, readout, engine="reference", device="cpu")


def _step(
    node: LifNode, a: np.ndarray, u: dict[str, np.ndarray], v: dict[str, np.ndarray], recording: Recording, t: int
) -> np.ndarray:
    bias = bias_register(node.bias_mant, node.bias_exp)
    u[node.name], v[node.name], spikes, wrapped, saturated = step_cuba_lif(
        u[node.name], v[node.name], a, bias, du=node.du, dv=node.dv, vth=node.vth
    )
    recording.step(node.name, t, spikes, u=u[node.name], v=v[node.name], wrapped=wrapped, saturated=saturated)
    return spikes.astype(np.int64)
