"""Recurrent networks for sequences: dense populations that see their own spikes of the timestep before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from lavatube.train.networks.network import Architecture, Parts, SpikingNetwork
from lavatube.train.networks.spiking_layer import dense_layer
from lavatube.train.passes.base import Pass
from lavatube.train.recipe_model import Positive
from lavatube.train.seq import Seq


class Recurrent(Architecture):
    """units: of each recurrent population, from input to read-out. Feedback arrives one timestep late."""

    kind: Literal["recurrent"] = "recurrent"
    units: Annotated[list[Positive], Field(min_length=1)]

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"recurrence"})

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        return RecurrentNetwork(parts, self)


class RecurrentLayer(nn.Module):
    """Dense current, normalised, plus the feedback (not normalised) of the population's own spikes."""

    def __init__(self, shape: tuple[int, ...], units: int, parts: Parts) -> None:
        super().__init__()
        self.layer = dense_layer(shape, units, parts.hidden)
        self.feedback = nn.Linear(units, units, bias=False)
        nn.init.orthogonal_(self.feedback.weight, gain=0.5)

    def forward(self, x: Seq, run: Pass) -> Seq:
        layer = self.layer
        assert layer.neurons is not None
        x = run.linear(layer.current, x)
        x = x if layer.norm is None else run.norm(layer.norm, x)
        return run.recurrent(self.feedback, layer.neurons, x)


class RecurrentNetwork(SpikingNetwork):
    def __init__(self, parts: Parts, settings: Recurrent) -> None:
        super().__init__(parts)
        self.own_needs = settings.needs
        shape, self.hidden = parts.shape, nn.ModuleList()
        for count in settings.units:
            self.hidden.append(RecurrentLayer(shape, count, parts))
            shape = (count,)
        self.readout = dense_layer(shape, parts.classes, parts.readout)

    def body(self, x: Seq, run: Pass) -> Seq:
        for index, layer in enumerate(self.hidden, start=1):
            x = layer(x, run)
            run.tap(f"hidden{index}", x)
        result: Seq = self.readout(x, run)
        return result
