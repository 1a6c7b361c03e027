# /// script
# requires-python = "==3.10.*"
# dependencies = ["lava-nc==0.10.0", "numpy<2", "safetensors"]
# ///
"""Runs a list of jobs in Lava: lava_worker.py JOBS.json. Prints a line of progress now and then, and `done` at the end.

A job: {"program": file, "events": {input: .npy [T, B, ...]}, "out": folder, "record": ["u", "v"], "conv": "auto",
"stock_only": false, "pad_windows": false}.
It leaves in `out`: <node>.spikes.npy, .u.npy, .v.npy [T, B, ...], report.json, and <read-out>.readout.npy
[T, B, classes] of read-outs of currents.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.process.process import AbstractProcess  # noqa: F401 (Lava first: it fixes how processes start)

from lavatube.deploy.lava_backend.build_network import LavaNetwork, build
from lavatube.deploy.lava_backend.processes.recorders import PortRecorder, StateRecorder
from lavatube.deploy.lava_backend.schedule import Schedule, schedules
from lavatube.deploy.lava_backend.timing import timing
from lavatube.program import LoihiProgram, Shape
from lavatube.program_file import load_program

TICKS_A_REPORT = 256
watched: list[LavaNetwork] = []  # networks that run now


def run_job(number: int, job: dict[str, Any]) -> None:
    """All samples of one job, in one run or in several, and its arrays."""
    program, out = load_program(Path(job["program"])), Path(job["out"])
    events = {name: np.load(path, allow_pickle=False) for name, path in job["events"].items()}
    choice = {"conv": job["conv"], "stock_only": job["stock_only"]}
    plan = schedules(program, *next(iter(events.values())).shape[:2], **choice, pad_windows=job["pad_windows"])
    depth = timing(program).depth
    total, done = sum(schedule.length + depth for schedule in plan), 0
    parts: dict[str, list[np.ndarray]] = {}
    for schedule in plan:
        rows = {name: schedule.rows(each) for name, each in events.items()}
        network = build(program, rows, num_steps=schedule.window, outputs=False, **choice)
        recorders = attach(program, network, out, job["record"])
        watched.append(network)
        try:
            for start in range(0, schedule.length + depth, TICKS_A_REPORT):
                ticks = min(TICKS_A_REPORT, schedule.length + depth - start)
                network.run(ticks)
                done += ticks
                print(f"progress {number} {done} {total}", flush=True)
        except RuntimeError:
            report_exceptions(network)
            raise
        watched.remove(network)
        network.stop()
        for name, (node, shape) in recorders.items():
            found = recorded(out / name, schedule, shape, network.latency[node], network.whc[node])
            parts.setdefault(name, []).append(found)
    for name, arrays in parts.items():
        np.save(out / f"{name}.npy", np.concatenate(arrays, 1))
    versions = {name: version(name) for name in ("lava-nc", "numpy")} | {"python": platform.python_version()}
    side = {"lanes": plan[0].lanes, "windows": plan[0].windows, "window": plan[0].window, "runs": len(plan)}
    (out / "report.json").write_text(json.dumps({"processes": network.report, "versions": versions, "samples": side}))


def attach(program: LoihiProgram, network: LavaNetwork, out: Path, record: list[str]) -> dict[str, tuple[str, Shape]]:
    """Recorders on every population and on what each read-out adds up: {file: (node, logical shape)}."""
    found: dict[str, tuple[str, Shape]] = {}
    for node in program.neurons:
        process = network.processes[node.name]
        found[f"{node.name}.spikes"] = node.name, node.shape
        process.s_out.connect(PortRecorder(shape=process.s_out.shape, path=str(out / f"{node.name}.spikes")).a_in)
        for state in record:
            var = getattr(process, state)
            found[f"{node.name}.{state}"] = node.name, node.shape
            StateRecorder(shape=var.shape, path=str(out / f"{node.name}.{state}")).watch(var)
    for name, ports in network.ports.items():
        synapse = next(node for node in program.synapses if (node.name, name) in program.edges)
        found[f"{name}.readout"] = synapse.name, synapse.out_shape
        recorder = PortRecorder(shape=ports[0].shape, path=str(out / f"{name}.readout"))
        for port in ports:
            port.connect(recorder.a_in)
    return found


def recorded(path: Path, schedule: Schedule, shape: Shape, latency: int, whc: bool) -> np.ndarray:
    """Rows of a file as [T, samples, ...] in logical time and (C, H, W) order: the lag and the way out are cut off."""
    ticks = np.fromfile(path, np.int32).reshape(-1, schedule.lanes, *(shape[::-1] if whc else shape))
    path.unlink()
    ticks = ticks[latency : latency + schedule.length]
    if len(ticks) != schedule.length:
        raise RuntimeError(f"{path.name}: {len(ticks)} ticks were recorded, expected {schedule.length}")
    return schedule.samples(ticks.transpose(0, 1, *range(len(shape) + 1, 1, -1)) if whc else ticks)


def report_exceptions(network: LavaNetwork) -> None:
    """Print the tracebacks of process models that ended. Lava keeps them to itself, and may wait for ever."""
    # a runtime that is starting or has ended has none
    sides = [getattr(first.runtime, "_messaging_infrastructure", None) for first in network.firsts]
    for actor in [each for side in sides if side is not None for each in side.actors]:
        try:
            exception = actor.exception  # a pipe that is read once
        except (EOFError, OSError):
            continue
        if exception:
            print(exception[1], file=sys.stderr, flush=True)


def watch(parent: int) -> None:
    """Report process models that end during a run; end this whole process group when the parent is gone."""
    while True:
        time.sleep(0.5)
        for network in list(watched):
            try:
                report_exceptions(network)
            except Exception:
                if network in watched:  # else it ended meanwhile, with what is looked at here
                    raise
        try:
            os.kill(parent, 0)
        except OSError:
            # nobody else removes the run folder now; again while processes that end still write into it
            again = 'for n in 1 2 3 4 5 6 7 8 9; do sleep $n; rm -rf "$0" && exit; done'
            subprocess.Popen(["sh", "-c", again, os.getcwd()], start_new_session=True)
            # Python's resource tracker ignores SIGTERM and unlinks the shared memory of those that it ends
            os.killpg(os.getpgrp(), signal.SIGTERM)


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    threading.Thread(target=watch, args=(jobs["parent"],), daemon=True).start()
    for number, job in enumerate(jobs["jobs"]):
        run_job(number, job)
    print("done", flush=True)


if __name__ == "__main__":
    main()
