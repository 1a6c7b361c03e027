"""When things happen in Lava, where every synapse costs one tick, and how long each synapse has to wait for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lavatube.errors import UnsupportedError
from lavatube.program import LoihiProgram, Synapse


@dataclass(frozen=True)
class Timing:
    """latency: {node: ticks by which it lags the input}; wait: {synapse: ticks that it has to hold events back}."""

    latency: Mapping[str, int]
    wait: Mapping[str, int]

    @property
    def depth(self) -> int:
        return max(self.latency.values())


def timing(program: LoihiProgram) -> Timing:
    """Path lengths balanced: events of one logical timestep meet at every target, whatever way they came.

    A target lags the input as its longest path does. On shorter paths the synapse waits, so windows of samples stay
    windows of samples at every target.
    raises: UnsupportedError for delays and cycles, which reach into the next window.
    """
    latency = {node.name: 0 for node in program.inputs}
    wait: dict[str, int] = {}
    for synapse in program.synapses:
        _refuse_late(program, synapse)
    for target in program.targets:  # in order of the nodes, so every source comes before
        inbound = program.inbound(target)
        if not inbound:
            latency[target.name] = latency[program.read_by(target).name]  # type: ignore[arg-type]
            continue
        arrival = {synapse.name: latency[program.source_of(synapse).name] + 1 for synapse in inbound}
        latency[target.name] = max(arrival.values())
        for name, ticks in arrival.items():
            wait[name] = latency[target.name] - ticks
            latency[name] = latency[target.name]
    return Timing(latency, wait)


def _refuse_late(program: LoihiProgram, synapse: Synapse) -> None:
    lag = program.lag(synapse)
    if lag:
        what = "a delay" if synapse.delay else "a cycle"
        raise UnsupportedError(
            f"{what} would leak into the next sample's window",
            where=synapse.name,
            expected="delay 0, and a source before the synapse",
            got=f"{lag} timesteps",
            remedy="run it on the reference or the fast engine",
        )
