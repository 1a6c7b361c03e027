"""What one engine recorded of a population or read-out, and how much of it a replay reproduces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavatube import fixed_point as fp
from lavatube.program import LoihiProgram, NeuronNode, Target
from lavatube.sim.compare import keyed
from lavatube.sim.explain.replay import Recorded, Replayed, of_neuron, recorded
from lavatube.trace import SpikeTrace, file_keys


@dataclass(frozen=True)
class Side:
    """name: the engine's. spikes, u, v: [T, S, shape] int64, where recorded; readout: [S, classes], of read-outs."""

    name: str
    target: Target
    recorded: Recorded
    spikes: np.ndarray | None
    u: np.ndarray | None
    v: np.ndarray | None
    readout: np.ndarray | None

    def same(self, got: Replayed) -> np.ndarray:
        """[shape] bool: neurons (classes) of which everything that was recorded, of all samples, is reproduced."""
        if self.readout is not None:
            assert got.readout is not None
            return np.asarray((got.readout == self.readout).all(0))
        alive = self.recorded.alive.reshape(*self.recorded.alive.shape, *(1,) * len(self.target.shape))
        pairs = [(self.spikes, got.spikes), (self.u, got.u), (self.v, got.v)]
        right = [((mine == other) | ~alive).all((0, 1)) for mine, other in pairs if mine is not None]
        return np.asarray(np.logical_and.reduce(right))

    def same_neuron(self, neuron: tuple[int, ...], got: Replayed) -> np.ndarray:
        """[C] bool: which of C replays of one neuron reproduce it. got: arrays [T, S, C], or readout [S, C]."""
        if self.readout is not None:
            assert got.readout is not None
            return np.asarray((got.readout == self.readout[:, neuron[0], None]).all(0))
        alive = self.recorded.alive[..., None]
        pairs = [(self.spikes, got.spikes), (self.u, got.u), (self.v, got.v)]
        right = [
            ((of_neuron(mine, neuron)[..., None] == other) | ~alive).all((0, 1))
            for mine, other in pairs
            if mine is not None
        ]
        return np.asarray(np.logical_and.reduce(right))

    def wanted_activation(self, neuron: tuple[int, ...]) -> np.ndarray | None:
        """[T, S]: the activation that the recorded currents u of one neuron come from; None without them."""
        node = self.target
        if self.u is None or not isinstance(node, NeuronNode):
            return None
        u = of_neuron(self.u, neuron)
        before = np.concatenate([np.zeros_like(u[:1]), u[:-1]])
        if node.reset_interval:
            before[node.reset_offset :: node.reset_interval] = 0
        kept = np.abs(before) * (fp.DECAY_ONE - node.du - 1) >> fp.DECAY_BITS
        period = 1 << fp.STATE_BITS
        gained = (u - np.sign(before) * kept + period // 2) % period - period // 2
        return np.asarray(gained >> fp.ACTIVATION_SHIFT)


def side_of(program: LoihiProgram, target: Target, trace: SpikeTrace, samples: Sequence[int], name: str) -> Side:
    """What a trace says of a target in some samples."""
    index = list(samples)

    def part(group: str) -> np.ndarray | None:
        value = getattr(trace, group).get(target.name)
        return None if value is None else value[:, index].astype(np.int64)

    if isinstance(target, NeuronNode):
        return Side(name, target, recorded(program, trace, index), part("spikes"), part("u"), part("v"), None)
    keys = file_keys("readout", [node.name for node in program.readouts])
    readout = keyed("readout", trace.readouts)[keys[target.name]]
    return Side(name, target, recorded(program, trace, index), None, None, None, readout[index])
