"""What the counts need of events, compiled: how often each was there, and which neurons they reached."""

from __future__ import annotations

import numpy as np

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
                some = np.int32(0)
                for n in range(start, min(start + together, size)):
                    some = np.int32(some + np.int32(held[b, n]) * weights[k, n])
                sums[b, k] += some
        held[b, :] = 0


@compiled
def mark_rows(seen: np.ndarray, hit: np.ndarray) -> None:
    """hit[t, b] = 1 where there is any event. seen: [T, B, N]; hit: [T, B] uint8."""
    for t in range(seen.shape[0]):
        for b in range(seen.shape[1]):
            events = seen[t, b]
            for n in range(events.shape[0]):
                if hit[t, b] != 0:
                    break
                hit[t, b] = np.uint8(events[n] != 0)


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
def mark_places(
    seen: np.ndarray,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    stop: np.ndarray,
    places: np.ndarray,
) -> None:
    """Which places of a convolution's output see an event; all channels of a group do together.

    seen: [T, B, H, W, groups, words] of any integers; places: [T, B, H', W', groups] uint8, written before stop[b].
    """
    _, _, height, width, groups, words = seen.shape
    _, _, out_height, out_width, _ = places.shape
    there = np.empty((height, width, groups), np.uint8)
    for b in range(seen.shape[1]):
        for t in range(stop[b]):
            for y in range(height):
                for x in range(width):
                    for group in range(groups):
                        some = False
                        for n in range(words):
                            if seen[t, b, y, x, group, n] != 0:
                                some = True
                                break
                        there[y, x, group] = some
            for y in range(out_height):
                for x in range(out_width):
                    for group in range(groups):
                        some = False
                        for j in range(kernel[0]):
                            from_y = y * stride[0] + j * dilation[0] - padding[0]
                            if some or from_y < 0 or from_y >= height:
                                continue
                            for i in range(kernel[1]):
                                from_x = x * stride[1] + i * dilation[1] - padding[1]
                                if from_x >= 0 and from_x < width and there[from_y, from_x, group] != 0:
                                    some = True
                                    break
                        places[t, b, y, x, group] = some
