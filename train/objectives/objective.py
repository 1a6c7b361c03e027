"""The objective of a recipe: its terms, their heads, and their sum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.term import Term
from lavatube.train.seq import Outputs
from lavatube.train.teachers.teacher import Teacher


class Objective(nn.Module):
    """Sum of terms; `heads` train along with the network and are not part of it. raises: as `Term.check`."""

    def __init__(
        self,
        terms: Sequence[Term],
        network: SpikingNetwork,
        classes: int,
        seed: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.terms = tuple(terms)
        self.latest: dict[str, torch.Tensor] = {}  # by kind, the last losses: to name one that is not finite
        for term in self.terms:
            term.check(network, self.terms)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.heads = nn.ModuleDict({term.kind: term.heads(network, classes, teacher) for term in self.terms})

    def forward(self, outputs: Outputs, labels: torch.Tensor) -> torch.Tensor:
        losses = []
        for term in self.terms:
            heads = self.heads[term.kind]
            assert isinstance(heads, nn.ModuleDict)
            loss = term.loss(outputs, labels, heads)
            if not isinstance(loss, torch.Tensor) or loss.ndim:
                got = f"shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
                expected = "a scalar tensor"
                raise LavatubeError("loss of a term", where=f"objective {term.kind}", expected=expected, got=got)
            losses.append(loss)
        self.latest = {term.kind: loss.detach() for term, loss in zip(self.terms, losses, strict=True)}
        return torch.stack(losses).sum()
