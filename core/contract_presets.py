"""Contracts by the platform that they were read from: one row per choice, the common value and who differs from it.

The source of every row and the evidence for every preset are in docs/contract.md.
"""

from __future__ import annotations

from typing import Any

from lavatube.contract import LOIHI, ExecutionContract, field_value
from lavatube.errors import LavatubeError

_PLATFORMS = {
    "lava": "Lava 0.10.0, floating-point LIF, by the script of the NIR paper",
    "norse": "Norse 1.1.0",
    "norse-subtract": "Norse 1.1.0 with reset_method=reset_subtract, which reaches CubaLIF only",
    "snntorch": "snnTorch 1.0.0",
    "snntorch-subtract": "snnTorch 1.0.0, networks trained with reset_mechanism='subtract', reset_delay=False",
    "snntorch-delay": "snnTorch 1.0.0, networks trained with its defaults, 'subtract' and reset_delay=True",
    "snntorch-delay-zero": "snnTorch 1.0.0, networks trained with reset_mechanism='zero' and reset_delay=True",
    "spikingjelly": "SpikingJelly 2.0.0",
    "sinabs": "sinabs 3.1.3",
    "spyx": "Spyx as of the NIR paper (0.1, 2023)",
    "spyx-1.0": "Spyx 1.0.0",
    "nengo": "Nengo, by the script of the NIR paper",
    "rockpool": "Rockpool as of the NIR paper, LIF only",
    "spinnaker2": "SpiNNaker2 (s2_nir, Brian2 emulation) as of the NIR paper, LIF only",
}
_LINEAR = ("Affine", "Linear", "Conv2d", "Flatten")
_SNNTORCH = ("snntorch", "snntorch-subtract", "snntorch-delay", "snntorch-delay-zero")
_DELAYED = ("snntorch-delay", "snntorch-delay-zero")
_NORSE = ("norse", "norse-subtract")
_SPYX = ("spyx", "spyx-1.0")
_TORCH = (*_SNNTORCH, *_NORSE, "spikingjelly", "sinabs", *_SPYX, "rockpool")
_TRAINED_RESET = {"snntorch-subtract": "subtract-guarded", "snntorch-delay": "subtract", "spikingjelly": "v_reset"}

