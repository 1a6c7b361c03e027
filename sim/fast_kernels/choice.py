"""Which kernel adds up a synapse's events. Every kernel gives the same integers, so this is about time only."""

from __future__ import annotations

from typing import Literal

Kernel = Literal["event", "scatter", "int8", "float"]
KERNELS: tuple[Kernel, ...] = ("event", "scatter", "int8", "float")

# (least out channels, share of active inputs below which the event-driven kernel is the faster one).
# Measured by benchmarks/simulation_switch.py; the table is in docs/simulation.md.
EVENTS_BELOW_DENSE = ((512, 0.12), (256, 0.08), (128, 0.03), (0, 0.0))
EVENTS_BELOW_CONV = ((512, 0.14), (256, 0.12), (128, 0.08), (64, 0.04), (0, 0.02))


SCATTER_BELOW = 8.0  # active inputs of a window


def choose(usable: frozenset[Kernel], density: float, width: int, window: int) -> Kernel:
    """usable: kernels that can run this synapse here. density: active inputs, 0..1. width: out channels or neurons;
    window: inputs that a neuron of a convolution sees, 0 for other synapses."""
    if "scatter" in usable and density * window < SCATTER_BELOW:
        return "scatter"
    table = EVENTS_BELOW_CONV if window else EVENTS_BELOW_DENSE
    limit = next(below for least, below in table if width >= least)
    if "event" in usable and ("int8" not in usable or density < limit):
        return "event"
    return "int8" if "int8" in usable else "float"
