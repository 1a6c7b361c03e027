"""A neuron node under a contract -> what Loihi's neuron can be told of it, and every place where the two differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.coefficients import Leaky
from lavatube.convert.float_graph.graph import Shape
from lavatube.convert.float_graph.population import SPIKING, Population
from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.fixed_point import DECAY_ONE


@dataclass(frozen=True)
class Deviation:
    """Where the program computes something else than the contract, in words and as the contract that it does compute.

    change: {field of the contract: value}; what a run under the changed contract shows is the damage.
    """

    layer: str
    what: str
    change: Mapping[str, Any]


@dataclass(frozen=True)
class FloatPopulation:
    """u <- keep_u u + drive; v <- keep_v v + u + bias; a spike where v > threshold, in the unit of one neuron's drive.

    gain:       (shape) what a unit of the node's input counts in that unit; per-neuron thresholds are in it too.
    keep_u:     (shape) 0: no stored current. keep_v: (shape) 1: no leak.
    threshold:  None: never spikes, its voltage is read.
    bias:       (shape) on v itself. start: (shape) v before the first step.
    at_least:   spikes where v >= threshold. has_current: its input passes through a current, be it of one timestep.
    refractory: timesteps after a spike whose input is lost to v.
    own_states: u and v are those of the contract, times one factor for all neurons: they lose the same fractions.
    """

    name: str
    shape: Shape
    gain: np.ndarray
    keep_u: np.ndarray
    keep_v: np.ndarray
    threshold: float | None
    bias: np.ndarray
    start: np.ndarray
    reset: str
    at_least: bool
    has_current: bool
    refractory: int
    own_states: bool
    deviations: tuple[Deviation, ...] = field(default=())

    @property
    def stores_current(self) -> bool:
        return bool(self.keep_u.max() > 0)

    @property
    def memoryless(self) -> bool:
        """v and whether it spikes are of this timestep alone."""
        return not self.has_current and not self.refractory and bool(self.keep_v.max() == 0)

    def registers(self) -> np.ndarray:
        """[neurons, 3]: du, dv (4096: keeps nothing) and the start; a population of a program has one row."""
        du, dv = decay_registers(self.keep_u, 1), decay_registers(self.keep_v, 0)
        dv = np.where(self.keep_v > 0, dv, DECAY_ONE)
        return np.stack([du.ravel(), dv.ravel(), self.start.ravel()], 1)

    def part(self, index: np.ndarray, shape: Shape) -> FloatPopulation:
        """Some of the neurons, by flat index."""
        names = ("gain", "keep_u", "keep_v", "bias", "start")
        values = {name: getattr(self, name).ravel()[index].reshape(shape) for name in names}
        return replace(self, shape=shape, **values)


def threshold_population(
    name: str, node: Any, contract: ExecutionContract, shape: Shape, where: str
) -> FloatPopulation:
    """Of a Threshold node: it holds nothing from one timestep to the next."""
    limits = np.broadcast_to(np.asarray(node.threshold, np.float64), shape)
    if limits.min() < 0 or (limits.min() == 0 and limits.max() > 0):
        raise _refusal("threshold", where, "positive, or 0 for all", f"{limits.min():g}", "shift it by a bias")
    limit = float(limits.flat[0])
    gain = limit / limits if limit else np.ones(shape)
    zero = np.zeros(shape)
    return FloatPopulation(
        name, shape, gain, zero, zero, limit, zero, zero, "zero", contract.comparator == ">=", False, 0, True
    )


def float_population(
    name: str, node: nir.NIRNode, contract: ExecutionContract, shape: Shape, *, offset: np.ndarray | None,
    recurrent: bool, where: str,
) -> FloatPopulation:  # fmt: skip
    """Of an I, LI, IF, LIF, CubaLI or CubaLIF node.

    offset: a bias that skips the current, or None. recurrent: has a synapse onto itself.
    raises: UnsupportedError for what no program can compute, with the remedy.
    """
    stepper = Population(name, node, contract, shape, 1, offset, recurrent)
    parts = stepper.parts
    keep_v, gain, bias = _one_form(parts.membrane, shape)
    keep_u = np.zeros(shape)
    own_states = parts.membrane.step is None
    if parts.current is not None:
        keep_u, gain_u, pull_u = _one_form(parts.current, shape)
        settled = pull_u / np.where(keep_u < 1, 1 - keep_u, 1)  # where the current rests
        if np.any(np.abs(np.broadcast_to(parts.current_start, shape) - settled) > 1e-6 * np.abs(settled)):
            raise _refusal(
                "a current that does not start where it rests", where, "v_leak 0", "v_leak", "set v_leak to 0"
            )
        own_states = own_states and not np.any(settled) and bool(np.all(gain == 1))
        bias, gain = bias + gain * settled, gain * gain_u
    if offset is not None:
        bias = bias + np.broadcast_to(offset, shape)
    start = np.broadcast_to(np.asarray(parts.start, np.float64), shape)
    limits = None
    if parts.threshold is not None:
        limits = np.broadcast_to(np.asarray(parts.threshold, np.float64), shape)
        if parts.reset == "v_reset":  # the potential counted from v_reset on: exact, the rest goes into the bias
            zero_at = np.broadcast_to(np.asarray(parts.v_reset, np.float64), shape)
            limits, start, bias = limits - zero_at, start - zero_at, bias + (keep_v - 1) * zero_at
        if limits.min() <= 0:
            what = "a threshold that is not above the reset potential"
            raise _refusal(what, where, "above 0", f"{limits.min():g}", "raise v_threshold or lower v_reset")
        each = float(limits.flat[0]) / limits
        gain, bias, start = gain * each, bias * each, start * each
        own_states = own_states and bool(np.all(each == 1)) and (parts.reset != "v_reset" or not np.any(parts.v_reset))
    reset, deviations = _reset(name, node, contract, stepper, float(keep_v.min()), where)
    refractory = 1 if stepper.when == "instead" and reset == "zero" else 0
    if parts.current is None and not refractory:
        start = np.where(keep_v > 0, start, 0.0)  # else forgotten at once; it starts anew at every timestep
    clip = contract.if_lower_clip if isinstance(node, nir.IF) else contract.lower_clip
    if limits is not None and clip != "none":
        clip_field = "if_lower_clip" if isinstance(node, nir.IF) else "lower_clip"
        deviations.append(Deviation(name, f"v is not kept from falling below {clip}", {clip_field: "none"}))
    at_least = contract.comparator == ">="
    if limits is not None and contract.spikes_per_step == "many":
        at_least = True
        change = {"spikes_per_step": "one", "comparator": ">="}
        deviations.append(Deviation(name, "one spike in a timestep, where the contract allows several", change))
    return FloatPopulation(
        name, shape, gain, keep_u, keep_v, None if limits is None else float(limits.flat[0]), bias, start, reset,
        at_least, parts.current is not None, refractory, own_states, tuple(deviations),
    )  # fmt: skip


def _reset(
    name: str, node: nir.NIRNode, contract: ExecutionContract, stepper: Population, keep_v: float, where: str
) -> tuple[str, list[Deviation]]:
    """(zero or subtract, where it differs from the contract's)"""
    kind, integrates = stepper.parts.reset, isinstance(node, nir.IF)
    prefix = "if_" if integrates else "cuba_" if isinstance(node, nir.CubaLIF) else ""
    if kind == "none" and isinstance(node, SPIKING):
        raise _refusal("spikes without a reset", where, "a reset", "none", "Loihi's neurons are reset by their spikes")
    if kind in ("zero", "v_reset", "none"):
        return "zero", []
    found: list[Deviation] = []
    if kind == "subtract-guarded" and stepper.when == "now":
        found.append(Deviation(name, "a plain subtraction where v was above the threshold before the timestep",
                               {f"{prefix}reset": "subtract"}))  # fmt: skip
    if stepper.when != "now" and keep_v < 1:
        change = {f"{prefix}reset_lag": 0, "cuba_recurrent_reset": "as-others", f"{prefix}reset": "subtract"}
        found.append(Deviation(name, "the threshold is taken off before the leak, not after it", change))
    return "subtract", found


def _one_form(leaky: Leaky, shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(keep, gain, what is added at every step) of the three spellings, float64 of the population's shape."""
    values = {name: np.asarray(value, np.float64) for name, value in vars(leaky).items() if value is not None}
    if leaky.step is None:
        keep, gain, pull = values["keep"], values["gain"], values["pull"]
    else:
        keep, pull = 1 - values["step"], values["step"] * values["rest"]
        gain = values["gain"] if leaky.factor is None else values["step"] * values["factor"]
    keep = np.maximum(keep, 0)  # dt = tau, rounded in float32
    return np.broadcast_to(keep, shape), np.broadcast_to(gain, shape), np.broadcast_to(pull, shape)


def decay_registers(keep: np.ndarray, offset: int) -> np.ndarray:
    """The decays in 1/4096 that are nearest to what is kept; offset: what the chip adds to them."""
    return np.asarray(np.clip(np.rint((1 - keep) * DECAY_ONE) - offset, 0, DECAY_ONE - 1), np.int64)


def _refusal(what: str, where: str, expected: str, got: str, remedy: str) -> LavatubeError:
    return UnsupportedError(what, where=where, expected=expected, got=got, remedy=remedy)
