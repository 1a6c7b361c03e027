"""The spiking neuron, defined once: what one timestep does, and its derivatives. Every gradient rule uses these.

    u[t] = decay v[t-1] + I[t];   s[t] = output(u[t]);   v[t] = reset(u[t]);   v[0] = v_initial

A neuron fires where u > v_threshold, strictly. While refractory (the `refractory` timesteps after a spike) it ignores
its input, keeps v and is silent.
"""

from __future__ import annotations

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
    output:       "binary" (0, 1), "signed" (1 above v_threshold, -1 below its negative) or "graded" (u, if above).
    refractory:   timesteps of rest after a spike.
    detach_reset: the reset passes no gradient.
    """

    decay: Annotated[Number, Field(ge=0, le=1)]
    decay_asked: Number | None = None
    dv: Annotated[int, Field(validate_default=True)] = -1
    v_threshold: Annotated[Number, Field(gt=0)] = 1.0
    reset: Literal["zero", "subtract"] = "zero"
    v_initial: Number = 0.0
    output: Literal["binary", "signed", "graded"] = "binary"
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
        return self

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities that a target must offer, beyond a leaky neuron with binary spikes and reset to zero."""
        found = {
            "no leak": self.dv == 0,
            "soft reset": self.reset == "subtract",
            "initial potential": self.v_initial != 0,
            "signed spikes": self.output == "signed",
            "graded spikes": self.output == "graded",
            "refractory period": self.refractory > 0,
        }
        return frozenset(name for name, needed in found.items() if needed)


def _decay_register(decay: float) -> int:
    return min(round((1 - decay) * DECAY_ONE), DECAY_MAX)


def fire(spec: NeuronSpec, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values only. u: any shape. returns: (s, v after the reset), both in the dtype of u."""
    above = (u > spec.v_threshold).to(u.dtype)
    if spec.output == "graded":
        s = u * above
        return s, u - s
    s = above if spec.output == "binary" else above - (u < -spec.v_threshold).to(u.dtype)
    if spec.reset == "subtract":
        return s, u - spec.v_threshold * s
    return s, u * (1 - s.abs())


def partials(spec: NeuronSpec, u: torch.Tensor, s: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | float]:
    """(ds/du, dv/du) of `fire`, with the surrogate for the step function. u, s: any shape, as `fire` gave them."""
    gain = spec.surrogate.derivative(u - spec.v_threshold)
    kept = 0.0 if spec.detach_reset else 1.0
    if spec.output == "graded":
        above = (s != 0).to(u.dtype)
        return above + u * gain, (1 - above) - kept * u * gain
    slope_of_fired = gain
    if spec.output == "signed":
        below = spec.surrogate.derivative(-u - spec.v_threshold)
        gain, slope_of_fired = gain + below, gain - below
    if spec.reset == "subtract":
        return gain, 1 - kept * spec.v_threshold * gain if kept else 1.0
    at_rest = 1 - s.abs()
    return gain, at_rest - u * slope_of_fired if kept else at_rest


def fire_by_autograd(spec: NeuronSpec, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`fire`, differentiable by autograd operation by operation: the definition that `partials` must agree with."""
    above: torch.Tensor = Spike.apply(u - spec.v_threshold, spec.surrogate)
    below = torch.zeros_like(u)
    if spec.output == "signed":
        below = Spike.apply(-u - spec.v_threshold, spec.surrogate)
    reset_by = [x.detach() if spec.detach_reset else x for x in (above, below)]
    if spec.output == "graded":
        return u * above, u * (1 - reset_by[0])
    s = above - below
    if spec.reset == "subtract":
        return s, u - spec.v_threshold * (reset_by[0] - reset_by[1])
    return s, u * (1 - reset_by[0] - reset_by[1])