# field: (common value, {preset or presets: another})
_CHOICES: dict[str, tuple[Any, dict[Any, Any]]] = {
    "dt": (1e-4, {_NORSE: 1e-3, ("sinabs", "spyx-1.0"): 1.0}),
    "tau_unit": ("s", {("sinabs", "spyx-1.0"): "steps"}),
    "decay": ("forward-euler", {("sinabs", "nengo", "rockpool"): "exponential"}),
    "gain": ("dt/tau", {("sinabs", "spyx-1.0"): "one", "nengo": "1-decay"}),
    "gain_place": ("input", {_SNNTORCH: "threshold-smallest", "spinnaker2": "threshold"}),
    "arithmetic": ("decay", {(*_NORSE, "spikingjelly"): "difference"}),
    "resistance": ("r", {(*_NORSE, "lava", "sinabs", *_SPYX): "ignored"}),
    "leak": ("v_leak", {_NORSE: "v_leak-and-current"}),
    "initial_v": ("zero", {_NORSE: "v_leak", "spikingjelly": "v_reset"}),
    "if_input": ("one", {_SNNTORCH: "r", "spikingjelly": "r*dt"}),
    "if_decay": (1.0, {_SNNTORCH: 0.9}),
    "if_reset": (
        "subtract", {_SNNTORCH: "subtract-guarded", (*_NORSE, "lava", "nengo"): "zero", "spikingjelly": "v_reset"},
    ),
    "if_reset_lag": (0, {_SPYX: 1}),
    "if_lower_clip": ("none", {"sinabs": "-threshold"}),
    "cuba_input": ("r,w_in", {"spyx-1.0": "one"}),
    "cuba_reset": ("zero", {("norse-subtract", "spyx-1.0"): "subtract", **_TRAINED_RESET}),
    "cuba_reset_lag": (0, {_DELAYED: 1}),
    "cuba_recurrent_reset": ("as-others", {_SNNTORCH: "late"}),
    "late_zero": ("before-update", {_SNNTORCH: "lif-before-update"}),
    "current_order": ("new", {}),
    "comparator": (">", {("spikingjelly", "sinabs", "rockpool"): ">="}),
    "reset": ("zero", {(*_SPYX, "sinabs", "rockpool"): "subtract", **_TRAINED_RESET}),
    "reset_lag": (0, {(*_SPYX, *_DELAYED): 1}),
    "spikes_per_step": ("one", {("sinabs", "rockpool"): "many"}),
    "lower_clip": ("none", {"nengo": "zero"}),
    "output_lag": (0, {_SPYX: 1}),
    "feedback_delay": (1, {_SPYX: 0}),
    "feedback_cut": ("before-synapse", {(*_NORSE, "spikingjelly"): "after-synapse"}),
    "feedback_initial": ("zero", {}),
    "bias": ("input", {}),
    "bias_onset": (0, {}),
    "delay_rounding": ("exact", {}),
    "weight_rounding": ("none", {}),
    "state_rounding": ("none", {}),
    "precision": ("float64", {_TORCH: "float32"}),
    "nodes": (
        (*_LINEAR, "SumPool2d", "IF", "LIF", "CubaLIF"),
        {
            "lava": ("Affine", "Linear", "LIF"),
            ("snntorch", "snntorch-subtract"): (*_LINEAR, "SumPool2d", "AvgPool2d", "IF", "LIF", "CubaLIF"),
            _DELAYED: (*_LINEAR, "SumPool2d", "AvgPool2d", "LIF", "CubaLIF"),
            "spikingjelly": (*_LINEAR, "Conv1d", "SumPool2d", "AvgPool2d", "IF", "LIF", "CubaLIF"),
            "sinabs": ("Affine", "Conv2d", "Flatten", "SumPool2d", "LI", "IF", "LIF"),
            "spyx": (*_LINEAR, "SumPool2d", "IF", "LIF"),
            "spyx-1.0": ("Affine", "Linear", "IF", "LIF", "CubaLIF"),  # pictures: channels last there, first in NIR
            "nengo": (*_LINEAR, "SumPool2d", "IF", "LIF"),
            ("rockpool", "spinnaker2"): ("Affine", "Linear", "LIF"),
        },
    ),
    "requires": (
        ("no-recurrence", "v_leak=0"),
        {
            "lava": ("no-recurrence", "v_leak=0", "bias=0"),
            _NORSE: ("pool-padding=0",),
            _SNNTORCH: (
                "plain-recurrence", "threshold>0", "uniform-threshold", "v_leak=0", "if-r=1", "cuba-r=tau_mem/dt",
                "pool-padding=0",
            ),
            "spikingjelly": (
                "uniform-parameters", "v_leak=v_reset", "cuba-v_leak=0", "if-r=1/dt", "lif-r=1-or-tau/dt",
                "cuba-r=tau_mem/dt", "cuba-w_in=tau_syn/dt", "groups=1", "pool-padding=0",
            ),
            "sinabs": ("no-recurrence", "v_leak=0", "threshold>0", "li-r=1", "pool-padding=0"),
            "spyx": ("no-recurrence", "v_leak=0", "threshold>0", "pool-padding=0"),
            "spyx-1.0": (
                "plain-recurrence", "recurrent-bias=0", "v_leak=0", "threshold>0", "pool-padding=0", "groups=1",
            ),
            "nengo": ("no-recurrence", "v_leak=0", "threshold>0", "r=1", "if-r=1", "pool-padding=0"),
            "rockpool": ("no-recurrence", "v_leak=0", "threshold>0"),
            "spinnaker2": ("no-recurrence", "v_leak=0", "threshold>0", "bias=0"),
        },
    ),
}  # fmt: skip


def _preset(name: str) -> ExecutionContract:
    chosen: dict[str, Any] = {}
    for field, (common, others) in _CHOICES.items():
        chosen[field] = common
        for names, value in others.items():
            if name == names or (isinstance(names, tuple) and name in names):
                chosen[field] = value
    return ExecutionContract(name=name, platform=_PLATFORMS[name], **chosen)


PRESETS: dict[str, ExecutionContract] = {"loihi": LOIHI, **{name: _preset(name) for name in _PLATFORMS}}


def preset(name: str) -> ExecutionContract:
    """A contract by name. raises: LavatubeError that lists the names."""
    if name not in PRESETS:
        raise LavatubeError("unknown contract", expected=", ".join(PRESETS), got=repr(name))
    return PRESETS[name]


def parse_contract(text: str) -> ExecutionContract:
    """A contract as said on a command line: NAME, or NAME,FIELD=VALUE,... with the fields that differ.

    raises: LavatubeError for an unknown name, field or value, or a field given twice.
    """
    name, *changes = text.split(",")
    contract = preset(name.strip())
    values: dict[str, Any] = {}
    for change in changes:
        field, separator, value = change.partition("=")
        if not separator:
            raise LavatubeError("contract", expected="NAME,FIELD=VALUE,...", got=repr(text))
        if field.strip() in values:
            raise LavatubeError("a contract field given twice", expected="once", got=field.strip())
        values[field.strip()] = field_value(field.strip(), value.strip())
    return contract.with_overrides(**values) if values else contract


def with_timestep(
    contract: ExecutionContract, dt: float | None, asked: ExecutionContract | str | None
) -> ExecutionContract:
    """The contract with another timestep, if any. asked: as the user said it.

    raises: LavatubeError if it says a dt, too.
    """
    if dt is None:
        return contract
    if isinstance(asked, str) and any(part.partition("=")[0].strip() == "dt" for part in asked.split(",")):
        raise LavatubeError("dt given twice", expected="in --contract or as --dt", got=f"{asked!r} and --dt {dt:g}")
    return contract.with_overrides(dt=dt)
