"""The fast engine: batched torch, layer by layer; a synapse for all timesteps at once, the neurons step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lavatube.fixed_point import bias_register
from lavatube.inputs import InputBatch
from lavatube.program import Conv2dNode, LifNode, LoihiProgram, Synapse
from lavatube.sim.engine import Recording, finish_trace
from lavatube.trace import SpikeTrace
from lavatube.train.device import torch_device
from lavatube.train.exact_sums import exact_conv2d, exact_linear
from lavatube.train.integer_step import int32, run_lif

ELEMENTS_AT_ONCE = 1 << 24  # of the widest layer's [T, B, ...]; bounds the memory of one chunk of samples


def run_fast(
    program: LoihiProgram,
    inputs: InputBatch,
    *,
    record: frozenset[str] = frozenset(),
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> SpikeTrace:
    """Run a program; the same trace as `run_reference`. record: of {"u", "v"}; progress: (samples done, samples)."""
    torch_device(device)
    recording = Recording(program, inputs, record)
    readout = np.zeros((inputs.batch, *program.readout.shape), np.int64)
    widest = max(int(np.prod(synapse.out_shape)) for synapse, _ in program.layers)
    chunk = max(1, ELEMENTS_AT_ONCE // (widest * inputs.num_steps))
    with torch.no_grad():
        for start in range(0, inputs.batch, chunk):
            rows = slice(start, start + chunk)
            events = torch.tensor(np.ascontiguousarray(inputs.events[:, rows]), device=device)
            max_event = program.input.max_value
            for synapse, target in program.layers:
                a = activation(synapse, delayed(events, synapse.delay), max_event)
                max_event = 1
                if isinstance(target, LifNode):
                    events = _step_all(target, a, recording, rows)
                else:
                    steps = torch.arange(inputs.num_steps, device=device)[:, None]
                    counts = steps < torch.tensor(inputs.length[rows], device=device)
                    total = (a + torch.tensor(target.bias, device=device)) * counts[..., None]
                    readout[rows] = total.sum(0).cpu().numpy()
            if progress is not None:
                progress(min(start + chunk, inputs.batch), inputs.batch)
    return finish_trace(recording, readout, engine="fast", device=device)


def delayed(events: torch.Tensor, delay: int) -> torch.Tensor:
    """Events [T, B, ...] as the synapse sees them: `delay` steps later, nothing before."""
    if not delay:
        return events
    silence = torch.zeros_like(events[:delay])
    return torch.cat([silence, events[: len(events) - len(silence)]])


def activation(synapse: Synapse, events: torch.Tensor, max_event: int) -> torch.Tensor:
    """Shifted synaptic sums of events [T, B, ...] int64; returns [T, B, ...] int64."""
    weight = torch.tensor(synapse.weight, device=events.device)
    flat = events.flatten(0, 1)
    if isinstance(synapse, Conv2dNode):
        total = exact_conv2d(flat, weight, synapse.stride, synapse.padding, max_event)
    else:
        total = exact_linear(flat.flatten(1), weight, max_event)
    e = synapse.weight_exp
    total = int32(total)
    shifted = int32(total << e if e >= 0 else total >> -e)
    return shifted.reshape(*events.shape[:2], *shifted.shape[1:])


def _step_all(node: LifNode, a: torch.Tensor, recording: Recording, rows: slice) -> torch.Tensor:
    bias = torch.tensor(bias_register(node.bias_mant, node.bias_exp), device=a.device)
    keep = recording.kept
    run = run_lif(a, bias, du=node.du, dv=node.dv, vth=node.vth, keep=keep)
    recording.population(
        node.name,
        rows,
        spikes=run.spikes.cpu().numpy(),
        states={name: run.states[name].cpu().numpy() for name in keep},
        wrapped=run.wrapped.cpu().numpy(),
        saturated=run.saturated.cpu().numpy(),
    )
    return run.spikes.to(torch.int64)
