"""Bundles: the synapses of one source into one target that share a synapse format, and what they load a core with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.deploy.mapping.limits import ChipLimits, SynapseFormat
from lavatube.deploy.mapping.packing import fewest_weight_bits, list_words
from lavatube.deploy.mapping.reach import Reach
from lavatube.deploy.mapping.regions import Region
from lavatube.program import Conv2dNode, LoihiProgram, Source, Synapse, Target


@dataclass(frozen=True)
class Offer:
    """A format, the weight bits that its bundle takes in it, and the connections that it stores, for each synapse."""

    form: SynapseFormat
    weight_bits: int
    reaches: tuple[Reach, ...]


@dataclass(frozen=True)
class Bundle:
    """Synapses of one source, kind, exponent and sign: an axon's list holds the connections of all, with their delays.

    A convolution is alone, since its weights may be shared. forms: what the chip offers for them.
    """

    source: str
    synapses: tuple[Synapse, ...]
    forms: tuple[Offer, ...]

    @property
    def delay(self) -> int:
        return max(synapse.delay for synapse in self.synapses)

    @property
    def is_shared(self) -> bool:
        return any(offer.form.shared for offer in self.forms)


@dataclass(frozen=True)
class Packed:
    """A bundle in a core. sources: flat indexes of the neurons whose events must come here, rising; int32."""

    form: str
    words: int
    sources: np.ndarray


def bundles_into(program: LoihiProgram, target: Target, limits: ChipLimits) -> tuple[Bundle, ...]:
    """What drives a target, in order of the nodes."""
    groups: dict[tuple[object, ...], list[tuple[Source, Synapse]]] = {}
    for synapse in program.inbound(target):
        source = program.source_of(synapse)
        alone = synapse.name if isinstance(synapse, Conv2dNode) else ""
        key = (source.name, synapse.kind, synapse.weight_exp, synapse.sign, alone)
        groups.setdefault(key, []).append((source, synapse))
    bundles = []
    for members in groups.values():
        synapses = tuple(synapse for _, synapse in members)
        offered = [form for form in limits.formats if synapses[0].kind in form.nodes]
        offers = (_offer(form, synapses) for form in offered)
        bundles.append(Bundle(members[0][0].name, synapses, tuple(offers)))
    return tuple(bundles)


def _offer(form: SynapseFormat, synapses: tuple[Synapse, ...]) -> Offer:
    reaches = tuple(Reach(synapse, form.stores_zeros) for synapse in synapses)
    return Offer(form, fewest_weight_bits(synapses, form.weight_bits), reaches)


def pack(bundle: Bundle, region: Region) -> Packed:
    """The bundle in the format that takes the fewest words in this core, the first of the list winning ties."""
    return min((_pack(bundle, region, offer) for offer in bundle.forms), key=lambda packed: packed.words)


def _pack(bundle: Bundle, region: Region, offer: Offer) -> Packed:
    form, bits = offer.form, offer.weight_bits
    parts = [reach.into(region) for reach in offer.reaches]
    entries = parts[0] if len(parts) == 1 else np.sum(parts, 0)
    sources = np.flatnonzero(entries > 0).astype(np.int32)  # of booleans: several times as fast
    entries = _shared_lists(bundle.synapses[0], region) if form.shared else entries[sources]
    words = list_words(form, entries, weight_bits=bits, delay=bundle.delay, reach=region.size)
    name = f"{form.name}, {bits} bit{'s' * (bits != 1)}" + (f", delay {bundle.delay}" if bundle.delay else "")
    return Packed(name, int(words.sum()), sources)


def _shared_lists(synapse: Synapse, region: Region) -> np.ndarray:
    """Entries of the lists of a kernel in a core: one list for each input channel and kernel element of its groups."""
    assert isinstance(synapse, Conv2dNode)
    outputs, (_, inputs, height, width) = synapse.out_shape[0], synapse.weight.shape
    if region.grid == synapse.out_shape:
        channels = np.arange(*region.spans[0])
    else:
        channels = np.unique(region.flat() // int(np.prod(synapse.out_shape[1:])))
    in_group = np.bincount(channels // (outputs // synapse.groups), minlength=synapse.groups)
    return np.repeat(in_group, inputs * height * width)
