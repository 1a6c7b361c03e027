"""The execution contract: what NIR leaves unsaid about *when* and *how* a network is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from lavatube.errors import LavatubeError


@dataclass(frozen=True)
class ExecutionContract:
    """How a graph is stepped. Ours is Loihi's; other presets come with the import of other frameworks' files.

    Each field names one discrete choice; see docs/contract.md. dt is in seconds, tau in seconds.
    """

    version: int = 1
    name: str = "loihi"
    dt: float = 1e-4
    tau_unit: str = "s"
    integrator: str = "forward-euler"  # decay = 1 - dt / tau
    gain: str = "r*dt/tau, w_in*dt/tau_syn"
    current_order: str = "new-current-drives-voltage"
    comparator: str = ">"
    reset: str = "zero"
    reset_lag: int = 0
    spikes_per_step: int = 1
    output_lag: int = 0
    feedback_delay: int = 1
    feedback_initial: int = 0
    bias: str = "added to v every step from the first"
    rounding: str = "decays toward zero in 1/4096; weights, thresholds and biases are exact integers"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str) -> ExecutionContract:
        """Read a contract; anything unknown or unlike Loihi's is refused, not defaulted."""
        known = {field.name for field in fields(cls)}
        if set(value) != known:
            odd = sorted(set(value) ^ known)
            raise LavatubeError("execution contract has missing or unknown fields", where=where, got=", ".join(odd))
        contract = cls(**value)
        for field in fields(cls):
            ours, theirs = getattr(LOIHI, field.name), getattr(contract, field.name)
            if type(ours) is not type(theirs) or (ours != theirs and field.name != "dt"):
                raise LavatubeError(
                    f"execution contract field {field.name} is not supported",
                    where=where,
                    expected=repr(ours),
                    got=repr(theirs),
                )
        if not 0 < contract.dt < float("inf"):
            raise LavatubeError("dt must be positive seconds", where=where, got=repr(contract.dt))
        return contract


LOIHI = ExecutionContract()
