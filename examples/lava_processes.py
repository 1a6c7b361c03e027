"""For Lava's own users, inside their Python 3.10: the connected processes of a program, run step by step.

    python examples/lava_processes.py runs/demo

Needs lava-nc 0.10.0, NumPy below 2 and safetensors, and lavatube's files on the path (pip install --no-deps lavatube).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from lava.proc.io.sink import RingBuffer

from lavatube.deploy.lava_backend import build
from lavatube.program_file import load_program


def main(folder: Path) -> None:
    program = load_program(folder / "program.safetensors")
    with np.load(folder / "input.npz") as stored:
        images = stored["input"][:2]  # [B, C, H, W], presented at every timestep
    events = np.broadcast_to(images, (program.num_steps, *images.shape))
    network = build(program, events)
    for name, row in network.report.items():
        print(f"{name}: {row['process']}, output lags the input by {network.latency[name]} ticks")
    neurons, readout = program.neurons[0].name, program.readout
    ticks = program.num_steps + network.latency[readout.name]
    sums = RingBuffer(shape=network.outputs[readout.name].a_out.shape, buffer=ticks)  # stock; or your own process
    network.outputs[readout.name].a_out.connect(sums.a_in)
    network.run(ticks)
    voltage = network.processes[neurons].v.get()  # one element a message: fine for a look, slow for traces
    print(f"v of {neurons} after {ticks} ticks: {voltage.min()} .. {voltage.max()}")
    each = sums.data.get()[:, -program.num_steps :].astype(np.int64).reshape(len(images), -1, program.num_steps)
    print(f"predictions: {(each + readout.bias[:, None]).sum(2).argmax(1)}")
    network.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
