"""Dspike: a surrogate whose sharpness follows how well its gradient agrees with that of the true, hard loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.train.recipe_model import Number, Positive
from lavatube.train.surrogates import Above0, Surrogate

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork
    from lavatube.train.probe import Probe

TEMPERATURE = "surrogate_temperature"  # of a network while it trains


class Dspike(Surrogate):
    """D'(x) = a b (1 - tanh^2(b (x - 1/2))) for 0 <= x <= 1, else 0; x = distance / width + 1/2.

    a = 1 / (2 tanh(b / 2)). It is the slope of D(x) = a tanh(b (x - 1/2)) + 1/2, which goes from 0 to 1: its integral
    is 1 for every b. b -> 0 is the rectangle, b -> infinity the step itself.

    temperature: b in the first epoch.
    change:      before each epoch, of b - change, b and b + change the one is kept whose gradient of one batch has the
                 largest cosine with finite differences (L(w + e d) - L(w - e d)) / 2e of the true loss; w: the weights
                 of the first layer. 0: b stays.
    directions:  d, drawn from a normal distribution; each weight by itself where that are no more.
    epsilon:     e, as a share of the root mean square of w.
    width:       of the active range, in units of the current.
    Family, criterion, first layer and one choice per epoch are the paper's; random directions in place of all weights,
    and the values of temperature, change and epsilon, are our choice (theirs we have not read). On digits, 0.05 gave
    cosines of 0.5 to 0.7 with one maximum between b = 3 and 10 once training was under way; 0.01 gave noise.
    `lavatube quantize` fine-tunes with the temperature of the first epoch.
    """

    kind: Literal["dspike"] = "dspike"
    source: ClassVar[str] = "Li, Guo, Zhang, Deng, Hai, Gu, NeurIPS 2021 (Differentiable Spike)"
    temperature: Annotated[Above0, Field(le=100)] = 1.0
    width: Above0 = 1.0
    change: Annotated[Number, Field(ge=0, le=10)] = 0.25
    directions: Positive = 32
    epsilon: Annotated[Number, Field(gt=0, le=1)] = 0.05

    def derivative(self, distance: torch.Tensor) -> torch.Tensor:
        b, x = self.temperature, distance / self.width
        slope = b / (2 * math.tanh(b / 2)) * (1 - torch.tanh(b * x) ** 2)
        return slope * (x.abs() <= 0.5) / self.width

    def attach(self, network: SpikingNetwork) -> None:
        network.register_buffer(TEMPERATURE, torch.tensor(self.temperature))

    def finalize(self, network: SpikingNetwork) -> None:
        if hasattr(network, TEMPERATURE):
            delattr(network, TEMPERATURE)

    def before_epoch(self, network: SpikingNetwork, probe: Callable[[], Probe]) -> None:
        kept = network.get_buffer(TEMPERATURE)  # of a checkpoint, after a resume
        if self.change:
            kept.fill_(self.adapted(probe(), float(kept)))
        set_temperature(network, float(kept))

    def adapted(self, probe: Probe, temperature: float) -> float:
        """The best of three neighbours on the probe's batch; the present one unless another is better."""
        near = [temperature, temperature - self.change, temperature + self.change]
        agreements = self.agreements(probe, [b for b in near if 0 < b <= 100])
        return max(agreements, key=lambda b: agreements[b])

    def agreements(self, probe: Probe, temperatures: list[float]) -> dict[float, float]:
        """By temperature, the cosine between the surrogate's gradient and finite differences of the true loss."""
        name, weight = next((name, p) for name, p in probe.network.named_parameters() if p.ndim > 1)
        directions = self._directions(weight.detach(), probe.generator)
        step = self.epsilon * float(weight.detach().square().mean().sqrt())
        true = finite_differences(lambda shift: probe.loss(lambda copy: _shift(copy, name, shift)), directions, step)
        found = {}
        for b in temperatures:
            gradient = probe.gradients(lambda copy, b=b: set_temperature(copy, b))[name]  # type: ignore[misc]
            slopes = torch.stack([(gradient * d).sum() for d in directions]).double().cpu()
            found[b] = float(torch.nn.functional.cosine_similarity(true, slopes, dim=0))
        return found

    def _directions(self, weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if weight.numel() <= self.directions:
            return torch.eye(weight.numel(), dtype=weight.dtype, device=weight.device).reshape(-1, *weight.shape)
        return torch.randn(self.directions, *weight.shape, generator=generator).to(weight)


def finite_differences(loss: Callable[[torch.Tensor], float], directions: torch.Tensor, step: float) -> torch.Tensor:
    """Central differences (loss(step d) - loss(-step d)) / 2 step, one per direction; loss: of a shift. float64."""
    return torch.tensor([(loss(step * d) - loss(-step * d)) / (2 * step) for d in directions], dtype=torch.float64)


def set_temperature(network: SpikingNetwork, temperature: float) -> None:
    """Give every population's surrogate this temperature."""
    for population in network.populations():
        surrogate = population.spec.surrogate.model_copy(update={"temperature": temperature})
        population.spec = population.spec.model_copy(update={"surrogate": surrogate})


@torch.no_grad()
def _shift(network: SpikingNetwork, name: str, shift: torch.Tensor) -> None:
    network.get_parameter(name).add_(shift)
