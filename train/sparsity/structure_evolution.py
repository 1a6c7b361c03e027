"""Evolutionary structure learning: a network that is sparse from its first step on, and rewires itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from lavatube.train.plugin import Step
from lavatube.train.recipe_model import Number
from lavatube.train.sparsity.density import erdos_renyi
from lavatube.train.sparsity.masks import add_mask, dense_gradient, fold_mask, keep_live, latent_of, live_of
from lavatube.train.sparsity.sparsity import Sparsity, cosine

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork


class StructureEvolution(Sparsity):
    """Each layer keeps its number of synapses at every step; every `update_every` steps some are exchanged:

        k = floor(zeta n_live),   zeta(t) = exchange / 2 (1 + cos(pi t / t_end)),   t_end = until x all steps
        drop the k live synapses of smallest |w|;   grow k that were not live: the largest |dL/dw|, or any (`grow`)

    Grown synapses start from 0, with a fresh optimizer state (of binary weights the latent one does, whose sign is +1:
    they start from alpha). dL/dw is the dense gradient of that one step. Dropped ones do not grow back in the same
    exchange. The masked weight is exactly 0 in every forward and in the export.
    The paper's: sparse from the start with Erdoes-Renyi masks, prune and grow at a constant density, several growth
    rules. Our reconstruction, after the practice of RigL: how the density spreads over layers (`erdos_renyi`), zeta's
    cosine, `until`, the reset of the optimizer's state, growth from 0.

    density:  share of all weights (of convolutions, dense layers and feedback) that exist.
    exchange: share of them that the first exchange replaces; below 1, or nothing learnt would be left.
    """

    kind: Literal["esl"] = "esl"
    source: ClassVar[str] = "ESL-SNNs: Shen, Xu, Liu, Wang, Pan, Tang, AAAI 2023; RigL: Evci et al., ICML 2020"
    unit: ClassVar[Literal["weight", "channel"]] = "weight"
    density: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    exchange: Annotated[Number, Field(ge=0, lt=1)] = 0.3
    grow: Literal["gradient", "random"] = "gradient"

    def attach(self, network: SpikingNetwork) -> None:
        layers = synapses(network)
        latents = [latent_of(layer, "weight", self.kind) for layer in layers]
        counts = erdos_renyi([tuple(latent.shape) for latent in latents], self.density)
        for layer, latent, count in zip(layers, latents, counts, strict=True):
            live = torch.zeros(latent.numel(), dtype=torch.bool)
            live[torch.randperm(latent.numel())[:count]] = True
            live = live.reshape(latent.shape).to(latent.device)
            latent.data.masked_fill_(~live, 0)
            add_mask(layer, "weight", live)

    @torch.no_grad()
    def before_update(self, network: SpikingNetwork, step: Step) -> None:
        due, names = self.is_due(step), {module: name for name, module in network.named_modules()}
        for layer in synapses(network):
            live, latent = live_of(layer, "weight"), latent_of(layer, "weight", self.kind)
            assert live is not None
            stays = live
            gradient = dense_gradient(latent, names[layer], self.kind) if due else None
            if gradient is not None and bool(torch.isfinite(gradient).all()):
                exchanged = self._exchanged(latent, gradient, live, step)
                stays = live & exchanged
                live.copy_(exchanged)
                latent.masked_fill_(~stays, 0)  # dropped; and grown, which was 0
            keep_live(latent, stays, step.optimizer)

    def _exchanged(self, latent: torch.Tensor, gradient: torch.Tensor, live: torch.Tensor, step: Step) -> torch.Tensor:
        """What lives from now on; as many as before."""
        share = cosine(self.exchange, 0.0, (step.number + 1) / (self.until * step.total))
        after = live.flatten().clone()
        count = min(math.floor(share * int(live.sum())), int((~live).sum()))
        wanted = gradient.abs()
        if self.grow == "random":
            wanted = torch.rand(live.shape, generator=step.generator).to(live.device)
        dropped = latent.abs().masked_fill(~live, torch.inf).flatten().topk(count, largest=False).indices
        grown = wanted.masked_fill(live, -1).flatten().topk(count).indices
        after[dropped], after[grown] = False, True
        return after.reshape(live.shape)

    def finalize(self, network: SpikingNetwork) -> None:
        for layer in synapses(network):
            fold_mask(layer, "weight")


def synapses(network: SpikingNetwork) -> list[nn.Conv2d | nn.Linear]:
    """Everything in a network that has synaptic weights, in order."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
