"""What each method does to a small network, carried through to its program: accuracy, spikes, synops, bits, cost.

    uv run benchmarks/methods.py --data-dir DATA --out runs/methods

Two convolutions (16 and 32 channels) and a dense layer (method_arms.py; what is pruned or taught to be deep has a
network of its own beside it), T = 4, equal epochs and optimizer, no augmentation. Each point is trained in a process of
its own, quantized to 8 bits, lowered, compared spike for spike (reference, fast, torch; stock Lava on fewer) on the
first test samples, counted and priced; the accuracies are of all test samples. Nothing is left out because it is bad.

Points are rows of --results, by default those that the documentation shows: what has a row is not measured again, so
the same command goes on where an interrupted one stopped. --table prints the table of them and draws the scatter;
--cost times some steps of each method, one after another in one run, and takes their peak memory.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from method_arms import ARMS, recipe
from method_table import COST_FIELDS, FIELDS, append, plot, read, table

from lavatube.cli.memory import keep_freed_memory

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "methods.csv"
COST_STEPS = 12


def folder(args: argparse.Namespace, data: str, arm: str, seed: int) -> Path:
    name = re.sub(r"\W+", "-", arm)
    return Path(args.out) / f"{data}_{name}_{seed}"


def recipe_of(args: argparse.Namespace, data: str, arm: str, seed: int) -> Any:
    import torch

    from lavatube.train.recipe import parse_recipe

    if args.threads:
        torch.set_num_threads(args.threads)
    teacher = str(folder(args, data, "teacher", seed))
    return parse_recipe(recipe(arm, data, seed, epochs=args.epochs, lr=args.lr, teacher=teacher), where=arm)


def train_point(args: argparse.Namespace, data: str, arm: str, seed: int) -> None:
    from lavatube.train.run import train

    train(recipe_of(args, data, arm, seed), out=folder(args, data, arm, seed), data_dir=args.data_dir)


def measure_point(args: argparse.Namespace, data: str, arm: str, seed: int) -> dict[str, Any]:
    """Quantize, lower, compare, count, price what is trained. A network that does not deploy says why.

    raises: LavatubeError for anything else that goes wrong (no data, no space, ...): that is no result of the method.
    """
    import lavatube
    from lavatube.errors import UnsupportedError
    from lavatube.trained import load_trained

    where = folder(args, data, arm, seed)
    point: dict[str, Any] = {"data": data, "method": arm, "seed": seed}
    point["float_accuracy"] = load_trained(where).metrics["test_accuracy"]
    try:
        quantized = lavatube.quantize(where, epochs=args.tune, data_dir=args.data_dir, overwrite=True)
        lavatube.export(where)
        program = lavatube.lower(where / "model.nir", out=where / "program.safetensors")
    except UnsupportedError as error:
        return {**point, "refused": str(error)}
    report = lavatube.parity(where, against=["fast", "torch"], samples=args.samples, data_dir=args.data_dir)
    lava = lavatube.parity(where, against=["lava"], samples=args.lava_samples, data_dir=args.data_dir)
    test = lavatube.load_data(data, data_dir=args.data_dir).test
    trace = lavatube.run(program, test.samples[: args.samples], backend="fast")
    counts = lavatube.count(program, trace)
    total, samples, energy = counts.total, counts.samples, lavatube.energy(counts)
    low, high = (None if end is None else end / samples / 1e9 for end in (energy.low, energy.high))
    bits = quantized.metrics["bits_per_weight"]
    sizes = {node.name: node.weight.size for node in program.synapses}
    return {
        **point,
        "program_accuracy": quantized.metrics["test_accuracy"],
        "equal": report.equal and lava.equal,
        "spikes": total.spikes_out / samples,
        "synops": total.synops_nonzero / samples,
        "bits_per_weight": sum(bits[name] * size for name, size in sizes.items()) / sum(sizes.values()),
        "energy_low": low,
        "energy_high": high,
    }


def measure_cost(args: argparse.Namespace, data: str, arm: str) -> None:
    """In a process of its own: the median of some steps, after those in which memory is first asked for."""
    from lavatube.train.loop import Trainee, train_epoch
    from lavatube.train.optimization import make_optimizer
    from lavatube.train.processes import make_processes
    from lavatube.train.samples import prepare

    class EnoughError(Exception):
        pass

    chosen = recipe_of(args, data, arm, 0)
    samples = prepare(chosen, args.data_dir)
    trainee = Trainee(chosen, samples, None)
    at = [time.perf_counter()]

    def advance(_: int) -> None:
        at.append(time.perf_counter())
        if len(at) > COST_STEPS:
            raise EnoughError

    try:
        train_epoch(
            trainee, chosen, samples, make_optimizer(trainee, chosen.optimizer), 0,
            make_processes("cpu", chosen.precision), advance,
        )  # fmt: skip
    except EnoughError:
        steps = [later - earlier for earlier, later in pairwise(at[3:])]
        took = {"milliseconds_per_step": f"{1000 * statistics.median(steps):.0f}", "peak_mb": f"{peak_megabytes():.0f}"}
        append(cost_file(args), COST_FIELDS, {"method": arm, **took})


def peak_megabytes() -> float:
    """Most memory of this process. Not ru_maxrss, which on Linux remembers the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def cost_file(args: argparse.Namespace) -> Path:
    return Path(args.results.with_name(f"{args.results.stem}_cost.csv"))


