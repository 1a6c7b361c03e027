"""What one optimisation step costs: time and memory of each gradient rule, over the number of timesteps.

    uv run --with snntorch --with spikingjelly --with matplotlib benchmarks/training_cost.py --out benchmarks/results

Every point is measured in a process of its own. Time: median over repeats of forward, backward and SGD, the points of
one number of timesteps in turn; with `--clock cpu` the processor's time, which other work on the machine changes less
(for one thread). Memory: peak of what torch holds during a step (allocations on the CPU, CUDA's own counter), without
parameters and input. Frameworks that are not installed are left out by name. `--add` keeps the rows of the CSV that are
not measured again.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RULES: dict[str, tuple[Any, str]] = {
    "bptt": ("bptt", "pooled"),
    "rate, multi-step": ({"kind": "rate", "form": "multi_step"}, "pooled"),
    "rate, single-step": ({"kind": "rate", "form": "single_step"}, "tse"),
    "online": ("online", "tse"),
}
FRAMEWORKS = ("snntorch", "spikingjelly")
COMPILED = ", compiled"  # after the name of a rule that calls its network as a whole: through torch.compile
CAN_COMPILE = ("bptt", "rate, multi-step")
NETWORKS = {"resnet18": (3, 32, 32), "vgg11": (3, 32, 32)}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
COLUMNS = ("rule", "timesteps", "seconds", "megabytes", "saved_megabytes")


def make_step(args: argparse.Namespace) -> tuple[Any, Any]:
    """(step(), model): one optimisation step of the rule or framework."""
    import torch

    torch.manual_seed(0)
    device, shape = torch.device(args.device), NETWORKS[args.network]
    x, y = torch.rand(args.batch, *shape, device=device), torch.randint(0, 10, (args.batch,), device=device)
    loss_of = torch.nn.functional.cross_entropy
    if args.point in FRAMEWORKS:
        from other_frameworks import BUILDERS

        model, forward = BUILDERS[args.point](args.network, args.timesteps, args.width)
        model.to(device).train()

        def gradients() -> None:
            loss_of(forward(x), y).backward()
    else:
        from lavatube.train.networks.build import build_network
        from lavatube.train.recipe import parse_recipe

        rule, norm = RULES[args.point.removesuffix(COMPILED)]
        network = (
            {"kind": "resnet", "depth": 18, "width": args.width}
            if args.network == "resnet18"
            else {"kind": "vgg", "width": args.width}
        )
        recipe = {
            "name": "cost", "num_steps": args.timesteps, "data": {"name": "digits"}, "network": network,
            "normalization": norm, "neuron": {"decay": 0.5, "reset": args.reset}, "gradient": rule,
            "optimizer": {"lr": 0.1, "epochs": 1, "batch_size": args.batch},
        }  # fmt: skip
        parsed = parse_recipe(recipe, where="benchmark")
        model = build_network(parsed, shape, 10).to(device).train()
        if args.point.endswith(COMPILED):
            model.compile()

        def gradients() -> None:
            parsed.gradient.gradients(model, x, lambda outputs: loss_of(outputs.logits, y))

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        gradients()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step, model


def peak_megabytes(step: Any, device: str) -> float:
    """Peak of what torch holds during a step, above what it held before."""
    import torch

    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return float(torch.cuda.max_memory_allocated() - before) / 1e6
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def saved_megabytes(step: Any, model: Any) -> float:
    """What autograd keeps for the backward, each storage once, without parameters."""
    import torch

    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(seen.values()) / 1e6


def measure(args: argparse.Namespace) -> None:
    """In the child: print one JSON line."""
    import torch

    torch.set_num_threads(args.threads)
    if args.keep_memory:
        from lavatube.cli.memory import keep_freed_memory

        keep_freed_memory()
    try:
        step, model = make_step(args)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    for _ in range(3 if args.point.endswith(COMPILED) else 1):  # compiling goes on in the second step
        step()
    times, now = [], CLOCKS[args.clock]
    for _ in range(args.repeats):
        started = now()
        step()
        times.append(now() - started)
    peak = peak_megabytes(step, args.device)
    print(json.dumps({"seconds": times, "megabytes": peak, "saved_megabytes": saved_megabytes(step, model)}))


def run_point(args: argparse.Namespace, point: str, timesteps: int) -> dict[str, Any]:
    """In the parent: one point in a process of its own."""
    own = [f"--{key}={value}" for key, value in vars(args).items() if key in PASSED_ON]
    own += ["--keep-memory"] * args.keep_memory
    command = [sys.executable, __file__, f"--point={point}", f"--timesteps={timesteps}", *own]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


PASSED_ON = ("network", "width", "batch", "repeats", "rounds", "device", "threads", "reset", "clock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted(NETWORKS), default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="steps per round")
    parser.add_argument("--rounds", type=int, default=2, help="times that every point is visited in turn")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32], help="numbers of timesteps")
    parser.add_argument(
        "--points",
        nargs="+",
        default=[*RULES, *FRAMEWORKS],
        help="rules, frameworks, 'bptt, compiled' or 'rate, multi-step, compiled'",
    )
    parser.add_argument("--reset", choices=["zero", "subtract"], default="zero")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall")
    parser.add_argument(
        "--keep-memory", action="store_true", help="keep what is freed, as `lavatube train` does; files end in _kept"
    )
    parser.add_argument("--add", action="store_true", help="keep the rows of the CSV that this run does not measure")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--timesteps", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        measure(args)
        return
    known = [*RULES, *(rule + COMPILED for rule in CAN_COMPILE), *FRAMEWORKS]
    if unknown := [point for point in args.points if point not in known]:
        parser.error(f"--points {', '.join(unknown)}: expected {'; '.join(known)}")
    rows = read_rows(args) if args.add else []
    for timesteps in args.steps:
        seconds: dict[str, list[float]] = {}
        last: dict[str, dict[str, Any]] = {}
        for _ in range(args.rounds):
            for point in args.points:
                found = run_point(args, point, timesteps)
                if "missing" in found:
                    print(f"{point}, T = {timesteps}: left out, {found['missing']}", file=sys.stderr, flush=True)
                    continue
                seconds.setdefault(point, []).extend(found["seconds"])
                last[point] = found
        for point, times in seconds.items():
            row = {"rule": point, "timesteps": timesteps, "seconds": round(statistics.median(times), 4)}
            row |= {key: round(last[point][key], 2) for key in ("megabytes", "saved_megabytes")}
            rows = [old for old in rows if (old["rule"], old["timesteps"]) != (point, timesteps)] + [row]
            print(row, file=sys.stderr, flush=True)
        write(sorted(rows, key=lambda row: (row["timesteps"], known.index(row["rule"]))), args)


def stem(args: argparse.Namespace) -> str:
    return f"training_cost_{args.network}_{args.device}" + "_kept" * args.keep_memory


def read_rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Of an earlier run into the same folder."""
    path = args.out / f"{stem(args)}.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        numbers = {"timesteps": int, "seconds": float, "megabytes": float, "saved_megabytes": float}
        return [row | {key: kind(row[key]) for key, kind in numbers.items()} for row in csv.DictReader(file)]


