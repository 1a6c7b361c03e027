"""What the counts need of events, compiled: how often each was there, and which neurons they reached."""

from __future__ import annotations

import numpy as np
from numpy import int32

from lavatube.sim.fast_kernels.compiled import compiled


@compiled
def add_active(seen: np.ndarray, stop: np.ndarray, active: np.ndarray) -> None:
    """active[b, n] += timesteps before stop[b] with an event. seen: [T, B, N]; active: [B, N] uint8, which must fit."""
    for b in range(active.shape[0]):
        row = active[b]
        for t in range(stop[b]):
            events = seen[t, b]
            for n in range(row.shape[0]):
                row[n] += np.uint8(events[n] != 0)


@compiled
def add_bits(seen: np.ndarray, stop: np.ndarray, most: int, bits: np.ndarray) -> None:
    """bits[b, n] += bit lengths of the magnitudes, of at most `most` bits each; else as `add_active`."""
    for b in range(bits.shape[0]):
        row = bits[b]
        for t in range(stop[b]):
            events = seen[t, b]
            for k in range(most):
                least = 1 << k
                for n in range(row.shape[0]):
                    row[n] += np.uint8((events[n] >= least) | (events[n] <= -least))


@compiled
def add_products(held: np.ndarray, weights: np.ndarray, together: int, sums: np.ndarray) -> None:
    """sums[b, k] += held[b] . weights[k]; then held is zero. held: [B, N] uint8; weights: [K, N] int32.

    together: products that certainly add up to less than 2^31; sums: [B, K] int64.
    """
    size = held.shape[1]
    for b in range(held.shape[0]):
        for k in range(weights.shape[0]):
            for start in range(0, size, together):
                stop = min(start + together, size)
                values, factors = held[b, start:stop], weights[k, start:stop]
                some = int32(0)
                for n in range(values.shape[0]):
                    some = int32(some + int32(int32(values[n]) * factors[n]))
                sums[b, k] += some
        held[b, :] = 0


@compiled
def mark_rows(seen: np.ndarray, hit: np.ndarray) -> None:
    """hit[t, b] = 1 where there is any event. seen: [T, B, N]; hit: [T, B] uint8."""
    for t in range(seen.shape[0]):
        for b in range(seen.shape[1]):
            n = 0
            while n < seen.shape[2] and seen[t, b, n] == 0:
                n += 1
            if n < seen.shape[2]:
                hit[t, b] = 1


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
def there_is(image: np.ndarray, there: np.ndarray) -> None:
    """there[y, x] = whether any of image[y, x] is not 0. image: [H, W, words] integers; there: [H, W] uint8."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            some = image[y, x, 0]
            for n in range(1, image.shape[2]):
                some |= image[y, x, n]
            there[y, x] = some != 0


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

    A window is the union of its columns, each the union of its rows.
    seen: [T, B, H, W * groups, words] of any integers. sums[b] += quiet at the places, before stop[b];
    quiet: [H', W' * groups] int32. places: [T, B, H', W' * groups] uint8 zeros, or of no timesteps if not wanted.
    """
    height, width = seen.shape[2], seen.shape[3] // groups
    out_height, out_width = quiet.shape[0], quiet.shape[1] // groups
    there = np.empty((height, width * groups), np.uint8)
    columns = np.empty((out_height, width * groups), np.uint8)
    row = np.empty(out_width * groups, np.uint8)
    for b in range(seen.shape[1]):
        for t in range(stop[b]):
            there_is(seen[t, b], there)
            number = int32(0)
            for y in range(out_height):
                united = columns[y]
                united[:] = 0
                for j in range(kernel[0]):
                    from_y = y * stride[0] + j * dilation[0] - padding[0]
                    if from_y >= 0 and from_y < height:
                        line = there[from_y]
                        for x in range(line.shape[0]):
                            united[x] |= line[x]
                row[:] = 0
                for i in range(kernel[1]):
                    shift = i * dilation[1] - padding[1]
                    first = max(0, (stride[1] - 1 - shift) // stride[1])  # where the window begins inside
                    last = min(out_width, (width - 1 - shift) // stride[1] + 1) if shift < width else 0
                    if groups == 1 and stride[1] == 1:
                        for x in range(first, last):
                            row[x] |= united[x + shift]
                    else:
                        for x in range(first, last):
                            for group in range(groups):
                                row[x * groups + group] |= united[(x * stride[1] + shift) * groups + group]
                for x in range(row.shape[0]):
                    number = int32(number + int32(int32(row[x]) * quiet[y, x]))
                if places.shape[0] > 0:
                    places[t, b, y] = row
            sums[b] += number
