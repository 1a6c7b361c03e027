"""One synapse, ready to run: its weights in the form that each kernel wants, made when first needed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch

from lavatube.node_checks import Shape
from lavatube.program import Conv2dNode, DenseNode, SparseNode, Synapse
from lavatube.sim.fast_kernels import gemm_sums
from lavatube.sim.fast_kernels.choice import KERNELS, Kernel, choose
from lavatube.sim.fast_kernels.compiled import HAS_NUMBA
from lavatube.sim.fast_kernels.order import c_order_of, place_of, regrouped
from lavatube.train.exact_sums import exact_linear

INT8, INT16 = np.iinfo(np.int8), np.iinfo(np.int16)
Pair = tuple[int, int]
INT32_MAX = (1 << 31) - 1
ROWS_MEASURED = 64  # of a block, for the choice of the kernel
CALLS_A_MEASUREMENT = 64  # and the first, second, fourth, eighth ... call: activity changes most at the start


def dots_are_exact() -> bool:
    """See `dot_sums`; importing it imports numba."""
    from lavatube.sim.fast_kernels import dot_sums

    return dot_sums.dots_are_exact()


def aligned(value: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line."""
    return torch.from_numpy(value).clone().numpy()


class ReadySynapse:
    """Adds the activations of a synapse to int32 sums in memory order (order.py).

    source, target: shapes of the nodes at its ends. events: (lowest, highest) that the source emits.
    kernel: the one to use, or None to choose by density.
    """

    def __init__(
        self, node: Synapse, source: Shape, target: Shape, events: tuple[int, int], device: str, kernel: Kernel | None
    ) -> None:
        self.node, self.device, self.kernel = node, device, kernel
        self.is_conv = isinstance(node, Conv2dNode)
        self.seen, self.held = source, target
        self.take_in = self.take_out = None
        if self.is_conv:
            self.take_in, self.take_out = regrouped(source, node.in_shape), regrouped(node.out_shape, target)
        low, high = events
        self.binary, self.largest = events == (0, 1), max(-low, high)
        largest_bits = int(np.bitwise_or.reduce(node.weight.astype(np.int64), axis=None))
        self.shift = (largest_bits & -largest_bits).bit_length() - 1 if largest_bits else 0
        stored = node.weight >> self.shift
        fits = INT8.min <= stored.min() and stored.max() <= INT8.max
        self.small = stored.astype(np.int8 if fits else np.int16)
        self.left, self.right = self._shifts(stored)
        self.compiled = device == "cpu" and HAS_NUMBA
        usable: set[Kernel] = {"float", "event"} if self.compiled else {"float"}
        plain = not isinstance(node, SparseNode) and not (isinstance(node, Conv2dNode) and node.groups > 1)
        self.signed = low < 0
        if device == "cpu" and fits and low >= -128 and high < 256 - 128 * self.signed and plain:
            if gemm_sums.int8_gemm_is_exact():
                usable.add("int8")
            if self.compiled and dots_are_exact():
                usable.add("dot")
        self.usable = frozenset(usable)
        self.window: tuple[Pair, ...] = ()  # kernel, stride, padding, dilation
        if isinstance(node, Conv2dNode):
            self.window = (node.weight.shape[2], node.weight.shape[3]), node.stride, node.padding, node.dilation
            self.image, self.grid = (shape[1:] + shape[:1] for shape in (node.in_shape, node.out_shape))
        self.width = node.weight.shape[0] if not isinstance(node, SparseNode) else 1 << 30
        self.inputs = node.weight.size // self.width or 1
        self.calls, self.chosen = 0, KERNELS[-1]

    def _shifts(self, stored: np.ndarray) -> tuple[int, int]:
        """(left, right) of a sum of stored weights; one of them is 0 where the sum cannot leave int32 on the way."""
        e = self.node.weight_exp
        left, right = self.shift + max(e, 0), max(-e, 0)
        rows = stored.reshape(1 if isinstance(self.node, SparseNode) else len(stored), -1)
        most = int(np.abs(rows.astype(np.int64)).sum(1).max()) * self.largest
        both = min(left, right) if most << left <= INT32_MAX else 0
        return left - both, right - both

    def add(self, events: torch.Tensor, out: torch.Tensor, adds: bool) -> None:
        """out = (or += if `adds`) the shifted sums, wrapping. events: [rows, in] integers; out: [rows, out] int32."""
        if self.take_in is not None:
            events = events[:, self._index("take_in")]
        kernel = self._choose(events)
        direct = self.take_out is None
        if kernel in ("event", "dot"):
            total = out if direct else torch.empty_like(out)
            run = self._event if kernel == "event" else self._dot
            run(events.contiguous().numpy(), total.numpy(), direct and adds)
            if direct:
                return
        else:
            e = self.node.weight_exp
            left, right = (self.left, self.right) if kernel == "int8" else (max(e, 0), max(-e, 0))
            total = (self._int8(events) if kernel == "int8" else self._float(events)).to(torch.int32)
            if self.compiled and direct:
                from lavatube.sim.fast_kernels import event_sums

                event_sums.deliver_all(total.view(-1).numpy(), left, right, out.view(-1).numpy(), adds)
                return
            total = total << left >> right
        if not direct:
            total = total[:, self._index("take_out")]
        if adds:
            out += total
        else:
            out.copy_(total)

    def _choose(self, events: torch.Tensor) -> Kernel:
        if self.kernel is not None:
            return self.kernel if self.kernel in self.usable else "float"
        if len(self.usable) == 1:
            return "float"
        self.calls += 1
        if self.calls & (self.calls - 1) == 0 or self.calls % CALLS_A_MEASUREMENT == 0:
            self.chosen = choose(self.usable, self._density(events), self.width, self.inputs, self.binary)
        return self.chosen

    def _density(self, events: torch.Tensor) -> float:
        """Share of events that are not 0, of a few rows."""
        some = events[:: max(1, len(events) // ROWS_MEASURED)].numpy()
        return np.count_nonzero(some.view(np.bool_) if self.binary else some) / some.size

    def _event(self, events: np.ndarray, out: np.ndarray, adds: bool) -> None:
        if self.is_conv:
            events, out = events.reshape(len(events), *self.image), out.reshape(len(events), *self.grid)
        kernel, given = self._rows if self.binary and not isinstance(self.node, SparseNode) else self._graded
        kernel(events, *given, self.left, self.right, out, adds)

    def _dot(self, events: np.ndarray, out: np.ndarray, adds: bool) -> None:
        kernel, flip, given = self._words
        if events.dtype == np.int32:
            events = events.astype(np.int8 if self.signed else np.uint8)
        events = events.view(np.uint8)
        if self.is_conv:
            events, out = events.reshape(len(events), *self.image), out.reshape(len(events), *self.grid)
        else:
            if short := -events.shape[1] % 4:  # words of four inputs
                events = np.pad(events, ((0, 0), (0, short)))
            events = events ^ np.uint8(flip) if flip else events
        kernel(events, *given, self.left, self.right, out, adds)

    def _int8(self, events: torch.Tensor) -> torch.Tensor:
        if self.largest < 128 and events.dtype == torch.uint8:
            events = events.view(torch.int8)
        elif events.dtype == torch.int32:
            events = events.to(torch.int8 if self.largest < 128 else torch.uint8)
        if isinstance(self.node, Conv2dNode):
            seen = gemm_sums.windows(events.contiguous(), self.node)
            return gemm_sums.int8_sums(seen, torch.from_numpy(self.by_window[0])).view(len(events), -1)
        return gemm_sums.int8_sums(events, torch.from_numpy(self.by_input))

    def _float(self, events: torch.Tensor) -> torch.Tensor:
        node = self.node
        if isinstance(node, Conv2dNode):
            return gemm_sums.float_sums(node, events, self._on_device["weight"], self.largest)
        if isinstance(node, SparseNode):
            return gemm_sums.gathered_sums(node, events, self._on_device["from"], self._on_device["to"])
        return exact_linear(events, self._on_device["weight"], self.largest)

    @cached_property
    def by_input(self) -> np.ndarray:
        """Dense weights by presynaptic neuron, both ends in memory order: [in, out], shifted right by `shift`."""
        rows, columns = c_order_of(self.seen), c_order_of(self.held)
        return np.ascontiguousarray(self.small[columns][:, rows].T)

    @cached_property
    def by_window(self) -> np.ndarray:
        """Convolution weights as [groups, kernel height * kernel width * in channels, out channels / groups]."""
        assert isinstance(self.node, Conv2dNode)
        out, into, height, width = self.small.shape
        groups = self.node.groups
        split = self.small.reshape(groups, out // groups, into, height, width).transpose(0, 3, 4, 2, 1)
        return np.ascontiguousarray(split).reshape(groups, height * width * into, out // groups)

    @cached_property
    def _graded(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The kernel of graded events and of stored connections, and what it is given after the events."""
        from lavatube.sim.fast_kernels import event_sums

        if isinstance(self.node, SparseNode):
            return event_sums.sparse_events, self.by_source
        if self.is_conv:
            return event_sums.conv_events, (self.by_window, *self.window)
        return event_sums.dense_events, (self.by_input,)

    @cached_property
    def _rows(self) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The kernel of binary events, and what it is given after the events."""
        from lavatube.sim.fast_kernels import row_sums

        most = int(INT16.max) // max(1, int(np.abs(self.small.astype(np.int64)).max()))
        weight = aligned(row_sums.packed(self.by_window if self.is_conv else self.by_input))
        kernel = row_sums.conv_rows if self.is_conv else row_sums.dense_rows
        return kernel, (weight, *self.window, most, row_sums.presses_bytes())

    @cached_property
    def _words(self) -> tuple[Callable[..., None], int, tuple[Any, ...]]:
        """The kernel of products of bytes, what signed events are moved by, and what it is given after the events.

        Its lines are those of a convolution's kernel, or where that is dilated, its places. Sums begin with minus what
        moving the events adds.
        """
        from lavatube.sim.fast_kernels import dot_sums

        weight, node, flip = self.by_window[0] if self.is_conv else self.by_input, self.node, 0
        if isinstance(node, Conv2dNode):
            height, width = node.weight.shape[2:]
            weight = weight.reshape(height if node.dilation[1] == 1 else height * width, -1, weight.shape[-1])
        if self.signed:
            flip = dot_sums.FLIP
        words = aligned(dot_sums.packed(weight))
        first = np.asarray(words.sum((0, 3), dtype=np.int32).reshape(-1) * np.int32(-flip))
        if self.is_conv:
            return dot_sums.conv_dots, flip, (words, *self.window, flip, first)
        return dot_sums.dense_dots, flip, (words, first)

    @cached_property
    def by_source(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stored connections by presynaptic neuron: starts [in + 1], to and weight [connections]."""
        origin, to = self._ends
        order = np.argsort(origin, kind="stable")
        counts = np.bincount(origin, minlength=int(np.prod(self.seen)))
        starts = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        return starts, to[order].astype(np.int32), self.small[order]

    @property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Where each stored connection comes from and leads, in memory order."""
        assert isinstance(self.node, SparseNode)
        neuron = np.repeat(np.arange(len(self.node.indptr) - 1), np.diff(self.node.indptr))
        return place_of(self.seen)[self.node.index], place_of(self.held)[neuron]

    @cached_property
    def _on_device(self) -> dict[str, torch.Tensor]:
        """Tensors of the float kernels and of regrouping."""
        found: dict[str, Any] = {}
        if isinstance(self.node, SparseNode):
            found["from"], found["to"] = self._ends
        elif isinstance(self.node, DenseNode):
            found["weight"] = self.node.weight[c_order_of(self.held)][:, c_order_of(self.seen)]
        else:
            found["weight"] = self.node.weight
        found |= {name: getattr(self, name) for name in ("take_in", "take_out") if getattr(self, name) is not None}
        return {name: torch.tensor(np.ascontiguousarray(value), device=self.device) for name, value in found.items()}

    def _index(self, name: str) -> torch.Tensor:
        return self._on_device[name]
