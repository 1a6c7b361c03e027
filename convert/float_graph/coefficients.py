"""A neuron node and a contract become numbers: decays, gains, thresholds, resets. Formulas: docs/contract.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import nir
import numpy as np

from lavatube.contract import ExecutionContract, Reset
from lavatube.errors import LavatubeError, UnsupportedError

Cast = Callable[[Any], np.ndarray]
STABLE = 1 + 1e-6  # dt / tau; float32 files round tau = dt


@dataclass(frozen=True)
class Leaky:
    """One state with leak, in one of three spellings of the same formula; which one decides the last bit.

    step None:   x -> keep * x + gain * in + pull
    factor None: x -> x + step * (rest - x) + gain * in
    else:        x -> x + step * ((factor * in + rest) - x)
    """

    keep: np.ndarray
    gain: np.ndarray
    pull: np.ndarray
    rest: np.ndarray
    step: np.ndarray | None = None
    factor: np.ndarray | None = None

    def __call__(self, x: np.ndarray, drive: np.ndarray, truncate: bool = False) -> np.ndarray:
        """The state after a timestep. truncate: the decayed state loses its fraction, toward zero."""
        if self.step is None:
            kept = self.keep * x
            return np.asarray((np.trunc(kept) if truncate else kept) + self.gain * drive + self.pull)
        if self.factor is None:
            return np.asarray(x + self.step * (self.rest - x) + self.gain * drive)
        return np.asarray(x + self.step * ((self.factor * drive + self.rest) - x))


@dataclass(frozen=True)
class Coefficients:
    """Everything that a population needs to step; arrays broadcast to its shape, in the contract's precision."""

    current: Leaky | None
    membrane: Leaky
    current_start: np.ndarray
    start: np.ndarray
    threshold: np.ndarray | None
    v_reset: np.ndarray
    reset: Reset
    reset_lag: int
    lower_clip: np.ndarray | None


def coefficients(name: str, node: nir.NIRNode, contract: ExecutionContract) -> Coefficients:
    """raises: UnsupportedError if a time constant is not positive, or so short that forward Euler is unstable."""
    cast = partial(np.asarray, dtype=contract.precision)
    cuba, integrates = isinstance(node, (nir.CubaLI, nir.CubaLIF)), isinstance(node, (nir.I, nir.IF))
    zero = np.zeros_like(np.asarray(node.r, np.float64))
    threshold = getattr(node, "v_threshold", None)
    v_leak, v_reset = getattr(node, "v_leak", zero), getattr(node, "v_reset", zero)
    current = None
    if integrates:
        membrane, scale = _integrator(node, contract, zero, cast)
    elif cuba:
        current, membrane, scale = _two_stages(name, node, contract, zero, cast)
    else:
        membrane, scale = _one_stage(name, node, contract, cast)
    reset, lag = contract.reset, contract.reset_lag
    if integrates or cuba:
        reset = contract.if_reset if integrates else contract.cuba_reset
        lag = contract.if_reset_lag if integrates else contract.cuba_reset_lag
    start = {"zero": zero, "v_leak": v_leak, "v_reset": v_reset}[contract.initial_v]
    clip = contract.if_lower_clip if integrates else contract.lower_clip
    if threshold is not None:
        threshold = np.asarray(threshold, np.float64) / scale
    parts = Coefficients(
        current=current,
        membrane=membrane,
        current_start=cast(v_leak if contract.leak == "v_leak-and-current" else zero),
        start=cast(zero if integrates and contract.initial_v == "v_leak" else start),
        threshold=None if threshold is None else cast(threshold),
        v_reset=cast(v_reset),
        reset="none" if threshold is None else reset,
        reset_lag=lag,
        lower_clip=None if clip == "none" or threshold is None else cast(zero if clip == "zero" else -threshold),
    )
    _require_finite(name, parts)
    return parts


def _require_finite(name: str, parts: Coefficients) -> None:
    for value in (
        *vars(parts).values(),
        *vars(parts.membrane).values(),
        *(vars(parts.current).values() if parts.current else ()),
    ):
        if isinstance(value, np.ndarray) and not np.isfinite(value).all():
            what, remedy = "parameters too large or small for their product", "choose other units"
            raise LavatubeError(what, where=name, expected=f"finite {value.dtype}", got="infinity", remedy=remedy)


