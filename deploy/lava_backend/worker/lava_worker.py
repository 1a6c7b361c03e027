# /// script
# requires-python = "==3.10.*"
# dependencies = ["lava-nc==0.10.0", "numpy<2", "safetensors"]
# ///
"""Runs a list of jobs in Lava: lava_worker.py JOBS.json. Prints a line of progress now and then, and `done` at the end.

A job: {"program": file, "events": .npy [T, B, ...], "out": folder, "record": ["u", "v"], "conv": "auto"}.
It leaves in `out`: <node>.spikes.npy, .u.npy, .v.npy [T, B, ...], readout.npy [T, B, classes], report.json.
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
from lavatube.program import LoihiProgram, Shape
from lavatube.program_file import load_program

TICKS_A_REPORT = 256
watched: list[LavaNetwork] = []  # networks that run now


def run_job(number: int, job: dict[str, Any]) -> None:
    """Stream all samples of one job through one run and write its arrays."""
    program, out = load_program(Path(job["program"])), Path(job["out"])
    events = np.load(job["events"], allow_pickle=False)
    network = build(program, events, conv=job["conv"])
    recorders = attach(program, network, out, job["record"])
    ticks = events.shape[0] * events.shape[1] + max(network.latency.values())
    watched.append(network)
    try:
        for start in range(0, ticks, TICKS_A_REPORT):
            network.run(min(TICKS_A_REPORT, ticks - start))
            print(f"progress {number} {min(start + TICKS_A_REPORT, ticks)} {ticks}", flush=True)
    except RuntimeError:
        report_exceptions(network)
        raise
    watched.remove(network)
    network.stop()
    for path, node, shape in recorders:
        save_rows(path, events.shape[:2], shape, network.latency[node], network.whc[node])
    versions = {name: version(name) for name in ("lava-nc", "numpy")} | {"python": platform.python_version()}
    (out / "report.json").write_text(json.dumps({"processes": network.report, "versions": versions}))


def attach(program: LoihiProgram, network: LavaNetwork, out: Path, record: list[str]) -> list[tuple[Path, str, Shape]]:
    """Recorders on every population and on what the read-out adds up: [(file, node, logical shape)]."""
    found = []
    for node in program.neurons:
        process = network.processes[node.name]
        found.append((out / f"{node.name}.spikes", node.name, node.shape))
        process.s_out.connect(PortRecorder(shape=process.s_out.shape, path=str(found[-1][0])).a_in)
        for state in record:
            var = getattr(process, state)
            found.append((out / f"{node.name}.{state}", node.name, node.shape))
            StateRecorder(shape=var.shape, path=str(found[-1][0])).watch(var)
    inbound = program.inbound(program.readout)
    if inbound:
        found.append((out / "readout", inbound[0].name, inbound[0].out_shape))
        recorder = PortRecorder(shape=network.output_ports[0].shape, path=str(found[-1][0]))
        for port in network.output_ports:
            port.connect(recorder.a_in)
    return found


def save_rows(path: Path, size: tuple[int, int], shape: Shape, latency: int, whc: bool) -> None:
    """Cut the lag off the recorded ticks and write [T, B, ...] in logical time and (C, H, W) order."""
    steps, batch = size
    ticks = np.fromfile(path, np.int32).reshape(-1, int(np.prod(shape)))
    ticks = ticks[latency : latency + steps * batch]
    rows = ticks.reshape(batch, steps, *shape[::-1]).transpose(1, 0, *range(len(shape) + 1, 1, -1)) if whc else (
        ticks.reshape(batch, steps, *shape).swapaxes(0, 1)
    )  # fmt: skip
    if rows.shape != (steps, batch, *shape):
        raise RuntimeError(f"{path.name}: recorded {rows.shape}, expected {(steps, batch, *shape)}")
    np.save(path.with_name(path.name + ".npy"), rows)
    path.unlink()


def report_exceptions(network: LavaNetwork) -> None:
    """Print the tracebacks of process models that ended. Lava keeps them to itself, and may wait for ever."""
    runtime = next(iter(network.processes.values())).runtime
    for actor in runtime._messaging_infrastructure.actors if runtime is not None else ():
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
            report_exceptions(network)
        try:
            os.kill(parent, 0)
        except OSError:
            # nobody else removes the run folder now; not before its processes have ended, which write into it
            subprocess.Popen(["sh", "-c", 'sleep 1; rm -rf "$0"', os.getcwd()], start_new_session=True)
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
