"""Dynamic energy: counts times prices, in integer femtojoules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lavatube.sim.counts import Counts, LayerCounts
from lavatube.sim.interval import ZERO, Interval, total
from lavatube.sim.price_table import PriceTable

MEMORIES = {"sram_8k": 8 << 10, "sram_32k": 32 << 10, "sram_1m": 1 << 20}  # bytes that fit, smallest first
OF_LAYER: Mapping[str, Callable[[LayerCounts], int]] = {
    "synop": lambda row: row.synops_stored,
    "neuron_access": lambda row: row.neuron_accesses,
    "neuron_update": lambda row: row.updates,
    "spike": lambda row: row.spikes_out,
    "ac": lambda row: row.synops_stored - row.graded_stored,
    "mac": lambda row: row.graded_stored,
}
OF_TRAFFIC = ("message", "message_local", "hop_x", "hop_y", "reset")


@dataclass(frozen=True)
class Term:
    """One priced term: how many events, and their energy in fJ over the whole run."""

    events: int
    energy: Interval


@dataclass(frozen=True)
class Dynamic:
    """total: over all terms, fJ.  layers: fJ of what happens in one layer, without traffic.

    unpriced: terms that the table prices, but whose counts there are not.
    """

    total: Interval
    terms: Mapping[str, Term]
    layers: Mapping[str, Interval]
    unpriced: tuple[str, ...]


def price(counts: Counts, table: PriceTable) -> Dynamic:
    """Apply one table. Terms that it has no price for are in no sum."""
    terms: dict[str, Term] = {}
    layers = dict.fromkeys(counts.layers, ZERO)
    for name, each in table.terms.items():
        if name in OF_TRAFFIC:
            if counts.traffic is not None:
                number = _traffic(counts, name)
                terms[name] = Term(number, each.interval.times(number))
            continue
        numbers = {layer: _of_layer(counts, layer, name) for layer in counts.layers}
        for layer, number in numbers.items():
            layers[layer] += each.interval.times(number)
        terms[name] = Term(sum(numbers.values()), each.interval.times(sum(numbers.values())))
    left_out = [name for name in table.terms if name not in terms]
    unpriced = tuple(f"{name} (needs a placement on cores)" for name in left_out)
    return Dynamic(total(term.energy for term in terms.values()), terms, layers, unpriced)


def _of_layer(counts: Counts, layer: str, name: str) -> int:
    row = counts.layers[layer]
    if name in OF_LAYER:
        return OF_LAYER[name](row)
    size = -(-counts.weight_bits.get(layer, 0) // 8)
    fits = next((memory for memory, capacity in MEMORIES.items() if size <= capacity), "dram")
    return row.synops_stored if name == fits else 0


def _traffic(counts: Counts, name: str) -> int:
    traffic = counts.traffic
    assert traffic is not None
    numbers = {
        "message": traffic.messages,
        "message_local": traffic.messages_local,
        "hop_x": traffic.hops_x,
        "hop_y": traffic.hops_y,
        "reset": counts.samples * traffic.chips,
    }
    return numbers[name]
