"""A population's registers as a row of a file: of a quantized checkpoint and of NIR metadata; checked before use."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lavatube import fixed_point as fp
from lavatube.neuron_node import PAYLOAD_SHIFT_MAX, REFRACTORY_MAX


class NeuronLayout(BaseModel):
    """Registers of a population; see `lavatube.fixed_point` and `lavatube.neuron_node`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    du: Annotated[int, Field(ge=0, le=fp.DECAY_MAX)]
    dv: Annotated[int, Field(ge=0, le=fp.DECAY_MAX)]
    vth: Annotated[int, Field(ge=1, le=fp.THRESHOLD_MAX)]
    bias_exp: Annotated[int, Field(ge=0, le=fp.BIAS_EXPONENT_MAX)]
    reset: Literal["zero", "subtract"] = "zero"
    output: Literal["binary", "signed", "graded"] = "binary"
    vth_low: Annotated[int, Field(ge=0, le=fp.THRESHOLD_MAX)] = 0
    memory_gate: bool = False
    v_initial: Annotated[int, Field(ge=-fp.VOLTAGE_MAX, le=fp.VOLTAGE_MAX)] = 0
    refractory: Annotated[int, Field(ge=0, le=REFRACTORY_MAX)] = 0
    payload_shift: Annotated[int, Field(ge=0, le=PAYLOAD_SHIFT_MAX)] = 0
    payload_bits: Annotated[int, Field(ge=0, le=fp.MESSAGE_BITS_MAX)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> NeuronLayout:
        if self.output != "signed" and (self.vth_low or self.memory_gate):
            raise ValueError("vth_low and memory_gate are of signed spikes")
        graded = self.output == "graded"
        if graded != (self.payload_bits > 0) or (self.payload_shift and not graded):
            raise ValueError("payload_bits and payload_shift are of graded spikes")
        if graded and (self.reset != "zero" or self.vth << fp.ACTIVATION_SHIFT < 1 << self.payload_shift):
            raise ValueError("graded spikes need a reset to zero and payloads of at least 1")
        return self
