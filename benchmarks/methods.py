"""What each method does to a small network, carried through to its program: accuracy, spikes, synops, bits, cost.

    uv run benchmarks/methods.py --data-dir DATA --out runs/methods

Two convolutions (16 and 32 channels) and a dense layer (method_arms.py; what is pruned or taught to be deep has a
network of its own beside it), T = 4, equal epochs and optimizer, no augmentation. Each point is trained in a process of
its own, quantized to 8 bits, lowered, compared spike for spike (reference, fast, torch; stock Lava on fewer) on the
first test samples, counted and priced. Accuracies are of all test samples: of the float network, and of the quantized
one, whose program it is. Nothing is left out because it is bad.

Points are rows of --results: what has a row is not measured again, so the same command goes on where an interrupted one
stopped; the points of the documentation are docs/results/methods.csv. --table prints the tables of them and draws the
scatter. --cost times some steps of each method, one after another in one run, and takes their peak memory; the median
of so few leaves out what happens every twenty steps (networks that rewire or lose channels).
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

import torch
from method_arms import ARMS, recipe
from method_table import COST_FIELDS, FIELDS, cost_of, cost_table, missing, plot, put, read, table

from lavatube.cli.memory import keep_freed_memory

COST_STEPS = 12


def folder(args: argparse.Namespace, data: str, arm: str, seed: int) -> Path:
    name = re.sub(r"\W+", "-", arm)
    return Path(args.out) / f"{data}_{name}_{seed}"


def recipe_of(args: argparse.Namespace, data: str, arm: str, seed: int) -> Any:
    from lavatube.train.recipe import parse_recipe

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
    point: dict[str, Any] = {"data": data, "method": arm, "seed": seed, "settings": settings(args)}
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
        raise SystemExit(f"{data}: fewer than {COST_STEPS} steps an epoch")
    except EnoughError:
        steps = [later - earlier for earlier, later in pairwise(at[3:])]
        took = f"{1000 * statistics.median(steps):.0f}", f"{process_peak():.0f}"
        put(cost_of(args.results), COST_FIELDS, dict(zip(COST_FIELDS, (data, arm, *took), strict=True)))


def process_peak() -> float:
    """Most memory of this process, in MB. Not ru_maxrss, which on Linux remembers the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


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
    parser.add_argument("--results", type=Path, default=None, help="CSV of the points; default: OUT/methods.csv")
    parser.add_argument("--table", action="store_true", help="tables and scatter of all points that there are, and end")
    parser.add_argument(
        "--cost", action="store_true", help="time and memory of some steps of each method, all anew, and end"
    )
    parser.add_argument("--do", nargs=4, metavar=("WHAT", "DATA", "ARM", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.results = args.results or args.out / "methods.csv"
    keep_freed_memory()  # as the command line does
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.do:
        what, data, arm, seed = args.do
        return train_point(args, data, arm, int(seed)) if what == "train" else measure_cost(args, data, arm)
    # the teacher first, of whom others learn
    arms = sorted(args.arms, key=lambda arm: arm != "teacher")
    if others := {row["settings"] for row in read(args.results)} - {settings(args)}:
        parser.error(f"{args.results} has points of other settings: {', '.join(others)}; these are {settings(args)}")
    if args.table and not read(args.results):
        parser.error(f"no points in {args.results}")
    if args.cost:  # of one run, or they are not to be compared
        cost_of(args.results).unlink(missing_ok=True)
    for data, arm in [(data, arm) for data in args.data for arm in arms] if args.cost else []:
        require_teacher(args, data, arm, 0)
        in_its_own_process("cost", data, arm, 0)
    for seed in [] if args.table or args.cost else range(args.seeds):
        for data in args.data:
            for arm in arms:
                if (data, arm, str(seed)) in {(row["data"], row["method"], row["seed"]) for row in read(args.results)}:
                    continue
                require_teacher(args, data, arm, seed)
                require_trained(args, data, arm, seed)
                point = measure_point(args, data, arm, seed)
                put(args.results, FIELDS, point)
                print(f"{data}, {arm}, seed {seed}: {point}", file=sys.stderr, flush=True)
    if costs := read(cost_of(args.results)):
        print(cost_table(costs))
    if points := read(args.results):
        print(table(points), missing(points), sep="\n", end="")
        try:
            plot(points, args.results.with_suffix(".svg"))
        except ImportError as error:
            print(f"no plot: {error.name} is not installed", file=sys.stderr)
    return None


def settings(args: argparse.Namespace) -> str:
    """What points must share to be shown in one table."""
    compared = f"{args.samples} samples compared, {args.lava_samples} with Lava"
    return f"{args.epochs} epochs, lr {args.lr:g}, {args.tune} of fine-tuning, {compared}"


def require_teacher(args: argparse.Namespace, data: str, arm: str, seed: int) -> None:
    if ARMS[arm].get("teacher"):
        require_trained(args, data, "teacher", seed)


def require_trained(args: argparse.Namespace, data: str, arm: str, seed: int) -> None:
    """raises: LavatubeError if the folder holds a network of another recipe, as of other --epochs."""
    where = folder(args, data, arm, seed)
    if not (where / "config.json").is_file():
        return in_its_own_process("train", data, arm, seed)
    from lavatube.errors import LavatubeError
    from lavatube.trained import load_trained

    if load_trained(where).recipe != recipe_of(args, data, arm, seed).model_dump(mode="json"):
        raise LavatubeError("trained by another recipe", where=str(where), remedy="name another --out")
    return None


if __name__ == "__main__":
    main()
