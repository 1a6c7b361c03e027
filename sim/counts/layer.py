"""What is counted of one layer."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class LayerCounts:
    """The synapses into one target and the neurons that they drive, over timesteps and samples; integers.

    events_in:       events that the synapses received (a graded event is one).
    synops_stored:   stored connections that they reached; synops_nonzero: those of non-zero weight.
    synops_dense:    stored connections x timesteps: what the same network costs if everything fires.
    synop_bits:      sum over events of the event's bit length times the stored connections (graded payload).
    graded_stored, graded_nonzero: the synops of graded events, which multiply; the others only add.
    neuron_accesses: neurons x timesteps; 0 at the read-out, which is host work.
    updates:         neuron-steps that received an event through a stored connection, or have a bias.
    spikes_out:      spikes of these neurons.
    resets:          neurons whose state was set anew: at a sample's start, and at the program's own resets within it.
    host_additions:  read-out additions on the host.
    """

    events_in: int = 0
    synops_stored: int = 0
    synops_nonzero: int = 0
    synops_dense: int = 0
    synop_bits: int = 0
    graded_stored: int = 0
    graded_nonzero: int = 0
    neuron_accesses: int = 0
    updates: int = 0
    spikes_out: int = 0
    resets: int = 0
    host_additions: int = 0

    @property
    def idles(self) -> int:
        return self.neuron_accesses - self.updates

    def __add__(self, other: LayerCounts) -> LayerCounts:
        return LayerCounts(*(getattr(self, term) + getattr(other, term) for term in TERMS))


TERMS = tuple(field.name for field in fields(LayerCounts))
