"""One timestep at a time through the whole network; its state lives here, not in the modules.

Two rules use it: the single-step rate rule, which needs only running sums (`RecordStep`) and then one pass on rates
(`ReplayRates`), and online learning, which needs a graph of one timestep (`OnlineStep`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from lavatube.train.neuron_run import NeuronState, Trace, at_rest, step
from lavatube.train.norms.estimators import Moments
from lavatube.train.norms.rate import rate_of_normalized
from lavatube.train.norms.time_stat import SequenceRows, TimeStatNorm
from lavatube.train.passes.base import Linear, Neurons, Pass
from lavatube.train.passes.rate import RateStraightThrough
from lavatube.train.seq import Seq


@dataclass
class NormRecord:
    """rows: of this sequence; mean, inverse: [C], sums over timesteps of the mean and of 1 / sqrt(variance + eps)."""

    rows: SequenceRows = field(default_factory=SequenceRows)
    mean: torch.Tensor | float = 0.0
    inverse: torch.Tensor | float = 0.0
    samples_and_places: int = 0


@dataclass
class SequenceState:
    """All that a sequence shown step by step leaves behind: nothing here grows with T but the rows of [C] moments."""

    neurons: dict[nn.Module, NeuronState] = field(default_factory=dict)
    spikes: dict[nn.Module, torch.Tensor] = field(default_factory=dict)
    traces: dict[nn.Module, Trace] = field(default_factory=dict)
    norms: dict[nn.Module, NormRecord] = field(default_factory=dict)

    def end(self) -> None:
        """Update the running statistics of every normalisation, once per sequence."""
        for norm, record in self.norms.items():
            assert isinstance(norm, TimeStatNorm)
            norm.end_sequence(record.rows, record.samples_and_places)


class OnlineStep(Pass):
    """One timestep with a graph of its own; the state passes no gradient.

    source: Meng et al., "Towards Memory- and Time-Efficient Backpropagation for Training Spiking Neural Networks"
    (SLTT), ICCV 2023: the spatial part of backpropagation through time.
    """

    def __init__(self, state: SequenceState) -> None:
        super().__init__()
        self.state = state

    def linear(self, module: Linear, x: Seq) -> Seq:
        return Seq(module(x.steps[0]).unsqueeze(0))

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        current, record = x.steps[0], self.state.norms.setdefault(norm, NormRecord())
        record.samples_and_places = current.numel() // current.shape[1]
        mean, var = norm.observe_step(current, record.rows)
        self.biases[norm.name] = lambda: norm.folded_bias((mean, var))
        record.mean = record.mean + mean.detach()
        record.inverse = record.inverse + torch.rsqrt(var.detach() + norm.eps)
        return Seq(norm.normalize(current, (mean, var)).unsqueeze(0))

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        current, states = x.steps[0], self.state.neurons
        before = states[population] if population in states else at_rest(population.spec, current)
        s, after, _ = step(population.spec, before, current, differentiable=True)
        states[population] = after.detach()
        self.rates[population.name] = s
        return Seq(s.unsqueeze(0))

    def recurrent(self, feedback: nn.Module, population: Neurons, x: Seq) -> Seq:
        known = self.state.spikes
        last = known[population] if population in known else torch.zeros_like(x.steps[0])
        spikes = self.neurons(population, Seq(x.steps + feedback(last)))
        known[population] = spikes.steps[0].detach()
        return spikes


class RecordStep(OnlineStep):
    """One timestep without autograd that adds to every population's running sums of spikes and eligibility."""

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        traces = self.state.traces
        if population not in traces:
            traces[population] = Trace(population.spec, at_rest(population.spec, x.steps[0]))
        return Seq(traces[population].advance(x.steps[0]).unsqueeze(0))


class ReplayRates(Pass):
    """One pass with autograd on time means, from what a `RecordStep` per timestep left behind.

    The normalisation uses the time means of the means, of 1 / sqrt(variance + eps) and of the share of the statistics
    that follows this batch: a constant-memory stand-in for the exact Jacobian of per-timestep statistics (exact for the
    estimator `running`).
    """

    def __init__(self, state: SequenceState, num_steps: int) -> None:
        super().__init__()
        self.state, self.num_steps = state, num_steps

    def begin(self, steps: torch.Tensor) -> Seq:
        return Seq(steps, steps[0] if len(steps) == 1 else steps.mean(0))

    def linear(self, module: Linear, x: Seq) -> Seq:
        rate = module(x.rate)
        return Seq(rate.detach().unsqueeze(0), rate)

    def norm(self, norm: TimeStatNorm, x: Seq) -> Seq:
        share = self.state.norms[norm].rows.own_share / self.num_steps
        rate, self.biases[norm.name] = rate_of_normalized(norm, x.rate, self._statistics(norm), share)
        return Seq(rate.detach().unsqueeze(0), rate)

    def neurons(self, population: Neurons, x: Seq) -> Seq:
        firing, eligibility = self.state.traces.pop(population).means()
        rate = RateStraightThrough.apply(x.rate, firing, eligibility)
        self.rates[population.name] = rate
        return Seq(rate.detach().unsqueeze(0), rate)

    def _statistics(self, norm: TimeStatNorm) -> Moments:
        record = self.state.norms[norm]
        assert isinstance(record.mean, torch.Tensor)
        assert isinstance(record.inverse, torch.Tensor)
        return record.mean / self.num_steps, (self.num_steps / record.inverse) ** 2 - norm.eps
