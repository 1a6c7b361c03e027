"""What this machine would allow: for each synapse the faster of its int8 product and of adding up its active rows.

The product is torch's `_int_mm` at the layer's shape, on all threads, without gathering its input or anything after it.
The rows are the event kernel's inner loop alone on weights in the cache, one thread's rate times the threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from lavatube.program import Conv2dNode, LoihiProgram

ROWS = 4096  # of a product, at least


def machine_bound(program: LoihiProgram, activity: Sequence[float], threads: int) -> float:
    """Microseconds per sample and timestep for all synapses. activity: share of active inputs of each."""
    total = 0.0
    for node, active in zip(program.synapses, activity, strict=True):
        places = int(np.prod(node.out_shape[1:])) if isinstance(node, Conv2dNode) else 1
        width, inputs = node.out_shape[0], node.weight[0].size
        samples = -(-ROWS // places)
        left = torch.randint(0, 2, (samples * places, inputs), dtype=torch.int8)
        right = torch.randint(-128, 128, (inputs, width), dtype=torch.int8)
        product = fastest(lambda left=left, right=right: torch._int_mm(left, right)) / samples  # type: ignore[misc]
        rows = rows_seconds(right.numpy(), max(1, round(inputs * active))) * places / threads
        total += min(product, rows)
        macs = places * width * inputs
        print(
            f"{node.name}: int8 {macs / product / 1e9:.0f} GMAC/s, {product * 1e6:.2f} us; "
            f"rows {macs * active / rows / 1e9:.0f} GSynOp/s, {rows * 1e6:.2f} us",
            file=sys.stderr,
        )
    return total * 1e6


def rows_seconds(weight: np.ndarray, count: int) -> float:
    """Seconds to add up `count` rows; infinite without numba."""
    try:
        from lavatube.sim.fast_kernels.row_sums import LANES, add_rows, packed
    except ImportError:
        return float("inf")
    rows = np.sort(np.random.default_rng(0).permutation(len(weight))[:count]).astype(np.int32)
    rows = np.tile(rows, 1 + 20_000 // count)  # so that the call itself does not count
    held, out, width = packed(weight), np.zeros(4 * LANES, np.int32), weight.shape[1]

    def add() -> None:
        begin = 0
        while begin < width:
            vectors = next(n for n in (4, 2, 1) if n * LANES <= width - begin or n == 1)
            there = rows.ctypes.data, len(rows), held[0], held.ctypes.data + begin * len(weight)
            add_rows(*there, vectors, 255, out.ctypes.data, vectors * LANES, 0, True, 0, 0)
            begin += vectors * LANES

    return fastest(add) / (len(rows) / count)


def fastest(work: Callable[[], object], repeats: int = 15) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
