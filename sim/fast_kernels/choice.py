"""Which kernel adds up a synapse's events. Every kernel gives the same integers, so this is about time only."""

from __future__ import annotations

from typing import Literal

Kernel = Literal["event", "int8", "float"]
KERNELS: tuple[Kernel, ...] = ("event", "int8", "float")

# Share of active inputs below which the event-driven kernel is the faster one, by the number of neurons that an input
# reaches at once (out channels): measured by `benchmarks/simulation.py --switch`, docs/simulation.md.
EVENTS_BELOW = ((256, 0.17), (128, 0.13), (64, 0.09), (32, 0.06), (0, 0.03))


def choose(usable: frozenset[Kernel], density: float, width: int) -> Kernel:
    """usable: kernels that can run this synapse here. density: active inputs, 0..1. width: out channels or neurons."""
    limit = next(below for least, below in EVENTS_BELOW if width >= least)
    if "event" in usable and ("int8" not in usable or density < limit):
        return "event"
    return "int8" if "int8" in usable else "float"
