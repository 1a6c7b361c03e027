"""Interval analysis: how large every accumulator and register of a program can get, whatever the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.program import Conv2dNode, LoihiProgram, NeuronNode, SparseNode, Synapse, Target

Range = tuple[np.ndarray, np.ndarray]  # lowest, highest; int64
Ends = tuple[int, int]
STEPS_MAX = 1 << 17  # of an iteration that has no closed form; with a leak it settles long before
UNBOUNDED = 4 * fp.STATE_LIMIT  # stands for a voltage of which no bound is known


@dataclass(frozen=True)
class LayerBound:
    """Intervals (low, high) of a target and the synapses that drive it; u and v are None at the read-out.

    accumulators: by synapse, of the sum of W * s before the weight exponent; activation: of their sum after it;
    u, v: in 1/64 of a weight unit.
    """

    target: str
    accumulators: dict[str, Ends]
    activation: Ends
    u: Ends | None
    v: Ends | None

    @property
    def synapse(self) -> str:
        """Names of the synapses."""
        return " + ".join(self.accumulators)

    @property
    def fits_dendrite(self) -> bool | None:
        """Whether `a << 6` stays within Loihi 1's dendritic accumulator of 21 bits and sign; None at the read-out.

        The accumulator is one for all synapses of a neuron. Lava, and every engine here, has int32 instead.
        """
        return None if self.u is None else max(map(abs, self.activation)) << fp.ACTIVATION_SHIFT <= fp.DENDRITE_MAX

    def violations(self) -> list[str]:
        """What would overflow, in words; empty if nothing can."""
        rows: list[tuple[str, Ends | None, int, int]] = [
            *(
                (f"accumulator of {name}", got, -fp.INT32_MAX - 1, fp.INT32_MAX)
                for name, got in self.accumulators.items()
            ),
            ("activation", self.activation, -fp.INT32_MAX - 1, fp.INT32_MAX),
            ("u", self.u, -fp.STATE_LIMIT + 1, fp.STATE_LIMIT),
            ("v", self.v, -fp.VOLTAGE_MAX, fp.VOLTAGE_MAX),
        ]
        return [
            f"{what} can reach {got[0]}..{got[1]}, its register holds {low}..{high}"
            for what, got, low, high in rows
            if got is not None and (got[0] < low or got[1] > high)
        ]


def never_spiking(program: LoihiProgram, bounds: Sequence[LayerBound]) -> list[str]:
    """Populations of which no neuron can spike within the program's timesteps, whatever the input."""
    nodes = {node.name: node for node in program.neurons if node.output in ("binary", "graded")}
    return [
        bound.target
        for bound in bounds
        if bound.v is not None
        and bound.target in nodes
        and bound.v[1] <= nodes[bound.target].vth << fp.ACTIVATION_SHIFT
    ]


def accumulator_bounds(synapse: Synapse, events: Ends) -> Range:
    """(low, high) of sum(W * s) per output neuron, flat in C order, for events in a range that holds 0. [out] int64."""
    weight = synapse.weight.astype(np.int64)
    low, high = (np.minimum(weight * end, 0) for end in events), (np.maximum(weight * end, 0) for end in events)
    lows, highs = sum(low), sum(high)
    assert isinstance(lows, np.ndarray)
    assert isinstance(highs, np.ndarray)
    if isinstance(synapse, SparseNode):
        sums = [np.concatenate([[0], part.cumsum()]) for part in (lows, highs)]
        return tuple(part[synapse.indptr[1:]] - part[synapse.indptr[:-1]] for part in sums)
    rows = [part.reshape(len(part), -1).sum(1) for part in (lows, highs)]
    places = int(np.prod(synapse.out_shape[1:])) if isinstance(synapse, Conv2dNode) else 1
    return np.repeat(rows[0], places), np.repeat(rows[1], places)


def bound_layer(target: Target, inbound: Sequence[tuple[Synapse, Ends]], num_steps: int) -> LayerBound:
    """Bounds of a target. inbound: its synapses, each with the range of the events that it carries.

    With a leak the bounds hold for any number of steps, without (dv = 0) for `num_steps`.
    """
    sums = {synapse.name: accumulator_bounds(synapse, events) for synapse, events in inbound}
    low, high = (
        np.sum([fp.shift(sums[synapse.name][end], synapse.weight_exp) for synapse, _ in inbound], 0) for end in (0, 1)
    )
    u = v = None
    if isinstance(target, NeuronNode):
        u_range = tuple(_settled(a << fp.ACTIVATION_SHIFT, target.du + 1) for a in (low, high))
        v_range = voltage_bounds(target, u_range, num_steps)  # type: ignore[arg-type]
        u, v = _ends(*u_range), _ends(*v_range)
    return LayerBound(target.name, {name: _ends(*pair) for name, pair in sums.items()}, _ends(low, high), u, v)


