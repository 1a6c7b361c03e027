"""Weighted sums of a source's events over the timesteps of each sample: compiled, and in torch for every device."""

from __future__ import annotations

import numpy as np
import torch

from lavatube.sim.fast_kernels.count_plan import BYTE, Columns


class CompiledSums:
    """Weighted sums of one source at one lag: events, and bit lengths where they are graded, [B, columns] int64."""

    def __init__(self, columns: Columns, batch: int, device: str) -> None:
        self.columns, self.held = columns, 0
        size = columns.matrix.shape[1]
        self.graded = columns.most_bits > 1
        self.limit = BYTE // columns.most_bits if self.graded else BYTE  # timesteps that a byte holds
        self.active, self.bits = (np.zeros((batch, size if there else 0), np.uint8) for there in (True, self.graded))
        self.sums = np.zeros((2, batch, len(columns.matrix)), np.int64)

    def add(self, seen: torch.Tensor, alive: torch.Tensor, stop: np.ndarray) -> None:
        """seen: [T, B, N] events; alive: [T, B] bool, true before stop [B]."""
        from lavatube.sim.fast_kernels import count_rows

        events, first = seen.numpy(), 0
        if len(events) <= self.limit - self.held:
            count_rows.add_active(events, stop, self.active)
            if self.graded:
                count_rows.add_bits(events, stop, self.columns.most_bits, self.bits)
            self.held += len(events)
            return
        while first < len(events):
            count = min(len(events) - first, self.limit - self.held)
            part, left = events[first : first + count], np.clip(stop - first, 0, count)
            count_rows.add_active(part, left, self.active)
            if self.graded:
                count_rows.add_bits(part, left, self.columns.most_bits, self.bits)
            first, self.held = first + count, self.held + count
            if self.held == self.limit:
                self._settle()

    def _settle(self) -> None:
        from lavatube.sim.fast_kernels import count_rows

        for held, sums in zip((self.active, self.bits), self.sums, strict=True):
            if held.size:
                count_rows.add_products(held, self.columns.matrix, self.columns.together, sums)
        self.held = 0

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """(events, bits), each [B, columns] int64."""
        self._settle()
        return self.sums[0], self.sums[1] if self.graded else self.sums[0]


class TorchSums:
    """As `CompiledSums`, on any device."""

    def __init__(self, columns: Columns, batch: int, device: str) -> None:
        self.columns, self.graded = columns, columns.most_bits > 1
        room = 2 if self.graded else 1, batch, columns.matrix.shape[1]
        self.held = torch.zeros(room, dtype=torch.int64, device=device)

    def add(self, seen: torch.Tensor, alive: torch.Tensor, stop: np.ndarray) -> None:
        """See `CompiledSums.add`."""
        size = seen.to(torch.int32).abs() * alive[..., None]
        self.held[0] += (size > 0).sum(0)
        for k in range(self.columns.most_bits if self.graded else 0):
            self.held[1] += (size >= 1 << k).sum(0)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """See `CompiledSums.result`."""
        sums = self.held.cpu().numpy() @ self.columns.matrix.T.astype(np.int64)
        return sums[0], sums[-1]
