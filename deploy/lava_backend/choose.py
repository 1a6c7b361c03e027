"""Which Lava process stands for each node: a stock one where one is exact, else our own. No Lava is imported here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lavatube.bounds import bound_layer
from lavatube.deploy.lava_backend.timing import Timing, timing
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import ACTIVATION_SHIFT, STATE_LIMIT, bias_register, decay
from lavatube.program import Conv2dNode, LoihiProgram, NeuronNode, SparseNode, Synapse, floors_sums
from lavatube.synapse_nodes import SUMS_ROUNDED_DOWN

SPARSE_CONNECTIONS = 30_000_000  # up to here Sparse is chosen, far faster than Conv; to build it takes 40 bytes each
STOCK_DELAY_MAX = 63  # ticks that stock DelaySparse can hold events back
CONV_CHOICES = ("auto", "conv", "sparse", "own")


@dataclass(frozen=True)
class Choice:
    """process: name of a Lava process; why_own: why no stock process stands for this node, "" if one does."""

    process: str
    why_own: str = ""

    @property
    def stock(self) -> bool:
        return not self.why_own


def choose_processes(
    program: LoihiProgram, conv: str = "auto", *, stock_only: bool = False, num_steps: int | None = None
) -> dict[str, Choice]:
    """{name of a synapse or population: its process}.

    conv: "conv", "sparse" or "own" for all convolutions, or "auto": Sparse up to 30 M connections, else Conv if it
    is exact, else our own. Conv stands alone in front of its target; synapses that have to wait (see `timing`) are
    DelaySparse.
    raises: UnsupportedError where Conv would not be exact and was asked for, or, with stock_only, for a node that needs
    a process of our own.
    """
    if conv not in CONV_CHOICES:
        raise LavatubeError("--conv", where="lava", expected=", ".join(CONV_CHOICES), got=conv)
    if stock_only and conv == "own":
        raise LavatubeError("--conv own", where="lava", expected="a stock process, for --stock-only")
    when, chosen = timing(program), dict[str, Choice]()
    for synapse in program.synapses:
        chosen[synapse.name] = _synapse(program, synapse, when, conv, stock_only)
    for node in program.neurons:
        why = why_own_neurons(program, node, when, num_steps or program.num_steps)
        chosen[node.name] = Choice("Population", why) if why else Choice("LIFReset")
    own = next((name for name, choice in chosen.items() if not choice.stock), None)
    if stock_only and own is not None:
        remedy = "leave --stock-only away, or run it on the reference or the fast engine"
        raise UnsupportedError(f"no stock Lava process: {chosen[own].why_own}", where=own, remedy=remedy)
    return chosen


def why_own_neurons(program: LoihiProgram, node: NeuronNode, when: Timing, window: int) -> str:
    """Why stock LIFReset does not do for a population; "" if it does."""
    if lacking := node.needs() - {"voltage read-out"}:
        return ", ".join(sorted(lacking))
    keeps_state = (node.du, node.dv) == (4095, 0) and not node.bias_mant.any()  # at a tick without input
    if when.pace > 1 and not keeps_state:
        return f"a cycle with more synapses than timesteps: {when.pace} ticks a timestep, and state rests in between"
    if node.reset_interval and (node.reset_offset or (when.streams and window % node.reset_interval)):
        return "periodic resets that do not fall together with the start of a sample"
    if fires_alone(node, when.latency[node.name]) and any(program.lag(s) for s in downstream(program, node)):
        return "a bias that would fire before the first timestep, into a delay"
    return ""


def fires_alone(node: NeuronNode, ticks: int) -> bool:
    """Whether a bias makes a neuron fire within so many ticks from rest, without input.

    Input before the first timestep comes only from populations that fire early; where that matters they are our own.
    """
    v, bias = np.zeros(node.shape, np.int64), bias_register(node.bias_mant, node.bias_exp)
    for _ in range(0 if node.output == "none" else ticks):
        v = decay(v, node.dv) + bias
        if (v > node.vth << ACTIVATION_SHIFT).any():
            return True
    return False


def downstream(program: LoihiProgram, node: NeuronNode) -> list[Synapse]:
    """Every synapse that an event of a population can have an effect on."""
    reached, found, drives = {node.name}, list[Synapse](), dict(program.edges)
    while fresh := [each for each in program.synapses if each not in found and program.source_of(each).name in reached]:
        found += fresh
        reached |= {drives[synapse.name] for synapse in fresh}
    return found


def _synapse(program: LoihiProgram, synapse: Synapse, when: Timing, conv: str, stock_only: bool) -> Choice:
    target = next(target for target in program.targets if synapse in program.inbound(target))
    bound = bound_layer(target, [(synapse, program.source_of(synapse).event_range)], program.num_steps)
    low, high = bound.accumulators[synapse.name]
    if low < -(1 << 31) or high >= 1 << 31:
        raise UnsupportedError("sums can leave Lava's int32 channels", where=synapse.name, got=f"{low}..{high}")
    wait = when.wait[synapse.name]
    if wait > STOCK_DELAY_MAX:
        return Choice("Projection", f"waits for {wait} ticks, DelaySparse holds {STOCK_DELAY_MAX}")
    if wait:
        return Choice("DelaySparse")
    if not isinstance(synapse, Conv2dNode):
        return Choice("Sparse" if isinstance(synapse, SparseNode) else "Dense")
    if conv == "own":
        return Choice("Projection", "--conv own")
    obstacle = why_conv_is_not_exact(synapse, bound.activation) if when.streams else "samples run side by side"
    if not obstacle and len(program.inbound(target)) > 1:
        obstacle = "other synapses drive the same target"
    if conv == "conv" and obstacle:
        raise UnsupportedError(obstacle, where=f"{synapse.name} (Lava Conv)", remedy="use --conv sparse")
    large = connections(synapse) > SPARSE_CONNECTIONS
    if obstacle and large and conv == "auto" and not stock_only:
        return Choice("Projection", f"{connections(synapse):,} connections, and not Conv: {obstacle}")
    return Choice("Conv" if conv == "conv" or (conv == "auto" and large and not obstacle) else "Sparse")


def connections(synapse: Synapse) -> int:
    """Stored connections; borders of convolutions not subtracted."""
    places = int(np.prod(synapse.out_shape[1:])) if isinstance(synapse, Conv2dNode) else 1
    return places * synapse.weight.size


def why_conv_is_not_exact(synapse: Conv2dNode, activation: tuple[int, int]) -> str:
    """Lava's Conv ignores the weight exponent and wraps its sums to 24 bits; "" if neither matters here."""
    if synapse.groups > 1 or synapse.dilation != (1, 1):
        return "groups and dilations go through Sparse"
    if floors_sums(synapse):
        return SUMS_ROUNDED_DOWN
    if activation[0] < -STATE_LIMIT or activation[1] >= STATE_LIMIT:
        return f"sums can reach {activation[0]}..{activation[1]}, and Conv wraps at 24 bits"
    return ""
