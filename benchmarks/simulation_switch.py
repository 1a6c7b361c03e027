"""From which share of active inputs on are products of bytes faster than the event-driven kernel? (choice.py)

    uv run benchmarks/simulation_switch.py [--over int8] [--largest 255]

CPU time of one thread, best of several, for dense and convolutional synapses of several widths; prints the crossing.
--over: the kernel to compare with; --largest: of the events, so that those above 1 are graded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from lavatube.program import Conv2dNode, DenseNode, Synapse
from lavatube.sim.fast_kernels.synapse import ReadySynapse

DENSITIES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def synapses(width: int) -> list[Synapse]:
    rng = np.random.default_rng(width)
    shapes = (width, 1024), (width, 128, 3, 3), (width, 3, 3, 3)
    weight = [(rng.integers(-128, 128, shape) * 2).astype(np.int16) for shape in shapes]
    return [
        DenseNode("dense", (1024,), weight[0], 8, -1),
        Conv2dNode("conv", (128, 16, 16), weight[1], 8, -1, (1, 1), (1, 1)),
        Conv2dNode("narrow_conv", (3, 32, 32), weight[2], 8, -1, (1, 1), (1, 1)),
    ]


def best(work: Callable[[], None], repeats: int = 25) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        times.append(time.thread_time() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--over", choices=["dot", "int8", "float"], default="dot")
    parser.add_argument("--largest", type=int, default=1)
    args = parser.parse_args()
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
                value = (rng.random((rows, inputs)) < density) * rng.integers(1, args.largest + 1, (rows, inputs))
                events = torch.from_numpy(value.astype(np.uint8))
                both = (
                    ReadySynapse(node, node.in_shape, node.out_shape, (0, args.largest), "cpu", kernel)
                    for kernel in ("event", args.over)
                )
                pair = [best(partial(made.add, events, out, False)) for made in both]
                ratios.append(pair[0] / pair[1])
            crossing = next((f"{d:.0%}" for d, ratio in zip(DENSITIES, ratios, strict=True) if ratio > 1), "never")
            print(f"| {node.name} | {width} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + f" | {crossing} |")


if __name__ == "__main__":
    main()
