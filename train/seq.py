"""What flows between layers, and what comes out at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Seq:
    """Values per timestep and, in rate mode, their mean over time, which alone carries gradients.

    steps: [T, B, ...], or [1, B, ...] for values that are the same at every timestep (or of a single timestep).
    mean:  [B, ...] in rate mode, else None.
    """

    steps: torch.Tensor
    mean: torch.Tensor | None = None

    @property
    def is_static(self) -> bool:
        return len(self.steps) == 1

    def full_precision(self) -> Seq:
        """Half-precision values in float32: statistics, voltages, rates and eligibilities are never half."""
        steps, mean = (x.float() if x is not None and x.dtype in HALF else x for x in (self.steps, self.mean))
        assert steps is not None
        return Seq(steps, mean)

    @property
    def rate(self) -> torch.Tensor:
        """Mean over time [B, ...], with gradients."""
        return self.steps.mean(0) if self.mean is None else self.mean


@dataclass(frozen=True)
class Lesson:
    """What a frozen teacher makes of the same batch; nothing of it carries gradients.

    logits:   [B, classes].
    features: by the teacher's names, [B, ...]; those that a term asked for.
    """

    logits: torch.Tensor
    features: dict[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """What the objective sees. Names are those of the modules in the network.

    logits: [B, classes], the read-out's mean over timesteps.
    taps:   per stage, mean spikes (or currents) [B, ...], in the order of the network.
    rates:  per population, mean spikes [B, ...].
    voltages: per population that a term has asked for (`Neurons.shown`), u [T, B, ...] before the reset.
    biases: per normalisation, a function that gives [C]: what folding this batch's statistics would add to the current.
    members: [T, B, classes], the read-out of every timestep, where it carries gradients.
    lesson: the teacher's view of the batch, where the recipe has a teacher.
    done:   the share of the epochs that is over, 0 in the first one.
    """

    logits: torch.Tensor
    taps: dict[str, torch.Tensor] = field(default_factory=dict)
    rates: dict[str, torch.Tensor] = field(default_factory=dict)
    biases: dict[str, Callable[[], torch.Tensor]] = field(default_factory=dict)
    members: torch.Tensor | None = None
    lesson: Lesson | None = None
    done: float = 0.0
    voltages: dict[str, torch.Tensor] = field(default_factory=dict)
