"""VGG networks with average pooling: chains, so they deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.chain import ChainNetwork
from lavatube.train.networks.network import Architecture, Parts, SpikingNetwork
from lavatube.train.networks.pooling import square
from lavatube.train.networks.spiking_layer import Conv, SpikingLayer, conv_layer, dense_layer
from lavatube.train.recipe_model import Number, Positive

# channels of 64ths of `width`; A: average pooling by 2 before the next layer
PLANS: Mapping[int, tuple[int | str, ...]] = {
    11: (1, "A", 2, 4, "A", 8, 8, "A", 8, "A", 8, 8),
    13: (1, 1, "A", 2, 2, "A", 4, 4, "A", 8, 8, "A", 8, 8),
}


class Vgg(Architecture):
    """depth 11 (the plan of arXiv 2410.11488's code) or 13 (Simonyan, Zisserman 2015, plan B).

    width:      channels of the first layer.
    weight_std: of the normal distribution that weights are drawn from at first (arXiv 2410.11488's code: 0.5); null:
                torch's own initialisation. Its biases before a normalisation, which change nothing, are left out.
    The read-out averages over all places that are left.
    """

    kind: Literal["vgg"] = "vgg"
    source: ClassVar[str] = "Simonyan, Zisserman 2015; plan of depth 11: arXiv 2410.11488's code"
    depth: Literal[11, 13] = 11
    width: Positive = 64
    weight_std: Annotated[Number, Field(gt=0)] | None = None

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        shape, pool, layers = parts.shape, None, list[SpikingLayer]()
        for entry in PLANS[self.depth]:
            if isinstance(entry, str):
                pool = square(2)
                continue
            conv, name = Conv(entry * self.width, 3, padding=1), f"{where}: layer{len(layers) + 1}"
            layers.append(conv_layer(shape, conv, parts.hidden, pool=pool, where=name))
            shape, pool = layers[-1].out_shape, None
        if shape[1] != shape[2]:
            raise LavatubeError("vgg needs square images", where=where, got=str(parts.shape))
        layers.append(dense_layer(shape, parts.classes, parts.readout, pool=square(shape[1])))
        if self.weight_std is not None:
            for layer in layers:
                nn.init.normal_(layer.synapse.weight, std=self.weight_std)
        return ChainNetwork(parts, layers)
