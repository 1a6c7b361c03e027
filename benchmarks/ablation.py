"""What each method adds on a small network: accuracy of BPTT, rate, + self-distillation, + tse, + both, several seeds.

    uv run benchmarks/ablation.py --data-dir DATA --out runs/ablation

Two convolutions (16 and 32 channels) and a dense layer, T = 4, 10,000 samples to train, equal epochs and optimizer, no
augmentation. One run folder per point; the same command goes on where an interrupted one stopped. The table is written
after every run that finishes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

RATE = {"kind": "rate", "form": "multi_step"}
SINGLE = {"kind": "rate", "form": "single_step"}
DISTILLATION = {"kind": "self_distillation", "form": "all", "alpha": 1.0, "beta": 0.3, "temperature": 3.0}
ARMS: dict[str, dict[str, Any]] = {
    "BPTT": {"gradient": "bptt", "normalization": "pooled"},
    "rate": {"gradient": RATE, "normalization": "pooled"},
    "rate + self-distillation": {"gradient": RATE, "normalization": "pooled", "extra": [DISTILLATION]},
    "rate, single-step, per_step": {"gradient": SINGLE, "normalization": "per_step"},
    "rate, single-step, tse": {"gradient": SINGLE, "normalization": "tse"},
    "rate, single-step, tse + self-distillation": {
        "gradient": SINGLE, "normalization": "tse", "extra": [DISTILLATION],
    },
}  # fmt: skip
POPULATIONS = {"layer1": 16 * 28 * 28, "layer2": 32 * 14 * 14}  # neurons


def recipe(data: str, arm: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    chosen = ARMS[arm]
    layers = [
        {"conv2d": {"channels": 16, "kernel": 3, "stride": 1, "padding": 1}},
        {"conv2d": {"channels": 32, "kernel": 3, "stride": 2, "padding": 1}},
        {"dense": {"units": 10}},
    ]
    return {
        "name": "ablation", "seed": seed, "num_steps": 4, "data": {"name": data},
        "network": {"kind": "chain", "layers": layers}, "normalization": chosen["normalization"],
        "neuron": {"decay": 0.5, "reset": "zero", "surrogate": {"kind": "sigmoid", "slope": 4.0}},
        "gradient": chosen["gradient"], "objective": ["cross_entropy", *chosen.get("extra", [])],
        "optimizer": {"name": "adam", "lr": args.lr, "epochs": args.epochs, "batch_size": 128, "schedule": "cosine"},
    }  # fmt: skip


def spikes_per_sample(metrics: dict[str, Any]) -> float:
    """From the mean firing rates of the test split."""
    rates = metrics["firing_rate"]
    if set(rates) != set(POPULATIONS):
        raise SystemExit(f"populations {sorted(rates)}, expected {sorted(POPULATIONS)}")
    return float(sum(4 * POPULATIONS[name] * rate for name, rate in rates.items()))


def table(args: argparse.Namespace) -> str:
    """Markdown of all finished runs: mean and sample standard deviation over seeds, per data set."""
    lines = [
        "| data | method | seeds | test accuracy % | of BPTT | spikes per sample | s per epoch |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in args.data:
        base = None
        for arm in ARMS:
            found = [json.loads(f.read_text())["metrics"] for f in finished(args, data, arm)]
            if not found:
                continue
            accuracies = [m["test_accuracy"] for m in found]
            mean = statistics.mean(accuracies)
            base = mean if arm == "BPTT" else base
            spread = f" ± {statistics.stdev(accuracies):.2f}" if len(found) > 1 else ""
            difference = "-" if base is None else f"{mean - base:+.2f}"
            spikes = statistics.mean(spikes_per_sample(m) for m in found)
            seconds = statistics.median(m["seconds"] for m in found) / args.epochs
            cells = data, arm, len(found), f"{mean:.2f}{spread}", difference, f"{spikes:.0f}", f"{seconds:.1f}"
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def folder(args: argparse.Namespace, data: str, arm: str, seed: int) -> Path:
    name = arm.replace(", ", "-").replace(" + ", "-").replace(" ", "-")
    return Path(args.out) / f"{data}_{name}_{seed}"


def finished(args: argparse.Namespace, data: str, arm: str) -> list[Path]:
    files = [folder(args, data, arm, seed) / "config.json" for seed in range(args.seeds)]
    return [file for file in files if file.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["mnist-10k", "fashion-mnist-10k"])
    parser.add_argument("--data-dir", type=Path, default=None, help="default: LAVATUBE_DATA")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    args = parser.parse_args()
    import torch

    from lavatube.train.recipe import parse_recipe
    from lavatube.train.run import train

    if args.threads:
        torch.set_num_threads(args.threads)
    for seed in range(args.seeds):
        for data in args.data:
            for arm in ARMS:
                where = folder(args, data, arm, seed)
                if (where / "config.json").is_file():
                    continue
                done = train(parse_recipe(recipe(data, arm, seed, args), where=arm), out=where, data_dir=args.data_dir)
                accuracy, seconds = done.metrics["test_accuracy"], done.metrics["seconds"]
                print(f"{data}, {arm}, seed {seed}: {accuracy:.2f} % in {seconds:.0f} s", file=sys.stderr, flush=True)
                (args.out / "ablation.md").write_text(table(args), encoding="utf-8")
    print(table(args), end="")


if __name__ == "__main__":
    main()
