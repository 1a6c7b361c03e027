"""What the counts need of events, compiled: how often each was there, and which neurons they reached."""

from __future__ import annotations

import numpy as np
from numpy import int32

from lavatube.sim.fast_kernels.compiled import compiled


@compiled
def any_of(words: np.ndarray) -> bool:
    """Whether any of some integers is not 0."""
    n = 0
    while n < words.shape[0] and words[n] == 0:
        n += 1
    return n < words.shape[0]


@compiled
def add_active(
    seen: np.ndarray,
    words: np.ndarray,
    first: int,
    stop: np.ndarray,
    active: np.ndarray,
    there: np.ndarray,
    hits: np.ndarray,
) -> None:
    """active[b, n] += timesteps from `first` on, stop[b] of them, with an event; there[t, b] = 1 if any, else 0.

    seen: [T, B, N]; words: the same memory as any integers; active: [B, N] uint8, which must fit; there: [T, B] uint8.
    hits[b] += timesteps with any event, int64.
    """
    for b in range(active.shape[0]):
        row, t, last = active[b], first, first + stop[b]
        for k in range(first, last):
            there[k, b] = any_of(words[k, b])
            hits[b] += there[k, b]
        while t + 4 <= last:  # four together: the sums are fetched and put back once
            one, two, three, four = seen[t, b], seen[t + 1, b], seen[t + 2, b], seen[t + 3, b]
            for n in range(row.shape[0]):
                some = np.uint8(np.uint8(one[n] != 0) + np.uint8(two[n] != 0))
                row[n] += np.uint8(some + np.uint8(np.uint8(three[n] != 0) + np.uint8(four[n] != 0)))
            t += 4
        while t < last:
            events = seen[t, b]
            for n in range(row.shape[0]):
                row[n] += np.uint8(events[n] != 0)
            t += 1


@compiled
def add_bits(seen: np.ndarray, first: int, stop: np.ndarray, most: int, bits: np.ndarray) -> None:
    """bits[b, n] += bit lengths of the magnitudes, of at most `most` bits each; else as `add_active`."""
    for b in range(bits.shape[0]):
        row = bits[b]
        for t in range(first, first + stop[b]):
            events = seen[t, b]
            for k in range(most):
                least = 1 << k
                for n in range(row.shape[0]):
                    row[n] += np.uint8((events[n] >= least) | (events[n] <= -least))


@compiled
def add_products(held: np.ndarray, parts: np.ndarray, weights: np.ndarray, sums: np.ndarray) -> None:
    """sums[b, first + k] += held[b] . weights[k] of each part; then held is zero.

    held: uint8, weights: int32 or uint16, of all parts one after the other: [B, N] and [K, N]. sums: [B, all] int64.
    parts: [parts, 6] int64: where its bytes begin, N, where its weights begin, K, first, and how many products
    certainly add up to less than 2^31.
    """
    for p in range(parts.shape[0]):
        begin, size, weights_begin, columns, first, together = parts[p]
        for b in range(sums.shape[0]):
            row = held[begin + b * size : begin + (b + 1) * size]
            for k in range(columns):
                weight = weights[weights_begin + k * size : weights_begin + (k + 1) * size]
                for start in range(0, size, together):
                    stop = min(start + together, size)
                    values, factors = row[start:stop], weight[start:stop]
                    some = int32(0)
                    for n in range(values.shape[0]):
                        some = int32(some + int32(int32(values[n]) * int32(factors[n])))
                    sums[b, first + k] += some
            row[:] = 0


@compiled
def add_rows_hit(hit: np.ndarray, stop: np.ndarray, size: int, number: int, sums: np.ndarray) -> None:
    """sums[b] += size where hit, else number, before stop[b]. hit: [T, B] uint8."""
    for b in range(hit.shape[1]):
        for t in range(stop[b]):
            sums[b] += size if hit[t, b] else number


@compiled
def mark_stored(seen: np.ndarray, starts: np.ndarray, to: np.ndarray, mask: np.ndarray) -> None:
    """mask[t, b, o] = 1 where a stored connection has an event. starts, to: as `sparse_events`; mask: uint8."""
    for t in range(seen.shape[0]):
        for b in range(seen.shape[1]):
            for n in range(seen.shape[2]):
                if seen[t, b, n] != 0:
                    for k in range(starts[n], starts[n + 1]):
                        mask[t, b, to[k]] = 1


@compiled
def there_is(image: np.ndarray, groups: int, up: int, side: int, there: np.ndarray) -> None:
    """there[y + up, x + side] = whether any of image[y, x] is not 0. image: [H, W * groups, words] integers.

    there: [H + 2 up, (W + 2 side) * groups] uint8.
    """
    for y in range(image.shape[0]):
        row = there[y + up]
        for x in range(image.shape[1]):
            some = image[y, x, 0]
            if some == 0:
                for n in range(1, image.shape[2]):
                    some |= image[y, x, n]
            row[x + side * groups] = some != 0


@compiled
def unite(values: np.ndarray, number: int, far: int, out: np.ndarray) -> None:
    """out[i] = values[i] | values[i + far] | ..., `number` of them, wherever all are there. Both [size] uint8."""
    size = values.shape[0] - (number - 1) * far
    out[:size] = values[:size]
    for k in range(1, number):
        shifted = values[k * far : k * far + size]
        for i in range(size):
            out[i] = np.uint8(out[i] | shifted[i])


@compiled
def mark_places(
    seen: np.ndarray,
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    stop: np.ndarray,
    quiet: np.ndarray,
    sums: np.ndarray,
    places: np.ndarray,
) -> None:
    """Which places of a convolution's output see an event; all channels of a group do together.

    A window is the union of its columns, each the union of its rows: of all windows at once, as if the stride was 1.
    seen: [T, B, H, W * groups, words] of any integers. sums[b] += quiet at the places, before stop[b];
    quiet: [H + 2 padding, (W + 2 padding) * groups] int32, at the upper left corner of each window, elsewhere 0.
    places: [T, B, H', W' * groups] uint8 zeros, or of no timesteps if not wanted.
    """
    there = np.zeros(quiet.shape, np.uint8)
    columns, windows = np.zeros((2, quiet.size), np.uint8)
    weights = quiet.reshape(-1)
    for b in range(seen.shape[1]):
        for t in range(stop[b]):
            there_is(seen[t, b], groups, padding[0], padding[1], there)
            unite(there.reshape(-1), kernel[0], dilation[0] * quiet.shape[1], columns)
            unite(columns, kernel[1], dilation[1] * groups, windows)
            number = int32(0)
            for i in range(weights.shape[0]):
                number = int32(number + int32(int32(windows[i]) * weights[i]))
            sums[b] += number
            if places.shape[0] > 0:
                for y in range(places.shape[2]):
                    begin = y * stride[0] * quiet.shape[1]
                    for x in range(places.shape[3]):
                        place = x // groups * stride[1] * groups + x % groups
                        places[t, b, y, x] = windows[begin + place]
