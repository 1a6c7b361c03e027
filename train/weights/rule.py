"""What a parametrization of weights is: which weights a network may have, and what of it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn
from torch.nn.utils import parametrize

from lavatube.errors import LavatubeError
from lavatube.train.networks.spiking_layer import SpikingLayer
from lavatube.train.plugin import Plugin

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class WeightRule(Plugin):
    """Latent weights train; the network computes with what `parametrization` makes of them, and keeps that at the end.

    layers: "hidden": the first layer and the read-out keep free weights (quantized as any other), as in all papers
            here; "all": every layer.
    values_per_channel: how many values an output channel has at most, in the finalized network and in the program.
    """

    values_per_channel: ClassVar[int]
    layers: Literal["hidden", "all"] = "hidden"

    def parametrization(self, layer: SpikingLayer) -> nn.Module:
        """A module from latent weights to weights, both as the layer's; its own parameters train along."""
        raise NotImplementedError

    def attach(self, network: SpikingNetwork) -> None:
        if not (chosen := self.chosen(network)):
            raise LavatubeError(
                f"weight {self.kind} has no layer to work on", where="recipe weight", got="a network without",
                expected="a layer between the first and the read-out", remedy="set weight.layers: all",
            )  # fmt: skip
        for layer in chosen:
            parametrize.register_parametrization(layer.synapse, "weight", self.parametrization(layer))

    def chosen(self, network: SpikingNetwork) -> list[SpikingLayer]:
        """The layers that it works on."""
        found = [module for module in network.modules() if isinstance(module, SpikingLayer)]
        return found if self.layers == "all" else found[1:-1]

    def finalize(self, network: SpikingNetwork) -> None:
        # with it goes the mask of a sparsity schedule that lies over the same weights: both are folded in
        for layer in self.chosen(network):
            if parametrize.is_parametrized(layer.synapse, "weight"):
                parametrize.remove_parametrizations(layer.synapse, "weight", leave_parametrized=True)
