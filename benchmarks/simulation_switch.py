"""From which share of active inputs on is the int8 product faster than the event-driven kernel? (choice.py)

    uv run benchmarks/simulation_switch.py

CPU time of one thread, best of several, for dense and convolutional synapses of several widths; prints the crossing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from lavatube.program import Conv2dNode, DenseNode, Synapse
from lavatube.sim.fast_kernels.synapse import ReadySynapse

DENSITIES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.13, 0.16, 0.2, 0.25)


def synapses(width: int) -> list[Synapse]:
    rng = np.random.default_rng(width)
    weight = [(rng.integers(-128, 128, shape) * 2).astype(np.int16) for shape in ((width, 1024), (width, 128, 3, 3))]
    return [
        DenseNode("dense", (1024,), weight[0], 8, -1),
        Conv2dNode("conv", (128, 16, 16), weight[1], 8, -1, (1, 1), (1, 1)),
    ]


def best(work: Callable[[], None], repeats: int = 15) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    print("| synapse | out channels | " + " | ".join(f"{density:.0%}" for density in DENSITIES) + " | faster from |")
    print("|---|---" + "|---" * (len(DENSITIES) + 1) + "|")
    for width in (10, 32, 64, 128, 256, 512):
        for node in synapses(width):
            rows = 256 if node.name == "dense" else 4
            inputs, outputs = int(np.prod(node.in_shape)), int(np.prod(node.out_shape))
            out = torch.empty(rows, outputs, dtype=torch.int32)
            ratios = []
            for density in DENSITIES:
                events = torch.from_numpy((rng.random((rows, inputs)) < density).astype(np.uint8))
                event, int8 = (
                    ReadySynapse(node, node.in_shape, node.out_shape, (0, 1), "cpu", kernel)
                    for kernel in ("event", "int8")
                )
                pair = [best(partial(made.add, events, out, False)) for made in (event, int8)]
                ratios.append(pair[0] / pair[1])
            crossing = next((f"{d:.0%}" for d, ratio in zip(DENSITIES, ratios, strict=True) if ratio > 1), "never")
            print(f"| {node.name} | {width} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + f" | {crossing} |")


if __name__ == "__main__":
    main()
