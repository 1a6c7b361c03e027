"""Which mean and variance normalize the current of a timestep: one row per published idea.

Every estimator is one function of per-timestep moments, used alike by multi-step training (all rows at once) and by
single-step training (the rows so far). m[t], v[t]: mean and biased variance over samples and places at timestep t, [C].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from lavatube.train.plugin import Plugin
from lavatube.train.recipe_model import Number

if TYPE_CHECKING:
    from lavatube.train.networks.network import SpikingNetwork

Moments = tuple[torch.Tensor, torch.Tensor]  # mean, variance


@dataclass(frozen=True)
class Known:
    """What an estimator may use besides this sequence: running moments [C], and the table of recent rows.

    recent: (mean [T, C], variance [T, C]) of the last iteration; seen: [T] bool, false where there was none yet.
    """

    running: Moments
    recent: Moments
    seen: torch.Tensor


class Estimator(Plugin):
    """An estimator of the statistics at one timestep.

    online:     works timestep by timestep (with no look at later ones).
    constant:   gives the same at every timestep.
    by_time:    for an input that is the same at every timestep, the estimate still depends on the timestep.
    keeps_rows: uses the table of recent rows.
    """

    online: ClassVar[bool] = True
    constant: ClassVar[bool] = False
    by_time: ClassVar[bool] = False
    keeps_rows: ClassVar[bool] = False

    @property
    def row_momentum(self) -> float:
        """How much of a new row enters the table of recent rows."""
        return 1.0

    def own_share(self, t: int, seen: torch.Tensor) -> float:
        """d(mean at timestep t) / d(shift of this batch's currents, the same at every timestep).

        seen: as in `Known`; the rows of earlier iterations are constants to the gradient.
        """
        return 1.0

    def finalize(self, network: SpikingNetwork) -> None:
        for norm in network.norms():
            norm.finalize()

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        """(mean [C], variance [C]) to normalize with at timestep t. mean, var: [t + 1 or more, C], rows from 0."""
        raise NotImplementedError


def pooled(mean: torch.Tensor, var: torch.Tensor) -> Moments:
    """Moments over all rows, by the law of total variance. mean, var: [T, C]."""
    return mean.mean(0), var.mean(0) + mean.var(0, correction=0)


class Pooled(Estimator):
    """One mean and variance over all timesteps, samples and places (batch normalisation of [T B, C, ...])."""

    kind: Literal["pooled"] = "pooled"
    source: ClassVar[str] = "multi-step form of arXiv 2410.11488's code; tdBN (Zheng et al. 2021) without its gain"
    online: ClassVar[bool] = False
    constant: ClassVar[bool] = True

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        return pooled(mean, var)


class Causal(Estimator):
    """Over timesteps 0..t: at the last timestep equal to `pooled`, before it what was seen so far."""

    kind: Literal["causal"] = "causal"
    source: ClassVar[str] = "cumulative statistics as in TAB (Jiang, Zoonekynd, De Masi, Gu, Xiong 2024)"

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        return pooled(mean[: t + 1], var[: t + 1])


class PerStep(Estimator):
    """Each timestep by its own statistics; running ones in evaluation, so training and evaluation differ."""

    kind: Literal["per_step"] = "per_step"
    source: ClassVar[str] = "single-step form of arXiv 2410.11488's code"

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        return mean[t], var[t]


class Running(Estimator):
    """The running statistics of earlier iterations, constants to the gradient: training is evaluation."""

    kind: Literal["running"] = "running"
    source: ClassVar[str] = "in the manner of OSR (Zhu, Ding, Huang, Xie, Yu 2024), without its batch gradient"
    constant: ClassVar[bool] = True

    def own_share(self, t: int, seen: torch.Tensor) -> float:
        return 0.0

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        return known.running


class TimeBasedStatistics(Estimator):
    """tse: the statistics of the whole sequence, from the most recent row of every timestep.

        mean = average over tau of m[tau];   variance = average of v[tau] + variance over tau of m[tau]

    with rows tau <= t of this iteration and tau > t of the last one (left out while there was none). Gradients flow
    through this iteration's rows only. Our reconstruction from the abstract of Liu, Yu, Wang, Wang, ECAI 2025
    ("time-based statistics estimation"); no equations or code of theirs were available.

    momentum: how much of a new row enters the table (1: the table holds the last iteration's).
    """

    kind: Literal["tse"] = "tse"
    source: ClassVar[str] = "reconstructed from the abstract of Liu, Yu, Wang, Wang, ECAI 2025"
    by_time: ClassVar[bool] = True
    keeps_rows: ClassVar[bool] = True
    momentum: Annotated[Number, Field(gt=0, le=1)] = 1.0

    @property
    def row_momentum(self) -> float:
        return self.momentum

    def own_share(self, t: int, seen: torch.Tensor) -> float:
        return (t + 1) / (t + 1 + int(seen[t + 1 :].sum()))

    def at(self, t: int, mean: torch.Tensor, var: torch.Tensor, known: Known) -> Moments:
        later = known.seen.clone()
        later[: t + 1] = False
        return pooled(
            torch.cat([mean[: t + 1], known.recent[0][later]]), torch.cat([var[: t + 1], known.recent[1][later]])
        )
