"""The spiking neuron, defined once: what one timestep does, and its derivatives. Every gradient rule uses these.

    u[t] = decay v[t-1] + I[t];   s[t] = output(u[t]);   v[t] = reset(u[t]);   v[0] = v_initial

A neuron fires where u > fire_at v_threshold, strictly. While refractory (the `refractory` timesteps after a spike) it
ignores its input, keeps v and is silent.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lavatube.fixed_point import DECAY_MAX, DECAY_ONE
from lavatube.train.recipe_model import Number, OneOf, Strict, yaml_number
from lavatube.train.surrogate_table import SURROGATES
from lavatube.train.surrogates import Sigmoid, Spike, Surrogate


class NeuronSpec(Strict):
    """One population's neuron.

    decay:        fraction of the voltage that stays each timestep, snapped to what the chip holds (1: no leak).
    decay_asked:  the decay before snapping; filled in where they differ, and reported as lossy.
    dv:           the chip's register, decay = 1 - dv / 4096; filled in, so that a resolved recipe has it.
    v_threshold:  in units of the synaptic current.
    reset:        "zero" (v = 0 after a spike) or "subtract" (v = u - v_threshold s).
    v_initial:    voltage before the first timestep.
    fire_at:      fraction of v_threshold above which it fires; a reset by subtraction still takes all of v_threshold.
    output:       "binary" (0, 1), "signed" (1 above v_threshold, -1 below -v_threshold_low) or "graded" (u, if above).
    v_threshold_low: of signed spikes; null: v_threshold.
    graded_max:   of graded spikes: the largest value, in thresholds (more is cut off); null: without limit.
    payload_bits: of graded spikes: what a chip sends them in; quantization rounds them down to 2^payload_bits steps.
    memory_gate:  of signed spikes: -1 only while the sum of the neuron's spikes is positive.
    refractory:   timesteps of rest after a spike.
    detach_reset: the reset passes no gradient.
    """

    decay: Annotated[Number, Field(ge=0, le=1)]
    decay_asked: Number | None = None
    dv: Annotated[int, Field(validate_default=True)] = -1
    v_threshold: Annotated[Number, Field(gt=0)] = 1.0
    reset: Literal["zero", "subtract"] = "zero"
    v_initial: Number = 0.0
    fire_at: Annotated[Number, Field(gt=0, le=1)] = 1.0
    output: Literal["binary", "signed", "graded"] = "binary"
    v_threshold_low: Annotated[Number, Field(ge=0)] | None = None
    memory_gate: bool = False
    graded_max: Annotated[Number, Field(gt=1)] | None = None
    payload_bits: Annotated[int, Field(ge=2, le=16)] = 6
    refractory: Annotated[int, Field(ge=0, le=63)] = 0
    detach_reset: bool = True
    surrogate: Annotated[Surrogate, OneOf(SURROGATES)] = Sigmoid()

    @model_validator(mode="before")
    @classmethod
    def _keep_what_was_asked(cls, value: Any) -> Any:
        decay = yaml_number(value.get("decay")) if isinstance(value, dict) else None
        if isinstance(decay, (int, float)) and 0 <= decay <= 1 and decay != 1 - _decay_register(decay) / DECAY_ONE:
            return {**value, "decay_asked": float(decay)}
        return value

    @field_validator("decay")
    @classmethod
    def _snap(cls, decay: float) -> float:
        return 1 - _decay_register(decay) / DECAY_ONE

    @field_validator("dv")
    @classmethod
    def _derive(cls, dv: int, info: ValidationInfo) -> int:
        if "decay" not in info.data:
            return dv
        register = _decay_register(info.data["decay"])
        if dv not in (-1, register):
            raise PydanticCustomError("dv", "{register} (from decay), or no dv", {"register": register})
        return register

    @model_validator(mode="after")
    def _consistent(self) -> NeuronSpec:
        if self.output == "graded" and self.reset == "subtract":
            message = "reset zero with a graded output: subtracting the output u leaves 0 anyway"
            raise PydanticCustomError("reset", "{message}", {"message": message})
        if self.fire_at < 1 and (self.reset, self.output) != ("subtract", "binary"):
            raise PydanticCustomError("fire_at", "fire_at 1, or reset subtract and output binary")
        if self.output != "signed" and (self.memory_gate or self.v_threshold_low is not None):
            raise PydanticCustomError("signed", "v_threshold_low and memory_gate with output signed only")
        if self.output != "graded" and self.graded_max is not None:
            raise PydanticCustomError("graded", "graded_max with output graded only")
        if self.graded_max is not None and self.graded_max > 2 ** (self.payload_bits - 1):
            raise PydanticCustomError("payload", "graded_max of at most half of 2^payload_bits: steps below 1")
        return self

    @property
    def fires_above(self) -> float:
        """The voltage above which it fires."""
        return self.fire_at * self.v_threshold

    @property
    def largest(self) -> float:
        """The largest graded spike."""
        return math.inf if self.graded_max is None else self.graded_max * self.v_threshold

    @property
    def fires_below(self) -> float:
        """The voltage below which a signed neuron emits -1."""
        return -(self.v_threshold if self.v_threshold_low is None else self.v_threshold_low)

    def firing_at_threshold(self) -> tuple[NeuronSpec, float]:
        """(the same neuron with fire_at 1, the current that it gets besides at every timestep).

        In w = u + c, c = (1 - fire_at) v_threshold, it fires above v_threshold and subtracts v_threshold:
        w[t] = decay w[t-1] + I[t] + (1 - decay) c, from v_initial + c. Without leak that is an initial potential alone.
        """
        moved = (1 - self.fire_at) * self.v_threshold
        if moved == 0:
            return self, 0.0
        changes = {"fire_at": 1.0, "v_initial": self.v_initial + moved}
        return self.model_copy(update=changes), (1 - self.decay) * moved

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities that a target must offer, beyond a leaky neuron with binary spikes and reset to zero."""
        found = {
            "soft reset": self.reset == "subtract",
            "initial potential": self.v_initial != 0 or self.fire_at < 1,
            "signed spikes": self.output == "signed",
            "graded spikes": self.output == "graded",
            "graded spikes without a limit": self.output == "graded" and self.graded_max is None,
            "refractory period": self.refractory > 0,
        }
        return frozenset(name for name, needed in found.items() if needed)


