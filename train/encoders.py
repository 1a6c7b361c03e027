"""Encoders: 8-bit samples to the integer events that enter the network, on the host."""

from __future__ import annotations

from typing import Literal

import torch

from lavatube.train.plugin import Plugin
from lavatube.train.recipe_model import Strict


class Encoder(Plugin):
    """uint8 samples [B, ...] ([B, T, ...] of sequences) to events [T, B, ...], or [1, B, ...] if they stay the same."""

    @property
    def message_bits(self) -> int:
        """Width of one event: 1 for spikes."""
        return 1

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.message_bits == 1 else frozenset({"graded input"})

    def out_shape(self, sample_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the events of one sample at one timestep."""
        return sample_shape

    def __call__(self, samples: torch.Tensor, num_steps: int, generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError


class Direct(Encoder):
    """Graded events: the 8-bit value itself, at every timestep."""

    kind: Literal["direct"] = "direct"

    @property
    def message_bits(self) -> int:
        return 8

    def __call__(self, samples: torch.Tensor, num_steps: int, generator: torch.Generator) -> torch.Tensor:
        return samples.unsqueeze(0)


ENCODERS: tuple[type[Strict], ...] = (Direct,)
