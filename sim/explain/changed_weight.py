"""Single weights that, changed, would give what one neuron recorded: a flipped bit, a lost or mistaken weight."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil, floor

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, Synapse, Target
from lavatube.sim.explain.fan_in import FanIn, fan_in
from lavatube.sim.explain.replay import Replayed, activation, neurons, of_neuron, replay
from lavatube.sim.explain.rule import DEFINITION, Rule
from lavatube.sim.explain.side import Side

CANDIDATES = 4096  # changed weights that are tried on the neuron alone
BITS = 9  # magnitude and sign of a mantissa
LARGEST = 1 << BITS


def changed_weights(program: LoihiProgram, target: Target, neuron: tuple[int, ...], side: Side) -> list[Rule]:
    """Rules with one weight changed that reproduce the neuron (or the class) in the samples of this side, all of them.

    Single bits first, then a weight that is lost or of the other sign, then any other. neuron: index in the target.
    """
    found = []
    for each in fan_in(program, target, neuron):
        places, values = _candidates(program, target, neuron, each, side)
        if not len(places):
            continue
        right = _reproduces(program, target, neuron, each, places, values, side)
        found += [_rule(each, int(p), int(v)) for p, v in zip(places[right], values[right], strict=True)]
    return found


def _candidates(
    program: LoihiProgram, target: Target, neuron: tuple[int, ...], each: FanIn, side: Side
) -> tuple[np.ndarray, np.ndarray]:
    """(index into the fan-in, changed weight) of what is worth trying, the likeliest first."""
    events = each.events(program, side.recorded)
    active = np.flatnonzero((events != 0).any((0, 1)))
    weight = each.weight
    found = _missing_activation(program, target, neuron, side)
    if found is None:
        options = [(0, int(k), w) for k in active for w in _bit_flips(int(weight[k]))]
    else:
        difference, steps, s = found
        options = []
        for k in active:
            event = int(events[steps, s, k].sum())
            solved = _solutions(each, int(weight[k]), event, difference, len(steps)) if event else ()
            options += [(_unlikely(int(weight[k]), w), int(k), w) for w in solved]
            if len(options) > 64 * CANDIDATES:  # a shift that leaves everything open
                break
    options = sorted(set(options))[:CANDIDATES]
    return np.array([k for _, k, _ in options], np.int64), np.array([w for _, _, w in options], np.int64)


def _missing_activation(
    program: LoihiProgram, target: Target, neuron: tuple[int, ...], side: Side
) -> tuple[int, np.ndarray, int] | None:
    """(what the activation of one sample is off by, summed over these timesteps, the sample); None if it is unknown.

    Of a neuron the first step where u is off, of a read-out all steps of the first sample where it is.
    """
    if side.readout is not None:
        honest = replay(program, target, side.recorded).readout
        assert honest is not None
        off = side.readout[:, neuron[0]] - honest[:, neuron[0]]
        s = int((off != 0).argmax())
        return int(off[s]), np.arange(int(side.recorded.length[s])), s
    wanted = side.wanted_activation(neuron)
    if wanted is None:
        return None
    by_definition = of_neuron(activation(program, target, side.recorded), neuron)
    where = np.argwhere((wanted != by_definition) & side.recorded.alive)
    if not len(where):
        return 0, np.zeros(0, np.int64), 0
    t, s = (int(i) for i in where[0])
    return int(wanted[t, s] - by_definition[t, s]), np.array([t]), s


def _solutions(each: FanIn, weight: int, event: int, difference: int, steps: int) -> Iterator[int]:
    """Changed weights by which the activation is off by `difference` after `steps`; a right shift leaves some open.

    event: sum of the weight's events in these steps.
    """
    exponent = each.synapse.weight_exp
    slack = 0 if exponent >= 0 else steps * ((1 << -exponent) - 1)
    if exponent >= 0 and difference % (1 << exponent):
        return
    middle = difference >> exponent if exponent >= 0 else difference << -exponent
    ends = sorted((Fraction(middle - slack, event), Fraction(middle + slack, event)))
    for change in range(max(ceil(ends[0]), -LARGEST - weight), min(floor(ends[1]), LARGEST - weight) + 1):
        if change:
            yield weight + change


def _bit_flips(weight: int) -> list[int]:
    return sorted({-weight, 0, *(weight ^ (1 << bit) for bit in range(BITS - 1))} - {weight})


def _unlikely(before: int, after: int) -> int:
    """0 for a flipped bit (in two's complement or in the magnitude), 1 for a lost weight or sign, 2 for another."""
    flips = (before ^ after) & 0x1FF, abs(before) ^ abs(after)
    if any(bits and bits & (bits - 1) == 0 for bits in flips):
        return 0
    return 1 if after in (0, -before) else 2


def _reproduces(
    program: LoihiProgram, target: Target, neuron: tuple[int, ...], each: FanIn, places: np.ndarray,
    values: np.ndarray, side: Side,
) -> np.ndarray:  # fmt: skip
    """[candidates] bool, from the one neuron with each weight, all candidates side by side."""
    events, weight = each.events(program, side.recorded), each.weight
    without = replace(DEFINITION, without=each.synapse.name)
    others = of_neuron(activation(program, target, side.recorded, without), neuron)
    total = (events * weight).sum(-1)[..., None] + (values - weight[places]) * events[..., places]
    exponent = each.synapse.weight_exp
    part = total << exponent if exponent >= 0 else total >> -exponent
    a = others[..., None] + part
    if isinstance(target, NeuronNode):
        bias = target.bias_mant[neuron].astype(np.int64)
        got = neurons(target, a, bias, DEFINITION)
        return side.same_neuron(neuron, got)
    alive = side.recorded.alive[..., None]
    honest = replay(program, target, side.recorded).readout
    assert honest is not None
    base = of_neuron(activation(program, target, side.recorded), neuron)
    readout = honest[:, neuron[0], None] + ((a - base[..., None]) * alive).sum(0)
    return side.same_neuron(neuron, Replayed(a, readout=readout))


def _rule(each: FanIn, place: int, value: int) -> Rule:
    before, name, index = int(each.weight[place]), each.synapse.name, int(each.place[place])
    where = tuple(int(i) for i in np.unravel_index(index, each.synapse.weight.shape))
    says = f"has {value} instead of {before} at weight {list(where)} of {name}"

    def weights(synapse: Synapse) -> np.ndarray:
        changed = np.array(synapse.weight, np.int64)
        if synapse.name == name:
            changed.reshape(-1)[index] = value
        return changed

    return Rule("one changed weight", says, weights=weights)