def in_its_own_process(what: str, data: str, arm: str, seed: int) -> None:
    subprocess.run([sys.executable, *sys.argv, "--do", what, data, arm, str(seed)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mnist-10k", "fashion-mnist-10k"])
    parser.add_argument("--data-dir", type=Path, default=None, help="default: LAVATUBE_DATA")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--tune", type=int, default=1, help="epochs of fine-tuning with the integer timestep")
    parser.add_argument("--samples", type=int, default=1000, help="test samples that are compared and counted")
    parser.add_argument("--lava-samples", type=int, default=20, help="of these, compared with stock Lava too")
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"), help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS, help="CSV of the points")
    parser.add_argument("--table", action="store_true", help="print the table, draw the scatter beside --results, end")
    parser.add_argument("--cost", action="store_true", help="time and memory of some steps of each method, and end")
    parser.add_argument("--do", nargs=4, metavar=("WHAT", "DATA", "ARM", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    keep_freed_memory()  # as `lavatube train` does
    if args.do:
        what, data, arm, seed = args.do
        return train_point(args, data, arm, int(seed)) if what == "train" else measure_cost(args, data, arm)
    # the teacher first, of whom others learn
    arms = sorted(args.arms, key=lambda arm: arm != "teacher")
    if args.cost:
        require_trained(args, args.data[-1], "teacher", 0)
        cost_file(args).unlink(missing_ok=True)
        for arm in arms:
            in_its_own_process("cost", args.data[-1], arm, 0)
        return None
    for seed in [] if args.table else range(args.seeds):
        for data in args.data:
            for arm in arms:
                if (data, arm, str(seed)) in {(row["data"], row["method"], row["seed"]) for row in read(args.results)}:
                    continue
                if ARMS[arm].get("teacher"):
                    require_trained(args, data, "teacher", seed)
                require_trained(args, data, arm, seed)
                point = measure_point(args, data, arm, seed)
                append(args.results, FIELDS, point)
                print(f"{data}, {arm}, seed {seed}: {point}", file=sys.stderr, flush=True)
    points = read(args.results)
    print(table(points, read(cost_file(args))), end="")
    try:
        plot(points, args.results.with_suffix(".svg"))
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
    return None


def require_trained(args: argparse.Namespace, data: str, arm: str, seed: int) -> None:
    if not (folder(args, data, arm, seed) / "config.json").is_file():
        in_its_own_process("train", data, arm, seed)


if __name__ == "__main__":
    main()