def _decay_register(decay: float) -> int:
    return min(round((1 - decay) * DECAY_ONE), DECAY_MAX)


def emit(
    spec: NeuronSpec, u: torch.Tensor, gate: torch.Tensor | None = None, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """s of `fire` alone, written to `out` if given (shape and dtype of u)."""
    s = torch.gt(u, spec.fires_above, out=torch.empty_like(u) if out is None else out)
    if spec.output == "graded":
        s *= u.clamp(max=spec.largest)
    if spec.output == "signed":
        below = u < spec.fires_below
        s -= (below if gate is None else below & gate).to(u.dtype)
    return s


def fire(
    spec: NeuronSpec, u: torch.Tensor, gate: torch.Tensor | None = None, *, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values only; call without autograd. u: any shape. gate: bool, where a -1 may be; None: anywhere.

    out: where s is written. returns: (s, v after the reset), both in the dtype of u.
    """
    s = emit(spec, u, gate, out=out)
    if spec.reset == "subtract":
        return s, torch.sub(u, s, alpha=spec.v_threshold)
    # u (1 - fired) in one sweep; tensors of bool would take several
    return s, torch.addcmul(u, u, _fired(spec, s), value=-1)


def _fired(spec: NeuronSpec, s: torch.Tensor) -> torch.Tensor:
    """1 where events s are not 0, else 0, in the dtype of s."""
    return s if spec.output == "binary" else s.sign() if spec.output == "graded" else s.abs()


def partials(
    spec: NeuronSpec, u: torch.Tensor, s: torch.Tensor, gate: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """(ds/du, dv/du) of `fire`, with the surrogate for the step function. u, s: any shape, as `fire` gave them."""
    gain = spec.surrogate.derivative(u - spec.fires_above)
    kept = 0.0 if spec.detach_reset else 1.0
    if spec.output == "graded":
        above = _fired(spec, s)
        below_limit = torch.lt(u, spec.largest, out=torch.empty_like(u))
        by_u = below_limit.mul_(above).addcmul_(u.clamp(max=spec.largest), gain)
        at_rest = 1 - above
        return by_u, at_rest.addcmul_(u, gain, value=-kept) if kept else at_rest
    slope_of_fired = gain
    if spec.output == "signed":
        below = spec.surrogate.derivative(spec.fires_below - u)
        below = below if gate is None else below * gate
        gain, slope_of_fired = gain + below, gain - below
    if spec.reset == "subtract":
        return gain, 1 - kept * spec.v_threshold * gain if kept else 1.0
    at_rest = 1 - _fired(spec, s)
    return gain, at_rest - u * slope_of_fired if kept else at_rest


def fire_by_autograd(
    spec: NeuronSpec, u: torch.Tensor, gate: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`fire`, differentiable by autograd operation by operation: the definition that `partials` must agree with."""
    above: torch.Tensor = Spike.apply(u - spec.fires_above, spec.surrogate)
    below = torch.zeros_like(u)
    if spec.output == "signed":
        below = Spike.apply(spec.fires_below - u, spec.surrogate)
        below = below if gate is None else below * gate
    reset_by = [x.detach() if spec.detach_reset else x for x in (above, below)]
    if spec.output == "graded":
        return u.clamp(max=spec.largest) * above, u * (1 - reset_by[0])
    s = above - below
    if spec.reset == "subtract":
        return s, u - spec.v_threshold * (reset_by[0] - reset_by[1])
    return s, u * (1 - reset_by[0] - reset_by[1])
