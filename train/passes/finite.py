"""Where a forward first leaves the finite numbers: for the error that stops a training."""

from __future__ import annotations

import torch

from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.norms.time_stat import TimeStatNorm
from lavatube.train.passes.base import Linear
from lavatube.train.passes.through_time import ThroughTime
from lavatube.train.seq import Seq


class FirstNonFinite(ThroughTime):
    """found: the name of the first layer whose current, or whose normalised current, is not finite; "": none.

    Spikes would not show it: a voltage that is no number is above no threshold.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__(network.num_steps)
        self.names, self.found = {id(module): name for name, module in network.named_modules()}, ""

    def linear(self, module: Linear, x: Seq) -> Seq:
        return self._look(self.names.get(id(getattr(module, "__self__", module)), ""), super().linear(module, x))

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        return self._look(norm.name, super().norm(norm, x))

    def _look(self, name: str, x: Seq) -> Seq:
        if not self.found and not torch.isfinite(x.steps).all():
            self.found = name
        return x
