"""What an explanation says, as data; `parity.json` and the page hold its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Upstream:
    """A source of the diverging layer. equal: its events agree up to the step; events: how many there were."""

    layer: str
    synapse: str
    equal: bool
    events: int


@dataclass(frozen=True)
class ActiveInput:
    """An event that reaches the neuron in the step of the divergence. index: in the source's shape."""

    layer: str
    index: tuple[int, ...]
    event: int
    weight: int


@dataclass(frozen=True)
class Moment:
    """One timestep of the neuron on one side; activation: by the definition, from that side's own inputs.

    u, v: after the step, in 1/64 of a weight unit; None where that side did not record them.
    """

    step: int
    activation: int
    u: int | None
    v: int | None
    event: int | None


@dataclass(frozen=True)
class FoundCause:
    """A rule that reproduces the neuron, and `neurons` of the layer."""

    rule: str
    says: str
    neurons: int


@dataclass(frozen=True)
class SideFound:
    """One engine. state: "recorded", "by the definition" or "not recorded"; tried: rules that were tried.

    more: rules that reproduce the neuron, too, beyond the causes that are listed.
    """

    engine: str
    follows: bool
    neurons_by_definition: int
    state: str
    tried: int
    causes: tuple[FoundCause, ...]
    more: int
    moments: tuple[Moment, ...]


@dataclass(frozen=True)
class Explanation:
    """layer, neuron, sample, step (-1: a whole sample's read-out), quantity and both values of the first divergence.

    facts: the settings of the population; samples: those that the rules were tried on; checked: how many samples
    a rule had to give the neuron in; neurons: of the layer.
    """

    layer: str
    quantity: str
    sample: int
    step: int
    neuron: tuple[int, ...]
    values: tuple[int, int]
    facts: Mapping[str, Any]
    samples: tuple[int, ...]
    checked: int
    neurons: int
    upstream: tuple[Upstream, ...]
    active: tuple[ActiveInput, ...]
    sides: tuple[SideFound, ...]
    verdict: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
