"""What counting adds to the fast engine's time, on the two networks of the simulation benchmark.

    uv run benchmarks/counting.py [--seconds 5] [--threads 1]

Calls with and without counts take turns in one process; CPU time of each, and of all calls of a kind the lower decile:
other work on the machine only adds. `after` is `count` on the trace of the same run. The counts are compared with it
before anything is timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from simulation_networks import STEPS, events, inputs_of, make_program

from lavatube.sim.counts import count
from lavatube.sim.fast import FastEngine

BATCHES = {"mlp": (1, 32, 256), "conv": (1, 8)}
LEAST_CALLS = 15


def seconds(work: Callable[..., object], *given: object) -> float:
    started = time.process_time()
    work(*given)
    return time.process_time() - started


def decile(times: list[float]) -> float:
    return float(np.quantile(times, 0.1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="Of each row, in all.")
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
            plain, counted = [], []
            while sum(plain) + sum(counted) < args.seconds or len(plain) < LEAST_CALLS:
                plain.append(seconds(engine.run, inputs))
                counted.append(seconds(engine.run_counted, inputs))
            after = decile([seconds(count, program, trace) for _ in range(5)])
            bare, both, unit = decile(plain), decile(counted), batch * STEPS / 1e6
            row = f"{bare / unit:.3g} | {both / unit:.3g} | {both / bare - 1:+.1%}"
            print(f"| {network} | {batch} | {row} | {after / bare:+.0%} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
