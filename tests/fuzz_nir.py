"""Mutated .nir files: each makes a FloatGraph that keeps its promises and simulates, or a LavatubeError says why not.

    uv run tests/fuzz_nir.py --files 10000 --seed 0 --out runs/fuzz_nir.csv

File number n of a seed is always the same: a random graph or one of tests/data/nir, half of them with damaged bytes,
half with a damaged structure. Each is read, and run for a few timesteps under every contract, with and without what it
refuses, in a child process with a limit on time and memory, so that a crash, a hang or a leak of HDF5 is a row of the
log like any other. One row a file: simulated (how many contracts took it), loaded (none did), refused, or what went
wrong; seconds of CPU, peak memory above the start. The same command goes on where an interrupted one stopped. Exit
code 1 if anything went wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nir
import numpy as np
from mutate_nir import mutate_bytes, mutate_structure
from random_nir import random_graph

from lavatube.contract_presets import PRESETS
from lavatube.convert.float_graph.cost import Limits
from lavatube.convert.float_graph.graph import FloatGraph
from lavatube.convert.float_graph.neurons import NEURON_TYPES
from lavatube.convert.float_graph.read import read_float_graph
from lavatube.convert.float_graph.simulate import simulate
from lavatube.errors import LavatubeError

DATA = Path(__file__).parent / "data" / "nir"
COLUMNS = ("file", "kind", "outcome", "seconds", "mebibytes", "detail")
SECONDS, MEBIBYTES, ADDRESS_SPACE = 10.0, 256.0, 8 << 30  # of these files, which are small
STEPS, BATCH = 5, 2
LIMITS = Limits(values=1 << 23, products=1 << 27)  # of one run: 64 MiB
FINE = ("simulated", "loaded", "refused")
EVERY_NODE = ("Affine", "Linear", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Scale", "Threshold",
              "Delay", "I", "LI", "IF", "LIF", "CubaLI", "CubaLIF")  # fmt: skip
CONTRACTS = [
    *(contract.with_overrides(delay_rounding="nearest") for contract in PRESETS.values()),
    *(c.with_overrides(delay_rounding="up", nodes=EVERY_NODE, requires=()) for c in PRESETS.values()),
]  # as they are, and without what they refuse


def mutated(seed: int, number: int, path: Path) -> str:
    """Write file `number` of a seed; what was done to it."""
    rng = np.random.default_rng((seed, number))
    known = sorted(DATA.glob("*.nir"))
    if known and rng.random() < 0.2:
        path.write_bytes(known[int(rng.integers(len(known)))].read_bytes())
    else:
        graph = random_graph(int(rng.integers(2**31)))
        nir.write(str(path), graph, compression=None if rng.random() < 0.7 else "gzip")
    if rng.random() < 0.5:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
        return "bytes"
    mutate_structure(path, rng)
    return "structure"


def judge(path: Path) -> tuple[str, str]:
    """(outcome, detail) of reading and running one file: simulated, loaded, refused, or what went wrong."""
    try:
        graph = read_float_graph(path)
    except LavatubeError as error:
        return ("refused", str(error).replace(str(path), "")) if "\n" not in str(error) else ("two lines", str(error))
    except BaseException as error:
        return "other error", f"{type(error).__name__}: {error}"
    if broken := broken_promise(graph):
        return "broken promise", broken
    return run(graph)


def run(graph: FloatGraph) -> tuple[str, str]:
    """(outcome, detail) of simulating a graph under every contract."""
    rng = np.random.default_rng(len(graph.nodes))
    sizes = sum(int(np.prod(graph.shapes[name])) for name in graph.inputs)
    if sizes * STEPS * BATCH > LIMITS.values:
        return "loaded", "its input alone is over the limit of this test"
    x = {name: rng.random((STEPS, BATCH, *graph.shapes[name])) for name in graph.inputs}
    taken, reasons = 0, []
    for contract in CONTRACTS:
        try:
            trace = simulate(graph, contract, x, record=["v"], limits=LIMITS)
        except LavatubeError as error:
            reasons.append(str(error).replace(graph.path, ""))
            continue
        except BaseException as error:
            return "other error", f"simulate, {contract.name}: {type(error).__name__}: {error}"
        taken += 1
        if not all(np.isfinite(value).all() for value in (*trace.output.values(), *trace.v.values())):
            return "broken promise", f"simulate, {contract.name}: a number that is not finite"
    if two_lines := [reason for reason in reasons if "\n" in reason]:
        return "two lines", two_lines[0]
    return ("simulated", f"{taken} contracts") if taken else ("loaded", reasons[0])


def broken_promise(graph: FloatGraph) -> str:
    """What a FloatGraph says of itself that does not hold; empty if all does."""
    place = {name: index for index, name in enumerate(graph.nodes)}
    later = {(a, b) for a, b in graph.edges if place[a] >= place[b]}
    if later != graph.feedback:
        return f"feedback {sorted(graph.feedback)} is not {sorted(later)}"
    if not all(isinstance(graph.nodes[a], NEURON_TYPES) for a, _ in graph.feedback):
        return "feedback that leaves no neuron"
    for name, node in graph.nodes.items():
        incoming = {graph.shapes[a] for a, b in graph.edges if b == name}
        taken = tuple(int(n) for n in node.input_type["input"])
        if not isinstance(node, nir.Input) and incoming != {taken}:
            return f"{name} takes {taken} and gets {incoming}"
        for field, value in vars(node).items():
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
                return f"{name}.{field} is not finite"
    return ""


def child(seed: int) -> None:
    """Read numbers from standard input, judge the files, print a row of JSON each."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    print("ready", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            path = Path(folder) / "x.nir"
            kind = mutated(seed, int(line), path)
            start, before = time.process_time(), _peak(reset=True)
            outcome, detail = judge(path)
            seconds, grown = time.process_time() - start, _peak() - before
            if outcome in FINE and (seconds > SECONDS or grown > MEBIBYTES):
                outcome, detail = "over the limit", f"{outcome} {detail}"
            row = (int(line), kind, outcome, round(seconds, 4), round(grown, 1), ascii(detail)[1:-1][:300])
            print(json.dumps(row), flush=True)


