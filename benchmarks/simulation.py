"""How fast programs run: our engine, stock Lava, float frameworks, and what the machine would allow.

    uv run --with snntorch --with spikingjelly --with matplotlib benchmarks/simulation.py --out docs/results

Microseconds per sample and timestep, medians; same network, input and T for all (simulation_networks.py). Lava runs
sample by sample with one stock process a layer, with stock processes as our backend chooses them, samples side by side
as blocks of neurons, and with our own; its times are slopes between a short and a longer run, without its start.
Our traces must equal Lava's spike for spike, or nothing is written. Frameworks that are not installed are left out.
nengo-loihi's emulator wants a Python 3.10 and NumPy of its own, which uv prepares, or `--nengo-python` names.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from simulation_bound import machine_bound
from simulation_emulator import run_emulator
from simulation_networks import ACTIVITY, INPUT_ACTIVITY, STEPS, events, inputs_of, make_program
from simulation_peers import PEERS

from lavatube.errors import WorkerError
from lavatube.program import LoihiProgram
from lavatube.sim.compare import compare
from lavatube.sim.fast import FastEngine, run_fast
from lavatube.sim.lava_parts import run_lava

EMULATOR = "nengo-loihi's emulator"
EMULATED = {"mlp": 9, "conv": 3}  # samples, one after another
BATCHES = {"mlp": (1, 32, 256, 1024), "conv": (1, 8, 32)}
NAIVE = "stock Lava"
LAVA = {NAIVE: ("conv", True), "stock Lava, side by side": ("sparse", True), "our Lava processes": ("own", False)}
LAVA_RUNS = {  # a run to warm up, a short and a longer one, in (samples, timesteps)
    "mlp": {name: ((64, 1), (64, 1), (1024, STEPS)) for name in LAVA} | {NAIVE: ((1, 1), (1, 1), (500, STEPS))},
    "conv": {name: ((16, 1), (16, 1), (16, 16)) for name in LAVA} | {NAIVE: ((1, 1), (1, 1), (1, 16))},
}
COLUMNS = ("network", "engine", "batch", "microseconds", "fastest", "slowest", "over_ours")
Row = dict[str, Any]


def timed(work: Callable[[], Any], steps: int, repeats: int) -> list[float]:
    """Microseconds per sample and timestep, of `repeats` runs after a warm-up. steps: samples times timesteps."""
    work()
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append((time.perf_counter() - started) / steps * 1e6)
    return found


def row(network: str, engine: str, batch: int, times: list[float]) -> Row:
    made = {"network": network, "engine": engine, "batch": batch, "microseconds": statistics.median(times)}
    made |= {"fastest": min(times), "slowest": max(times)}
    print({key: round(v, 2) if isinstance(v, float) else v for key, v in made.items()}, file=sys.stderr, flush=True)
    return made


def ours(network: str, program: LoihiProgram, args: argparse.Namespace) -> list[Row]:
    engine, found = FastEngine(program, threads=args.threads), []
    for batch in BATCHES[network]:
        inputs = inputs_of(program, events(network, batch))
        times = timed(lambda inputs=inputs: engine.run(inputs), batch * STEPS, args.repeats)  # type: ignore[misc]
        found.append(row(network, "lavatube", batch, times))
    return found


def lava(network: str, program: LoihiProgram, name: str) -> Row:
    """One way of running Lava (LAVA); ends if a spike differs."""
    (conv, stock_only), seconds, ticks = LAVA[name], list[float](), list[int]()
    for batch, steps in LAVA_RUNS[network][name]:
        inputs = inputs_of(program, events(network, batch, steps=steps))
        started = time.perf_counter()
        trace = run_lava(program, inputs, conv=conv, stock_only=stock_only, timeout=1800)
        seconds.append(time.perf_counter() - started)
        ticks.append(batch * steps)
        verdict = compare(run_fast(program, inputs), trace)
        if not verdict.equal:
            raise SystemExit(f"our spikes differ from Lava's: {verdict.first}")
    slope = (seconds[2] - seconds[1]) / (ticks[2] - ticks[1]) * 1e6
    return row(network, name, LAVA_RUNS[network][name][2][0] if name != NAIVE else 1, [slope])


def peer(network: str, program: LoihiProgram, name: str, args: argparse.Namespace) -> list[Row]:
    try:
        forward = PEERS[name](program)
    except ImportError as error:
        print(f"{name}: left out, {error}", file=sys.stderr)
        return []
    found = []
    for batch in BATCHES[network]:
        value = torch.from_numpy(events(network, batch)).float()
        readout = run_fast(program, inputs_of(program, events(network, batch))).readout
        with torch.inference_mode():
            close = np.corrcoef(forward(value).flatten().numpy(), readout.flatten())[0, 1]
            times = timed(lambda value=value: forward(value), batch * STEPS, args.repeats)  # type: ignore[misc]
        print(f"{name}: read-outs correlate with ours by {close:.4f}", file=sys.stderr)
        found.append(row(network, name, batch, times))
    return found


def emulator(network: str, program: LoihiProgram, python: str | None) -> list[Row]:
    """nengo-loihi's emulator of Loihi 1, sample by sample; it rounds the weights in its own way."""
    value = events(network, EMULATED[network])
    try:
        seconds, readout, spikes = run_emulator(program, value, python)
    except WorkerError as error:
        print(f"{EMULATOR}: left out, {error}", file=sys.stderr)
        return []
    trace = run_fast(program, inputs_of(program, value))
    close = np.corrcoef(readout.flatten(), trace.readout.flatten())[0, 1]
    mine = [int(each.sum()) for each in trace.spikes.values()]
    print(f"{EMULATOR}: read-outs correlate with ours by {close:.4f}; spikes {spikes}, ours {mine}", file=sys.stderr)
    return [row(network, EMULATOR, 1, [each / STEPS * 1e6 for each in seconds])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=sorted(ACTIVITY), default=sorted(ACTIVITY, reverse=True))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--without-lava", action="store_true")
    parser.add_argument("--nengo-python", help="a Python 3.10 that has nengo-loihi 1.1.0; by default uv prepares one")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for network in args.networks:
        program = make_program(network)
        mine = ours(network, program, args)
        others = [made for name in PEERS for made in peer(network, program, name, args)]
        others += emulator(network, program, args.nengo_python)
        others += [] if args.without_lava else [lava(network, program, name) for name in LAVA]
        activity = [INPUT_ACTIVITY, *(ACTIVITY[network] for _ in program.neurons)]
        bound = row(network, "bound of this machine", 0, [machine_bound(program, activity, args.threads)])
        best = min(made["microseconds"] for made in mine)
        for made in (*mine, *others, bound):
            made["over_ours"] = made["microseconds"] / best
        rows += [*mine, *others, bound]
    write(rows, args.out)


