"""When things happen in Lava, where every synapse costs one tick, and how long each synapse has to wait for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lavatube.program import LoihiProgram, Synapse, Target

NO_WINDOW = 1 << 30  # timesteps, more than any run has


@dataclass(frozen=True)
class Timing:
    """latency: {node: ticks by which it lags the input}; wait: {synapse: ticks that it has to hold events back}.

    streams: nothing reaches from one timestep into a later one but through a neuron's state, so that samples can follow
    each other.
    pace: ticks of a timestep, more than one where a cycle has more synapses than timesteps; populations take their step
    at the first of them and are silent at the others.
    """

    latency: Mapping[str, int]
    wait: Mapping[str, int]
    streams: bool
    pace: int = 1

    @property
    def depth(self) -> int:
        return max(self.latency.values())

    def window(self, num_steps: int) -> int:
        """Timesteps after which a population begins anew: those of a sample, where samples follow each other."""
        return num_steps if self.streams else NO_WINDOW

    def first_tick(self, name: str) -> int:
        """Of a population's first timestep: one after its latency."""
        return self.latency[name] + 1


def timing(program: LoihiProgram) -> Timing:
    """The smallest pace, and with it latencies, with which the events of one logical timestep meet at every target.

    A synapse with lag k (its delay, and one more on the way back of a cycle) brings step t of its source to step t + k
    of its target: latency(target) = latency(source) + 1 - pace * k + wait, with wait >= 0. Around a cycle that asks for
    pace * (its timesteps) >= (its synapses); every cycle takes at least one timestep, so there always is a pace.
    """
    ways = [(program.source_of(synapse).name, target.name, synapse) for target, synapse in _drives(program)]
    for pace in range(1, len(program.synapses) + 2):
        if (latency := _latencies(program, ways, pace)) is not None:
            break
    else:
        raise AssertionError("a cycle that takes no timestep")
    wait = {
        synapse.name: latency[target] - latency[source] - 1 + pace * program.lag(synapse)
        for source, target, synapse in ways
    }
    for readout in program.readouts:
        if not program.inbound(readout):
            latency[readout.name] = latency[program.read_by(readout).name]
    latency |= {synapse.name: latency[target] for _, target, synapse in ways}
    return Timing(latency, wait, not any(program.lag(synapse) for synapse in program.synapses), pace)


def _latencies(program: LoihiProgram, ways: list[tuple[str, str, Synapse]], pace: int) -> dict[str, int] | None:
    """{input or target: ticks by which it lags the input}, the smallest; None if a cycle is too tight for this pace."""
    latency = {node.name: 0 for node in (*program.inputs, *program.targets)}
    for _ in range(len(latency) + 1):
        late = [way for way in ways if latency[way[0]] + 1 - pace * program.lag(way[2]) > latency[way[1]]]
        if not late:
            return latency
        for source, target, synapse in late:
            latency[target] = max(latency[target], latency[source] + 1 - pace * program.lag(synapse))
    return None


def _drives(program: LoihiProgram) -> list[tuple[Target, Synapse]]:
    targets: tuple[Target, ...] = program.targets
    return [(target, synapse) for target in targets for synapse in program.inbound(target)]
