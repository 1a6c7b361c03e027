"""Neuron-steps that received an event through a stored connection, or have a bias: compiled, and in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lavatube.program import Conv2dNode, DenseNode, NeuronNode, SparseNode
from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.count_sums import CompiledSums
from lavatube.sim.fast_kernels.order import lay_out
from lavatube.sim.fast_kernels.synapse import ReadySynapse

if HAS_NUMBA:
    from lavatube.sim.fast_kernels import count_rows


class CompiledUpdates:
    """Of a population, on a CPU. inbound: the synapses into it."""

    def __init__(self, node: NeuronNode, inbound: list[ReadySynapse]) -> None:
        self.inbound, self.size = inbound, int(np.prod(node.shape))
        self.biased = np.ascontiguousarray(lay_out(node.bias_mant != 0, node.shape))
        self.number = int(self.biased.sum())
        self.all_dense = all(isinstance(ready.node, DenseNode) for ready in inbound)
        only = inbound[0].node if len(inbound) == 1 else None
        self.conv = only if isinstance(only, Conv2dNode) else None
        if self.conv is not None:  # what an event changes at a place: its neurons without a bias
            quiet = lay_out(node.bias_mant.reshape(self.conv.out_shape) == 0, self.conv.out_shape)
            height, width = self.conv.out_shape[1:]
            self.quiet = corners(self.conv, quiet.reshape(height, width, self.conv.groups, -1).sum(-1, dtype=np.int32))

    def add(self, seen: Sequence[Any], count: int, stop: np.ndarray, alive: torch.Tensor, sums: np.ndarray) -> None:
        """sums[b] += updates before stop[b], of `count` timesteps; of a convolution alone, those of neurons without a
        bias. seen: `CompiledSums` of each synapse."""
        if self.all_dense:
            there = np.bitwise_or.reduce([one.there[:count] for one in seen])
            count_rows.add_rows_hit(there, stop, self.size, self.number, sums)
        elif self.conv is not None:
            self._places(self.inbound[0], seen[0].room[:count], stop, self.quiet, sums, None)
        else:
            mask = np.empty((count, len(stop), self.size), bool)
            mask[:] = self.biased
            for ready, one in zip(self.inbound, seen, strict=True):
                mask |= self._reached(ready, one, count, stop)
            sums += (mask.sum(-1) * (np.arange(count)[:, None] < stop)).sum(0)

    def _places(
        self,
        ready: ReadySynapse,
        events: np.ndarray,
        stop: np.ndarray,
        quiet: np.ndarray,
        sums: np.ndarray,
        places: np.ndarray | None,
    ) -> None:
        """Mark in places [T, B, H', W' * groups] uint8 where a window holds an event; add quiet there to sums."""
        conv = ready.node
        assert isinstance(conv, Conv2dNode)
        channels, height, width = conv.in_shape
        if ready.take_in is not None:
            events = events[..., ready.take_in]
        image = events.reshape(*events.shape[:2], height, width * conv.groups, channels // conv.groups)
        if image.shape[-1] * image.itemsize % 8 == 0:
            image = image.view(np.uint64)
        window = (conv.weight.shape[2], conv.weight.shape[3]), conv.stride, conv.padding, conv.dilation
        kept = np.zeros((0, 0, 0, 0), np.uint8) if places is None else places
        count_rows.mark_places(image, conv.groups, *window, stop, quiet, sums, kept)

    def _reached(self, ready: ReadySynapse, seen: CompiledSums, count: int, stop: np.ndarray) -> np.ndarray:
        """[T, B, N] bool, or [T, B, 1]."""
        node, shape = ready.node, (count, len(stop))
        if isinstance(node, DenseNode):
            return np.asarray(seen.there[:count, :, None] != 0)
        if isinstance(node, SparseNode):
            mask = np.zeros((*shape, self.size), np.uint8)
            starts, to, _ = ready.by_source
            count_rows.mark_stored(seen.room[:count], starts, to, mask)
            return mask.view(bool)
        height, width = node.out_shape[1:]
        places = np.zeros((*shape, height, width * node.groups), np.uint8)
        nothing = corners(node, np.zeros((height, width, node.groups), np.int32))
        self._places(ready, seen.room[:count], stop, nothing, np.zeros(len(stop), np.int64), places)
        found = np.repeat(places.reshape(*shape, -1), node.out_shape[0] // node.groups, -1).view(bool)
        return found if ready.take_out is None else found[..., ready.take_out]


def corners(conv: Conv2dNode, values: np.ndarray) -> np.ndarray:
    """[H + 2 padding, (W + 2 padding) * groups]: values [H', W', groups] where their windows begin, else 0."""
    (_, height, width), (up, side), (step_y, step_x) = conv.in_shape, conv.padding, conv.stride
    found = np.zeros((height + 2 * up, width + 2 * side, conv.groups), values.dtype)
    found[: values.shape[0] * step_y : step_y, : values.shape[1] * step_x : step_x] = values
    return found.reshape(len(found), -1)


class TorchUpdates:
    """As `CompiledUpdates`, on any device."""

    def __init__(self, node: NeuronNode, inbound: list[ReadySynapse]) -> None:
        self.inbound, self.size = inbound, int(np.prod(node.shape))
        self.only = len(inbound) == 1 and inbound[0].is_conv
        self.biased = torch.from_numpy(np.ascontiguousarray(lay_out(node.bias_mant != 0, node.shape)))

    def add(self, seen: Sequence[Any], count: int, stop: np.ndarray, alive: torch.Tensor, sums: np.ndarray) -> None:
        """See `CompiledUpdates.add`. seen: `TorchSums`; alive: [T, B] bool, true before stop [B]."""
        biased = self.biased.to(alive.device)
        mask = biased.expand(*alive.shape, self.size)
        for ready, one in zip(self.inbound, seen, strict=True):
            mask = mask | _reached(ready, one.room[:count] != 0, self.size)
        if self.only:
            mask = mask & ~biased
        sums += (mask.sum(-1) * alive).sum(0).cpu().numpy()


def _reached(ready: ReadySynapse, active: torch.Tensor, size: int) -> torch.Tensor:
    """[T, B, N] bool, or [T, B, 1]. active: [T, B, in] bool."""
    node, shape, device = ready.node, active.shape[:2], active.device
    if isinstance(node, DenseNode):
        return active.any(-1, keepdim=True)
    if isinstance(node, SparseNode):
        starts, to, _ = ready.by_source
        origin = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        place, target = (torch.tensor(value, dtype=torch.int64, device=device) for value in (origin, to))
        found = torch.zeros(*shape, size, dtype=torch.int32, device=device)
        return found.index_add_(2, target, active[..., place].to(torch.int32)) > 0
    if ready.take_in is not None:
        active = active[..., torch.tensor(ready.take_in, device=device)]
    channels, height, width = node.in_shape
    image = active.reshape(-1, height, width, node.groups, channels // node.groups).any(-1)
    (up, side), window = node.padding, tuple(node.weight.shape[2:])
    grid = torch.nn.functional.pad(image.permute(0, 3, 1, 2).float(), (side, side, up, up))
    places = (torch.nn.functional.max_pool2d(grid, window, node.stride, 0, node.dilation) > 0).permute(0, 2, 3, 1)
    found = places[..., None].expand(*places.shape, node.out_shape[0] // node.groups).reshape(*shape, size)
    return found if ready.take_out is None else found[..., torch.tensor(ready.take_out, device=device)]
