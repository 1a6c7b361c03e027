"""How many connections lead from each source neuron into a region."""

from __future__ import annotations

import numpy as np

from lavatube.deploy.mapping.regions import Region
from lavatube.program import Conv2dNode, SparseNode, Synapse


def connections_into(synapse: Synapse, region: Region, *, zeros: bool) -> np.ndarray:
    """Stored connections that lead from each source neuron into a region, with or without those of weight 0.

    Returns [sources] int64, sources flat in C order.
    """
    rows = region.flat()
    if isinstance(synapse, SparseNode):
        return _sparse(synapse, rows, zeros)
    if not isinstance(synapse, Conv2dNode):
        columns = synapse.weight.shape[1]
        return np.full(columns, len(rows), np.int64) if zeros else np.count_nonzero(synapse.weight[rows], axis=0)
    if region.grid == synapse.out_shape:
        return _window(synapse, region, zeros)
    return _scattered(synapse, rows, zeros)


def _sparse(synapse: SparseNode, rows: np.ndarray, zeros: bool) -> np.ndarray:
    starts, lengths = synapse.indptr[rows], synapse.indptr[rows + 1] - synapse.indptr[rows]
    before = lengths.cumsum() - lengths
    places = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
    index = synapse.index[places]
    index = index if zeros else index[synapse.weight[places] != 0]
    return np.bincount(index, minlength=int(np.prod(synapse.in_shape)))


def _stored(synapse: Conv2dNode, zeros: bool) -> np.ndarray:
    """[groups, out / groups, in / groups, kernel height, kernel width] int64, 1 where a weight is stored."""
    stored = np.ones_like(synapse.weight, np.int64) if zeros else (synapse.weight != 0).astype(np.int64)
    return stored.reshape(synapse.groups, -1, *synapse.weight.shape[1:])


def _window(synapse: Conv2dNode, region: Region, zeros: bool) -> np.ndarray:
    """A box of the output: for every kernel element, a rectangle of the input, strided."""
    stored = _stored(synapse, zeros)
    channels = np.zeros(synapse.out_shape[0], np.int64)
    channels[slice(*region.spans[0])] = 1
    kernel = np.einsum("goihw,go->gihw", stored, channels.reshape(synapse.groups, -1))
    kernel = kernel.reshape(synapse.in_shape[0], *kernel.shape[2:])
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
