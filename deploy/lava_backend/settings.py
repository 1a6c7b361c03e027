"""What stock processes are told of a node: the numbers of Lava's constructors. No Lava is imported here."""

from __future__ import annotations

from typing import Any

from lavatube.deploy.lava_backend.timing import Timing
from lavatube.fixed_point import THRESHOLD_MAX
from lavatube.program import NeuronNode, Source, Synapse

NO_WINDOW = 1 << 30  # ticks, more than any run has


def message_bits(origin: Source) -> int:
    """`num_message_bits` of a synapse: 0 for binary events, which stock Lava casts to bool."""
    low, high = origin.event_range
    return 0 if (low, high) == (0, 1) else max(-low, high).bit_length()


def synapse_settings(synapse: Synapse) -> dict[str, int]:
    """Of `Dense`, `Sparse` and `DelaySparse`, beside weights, message bits and sign mode."""
    return {"weight_exp": synapse.weight_exp, "num_weight_bits": synapse.num_weight_bits}


def neuron_settings(node: NeuronNode, window: int, start: int, pace: int) -> dict[str, Any]:
    """Of `LIFReset`, beside shape and bias mantissas. start: tick of the first timestep; window: in timesteps."""
    interval = (node.reset_interval or window) * pace
    return {
        "du": node.du,
        "dv": node.dv,
        "vth": THRESHOLD_MAX + 1 if node.output == "none" else node.vth,  # above what v can reach
        "bias_exp": node.bias_exp,
        "reset_interval": interval,
        "reset_offset": start % interval,
    }


def window_of(num_steps: int, when: Timing) -> int:
    """Timesteps after which a population begins anew: those of a sample, where samples follow each other."""
    return num_steps if when.streams else NO_WINDOW


def first_tick(name: str, when: Timing) -> int:
    """Of a population's first timestep: one after its latency."""
    return when.latency[name] + 1
