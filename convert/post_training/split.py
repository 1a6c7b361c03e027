"""Populations whose neurons need different registers become several: the same neurons, in parts of equal registers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lavatube.convert.post_training.network import Driven, FloatNetwork, FloatSynapse, unique
from lavatube.convert.post_training.operators import Operator, Part, Shape
from lavatube.convert.post_training.paths import Constant
from lavatube.errors import UnsupportedError

PARTS_MAX = 32
SYNAPSES_MAX = 1024
Parts = Mapping[str, tuple[Part, ...]]


def split(network: FloatNetwork, where: str) -> tuple[FloatNetwork, Parts]:
    """({population that became several: its parts}, in order of its first neurons). Exact: no neuron changes.

    raises: UnsupportedError for too many parts, or for a population whose voltage an Output reads.
    """
    used = dict(network.names)
    parts = {each.name: found for each in network.driven if (found := _parts(each, used, where))}
    if not parts:
        return network, {}
    for readout, source in network.reads.items():
        population = next((each.population for each in network.driven if each.name == source), None)
        if source in parts and population is not None and population.threshold is None:
            raise _refusal(
                parts[source], f"{where}:{source}", f"one set of registers, as Output {readout} reads its voltages"
            )
    driven = _without_nothing([part for each in network.driven for part in _split(each, parts, used)])
    reads = {name: source for name, source in network.reads.items() if source not in parts}
    for name, source in network.reads.items():
        if source in parts:
            driven.append(_gathered(name, parts[source], used))
    if (count := sum(len(each.synapses) for each in driven)) > SYNAPSES_MAX:
        raise UnsupportedError(
            "too many synapses between the parts of populations", where=where, expected=f"at most {SYNAPSES_MAX}",
            got=str(count), remedy="round the time constants to fewer values",
        )  # fmt: skip
    return replace(network, driven=tuple(driven), reads=reads, names=used), parts


def joined(spikes: Mapping[str, np.ndarray], parts: tuple[Part, ...], shape: Shape) -> np.ndarray:
    """[T, B, *shape] of a population, from the arrays [T, B, ...] of its parts."""
    first = spikes[parts[0].name]
    room = np.zeros((*first.shape[:2], int(np.prod(shape))), first.dtype)
    for part in parts:
        room[:, :, part.index] = spikes[part.name].reshape(*room.shape[:2], -1)
    return room.reshape(*room.shape[:2], *shape)


def _parts(driven: Driven, used: dict[str, int], where: str) -> tuple[Part, ...]:
    """() for one that can stay whole."""
    if driven.population is None:
        return ()
    rows = driven.population.registers()
    if not np.all(np.isfinite(rows)):
        return ()  # `choose` refuses it
    values, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    if len(values) == 1:
        return ()
    if len(values) > PARTS_MAX:
        raise UnsupportedError(
            "time constants or initial potentials that differ within a population", where=f"{where}:{driven.name}",
            expected=f"at most {PARTS_MAX} different ones", got=str(len(values)),
            remedy="round them to fewer values, or split the node",
        )  # fmt: skip
    channels = group.reshape(driven.shape[0], -1)
    whole = len(driven.shape) > 1 and bool(np.all(channels == channels[:, :1]))
    found: list[Part] = []
    for number in np.argsort(first):
        index, chosen = np.flatnonzero(group.ravel() == number), None
        shape: Shape = (len(index),)
        if whole:
            chosen = np.flatnonzero(channels[:, 0] == number)
            shape = (len(chosen), *driven.shape[1:])
        found.append(Part(unique(f"{driven.name}.{len(found)}", used), index, shape, chosen))
    return tuple(found)


def _split(driven: Driven, parts: Parts, used: dict[str, int]) -> list[Driven]:
    """A population or read-out as its parts, driven by the parts of its sources."""
    made = []
    for part in parts.get(driven.name, (None,)):
        synapses: list[FloatSynapse] = []
        for synapse in driven.synapses:
            for source in parts.get(synapse.source, (None,)):
                if part is None and source is None:
                    synapses.append(synapse)
                    continue
                operator = synapse.operator.part(part, source)
                name = synapse.source if source is None else source.name
                synapses.append(FloatSynapse(synapse.name, name, operator, synapse.lag))
        if part is not None or any(each.source in parts for each in driven.synapses):
            synapses = [replace(each, name=unique(each.name, used)) for each in synapses]
        if part is None:
            made.append(replace(driven, synapses=tuple(synapses)))
            continue
        constants = tuple(
            Constant(np.broadcast_to(each.value, driven.shape).ravel()[part.index].reshape(part.shape), each.lag)
            for each in driven.constants
        )
        population = None if driven.population is None else driven.population.part(part.index, part.shape)
        made.append(Driven(part.name, part.shape, population, tuple(synapses), constants))
    return made


def _without_nothing(driven: list[Driven]) -> list[Driven]:
    """Without synapses of zeros alone; but each keeps one that drives it, and each source one that it drives."""
    leads = {each.source for one in driven for each in one.synapses if each.operator.weight.any()}
    found = []
    for one in driven:
        kept = [each for each in one.synapses if each.operator.weight.any() or each.source not in leads]
        kept = kept or list(one.synapses[:1])
        leads |= {each.source for each in kept}
        found.append(replace(one, synapses=tuple(kept)))
    return found


def _gathered(readout: str, parts: tuple[Part, ...], used: dict[str, int]) -> Driven:
    """A read-out of the spikes of all parts: their sum over the timesteps, each in its place."""
    size = sum(len(part.index) for part in parts)
    synapses = []
    for part in parts:
        weight = np.zeros((size, len(part.index)))
        weight[part.index, np.arange(len(part.index))] = 1.0
        operator = Operator("dense", weight, part.shape, (size,), composed=True)
        name = unique(f"{part.name}.to.{readout}"[-90:].lstrip(".-"), used)
        synapses.append(FloatSynapse(name, part.name, operator, 0))
    return Driven(readout, (size,), None, tuple(synapses), ())


def _refusal(parts: tuple[Part, ...], where: str, expected: str) -> UnsupportedError:
    what = "time constants or initial potentials that differ within a population"
    return UnsupportedError(what, where=where, expected=expected, got=f"{len(parts)} sets", remedy="split the node")
