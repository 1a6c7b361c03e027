"""What stock processes are told of a node: the numbers of Lava's constructors. No Lava is imported here."""

from __future__ import annotations

from typing import Any

from lavatube.fixed_point import THRESHOLD_MAX
from lavatube.program import NeuronNode, Source, Synapse


def message_bits(origin: Source) -> int:
    """`num_message_bits` of a synapse that this node drives: 0 for binary events, which stock Lava casts to bool."""
    low, high = origin.event_range
    return 0 if (low, high) == (0, 1) else max(-low, high).bit_length()


def synapse_settings(synapse: Synapse, origin: Source) -> dict[str, int]:
    """What `Dense`, `Sparse` and `DelaySparse` are told beside weights and sign mode. origin: what drives it."""
    return {
        "weight_exp": synapse.weight_exp,
        "num_weight_bits": synapse.num_weight_bits,
        "num_message_bits": message_bits(origin),
    }


def neuron_settings(node: NeuronNode, window: int, start: int, pace: int) -> dict[str, Any]:
    """What `LIFReset` is told beside shape and bias mantissas. start, window: see `Timing`."""
    interval = (node.reset_interval or window) * pace
    return {
        "du": node.du,
        "dv": node.dv,
        "vth": THRESHOLD_MAX + 1 if node.output == "none" else node.vth,  # above what v can reach
        "bias_exp": node.bias_exp,
        "reset_interval": interval,
        "reset_offset": start % interval,
    }