def write(rows: list[Row], out: Path) -> None:
    """CSV, table and plot."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "simulation.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({key: f"{v:.4g}" if isinstance(v, float) else v for key, v in made.items()} for made in rows)
    (out / "simulation.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
    plot(rows, out / "simulation.svg")


def table(rows: list[Row]) -> str:
    titles = ("network", "engine", "batch", "µs per sample and step", "over ours at its best")
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for made in rows:
        cells = made["network"], made["engine"], made["batch"] or "-", made["microseconds"], made["over_ours"]
        lines.append("| " + " | ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in cells) + " |")
    return "\n".join(lines) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    matplotlib.use("svg")
    from matplotlib import pyplot

    networks = list(dict.fromkeys(made["network"] for made in rows))
    figure, axes = pyplot.subplots(
        1, len(networks), figsize=(5 * len(networks), 3.2), layout="constrained", squeeze=False
    )
    for axis, network in zip(axes[0], networks, strict=True):
        mine = [made for made in rows if made["network"] == network]
        fastest: dict[str, float] = {}
        for made in mine:
            fastest[made["engine"]] = min(made["microseconds"], fastest.get(made["engine"], float("inf")))
        axis.barh(list(fastest), list(fastest.values()))
        axis.set(xscale="log", xlabel="µs per sample and timestep, best batch", title=network)
        axis.invert_yaxis()
        axis.grid(alpha=0.3, axis="x")
    figure.savefig(path)


if __name__ == "__main__":
    main()
