"""The training loop, top to bottom, and the evaluation of the plain network."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from lavatube.errors import LavatubeError
from lavatube.train.bias_limit import bias_penalty
from lavatube.train.data import Dataset, Split, encode, shifted
from lavatube.train.distillation import build_branches, self_distillation_loss
from lavatube.train.gradient import GRADIENT_RULES
from lavatube.train.network import SpikingNetwork, build_network
from lavatube.train.recipe import Optimizer, Recipe

Progress = Callable[[int, int, float, float | None], object]  # epoch, epochs, loss, validation accuracy in % or None
VALIDATE_EVERY = 5


class Trainee(nn.Module):
    """What trains: the network, and branches that exist only while it does."""

    def __init__(self, recipe: Recipe, data: Dataset) -> None:
        super().__init__()
        self.network = build_network(recipe, data.input_shape, data.classes)
        settings = recipe.method.self_distillation
        self.branches = (
            nn.ModuleList() if settings is None else build_branches(self.network, settings, data.classes, recipe.seed)
        )


@dataclass(frozen=True)
class Evaluation:
    """accuracy in %; rates: mean firing rate per hidden layer, spikes per neuron and timestep."""

    accuracy: float
    rates: dict[str, float]


def train_epoch(trainee: Trainee, recipe: Recipe, data: Dataset, optimizer: torch.optim.Optimizer, epoch: int) -> float:
    """One pass over the training split; epoch counts from 0 and decides order, shifts and learning rate.

    returns: mean loss. raises: LavatubeError if it is not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe.optimizer, epoch)
    forward, distillation = GRADIENT_RULES[recipe.method.gradient], recipe.method.self_distillation
    limit = recipe.method.bias_limit
    device = next(trainee.parameters()).device
    generator = epoch_generator(recipe.seed, epoch)
    trainee.train()
    total = torch.zeros((), device=device)
    for inputs, labels in batches(data, recipe.optimizer.batch_size, recipe.data.shift, generator, device):
        outputs = forward(trainee.network, inputs)
        if distillation is None:
            loss = F.cross_entropy(outputs.logits, labels)
        else:
            heads = [head(rate) for head, rate in zip(trainee.branches, outputs.rates, strict=True)]
            loss = self_distillation_loss([*heads, outputs.logits], labels, distillation)
        if limit is not None and outputs.biases:
            loss = loss + bias_penalty(outputs.biases, recipe.neuron.v_threshold, limit)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(labels)
    mean = float(total) / len(data.train.label)
    if not math.isfinite(mean):
        raise LavatubeError(
            "loss is not finite", where=f"epoch {epoch + 1}", got=str(mean), remedy="lower optimizer.lr"
        )
    return mean


def batches(
    data: Dataset, size: int, shift: int, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The training split in random order and randomly shifted: (inputs [B, C, H, W] float32, labels [B])."""
    inputs, labels = encode(data.train, data.input_scale, device)
    chosen = list(torch.split(torch.randperm(len(labels), generator=generator).to(device), size))
    if len(chosen) > 1 and len(chosen[-1]) == 1:  # one sample has no variance to normalize by
        chosen[-2:] = [torch.cat(chosen[-2:])]
    for rows in chosen:
        yield shifted(inputs[rows], shift, generator), labels[rows]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Randomness of one epoch, the same whether or not the run was interrupted before it, on every device."""
    digest = hashlib.sha256(f"{seed}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def learning_rate(settings: Optimizer, epoch: int) -> float:
    """The schedule as a function of the epoch (from 0): it has no state."""
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))


def make_optimizer(trainee: Trainee, settings: Optimizer) -> torch.optim.Optimizer:
    """SGD or Adam; weight decay on synaptic weights only, not on biases and normalisation."""
    weights = [p for p in trainee.parameters() if p.ndim > 1]
    others = [p for p in trainee.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.lr)


@torch.no_grad()
def evaluate(network: SpikingNetwork, split: Split, input_scale: float, batch_size: int = 256) -> Evaluation:
    """The plain network, every timestep, running statistics. The lowest class index wins ties."""
    network.eval()
    device = next(network.parameters()).device
    inputs, labels = encode(split, input_scale, device)
    correct, sums = 0, [0.0] * (len(network.names) - 1)
    for x, y in zip(torch.split(inputs, batch_size), torch.split(labels, batch_size), strict=True):
        outputs = network(x)
        correct += int((first_argmax(outputs.logits) == y).sum())
        sums = [total + float(rate.mean()) * len(y) for total, rate in zip(sums, outputs.rates, strict=True)]
    rates = {name: total / len(split.label) for name, total in zip(network.names, sums, strict=False)}
    return Evaluation(100.0 * correct / len(split.label), rates)


def first_argmax(logits: torch.Tensor) -> torch.Tensor:
    """The lowest index among the largest logits; torch.argmax promises none."""
    return (logits == logits.amax(-1, keepdim=True)).int().argmax(-1)
