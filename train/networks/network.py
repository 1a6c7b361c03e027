"""The spiking network of a recipe, whatever its architecture, and its plain forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.targets import with_combined
from lavatube.train.networks.spiking_layer import Cell
from lavatube.train.neuron import NeuronSpec
from lavatube.train.norms.estimators import Estimator
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Neurons, Pass
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.plugin import Plugin
from lavatube.train.seq import Outputs, Seq


@dataclass(frozen=True)
class Parts:
    """What an architecture is built of. shape: of one sample, (C, H, W) or (F,); estimator: None for no norm."""

    shape: tuple[int, ...]
    classes: int
    num_steps: int
    neuron: NeuronSpec
    estimator: Estimator | None

    @property
    def hidden(self) -> Cell:
        """Normalised currents into neurons."""
        return Cell(self.num_steps, self.estimator, self.neuron)

    @property
    def current(self) -> Cell:
        """Normalised currents."""
        return Cell(self.num_steps, self.estimator)

    @property
    def readout(self) -> Cell:
        """Plain currents."""
        return Cell(self.num_steps)


class Architecture(Plugin):
    """A family of networks: its settings are those of a recipe's `network`."""

    def build(self, parts: Parts, where: str) -> SpikingNetwork:
        """raises: LavatubeError, naming `where` and the layer, if it does not fit the samples or the classes."""
        raise NotImplementedError


class SpikingNetwork(nn.Module):
    """Layers from events to a read-out; neurons are at rest before each sample.

    own_needs: capabilities that the target needs because of the architecture, beside those of its neurons.
    """

    own_needs: frozenset[str] = frozenset()

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.num_steps, self.input_shape = parts.num_steps, parts.shape

    def body(self, x: Seq, run: Pass) -> Seq:
        """Events to currents of the read-out [T, B, classes]."""
        raise NotImplementedError

    @property
    def needs(self) -> frozenset[str]:
        """Every capability that the exported network has to find on its target."""
        return with_combined(self.own_needs.union(*(population.spec.needs for population in self.populations())))

    def populations(self) -> list[Neurons]:
        return [module for module in self.modules() if isinstance(module, Neurons)]

    def norms(self) -> list[TimeStatNorm]:
        return [module for module in self.modules() if isinstance(module, TimeStatNorm)]

    def present(self, inputs: torch.Tensor) -> torch.Tensor:
        """[B, ...] as [1, B, ...] (the same at every timestep); [T, B, ...] as it is.

        raises: LavatubeError if the shape is neither.
        """
        static = inputs.ndim == len(self.input_shape) + 1
        steps = inputs.unsqueeze(0) if static else inputs
        if tuple(steps.shape[2:]) != tuple(self.input_shape) or len(steps) not in (1, self.num_steps):
            expected = f"[B, {self.input_shape}] or [{self.num_steps}, B, {self.input_shape}]"
            raise LavatubeError("input of the wrong shape", where="network", expected=expected, got=str(inputs.shape))
        return steps

    def body_outputs(self, steps: torch.Tensor, run: Pass) -> Outputs:
        """One pass from events [T or 1, B, ...] to what the objective sees."""
        return run.outputs(self.body(run.begin(steps), run))

    def forward(self, inputs: torch.Tensor, run: Pass | None = None) -> Outputs:
        """All timesteps, by a pass (default: the plain one, differentiable through time). inputs: see `present`."""
        return self.body_outputs(self.present(inputs), run or ThroughTime(self.num_steps))

    @torch.no_grad()
    def stage_shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one sample at each stage that an objective can tap, in order; statistics stay as they are."""
        was_training = self.training
        taps = self.eval()(torch.zeros(1, *self.input_shape, device=next(self.parameters()).device)).taps
        self.train(was_training)
        return {name: tuple(value.shape[1:]) for name, value in taps.items()}

    def name_parts(self) -> None:
        """Tell populations and normalisations the name of the layer that holds them."""
        for name, module in self.named_modules():
            if isinstance(module, Neurons | TimeStatNorm):
                module.name = name.rpartition(".")[0]


def fits_classes(units: int, classes: int, where: str) -> None:
    """raises: LavatubeError if the read-out does not have one unit per class."""
    if units != classes:
        raise LavatubeError("read-out does not fit the data", where=where, expected=f"{classes} units", got=str(units))
