"""Synapses in torch, for all timesteps at once, by exact floating-point sums."""

from __future__ import annotations

import torch

from lavatube.program import Conv2dNode, SparseNode, Synapse
from lavatube.train.exact_sums import exact_conv2d, exact_linear
from lavatube.train.integer_step import int32


def delayed(events: torch.Tensor, lag: int) -> torch.Tensor:
    """Events [T, B, ...] as the synapse sees them: `lag` steps later, nothing before."""
    if not lag:
        return events
    silence = torch.zeros_like(events[:lag])
    return torch.cat([silence, events[: len(events) - len(silence)]])


def activation(synapse: Synapse, events: torch.Tensor, event_range: tuple[int, int]) -> torch.Tensor:
    """Shifted synaptic sums of events [T, B, in_shape] int64; returns [T, B, out_shape] int64."""
    largest = max(map(abs, event_range))
    flat = events.flatten(0, 1)
    if isinstance(synapse, Conv2dNode):
        weight = torch.tensor(synapse.weight, device=events.device)
        window = synapse.stride, synapse.padding
        total = exact_conv2d(flat, weight, *window, largest, dilation=synapse.dilation, groups=synapse.groups)
    elif isinstance(synapse, SparseNode):
        total = sparse_sums(synapse, flat.flatten(1))
    else:
        total = exact_linear(flat.flatten(1), torch.tensor(synapse.weight, device=events.device), largest)
    e = synapse.weight_exp
    total = int32(total)
    shifted = int32(total << e if e >= 0 else total >> -e)
    return shifted.reshape(*events.shape[:2], *synapse.out_shape)


def sparse_sums(synapse: SparseNode, events: torch.Tensor) -> torch.Tensor:
    """[N, out] int64, by one gather and one scatter of integers. events: [N, in] int64."""
    index = torch.tensor(synapse.index, dtype=torch.int64, device=events.device)
    counts = torch.tensor(synapse.indptr, device=events.device).diff()
    to = torch.repeat_interleave(torch.arange(len(counts), device=events.device), counts)
    terms = events[:, index] * torch.tensor(synapse.weight, dtype=torch.int64, device=events.device)
    return events.new_zeros(len(events), len(counts)).index_add_(1, to, terms)
