"""Exact integer counts of what a run did, from the trace of any engine. No prices here."""

from lavatube.sim.counts.cores import CoreActivity, count_cores
from lavatube.sim.counts.count import count
from lavatube.sim.counts.definitions import NeuroBench, neurobench, proxy_operations
from lavatube.sim.counts.layer import TERMS, LayerCounts
from lavatube.sim.counts.result import Counts, load_counts, save_counts
from lavatube.sim.counts.steps import count_steps, layer_name
from lavatube.sim.counts.traffic import Placed, Placement, Traffic

__all__ = [
    "TERMS",
    "CoreActivity",
    "Counts",
    "LayerCounts",
    "NeuroBench",
    "Placed",
    "Placement",
    "Traffic",
    "count",
    "count_cores",
    "count_steps",
    "layer_name",
    "load_counts",
    "neurobench",
    "proxy_operations",
    "save_counts",
]
