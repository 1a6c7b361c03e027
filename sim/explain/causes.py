"""The alternatives, tried on what one side recorded, the one that explains most first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, ReadoutNode, Target
from lavatube.sim.explain.changed_weight import changed_weights
from lavatube.sim.explain.replay import neurons, of_neuron, replay
from lavatube.sim.explain.rule import ALTERNATIVES, DEFINITION, OF_READOUTS, Rule
from lavatube.sim.explain.side import Side

OF_INPUT = frozenset({  # rules that mean something to a read-out, which has no state
    "input one step late", "input one step early", "weights one bit shorter, down", "weights one bit shorter, to zero",
    "weights turned", "shift toward zero", "weight exponent one higher", "weight exponent one lower", "events as bits",
    "missing bias", "doubled bias", "bias of the other sign", "bias one step late",
})  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """A rule and what it reproduces: the diverging neuron, and how many neurons of the layer."""

    rule: Rule
    neuron: bool
    neurons: int


@dataclass(frozen=True)
class Judged:
    """One side. follows: whether the definition reproduces the neuron; of: neurons in the layer; tried: rules."""

    name: str
    follows: bool
    by_definition: int
    of: int
    tried: int
    causes: tuple[Cause, ...]

    @property
    def explained(self) -> bool:
        """Whether the first cause gives more than half of what the definition leaves over in the layer."""
        return bool(self.causes) and 2 * (self.causes[0].neurons - self.by_definition) > self.of - self.by_definition


def judge(program: LoihiProgram, side: Side, neuron: tuple[int, ...], *, guess: bool = True) -> Judged:
    """Does this side follow the definition, and if not, which rule does it follow?

    causes: those that reproduce the neuron, by how much of the layer they reproduce; ties in the table's order.
    """
    target = side.target
    honest = side.same(replay(program, target, side.recorded))
    follows, size = bool(honest[neuron]), int(np.prod(target.shape))
    if follows or not guess:
        return Judged(side.name, follows, int(honest.sum()), size, 0, ())
    rules = alternatives(program, target)
    rules += changed_weights(program, target, neuron, side)
    causes = []
    for rule in rules:
        right = side.same(replay(program, target, side.recorded, rule))
        if right[neuron]:
            causes.append(Cause(rule, True, int(right.sum())))
    if isinstance(target, NeuronNode):
        causes += _one_bias(target, side, neuron, honest, program)
    causes.sort(key=lambda cause: -cause.neurons)
    return Judged(side.name, False, int(honest.sum()), size, len(rules), tuple(causes))


def alternatives(program: LoihiProgram, target: Target) -> list[Rule]:
    """The rules that could matter to a target."""
    table = list(ALTERNATIVES)
    if isinstance(target, ReadoutNode):
        table = [*OF_READOUTS, *(rule for rule in ALTERNATIVES if rule.key in OF_INPUT)]
    names = [synapse.name for synapse in program.inbound(target)]
    table += [Rule("missing synapse", f"leaves out {name}", without=name) for name in names]
    return table + [Rule("doubled synapse", f"counts {name} twice", twice=name) for name in names]


def _one_bias(
    target: NeuronNode, side: Side, neuron: tuple[int, ...], honest: np.ndarray, program: LoihiProgram
) -> list[Cause]:
    """Another bias of this neuron alone, read off the first difference of v where u is right."""
    if side.v is None or side.u is None:
        return []
    got = replay(program, target, side.recorded)
    assert got.v is not None
    assert got.u is not None
    here, theirs = of_neuron(got.v, neuron), of_neuron(side.v, neuron)
    off = np.argwhere((here != theirs) & side.recorded.alive)
    if not len(off) or ((of_neuron(got.u, neuron) != of_neuron(side.u, neuron)) & side.recorded.alive).any():
        return []
    t, s = (int(i) for i in off[0])
    before = int(target.bias_mant[neuron])
    difference = int(theirs[t, s] - here[t, s])
    if difference % (1 << target.bias_exp):
        return []
    after = before + (difference >> target.bias_exp)
    replayed = neurons(target, of_neuron(got.activation, neuron)[..., None], np.array([after], np.int64), DEFINITION)
    if not side.same_neuron(neuron, replayed)[0]:
        return []
    rule = Rule("one changed bias", f"has the bias mantissa {after} instead of {before} at this neuron")
    return [Cause(rule, True, int(honest.sum()) + 1)]
