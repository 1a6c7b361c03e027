"""One population of a float graph, stepped under a contract; Threshold and Delay, which also live in time."""

from __future__ import annotations

from typing import Any, Literal

import nir
import numpy as np

from lavatube.contract import ExecutionContract
from lavatube.convert.float_graph.coefficients import Coefficients, coefficients
from lavatube.errors import UnsupportedError

POPULATIONS = (nir.I, nir.LI, nir.IF, nir.LIF, nir.CubaLI, nir.CubaLIF)
When = Literal["now", "before", "instead"]  # of the reset: in the timestep of the spike; in the next, around its update
SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)


class Population:
    """State of an I, LI, IF, LIF, CubaLI or CubaLIF node for a batch.

    recurrent: whether it has a synapse onto itself.
    offset: what is added to v at every timestep besides the input (a bias that skips the current), or None.
    v:      [B, ...] after the last step, after the reset; pending: with output_lag 1, what leaves at the next step.
    """

    def __init__(
        self, name: str, node: nir.NIRNode, contract: ExecutionContract, shape: tuple[int, ...], batch: int,
        offset: np.ndarray | None = None, recurrent: bool = False,
    ) -> None:  # fmt: skip
        self.contract, self.shape = contract, (batch, *shape)
        self.parts: Coefficients = coefficients(name, node, contract)
        self.offset = None if offset is None else np.asarray(offset, contract.precision)
        self.v = self._filled(self.parts.start)
        self.current = self._filled(self.parts.current_start)
        self.reset_due = self.pending = self._filled(0)
        cuba = self.parts.current is not None
        late = bool(self.parts.reset_lag) or (recurrent and cuba and contract.cuba_recurrent_reset == "late")
        replaces = contract.late_zero != "before-update" and (
            recurrent or cuba or contract.late_zero == "instead-of-update"
        )
        self.when: When = "now" if not late else "instead" if replaces else "before"
        self.truncate = contract.state_rounding == "toward-zero"

    def _filled(self, value: Any) -> np.ndarray:
        return np.array(np.broadcast_to(np.asarray(value, self.contract.precision), self.shape))

    def step(self, drive: np.ndarray) -> np.ndarray:
        """What the population puts out at this timestep: spikes, or v where it has no threshold. [B, ...]"""
        parts = self.parts
        if parts.current is not None:
            old, self.current = self.current, parts.current(self.current, drive, self.truncate)
            drive = self.current if self.contract.current_order == "new" else old
        target = parts.v_reset if parts.reset == "v_reset" else 0
        assigns = parts.reset in ("zero", "v_reset")
        if assigns and self.when == "before":
            self.v = np.where(self.reset_due > 0, target, self.v).astype(self.v.dtype)
        before = self.v
        self.v = parts.membrane(self.v, drive, self.truncate)
        if self.offset is not None:
            self.v = self.v + self.offset
        if parts.threshold is None:
            return self.v
        if self.when != "now" and parts.reset.startswith("subtract"):
            self.v = self.v - self.reset_due * parts.threshold
        elif assigns and self.when == "instead":
            self.v = np.where(self.reset_due > 0, target, self.v).astype(self.v.dtype)
        spikes = self._fire_and_reset(before)
        if parts.lower_clip is not None:
            self.v = np.maximum(self.v - parts.lower_clip, 0) + parts.lower_clip  # sinabs' spelling, to the last bit
        if not self.contract.output_lag:
            return spikes
        leaving, self.pending = self.pending, spikes
        return leaving

    def _fire_and_reset(self, before: np.ndarray) -> np.ndarray:
        parts, v = self.parts, self.v
        assert parts.threshold is not None
        if parts.reset == "subtract-guarded" and self.when == "now":
            above = self._fired(before)
            v = v - above * parts.threshold
            spikes = self._fired(v)
            self.v = v - (spikes - above) * parts.threshold
            return spikes
        spikes = self._fired(v)
        self.reset_due = spikes
        if self.when != "now" or parts.reset == "none":
            return spikes
        if parts.reset == "subtract":
            self.v = v - spikes * parts.threshold
        else:
            self.v = np.where(spikes > 0, parts.v_reset if parts.reset == "v_reset" else 0, v).astype(v.dtype)
        return spikes

    def _fired(self, v: np.ndarray) -> np.ndarray:
        threshold = self.parts.threshold
        if self.contract.spikes_per_step == "many":
            return np.asarray(np.where(v > 0, np.trunc(v / threshold), 0), v.dtype)
        return np.asarray(v > threshold if self.contract.comparator == ">" else v >= threshold, v.dtype)


class Crossing:
    """A Threshold node: 1 where the input is beyond the threshold."""

    def __init__(self, node: nir.NIRNode, contract: ExecutionContract) -> None:
        self.threshold = np.asarray(node.threshold, contract.precision)
        self.strict = contract.comparator == ">"

    def step(self, drive: np.ndarray) -> np.ndarray:
        return np.asarray(drive > self.threshold if self.strict else drive >= self.threshold, drive.dtype)


class DelayLine:
    """A Delay node: element i comes `steps[i]` timesteps late, zeros before."""

    def __init__(
        self, name: str, node: nir.NIRNode, contract: ExecutionContract, shape: tuple[int, ...], batch: int
    ) -> None:
        exact = np.broadcast_to(np.asarray(node.delay, np.float64), shape) / contract.dt
        nearest = np.rint(exact)
        off = np.abs(exact - nearest) > 1e-6 * np.maximum(1, nearest)
        if (exact < 0).any() or (contract.delay_rounding == "exact" and off.any()):
            raise UnsupportedError(
                "delay", where=name, expected=f"multiples of dt = {contract.dt:g}, or another delay_rounding",
                got=str(np.asarray(node.delay).ravel()[off.ravel().argmax()]),
            )  # fmt: skip
        rounded = {"nearest": nearest, "exact": nearest, "down": np.floor(exact), "up": np.ceil(exact)}
        steps = np.where(off, rounded[contract.delay_rounding], nearest).astype(np.int64)
        self.line = np.zeros((int(steps.max(initial=0)) + 1, batch, *shape), contract.precision)
        self.where, self.now = np.broadcast_to(steps, (batch, *shape))[None], 0

    def step(self, drive: np.ndarray) -> np.ndarray:
        self.line[self.now % len(self.line)] = drive
        late = np.take_along_axis(self.line, (self.now - self.where) % len(self.line), axis=0)[0]
        self.now += 1
        return np.asarray(late)
