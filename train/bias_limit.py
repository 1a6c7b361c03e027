"""Keep biases small enough for the chip's bias register: a term of the objective, acting through the normalisation."""

from __future__ import annotations

import torch

from lavatube.train.recipe import BiasLimit


def bias_penalty(biases: tuple[torch.Tensor, ...], v_threshold: float, settings: BiasLimit) -> torch.Tensor:
    """weight × sum over layers and channels of (|bias| / threshold - limit)², where positive.

    biases: per hidden layer [C], what the folded normalisation would add at each timestep; not empty.
    """
    excess = [torch.relu(bias.abs() / v_threshold - settings.limit) for bias in biases]
    return settings.weight * torch.stack([(e**2).sum() for e in excess]).sum()
