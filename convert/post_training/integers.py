"""One population, or read-out, in integers of a given unit: the nodes of the program, and what rounding did to it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lavatube import fixed_point as fp
from lavatube.bounds import bound_layer
from lavatube.contract import ExecutionContract
from lavatube.convert.post_training.network import Driven
from lavatube.convert.post_training.operators import Operator
from lavatube.convert.post_training.population import Deviation
from lavatube.convert.rounding_error import squared_error
from lavatube.integer_layer import mantissas
from lavatube.program import Conv2dNode, DenseNode, NeuronNode, ReadoutNode, Synapse, as_stored

CHANNEL_SHIFTS = 4  # powers of two that the output channels of one synapse may have
UNBOUNDED_VTH = 1 << 12  # in mode hardware: v may go so far as 32 thresholds
Ends = tuple[int, int]


@dataclass(frozen=True)
class Way:
    """How the numbers of a population become integers.

    unit:       activation units for one unit of the float drive.
    clip:       bits by which the largest weights may be clamped.
    by_channel: a synapse becomes several, each of the output channels that have one power of two.
    fractions:  weights may be finer than an activation unit; then sums are rounded down.
    """

    unit: float
    clip: int = 0
    by_channel: bool = False
    fractions: bool = False


@dataclass(frozen=True)
class Weights:
    """a = floor((sum of integers * s) * 2^shift); `exact`: what the integers stand for, in activation units.

    pulse: a bias that goes through the current; it comes from the clock, a neuron that fires at every timestep.
    """

    name: str
    source: str
    lag: int
    operator: Operator
    integers: np.ndarray
    shift: int
    exact: np.ndarray
    pulse: bool = False

    @property
    def rounded(self) -> np.ndarray:
        return self.integers * 2.0**self.shift

    @property
    def floors(self) -> bool:
        """Whether sums are rounded down."""
        return self.shift < 0 and bool((self.integers % (1 << -self.shift)).any())


@dataclass(frozen=True)
class Made:
    """problem: why these registers cannot be, or ''.

    lost:       what rounding down sums takes from a neuron in a timestep on average, of the population's shape, in
                activation units; None: not measured. given_back: whether the bias is larger by that.
    """

    driven: Driven
    way: Way
    bits: int
    weights: tuple[Weights, ...]
    node: NeuronNode | ReadoutNode
    exact_bias: np.ndarray
    used_bias: np.ndarray
    exact_start: float
    deviations: tuple[Deviation, ...]
    problem: str
    lost: np.ndarray | None = None
    given_back: bool = False

    @property
    def unit(self) -> float:
        """Activation units for one unit of the float drive."""
        return self.way.unit

    @property
    def is_exact(self) -> bool:
        """Whether weights, biases and the start are what they were, scaled (decays and states are another matter)."""
        same = all(np.array_equal(each.rounded, each.exact) for each in self.weights if not each.pulse)
        same = same and not self.floors
        same = same and all(np.array_equal(last.rounded, last.exact) for last in self.last_pulses().values())
        start = self.node.v_initial if isinstance(self.node, NeuronNode) else 0
        return same and np.array_equal(self.exact_bias, self.used_bias) and abs(start - self.exact_start) in (0, 1)

    @property
    def floors(self) -> bool:
        return any(each.floors for each in self.weights)

    def error(self, power: Mapping[str, float]) -> float:
        """Of all sums: squared error over squared size, expected. power: mean square of an event, by source."""
        found = [each for each in self.weights if not each.pulse]
        size = sum(float((each.exact**2).sum()) * power[each.source] for each in found)
        errors = [squared_error(each.rounded, each.exact, each.shift, power[each.source]) for each in found]
        return sum(errors) / size if size else 0.0

    def last_pulses(self) -> dict[int, Weights]:
        """{lag: the last of the synapses that carry biases; what it does not hold is lost}"""
        return {each.lag: each for each in self.weights if each.pulse}

    def synapses(self) -> list[Synapse]:
        """Nodes without their delays, in order of `weights`."""
        return [_node(each, self.bits) for each in self.weights]

    def violations(self, events: Mapping[str, Ends], num_steps: int, overflow: str, target: str) -> list[str]:
        """Registers that may overflow. events: ranges by source."""
        inbound = [
            (node, (0, 1) if each.pulse else events[each.source])
            for node, each in zip(self.synapses(), self.weights, strict=True)
        ]
        bound = bound_layer(self.node, inbound, num_steps)
        found = bound.violations()
        if target == "loihi1" and bound.fits_dendrite is False:
            found.append("sums leave the dendritic accumulator of 21 bits and sign")
        if overflow == "strict" or not isinstance(self.node, NeuronNode):
            return found
        wide = [f"vth {self.node.vth} leaves v no room"] if self.node.vth > UNBOUNDED_VTH else []
        return [text for text in found if not text.startswith("v ")] + wide


def make(
    driven: Driven, way: Way, bits: int, scales: Mapping[str, float], contract: ExecutionContract, where: str,
    lost: np.ndarray | None = None,
) -> Made:  # fmt: skip
    """A population in the given way.

    scales: float value of one event, by source (1 for spikes). lost: see `Made`; the bias gives it back.
    """
    limit, least, unit = (1 << (bits - 1)) - 1, 1 - bits if way.fractions else 0, way.unit
    weights = [
        _weights(each.name, each.source, each.lag, each.operator,
                 each.operator.weight * (unit * scales.get(each.source, 1.0)), limit, least, way.clip)
        for each in driven.synapses
    ]  # fmt: skip
    if way.by_channel:
        weights = [part for each in weights for part in _by_channel(each, limit, least, way.clip)]
    population = driven.population
    now = [fixed.value for fixed in driven.constants if fixed.lag == 0]
    stored = population is not None and population.stores_current
    for fixed in driven.constants:
        if fixed.lag or stored:
            weights += _pulses(driven, fixed.value * unit, fixed.lag, limit, len(weights))
    bias = np.zeros(driven.shape) if stored or not now else np.sum(now, 0)
    problem = next((f"{w.name} needs weight exponent {w.shift + bits - 9}" for w in weights
                    if w.shift + bits - 9 > fp.WEIGHT_EXPONENT_MAX), "")  # fmt: skip
    if population is None:
        exact = bias.reshape(-1) * unit
        used = np.rint(exact)
        if np.abs(used).max(initial=0) > fp.INT32_MAX:
            problem, used = problem or "the bias of the read-out", used * 0
        node: NeuronNode | ReadoutNode = ReadoutNode(driven.name, used.astype(np.int64))
        return Made(driven, way, bits, tuple(weights), node, exact, used, 0.0, (), problem)
    exact = (bias + population.bias) * (unit * (1 << fp.ACTIVATION_SHIFT))
    if lost is not None:  # where a current is stored, each loss goes on in it
        stays = fp.DECAY_ONE / (population.registers()[0, 0] + fp.CURRENT_DECAY_OFFSET)
        exact = exact + lost * (stays * (1 << fp.ACTIVATION_SHIFT))
    exponent = max(0, math.ceil(math.log2(max(np.abs(exact).max() / fp.BIAS_MANTISSA_MAX, 1))))
    if exponent > fp.BIAS_EXPONENT_MAX:
        problem, exponent = problem or "the bias needs more than its register", fp.BIAS_EXPONENT_MAX
    mantissa = np.clip(np.rint(exact / (1 << exponent)), fp.BIAS_MANTISSA_MIN, fp.BIAS_MANTISSA_MAX)
    neuron, deviations, start, more = _neuron(driven, unit, mantissa.astype(np.int16), exponent, contract, where)
    used = mantissa * (1 << exponent)
    given_back = lost is not None
    problem = problem or more
    return Made(
        driven, way, bits, tuple(weights), neuron, exact, used, start, deviations, problem, lost, given_back
    )  # fmt: skip


def _neuron(
    driven: Driven, unit: float, mantissa: np.ndarray, exponent: int, contract: ExecutionContract, where: str
) -> tuple[NeuronNode, tuple[Deviation, ...], float, str]:
    """(the node, deviations, the start in exact units of v, why it cannot be)"""
    population = driven.population
    assert population is not None
    (du, dv, begin), *others = np.unique(population.registers(), axis=0)
    assert not others  # `split` has been there
    du, dv = int(du), min(int(dv), fp.DECAY_MAX)
    threshold = 0 if population.threshold is None else round(population.threshold * unit)
    problem = ""
    if threshold > fp.THRESHOLD_MAX or (population.threshold and threshold < 1):
        problem, threshold = f"vth {threshold}", min(max(threshold, 1), fp.THRESHOLD_MAX)
    exact_start = float(begin) * unit * (1 << fp.ACTIVATION_SHIFT)
    start = min(max(round(exact_start), -fp.VOLTAGE_MAX), fp.VOLTAGE_MAX)
    deviations = list(population.deviations)
    vth = threshold
    if population.at_least and population.threshold is not None:
        grid = 1 << fp.ACTIVATION_SHIFT
        whole = not np.any((mantissa.astype(np.int64) << exponent) % grid) and start % grid == 0
        if population.reset == "subtract" and dv == 0:
            start += 1  # integers: v + 1 > threshold where v >= threshold, and no leak takes the one away
        elif population.reset == "zero" and du == fp.DECAY_MAX and whole and (dv == 0 or population.memoryless):
            vth -= 1
        else:
            deviations.append(Deviation(population.name, "spikes where v > threshold, not where v equals it",
                                        {"comparator": ">", "spikes_per_step": "one"}))  # fmt: skip
    if vth < 0:
        problem, vth = problem or "a threshold of 0 that v may equal", 0
    node = NeuronNode(
        driven.name, driven.shape, du, dv, vth, mantissa.reshape(driven.shape), exponent,
        reset="zero" if population.threshold is None else population.reset,  # type: ignore[arg-type]
        output="none" if population.threshold is None else "binary",
        v_initial=start, refractory=population.refractory,
        reset_interval=1 if population.memoryless else 0,
    )  # fmt: skip
    return node, tuple(deviations), exact_start, problem


def _by_channel(weights: Weights, limit: int, least: int, clip: int) -> list[Weights]:
    """The same weights as several synapses: each output channel with the smallest power of two that its own need."""
    rows = np.abs(weights.exact.reshape(len(weights.exact), -1)).max(1)
    shifts = np.array([max(least, _shift(float(row), limit, least) - clip) if row else weights.shift for row in rows])
    shifts = np.maximum(shifts, weights.shift - CHANNEL_SHIFTS + 1)
    found: list[Weights] = []
    for shift in np.unique(shifts)[::-1].tolist():
        mine = (shifts == shift).reshape(-1, *(1,) * (weights.exact.ndim - 1))
        name = weights.name if not found else f"{weights.name[:88]}.by{weights.shift - shift}"
        exact = weights.exact * mine
        integers = np.clip(np.rint(exact / 2.0**shift), -limit, limit).astype(np.int64)
        operator = replace(weights.operator, composed=True) if len(np.unique(shifts)) > 1 else weights.operator
        found.append(Weights(name, weights.source, weights.lag, operator, integers, int(shift), exact))
    return found


def _shift(largest: float, limit: int, least: int) -> int:
    """The smallest power of two, at least 2^least, at which a weight rounds into the range."""
    shift = max(least, math.ceil(math.log2(largest / limit)) if largest else 0)
    while round(largest / 2.0**shift) > limit:
        shift += 1
    if shift > least and round(largest / 2.0 ** (shift - 1)) <= limit:
        shift -= 1
    return shift


def _weights(
    name: str, source: str, lag: int, operator: Operator, exact: np.ndarray, limit: int, least: int = 0, clip: int = 0
) -> Weights:
    shift = max(least, _shift(float(np.abs(exact).max()), limit, least) - clip)
    integers = np.clip(np.rint(exact / 2.0**shift), -limit, limit).astype(np.int64)
    return Weights(name, source, lag, operator, integers, shift, exact)


def _pulses(driven: Driven, value: np.ndarray, lag: int, limit: int, count: int) -> list[Weights]:
    """A constant as what the clock's events weigh: coarse, and what is left of it."""
    size = math.prod(driven.shape)
    found: list[Weights] = []
    left = value.reshape(size, 1)
    for part in ("bias", "bias_rest"):
        if not np.any(np.rint(left)):
            break
        operator = Operator("dense", left, (1,), (size,))
        name = f"{driven.name[:80]}.{part}" + (f".{count}" if count else "")
        found.append(replace(_weights(name, "", lag, operator, left, limit), pulse=True))
        left = left - found[-1].rounded
    return found


def _node(weights: Weights, bits: int) -> Synapse:
    operator = weights.operator
    integers, exponent = mantissas(weights.integers, bits, weights.shift)[0], weights.shift + bits - 9
    exponent = min(exponent, fp.WEIGHT_EXPONENT_MAX)  # beyond it there is a problem already
    name = weights.name
    if operator.kind == "conv2d":
        image = operator.in_shape
        return Conv2dNode(
            name, (image[0], image[1], image[2]), integers, bits, exponent, operator.stride, operator.padding,
            dilation=operator.dilation, groups=operator.groups,
        )  # fmt: skip
    dense = DenseNode(name, operator.in_shape, integers, bits, exponent)
    return as_stored(dense) if operator.composed else dense


def units_of(made: Sequence[Made]) -> dict[str, float]:
    """{synapse: float value of one activation unit}"""
    return {each.name: 1 / one.unit for one in made for each in one.weights}
