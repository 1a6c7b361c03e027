"""How a forward goes through a network: each gradient rule brings a pass; networks are written once for all passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lavatube.train.neuron import NeuronSpec
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.seq import Outputs, Seq

Linear = Callable[[torch.Tensor], torch.Tensor]


class Neurons(nn.Module):
    """A population. name: in the network, set when it is built. shown: whether a term looks at its voltages."""

    def __init__(self, spec: NeuronSpec) -> None:
        super().__init__()
        self.spec, self.name, self.shown = spec, "", False


class Pass:
    """One forward of a sequence (or of one timestep). A subclass says what each kind of layer does to a `Seq`."""

    def __init__(self) -> None:
        self.taps: dict[str, torch.Tensor] = {}
        self.rates: dict[str, torch.Tensor] = {}
        self.biases: dict[str, Callable[[], torch.Tensor]] = {}
        self.voltages: dict[str, torch.Tensor] = {}

    def begin(self, steps: torch.Tensor) -> Seq:
        """Events [T or 1, B, ...] as they enter the first layer."""
        return Seq(steps)

    def linear(self, module: Linear, x: Seq) -> Seq:
        """A map that is linear in its input [N, ...]: convolution, dense, average pooling, flatten."""
        raise NotImplementedError

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        """Normalise currents."""
        raise NotImplementedError

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        """Currents to spikes."""
        raise NotImplementedError

    def recurrent(self, feedback: nn.Module, population: Neurons, x: Seq) -> Seq:
        """Currents plus feedback(spikes of the timestep before) to spikes."""
        raise NotImplementedError

    def add(self, a: Seq, b: Seq) -> Seq:
        """Sum of two currents, or of two spike trains (graded)."""
        mean = None if a.mean is None or b.mean is None else a.mean + b.mean
        return Seq(a.steps + b.steps, mean)

    def tap(self, name: str, x: Seq) -> None:
        """Show a stage's output to the objective."""
        self.taps[name] = x.rate

    def outputs(self, readout: Seq) -> Outputs:
        """What the objective sees. readout: [T, B, classes] currents of the last synapse."""
        members = readout.steps if readout.mean is None else None
        return Outputs(readout.rate, self.taps, self.rates, self.biases, members, voltages=self.voltages)


def fold_time(module: Linear, steps: torch.Tensor) -> torch.Tensor:
    """Apply a map on [N, ...] to [T, B, ...]."""
    flat = module(steps.flatten(0, 1))
    return flat.reshape(*steps.shape[:2], *flat.shape[1:])
