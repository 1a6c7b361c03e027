"""Random programs over every node, width and extreme: reference, fast and Lava equal in spikes, u, v and read-out.

    uv run tests/conformance.py --programs 2000 --out runs/conformance.csv

One row for each seed: equal, or the first mismatch. --out: that log, or a folder for it. The same command goes on where
an interrupted one stopped. Exit code 1 if anything differed.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from random_programs import random_case

from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.reference import run_reference

BOTH = frozenset("uv")
COLUMNS = ("seed", "outcome", "timesteps", "populations", "spikes", "detail")
TOGETHER = 50  # programs between two entries in the log


def rows(seeds: list[int], workers: int | None) -> Iterator[dict[str, object]]:
    """Compare the engines on some programs."""
    cases = {seed: random_case(seed) for seed in seeds}
    jobs = {seed: LavaJob(*case, BOTH) for seed, case in cases.items()}
    in_lava = dict(zip(jobs, run_lava_jobs(list(jobs.values()), workers=workers), strict=True))
    for seed, (program, inputs) in cases.items():
        reference = run_reference(program, inputs, record=BOTH)
        traces = {"fast": run_fast(program, inputs, record=BOTH), "lava": in_lava[seed]}
        found = {name: compare(reference, trace, names=("reference", name)) for name, trace in traces.items()}
        first = next((f"{name}: {each.first}" for name, each in found.items() if not each.equal), "")
        yield {
            "seed": seed,
            "outcome": "different" if first else "equal",
            "timesteps": inputs.num_steps,
            "populations": len(program.neurons),
            "spikes": sum(int((events != 0).sum()) for events in reference.spikes.values()),
            "detail": first,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/conformance.csv"))
    parser.add_argument("--workers", type=int, help="Lava workers side by side; default: one a core")
    args = parser.parse_args()
    if args.out.is_dir():
        args.out /= "conformance.csv"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, str]] = []
    if args.out.is_file():
        with args.out.open(newline="") as handle:
            done = list(csv.DictReader(handle))
    outcomes = Counter(row["outcome"] for row in done)
    seen = {int(row["seed"]) for row in done}
    left = [seed for seed in range(args.programs) if seed not in seen]
    with args.out.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        if not done:
            writer.writeheader()
        for start in range(0, len(left), TOGETHER):
            fresh = list(rows(left[start : start + TOGETHER], args.workers))
            writer.writerows(fresh)
            handle.flush()
            outcomes.update(str(row["outcome"]) for row in fresh)
            print(f"{sum(outcomes.values())} of {args.programs}: {dict(outcomes)}", file=sys.stderr, flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())))
    return 1 if outcomes["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
