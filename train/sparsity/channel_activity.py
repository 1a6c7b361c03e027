"""Channel pruning by spiking-channel activity: what remains is a smaller network, not a sparse one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.errors import LavatubeError, UnsupportedError
from lavatube.train.neuron import emit
from lavatube.train.norms.all_reduce import mean_over_processes
from lavatube.train.passes.activity import ActivityPass
from lavatube.train.plugin import Step
from lavatube.train.recipe_model import Number
from lavatube.train.sparsity.channels import Prunable, keep_channels, prunable
from lavatube.train.sparsity.masks import add_mask, dense_gradient, fold_mask, keep_live, latent_of, live_of
from lavatube.train.sparsity.sparsity import Sparsity, cosine

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork

MASKED = ("weight", "bias")  # of a normalisation: gamma and beta


class ChannelActivity(Sparsity):
    """Channels whose neurons stay little polarised are pruned; some of them grow back while training goes on.

        importance I_c = mean over batch, places and timesteps of |u_c|, u the voltage before the reset
        every `update_every` steps, of C channels n = round(r C) are to live, r a half cosine from 1 to `keep`:
        prune down to n - q by importance, then regrow the q with the largest |dL/dgamma_c| of those masked before

    q falls from `regrow` n to 0 along a half cosine; so exactly n live, at least one. The mask is on gamma and beta of
    the normalisation: a masked channel's current is 0 (masking before it would leave beta, which trains on), and
    dL/dgamma is as if the mask were 1, or nothing could grow back. `finalize` cuts the channels out: neurons, synapses
    and readers' inputs go. Pruned are layers that only synapses read, so not those that shortcuts or feedback tie.
    The paper's: |u| as importance, regrowth by the gradient of the normalisation's gain. Our reconstruction: the
    schedules, one ratio for all layers, u before the reset and by running statistics, straight-through dL/dgamma.

    keep:       share of each layer's channels that is left.
    regrow:     share of the live channels that the first updates replace by regrowth.
    importance: "membrane" (the paper's), or, to compare, "rate" (mean |s|), "gain" (|gamma|) or "random".
    """

    kind: Literal["sca"] = "sca"
    source: ClassVar[str] = "SCA-based pruning: Li et al., Towards efficient deep SNNs construction, ICML 2024"
    unit: ClassVar[Literal["weight", "channel"]] = "channel"
    keep: Annotated[Number, Field(gt=0, lt=1)] = 0.5
    regrow: Annotated[Number, Field(ge=0, lt=1)] = 0.1
    importance: Literal["membrane", "rate", "gain", "random"] = "membrane"

    def attach(self, network: SpikingNetwork) -> None:
        parts = prunable(network)
        if not parts:
            raise LavatubeError(
                "sca finds no channels to prune",
                where="recipe sparsity",
                expected="a normalised layer with neurons that only synapses read",
                got=type(network).__name__,
                remedy="use a chain, vgg or resnet, with a normalization",
            )
        for part in parts:
            spec = part.neurons.spec
            first = torch.tensor([spec.decay * spec.v_initial])  # later voltages are nearer to 0
            if bool(emit(spec, first, torch.tensor([False]) if spec.memory_gate else None)):
                raise UnsupportedError(
                    "a channel without current would fire", where=f"{part.name} (sparsity sca)",
                    got=f"v_initial {spec.v_initial:g}", remedy="set neuron.v_initial nearer to 0",
                )  # fmt: skip
            for name in MASKED:
                add_mask(part.norm, name, torch.ones_like(part.norm.weight, dtype=torch.bool))

    @torch.no_grad()
    def before_update(self, network: SpikingNetwork, step: Step) -> None:
        if self.is_due(step):
            parts = prunable(network)
            for part, importance in zip(parts, self._importances(network, parts, step), strict=True):
                live, latent = live_of(part.norm, "weight"), latent_of(part.norm, "weight", self.kind)
                assert live is not None
                wanted = dense_gradient(latent, part.name, self.kind).abs()
                chosen = self._chosen(live, importance, wanted, self.progress(step))
                for name in MASKED:
                    mask = live_of(part.norm, name)
                    assert mask is not None
                    mask.copy_(chosen)
        for norm in network.norms():
            for name in MASKED:
                if (live := live_of(norm, name)) is not None:
                    keep_live(latent_of(norm, name, self.kind), live, step.optimizer)

    def _chosen(
        self, live: torch.Tensor, importance: torch.Tensor, wanted: torch.Tensor, progress: float
    ) -> torch.Tensor:
        """Which channels live from now on, [C] bool. live: until now; wanted: |dL/dgamma|; not finite: none regrow."""
        count = max(1, round(cosine(1.0, self.keep, progress) * len(live)))
        grown = min(int(cosine(self.regrow, 0.0, progress) * count), int((~live).sum()), count - 1)
        grown = grown if bool(torch.isfinite(wanted).all()) else 0  # a loss scaler skips such a step
        chosen = torch.zeros_like(live)
        chosen[importance.masked_fill(~live, -1).topk(count - grown).indices] = True
        chosen[wanted.masked_fill(live, -1).topk(grown).indices] = True
        return chosen

    def _importances(self, network: SpikingNetwork, parts: list[Prunable], step: Step) -> list[torch.Tensor]:
        """[C] of every prunable layer, at least 0, the same on every process."""
        gains = [latent_of(part.norm, "weight", self.kind).abs() for part in parts]
        if self.importance == "gain":
            return gains
        if self.importance == "random":
            return [torch.rand(gain.shape, generator=step.generator).to(gain.device) for gain in gains]
        was_training, activity = network.training, ActivityPass(network.num_steps)
        network.eval()(step.inputs, activity)
        network.train(was_training)
        measured = activity.voltages if self.importance == "membrane" else activity.events
        return [mean_over_processes(measured[part.neurons.name]) for part in parts]

    def finalize(self, network: SpikingNetwork) -> None:
        for part in prunable(network):
            if (live := live_of(part.norm, "weight")) is not None:
                for name in MASKED:
                    fold_mask(part.norm, name)
                keep_channels(part, live.nonzero().flatten().tolist())

    def resize(self, network: SpikingNetwork, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for part in prunable(network):
            channels, *_ = *shapes.get(f"{part.name}.synapse.weight", ()), 0
            if 0 < channels <= len(part.norm.weight):
                keep_channels(part, range(channels))