def voltage_bounds(node: NeuronNode, u: Range, num_steps: int) -> Range:
    """(low, high) of v before the threshold and after the reset, per neuron."""
    bias = fp.bias_register(node.bias_mant, node.bias_exp).reshape(-1)
    drive_low, drive_high = u[0] + bias, u[1] + bias
    full = node.vth << fp.ACTIVATION_SHIFT
    plain = node.output in ("binary", "graded") and node.reset == "zero" and node.v_initial == 0
    if plain:  # closed form: what did not spike is at most the threshold, and at most what all drives add up to
        below, above = np.minimum(drive_low, 0), np.maximum(drive_high, 0)
        low, sums = (_settled(part, node.dv) if node.dv else part * num_steps for part in (below, above))
        return low, np.minimum(np.maximum(fp.decay(np.array(full), node.dv) + drive_high, 0), sums)
    return _iterated(node, drive_low, drive_high, num_steps)


def _iterated(node: NeuronNode, drive_low: np.ndarray, drive_high: np.ndarray, num_steps: int) -> Range:
    """The interval of v, step by step from the initial voltage; what a reset leaves is in `kept`.

    Where STEPS_MAX steps do not end it, what still moves counts as unbounded.
    """
    full, least = node.vth << fp.ACTIVATION_SHIFT, node.vth_low << fp.ACTIVATION_SHIFT
    kept_low = kept_high = np.full_like(drive_low, node.v_initial)
    low, high = drive_low * 0 + node.v_initial, drive_high * 0 + node.v_initial
    for _ in range(min(num_steps, STEPS_MAX) if node.dv == 0 else STEPS_MAX):
        new_low = np.minimum(fp.decay(kept_low, node.dv) + drive_low, low)
        new_high = np.maximum(fp.decay(kept_high, node.dv) + drive_high, high)
        falling, rising = new_low != low, new_high != high
        if not (falling.any() or rising.any()):
            return np.minimum(low, kept_low), np.maximum(high, kept_high)
        low, high = new_low, new_high
        kept_low, kept_high = np.minimum(low, 0), np.maximum(high, 0)
        if node.output != "none":
            after_spike = np.maximum(high - full, 0) if node.reset == "subtract" else np.zeros_like(high)
            kept_high = np.minimum(kept_high, np.maximum(after_spike, full))
        if node.output == "signed" and node.reset == "subtract":  # a negative spike lifts v by the threshold
            kept_high = np.maximum(kept_high, np.where(low < -least, full - least, 0))
        if node.output == "signed" and not node.memory_gate:
            after_spike = np.minimum(low + full, 0) if node.reset == "subtract" else np.zeros_like(low)
            kept_low = np.maximum(kept_low, np.minimum(after_spike, -least))
        if max(-int(low.min()), int(high.max())) > UNBOUNDED:
            break  # beyond the register already
    else:
        if node.dv or num_steps > STEPS_MAX:
            low, high = np.where(falling, -UNBOUNDED, low), np.where(rising, UNBOUNDED, high)
    return np.minimum(low, kept_low), np.maximum(high, kept_high)


def _ends(low: np.ndarray, high: np.ndarray) -> Ends:
    return int(low.min()), int(high.max())


def _settled(drive: np.ndarray, leak: int) -> np.ndarray:
    """Limit of x <- x * (1 - leak / 4096) + drive for a constant drive, rounded away from zero."""
    magnitude = -((-np.abs(drive) * fp.DECAY_ONE) // leak)
    return np.asarray(np.sign(drive) * magnitude)


def bound_program(program: LoihiProgram, *, num_steps: int | None = None) -> tuple[LayerBound, ...]:
    """Bounds of every population, and of every read-out that sums currents, for inputs within the encoding."""
    targets = [node for node in program.targets if program.inbound(node)]
    return tuple(
        bound_layer(
            target,
            [(synapse, program.source_of(synapse).event_range) for synapse in program.inbound(target)],
            num_steps or program.num_steps,
        )
        for target in targets
    )


def _remedy(program: LoihiProgram) -> str:
    if "contract" in program.source:
        return "quantize for more timesteps (--num-steps), or "
    return "quantize with a smaller --headroom, or " if program.source.get("kind") == "nir" else ""


def prove_no_overflow(program: LoihiProgram, *, num_steps: int | None = None) -> tuple[LayerBound, ...]:
    """Bounds of every layer, proven to fit when the program's overflow mode is strict.

    raises: LavatubeError naming the layer, the register, how far it can go and what it holds.
    """
    bounds = bound_program(program, num_steps=num_steps)
    for bound in bounds:
        if program.overflow == "strict" and (found := bound.violations()):
            raise LavatubeError(
                "; ".join(found),
                where=f"{bound.synapse} -> {bound.target}",
                remedy=_remedy(program) + "accept wrap and saturation with --overflow hardware",
            )
    return bounds
