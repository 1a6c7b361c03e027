"""A chain of layers, given one by one in the recipe."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator
from pydantic_core import PydanticCustomError

from lavatube.train.networks.network import Architecture, Parts, SpikingNetwork, fits_classes
from lavatube.train.networks.pooling import SpikePool
from lavatube.train.networks.spiking_layer import Conv, SpikingLayer, conv_layer, dense_layer
from lavatube.train.passes.base import Pass
from lavatube.train.recipe_model import Positive, Strict
from lavatube.train.seq import Seq


class Conv2d(Strict):
    channels: Positive
    kernel: Positive
    stride: Positive = 1
    padding: Annotated[int, Field(ge=0, le=255)] = 0


class Dense(Strict):
    units: Positive


class Pool2d(Strict):
    """Of the next layer's inputs; becomes part of that layer's synapse. stride: null for the kernel."""

    kernel: Positive
    stride: Positive | None = None


class Conv2dLayer(Strict):
    conv2d: Conv2d


class DenseLayer(Strict):
    dense: Dense


class AvgPool2dLayer(Strict):
    avg_pool2d: Pool2d

    def pool(self) -> SpikePool:
        return SpikePool(self.avg_pool2d.kernel, self.avg_pool2d.stride or self.avg_pool2d.kernel)


class SumPool2dLayer(Strict):
    sum_pool2d: Pool2d

    def pool(self) -> SpikePool:
        return SpikePool(self.sum_pool2d.kernel, self.sum_pool2d.stride or self.sum_pool2d.kernel, sums=True)


POOLS = ("avg_pool2d", "sum_pool2d")
LAYER_KINDS = ("conv2d", "dense", *POOLS)


def layer_kind(value: Any) -> str | None:
    """The one key of a layer's mapping says its kind."""
    if isinstance(value, dict):
        return str(next(iter(value))) if len(value) == 1 else None
    return next((kind for kind in LAYER_KINDS if hasattr(value, kind)), None)


Layer = Annotated[
    Annotated[Conv2dLayer, Tag("conv2d")]
    | Annotated[DenseLayer, Tag("dense")]
    | Annotated[AvgPool2dLayer, Tag("avg_pool2d")]
    | Annotated[SumPool2dLayer, Tag("sum_pool2d")],
    Discriminator(
        layer_kind,
        custom_error_type="layer_kind",
        custom_error_message="a mapping with one key, one of: " + ", ".join(LAYER_KINDS),
    ),
]


class Chain(Architecture):
    """layers: from input to read-out; the last one is dense and has no neurons."""

    kind: Literal["chain"] = "chain"
    layers: Annotated[list[Layer], Field(min_length=1)]

    @field_validator("layers")
    @classmethod
    def _in_order(cls, layers: list[Layer]) -> list[Layer]:
        kinds = [layer_kind(layer) for layer in layers]
        if kinds[-1] != "dense" or "conv2d" in kinds[kinds.index("dense") :]:
            raise PydanticCustomError("layer_order", "convolutions first, and a dense layer last (the read-out)")
        if any(a in POOLS and b in POOLS for a, b in pairwise(kinds)):
            raise PydanticCustomError("layer_order", "one pool before a layer: multiply their kernels")
        return layers

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        readout, shape, built = self.layers[-1], parts.shape, list[SpikingLayer]()
        pool: SpikePool | None = None
        for layer in self.layers:
            if isinstance(layer, AvgPool2dLayer | SumPool2dLayer):
                pool = layer.pool()
                continue
            cell = parts.readout if layer is readout else parts.hidden
            name = f"{where}: layer{len(built) + 1}"
            if isinstance(layer, Conv2dLayer):
                built.append(conv_layer(shape, Conv(**layer.conv2d.model_dump()), cell, pool=pool, where=name))
            else:
                built.append(dense_layer(shape, layer.dense.units, cell, pool=pool, where=name))
            shape, pool = built[-1].out_shape, None
        fits_classes(shape[0], parts.classes, where)
        return ChainNetwork(parts, built)


class ChainNetwork(SpikingNetwork):
    """`SpikingLayer`s named layer1, layer2, ...; every hidden one is a stage that the objective can tap."""

    def __init__(self, parts: Parts, layers: list[SpikingLayer]) -> None:
        super().__init__(parts)
        for index, layer in enumerate(layers, start=1):
            self.add_module(f"layer{index}", layer)

    def chain(self) -> list[tuple[str, SpikingLayer]]:
        return [(name, layer) for name, layer in self.named_children() if isinstance(layer, SpikingLayer)]

    def body(self, x: Seq, run: Pass) -> Seq:
        for name, layer in self.chain():
            x = layer(x, run)
            if layer.neurons is not None:
                run.tap(name, x)
        return x
