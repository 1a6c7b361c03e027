"""SANA-FE (Boyle et al., IEEE TCAD 44(8), 2025) on a program's connections, cores and spikes: what it counts of them.

Its spike messages, synapses and chip are of its own making; from here come only a network description and a chip
without prices. Two ways: `given` forces every spike (its input units, behind synapses of weight 0: their number counts,
their charge must not), so any program's spikes can be sent. Else its own neurons fire, which hold the state in floats:
for neurons that keep their whole voltage, forget their current and have no bias those are our integers.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from expanded import connections

from lavatube.program import LoihiProgram, NeuronNode, Source
from lavatube.sim.connectivity import reached
from lavatube.sim.counts import Placed
from lavatube.trace import SpikeTrace

SOMA = ("access_neuron", "update_neuron", "spike_out")


@dataclass(frozen=True)
class SanafeCounts:
    """Over the run. synapse_hits: connections that its messages reached; fired: of populations, not of inputs.

    packets: spike messages, those of the inputs included; hops: tiles that messages between cores of populations cross,
    (east-west, north-south); updates: neurons that it calls updated.
    """

    synapse_hits: int
    packets: int
    packets_of_inputs: int
    hops: tuple[int, int]
    fired: int
    updates: int


def charged_updates(program: LoihiProgram, trace: SpikeTrace) -> int:
    """Updates as its own neurons count them: those with an event, and those that hold a voltage before it.

    trace: of one sample with v recorded, of a chain of layers. Layer by layer its neurons begin a timestep later than
    ours, so the first ones see timesteps without events at the end.
    """
    total = 0
    for layer, node in enumerate(program.neurons):
        (synapse,) = program.inbound(node)
        source = program.source_of(synapse)
        sent = trace.spikes[source.name] if isinstance(source, NeuronNode) else trace.inputs[source.name]
        hit = reached(synapse, sent[:, 0].reshape(-1, *synapse.in_shape)).reshape(trace.num_steps, -1)
        v = trace.v[node.name][:, 0].reshape(trace.num_steps, -1)
        before = np.concatenate([np.zeros_like(v[:1]), v[:-1]]) != 0
        total += int((hit | before).sum()) + (len(program.neurons) - 1 - layer) * int(np.count_nonzero(v[-1]))
    return total


def sanafe_counts(program: LoihiProgram, trace: SpikeTrace, placement: Placed, *, given: bool) -> SanafeCounts:
    """Run SANA-FE on a trace's inputs of one sample; given: with its spikes, too. All events are binary."""
    import sanafe

    core_of = dict(placement.core_of)
    host = len(placement.tile)  # a core for the inputs, on a tile of its own
    tile = np.concatenate([placement.tile, [[placement.tile[:, 0].max() + 1, 0]]])
    core_of |= {node.name: np.full(math.prod(node.shape), host) for node in program.inputs}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.yaml"
        neurons = np.bincount(np.concatenate(list(core_of.values())), minlength=host + 1)
        path.write_text(json.dumps(_chip(tile, neurons)), encoding="utf-8")
        chip_description = sanafe.load_arch(str(path))
    cores = {core.name.removesuffix("[0]"): core for tile in chip_description.tiles for core in tile.cores}
    net, groups = sanafe.Network(), {}
    used = dict.fromkeys(range(host + 1), 0)
    for source in program.sources:
        forced = given or not isinstance(source, NeuronNode)
        sent = trace.spikes[source.name] if isinstance(source, NeuronNode) else trace.inputs[source.name]
        sent = sent[:, 0].reshape(trace.num_steps, -1)
        group = groups[source.name] = net.create_neuron_group(source.name, sent.shape[1])
        for number, core in enumerate(core_of[source.name].tolist()):
            unit = f"given[{used[core]}]" if forced else "neuron"
            attributes = {"spikes": [bool(event) for event in sent[:, number]]} if forced else _own(source)
            group[number].set_attributes(
                soma_hw_name=unit, default_synapse_hw_name="synapse", dendrite_hw_name="dendrite",
                model_attributes=attributes,
            )  # fmt: skip
            used[core] += 1
    for source in program.sources:
        for number, core in enumerate(core_of[source.name].tolist()):
            groups[source.name][number].map_to_core(cores[f"core{core}"])
    targets = {name: target for name, target in program.edges if target in groups}
    for synapse in program.synapses:
        if synapse.name not in targets:
            continue  # into a read-out on the host
        pairs = connections(synapse)
        weights = [0.0 if given else float(weight) for _, _, weight in pairs]
        groups[program.source_of(synapse).name].connect_neurons_sparse(
            groups[targets[synapse.name]], {"weight": weights}, [(origin, to) for origin, to, _ in pairs]
        )
    chip = sanafe.SpikingChip(chip_description)
    chip.load(net)
    drain = 0 if given else len(program.neurons)  # each layer sees an event one timestep later
    found = chip.sim(trace.num_steps + drain, timing_model="simple", message_trace=True)
    sent_by = [message for step in found["message_trace"] for message in step if not message["placeholder"]]
    inner = [message for message in sent_by if message["src_x"] != tile[host, 0]]
    of_inputs = int(sum(np.count_nonzero(trace.inputs[node.name]) for node in program.inputs))
    return SanafeCounts(
        found["spikes"],
        found["packets_sent"],
        len(sent_by) - len(inner),
        (
            sum(abs(message["dest_x"] - message["src_x"]) for message in inner),
            sum(abs(message["dest_y"] - message["src_y"]) for message in inner),
        ),
        found["neurons_fired"] - of_inputs,
        found["neurons_updated"] - of_inputs,
    )


