"""The alternatives, tried on what one side recorded, the one that explains most first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from lavatube.program import LoihiProgram, NeuronNode, ReadoutNode, Target
from lavatube.sim.explain.changed_weight import changed_weights
from lavatube.sim.explain.fan_in import neuron_activation
from lavatube.sim.explain.other_settings import other_settings
from lavatube.sim.explain.replay import neurons, of_neuron, replay
from lavatube.sim.explain.rule import ALTERNATIVES, OF_READOUTS, Rule
from lavatube.sim.explain.side import Side

KEPT = 32  # rules that are tried on the layer
OF_INPUT = frozenset({  # rules that mean something to a read-out, which has no state
    "input one step late", "input one step early", "weights one bit shorter, down", "weights one bit shorter, to zero",
    "weights turned", "shift toward zero", "weight exponent one higher", "weight exponent one lower", "events as bits",
    "missing bias", "doubled bias", "bias of the other sign", "bias one step late",
})  # fmt: skip


@dataclass(frozen=True)
class Cause:
    """A rule that reproduces the diverging neuron, and how many neurons of the layer it does."""

    rule: Rule
    neurons: int


@dataclass(frozen=True)
class Judged:
    """One side. follows: whether the definition reproduces the neuron; of: neurons in the layer; tried: rules.

    more: rules that reproduce the neuron, too, and were not tried on the layer.
    """

    name: str
    follows: bool
    by_definition: int
    of: int
    tried: int
    causes: tuple[Cause, ...]
    more: int = 0

    @property
    def explained(self) -> bool:
        """Whether the first cause gives more than half of what the definition leaves over in the layer."""
        return bool(self.causes) and 2 * (self.causes[0].neurons - self.by_definition) > self.of - self.by_definition


def judge(
    program: LoihiProgram,
    side: Side,
    neuron: tuple[int, ...],
    *,
    guess: bool = True,
    others: Callable[[], Iterable[Side]] = tuple,
) -> Judged:
    """Does this side follow the definition, and if not, which rule does it follow?

    others: the same engine's other samples, on which the rules are tried that reproduce the neuron in these.
    causes: those that reproduce the neuron, by how much of the layer they reproduce; ties in the table's order.
    """
    target = side.target
    honest = side.same(replay(program, target, side.recorded))
    follows, size = bool(honest[neuron]), int(np.prod(target.shape))
    if follows or not guess:
        return Judged(side.name, follows, int(honest.sum()), size, 0, ())
    rules = alternatives(program, target)
    rules += changed_biases(program, target, neuron, side)
    rules = [rule for rule in rules if reproduces(program, side, neuron, rule)]
    rules += changed_weights(program, target, neuron, side)
    tried = len(alternatives(program, target)) + len(rules)

    def on_the_layer(rules: list[Rule]) -> tuple[list[Cause], int]:
        for other in others():
            rules = [rule for rule in rules if reproduces(program, other, neuron, rule)]
        shown = [(rule, side.same(replay(program, target, side.recorded, rule))) for rule in rules[:KEPT]]
        return [Cause(rule, int(right.sum())) for rule, right in shown], len(rules[KEPT:])

    causes, more = on_the_layer(rules)
    if isinstance(target, NeuronNode) and all(cause.neurons < size for cause in causes):
        rules = other_settings(program, target, neuron, side)
        further, uncounted = on_the_layer(rules)
        causes, more, tried = causes + further, more + uncounted, tried + len(rules)
    causes.sort(key=lambda cause: -cause.neurons)
    return Judged(side.name, False, int(honest.sum()), size, tried, tuple(causes), more)


def reproduces(program: LoihiProgram, side: Side, neuron: tuple[int, ...], rule: Rule) -> bool:
    """Whether a rule gives what the side recorded of one neuron, or of one class of a read-out."""
    target = side.target
    if isinstance(target, ReadoutNode):
        return bool(side.same(replay(program, target, side.recorded, rule))[neuron])
    a = neuron_activation(program, target, neuron, side.recorded, rule)
    bias = (target.bias_mant if rule.biases is None else rule.biases)[neuron].astype(np.int64)
    return bool(side.same_neuron(neuron, neurons(target, a[..., None], bias, rule))[0])


def alternatives(program: LoihiProgram, target: Target) -> list[Rule]:
    """The rules that could matter to a target."""
    table = list(ALTERNATIVES)
    if isinstance(target, ReadoutNode):
        table = [*OF_READOUTS, *(rule for rule in ALTERNATIVES if rule.key in OF_INPUT)]
    names = [synapse.name for synapse in program.inbound(target)]
    table += [Rule("missing synapse", f"leaves out {name}", without=name) for name in names]
    return table + [Rule("doubled synapse", f"counts {name} twice", twice=name) for name in names]


def changed_biases(program: LoihiProgram, target: Target, neuron: tuple[int, ...], side: Side) -> list[Rule]:
    """Another bias of this neuron (or class) alone, at most one."""
    after = (
        _bias_of_class(program, target, neuron, side)
        if isinstance(target, ReadoutNode)
        else _bias_of_neuron(program, target, neuron, side)
    )
    if after is None:
        return []
    biases = np.array(target.bias if isinstance(target, ReadoutNode) else target.bias_mant, np.int64)
    kind, before = ("bias", "class") if isinstance(target, ReadoutNode) else ("bias mantissa", "neuron")
    says = f"has the {kind} {after} instead of {biases[neuron]} at this {before}"
    biases[neuron] = after
    return [Rule("one changed bias", says, biases=biases)]


def _bias_of_class(program: LoihiProgram, target: ReadoutNode, neuron: tuple[int, ...], side: Side) -> int | None:
    """From the first sample that is off: the difference is that of the bias, once for each timestep that is summed."""
    honest = replay(program, target, side.recorded).readout
    assert honest is not None
    assert side.readout is not None
    off = (side.readout - honest)[:, neuron[0]]
    s = int((off != 0).argmax())
    times = 1 if target.reads == "voltage" else max(int(side.recorded.length[s]), 1)
    return None if off[s] % times else int(target.bias[neuron] + off[s] // times)


def _bias_of_neuron(program: LoihiProgram, target: NeuronNode, neuron: tuple[int, ...], side: Side) -> int | None:
    """From the first difference of v where u is right."""
    if side.v is None or side.u is None:
        return None
    got = replay(program, target, side.recorded)
    assert got.v is not None
    assert got.u is not None
    here, theirs = of_neuron(got.v, neuron), of_neuron(side.v, neuron)
    off = np.argwhere((here != theirs) & side.recorded.alive)
    if not len(off) or ((of_neuron(got.u, neuron) != of_neuron(side.u, neuron)) & side.recorded.alive).any():
        return None
    t, s = (int(i) for i in off[0])
    difference = int(theirs[t, s] - here[t, s])
    if difference % (1 << target.bias_exp):
        return None
    return int(target.bias_mant[neuron]) + (difference >> target.bias_exp)
