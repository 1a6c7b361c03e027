"""Two traces of a program that differ: the first place, what stood there on both sides, and the likeliest cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lavatube.errors import LavatubeError
from lavatube.program import LoihiProgram, NeuronNode, Target
from lavatube.program_file import load_program
from lavatube.sim.compare import Mismatch, compare, keyed
from lavatube.sim.explain.causes import Judged, judge
from lavatube.sim.explain.explanation import (
    ActiveInput,
    Explanation,
    FoundCause,
    Moment,
    SideFound,
    Upstream,
)
from lavatube.sim.explain.fan_in import fan_in
from lavatube.sim.explain.replay import of_neuron, replay
from lavatube.sim.explain.side import Side, side_of
from lavatube.trace import SpikeTrace, file_keys

SAMPLES = 4  # that the rules are tried on, of the whole layer
CHECKED = 1024  # samples at most in which a rule must give the neuron
AT_ONCE = 1 << 25  # neuron-steps of these, which bounds the memory
AROUND = 3  # timesteps shown before and after the divergence
ACTIVE = 12  # inputs shown
CAUSES = 5  # shown
NAMED = 3  # in the verdict, beside the first


def explain(
    program: LoihiProgram | Path | str,
    a: SpikeTrace,
    b: SpikeTrace,
    *,
    names: tuple[str, str] | None = None,
    guess: tuple[bool, bool] = (True, True),
) -> Explanation | None:
    """Explain the first divergence of two traces of this program; None where they are equal.

    The population (or read-out) where it is, is replayed on the events that each side recorded, under the program's
    definition and under every rule of `rule.ALTERNATIVES`. u and v are used where they are recorded.
    names:  of the engines, by default those of the traces.  guess: whether to look for causes on each side.
    raises: LavatubeError if the traces are not comparable, or not of this program.
    """
    program = program if isinstance(program, LoihiProgram) else load_program(Path(program))
    names = names or (str(a.meta.get("engine", "A")), str(b.meta.get("engine", "B")))
    first = compare(a, b, names=names).first
    if first is None:
        return None
    target = _target(program, first, a)
    order = _samples(target, first, a, b)
    few = AT_ONCE // (a.num_steps * int(np.prod(target.shape)))
    samples = order[: max(1, min(SAMPLES, few))]
    sides = [side_of(program, target, trace, samples, name) for trace, name in zip((a, b), names, strict=True)]
    rest = [order[k : k + len(samples)] for k in range(len(samples), min(a.batch, CHECKED), len(samples))]
    judged = [
        judge(program, side, first.neuron, guess=ask, others=partial(_sides, program, target, trace, rest, side.name))
        for trace, side, ask in zip((a, b), sides, guess, strict=True)
    ]
    return Explanation(
        layer=target.name,
        quantity=first.quantity,
        sample=first.sample,
        step=first.step,
        neuron=first.neuron,
        values=(first.a, first.b),
        facts=_facts(program, target, first.neuron),
        samples=tuple(samples),
        checked=len(samples) + sum(map(len, rest)),
        neurons=int(np.prod(target.shape)),
        upstream=tuple(_upstream(program, target, sides, first.step)),
        active=tuple(_active(program, target, first, sides[0])),
        sides=tuple(_found(program, one, side, first) for one, side in zip(judged, sides, strict=True)),
        verdict=_verdict(judged),
    )


def _target(program: LoihiProgram, first: Mismatch, trace: SpikeTrace) -> Target:
    wanted = {node.name: node.shape for node in program.neurons}
    got = {name: value.shape[2:] for name, value in trace.spikes.items()}
    wanted |= _shapes("input", {node.name: node.shape for node in program.inputs})
    got |= {key: value.shape[2:] for key, value in keyed("input", trace.inputs).items()}
    keys = file_keys("readout", [node.name for node in program.readouts])
    if wanted != got or set(keys.values()) != set(keyed("readout", trace.readouts)):
        raise LavatubeError("the traces are not of this program", where="explain", expected=str(wanted), got=str(got))
    names = {key: name for name, key in keys.items()}
    node = program.by_name[names[first.layer] if first.quantity == "readout" else first.layer]
    assert isinstance(node, Target)
    return node


def _shapes(kind: str, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {key: shapes[name] for name, key in file_keys(kind, shapes).items()}


def _samples(target: Target, first: Mismatch, a: SpikeTrace, b: SpikeTrace) -> list[int]:
    """The sample of the first divergence, then the others that differ there, then the rest."""
    if first.quantity == "readout":
        there, here = keyed("readout", a.readouts), keyed("readout", b.readouts)
        differs = (there[first.layer] != here[first.layer]).any(1)
    else:
        groups = [(a.spikes, b.spikes), (a.u, b.u), (a.v, b.v)]
        parts = [(mine.get(target.name), other.get(target.name)) for mine, other in groups]
        flat = [
            np.moveaxis(x != y, 1, 0).reshape(a.batch, -1).any(1) for x, y in parts if x is not None and y is not None
        ]
        differs = np.logical_or.reduce(flat)
    return sorted(range(a.batch), key=lambda sample: (sample != first.sample, not differs[sample], sample))


def _sides(
    program: LoihiProgram, target: Target, trace: SpikeTrace, rest: Sequence[Sequence[int]], name: str
) -> Iterator[Side]:
    return (side_of(program, target, trace, part, name) for part in rest)


def _facts(program: LoihiProgram, target: Target, neuron: tuple[int, ...]) -> dict[str, Any]:
    synapses = {
        synapse.name: {"bits": synapse.num_weight_bits, "weight_exp": synapse.weight_exp, "lag": program.lag(synapse)}
        for synapse in program.inbound(target)
    }
    if not isinstance(target, NeuronNode):
        return {"reads": target.reads, "bias": int(target.bias[neuron]), "synapses": synapses}
    names = ("du", "dv", "vth", "bias_exp", "reset", "output", "refractory", "v_initial")
    values = {name: getattr(target, name) for name in names}
    return {**values, "bias_mant": int(target.bias_mant[neuron]), "synapses": synapses}


def _upstream(program: LoihiProgram, target: Target, sides: Sequence[Side], step: int) -> list[Upstream]:
    """Whether what the layer saw up to the divergence agrees, source by source, in its sample."""
    found = []
    for synapse in program.inbound(target):
        name, stop = program.source_of(synapse).name, None if step < 0 else max(step - program.lag(synapse) + 1, 0)
        mine, other = (side.recorded.events[name][:stop, 0] for side in sides)
        found.append(Upstream(name, synapse.name, bool(np.array_equal(mine, other)), int((mine != 0).sum())))
    return found


def _active(program: LoihiProgram, target: Target, first: Mismatch, side: Side) -> list[ActiveInput]:
    """Events that reach the neuron at the step, the heaviest first."""
    found = []
    for each in fan_in(program, target, first.neuron) if first.step >= 0 else []:
        source, events = program.source_of(each.synapse), each.events(program, side.recorded)[first.step, 0]
        for k in np.flatnonzero(events):
            index = tuple(int(i) for i in np.unravel_index(int(each.source[k]), source.shape))
            found.append(ActiveInput(source.name, index, int(events[k]), int(each.weight[k])))
    return sorted(found, key=lambda one: -abs(one.event * one.weight))[:ACTIVE]


def _found(program: LoihiProgram, judged: Judged, side: Side, first: Mismatch) -> SideFound:
    causes = tuple(FoundCause(cause.rule.key, cause.rule.says, cause.neurons) for cause in judged.causes[:CAUSES])
    got = replay(program, side.target, side.recorded)
    steps = range(int(side.recorded.length[0]))
    if first.step >= 0:
        steps = range(max(first.step - AROUND, 0), min(first.step + AROUND + 1, steps.stop))
    u, v, events, state = side.u, side.v, side.spikes, "recorded"
    if u is None and v is None:
        u, v, state = (got.u, got.v, "by the definition") if judged.follows else (None, None, "not recorded")

    def at(value: np.ndarray | None, t: int) -> int | None:
        return None if value is None else int(of_neuron(value, first.neuron)[t, 0])

    activation = of_neuron(got.activation, first.neuron)[:, 0]
    moments = tuple(Moment(t, int(activation[t]), at(u, t), at(v, t), at(events, t)) for t in steps)
    more = len(judged.causes) - len(causes) + judged.more
    return SideFound(side.name, judged.follows, judged.by_definition, state, judged.tried, causes, more, moments)


def _verdict(judged: Sequence[Judged]) -> str:
    """One or two sentences."""
    parts = []
    for one in judged:
        if one.follows:
            parts.append(f"{one.name} follows the program's definition here.")
        elif not one.causes:
            tried = f"; none of {one.tried} other rules gives what it recorded" if one.tried else ""
            parts.append(f"{one.name} does not follow the definition{tried}.")
        else:
            best = [cause for cause in one.causes if cause.neurons == one.causes[0].neurons]
            share = f"{best[0].neurons:,} of {one.of:,} neurons of the layer, {one.by_definition:,} by the definition"
            left = one.of - best[0].neurons
            if one.explained:
                line = f"{one.name} {best[0].rule.says}: that reproduces {share}."
                line += f" {left:,} other{'s' * (left > 1)} it does not explain." if left else ""
            else:
                line = f"{one.name} does not follow the definition, and no rule gives its layer: that it "
                line += f"{best[0].rule.says} reproduces this neuron, but {share}."
            if len(best) > 1:
                named = best[1 : 1 + NAMED]
                more = len(best) - 1 - len(named)
                others = "; ".join(f"that it {cause.rule.says}" for cause in named)
                line += f" These samples do not tell it from: {others}{f'; and {more:,} more' if more else ''}."
            if one.more:
                line += f" {one.more:,} further rules give this neuron; they were not tried on its layer."
            parts.append(line)
    if all(one.follows for one in judged):
        parts.append("Both follow it: they were given different events.")
    return " ".join(parts)
