"""When things happen in Lava, where every synapse costs one tick, and how long each synapse has to wait for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram, Synapse, Target


@dataclass(frozen=True)
class Timing:
    """latency: {node: ticks by which it lags the input}; wait: {synapse: ticks that it has to hold events back}.

    streams: nothing reaches from one timestep into a later one but through a neuron's state, so that samples can follow
    each other.
    """

    latency: Mapping[str, int]
    wait: Mapping[str, int]
    streams: bool

    @property
    def depth(self) -> int:
        return max(self.latency.values())


def timing(program: LoihiProgram) -> Timing:
    """The smallest latencies with which the events of one logical timestep meet at every target.

    A synapse with lag k (its delay, and one more on the way back of a cycle) brings step t of its source to step t + k
    of its target: latency(target) = latency(source) + 1 - k + wait, with wait >= 0.
    raises: UnsupportedError for a cycle with more synapses than the timesteps it takes.
    """
    latency = {node.name: 0 for node in (*program.inputs, *program.targets)}
    ways = [(program.source_of(synapse).name, target.name, synapse) for target, synapse in _drives(program)]
    for _ in range(len(latency) + 1):
        late = [way for way in ways if latency[way[0]] + 1 - program.lag(way[2]) > latency[way[1]]]
        if not late:
            break
        for source, target, synapse in late:
            latency[target] = max(latency[target], latency[source] + 1 - program.lag(synapse))
    else:
        raise UnsupportedError(
            "a cycle with more synapses than timesteps: each synapse takes one tick in Lava, as on the chip",
            where=late[0][2].name,
            expected="as many timesteps as synapses around the cycle",
            remedy="give a synapse of the cycle a delay, or run it on the reference or the fast engine",
        )
    wait = {
        synapse.name: latency[target] - latency[source] - 1 + program.lag(synapse) for source, target, synapse in ways
    }
    for readout in program.readouts:
        if not program.inbound(readout):
            latency[readout.name] = latency[program.read_by(readout).name]
    latency |= {synapse.name: latency[target] for _, target, synapse in ways}
    return Timing(latency, wait, not any(program.lag(synapse) for synapse in program.synapses))


def _drives(program: LoihiProgram) -> list[tuple[Target, Synapse]]:
    targets: tuple[Target, ...] = program.targets
    return [(target, synapse) for target in targets for synapse in program.inbound(target)]
