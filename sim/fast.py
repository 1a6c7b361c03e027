"""The fast engine: batched torch. Feed-forward programs go node by node through all timesteps, others step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from lavatube.fixed_point import bias_register
from lavatube.inputs import InputBatch
from lavatube.program import InputNode, LoihiProgram, NeuronNode, ReadoutNode
from lavatube.sim.engine import Recording, finish_trace
from lavatube.sim.fast_neurons import Population, run_population
from lavatube.sim.fast_synapses import activation, delayed
from lavatube.trace import SpikeTrace
from lavatube.train.device import torch_device
from lavatube.train.integer_step import int32

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
    widest = max(int(np.prod(synapse.out_shape)) for synapse in program.synapses)
    chunk = max(1, ELEMENTS_AT_ONCE // (widest * inputs.num_steps))
    run_chunk = _by_steps if program.is_recurrent else _by_nodes
    with torch.no_grad():
        for start in range(0, inputs.batch, chunk):
            rows = slice(start, start + chunk)
            events = torch.tensor(np.ascontiguousarray(inputs.events[:, rows]), device=device)
            length = torch.tensor(inputs.length[rows], device=device)
            readout[rows] = run_chunk(program, events, length, recording, rows).cpu().numpy()
            if progress is not None:
                progress(min(start + chunk, inputs.batch), inputs.batch)
    return finish_trace(recording, readout, engine="fast", device=device)


def _by_nodes(
    program: LoihiProgram, events: torch.Tensor, length: torch.Tensor, recording: Recording, rows: slice
) -> torch.Tensor:
    """Each node through all timesteps. events: [T, B, ...] int64; length: [B]. Returns the read-out [B, classes]."""
    made: dict[str, torch.Tensor] = {}
    voltage: dict[str, torch.Tensor] = {}
    steps = events.shape[:2]
    readout = program.readout
    watched = {program.read_by(readout).name} if readout.reads == "voltage" else set()
    for node in program.nodes:
        if isinstance(node, InputNode):
            made[node.name] = events
        elif isinstance(node, NeuronNode):
            a = _received(program, node, made).reshape(*steps, *node.shape)
            run = run_population(node, a, keep=recording.kept | ({"v"} if node.name in watched else set()))
            _record(recording, node, rows, run.events, run.states, run.wrapped, run.saturated)
            made[node.name] = run.events.to(torch.int64)
            if node.name in watched:
                voltage[node.name] = run.states["v"]
        elif isinstance(node, ReadoutNode):
            if node.reads == "voltage":
                return _last(voltage[program.read_by(node).name], length) + _bias(node, events)
            each = made[program.read_by(node).name] if node.reads == "spikes" else _received(program, node, made)
            return _sum(each.reshape(*steps, *node.shape) + _bias(node, events), length)
        else:
            source = program.source_of(node)
            seen = delayed(made[source.name], program.lag(node)).reshape(*steps, *node.in_shape)
            made[node.name] = activation(node, seen, source.event_range)
    raise AssertionError("a program ends in a read-out")


def _by_steps(
    program: LoihiProgram, events: torch.Tensor, length: torch.Tensor, recording: Recording, rows: slice
) -> torch.Tensor:
    """All nodes, one timestep after another: for programs with cycles. As `_by_nodes`."""
    steps, batch = events.shape[:2]
    made: dict[str, torch.Tensor] = {program.input.name: events}
    populations: dict[str, Population] = {}
    kept: dict[str, dict[str, torch.Tensor]] = {}
    counted: dict[str, torch.Tensor] = {}
    for neurons in program.neurons:
        like = torch.zeros(batch, *neurons.shape, dtype=torch.int64, device=events.device)
        bias = torch.tensor(bias_register(neurons.bias_mant, neurons.bias_exp), device=events.device)
        populations[neurons.name] = Population(neurons, bias, like)
        made[neurons.name] = like.new_zeros(steps, *like.shape)
        kept[neurons.name] = {name: like.new_zeros(steps, *like.shape) for name in recording.kept}
        counted[neurons.name] = like.new_zeros(2, steps, batch)
    readout = program.readout
    now: dict[str, torch.Tensor] = {}
    total = events.new_zeros(batch, *readout.shape)
    for t in range(steps):
        alive = (t < length)[:, None]
        for node in program.nodes:
            if isinstance(node, NeuronNode):
                population = populations[node.name]
                a = _received(program, node, now, axis=1).reshape(batch, *node.shape)
                made[node.name][t], wraps, clips = population.step(a, t)
                counted[node.name][0, t], counted[node.name][1, t] = wraps.flatten(1).sum(1), clips.flatten(1).sum(1)
                for name, value in (("u", population.u), ("v", population.v)):
                    if name in kept[node.name]:
                        kept[node.name][name][t] = value
            elif isinstance(node, ReadoutNode):
                if node.reads == "voltage":
                    v = populations[program.read_by(node).name].v.reshape(total.shape)
                    total = torch.where(alive, v, total)
                else:
                    read = (
                        made[program.read_by(node).name][t]
                        if node.reads == "spikes"
                        else _received(program, node, now, 1)
                    )
                    total = total + torch.where(alive, read.reshape(total.shape) + _bias(node, events), 0)
            elif not isinstance(node, InputNode):
                source, at = program.source_of(node), t - program.lag(node)
                seen = made[source.name][at] if at >= 0 else torch.zeros_like(made[source.name][0])
                seen = seen.reshape(1, batch, *node.in_shape)
                now[node.name] = activation(node, seen, source.event_range)[0]
    for neurons in program.neurons:
        _record(recording, neurons, rows, made[neurons.name], kept[neurons.name], *counted[neurons.name])
    return total + _bias(readout, events) if readout.reads == "voltage" else total


def _received(
    program: LoihiProgram, target: NeuronNode | ReadoutNode, made: dict[str, torch.Tensor], axis: int = 2
) -> torch.Tensor:
    """Sum of a target's activations in int32 (wrap), flat behind `axis`."""
    parts = [made[synapse.name].flatten(axis) for synapse in program.inbound(target)]
    return parts[0] if len(parts) == 1 else int32(torch.stack(parts).sum(0))


def _bias(node: ReadoutNode, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(node.bias, device=like.device)


def _sum(each: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """Over the sample's timesteps. each: [T, B, classes]."""
    counts = torch.arange(len(each), device=each.device)[:, None] < length
    return (each * counts[..., None]).sum(0)


def _last(v: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    """The value after each sample's last timestep, 0 for samples of none. v: [T, B, ...]."""
    at = v.flatten(2)[(length - 1).clamp(min=0), torch.arange(len(length), device=v.device)]
    return at * (length > 0)[:, None]


def _record(
    recording: Recording,
    node: NeuronNode,
    rows: slice,
    events: torch.Tensor,
    states: dict[str, torch.Tensor],
    wrapped: torch.Tensor,
    saturated: torch.Tensor,
) -> None:
    recording.population(
        node.name,
        rows,
        spikes=events.cpu().numpy(),
        states={name: states[name].cpu().numpy() for name in recording.kept},
        wrapped=wrapped.cpu().numpy(),
        saturated=saturated.cpu().numpy(),
    )
