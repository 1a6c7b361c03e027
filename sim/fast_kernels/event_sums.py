"""Graded and signed events, and stored connections: only the weights of active inputs are read.

Accumulators are int32 and wrap. The program keeps its sums in int32 too (docs/program.md), so whatever the weights and
events, what remains after all additions is the same. Weights are stored by presynaptic neuron, [in, out].
"""

from __future__ import annotations

import numpy as np
from numpy import int32

from lavatube.sim.fast_kernels.compiled import compiled


@compiled
def add_scaled_rows(weight: np.ndarray, rows: np.ndarray, values: np.ndarray, count: int, total: np.ndarray) -> None:
    """total[o] += sum of weight[rows[k], o] * values[k] over k < count, in int32."""
    size = total.shape[0]
    k = 0
    while k + 4 <= count:
        a, b, c, d = weight[rows[k]], weight[rows[k + 1]], weight[rows[k + 2]], weight[rows[k + 3]]
        p, q, r, s = values[k], values[k + 1], values[k + 2], values[k + 3]
        for o in range(size):
            total[o] += int32(int32(a[o] * p) + int32(b[o] * q) + int32(c[o] * r) + int32(d[o] * s))
        k += 4
    while k < count:
        a, p = weight[rows[k]], values[k]
        for o in range(size):
            total[o] += int32(a[o] * p)
        k += 1


@compiled
def deliver(total: np.ndarray, left: int, right: int, out: np.ndarray, adds: bool) -> None:
    """out = or += (total << left) >> right, in int32; total is zero afterwards. total, out: [n] int32."""
    for o in range(total.shape[0]):
        value = int32(int32(total[o] << int32(left)) >> int32(right))
        out[o] = int32(out[o] + value) if adds else value
        total[o] = 0


@compiled
def deliver_all(total: np.ndarray, left: int, right: int, out: np.ndarray, adds: bool) -> None:
    """out = or += (total << left) >> right, in int32. total, out: [n] int32, which may be one array."""
    for o in range(total.shape[0]):
        value = int32(int32(total[o] << int32(left)) >> int32(right))
        out[o] = int32(out[o] + value) if adds else value


@compiled
def dense_events(events: np.ndarray, weight: np.ndarray, left: int, right: int, out: np.ndarray, adds: bool) -> None:
    """events: [rows, in] integers; weight: [in, out]; out: [rows, out] int32."""
    size = events.shape[1]
    active, values = np.empty(size + 1, np.int32), np.empty(size + 1, np.int32)
    total = np.zeros(weight.shape[1], np.int32)
    for row in range(events.shape[0]):
        seen = events[row]
        count = 0
        for i in range(size):
            active[count] = i
            values[count] = seen[i]
            count += seen[i] != 0
        add_scaled_rows(weight, active, values, count, total)
        deliver(total, left, right, out[row], adds)


@compiled
def sparse_events(
    events: np.ndarray,
    starts: np.ndarray,
    to: np.ndarray,
    weight: np.ndarray,
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """Connections of input i: starts[i] .. starts[i + 1] - 1. to, weight: [connections]; else as `dense_events`."""
    total = np.zeros(out.shape[1], np.int32)
    for row in range(events.shape[0]):
        for i in range(events.shape[1]):
            value = int32(events[row, i])
            if value != 0:
                for k in range(starts[i], starts[i + 1]):
                    total[to[k]] += int32(weight[k] * value)
        deliver(total, left, right, out[row], adds)


@compiled
def conv_events(
    events: np.ndarray,
    weight: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    left: int,
    right: int,
    out: np.ndarray,
    adds: bool,
) -> None:
    """Each output place adds up the rows of the active inputs that its window holds.

    events: [rows, H, W, C]; weight: [groups, kernel height * kernel width * C / groups, out / groups];
    out: [rows, H', W', out] int32.
    """
    _, height, width, channels = events.shape
    groups, window, per_out = weight.shape
    per_in = channels // groups
    places = height * width * groups
    runs = groups == 1 and dilation[1] == 1  # neighbours in a window's line are neighbours in the list too
    starts = np.empty(places + 1, np.int32)  # where each place and group begins in the list of active inputs
    found, found_values = np.empty(places * per_in + 1, np.int32), np.empty(places * per_in + 1, np.int32)
    active, values = np.empty(window + 1, np.int32), np.empty(window + 1, np.int32)
    total = np.zeros(per_out, np.int32)
    for row in range(events.shape[0]):
        flat = events[row].reshape(places * per_in)
        n = 0
        for place in range(places):
            starts[place] = n
            for i in range(place * per_in, (place + 1) * per_in):
                found[n] = i
                found_values[n] = flat[i]
                n += flat[i] != 0
        starts[places] = n
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                for group in range(groups):
                    count = 0
                    for j in range(kernel[0]):
                        from_y = y * stride[0] + j * dilation[0] - padding[0]
                        if from_y < 0 or from_y >= height:
                            continue
                        i = 0
                        while i < kernel[1]:
                            from_x = x * stride[1] + i * dilation[1] - padding[1]
                            together = min(kernel[1] - i, width - from_x) if runs else 1
                            if from_x >= 0 and from_x < width:
                                place = (from_y * width + from_x) * groups + group
                                first, last = starts[place], starts[place + together]
                                move = (j * kernel[1] + i - place) * per_in  # from the input's index to the weight's
                                for k in range(last - first):
                                    active[count + k] = found[first + k] + move
                                    values[count + k] = found_values[first + k]
                                count += last - first
                                i += together
                            else:
                                i += 1
                    add_scaled_rows(weight[group], active, values, count, total)
                    deliver(total, left, right, out[row, y, x, group * per_out : (group + 1) * per_out], adds)
