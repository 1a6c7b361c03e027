"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from lavatube.train.recipe import Optimizer


def learning_rate(settings: Optimizer, epoch: int) -> float:
    """The schedule as a function of the epoch (from 0): it has no state."""
    if epoch < settings.warmup_epochs:
        return settings.lr * (epoch + 1) / (settings.warmup_epochs + 1)
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "step":
        return settings.lr * settings.step_factor ** ((epoch - settings.warmup_epochs) // settings.step_epochs)
    done = (epoch - settings.warmup_epochs) / max(settings.epochs - settings.warmup_epochs, 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))


def make_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """SGD or Adam; weight decay on synaptic weights only, not on biases and normalisation."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=settings.lr)
