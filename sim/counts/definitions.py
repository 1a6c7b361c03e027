"""Other people's definitions of cost, as counts: no energy."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from lavatube.sim.counts.result import Counts

NEURON_WEIGHT = 10  # of a neuron operation in the N-DNS proxy


def proxy_operations(counts: Counts) -> int:
    """SynOps + 10 NeuronOps of the run, as in Intel's neuromorphic denoising challenge: per second the power proxy.

    That times latency it is their power-delay proxy.
    """
    return counts.total.synops_stored + NEURON_WEIGHT * counts.total.neuron_accesses


@dataclass(frozen=True)
class NeuroBench:
    """Means over samples as NeuroBench's algorithm track defines them.

    effective_acs:  additions of binary events, at non-zero weights; effective_macs: the same of graded events.
    dense:          synaptic operations if every activation and every weight counted.
    activation_sparsity: share of neuron-steps without a spike.
    """

    effective_acs: Fraction
    effective_macs: Fraction
    dense: Fraction
    activation_sparsity: Fraction


def neurobench(counts: Counts) -> NeuroBench:
    """NeuroBench's numbers from our counts. Undefined parts (no samples, no neurons) are 0."""
    total, samples = counts.total, max(counts.samples, 1)
    silent = Fraction(total.neuron_accesses - total.spikes_out, max(total.neuron_accesses, 1))
    return NeuroBench(
        Fraction(total.synops_nonzero - total.graded_nonzero, samples),
        Fraction(total.graded_nonzero, samples),
        Fraction(total.synops_dense, samples),
        silent,
    )