def _own(source: Source) -> dict[str, object]:
    """Its LIF for a population without a bias that forgets its current and keeps its whole voltage."""
    assert isinstance(source, NeuronNode)
    assert (source.du, source.dv, source.reset, source.bias_mant.any()) == (4095, 0, "zero", False)
    return {"threshold": float(source.vth), "leak_decay": 1.0, "reset": 0.0, "reset_mode": "hard"}


def _chip(tile: np.ndarray, neurons: np.ndarray) -> dict[str, object]:
    """Cores on a mesh of tiles, every price 0. tile: [cores, 2] x and y; neurons: [cores] input units of each."""
    width, height = (tile.max(0) + 1).tolist()
    free = dict.fromkeys(("energy_message_in", "latency_message_in"), 0.0)
    sends = dict.fromkeys(("energy_message_out", "latency_message_out"), 0.0)

    def core(number: int) -> dict[str, object]:
        size = max(int(neurons[number]), 1)
        return {
            "name": f"core{number}",
            "attributes": {"buffer_position": "soma", "buffer_inside_unit": False, "max_neurons_supported": size},
            "axon_in": [{"name": "in", "attributes": free}],
            "synapse": [_unit("synapse", "current_based", "process_spike")],
            "dendrite": [_unit("dendrite", "accumulator", "update")],
            "soma": [
                _unit("neuron", "leaky_integrate_fire", *SOMA),
                _unit(f"given[0..{size - 1}]", "input", *SOMA),
            ],
            "axon_out": [{"name": "out", "attributes": sends}],
        }

    hop = {f"{kind}_{way}_hop": 0.0 for kind in ("energy", "latency") for way in ("north", "east", "south", "west")}
    tiles = []
    for x, y in np.ndindex(width, height):  # SANA-FE's own order of tiles
        here = np.flatnonzero((tile == (x, y)).all(1)).tolist()
        tiles.append({"name": f"tile{x}_{y}", "attributes": hop, "core": [core(number) for number in here]})
    mesh = {"topology": "mesh", "width": width, "height": height, "link_buffer_size": 16}
    return {"architecture": {"name": "chip", "attributes": {**mesh, "sync_model": "fixed"}, "tile": tiles}}


def _unit(name: str, model: str, *costs: str) -> dict[str, object]:
    prices = {f"{kind}_{cost}": 0.0 for kind in ("energy", "latency") for cost in costs}
    return {"name": name, "attributes": {"model": model, **prices}}