def _integrator(node: Any, contract: ExecutionContract, zero: np.ndarray, cast: Cast) -> tuple[Leaky, np.ndarray]:
    gain = {"r*dt": node.r * contract.dt, "r": node.r, "one": zero + 1}[contract.if_input]
    if "if-r=1/dt" in contract.requires:
        gain = zero + 1  # what the rule says, without the rounding of r * dt
    scale = zero + 1
    return Leaky(cast(zero + contract.if_decay), cast(gain), cast(zero), cast(zero)), scale


def _one_stage(name: str, node: Any, contract: ExecutionContract, cast: Cast) -> tuple[Leaky, np.ndarray]:
    keep, gain = _decay_and_gain(name, node.tau, contract)
    factor = np.ones_like(gain) if contract.resistance == "ignored" else np.asarray(node.r, np.float64)
    gain, scale = gain * factor, np.ones_like(gain)
    if contract.gain_place != "input" and hasattr(node, "v_threshold") and not np.allclose(gain, 1):
        scale = gain if contract.gain_place == "threshold" else np.full_like(gain, gain.min())
        gain = np.ones_like(gain)
    rest = np.asarray(node.v_leak, np.float64)
    if contract.arithmetic == "decay":
        return Leaky(cast(keep), cast(gain), cast((1 - keep) * rest), cast(rest)), scale
    step = cast(contract.dt) * (1 / cast(node.tau))
    if "lif-r=1-or-tau/dt" in contract.requires and np.allclose(gain, 1, rtol=1e-5):
        return Leaky(cast(keep), cast(np.ones_like(gain)), cast(rest), cast(rest), step), scale
    return Leaky(cast(keep), cast(gain), cast(rest), cast(rest), step, cast(factor)), scale


def _two_stages(
    name: str, node: Any, contract: ExecutionContract, zero: np.ndarray, cast: Cast
) -> tuple[Leaky, Leaky, np.ndarray]:
    keep_s, gain_s = _decay_and_gain(name, node.tau_syn, contract)
    keep_m, gain_m = _decay_and_gain(name, node.tau_mem, contract)
    w_in, r = np.asarray(node.w_in, np.float64), np.asarray(node.r, np.float64)
    gain_s, gain_m, scale, one = gain_s * w_in, gain_m * r, zero + 1, zero + 1
    exact_r = "cuba-r=tau_mem/dt" in contract.requires or contract.cuba_input == "one"
    exact_w = "cuba-w_in=tau_syn/dt" in contract.requires or contract.cuba_input == "one"
    gain_m, gain_s = one if exact_r else gain_m, one if exact_w else gain_s
    if contract.gain_place != "input" and hasattr(node, "v_threshold") and not np.allclose(gain_s * gain_m, 1):
        scale, gain_s, gain_m = gain_s * gain_m, one, one
    rest = np.asarray(node.v_leak, np.float64)
    rest_s = rest if contract.leak == "v_leak-and-current" else zero
    if contract.arithmetic == "decay" or (exact_r and exact_w):
        current = Leaky(cast(keep_s), cast(gain_s), cast((1 - keep_s) * rest_s), cast(rest_s))
        return current, Leaky(cast(keep_m), cast(gain_m), cast((1 - keep_m) * rest), cast(rest)), scale
    step_s = cast(contract.dt) * (1 / cast(node.tau_syn))
    step_m = cast(contract.dt) * (1 / cast(node.tau_mem))
    current = Leaky(cast(keep_s), cast(gain_s), cast(rest_s), cast(rest_s), step_s, cast(w_in))
    return current, Leaky(cast(keep_m), cast(gain_m), cast(rest), cast(rest), step_m, cast(r)), scale


def _decay_and_gain(name: str, tau: np.ndarray, contract: ExecutionContract) -> tuple[np.ndarray, np.ndarray]:
    """(what a state keeps, what its input counts) for one timestep."""
    tau = np.asarray(tau, np.float64)
    if not (tau > 0).all():
        raise UnsupportedError("time constant", where=name, expected="above 0", got=str(tau.min()))
    ratio = contract.dt / tau
    if contract.decay == "forward-euler" and ratio.max() > STABLE:
        unit = "timesteps" if contract.tau_unit == "steps" else "s"
        raise UnsupportedError(
            f"dt is longer than a time constant: forward Euler is unstable under contract {contract.name}",
            where=name,
            expected=f"dt of at most {tau.min():g} {unit}",
            got=f"{contract.dt:g}",
            remedy="choose a smaller dt (--dt), or correct the unit of the time constants",
        )
    keep = np.maximum(1 - ratio, 0) if contract.decay == "forward-euler" else np.exp(-ratio)
    return keep, {"1-decay": 1 - keep, "dt/tau": ratio, "one": np.ones_like(ratio)}[contract.gain]
