"""The unit of each population: candidates that fit the registers, and the one that changes the fewest spike counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lavatube import fixed_point as fp
from lavatube.contract import ExecutionContract
from lavatube.convert.post_training.integers import Made, Way, make
from lavatube.convert.post_training.network import Driven
from lavatube.convert.post_training.score import Calibration, lost_of, score
from lavatube.convert.rounding_error import mean_square
from lavatube.errors import LavatubeError

OCTAVE = 8  # candidates in each factor of 2 below the largest unit that fits
OCTAVES = 2
TRIED = 8  # candidates whose spikes are counted
WORTH_FRACTIONS = 0.9  # of the squared error that is left by weights of whole units, at most
WORTH_MORE_SYNAPSES = 0.9  # of the squared error of the weights that several powers of two must leave, at most
Ends = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    bits: int
    num_steps: int
    overflow: str
    target: str
    scales: Mapping[str, float]
    ranges: Mapping[str, Ends]
    contract: ExecutionContract
    where: str

    @property
    def fractions(self) -> bool:
        """Whether the target rounds sums, as Lava does: Brian2Loihi says that Loihi 1 rounds single weights."""
        return self.target != "loihi1"

    @property
    def limits(self) -> tuple[Mapping[str, Ends], int, str, str]:
        return self.ranges, self.num_steps, self.overflow, self.target


def choose(driven: Driven, settings: Settings, calibration: Calibration | None) -> Made:
    """The registers of one population or read-out.

    raises: LavatubeError if no unit keeps it within the registers.
    """

    def made(way: Way, lost: np.ndarray | None = None) -> Made:
        return make(driven, way, settings.bits, settings.scales, settings.contract, settings.where, lost)

    def fits(one: Made) -> bool:
        return not one.problem and not one.violations(*settings.limits)

    top = _largest(driven, settings, lambda unit: made(Way(unit)), fits)
    for by_channel in _exact_ways(driven, settings):
        for unit in _dyadic(driven, settings.contract, top):
            one = made(Way(unit, by_channel=by_channel))
            if one.is_exact and fits(one):
                return one
    power = _powers(settings, calibration)

    def of(units: Iterable[float], by_channel: bool) -> list[Made]:
        """The best first."""
        clips = (0, 1) if settings.bits <= 4 else (0,)
        fractions = (False, True) if settings.fractions and driven.population is not None else (False,)
        ways = [Way(unit, clip, by_channel, each) for unit in units for clip in clips for each in fractions]
        found = [one for way in ways if fits(one := made(way)) and one.floors == way.fractions]
        found.sort(key=lambda one: (one.error(power), -one.unit))
        whole = min((one.error(power) for one in found if not one.floors), default=math.inf)
        return [one for one in found if not one.floors or one.error(power) < WORTH_FRACTIONS * whole]

    found = of(_candidates(driven, settings, top), by_channel=False)
    best = found[0].error(power) * WORTH_MORE_SYNAPSES
    split = of(dict.fromkeys(one.unit for one in found[:TRIED]), by_channel=True)
    split = [one for one in split if len(one.weights) > len(found[0].weights) and one.error(power) < best]
    found = found[:TRIED] + split[: TRIED // 2]
    if calibration is None:
        found.sort(key=lambda one: (one.error(power), -one.unit))
    if calibration is None or driven.population is None or driven.name not in calibration.output:
        return found[0]
    for rank, one in enumerate(found[:]):
        if one.floors:
            found[rank] = replace(one, lost=lost_of(one, calibration))
            found += [more for more in [made(one.way, found[rank].lost)] if fits(more)]
    scored = [(score(one, calibration), rank, one) for rank, one in enumerate(found)]
    return min(scored, key=lambda each: each[:2])[2]


def _powers(settings: Settings, calibration: Calibration | None) -> dict[str, float]:
    """{source: mean square of its events}: the calibration's, if it has any there, else of its whole range."""
    found = {name: mean_square(ends) for name, ends in settings.ranges.items()}
    seen = {} if calibration is None else calibration.events
    measured = {name: float(np.mean(np.square(seen[name], dtype=np.float64))) for name in set(found) & set(seen)}
    return found | {name: value for name, value in measured.items() if value}


