"""The layout of a quantized network: geometry and registers of each layer, checked before anything is built from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lavatube import fixed_point as fp
from lavatube.errors import LavatubeError
from lavatube.neuron_layout import NeuronLayout
from lavatube.pooling import Pool

Size = Annotated[int, Field(ge=1, le=1 << 24)]
Pair = Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")]
Shape = Annotated[list[Size], Field(min_length=1, max_length=3)]
INPUT = "input"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SynapseLayout(_Strict):
    """`bits`-bit integers worth `scale` each, a = floor((sum of q * s) * 2^headroom). source: a layer, or
    "input".

    pool: (kernel, stride): the synapse sees sums over these windows of the events of `in_shape`.
    form: "free", or "signs": of each output channel one magnitude, times signs that fine-tuning keeps.
    """

    name: Name
    source: Name
    kind: Literal["conv2d", "dense", "scale"]
    in_shape: Shape
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    pool: Pair | None = None
    bits: Annotated[int, Field(ge=2, le=fp.WEIGHT_BITS_MAX)]
    headroom: Annotated[int, Field(ge=1 - fp.WEIGHT_BITS_MAX, le=fp.WEIGHT_EXPONENT_MAX + fp.WEIGHT_BITS_MAX)]
    scale: Annotated[float, Field(gt=0, le=1)]
    form: Literal["free", "signs"] = "free"

    @model_validator(mode="after")
    def _consistent(self) -> SynapseLayout:
        if math.frexp(self.scale)[0] != 0.5:
            raise ValueError(f"scale {self.scale} is not a power of two")
        if self.headroom < 1 - self.bits:
            raise ValueError(f"headroom {self.headroom} of {self.bits} bits, at least {1 - self.bits}")
        if self.pool is not None:
            windows = Pool(*self.pool)
            if not 1 <= windows.kernel <= windows.stride:
                raise ValueError(f"pool {self.pool}: a kernel of at least 1, a stride of at least the kernel")
            if not windows.fits(tuple(self.in_shape)):
                raise ValueError(f"windows of {windows.kernel} x {windows.kernel} do not fit {self.in_shape}")
        if self.kind != "conv2d":
            return self
        if self.kernel is None or self.stride is None or self.padding is None or 0 in self.kernel + self.stride:
            raise ValueError("a conv2d needs kernel, stride and padding, kernel and stride at least 1")
        if len(self.in_shape) != 3:
            raise ValueError(f"a conv2d cannot see {self.in_shape}")
        return self

    def fits(self, out_shape: list[int]) -> bool:
        """Whether the geometry gives this output."""
        if self.kind == "dense":
            return len(out_shape) == 1
        seen = self.in_shape if self.pool is None else list(Pool(*self.pool).out_shape(tuple(self.in_shape)))
        if self.kind == "scale":
            return out_shape == seen
        assert self.kernel is not None
        assert self.stride is not None
        assert self.padding is not None
        rows = zip(seen[1:], self.padding, self.kernel, self.stride, strict=True)
        return out_shape[1:] == [(n + 2 * p - k) // s + 1 for n, p, k, s in rows]


class LayerLayout(_Strict):
    """A population, or the read-out (without neurons), and the synapses that drive it."""

    name: Name
    out_shape: Shape
    synapses: Annotated[list[SynapseLayout], Field(min_length=1)]
    neuron: NeuronLayout | None
    logit_scale: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> LayerLayout:
        for synapse in self.synapses:
            if not synapse.fits(self.out_shape):
                raise ValueError(f"output {self.out_shape} does not follow from the geometry of {synapse.name}")
        if all(synapse.kind == "scale" for synapse in self.synapses):
            raise ValueError(f"{self.name}: a conv2d or dense synapse has to carry the bias")
        units = {synapse.scale / 2.0**synapse.headroom for synapse in self.synapses}
        if len(units) > 1:
            raise ValueError(f"synapses of one population have the activation units {sorted(units)}")
        return self


class InputLayout(_Strict):
    shape: Shape
    message_bits: Annotated[int, Field(ge=1, le=fp.MESSAGE_BITS_MAX)]


class NetworkLayout(_Strict):
    """Layers in order of execution: a synapse whose source is its own layer or a later one sees the step before."""

    num_steps: Size
    input: InputLayout
    layers: Annotated[list[LayerLayout], Field(min_length=1)]

    @model_validator(mode="after")
    def _graph(self) -> NetworkLayout:
        shapes = {INPUT: self.input.shape}
        for layer in self.layers:
            if (layer.neuron is None) != (layer is self.layers[-1]):
                raise ValueError(f"{layer.name}: the last layer, and no other, is the read-out without neurons")
            if layer.name in shapes:
                raise ValueError(f"{layer.name}: two layers of one name")
            shapes[layer.name] = layer.out_shape
        names = [synapse.name for layer in self.layers for synapse in layer.synapses]
        if len(set(names)) < len(names):
            raise ValueError(f"two synapses of one name among {names}")
        used = set()
        for layer in self.layers:
            for synapse in layer.synapses:
                if shapes.get(synapse.source) != synapse.in_shape or synapse.source == self.layers[-1].name:
                    got = shapes.get(synapse.source, "no layer")
                    raise ValueError(f"{synapse.name} expects {synapse.in_shape}, {synapse.source} gives {got}")
                used.add(synapse.source)
        if unused := set(shapes) - used - {self.layers[-1].name}:
            raise ValueError(f"nothing uses {', '.join(sorted(unused))}")
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
