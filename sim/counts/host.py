"""What crosses between host and chip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, Source
from lavatube.sim.counts.events import alive, events_of
from lavatube.sim.counts.steps import layer_name
from lavatube.trace import SpikeTrace

MESSAGE_BYTES = 4  # a spike message has 32 bits (Davies et al. 2018), with or without payload
VOLTAGE_BYTES = 4


def host_bytes(program: LoihiProgram, trace: SpikeTrace) -> tuple[int, int]:
    """(in, out): 4 bytes for each event of an input, and for each event or voltage that a read-out needs."""
    within = alive(trace)

    def events(source: Source) -> int:
        seen = np.count_nonzero(events_of(source, trace).reshape(*within.shape, -1), axis=-1)
        return int((seen * within).sum())

    sent = {source.name: events(source) for source in program.sources}
    return bytes_of(program, sent, int((trace.length > 0).sum()))


def bytes_of(program: LoihiProgram, events: Mapping[str, int], running: int) -> tuple[int, int]:
    """As `host_bytes`. events: {source: its events within the lengths}; running: samples of at least one timestep."""
    inward = sum(events[node.name] for node in program.inputs)
    outward, voltages = set(), 0
    for readout in program.readouts:
        if readout.reads == "voltage":
            voltages += int(np.prod(program.read_by(readout).shape)) * running
        elif readout.reads == "spikes":
            outward.add(program.read_by(readout).name)
        else:
            sources = [program.source_of(synapse) for synapse in program.inbound(readout)]
            outward |= {source.name for source in sources if isinstance(source, NeuronNode)}
    sent = sum(events[name] for name in outward)
    return MESSAGE_BYTES * inward, MESSAGE_BYTES * sent + VOLTAGE_BYTES * voltages


def weight_bits(program: LoihiProgram) -> dict[str, int]:
    """{layer: bits of its stored weights}, a shared kernel's once; without the indices of sparse formats."""
    return {
        layer_name(program, target): sum(
            synapse.weight.size * synapse.num_weight_bits for synapse in program.inbound(target)
        )
        for target in program.targets
    }
