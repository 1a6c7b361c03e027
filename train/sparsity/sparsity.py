"""What a sparsity schedule is: which synapses, or channels, exist while a network trains."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lavatube.errors import LavatubeError
from lavatube.train.plugin import Plugin, Step
from lavatube.train.recipe_model import Number, Positive


class Sparsity(Plugin):
    """A schedule that changes every `update_every` steps, up to the share `until` of all steps; then nothing changes.

    unit: "weight": single synapses, zeros in the exported weights; "channel": whole channels, gone after `finalize`.
    The masks live in the network as parametrizations (`lavatube.train.sparsity.masks`), the last of their tensor, so
    that whatever else parametrizes weights cannot bring a pruned one back.
    """

    unit: ClassVar[Literal["weight", "channel"]]
    update_every: Positive = 100
    until: Annotated[Number, Field(gt=0, le=1)] = 0.75

    def is_due(self, step: Step) -> bool:
        """Whether the structure changes in this step; the last of them is at the share `until` of the run.

        raises: LavatubeError, in the first step, if the run is so short that none does.
        """
        if self.until * step.total < self.update_every:
            raise LavatubeError(
                f"a run so short that {self.kind} never changes anything",
                where="recipe sparsity",
                expected=f"update_every of at most {self.until:g} x {step.total} steps",
                got=str(self.update_every),
                remedy="lower sparsity.update_every, or train longer",
            )
        number = step.number + 1
        return number % self.update_every == 0 and number <= self.until * step.total

    def progress(self, step: Step) -> float:
        """Of the schedule, 0 at the start of training, 1 at the last change."""
        last = math.floor(self.until * step.total / self.update_every) * self.update_every
        return min(1.0, (step.number + 1) / max(last, 1))


def cosine(start: float, end: float, progress: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
