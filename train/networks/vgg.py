"""VGG networks with average pooling: chains, so they deploy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from lavatube.errors import LavatubeError
from lavatube.train.networks.chain import ChainNetwork
from lavatube.train.networks.network import Architecture, Parts, SpikingNetwork
from lavatube.train.networks.pooling import square
from lavatube.train.networks.spiking_layer import Conv, SpikingLayer, conv_layer, dense_layer
from lavatube.train.recipe_model import Positive

# channels of 64ths of `width`; A: average pooling by 2 before the next layer
PLANS: Mapping[int, tuple[int | str, ...]] = {
    11: (1, "A", 2, 4, "A", 8, 8, "A", 8, "A", 8, 8),
    13: (1, 1, "A", 2, 2, "A", 4, 4, "A", 8, 8, "A", 8, 8),
}


class Vgg(Architecture):
    """depth 11 (the plan of arXiv 2410.11488's code) or 13 (Simonyan, Zisserman 2015, plan B).

    width: channels of the first layer. The read-out averages over all places that are left.
    """

    kind: Literal["vgg"] = "vgg"
    source: ClassVar[str] = "Simonyan, Zisserman 2015; plan of depth 11: arXiv 2410.11488's code"
    depth: Literal[11, 13] = 11
    width: Positive = 64

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
        return ChainNetwork(parts, layers)