def _largest(driven: Driven, settings: Settings, made: Callable[[float], Made], fits: Callable[[Made], bool]) -> float:
    """The largest unit that fits, to an eighth of an octave; halves until one does."""
    limit = (1 << (settings.bits - 1)) - 1
    shift = fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX + 1 - settings.bits
    weights = [
        float(np.abs(s.operator.weight).max()) * abs(settings.scales.get(s.source, 1.0)) for s in driven.synapses
    ]
    largest = max(weights, default=0.0)
    threshold = _threshold(driven)
    least = 1 / threshold if threshold else 0.0
    tops = ([fp.THRESHOLD_MAX / threshold] if threshold else []) + ([limit * 2.0**shift / largest] if largest else [])
    _require_in_proportion(driven, max(min(tops, default=1.0), least), largest, f"{settings.where}:{driven.name}")
    unit = _whole(driven, min(tops, default=1.0))
    least = least or unit * 2.0**-40
    while not fits(made(unit)):
        if unit / 2 < least * 0.999:
            one = made(unit)
            got = one.problem or "; ".join(one.violations(*settings.limits))
            remedy = "its weights are too large for its threshold: move some of them into several neurons"
            if settings.overflow == "strict" and not one.problem and got.startswith("v "):
                remedy = "run fewer timesteps (--num-steps), or accept saturation with --overflow hardware"
            raise LavatubeError(
                "no unit keeps this population within Loihi's registers", where=f"{settings.where}:{driven.name}",
                got=got, remedy=remedy,
            )  # fmt: skip
        unit = _whole(driven, unit / 2)
    for part in range(OCTAVE - 1, 0, -1):
        larger = _whole(driven, unit * 2 ** (part / OCTAVE))
        if larger <= min(tops, default=math.inf) and fits(made(larger)):
            return larger
    return unit


def _require_in_proportion(driven: Driven, unit: float, largest: float, where: str) -> None:
    """largest: of the weights. raises: LavatubeError where float64 has no number for what the unit makes of them."""
    others = [fixed.value for fixed in driven.constants]
    if driven.population is not None:
        others += [driven.population.bias, np.asarray(driven.population.start)]
    largest = max([largest, 1.0, *(float(np.abs(each).max()) for each in others)])
    if not math.isfinite(unit * largest * (1 << fp.ACTIVATION_SHIFT)):
        threshold = f"v_threshold {_threshold(driven):g}, " if _threshold(driven) else "weights "
        raise LavatubeError(
            "numbers that are too small, or too far apart, for one unit", where=where,
            got=f"{threshold}beside {largest:g}", remedy="scale this population's weights, biases and threshold up",
        )  # fmt: skip


def _candidates(driven: Driven, settings: Settings, top: float) -> Iterator[float]:
    """Some in each octave, and those at which the largest weight of a synapse is the largest integer."""
    limit = (1 << (settings.bits - 1)) - 1
    units = [top * 2 ** (-part / OCTAVE) for part in range(OCTAVE * OCTAVES)]
    for synapse in driven.synapses:
        largest = float(np.abs(synapse.operator.weight).max()) * abs(settings.scales.get(synapse.source, 1.0))
        if largest:
            full = limit / largest
            octave = math.floor(math.log2(top / full))
            units += [full * 2.0 ** (octave - part) for part in range(OCTAVES)]
    yield from dict.fromkeys([top, *(_whole(driven, unit) for unit in units)])


def _exact_ways(driven: Driven, settings: Settings) -> tuple[bool, ...]:
    """The values of `by_channel` under which a power of two could be exact: none if weights have too many digits."""
    uneven = False
    for synapse in driven.synapses:
        weight = synapse.operator.weight * settings.scales.get(synapse.source, 1.0)
        digits = np.frexp(weight)[0] * 2.0 ** (settings.bits - 1)
        if not np.array_equal(digits, np.rint(digits)):
            return ()
        rows = np.abs(weight.reshape(len(weight), -1)).max(1)
        uneven |= bool(rows.any()) and float(rows.max()) >= 2 * float(rows[rows > 0].min())
    return (False, True) if uneven else (False,)


def _dyadic(driven: Driven, contract: ExecutionContract, top: float) -> Iterator[float]:
    """Powers of two, the largest first: at one of them dyadic weights are integers."""
    threshold = _threshold(driven)
    first = math.floor(math.log2(top))
    exponents = range(first, first - 40, -1)
    if contract.state_rounding == "toward-zero":  # of v in units of 1: a whole step of the register
        exponents = range(-fp.ACTIVATION_SHIFT, -fp.ACTIVATION_SHIFT - 1, -1)
    for exponent in exponents:
        unit = 2.0**exponent
        if not threshold or (threshold * unit >= 1 and (threshold * unit).is_integer()):
            yield unit


def _whole(driven: Driven, unit: float) -> float:
    """The nearest unit below at which the threshold is an integer."""
    threshold = _threshold(driven)
    return max(math.floor(threshold * unit * (1 + 1e-12)), 1) / threshold if threshold else unit


def _threshold(driven: Driven) -> float:
    return (driven.population.threshold or 0.0) if driven.population is not None else 0.0