def write(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """CSV, table and plot; after every number of timesteps, so that an interrupted run leaves what it has."""
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / f"{stem(args)}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (args.out / f"{stem(args)}.md").write_text(table(rows), encoding="utf-8")
    plot(rows, args.out / f"{stem(args)}.svg", f"{args.network}, width {args.width}, batch {args.batch}, {args.device}")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: per rule and T, seconds (ratio to bptt) and peak megabytes (ratio)."""
    base = {row["timesteps"]: row for row in rows if row["rule"] == "bptt"}
    lines = ["| T | rule | s / step | of bptt | peak MB | of bptt | graph MB |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        own = base.get(row["timesteps"])
        ratios = ["-" if own is None else f"{row[key] / own[key]:.2f}" for key in ("seconds", "megabytes")]
        cells = (
            row["timesteps"], row["rule"], f"{row['seconds']:.3f}", ratios[0], f"{row['megabytes']:.1f}", ratios[1],
            f"{row['saved_megabytes']:.1f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, label in zip(axes, ("seconds", "megabytes"), ("seconds per step", "peak megabytes"), strict=True):
        for rule in dict.fromkeys(row["rule"] for row in rows):
            mine = [row for row in rows if row["rule"] == rule]
            axis.plot([row["timesteps"] for row in mine], [row[key] for row in mine], "o-", label=rule)
        axis.set(xscale="log", yscale="log", xlabel="timesteps", ylabel=label)
        axis.set_xticks(sorted({row["timesteps"] for row in rows}), sorted({row["timesteps"] for row in rows}))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


if __name__ == "__main__":
    main()
