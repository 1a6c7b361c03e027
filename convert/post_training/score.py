"""What a population in integers does with the events of the float network: its spikes beside the float ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lavatube import fixed_point as fp
from lavatube.convert.post_training.integers import Made, Weights
from lavatube.neuron_step import at_rest, step
from lavatube.program import NeuronNode
from lavatube.trace import within_length

VALUES_MAX = 1 << 24  # events x neurons of a population that is stepped for a score


@dataclass(frozen=True)
class Calibration:
    """What the float network did. events: [T, B, ...] integers by source; output: spikes, or v of what never spikes.

    length: [B] timesteps that count; beyond it, events and output are 0.
    """

    events: Mapping[str, np.ndarray]
    output: Mapping[str, np.ndarray]
    length: np.ndarray


def score(made: Made, calibration: Calibration) -> tuple[float, float]:
    """(error of the spike counts, share of spikes that differ) of a population that sees the float network's events.

    Of one that never spikes: (relative error of v, 0).
    """
    node = made.node
    assert isinstance(node, NeuronNode)
    truth = calibration.output[node.name]
    steps, batch = _window(made, calibration)
    state, events = at_rest(node, batch), np.zeros((steps, batch, *node.shape), np.int64)
    drive = np.zeros((steps, batch, math.prod(node.shape)), np.int64)
    for each in made.weights:
        drive += fp.shift(_sums(each, calibration, steps, batch), each.shift)
    voltages = np.zeros_like(events)
    for t in range(steps):
        state, done = step(node, state, drive[t].reshape(batch, *node.shape), t)
        events[t], voltages[t] = done.events, state.v
    truth = truth[:, :batch].reshape(events.shape)
    events, voltages = (within_length(each, calibration.length[:batch]) for each in (events, voltages))
    if node.output == "none":
        v = voltages / (made.unit * (1 << fp.ACTIVATION_SHIFT))
        return float(np.abs(v - truth).sum() / max(np.abs(truth).sum(), 1e-12)), 0.0
    total = max(float(truth.sum()), 1.0)
    counts = np.abs(events.sum(0) - truth.sum(0, dtype=np.int64)).sum()
    return float(counts) / total, float(np.abs(events - truth).sum()) / total


def lost_of(made: Made, calibration: Calibration) -> np.ndarray:
    """See `Made.lost`. Of an image the mean of each channel: a bias that NIR can say."""
    assert isinstance(made.node, NeuronNode)
    shape, (steps, batch) = made.node.shape, _window(made, calibration)
    lost = np.zeros(math.prod(shape))
    for each in made.weights:
        if each.floors:
            fraction = _sums(each, calibration, steps, batch) % (1 << -each.shift)
            lost += within_length(fraction, calibration.length[:batch]).sum((0, 1)) * 2.0**each.shift
    lost = (lost / max(int(calibration.length[:batch].sum()), 1)).reshape(shape)
    if len(shape) == 1:
        return lost
    channels = lost.reshape(shape[0], -1).mean(1).reshape(-1, *(1,) * (len(shape) - 1))
    return np.array(np.broadcast_to(channels, shape))


def _window(made: Made, calibration: Calibration) -> tuple[int, int]:
    """Timesteps and samples that are looked at."""
    steps, batch = calibration.output[made.node.name].shape[:2]
    size = max(math.prod(made.node.shape), *(math.prod(each.operator.in_shape) for each in made.weights))
    return steps, max(1, min(batch, VALUES_MAX // (steps * size)))


def _sums(weights: Weights, calibration: Calibration, steps: int, batch: int) -> np.ndarray:
    """Of integer weights times events: [T, B, neurons] int64."""
    seen = np.ones((steps, batch, 1)) if weights.pulse else calibration.events[weights.source][:, :batch]
    late = np.zeros_like(seen)
    late[weights.lag :] = seen[: steps - weights.lag] if weights.lag else seen
    operator = replace(weights.operator, weight=weights.integers.astype(np.float64))
    sums = operator(late.reshape(steps * batch, *late.shape[2:]))
    return np.asarray(np.rint(sums), np.int64).reshape(steps, batch, -1)
