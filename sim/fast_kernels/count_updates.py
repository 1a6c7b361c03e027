"""Neuron-steps that received an event through a stored connection, or have a bias: compiled, and in torch."""

from __future__ import annotations

import numpy as np
import torch

from lavatube.program import Conv2dNode, DenseNode, NeuronNode, SparseNode
from lavatube.sim.fast_kernels.order import lay_out
from lavatube.sim.fast_kernels.synapse import ReadySynapse

Seen = list[torch.Tensor]  # of each synapse into a population the events [T, B, N] that it receives


class CompiledUpdates:
    """Of a population, on a CPU. inbound: the synapses into it."""

    def __init__(self, node: NeuronNode, inbound: list[ReadySynapse]) -> None:
        self.inbound, self.size = inbound, int(np.prod(node.shape))
        self.biased = np.ascontiguousarray(lay_out(node.bias_mant != 0, node.shape))
        self.number = int(self.biased.sum())
        self.all_dense = all(isinstance(ready.node, DenseNode) for ready in inbound)
        self.takes = {
            ready.node.name: [
                None if take is None else torch.from_numpy(take) for take in (ready.take_in, ready.take_out)
            ]
            for ready in inbound
        }
        only = inbound[0].node if len(inbound) == 1 else None
        self.conv = only if isinstance(only, Conv2dNode) else None
        if self.conv is not None:  # what an event changes at a place: its neurons without a bias
            quiet = lay_out(node.bias_mant.reshape(self.conv.out_shape) == 0, self.conv.out_shape)
            height, width = self.conv.out_shape[1:]
            self.quiet = (
                np.ascontiguousarray(quiet).reshape(height, width * self.conv.groups, -1).sum(-1, dtype=np.int32)
            )

    def add(self, seen: Seen, alive: torch.Tensor, stop: np.ndarray, sums: np.ndarray) -> None:
        """sums[b] += updates before stop[b]. alive: [T, B] bool, true before stop [B] int64; sums: [B] int64."""
        from lavatube.sim.fast_kernels import count_rows

        if self.all_dense:
            hit = np.zeros(alive.shape, np.uint8)
            for events in seen:
                count_rows.mark_rows(events.numpy(), hit)
            count_rows.add_rows_hit(hit, stop, self.size, self.number, sums)
        elif self.conv is not None:
            self._places(self.inbound[0], seen[0], stop, self.quiet, sums, None)
            sums += self.number * stop
        else:
            mask = np.empty((*alive.shape, self.size), bool)
            mask[:] = self.biased
            for ready, events in zip(self.inbound, seen, strict=True):
                mask |= self._reached(ready, events, stop)
            sums += (mask.sum(-1) * alive.numpy()).sum(0)

    def _places(
        self,
        ready: ReadySynapse,
        events: torch.Tensor,
        stop: np.ndarray,
        quiet: np.ndarray,
        sums: np.ndarray,
        places: np.ndarray | None,
    ) -> None:
        """Mark in places [T, B, H', W' * groups] uint8 where a window holds an event; add quiet there to sums."""
        from lavatube.sim.fast_kernels import count_rows

        conv = ready.node
        assert isinstance(conv, Conv2dNode)
        channels, height, width = conv.in_shape
        if (take := self.takes[conv.name][0]) is not None:
            events = events[..., take]
        shape = *events.shape[:2], height, width * conv.groups, channels // conv.groups
        image = events.contiguous().numpy().reshape(shape)
        if image.shape[-1] * image.itemsize % 8 == 0:
            image = image.view(np.uint64)
        window = (conv.weight.shape[2], conv.weight.shape[3]), conv.stride, conv.padding, conv.dilation
        kept = np.zeros((0, 0, 0, 0), np.uint8) if places is None else places
        count_rows.mark_places(image, conv.groups, *window, stop, quiet, sums, kept)

    def _reached(self, ready: ReadySynapse, events: torch.Tensor, stop: np.ndarray) -> np.ndarray:
        """[T, B, N] bool, or [T, B, 1]."""
        from lavatube.sim.fast_kernels import count_rows

        node, shape = ready.node, events.shape[:2]
        if isinstance(node, DenseNode):
            hit = np.zeros(shape, np.uint8)
            count_rows.mark_rows(events.numpy(), hit)
            return hit.view(bool)[..., None]
        if isinstance(node, SparseNode):
            mask = np.zeros((*shape, self.size), np.uint8)
            starts, to, _ = ready.by_source
            count_rows.mark_stored(events.numpy(), starts, to, mask)
            return mask.view(bool)
        height, width = node.out_shape[1:]
        places = np.zeros((*shape, height, width * node.groups), np.uint8)
        nothing = np.zeros((height, width * node.groups), np.int32)
        self._places(ready, events, stop, nothing, np.zeros(len(stop), np.int64), places)
        found = np.repeat(places.reshape(*shape, -1), node.out_shape[0] // node.groups, -1).view(bool)
        return found if ready.take_out is None else found[..., ready.take_out]


class TorchUpdates:
    """As `CompiledUpdates`, on any device."""

    def __init__(self, node: NeuronNode, inbound: list[ReadySynapse]) -> None:
        self.inbound, self.size = inbound, int(np.prod(node.shape))
        self.biased = torch.from_numpy(np.ascontiguousarray(lay_out(node.bias_mant != 0, node.shape)))

    def add(self, seen: Seen, alive: torch.Tensor, stop: np.ndarray, sums: np.ndarray) -> None:
        """See `CompiledUpdates.add`."""
        mask = self.biased.to(alive.device).expand(*alive.shape, self.size)
        for ready, events in zip(self.inbound, seen, strict=True):
            mask = mask | _reached(ready, events != 0, self.size)
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
