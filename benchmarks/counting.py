"""What counting adds to the fast engine's time, on the two networks of the simulation benchmark.

    uv run benchmarks/counting.py [--repeats 15] [--threads 1]

Runs with and without counts take turns in one process; CPU time, medians, and the median of the ratios of neighbours.
`after` is `count` on the trace of the same run. The counts are compared with it before anything is timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from simulation_networks import STEPS, events, inputs_of, make_program

from lavatube.sim.counts import count
from lavatube.sim.fast import FastEngine

BATCHES = {"mlp": (1, 32, 256), "conv": (1, 8)}


def seconds(work: Callable[..., object], *given: object, calls: int = 1) -> float:
    started = time.process_time()
    for _ in range(calls):
        work(*given)
    return time.process_time() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| network | batch | us per sample and step | with counts | added | counting the trace after |")
    print("|---|---|---|---|---|---|")
    for network, batches in BATCHES.items():
        program = make_program(network)
        engine = FastEngine(program, threads=args.threads)
        for batch in batches:
            inputs = inputs_of(program, events(network, batch))
            trace, counts = engine.run_counted(inputs)
            assert counts == count(program, trace)
            engine.run(inputs)
            calls = max(1, 256 // batch) if network == "mlp" else 1
            plain, counted = [], []
            for _ in range(args.repeats):
                plain.append(seconds(engine.run, inputs, calls=calls))
                counted.append(seconds(engine.run_counted, inputs, calls=calls))
            after = median(seconds(count, program, trace) for _ in range(5))
            unit = calls * batch * STEPS / 1e6
            added = median(one / other for one, other in zip(counted, plain, strict=True)) - 1
            row = f"{median(plain) / unit:.3g} | {median(counted) / unit:.3g} | {added:+.1%}"
            print(f"| {network} | {batch} | {row} | {after / (median(plain) / calls):+.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
