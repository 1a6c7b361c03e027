"""Which neuron reaches which: fan-out and reach of a synapse, exact at borders and strides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lavatube.program import Conv2dNode, Synapse


def fan_out(synapse: Synapse) -> tuple[np.ndarray, np.ndarray]:
    """(stored, nonzero) connections that leave each presynaptic neuron. Both [in_shape] int64.

    Stored counts weights of value zero too: a dense format reads them.
    """
    stored, nonzero = np.zeros((2, *synapse.in_shape), np.int64)
    if not isinstance(synapse, Conv2dNode):
        stored[...] = len(synapse.weight)
        nonzero[...] = (synapse.weight != 0).sum(0).reshape(synapse.in_shape)
        return stored, nonzero
    for y, x, rows, columns in _windows(synapse):
        stored[:, rows, columns] += len(synapse.weight)
        nonzero[:, rows, columns] += (synapse.weight[:, :, y, x] != 0).sum(0)[:, None, None]
    return stored, nonzero


def reached(synapse: Synapse, events: np.ndarray) -> np.ndarray:
    """Which neurons an event reaches through a stored connection. events: [N, in_shape]; returns [N, out_shape]."""
    active = events != 0
    if not isinstance(synapse, Conv2dNode):
        return np.broadcast_to(active.reshape(len(active), -1).any(1)[:, None], (len(active), *synapse.out_shape))
    anywhere = active.any(1)  # a channel's event reaches all output channels
    found = np.zeros((len(active), *synapse.out_shape[1:]), bool)
    for y, x, rows, columns in _windows(synapse):
        (stride_y, stride_x), (pad_y, pad_x) = synapse.stride, synapse.padding
        to_rows = slice((rows.start + pad_y - y) // stride_y, (rows.stop - 1 + pad_y - y) // stride_y + 1)
        to_columns = slice((columns.start + pad_x - x) // stride_x, (columns.stop - 1 + pad_x - x) // stride_x + 1)
        found[:, to_rows, to_columns] |= anywhere[:, rows, columns]
    return np.broadcast_to(found[:, None], (len(active), *synapse.out_shape))


def _windows(synapse: Conv2dNode) -> Iterator[tuple[int, int, slice, slice]]:
    """(kernel y, kernel x, input rows, input columns) of the places that a kernel element meets inside the input."""
    _, height, width = synapse.in_shape
    _, out_height, out_width = synapse.out_shape
    for y in range(synapse.weight.shape[2]):
        rows = _inside(y, synapse.stride[0], synapse.padding[0], height, out_height)
        for x in range(synapse.weight.shape[3]):
            columns = _inside(x, synapse.stride[1], synapse.padding[1], width, out_width)
            if rows is not None and columns is not None:
                yield y, x, rows, columns


def _inside(offset: int, stride: int, padding: int, size: int, out_size: int) -> slice | None:
    places = [o * stride + offset - padding for o in range(out_size)]
    places = [place for place in places if 0 <= place < size]
    return slice(places[0], places[-1] + 1, stride) if places else None
