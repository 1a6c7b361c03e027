"""The training loop, top to bottom, and the evaluation of the plain network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.datasets.dataset import Split
from lavatube.train.gradients.rule import LossOf
from lavatube.train.networks.build import build_network, finalized
from lavatube.train.networks.network import SpikingNetwork
from lavatube.train.objectives.objective import Objective
from lavatube.train.optimization import learning_rate
from lavatube.train.passes.finite import FirstNonFinite
from lavatube.train.plugin import Step
from lavatube.train.probe import Probe
from lavatube.train.processes import Processes
from lavatube.train.recipe import Recipe
from lavatube.train.samples import EncodedData, epoch_generator
from lavatube.train.teachers.load import load_teacher

FIRST_STEP = 2_000_000  # randomness of methods: epochs that neither training nor fine-tuning reaches
FIRST_PROBE = 3_000_000  # randomness of what is tried before epochs: epochs that no training reaches
DIVERGED = (
    "lower optimizer.lr, or set optimizer.clip_norm, and begin anew with --restart: a checkpoint, which is of the last "
    "whole epoch, is of the unchanged recipe"
)


class Trainee(nn.Module):
    """What trains: the network, and the heads of the objective that exist only while it does.

    module: of a teacher that the recipe does not name by its folder. raises: LavatubeError, as `load_teacher`.
    """

    def __init__(self, recipe: Recipe, data: EncodedData, module: nn.Module | None = None) -> None:
        super().__init__()
        self.teacher = load_teacher(recipe, data, module)
        self.network, self.recipe = build_network(recipe, data.shape, data.classes), recipe
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            for method in recipe.methods:
                method.attach(self.network)
        self.objective = Objective(recipe.objective, self.network, data.classes, recipe.seed, self.teacher)

    def loss_of(self, inputs: torch.Tensor, labels: torch.Tensor, done: float = 0.0) -> LossOf:
        """The loss of a batch, given the network's outputs; the teacher sees the batch once."""
        return self._loss_by(inputs, labels, done)(self.objective)

    def probe(self, data: EncodedData, epoch: int) -> Probe:
        """The first samples of the training split, unchanged, as a batch to try things on before an epoch."""
        device, settings = next(self.parameters()).device, self.recipe.optimizer
        events, labels = next(data.batches(data.dataset.train, settings.batch_size, device))
        inputs = data.as_floats(events)
        loss_by = self._loss_by(inputs, labels, epoch / settings.epochs)
        generator = epoch_generator(self.recipe.seed, FIRST_PROBE + epoch)
        return Probe(self.network, self.objective, loss_by, inputs, self.recipe.gradient, generator)

    def _loss_by(self, inputs: torch.Tensor, labels: torch.Tensor, done: float) -> Callable[[nn.Module], LossOf]:
        """Of an objective (ours, or a copy), its loss of a batch; the teacher sees the batch here, once."""
        lesson = None if self.teacher is None else self.teacher(inputs)
        return lambda objective: lambda outputs: objective(replace(outputs, lesson=lesson, done=done), labels)

    def finalize(self) -> SpikingNetwork:
        """The plain network: nothing is left of what only training needs."""
        return finalized(self.network, self.recipe)


@dataclass(frozen=True)
class Evaluation:
    """accuracy in %; rates: mean spikes per neuron and timestep, by population."""

    accuracy: float
    rates: dict[str, float]


def train_epoch(
    trainee: Trainee,
    recipe: Recipe,
    data: EncodedData,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    processes: Processes,
    advance: Callable[[int], object] = lambda samples: None,
) -> float:
    """One pass over the training split; epoch counts from 0 and decides order, augmentation and learning rate.

    advance: called after each step with the number of samples in it.
    returns: mean loss. raises: LavatubeError, naming the layer, if the loss or a gradient is not finite; then the
    parameters are those of the step before.
    """
    settings, network = recipe.optimizer, trainee.network
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, epoch)
    for method in recipe.methods:
        method.before_epoch(network, lambda: trainee.probe(data, epoch))
    order = epoch_generator(recipe.seed, epoch)
    batches = data.training_batches(recipe.data, settings.batch_size, order, processes.device, processes.share)
    done = epoch / settings.epochs
    trainee.train()
    per_epoch = len(data.batch_sizes(settings.batch_size, processes.share[1]))
    losses: list[torch.Tensor] = []
    sizes: list[int] = []
    for step, (events, labels) in enumerate(batches):
        inputs = data.as_floats(events)
        optimizer.zero_grad(set_to_none=True)
        with processes.autocast():
            loss_of = trainee.loss_of(inputs, labels, done)
            loss = recipe.gradient.gradients(network, inputs, loss_of, processes.backward)
        processes.average_gradients(trainee, optimizer)
        refuse_non_finite(trainee, loss, inputs, processes, f"epoch {epoch + 1}, step {step + 1}")
        number = epoch * per_epoch + step
        generator = epoch_generator(recipe.seed, FIRST_STEP + number)
        now = Step(number, settings.epochs * per_epoch, inputs, generator, optimizer)
        for method in recipe.methods:
            method.before_update(network, now)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(trainee.parameters(), settings.clip_norm)
        processes.step(optimizer)
        losses.append(loss)
        sizes.append(len(labels))
        advance(len(labels) * processes.share[1])
    weights = torch.tensor(sizes, dtype=torch.float32, device=losses[0].device)
    return processes.mean(float((torch.stack(losses) * weights).sum() / weights.sum()))


