"""Counts by other people's definitions, for the report."""

from __future__ import annotations

from typing import Any

from lavatube.sim.counts import Counts, neurobench, proxy_operations


def definitions(counts: Counts) -> dict[str, Any]:
    """NeuroBench's means per sample, and the N-DNS proxy's operations; plain numbers."""
    bench = neurobench(counts)
    operations = proxy_operations(counts)
    return {
        "neurobench": {
            "effective_acs": float(bench.effective_acs),
            "effective_macs": float(bench.effective_macs),
            "dense": float(bench.dense),
            "activation_sparsity": float(bench.activation_sparsity),
        },
        "ndns_proxy": {
            "operations": operations,
            "operations_per_timestep": operations / max(counts.sample_steps, 1),
        },
    }
