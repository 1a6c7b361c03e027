"""Which neuron reaches which: fan-out and reach of a synapse, exact at borders and strides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lavatube.program import Conv2dNode, SparseNode, Synapse


def fan_out(synapse: Synapse) -> tuple[np.ndarray, np.ndarray]:
    """(stored, nonzero) connections that leave each presynaptic neuron. Both [in_shape] int64.

    Stored counts weights of value zero too: a dense format reads them.
    """
    stored, nonzero = np.zeros((2, *synapse.in_shape), np.int64)
    if isinstance(synapse, SparseNode):
        size = stored.size
        stored[...] = np.bincount(synapse.index, minlength=size).reshape(synapse.in_shape)
        nonzero[...] = np.bincount(synapse.index[synapse.weight != 0], minlength=size).reshape(synapse.in_shape)
        return stored, nonzero
    if not isinstance(synapse, Conv2dNode):
        stored[...] = len(synapse.weight)
        nonzero[...] = (synapse.weight != 0).sum(0).reshape(synapse.in_shape)
        return stored, nonzero
    per_group = synapse.weight.reshape(synapse.groups, -1, *synapse.weight.shape[1:])  # [groups, out, in, h, w]
    for y, x, rows, columns in _windows(synapse):
        stored[:, rows, columns] += per_group.shape[1]
        nonzero[:, rows, columns] += (per_group[..., y, x] != 0).sum(1).reshape(-1)[:, None, None]
    return stored, nonzero


def fan_out_to(synapse: Synapse, group: np.ndarray, groups: int) -> np.ndarray:
    """Stored connections from each presynaptic neuron into each group of neurons (those of one core, say).

    group: [out neurons] int, in C order. Returns [groups, in neurons] int64.
    """
    size = int(np.prod(synapse.in_shape))
    if isinstance(synapse, SparseNode):
        into = np.repeat(group, np.diff(synapse.indptr))
        return np.bincount(into * size + synapse.index, minlength=groups * size).reshape(groups, size)
    if not isinstance(synapse, Conv2dNode):
        return np.repeat(np.bincount(group, minlength=groups)[:, None], size, 1)
    member = group.reshape(1, *synapse.out_shape) == np.arange(groups)[:, None, None, None]
    per_group = member.reshape(groups, synapse.groups, -1, *synapse.out_shape[1:]).sum(2, dtype=np.int64)
    found = np.zeros((groups, synapse.groups, synapse.weight.shape[1], *synapse.in_shape[1:]), np.int64)
    for y, x, rows, columns in _windows(synapse):
        to_rows, to_columns = _arrivals(synapse, y, x, rows, columns)
        found[..., rows, columns] += per_group[:, :, None, to_rows, to_columns]
    return found.reshape(groups, size)


def reached(synapse: Synapse, events: np.ndarray) -> np.ndarray:
    """Which neurons an event reaches through a stored connection. events: [N, in_shape]; returns [N, out_shape]."""
    active = events != 0
    if isinstance(synapse, SparseNode):
        seen = active.reshape(len(active), -1)[:, synapse.index]
        counts = np.concatenate([np.zeros((len(seen), 1), np.int64), seen.cumsum(1)], 1)
        found = counts[:, synapse.indptr[1:]] > counts[:, synapse.indptr[:-1]]
        return np.asarray(found.reshape(len(active), *synapse.out_shape))
    if not isinstance(synapse, Conv2dNode):
        return np.broadcast_to(active.reshape(len(active), -1).any(1)[:, None], (len(active), *synapse.out_shape))
    return np.repeat(reached_places(synapse, events), synapse.out_shape[0] // synapse.groups, 1)


def reached_places(synapse: Conv2dNode, events: np.ndarray) -> np.ndarray:
    """As `reached`, for all channels of a group at once: [N, groups, out height, out width]."""
    active = events != 0
    groups, (_, height, width) = synapse.groups, synapse.in_shape
    anywhere = active.reshape(len(active), groups, -1, height, width).any(2)  # it reaches all channels of its group
    found = np.zeros((len(active), groups, *synapse.out_shape[1:]), bool)
    for y, x, rows, columns in _windows(synapse):
        to_rows, to_columns = _arrivals(synapse, y, x, rows, columns)
        found[:, :, to_rows, to_columns] |= anywhere[:, :, rows, columns]
    return found


def _windows(synapse: Conv2dNode) -> Iterator[tuple[int, int, slice, slice]]:
    """(kernel y, kernel x, input rows, input columns) of the places that a kernel element meets inside the input."""
    _, height, width = synapse.in_shape
    _, out_height, out_width = synapse.out_shape
    for y in range(synapse.weight.shape[2]):
        rows = _inside(y * synapse.dilation[0], synapse.stride[0], synapse.padding[0], height, out_height)
        for x in range(synapse.weight.shape[3]):
            columns = _inside(x * synapse.dilation[1], synapse.stride[1], synapse.padding[1], width, out_width)
            if rows is not None and columns is not None:
                yield y, x, rows, columns


def _arrivals(synapse: Conv2dNode, y: int, x: int, rows: slice, columns: slice) -> tuple[slice, slice]:
    """The output rows and columns that the input places of a window reach."""
    (stride_y, stride_x), (pad_y, pad_x) = synapse.stride, synapse.padding
    y, x = y * synapse.dilation[0], x * synapse.dilation[1]
    to_rows = slice((rows.start + pad_y - y) // stride_y, (rows.stop - 1 + pad_y - y) // stride_y + 1)
    to_columns = slice((columns.start + pad_x - x) // stride_x, (columns.stop - 1 + pad_x - x) // stride_x + 1)
    return to_rows, to_columns


def _inside(offset: int, stride: int, padding: int, size: int, out_size: int) -> slice | None:
    places = [o * stride + offset - padding for o in range(out_size)]
    places = [place for place in places if 0 <= place < size]
    return slice(places[0], places[-1] + 1, stride) if places else None