def _peak(*, reset: bool = False) -> float:
    """Peak resident memory in MiB, since the last reset where the system can do that."""
    if reset:
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            pass
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Child:
    """A process that judges files, started again after it died."""

    def __init__(self, seed: int) -> None:
        self.seed, self.process = seed, self._start(seed)

    def _start(self, seed: int) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--child", "--seed", str(seed)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout
        process.stdout.readline()  # it has imported everything
        return process

    def judge(self, number: int) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS * 3)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return dict(zip(COLUMNS, json.loads(line), strict=True))
        self.process.kill()
        self.process.communicate()
        code = self.process.returncode
        self.process = self._start(self.seed)
        return dict(zip(COLUMNS, (number, "", "crash" if ready else "hang", 0, 0, f"exit code {code}"), strict=True))

    def close(self) -> None:
        self.process.communicate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz_nir.csv"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.seed)
        return 0
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if args.out.is_file():
        with args.out.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
    done, runner = {int(row["file"]) for row in rows}, Child(args.seed)
    with args.out.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        if not rows:
            writer.writeheader()
        for number in (n for n in range(args.files) if n not in done):
            rows.append(runner.judge(number))
            writer.writerow(rows[-1])
            handle.flush()
            if len(rows) % 500 == 0:
                print(f"{len(rows)} of {args.files}: {dict(Counter(r['outcome'] for r in rows))}", file=sys.stderr)
    runner.close()
    outcomes = Counter(row["outcome"] for row in rows)
    slowest, largest = (max((float(row[key]) for row in rows), default=0.0) for key in ("seconds", "mebibytes"))
    print(", ".join(f"{count} {name}" for name, count in sorted(outcomes.items())), end="; ")
    print(f"at most {slowest:.2f} s and {largest:.0f} MiB a file")
    return 1 if set(outcomes) - set(FINE) else 0


if __name__ == "__main__":
    sys.exit(main())
