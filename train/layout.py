"""The layout of a quantized network: geometry and registers of each layer, checked before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError

Size = Annotated[int, Field(ge=1, le=1 << 24)]
Pair = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=2, max_length=2)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NeuronLayout(_Strict):
    """Registers of a population; see `lavatube.fixed_point`."""

    du: Annotated[int, Field(ge=0, le=fp.DECAY_MAX)]
    dv: Annotated[int, Field(ge=1, le=fp.DECAY_MAX)]
    vth: Annotated[int, Field(ge=1, le=fp.THRESHOLD_MAX)]
    bias_exp: Annotated[int, Field(ge=0, le=fp.BIAS_EXPONENT_MAX)]


class LayerLayout(_Strict):
    """A synapse of `bits`-bit integers worth `scale` each, a = (sum of q * s) << headroom, and its neurons."""

    name: Annotated[str, Field(pattern=r"^layer[0-9]{1,4}$")]
    kind: Literal["conv2d", "dense"]
    in_shape: Annotated[list[Size], Field(min_length=1, max_length=3)]
    out_shape: Annotated[list[Size], Field(min_length=1, max_length=3)]
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    bits: Annotated[int, Field(ge=2, le=fp.WEIGHT_BITS_MAX)]
    headroom: Annotated[int, Field(ge=0, le=fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX)]
    scale: Annotated[float, Field(gt=0, le=1)]
    neuron: NeuronLayout | None
    logit_scale: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LayerLayout:
        if math.frexp(self.scale)[0] != 0.5:
            raise ValueError(f"scale {self.scale} is not a power of two")
        if self.kind == "dense":
            if len(self.out_shape) != 1:
                raise ValueError("a dense layer has one output dimension")
            return self
        if self.kernel is None or self.stride is None or self.padding is None or 0 in self.kernel + self.stride:
            raise ValueError("a conv2d needs kernel, stride and padding, kernel and stride at least 1")
        rows = zip(self.in_shape[1:], self.padding, self.kernel, self.stride, strict=False)
        sizes = [(n + 2 * p - k) // s + 1 for n, p, k, s in rows]
        if len(self.in_shape) != 3 or self.out_shape[1:] != sizes:
            raise ValueError(f"output {self.out_shape} does not follow from the geometry")
        return self


class InputLayout(_Strict):
    shape: Annotated[list[Size], Field(min_length=1, max_length=3)]
    message_bits: Annotated[int, Field(ge=1, le=fp.MESSAGE_BITS_MAX)]


class NetworkLayout(_Strict):
    num_steps: Size
    input: InputLayout
    layers: Annotated[list[LayerLayout], Field(min_length=1)]

    @model_validator(mode="after")
    def _chain(self) -> NetworkLayout:
        shape = self.input.shape
        for layer in self.layers:
            if layer.in_shape != shape:
                raise ValueError(f"{layer.name} expects {layer.in_shape}, the layer before gives {shape}")
            if (layer.neuron is None) != (layer is self.layers[-1]):
                raise ValueError(f"{layer.name}: the last layer, and no other, is the read-out without neurons")
            shape = layer.out_shape
        return self


def check_layout(layout: Mapping[str, Any]) -> dict[str, Any]:
    """The layout as plain values. raises: LavatubeError naming the field and the rule."""
    try:
        return NetworkLayout.model_validate(dict(layout)).model_dump(mode="json", exclude_none=False)
    except (ValidationError, TypeError, ValueError) as error:
        detail = (
            error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error), "input": ""}
        )
        place = ".".join(str(part) for part in detail["loc"]) or "layout"
        what = f"layout field {place}: {detail['msg']}"
        raise LavatubeError(what, where="quantized network", got=repr(detail.get("input"))[:60]) from error
