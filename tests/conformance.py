"""Random programs over every node, width and extreme: reference, fast and Lava equal in spikes, u, v and read-out.

    uv run tests/conformance.py --programs 2000 --out runs/conformance.csv

One row for each seed: equal, refused (a cycle that Lava's ticks do not allow; fast is compared all the same) or the
first mismatch. The same command goes on where an interrupted one stopped. Exit code 1 if anything differed.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from random_programs import random_case

from lavatube.deploy.lava_backend.timing import timing
from lavatube.errors import UnsupportedError
from lavatube.sim.compare import compare
from lavatube.sim.fast import run_fast
from lavatube.sim.lava_run import LavaJob, run_lava_jobs
from lavatube.sim.reference import run_reference

BOTH = frozenset("uv")
COLUMNS = ("seed", "outcome", "timesteps", "populations", "spikes", "detail")
TOGETHER = 50  # programs between two entries in the log


def rows(seeds: range, workers: int | None) -> Iterator[dict[str, object]]:
    """Compare the engines on some programs."""
    cases = {seed: random_case(seed) for seed in seeds}
    refused = {seed: reason for seed, (program, _) in cases.items() if (reason := why_not_in_lava(program))}
    jobs = {seed: LavaJob(*case, BOTH) for seed, case in cases.items() if seed not in refused}
    in_lava = dict(zip(jobs, run_lava_jobs(list(jobs.values()), workers=workers), strict=True))
    for seed, (program, inputs) in cases.items():
        reference = run_reference(program, inputs, record=BOTH)
        traces = {"fast": run_fast(program, inputs, record=BOTH)} | ({"lava": in_lava[seed]} if seed in jobs else {})
        found = {name: compare(reference, trace, names=("reference", name)) for name, trace in traces.items()}
        first = next((f"{name}: {each.first}" for name, each in found.items() if not each.equal), "")
        yield {
            "seed": seed,
            "outcome": "different" if first else "refused" if seed in refused else "equal",
            "timesteps": inputs.num_steps,
            "populations": len(program.neurons),
            "spikes": sum(int((events != 0).sum()) for events in reference.spikes.values()),
            "detail": first or refused.get(seed, ""),
        }


def why_not_in_lava(program) -> str:  # type: ignore[no-untyped-def]
    try:
        timing(program)
    except UnsupportedError as error:
        return str(error).split(",")[0]
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("runs/conformance.csv"))
    parser.add_argument("--workers", type=int, help="Lava workers side by side; default: one a core")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, str]] = []
    if args.out.is_file():
        with args.out.open(newline="") as handle:
            done = list(csv.DictReader(handle))
    outcomes = Counter(row["outcome"] for row in done)
    seen = {int(row["seed"]) for row in done}
    parts = [range(start, min(start + TOGETHER, args.programs)) for start in range(0, args.programs, TOGETHER)]
    left = [part for part in parts if not seen.issuperset(part)]
    with args.out.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        if not done:
            writer.writeheader()
        for part in left:
            fresh = [row for row in rows(part, args.workers) if row["seed"] not in seen]
            writer.writerows(fresh)
            handle.flush()
            outcomes.update(str(row["outcome"]) for row in fresh)
            print(f"{sum(outcomes.values())} of {args.programs}: {dict(outcomes)}", file=sys.stderr, flush=True)
    print(", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())))
    return 1 if outcomes["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
