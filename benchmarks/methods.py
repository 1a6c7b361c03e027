"""What each method does to a small network, carried through to its program: accuracy, spikes, synops, bits, cost.

    uv run benchmarks/methods.py --data-dir DATA --out runs/methods

Two convolutions (16 and 32 channels) and a dense layer (method_arms.py; what is pruned or taught to be deep has a
network of its own beside it), T = 4, equal epochs and optimizer, no augmentation. Each point is trained in a process of
its own (its CPU time, which other work on the machine hardly lengthens, and peak memory), quantized to 8 bits, lowered,
compared spike for spike (reference, fast, torch; stock Lava on fewer) on the first test samples, counted and priced.
Nothing is left out because it is bad. One folder a point; the same command goes on where an interrupted one stopped;
the table is written after every point.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from method_arms import ARMS, recipe

COLUMNS: dict[str, Callable[[dict[str, Any]], float]] = {
    "float accuracy %": lambda point: point["float_accuracy"],
    "program accuracy %": lambda point: point["program_accuracy"],
    "spikes per sample": lambda point: point["spikes"],
    "synops per sample": lambda point: point["synops"],
    "bits per weight": lambda point: point["bits_per_weight"],
    "energy per sample, low uJ": lambda point: point["energy_low"],
    "energy per sample, high uJ": lambda point: point["energy_high"],
    "CPU s per epoch": lambda point: point["seconds_per_epoch"],
    "peak MB": lambda point: point["peak_mb"],
}


def folder(args: argparse.Namespace, data: str, arm: str, seed: int) -> Path:
    name = re.sub(r"\W+", "-", arm)
    return Path(args.out) / f"{data}_{name}_{seed}"


def train_point(args: argparse.Namespace, data: str, arm: str, seed: int) -> None:
    """In a process of its own: train; write what the process took, unless another one had done a part."""
    import torch

    from lavatube.train.recipe import parse_recipe
    from lavatube.train.run import train

    if args.threads:
        torch.set_num_threads(args.threads)
    where, teacher = folder(args, data, arm, seed), str(folder(args, data, "teacher", seed))
    made = recipe(arm, data, seed, epochs=args.epochs, lr=args.lr, teacher=teacher)
    resumes = (where / "checkpoint").exists()
    train(parse_recipe(made, where=arm), out=where, data_dir=args.data_dir)
    if not resumes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = (used.ru_utime + used.ru_stime) / args.epochs
        (where / "cost.json").write_text(json.dumps({"seconds_per_epoch": seconds, "peak_mb": peak_megabytes()}))


def peak_megabytes() -> float:
    """Most memory of this process. Not ru_maxrss, which on Linux remembers the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def measure_point(args: argparse.Namespace, data: str, arm: str, seed: int) -> dict[str, Any]:
    """Quantize, lower, compare, count, price what is trained. A network that does not deploy says why.

    raises: LavatubeError for anything else that goes wrong (no data, no space, ...): that is no result of the method.
    """
    import lavatube
    from lavatube.errors import UnsupportedError

    where = folder(args, data, arm, seed)
    metrics = json.loads((where / "config.json").read_text())["metrics"]
    point: dict[str, Any] = {"float_accuracy": metrics["test_accuracy"]}
    if (where / "cost.json").is_file():
        point |= json.loads((where / "cost.json").read_text())
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
        "program_accuracy": 100 * float((trace.prediction == test.label[: args.samples]).mean()),
        "equal": report.equal and lava.equal,
        "spikes": total.spikes_out / samples,
        "synops": total.synops_nonzero / samples,
        "bits_per_weight": sum(bits[name] * size for name, size in sizes.items()) / sum(sizes.values()),
        "energy_low": low,
        "energy_high": high,
    }


def done(args: argparse.Namespace, data: str, arm: str) -> list[dict[str, Any]]:
    files = [folder(args, data, arm, seed) / "point.json" for seed in range(args.seeds)]
    return [json.loads(file.read_text()) for file in files if file.is_file()]


def cell(points: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> str:
    """Mean and sample standard deviation over seeds."""
    found = [value(point) for point in points if _has(point, value)]
    if not found:
        return "-"
    spread = f" ± {statistics.stdev(found):.2g}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.5g}{spread}"


def _has(point: dict[str, Any], value: Callable[[dict[str, Any]], float]) -> bool:
    try:
        return value(point) is not None
    except KeyError:
        return False


def table(args: argparse.Namespace) -> str:
    lines = ["| " + " | ".join(("data", "method", "seeds", *COLUMNS, "every spike equal")) + " |"]
    lines.append("|---" * (4 + len(COLUMNS)) + "|")
    for data in args.data:
        for arm in ARMS:
            if points := done(args, data, arm):
                verdicts = {point.get("equal") for point in points}
                equal = "yes" if verdicts == {True} else "NO" if False in verdicts else "-"
                cells = (data, arm, str(len(points)), *(cell(points, value) for value in COLUMNS.values()), equal)
                lines.append("| " + " | ".join(cells) + " |")
    refused = {
        arm: point["refused"]
        for data in args.data
        for arm in ARMS
        for point in done(args, data, arm)
        if "refused" in point
    }
    lines += ["", *(f"- {arm}: not deployed, {why}" for arm, why in refused.items())] if refused else []
    return "\n".join(lines) + "\n"


def plot(args: argparse.Namespace) -> None:
    """Accuracy of the program against its energy, one panel per data set."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(args.data), figsize=(6 * len(args.data), 4), layout="constrained", squeeze=False
    )
    for axis, data in zip(axes[0], args.data, strict=True):
        for arm in ARMS:
            points = [p for p in done(args, data, arm) if p.get("energy_low") is not None]
            if points:
                x = statistics.mean((p["energy_low"] + p["energy_high"]) / 2 for p in points)
                y = statistics.mean(p["program_accuracy"] for p in points)
                axis.scatter(x, y)
                axis.annotate(arm, (x, y), fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(xlabel="dynamic energy a sample, middle of the interval (uJ)", ylabel="accuracy of the program (%)")
        axis.set(title=data, xscale="log")
        axis.grid(alpha=0.3)
    figure.savefig(args.out / "methods.svg")


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
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--point", nargs=3, metavar=("DATA", "ARM", "SEED"), help="train this one point and end")
    args = parser.parse_args()
    if args.point:
        data, arm, seed = args.point
        return train_point(args, data, arm, int(seed))
    # the teacher first, of whom others learn
    arms = sorted(args.arms, key=lambda arm: arm != "teacher")
    for seed in range(args.seeds):
        for data in args.data:
            for arm in arms:
                where = folder(args, data, arm, seed)
                if (where / "point.json").is_file():
                    continue
                if not (where / "config.json").is_file():
                    subprocess.run([sys.executable, *sys.argv, "--point", data, arm, str(seed)], check=True)
                point = measure_point(args, data, arm, seed)
                (where / "point.json").write_text(json.dumps(point, indent=2))
                print(f"{data}, {arm}, seed {seed}: {point}", file=sys.stderr, flush=True)
                (args.out / "methods.md").write_text(table(args), encoding="utf-8")
    print(table(args), end="")
    plot(args)


if __name__ == "__main__":
    main()
