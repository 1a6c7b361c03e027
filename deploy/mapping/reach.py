"""How many connections lead from each source neuron into a region."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lavatube.deploy.mapping.regions import Region
from lavatube.program import Conv2dNode, SparseNode, Synapse


@dataclass(frozen=True)
class Reach:
    """Stored connections of a synapse, with or without those of weight 0."""

    synapse: Synapse
    zeros: bool

    def into(self, region: Region) -> np.ndarray:
        """Connections that lead from each source neuron, flat in C order, into a region. [sources] int64."""
        synapse = self.synapse
        if isinstance(synapse, SparseNode):
            return _sparse(synapse, region.flat(), self.zeros)
        if not isinstance(synapse, Conv2dNode):
            rows, columns = region.flat(), synapse.weight.shape[1]
            return (
                np.full(columns, len(rows), np.int64) if self.zeros else np.count_nonzero(synapse.weight[rows], axis=0)
            )
        if region.grid == synapse.out_shape:
            return _window(synapse, self._kernel(region.spans[0]), region)
        return _scattered(synapse, region.flat(), self.zeros)

    def _kernel(self, span: tuple[int, int]) -> np.ndarray:
        """[in channels, kernel height, kernel width]: weights stored for output channels start .. stop - 1."""
        groups, size = self._before.shape[:2]
        ends = (np.clip(end - np.arange(groups) * (size - 1), 0, size - 1) for end in span)
        first, last = (self._before[np.arange(groups), end] for end in ends)
        return np.asarray(last - first).reshape(-1, *self._before.shape[3:])

    @cached_property
    def _before(self) -> np.ndarray:
        """[groups, out / groups + 1, in / groups, height, width] int32: weights stored before each output channel."""
        assert isinstance(self.synapse, Conv2dNode)
        stored = _stored(self.synapse, self.zeros)
        before = np.zeros((len(stored), stored.shape[1] + 1, *stored.shape[2:]), np.int32)
        stored.cumsum(1, dtype=np.int32, out=before[:, 1:])
        return before


def _sparse(synapse: SparseNode, rows: np.ndarray, zeros: bool) -> np.ndarray:
    starts, lengths = synapse.indptr[rows], synapse.indptr[rows + 1] - synapse.indptr[rows]
    before = lengths.cumsum() - lengths
    places = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
    index = synapse.index[places]
    index = index if zeros else index[synapse.weight[places] != 0]
    return np.bincount(index, minlength=int(np.prod(synapse.in_shape)))


def _stored(synapse: Conv2dNode, zeros: bool) -> np.ndarray:
    """[groups, out / groups, in / groups, kernel height, kernel width] bool: where a weight is stored."""
    stored = np.ones(synapse.weight.shape, bool) if zeros else synapse.weight != 0
    return stored.reshape(synapse.groups, -1, *synapse.weight.shape[1:])


def _window(synapse: Conv2dNode, kernel: np.ndarray, region: Region) -> np.ndarray:
    """A box of the output: for every kernel element, a rectangle of the input, strided."""
    found = np.zeros(synapse.in_shape, np.int64)
    for y in range(kernel.shape[1]):
        rows = _meets(synapse, 0, y, region.spans[1])
        for x in range(kernel.shape[2]):
            columns = _meets(synapse, 1, x, region.spans[2])
            found[:, rows, columns] += kernel[:, y, x, None, None]
    return found.reshape(-1)


def _meets(synapse: Conv2dNode, axis: int, element: int, span: tuple[int, int]) -> slice:
    """Input rows (or columns) that a kernel element meets inside the input, for outputs of a span."""
    stride, size = synapse.stride[axis], synapse.in_shape[1 + axis]
    offset = element * synapse.dilation[axis] - synapse.padding[axis]
    first = max(span[0], -(offset // stride))  # the first output whose place is not before the input
    last = min(span[1], -((offset - size) // stride))
    start = first * stride + offset
    return slice(start, start + max(last - first, 0) * stride, stride)


def _scattered(synapse: Conv2dNode, rows: np.ndarray, zeros: bool) -> np.ndarray:
    """Any neurons of the output, element by element."""
    stored = _stored(synapse, zeros)
    (_, height, width), (out_channels, *_) = synapse.in_shape, synapse.out_shape
    channel, out_y, out_x = np.unravel_index(rows, synapse.out_shape)
    group, within = np.divmod(channel, out_channels // synapse.groups)
    inputs = stored.shape[2]
    found = np.zeros(synapse.in_shape, np.int64)
    for y in range(stored.shape[3]):
        in_y = out_y * synapse.stride[0] + y * synapse.dilation[0] - synapse.padding[0]
        for x in range(stored.shape[4]):
            in_x = out_x * synapse.stride[1] + x * synapse.dilation[1] - synapse.padding[1]
            inside = (in_y >= 0) & (in_y < height) & (in_x >= 0) & (in_x < width)
            for i in range(inputs):
                from_channel = (group * inputs + i)[inside]
                np.add.at(found, (from_channel, in_y[inside], in_x[inside]), stored[group, within, i, y, x][inside])
    return found.reshape(-1)
