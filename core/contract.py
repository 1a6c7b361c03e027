"""The execution contract: what NIR leaves unsaid about *when* and *how* a network is computed (docs/contract.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lavatube.errors import LavatubeError

Reset = Literal["zero", "v_reset", "subtract", "subtract-guarded", "none"]
Lag = Literal[0, 1]
NodeKind = Literal[
    "Affine", "Linear", "Scale", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Delay", "I", "LI", "IF",
    "LIF", "CubaLI", "CubaLIF", "Threshold",
]  # fmt: skip
Requirement = Literal[
    "no-recurrence", "plain-recurrence", "threshold>0", "uniform-threshold", "uniform-parameters", "v_leak=0",
    "v_leak=v_reset", "v_reset=0", "r=1", "li-r=1", "if-r=1", "if-r=1/dt", "lif-r=1-or-tau/dt", "cuba-v_leak=0",
    "cuba-r=tau_mem/dt", "cuba-w_in=tau_syn/dt", "bias=0", "recurrent-bias=0", "pool-padding=0", "groups=1",
]  # fmt: skip


VERSION = 2


@dataclass(frozen=True)
class ExecutionContract:
    """How a graph is stepped: each field is one discrete choice, with its formula in docs/contract.md.

    Presets are in `lavatube.contract_presets`; `name` says which one this is or started from, `platform` what it was
    read from. `nodes` and `requires` bound what the contract computes: a graph outside is refused, by name.
    raises: LavatubeError if a value is not one of those that its field knows.
    """

    name: str
    platform: str
    dt: float
    tau_unit: Literal["s", "steps"]
    decay: Literal["forward-euler", "exponential"]
    gain: Literal["1-decay", "dt/tau", "one"]
    gain_place: Literal["input", "threshold", "threshold-smallest"]
    arithmetic: Literal["decay", "difference"]
    resistance: Literal["r", "ignored"]
    leak: Literal["v_leak", "v_leak-and-current"]
    initial_v: Literal["zero", "v_leak", "v_reset"]
    if_input: Literal["r*dt", "r", "one"]
    if_decay: float
    if_reset: Reset
    if_reset_lag: Lag
    if_lower_clip: Literal["none", "-threshold"]
    cuba_input: Literal["r,w_in", "one"]
    cuba_reset: Reset
    cuba_reset_lag: Lag
    cuba_recurrent_reset: Literal["as-others", "late"]
    late_zero: Literal["before-update", "instead-of-update", "lif-before-update"]
    current_order: Literal["new", "old"]
    comparator: Literal[">", ">="]
    reset: Reset
    reset_lag: Lag
    spikes_per_step: Literal["one", "many"]
    lower_clip: Literal["none", "-threshold", "zero"]
    output_lag: Lag
    feedback_delay: Lag
    feedback_cut: Literal["before-synapse", "after-synapse"]
    feedback_initial: Literal["zero"]
    bias: Literal["input", "voltage"]
    bias_onset: Literal[0]
    delay_rounding: Literal["exact", "nearest", "down", "up"]
    weight_rounding: Literal["none", "integer-grid"]
    state_rounding: Literal["none", "integer-grid", "toward-zero"]
    precision: Literal["float64", "float32"]
    nodes: tuple[NodeKind, ...]
    requires: tuple[Requirement, ...]
    version: Literal[2] = 2

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            value = getattr(self, name)
            if not _fits(value, kind):
                expected = ", ".join(map(repr, _choices(kind))) or getattr(kind, "__name__", str(kind))
                what = f"execution contract field {name} is not known"
                raise LavatubeError(what, where=self.name, expected=expected, got=repr(value))
        if not 0 < self.dt < math.inf or not 0 <= self.if_decay <= 1:
            raise LavatubeError(
                "dt must be positive, if_decay 0..1", where=self.name, got=f"{self.dt}, {self.if_decay}"
            )
        if self.feedback_delay == 0 and self.output_lag == 0:
            what = "a recurrent edge without delay needs spikes that are known before the step"
            raise LavatubeError(what, where=self.name, expected="feedback_delay 1, or output_lag 1")
        if self.tau_unit == "steps" and self.dt != 1:
            raise LavatubeError("tau in steps means dt = 1", where=self.name, expected="dt = 1", got=str(self.dt))

    def with_overrides(self, **changes: Any) -> ExecutionContract:
        """The same contract with some fields changed; with a dt other than 1, tau is in its unit, not in steps.

        raises: LavatubeError for unknown fields or values; `version`, `name` and `platform` stay: they say whence.
        """
        free = set(_kinds()) - {"version", "name", "platform"}
        if unknown := sorted(set(changes) - free):
            got = ", ".join(unknown)
            raise LavatubeError("unknown contract field", where=self.name, expected=", ".join(sorted(free)), got=got)
        if isinstance(changes.get("dt"), int):
            changes["dt"] = float(changes["dt"])
        if self.tau_unit == "steps" and changes.get("dt", 1.0) != 1.0:
            changes.setdefault("tau_unit", "s")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "nodes": list(self.nodes), "requires": list(self.requires)}

    @classmethod
    def read(cls, value: Mapping[str, Any], *, where: str) -> ExecutionContract:
        """Any contract, as written by `to_json`. raises: LavatubeError for a missing, unknown or ill-typed field."""
        if isinstance(value, Mapping) and value.get("version", VERSION) != VERSION:
            what, got = "an execution contract of another version", f"version {str(value['version'])[:20]}"
            remedy = "make the file again (a program: lower it again)"
            raise LavatubeError(what, where=where, expected=f"version {VERSION}", got=got, remedy=remedy)
        known = {field.name for field in fields(cls)}
        if not isinstance(value, Mapping) or set(value) != known:
            odd = sorted(set(value) ^ known) if isinstance(value, Mapping) else [type(value).__name__]
            raise LavatubeError("execution contract has missing or unknown fields", where=where, got=", ".join(odd))
        lists = {name: tuple(value[name]) for name in ("nodes", "requires") if isinstance(value[name], list)}
        try:
            return cls(**{**value, **lists})
        except LavatubeError as error:
            raise LavatubeError(str(error), where=where) from error

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, where: str) -> ExecutionContract:
        """The contract of integers: what is unlike Loihi's in any field but dt is refused, not converted."""
        contract = cls.read(value, where=where)
        for field in fields(cls):
            ours, theirs = getattr(LOIHI, field.name), getattr(contract, field.name)
            if ours != theirs and field.name != "dt":
                what = f"execution contract field {field.name} is not supported"
                raise LavatubeError(what, where=where, expected=repr(ours), got=repr(theirs))
        return contract


@cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(ExecutionContract)


def field_value(name: str, text: str) -> Any:
    """The value of a field from text. raises: LavatubeError for an unknown field or value."""
    kind = _kinds().get(name)
    if name == "version" or not (kind is float or _choices(kind)) or get_origin(kind) is tuple:
        raise LavatubeError("unknown contract field", expected="a field of docs/contract.md", got=repr(name))
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise LavatubeError(f"contract field {name}", expected="a number", got=repr(text)) from None
    for choice in _choices(kind):
        if str(choice) == text:
            return choice
    raise LavatubeError(f"contract field {name}", expected=", ".join(map(str, _choices(kind))), got=repr(text))


def _choices(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is tuple:
        return _choices(get_args(kind)[0])
    return get_args(kind) if get_origin(kind) is Literal else ()


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; True is not 1, 1.0 is not 1."""
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return type(value) is tuple and all(_fits(item, get_args(kind)[0]) for item in value)
    return type(value) is kind


NODE_KINDS: tuple[NodeKind, ...] = get_args(NodeKind)

LOIHI = ExecutionContract(
    name="loihi", platform="lavatube programs: Lava 0.10.0's fixed-point LIF", dt=1e-4, tau_unit="s",
    decay="forward-euler", gain="1-decay", gain_place="input", arithmetic="decay", resistance="r", leak="v_leak",
    initial_v="zero", if_input="r*dt", if_decay=1.0, if_reset="zero", if_reset_lag=0, if_lower_clip="none",
    cuba_input="r,w_in", cuba_reset="zero", cuba_reset_lag=0,
    cuba_recurrent_reset="as-others", late_zero="before-update", current_order="new", comparator=">", reset="zero",
    reset_lag=0, spikes_per_step="one", lower_clip="none", output_lag=0, feedback_delay=1,
    feedback_cut="before-synapse", feedback_initial="zero", bias="voltage", bias_onset=0, delay_rounding="exact",
    weight_rounding="integer-grid", state_rounding="integer-grid", precision="float64", nodes=NODE_KINDS,
    requires=("v_reset=0",),
)  # fmt: skip
