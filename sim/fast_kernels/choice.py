"""Which kernel adds up a synapse's events. Every kernel gives the same integers, so this is about time only."""

from __future__ import annotations

from typing import Literal

Kernel = Literal["event", "dot", "int8", "float"]
KERNELS: tuple[Kernel, ...] = ("event", "dot", "int8", "float")

# (least out channels, share of active inputs below which the event-driven kernel is the faster one).
# Measured by benchmarks/simulation_switch.py; the tables are in docs/simulation.md.
Limits = tuple[tuple[int, float], ...]
ROWS_BELOW_DOTS: Limits = ((33, 0.3), (17, 0.2), (0, 0.0))
ROWS_BELOW_INT8: Limits = ((128, 0.35), (0, 0.45))
EVENTS_BELOW_INT8: Limits = ((512, 0.13), (256, 0.1), (128, 0.05), (0, 0.02))
NEVER: Limits = ((0, 0.0),)
SMALL_WINDOW = 64  # inputs of a neuron, up to which its rows take longer to find than to add


def choose(usable: frozenset[Kernel], density: float, width: int, inputs: int, binary: bool) -> Kernel:
    """usable: kernels that can run this synapse here. density: active inputs, 0..1. width: out channels or neurons;
    inputs: that a neuron sees; binary: events are 0 or 1."""
    if "dot" in usable:
        table = ROWS_BELOW_DOTS if binary and inputs > SMALL_WINDOW else NEVER
    else:
        table = ROWS_BELOW_INT8 if binary else EVENTS_BELOW_INT8
    limit = next(below for least, below in table if width >= least)
    if "event" in usable and (not {"dot", "int8"} & usable or density < limit):
        return "event"
    return next(kernel for kernel in ("dot", "int8", "float") if kernel in usable)
