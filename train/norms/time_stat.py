"""Normalisation of synaptic currents, for every gradient rule; exact to fold into the synapse after training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from lavatube.train.norms.all_reduce import mean_and_variance, processes, refuse_single
from lavatube.train.norms.estimators import Estimator, Known, Moments, Pooled, pooled


@dataclass
class SequenceRows:
    """Per-timestep moments of one sequence that is shown step by step: means and variances, [C] each."""

    mean: list[torch.Tensor] = field(default_factory=list)
    var: list[torch.Tensor] = field(default_factory=list)
    own_share: float = 0.0  # sum over timesteps of `Estimator.own_share`


@dataclass(frozen=True)
class Normalized:
    """steps: [T or 1, B, C, ...]; statistics: [T or 1, C]; bias: gives [C], what folding the statistics would add."""

    steps: torch.Tensor
    statistics: Moments
    bias: Callable[[], torch.Tensor]


class TimeStatNorm(nn.Module):
    """y[t] = weight (I[t] - mean[t]) / sqrt(variance[t] + eps) + bias, with an estimator's statistics per channel.

    In evaluation the statistics are running averages of the pooled moments, the same at every timestep.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(
        self, channels: int, estimator: Estimator, num_steps: int, *, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.estimator, self.num_steps, self.eps, self.momentum = estimator, num_steps, eps, momentum
        self.name = ""  # in the network, set when it is built
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.recent: nn.Module | None = RecentRows(num_steps, channels) if estimator.keeps_rows else None

    def observe_and_normalize(self, current: torch.Tensor) -> Normalized:
        """Normalise all timesteps; in training, update the running statistics.

        current: as for `observe`. One mean and variance for all in a single process is torch's own batch norm, three
        to four times faster than the operations that it fuses.
        """
        if not (self.training and isinstance(self.estimator, Pooled) and processes() == 1):
            statistics = self.observe(current)
            return Normalized(self.normalize(current, statistics), statistics, lambda: self.folded_bias(statistics))
        self._refuse_single(current.flatten(0, 1))
        flat = current.flatten(0, 1)
        normal, mean, inverse = torch.native_batch_norm(flat, self.weight, self.bias, None, None, True, 0.0, self.eps)
        mean, var = mean.detach(), inverse.detach() ** -2 - self.eps
        self._update(mean, var, flat.numel() // len(mean) * self.num_steps // len(current))
        axes = [axis for axis in range(flat.ndim) if axis != 1]
        statistics = mean.unsqueeze(0), var.unsqueeze(0)
        return Normalized(normal.reshape(current.shape), statistics, lambda: self.folded_bias((flat.mean(axes), var)))

    def observe(self, current: torch.Tensor) -> Moments:
        """(mean, variance) for all timesteps: [T, C], or [1, C] where every timestep has the same.

        current: [T, B, C, ...], or [1, B, C, ...] if it is static. In training, updates the running statistics.
        """
        if not self.training:
            return self.running_mean.unsqueeze(0), self.running_var.unsqueeze(0)
        self._refuse_single(current[0])
        count = current.numel() // current.shape[2] * self.num_steps // len(current)
        if isinstance(self.estimator, Pooled):  # without its rows: one pass over the currents
            mean, var = mean_and_variance(current, axes=[axis for axis in range(current.ndim) if axis != 2])
            self._update(mean, var, count)
            return mean.unsqueeze(0), var.unsqueeze(0)
        rows = mean_and_variance(current, axes=[1, *range(3, current.ndim)])
        if len(current) == 1 and self.estimator.by_time:
            rows = rows[0].expand(self.num_steps, -1), rows[1].expand(self.num_steps, -1)
        estimates = [self.estimator.at(t, *rows, self._known()) for t in range(len(rows[0]))]
        self._end(*rows, count)
        return torch.stack([mean for mean, _ in estimates]), torch.stack([var for _, var in estimates])

    def observe_step(self, current: torch.Tensor, rows: SequenceRows) -> Moments:
        """(mean [C], variance [C]) for the next timestep of a sequence. current: [B, C, ...]; extends `rows`.

        Earlier rows pass no gradient. Call `end_sequence` after the last timestep.
        """
        if not self.training:
            return self.running_mean, self.running_var
        self._refuse_single(current)
        mean, var = mean_and_variance(current, axes=[0, *range(2, current.ndim)])
        t, known = len(rows.mean), self._known()
        estimate = self.estimator.at(t, torch.stack([*rows.mean, mean]), torch.stack([*rows.var, var]), known)
        rows.own_share += self.estimator.own_share(t, known.seen)
        rows.mean.append(mean.detach())
        rows.var.append(var.detach())
        return estimate

    def end_sequence(self, rows: SequenceRows, samples_and_places: int) -> None:
        """Update what later iterations and evaluation use, once per sequence."""
        if self.training:
            self._end(torch.stack(rows.mean), torch.stack(rows.var), samples_and_places * len(rows.mean))

    def normalize(self, current: torch.Tensor, statistics: Moments) -> torch.Tensor:
        """current: [N, B, C, ...] with statistics [N or 1, C], or [B, C, ...] with statistics [C]."""
        mean, var = statistics
        places = (1,) * (current.ndim - (3 if mean.ndim == 2 else 2))
        shape = (len(mean), 1, -1, *places) if mean.ndim == 2 else (-1, *places)
        gain = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul((self.bias - mean * gain).reshape(shape), current, gain.reshape(shape))

    def folded_bias(self, statistics: Moments) -> torch.Tensor:
        """[C]: what folding the mean of these statistics over time would add to the current."""
        mean, var = (value if value.ndim == 1 else value.mean(0) for value in statistics)
        return self.bias - self.weight * mean * torch.rsqrt(var.detach() + self.eps)

    def finalize(self) -> None:
        """Drop what only training needs."""
        self.recent = None

    def _refuse_single(self, current: torch.Tensor) -> None:
        refuse_single(
            current, f"normalisation of {self.name}", "raise optimizer.batch_size, or set normalization: null"
        )

    def _known(self) -> Known:
        if isinstance(self.recent, RecentRows):
            recent, seen = (self.recent.mean.clone(), self.recent.var.clone()), self.recent.seen.clone()
        else:
            none = self.running_mean[None, :0]
            recent, seen = (none, none), torch.zeros(0, dtype=torch.bool)
        return Known((self.running_mean.clone(), self.running_var.clone()), recent, seen)

    @torch.no_grad()
    def _end(self, mean: torch.Tensor, var: torch.Tensor, count: int) -> None:
        if isinstance(self.recent, RecentRows):
            self.recent.update(mean, var, self.estimator.row_momentum)
        self._update(*pooled(mean, var), count)

    @torch.no_grad()
    def _update(self, mean: torch.Tensor, var: torch.Tensor, own_count: int) -> None:
        count = own_count * processes()
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_((var * (count / max(count - 1, 1))).to(self.running_var.dtype), self.momentum)


class RecentRows(nn.Module):
    """The most recent moments of each timestep: mean, var [T, C]; seen [T] bool."""

    mean: torch.Tensor
    var: torch.Tensor
    seen: torch.Tensor

    def __init__(self, num_steps: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_steps, channels))
        self.register_buffer("var", torch.ones(num_steps, channels))
        self.register_buffer("seen", torch.zeros(num_steps, dtype=torch.bool))

    def update(self, mean: torch.Tensor, var: torch.Tensor, momentum: float) -> None:
        share = torch.where(self.seen, momentum, 1.0).unsqueeze(1).to(mean.dtype)
        self.mean.lerp_(mean, share)
        self.var.lerp_(var, share)
        self.seen.fill_(True)