def refuse_non_finite(
    trainee: Trainee, loss: torch.Tensor, inputs: torch.Tensor, processes: Processes, where: str
) -> None:
    """raises: LavatubeError naming the layer in which something first is not finite. inputs: of this step.

    Where a loss scaler is at work, which skips a step with such gradients by itself, only the loss counts.
    """
    gradients = {name: p.grad for name, p in trainee.named_parameters() if p.grad is not None}
    total = torch.stack([loss, *([] if processes.scales_loss else [g.sum() for g in gradients.values()])]).sum()
    if torch.isfinite(total):
        return
    bad = [name for name, g in gradients.items() if not torch.isfinite(g).all()]
    if torch.isfinite(loss) and not bad:  # only their sum is too large
        return
    layer = _first_non_finite(trainee, inputs, processes)
    if not layer:  # so it began in the loss, or on the way back from it: in what is nearest to it
        layer = bad[-1].removeprefix("network.") if bad and torch.isfinite(loss) else "the objective"
    terms = [kind for kind, of_term in trainee.objective.latest.items() if not torch.isfinite(of_term)]
    raise LavatubeError(
        "loss is not finite" if not torch.isfinite(loss) else "a gradient is not finite",
        where=f"{layer} ({where})",
        got=f"loss {float(loss):g}" + (f" by {', '.join(terms)}" if terms else ""),
        remedy=DIVERGED,
    )


@torch.no_grad()
def _first_non_finite(trainee: Trainee, inputs: torch.Tensor, processes: Processes) -> str:
    """The first parameter or statistic, else the first layer in the forward of this batch; "" if all are finite."""
    name = _first_broken(trainee.state_dict())
    if name or processes.share[1] > 1:  # several normalize together: all would have to
        return name
    run = FirstNonFinite(trainee.network)
    kept = [(buffer, buffer.clone()) for buffer in trainee.network.buffers()]  # averages that a forward moves
    with processes.autocast():
        trainee.network(inputs, run)
    for buffer, before in kept:
        buffer.copy_(before)
    return run.found


def refuse_non_finite_state(trainee: Trainee, optimizer: torch.optim.Optimizer, where: str) -> None:
    """raises: LavatubeError naming the first parameter, statistic or moment that is not finite; nothing gets saved.

    A moment: Adam's mean of squared gradients overflows long before they do, and what it divides stays as it is.
    """
    state = dict(trainee.state_dict())
    for name, parameter in trainee.named_parameters():
        moments = optimizer.state.get(parameter, {})
        state |= {f"the optimizer's {key} of {name}": value for key, value in moments.items()}
    if name := _first_broken(state):
        raise LavatubeError(f"{name} is not finite", where=where, remedy=DIVERGED)


def _first_broken(state: Mapping[str, Any]) -> str:
    tensors = ((name, value) for name, value in state.items() if isinstance(value, torch.Tensor))
    broken = (name for name, value in tensors if not torch.isfinite(value).all())
    return next(broken, "").replace("network.", "", 1)


@torch.no_grad()
def evaluate(network: SpikingNetwork, data: EncodedData, split: Split, batch_size: int = 256) -> Evaluation:
    """The plain network, every timestep, running statistics. The lowest class index wins ties (as torch.argmax)."""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    correct, sums = 0, dict[str, float]()
    for events, labels in data.batches(split, batch_size, device):
        outputs = network(data.as_floats(events))
        correct += int((outputs.logits.argmax(-1) == labels).sum())
        for name, rate in outputs.rates.items():
            sums[name] = sums.get(name, 0.0) + float(rate.mean()) * len(labels)
    network.train(was_training)
    count = len(split.label)
    return Evaluation(100.0 * correct / count, {name: total / count for name, total in sums.items()})
